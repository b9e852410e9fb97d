//! `maglica vm …`.
//!
//! | file | commands |
//! | --- | --- |
//! | `mod` | what there is, and what acts on one or several machines |
//! | [`select`] | which machines are meant |
//! | [`list`], [`show`] | looking |
//! | [`change`] | the resources of one machine |

pub mod change;
pub mod list;
pub mod select;
pub mod show;

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use maglica_proto::{
    job::{JobSpec, VmChange, VmRef},
    name::{DomainName, GuestName, HostName},
};

pub(super) use self::show::{disk_line, nic_line};
use self::{
    list::List,
    select::{Many, Selected, Targets},
};
use super::clone::Clone;
use crate::{
    app::App,
    error::Error,
    exit::Exit,
    follow,
    input::{one, seconds},
    many,
};

/// How long a guest may take to shut down unless `--timeout` says otherwise.
const STOP_LIMIT: Duration = Duration::from_secs(180);
/// How many names a question has before it only counts the others.
const NAMED: usize = 12;

/// Commands about virtual machines.
#[derive(Debug, Subcommand)]
pub enum Vm {
    /// List the virtual machines of all hosts.
    #[command(visible_alias = "ls")]
    List(List),
    /// Show one with all its details.
    #[command(visible_alias = "info")]
    Show(Which),
    /// Make a new one of an image, or of another one that is off.
    Clone(Box<Clone>),
    /// Delete definition and disks. They must be off.
    #[command(visible_alias = "rm")]
    Remove(Act),
    /// Start them.
    Start(Act),
    /// Shut them down by ACPI. --timeout says how long the guest has for it (3 minutes by default).
    Stop(Act),
    /// Switch them off at once, as if by pulling the plug. Their disks stay.
    Destroy(Act),
    /// Ask their guests to start anew, by agent or ACPI.
    Reboot(Act),
    /// Press their reset button.
    Reset(Act),
    /// Let them stand still in memory.
    Suspend(Act),
    /// Let them go on.
    Resume(Act),
    /// Whether they start with their host.
    Autostart {
        /// Whether they do.
        #[arg(value_enum, value_name = "on|off")]
        to: Switch,
        /// Which.
        #[command(flatten)]
        act: Act,
    },
    /// Give one another name. It must be off; its disks and its guest keep theirs.
    Rename {
        /// Its name.
        name: DomainName,
        /// The new one.
        #[arg(value_name = "NEW-NAME")]
        to: GuestName,
        /// Its host, where two have one of that name.
        #[arg(long, value_name = "HOST")]
        on: Option<HostName>,
        /// How to wait.
        #[command(flatten)]
        stay: Stay,
    },
    /// Its serial console on this terminal. Ctrl-] leaves.
    Console(super::console::Console),
    /// What its serial port put out, as its host keeps it.
    Log(super::vm_log::Log),
    /// Resources of one.
    #[command(flatten)]
    Change(change::Change),
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Yes.
    On,
    /// No.
    Off,
}

/// Which virtual machine.
#[derive(Debug, Args)]
pub struct Which {
    /// Its name.
    #[arg(value_name = "NAME")]
    bare: Option<DomainName>,
    /// Its name, as an option.
    #[arg(long = "name", value_name = "NAME")]
    named: Option<DomainName>,
    /// Its host, where two have one of that name.
    #[arg(long, value_name = "HOST")]
    on: Option<HostName>,
}

impl Which {
    pub(super) fn vm(self) -> Result<VmRef, Error> {
        self.named("name of the virtual machine")
    }

    /// What it is called when it is missing.
    pub(super) fn named(self, what: &'static str) -> Result<VmRef, Error> {
        Ok(VmRef { name: one(self.bare, self.named, what, "--name")?, host: self.on })
    }
}

/// How long a command stays with its job.
#[derive(Debug, Clone, Copy, Args)]
pub struct Stay {
    /// Print the job's id and do not wait.
    #[arg(long, visible_alias = "no-wait")]
    pub(super) detach: bool,
    /// Wait until it has ended, as is done anyway.
    #[arg(long, conflicts_with = "detach")]
    wait: bool,
}

/// Something to do with one or several.
#[derive(Debug, Args)]
pub struct Act {
    /// Which.
    #[command(flatten)]
    targets: Targets,
    /// Do not ask, where otherwise it would be asked.
    #[arg(short, long)]
    yes: bool,
    /// How to wait.
    #[command(flatten)]
    stay: Stay,
}

/// Whether it is asked before it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Never,
    /// If the machines were not all named.
    IfFound,
    Always,
}

impl Act {
    async fn run(self, app: &mut App<'_>, ask: Ask, spec: impl Fn(VmRef) -> JobSpec) -> Result<Exit, Error> {
        let Self { targets, yes, stay } = self;
        match targets.select(app).await? {
            Selected::One(mut vm) => {
                if ask == Ask::Always && !yes {
                    let view = show::view(app, vm.clone()).await?;
                    if !app.out.confirm(&show::question(&view))? {
                        return Err(Error::Declined);
                    }
                    // What was shown is what goes.
                    vm.host = Some(view.host);
                }
                follow::submit(app, spec(vm), stay.detach).await
            }
            Selected::Many(Many { vms, away, named }) => {
                let asks = ask == Ask::Always || (ask == Ask::IfFound && !named);
                let jobs: Vec<(VmRef, JobSpec)> = vms.into_iter().map(|vm| (vm.clone(), spec(vm))).collect();
                if asks && !yes && !jobs.is_empty() && !app.out.confirm(&question(&jobs))? {
                    return Err(Error::Declined);
                }
                if jobs.is_empty() && away.is_empty() {
                    app.out.say("there is no such virtual machine; nothing was to be done");
                }
                many::submit(app, jobs, &away, stay.detach).await
            }
        }
    }
}

fn question(jobs: &[(VmRef, JobSpec)]) -> String {
    let verb = match jobs.first() {
        Some((_, JobSpec::Remove(_))) => "Remove with all their disks",
        Some((_, JobSpec::Destroy(_))) => "Switch off at once",
        Some(_) | None => "Do this to",
    };
    let names: Vec<&str> = jobs.iter().take(NAMED).map(|(vm, _)| vm.name.as_str()).collect();
    let more = match jobs.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{verb} {} virtual machines: {}{more}?", jobs.len(), names.join(", "))
}

impl Vm {
    pub(super) async fn run(self, app: &mut App<'_>) -> Result<Exit, Error> {
        let change = |change: VmChange| move |vm| JobSpec::Change { vm, change: change.clone() };
        match self {
            Self::List(list) => list.run(app).await,
            Self::Show(which) => show::run(app, which.vm()?).await,
            Self::Clone(clone) => {
                let (detach, dry_run) = (clone.detach, clone.dry_run);
                let spec = clone.spec()?;
                if dry_run {
                    return super::why::dry_run(app, spec).await;
                }
                follow::submit(app, JobSpec::Clone(spec), detach).await
            }
            Self::Remove(act) => act.run(app, Ask::Always, JobSpec::Remove).await,
            Self::Start(act) => act.run(app, Ask::Never, JobSpec::Start).await,
            Self::Stop(act) => {
                // The limit is the guest's here, and the job keeps it; the command waits as long as the job takes.
                let timeout_s = seconds(app.timeout.take().unwrap_or(STOP_LIMIT));
                act.run(app, Ask::Never, |vm| JobSpec::Stop { vm, timeout_s }).await
            }
            Self::Destroy(act) => act.run(app, Ask::IfFound, JobSpec::Destroy).await,
            Self::Reboot(act) => act.run(app, Ask::Never, change(VmChange::Reboot)).await,
            Self::Reset(act) => act.run(app, Ask::IfFound, change(VmChange::Reset)).await,
            Self::Suspend(act) => act.run(app, Ask::Never, change(VmChange::Suspend)).await,
            Self::Resume(act) => act.run(app, Ask::Never, change(VmChange::Resume)).await,
            Self::Autostart { to, act } => {
                act.run(app, Ask::Never, change(VmChange::Autostart { on: to == Switch::On })).await
            }
            Self::Rename { name, to, on, stay } => {
                let vm = VmRef { name, host: on };
                follow::submit(app, JobSpec::Change { vm, change: VmChange::Rename { to } }, stay.detach).await
            }
            Self::Console(console) => console.run(app).await,
            Self::Log(log) => log.run(app).await,
            Self::Change(change) => change.run(app).await,
        }
    }
}
