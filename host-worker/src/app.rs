//! Puts the host worker together: enrolment, ledger, libvirt, link, tasks; tells systemd; takes it down in order.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use maglica_proto::{
    config::{Config, folder, schema},
    fault::chain,
    host::Broadcast,
    inventory::Accel,
    key::KeyPair,
    seal::{Hello, PeerKind},
    transport::{DialLimits, Requester, SealedRequester},
};
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;

use crate::{
    console::Consoles,
    customize::guestfs::Guestfs,
    guests,
    hypervisor::{Host, Libvirt, accel},
    inventory::{self, Pace},
    keeper,
    link::{
        Link,
        enrol::{self, Server},
        heartbeat::Pulse,
        identity::Identity,
        listen::Listener,
    },
    runner::{Means, Runner, ledger::Ledger},
    serial_log::{Logs, Question},
    tool::ToolPaths,
    transfer::listen::Listening,
};

/// How many broadcasts may wait to be taken; the heartbeat brings what is lost.
const HEARD_QUEUE: usize = 1024;
/// The pause before something that this host needs to begin (an invitation, libvirtd) is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How often the ledger forgets old jobs.
const FORGET_EVERY: Duration = Duration::from_secs(24 * 3600);
/// Where KVM is.
const KVM: &str = "/dev/kvm";

/// Runs until a signal to stop.
///
/// # Errors
/// What kept it from starting.
pub async fn run(config: Config) -> anyhow::Result<()> {
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let state = enrol::state_dir(&config)?;
    let _lock = folder::lock(&state, "host worker")?;
    let run_dir = folder::emptied(enrol::run_dir(&config)?)?;
    let name = config.host.name()?;
    let stop = CancellationToken::new();
    // Ready means: it does what it can. A client worker that is away is no reason to fail a start.
    notify(&[NotifyState::Ready]);

    let Some(server) = enrolment(&config, &mut terminate, &mut interrupt).await? else { return Ok(()) };
    let identity = Identity::load(state.clone())?;
    tracing::info!(
        host = %name,
        server = server.rep,
        fingerprint = %identity.speaking().public().fingerprint(),
        version = env!("CARGO_PKG_VERSION"),
        "host worker is up"
    );
    // Secrets for a guest pass through it, so it is not the system's folder for temporary files.
    let scratch = folder::emptied(state.join("scratch"))?;
    let ledger = Ledger::open(&state.join("ledger.db"))?;
    let entries = ledger.entries()?;
    let tools = ToolPaths::with_first(config.host.tool_path.clone());
    let host = Host::new(Arc::new(Libvirt::new(config.libvirt.uri())));

    let requester = Requester::new(server.rep.clone(), Some(run_dir.clone()), DialLimits::default());
    let hello = Hello::new(env!("CARGO_PKG_VERSION"), name.as_str());
    let keys = identity.speaking().clone();
    let (mut pinned, pinning) = (server.key, config.clone());
    let conversation =
        SealedRequester::new(requester, keys, server.key, PeerKind::Host, hello, None).pinning(move |next| {
            let done = enrol::repin(&pinning, pinned, next);
            if done {
                pinned = next;
            }
            done
        });
    let link = Link::start(conversation, identity);
    let (decided, accel) = watch::channel(Accel::Unknown);
    let pace = Pace { poll: config.timing.inventory_poll, full: config.timing.inventory_full };
    let (announce, transfer) = watch::channel(None);
    if config.host.transfer_port != 0 {
        let listening = Listening {
            address: config.host.address,
            port: config.host.transfer_port,
            server: server.rep.clone(),
            grants: Arc::new(link.clone()),
            host: host.clone(),
        };
        tokio::spawn(listening.run(announce, stop.clone()));
    }
    let inventory = inventory::start(host.clone(), link.clone(), accel, transfer, pace, stop.clone());
    let (heard_sender, mut heard) = mpsc::channel(HEARD_QUEUE);
    let (poke, poked) = mpsc::channel(1);
    let (tell_spread, spread) = watch::channel(Duration::ZERO);
    let listener = Listener {
        addr: server.publish,
        run_dir,
        beat: config.timing.beat,
        channel: link.channel(),
        heard: heard_sender,
        subscribed: poke,
        spread,
    };
    tokio::spawn(listener.run(stop.clone()));
    tokio::spawn(decide_accel(config.host.accel, host.clone(), state, decided, stop.clone()));

    tokio::spawn(forget_old_jobs(ledger.clone(), stop.clone()));

    let consoles = Consoles::start(host.clone(), link.clone());
    let mut logs = Logs::new(host.clone(), link.clone());
    let customizer = Arc::new(Guestfs::new(tools.clone(), scratch));
    let means = Means { link: link.clone(), ledger, host, customizer, tools, inventory: inventory.clone() };
    let runner = Runner::start(means.clone(), entries, config.host.jobs, stop.clone());
    tokio::spawn(guests::run(means.host.clone(), inventory.clone(), inventory.seen(), stop.clone()));
    tokio::spawn(keeper::run(means, runner.clone(), inventory.seen(), stop.clone()));
    let answers = link.clone();
    let pulse = Pulse {
        link,
        runner: runner.clone(),
        inventory,
        every: config.timing.heartbeat,
        poke: poked,
        spread: tell_spread,
    };
    tokio::spawn(pulse.run(stop.clone()));

    let watchdog = sd_notify::watchdog_enabled().map(|limit| limit / 3);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            broadcast = heard.recv() => match broadcast {
                Some(Broadcast::Offer(offer)) => runner.offer(offer),
                Some(Broadcast::Cancel { job }) => runner.cancel(job),
                Some(Broadcast::Ping { number }) => answers.pong(number),
                Some(Broadcast::Console { line, vm, open, input }) => consoles.input(line, vm, open, input),
                Some(Broadcast::ConsoleEnd { line }) => consoles.end(line),
                Some(Broadcast::LogRead { number, vm, place, tail, wait_ms }) => {
                    logs.read(Question { number, vm, place, tail, wait: Duration::from_millis(wait_ms.into()) });
                }
                None => break,
            },
            // The runner answering is what "alive" means.
            () = tokio::time::sleep(watchdog.unwrap_or(Duration::MAX)), if watchdog.is_some() => {
                runner.held().await;
                notify(&[NotifyState::Watchdog]);
            }
        }
    }
    tracing::info!("host worker is stopping; jobs under way are brought to an end at the next start");
    notify(&[NotifyState::Stopping]);
    stop.cancel();
    Ok(())
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(error = chain(&error), "cannot notify systemd");
    }
}

/// This host's client worker. One that was never enrolled joins by the invitation that the client worker
/// of the same machine leaves, and waits for it; none if it is told to stop meanwhile.
async fn enrolment(config: &Config, terminate: &mut Signal, interrupt: &mut Signal) -> anyhow::Result<Option<Server>> {
    let (mut said, file) = (String::new(), enrol::invitation_file(config));
    loop {
        let (keys, server) = enrol::load(config)?;
        if let Some(server) = server {
            return Ok(Some(server));
        }
        let why = match try_invitation(config, &keys, &file).await {
            Ok(Some(server)) => return Ok(Some(server)),
            Ok(None) => format!(
                "there is no invitation in {}; on another machine than the client worker's, run 'maglica host invite' there and 'maglica-host-worker join' here",
                file.display()
            ),
            Err(error) => format!("{error:#}"),
        };
        if said != why {
            tracing::warn!(error = why, "not enrolled");
            said = why;
        }
        tokio::select! {
            _ = terminate.recv() => return Ok(None),
            _ = interrupt.recv() => return Ok(None),
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}

async fn try_invitation(config: &Config, keys: &KeyPair, file: &PathBuf) -> anyhow::Result<Option<Server>> {
    if !file.exists() {
        return Ok(None);
    }
    let invitation = enrol::read_invitation(file)?;
    let (joined, server) = enrol::join(config, keys, &invitation).await?;
    tracing::info!(%joined, "joined");
    // Used up; what is left is of no use to anybody.
    if let Err(error) = std::fs::remove_file(file) {
        tracing::debug!(error = chain(&error), "the used invitation cannot be removed");
    }
    Ok(Some(server))
}

/// The ledger does so at each start; this one may run for years.
async fn forget_old_jobs(ledger: Ledger, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(FORGET_EVERY) => {}
        }
        let ledger = ledger.clone();
        match tokio::task::spawn_blocking(move || ledger.forget_old()).await {
            Ok(Ok(0)) | Err(_) => {}
            Ok(Ok(count)) => tracing::info!(count, "forgot old jobs"),
            Ok(Err(error)) => tracing::warn!(error = chain(&error), "cannot forget old jobs"),
        }
    }
}

/// Finds out how guests run here, as soon as libvirt answers.
async fn decide_accel(
    setting: schema::Accel,
    host: Host,
    state: PathBuf,
    decided: watch::Sender<Accel>,
    stop: CancellationToken,
) {
    let setting = match setting {
        schema::Accel::Auto => accel::AccelSetting::Auto,
        schema::Accel::Kvm => accel::AccelSetting::Kvm,
        schema::Accel::Emulation => accel::AccelSetting::Emulation,
    };
    let mut said = false;
    let facts = loop {
        match host.look("asking what the host is", |hypervisor| hypervisor.facts()).await {
            Ok(facts) => break facts,
            Err(error) if !said => {
                tracing::warn!(error = chain(&error), "libvirt does not answer");
                said = true;
            }
            Err(_) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    };
    let accel = accel::decide(setting, &facts, Path::new(KVM), &state, &stop).await;
    tracing::info!(?accel, hypervisor = facts.hypervisor, "how guests run here");
    decided.send_replace(accel);
    // The inventory listens as long as it lives; the sender must too.
    stop.cancelled().await;
}
