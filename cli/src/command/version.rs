//! `maglica version`: of all parts, and which of them differ.

use maglica_proto::{
    name::HostName,
    request::{Answer, Presence, Request},
};
use serde::Serialize;

use crate::{app::App, error::Error, exit::Exit, output::table::Table, release};

/// What `-o json` and `-o yaml` show.
#[derive(Serialize)]
struct Shown {
    cli: &'static str,
    client_worker: Option<String>,
    hosts: Vec<Host>,
}

#[derive(Serialize)]
struct Host {
    host: HostName,
    presence: Presence,
    version: Option<String>,
}

pub(super) async fn run(app: &mut App<'_>) -> Result<Exit, Error> {
    let asked = ask(app).await;
    let (client_worker, hosts) = asked.as_ref().map_or((None, &[][..]), |(version, hosts)| (Some(version), hosts));
    let own = release::OWN;
    let mut hosts: Vec<Host> = hosts
        .iter()
        .map(|(host, presence, version)| Host { host: host.clone(), presence: *presence, version: version.clone() })
        .collect();
    hosts.sort_by(|a, b| a.host.cmp(&b.host));
    let shown = Shown { cli: own, client_worker: client_worker.cloned(), hosts };
    app.out.show(&shown, || table(&shown), || vec![own.to_owned()])?;
    let server = shown.client_worker.as_deref().unwrap_or(own);
    for host in &shown.hosts {
        if let Some(note) = host.version.as_deref().and_then(|version| release::differs(&host.host, version, server)) {
            app.out.note(&note);
        }
    }
    let absent = shown.hosts.iter().any(|host| host.presence != Presence::Up);
    asked.map(|_| if absent { Exit::Partial } else { Exit::Ok })
}

type Versions = (String, Vec<(HostName, Presence, Option<String>)>);

async fn ask(app: &mut App<'_>) -> Result<Versions, Error> {
    let request = Request::Status;
    let Answer::Status(status) = app.ask(&request).await? else { return Err(Error::Unexpected(request.verb())) };
    let request = Request::HostList;
    let Answer::Hosts { hosts } = app.ask(&request).await? else { return Err(Error::Unexpected(request.verb())) };
    let enrolled = hosts.into_iter().filter(|host| host.presence != Presence::Pending);
    let versions = enrolled.map(|host| (host.name, host.presence, host.facts.map(|facts| facts.worker)));
    Ok((status.version, versions.collect()))
}

fn table(shown: &Shown) -> String {
    let mut table = Table::new(["Part", "On", "Version"]);
    table.row(["command".to_owned(), "this machine".to_owned(), shown.cli.to_owned()]);
    let server = shown.client_worker.clone().unwrap_or_else(|| "not known".to_owned());
    table.row(["client worker".to_owned(), String::new(), server]);
    for host in &shown.hosts {
        let version = match (&host.version, host.presence) {
            (Some(version), Presence::Up) => version.clone(),
            (Some(version), absent) => format!("{version} ({})", absent.as_str()),
            (None, presence) => format!("not known ({})", presence.as_str()),
        };
        table.row(["host worker".to_owned(), host.host.to_string(), version]);
    }
    table.render()
}
