//! `maglica watch`: what happens, as it happens. Long polls with a cursor, over lost connections and restarts of the client worker.

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use maglica_proto::{
    job::JobState,
    name::{DomainName, HostName},
    news::{HostNews, News, NewsItem, VmNews},
    request::{Answer, Request},
};
use serde::Serialize;

use crate::{app::App, error::Error, exit::Exit, output::time, story};

/// One long poll; the client worker's own bound is 25 s.
const POLL: Duration = Duration::from_secs(25);
/// How long a client worker may be away meanwhile: a restart, an update.
const PATIENCE: Duration = Duration::from_secs(120);

/// What to watch.
#[derive(Debug, Args)]
pub struct Watch {
    /// Only what concerns these machines.
    #[arg(value_name = "VM")]
    machines: Vec<DomainName>,
    /// Only what happens on this host.
    #[arg(long, value_name = "HOST")]
    on: Option<HostName>,
    /// Only news of this kind; may be repeated.
    #[arg(long, value_enum, value_name = "KIND", value_delimiter = ',')]
    only: Vec<Kind>,
}

/// What news are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Jobs.
    Job,
    /// Virtual machines.
    Vm,
    /// Images.
    Image,
    /// Hosts.
    Host,
}

const fn kind(news: &News) -> Kind {
    match news {
        News::Job { .. } => Kind::Job,
        News::Vm { image: true, .. } => Kind::Image,
        News::Vm { image: false, .. } => Kind::Vm,
        News::Host { .. } => Kind::Host,
    }
}

/// What `-o json` says where something is missing.
#[derive(Serialize)]
struct Gap {
    about: &'static str,
}

impl Watch {
    /// Watches until Ctrl-C, or for as long as `--timeout` says; both are a good end.
    pub(super) async fn run(self, app: &mut App<'_>) -> Result<Exit, Error> {
        let deadline = app.deadline();
        tokio::select! {
            ended = self.watch(app) => ended,
            // A handler that cannot be set leaves the default, which ends the program.
            Ok(()) = tokio::signal::ctrl_c() => Ok(Exit::Ok),
            () = crate::follow::until(deadline) => Ok(Exit::Ok),
        }
    }

    async fn watch(&self, app: &mut App<'_>) -> Result<Exit, Error> {
        let (mut after, mut wait) = (None, Duration::ZERO);
        loop {
            let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
            let request = Request::Watch { after, wait_ms };
            let answer = match after {
                // The first answer is due at once, and says whether there is anybody to ask.
                None => app.ask(&request).await?,
                Some(_) => app.client()?.ask(&request, wait, Instant::now() + PATIENCE).await?,
            };
            let Answer::News { items, next, missed } = answer else { return Err(Error::Unexpected(request.verb())) };
            app.say_notes();
            if missed {
                app.out.note("something that happened meanwhile was not heard; the lists have what there is");
                app.out.item(&Gap { about: "missed" }, String::new, String::new)?;
            }
            for item in items.iter().filter(|item| self.wants(&item.news)) {
                app.out.item(item, || line(item), || name(&item.news))?;
            }
            if after.is_none() && app.out.live() {
                app.out.say("watching; Ctrl-C ends it");
            }
            (after, wait) = (Some(next), POLL);
        }
    }

    fn wants(&self, news: &News) -> bool {
        let (machine, host) = match news {
            News::Job { job } => (Some(&job.vm), &job.host),
            News::Vm { name, host, .. } => (Some(name), host),
            News::Host { host, .. } => (None, host),
        };
        (self.only.is_empty() || self.only.contains(&kind(news)))
            && self.on.as_ref().is_none_or(|on| on == host)
            && (self.machines.is_empty() || machine.is_some_and(|machine| self.machines.contains(machine)))
    }
}

fn name(news: &News) -> String {
    match news {
        News::Job { job } => job.id.to_string(),
        News::Vm { name, .. } => name.to_string(),
        News::Host { host, .. } => host.to_string(),
    }
}

fn line(item: &NewsItem) -> String {
    let said = match &item.news {
        News::Job { job } => {
            let what = format!("job    {}  {} {} on {}", job.id, job.verb, job.vm, job.host);
            match &job.state {
                JobState::Queued
                | JobState::Offered
                | JobState::Running
                | JobState::Cancelling
                | JobState::Lost
                | JobState::Succeeded { .. } => format!("{what}: {}", job.state.as_str()),
                JobState::Failed { .. } | JobState::Cancelled { .. } => format!("{what}: {}", story::state(job)),
            }
        }
        News::Vm { name, host, image, change } => {
            let noun = if *image { "image" } else { "vm   " };
            let what = match change {
                VmNews::Appeared { state } => format!("appeared, {}", state.as_str()),
                VmNews::State { from, to } => format!("{} → {}", from.as_str(), to.as_str()),
                VmNews::Gone => "gone".to_owned(),
                VmNews::Other => "changed".to_owned(),
            };
            format!("{noun}  {name} on {host}: {what}")
        }
        News::Host { host, change } => {
            let what = match change {
                HostNews::Joined => "joined",
                HostNews::Left => "shut out",
                HostNews::Presence { presence } => presence.as_str(),
                HostNews::Other => "changed",
            };
            format!("host   {host}: {what}")
        }
    };
    format!("{}  {}", time::clock(item.at), crate::output::clean(&said).replace('\n', " "))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use maglica_proto::{inventory::DomainState, request::Presence, units::Timestamp};

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        watch: Watch,
    }

    fn wanted(options: &str) -> Vec<bool> {
        let words = std::iter::once("watch").chain(options.split_whitespace());
        let watch = Line::try_parse_from(words).unwrap().watch;
        all().iter().map(|news| watch.wants(news)).collect()
    }

    fn all() -> [News; 3] {
        let (host, change) = ("h1".parse().unwrap(), HostNews::Presence { presence: Presence::Down });
        let state = VmNews::State { from: DomainState::Off, to: DomainState::Running };
        let vm = |image| News::Vm { name: "vm0".parse().unwrap(), host: "h2".parse().unwrap(), image, change: state };
        [News::Host { host, change }, vm(false), vm(true)]
    }

    #[test]
    fn what_is_not_asked_for_is_left_out() {
        assert_eq!(wanted(""), [true, true, true]);
        assert_eq!(wanted("--only host,image"), [true, false, true]);
        assert_eq!(wanted("--on h2"), [false, true, true]);
        assert_eq!(wanted("vm0 --only=vm"), [false, true, false]);
        assert_eq!(wanted("vm1"), [false, false, false]);
    }

    #[test]
    fn each_is_one_line() {
        let at = Timestamp::from_millis(1_700_000_000_000);
        let lines = all().map(|news| line(&NewsItem { at, news }));
        let clock = time::clock(at);
        assert_eq!(
            lines,
            [
                format!("{clock}  host   h1: down"),
                format!("{clock}  vm     vm0 on h2: off → running"),
                format!("{clock}  image  vm0 on h2: off → running"),
            ]
        );
    }
}
