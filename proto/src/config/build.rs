//! From the parsed tree to a checked [`Config`]: the type, default and bounds of every key.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use config::Value;

use super::{
    read::{self, BadKey, Section},
    schema::{
        Accel, Client, Config, ConfiguredHost, DEFAULT_WEIGHT, Host, Jobs, Libvirt, Listen, Log, LogFormat, LogLevel,
        Operator, ServerAddress, Timing,
    },
};
use crate::{name::HostName, net::IpPrefix};

/// A day, for `keep_days`.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Far enough from any overflow of a duration.
const MAX_DAYS: u64 = 36_500;
/// So much more than any other host that it gets everything.
const MAX_WEIGHT: u64 = 1_000_000;
/// Below this a loop would do nothing else; above it nobody would call it a heartbeat.
const TIMING_MS: (u64, u64) = (10, 86_400_000);
/// Where hosts take connections for transfers: beside the two of the client worker, and the one kept for its pages.
const TRANSFER_PORT: u16 = 5558;
/// More than this at a time would only fight over the disk.
const MAX_JOBS: u64 = 64;
/// One process has file descriptors for so many and no more on any system we know.
const MAX_CONNECTIONS: u64 = 1_000_000;

/// Builds the configuration of the parsed tree.
pub(super) fn config(mut root: Section) -> Result<Config, BadKey> {
    let hosts = hosts(&mut root)?;
    let client = client(root.section("client")?)?;
    let listen = listen(root.section("listen")?, &client)?;
    let libvirt = libvirt(root.section("libvirt")?)?;
    let state_dir = root.value("state_dir", PATH, path)?.unwrap_or_else(|| "/var/lib/maglica".into());
    let run_dir = root.value("run_dir", PATH, path)?.unwrap_or_else(|| "/run/maglica".into());
    let host = host(root.section("host")?)?;
    let operator = operator(root.section("operator")?, &state_dir)?;
    let timing = timing(root.section("timing")?)?;
    let jobs = jobs(root.section("jobs")?)?;
    let log = log(root.section("log")?)?;
    root.finish()?;
    Ok(Config { hosts, client, listen, libvirt, state_dir, run_dir, host, operator, timing, jobs, log })
}

const PATH: &str = "an absolute path";
const ADDRESS: &str = "a host name or an IP address, without a port";
const PORT: &str = "a port number from 1 to 65535";

fn path(value: &Value) -> Option<PathBuf> {
    read::text(value).map(PathBuf::from).filter(|path| path.is_absolute())
}

fn parsed<T: FromStr>(value: &Value) -> Option<T> {
    read::text(value)?.parse().ok()
}

fn port(section: &mut Section, key: &'static str) -> Result<Option<u16>, BadKey> {
    section.value(key, PORT, |value| {
        read::number(value).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)
    })
}

fn bounded(section: &mut Section, key: &'static str, (least, most): (u64, u64)) -> Result<Option<u64>, BadKey> {
    let allowed = format!("a whole number from {least} to {most}");
    section.value(key, &allowed, |value| read::number(value).filter(|number| (least..=most).contains(number)))
}

fn hosts(root: &mut Section) -> Result<Vec<ConfiguredHost>, BadKey> {
    let mut hosts: Vec<ConfiguredHost> = Vec::new();
    for mut section in root.sections("hosts", "a list of hosts, each with name and weight")? {
        let name: Option<HostName> = section.value("name", "a host name (letters, digits, '-' and '.')", parsed)?;
        let name = name.ok_or_else(|| section.missing("name", "the name under which the host joined"))?;
        let weight = bounded(&mut section, "weight", (1, MAX_WEIGHT))?.map_or(DEFAULT_WEIGHT, narrow);
        if hosts.iter().any(|host| host.name == name) {
            return Err(section.contradiction("name", format!("is {name}, which is in the list already")));
        }
        section.finish()?;
        hosts.push(ConfiguredHost { name, weight });
    }
    Ok(hosts)
}

/// Only for numbers that [`bounded`] has checked.
fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn client(mut section: Section) -> Result<Client, BadKey> {
    let host = section.value("host", ADDRESS, parsed)?.unwrap_or(ServerAddress::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    let pub_port = port(&mut section, "pub_port")?.unwrap_or(5555);
    let rep_port = port(&mut section, "rep_port")?.unwrap_or(5556);
    if pub_port == rep_port {
        return Err(
            section.contradiction("rep_port", format!("is {rep_port}, the same as client.pub_port; they must differ"))
        );
    }
    section.finish()?;
    Ok(Client { host, pub_port, rep_port })
}

fn listen(mut section: Section, client: &Client) -> Result<Listen, BadKey> {
    let address = section.value("address", ADDRESS, parsed)?.unwrap_or_else(|| client.host.clone());
    let pub_port = port(&mut section, "pub_port")?.unwrap_or(client.pub_port);
    let rep_port = port(&mut section, "rep_port")?.unwrap_or(client.rep_port);
    if pub_port == rep_port {
        return Err(
            section.contradiction("rep_port", format!("is {rep_port}, the same as listen.pub_port; they must differ"))
        );
    }
    let connections = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let max_connections = bounded(&mut section, "max_connections", (1, MAX_CONNECTIONS))?.map_or(4096, connections);
    // So many are behind one address only if it is a gateway, and then it is to say so.
    let max_connections_per_address =
        bounded(&mut section, "max_connections_per_address", (1, MAX_CONNECTIONS))?.map_or(512, connections);
    let allow = section.value("allow", "a list of networks, such as 192.168.0.0/24 (empty: everybody)", |value| {
        read::list(value, ',')?.iter().map(|text| network(text)).collect()
    })?;
    section.finish()?;
    Ok(Listen {
        address,
        pub_port,
        rep_port,
        max_connections,
        max_connections_per_address,
        allow: allow.unwrap_or_default(),
    })
}

/// `192.168.0.0/24`, or one address.
fn network(text: &str) -> Option<IpPrefix> {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => format!("{address}/32").parse().ok(),
        Ok(IpAddr::V6(address)) => format!("{address}/128").parse().ok(),
        Err(_) => text.parse().ok(),
    }
}

fn libvirt(mut section: Section) -> Result<Libvirt, BadKey> {
    let word = |value: &Value| {
        read::text(value).filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    };
    // A socket of this machine may be named (in the path, `?socket=`); another machine's libvirt is another host worker's.
    let driver = |value: &Value| {
        let text = read::text(value)?;
        word(&Value::from(text.strip_suffix("+unix").unwrap_or(&text))).map(|_| text)
    };
    let driver = section
        .value("driver", "the name of a libvirt driver, such as qemu, or one with +unix", driver)?
        .unwrap_or_else(|| "qemu".into());
    let transport =
        section.value("transport", "the name of a libvirt transport, such as unix (it has no effect)", word)?;
    let path = section.value("path", "what follows driver:/// in a libvirt URI, such as system", |value| {
        read::text(value).filter(|path| !path.trim_matches('/').is_empty() && !path.contains(char::is_whitespace))
    })?;
    let usual = if driver == "test" { "default" } else { "system" };
    section.finish()?;
    Ok(Libvirt { driver, transport, path: path.unwrap_or_else(|| usual.to_owned()) })
}

fn host(mut section: Section) -> Result<Host, BadKey> {
    let name = section.value("name", "a host name (letters, digits, '-' and '.')", parsed)?;
    let accel = section.value("accel", "auto, kvm or emulation", |value| match read::text(value)?.as_str() {
        "auto" => Some(Accel::Auto),
        "kvm" => Some(Accel::Kvm),
        "emulation" => Some(Accel::Emulation),
        _ => None,
    })?;
    let jobs =
        bounded(&mut section, "jobs", (1, MAX_JOBS))?.map_or(2, |jobs| usize::try_from(jobs).unwrap_or(usize::MAX));
    let tool_path = section.value("tool_path", "a list of absolute paths of folders", |value| {
        let folders = read::list(value, ':')?.into_iter().map(PathBuf::from).collect::<Vec<_>>();
        folders.iter().all(|folder| folder.is_absolute()).then_some(folders)
    })?;
    let address = section.value("address", "an IP address of this host", parsed)?;
    let transfer_port = bounded(&mut section, "transfer_port", (0, u16::MAX.into()))?
        .map_or(TRANSFER_PORT, |port| u16::try_from(port).unwrap_or(TRANSFER_PORT));
    section.finish()?;
    Ok(Host {
        name,
        accel: accel.unwrap_or(Accel::Auto),
        jobs,
        tool_path: tool_path.unwrap_or_default(),
        address,
        transfer_port,
    })
}

fn operator(mut section: Section, state_dir: &Path) -> Result<Operator, BadKey> {
    let usual = Operator::by_default(state_dir);
    let key = section.value("key", PATH, path)?.unwrap_or(usual.key);
    let server_key = section.value("server_key", PATH, path)?.unwrap_or(usual.server_key);
    section.finish()?;
    Ok(Operator { key, server_key })
}

fn timing(mut section: Section) -> Result<Timing, BadKey> {
    let mut millis = |key, usual| Ok(Duration::from_millis(bounded(&mut section, key, TIMING_MS)?.unwrap_or(usual)));
    let timing = Timing {
        heartbeat: millis("heartbeat_ms", 5_000)?,
        suspect: millis("suspect_ms", 15_000)?,
        down: millis("down_ms", 30_000)?,
        beat: millis("beat_ms", 5_000)?,
        offer_first: millis("offer_first_ms", 250)?,
        inventory_poll: millis("inventory_poll_ms", 2_000)?,
        inventory_full: millis("inventory_full_ms", 60_000)?,
    };
    if timing.suspect <= timing.heartbeat {
        return Err(
            section.contradiction("suspect_ms", "is not longer than timing.heartbeat_ms; every host would be suspect")
        );
    }
    if timing.down <= timing.suspect {
        return Err(section.contradiction("down_ms", "is not longer than timing.suspect_ms"));
    }
    section.finish()?;
    Ok(timing)
}

fn jobs(mut section: Section) -> Result<Jobs, BadKey> {
    let days = bounded(&mut section, "keep_days", (1, MAX_DAYS))?.map_or(90, narrow);
    section.finish()?;
    Ok(Jobs { keep: DAY * days })
}

fn log(mut section: Section) -> Result<Log, BadKey> {
    let level = section.value("level", "error, warn, info, debug or trace", |value| {
        let word = read::text(value)?;
        [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace]
            .into_iter()
            .find(|level| level.as_str() == word)
    })?;
    let format = section.value("format", "text or json", |value| match read::text(value)?.as_str() {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    })?;
    section.finish()?;
    Ok(Log { level: level.unwrap_or(LogLevel::Info), format: format.unwrap_or(LogFormat::Text) })
}
