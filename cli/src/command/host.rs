//! `maglica host …`.

use std::time::Duration;

use clap::{Args, Subcommand};
use maglica_proto::{
    fault::{Code, Fault},
    inventory::Accel,
    join::Invitation,
    key::{Fingerprint, Token},
    name::HostName,
    request::{Answer, HostRow, Invite, Presence, Request},
};
use serde::Serialize;

use crate::{
    app::App,
    error::Error,
    exit::Exit,
    input::{self, one, seconds},
    output::table::Table,
    release,
};

/// Commands about hosts.
#[derive(Debug, Subcommand)]
pub enum Host {
    /// List the hosts.
    #[command(visible_alias = "ls")]
    List,
    /// Say something to hosts, sealed, and measure how long the answer takes.
    Ping(super::ping::Asked),
    /// Let a host join: prints one line for it.
    Invite {
        /// Which.
        #[command(flatten)]
        which: Which,
        /// How the line is made.
        #[command(flatten)]
        terms: Terms,
    },
    /// Let a host in that waits, by its key's fingerprint.
    Accept {
        /// Which.
        #[command(flatten)]
        which: Which,
        /// The fingerprint that the host printed.
        #[arg(long, value_name = "SHA256:…")]
        fingerprint: Fingerprint,
    },
    /// Have a host make itself a new key; the old one is never accepted again.
    Rekey(Which),
    /// Shut a host out. Its name may be invited again, its key never.
    Revoke(Which),
}

/// Which host.
#[derive(Debug, Args)]
pub struct Which {
    /// Its name.
    #[arg(value_name = "NAME")]
    bare: Option<HostName>,
    /// Its name, as an option.
    #[arg(long = "name", value_name = "NAME")]
    named: Option<HostName>,
}

impl Which {
    fn host(self) -> Result<HostName, Error> {
        one(self.bare, self.named, "name of the host", "--name")
    }
}

/// How an invitation is made.
#[derive(Debug, Args)]
pub struct Terms {
    /// How long it is good for.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = input::duration)]
    valid: Duration,
    /// The client worker's address and port as the one who joins sees it, if not as in this machine's configuration.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address)]
    address: Option<String>,
}

fn address(text: &str) -> Result<String, String> {
    let port =
        text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse::<u16>().ok());
    match port {
        Some(1..) if !text.contains(char::is_whitespace) => Ok(text.to_owned()),
        Some(_) | None => Err("write an address with its port, for example 192.168.0.1:5556".to_owned()),
    }
}

/// What `-o json` and `-o yaml` show.
#[derive(Serialize)]
struct Shown<'a> {
    hosts: &'a [HostRow],
}

impl Host {
    pub(super) async fn run(self, app: &mut App<'_>) -> Result<Exit, Error> {
        match self {
            Self::List => list(app).await,
            Self::Ping(asked) => super::ping::run(app, asked).await,
            Self::Invite { which, terms } => {
                let name = which.host()?;
                let said =
                    format!("on {name}, as root: maglica-host-worker join < FILE, where FILE holds the line above");
                invite(app, &terms, &said, |invite| Request::HostInvite { name, invite }).await
            }
            Self::Accept { which, fingerprint } => {
                let name = which.host()?;
                app.tell(&Request::HostAccept { name: name.clone(), fingerprint }).await?;
                app.out.say(&format!("{name} is accepted"));
                Ok(Exit::Ok)
            }
            Self::Rekey(which) => rekey(app, which.host()?).await,
            Self::Revoke(which) => {
                let name = which.host()?;
                app.tell(&Request::HostRevoke { name: name.clone() }).await?;
                app.out.say(&format!("{name} is shut out; its virtual machines are left as they are"));
                Ok(Exit::Ok)
            }
        }
    }
}

/// Makes a token, has its half stored, and prints the line.
pub(super) async fn invite(
    app: &mut App<'_>,
    terms: &Terms,
    said: &str,
    request: impl FnOnce(Invite) -> Request,
) -> Result<Exit, Error> {
    let token = Token::generate()?;
    let invite = Invite { token: token.id(), psk: token.psk(), valid_s: seconds(terms.valid) };
    app.tell(&request(invite)).await?;
    // Of the two that there are while it changes, the one that stays.
    let key = app.client()?.newest_server();
    let server = terms.address.clone().unwrap_or_else(|| app.config.client.rep_addr());
    let loopback = server.starts_with("127.") || server.starts_with("[::1]") || server.starts_with("localhost:");
    app.out.data(Invitation { server: server.clone(), key, token }.to_line().expose())?;
    app.out.say(&format!(
        "{said}. It is good once, for {}; whoever has it can join.",
        crate::output::time::duration(terms.valid)
    ));
    if loopback {
        app.out.note(&format!("{server} is this machine only; for another one, give --address=ADDRESS:PORT"));
    }
    Ok(Exit::Ok)
}

async fn hosts(app: &mut App<'_>) -> Result<Vec<HostRow>, Error> {
    let request = Request::HostList;
    let Answer::Hosts { hosts } = app.ask(&request).await? else { return Err(Error::Unexpected(request.verb())) };
    Ok(hosts)
}

/// Names the key that is to go, so that this asked twice changes it once.
async fn rekey(app: &mut App<'_>, name: HostName) -> Result<Exit, Error> {
    let enrolled = |host: &HostRow| host.name == name && host.presence != Presence::Pending;
    let Some(host) = hosts(app).await?.into_iter().find(enrolled) else {
        let fault = Fault::new(Code::NotFound, format!("there is no host {name}")).about(name.to_string());
        return Err(Error::Fault(fault.into()));
    };
    app.tell(&Request::HostRekey { name: name.clone(), fingerprint: host.fingerprint }).await?;
    app.out.say(&match host.presence {
        Presence::Up => format!("{name} is changing its key"),
        Presence::Suspect | Presence::Down | Presence::Pending => format!("{name} changes its key when it is back"),
    });
    Ok(Exit::Ok)
}

async fn list(app: &mut App<'_>) -> Result<Exit, Error> {
    let hosts = hosts(app).await?;
    app.out.show(
        &Shown { hosts: &hosts },
        || table(&hosts),
        || hosts.iter().map(|host| host.name.to_string()).collect(),
    )?;
    let server = app.client()?.server().unwrap_or_default().to_owned();
    for host in &hosts {
        let worker = host.facts.as_ref().map(|facts| facts.worker.as_str());
        if let Some(note) = worker.and_then(|worker| release::differs(&host.name, worker, &server)) {
            app.out.note(&note);
        }
    }
    for host in hosts.iter().filter(|host| host.presence == Presence::Pending) {
        app.out.note(&format!(
            "to let {} in: maglica host accept {} --fingerprint {}",
            host.name, host.name, host.fingerprint
        ));
    }
    Ok(Exit::Ok)
}

fn table(hosts: &[HostRow]) -> String {
    let mut table =
        Table::new(["Name", "State", "Weight", "Running", "Machines", "CPUs", "Memory free", "Guests run by", "Heard"]);
    for host in hosts {
        let facts = host.facts.as_ref();
        table.row([
            host.name.to_string(),
            host.presence.as_str().to_owned(),
            host.weight.to_string(),
            host.active.to_string(),
            host.domains.to_string(),
            facts.map(|facts| facts.cpus.to_string()).unwrap_or_default(),
            facts.map(|facts| format!("{} of {}", facts.memory_free, facts.memory)).unwrap_or_default(),
            facts.map(|facts| accel(&facts.accel).to_owned()).unwrap_or_default(),
            host.heard.map(|heard| crate::output::time::moment_near(heard, jiff::Timestamp::now())).unwrap_or_default(),
        ]);
    }
    table.render()
}

const fn accel(accel: &Accel) -> &'static str {
    match accel {
        Accel::Kvm => "kvm",
        Accel::Emulation { .. } => "emulation",
        Accel::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_its_port() {
        for text in ["host:5556", "[::1]:5556", "10.0.0.1:1"] {
            assert!(address(text).is_ok(), "{text}");
        }
        for text in ["host", ":5556", "host:0", "host:x", "a b:1", "host:65536"] {
            assert!(address(text).is_err(), "{text}");
        }
    }
}
