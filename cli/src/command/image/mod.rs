//! `maglica image …`: one file for what takes more than a line.

mod copy;
mod list;
mod show;

use clap::{Args, Subcommand};
use maglica_proto::{
    job::{ImageSpec, JobSpec},
    name::HostName,
    request::ImageCopy,
};

use super::vm::Which;
use crate::{app::App, error::Error, exit::Exit, follow};

/// What is missing where no image is named.
const IMAGE: &str = "name of the image";

/// Commands about images.
#[derive(Debug, Subcommand)]
pub enum Image {
    /// List the images of all hosts.
    #[command(visible_alias = "ls")]
    List {
        /// Only those of this host.
        #[arg(long, value_name = "HOST")]
        on: Option<HostName>,
    },
    /// Show one with all its details, on each host that has it.
    #[command(visible_alias = "info")]
    Show(Which),
    /// Copy one to other hosts, from host to host directly.
    #[command(visible_alias = "cp")]
    Copy(copy::Copy),
    /// Keep a virtual machine that is off as an image.
    Mark(Act),
    /// Make an ordinary virtual machine of an image again.
    Unmark(Act),
    /// Delete its definition and its disks, on one host. Refused while other disks are overlays on them.
    #[command(visible_alias = "rm")]
    Remove {
        /// Which.
        #[command(flatten)]
        which: Which,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
        /// Print the job's id and do not wait.
        #[arg(long)]
        detach: bool,
    },
}

/// Something to do with one.
#[derive(Debug, Args)]
pub struct Act {
    /// Which.
    #[command(flatten)]
    which: Which,
    /// Print the job's id and do not wait.
    #[arg(long)]
    detach: bool,
}

impl Image {
    pub(super) async fn run(self, app: &mut App<'_>) -> Result<Exit, Error> {
        match self {
            Self::List { on } => list::run(on, app).await,
            Self::Show(which) => show::run(which.named(IMAGE)?, app).await,
            Self::Copy(copy) => copy.run(app).await,
            Self::Mark(Act { which, detach }) => submit(ImageSpec::Mark(which.named(IMAGE)?), detach, app).await,
            Self::Unmark(Act { which, detach }) => submit(ImageSpec::Unmark(which.named(IMAGE)?), detach, app).await,
            Self::Remove { which, yes, detach } => {
                let mut image = which.named(IMAGE)?;
                if !yes {
                    let copies = show::copies(image.clone(), app).await?;
                    // With several, the client worker says that one has to be named.
                    if let [copy] = copies.as_slice() {
                        if !app.out.confirm(&question(copy))? {
                            return Err(Error::Declined);
                        }
                        // What was shown is what goes.
                        image.host = Some(copy.host.clone());
                    }
                }
                submit(ImageSpec::Remove(image), detach, app).await
            }
        }
    }
}

async fn submit(spec: ImageSpec, detach: bool, app: &mut App<'_>) -> Result<Exit, Error> {
    follow::submit(app, JobSpec::Image(spec), detach).await
}

fn question(copy: &ImageCopy) -> String {
    let disks: Vec<String> = copy.domain.data_disks().map(super::vm::disk_line).collect();
    let clones = match copy.clones_total {
        0 => String::new(),
        1 => " (a virtual machine there was made of it, and stays)".to_owned(),
        many => format!(" ({many} virtual machines there were made of it, and stay)"),
    };
    format!("Remove the image {} from {}, with its disks {}{clones}?", copy.domain.name, copy.host, disks.join(", "))
}
