//! `maglica status`: how the client worker is.

use std::time::Duration;

use maglica_proto::{
    request::{Answer, Request},
    status::{AuditStatus, HostCounts, PortStatus, Refused, Status, StoreStatus},
};

use crate::{
    app::App,
    error::Error,
    exit::Exit,
    output::{
        table::{Table, fields},
        time,
    },
};

pub(super) async fn run(app: &mut App<'_>) -> Result<Exit, Error> {
    let request = Request::Status;
    let Answer::Status(status) = app.ask(&request).await? else { return Err(Error::Unexpected(request.verb())) };
    let verbose = app.out.verbose();
    app.out.show(&status, || text(&status, verbose), || vec![status.version.clone()])?;
    if !verbose && !status.refusals.is_empty() {
        app.out.note("what was refused, and why: maglica status -v");
    }
    Ok(Exit::Ok)
}

fn text(status: &Status, verbose: bool) -> String {
    let uptime = time::duration(Duration::from_millis(status.uptime_ms));
    let mut lines = vec![
        (
            "client worker",
            format!("version {}, up for {uptime}, since {}", status.version, time::moment(status.started)),
        ),
        ("key", status.fingerprint.to_string()),
        ("memory", status.memory.to_string()),
        ("hosts", hosts(&status.hosts)),
        ("jobs", listed(status.jobs.iter().map(|jobs| format!("{} {}", jobs.count, jobs.state)))),
        ("store", store(&status.store)),
        ("audit", status.audit.as_ref().map_or_else(String::new, audit)),
        ("connections", listed(status.ports.iter().map(port))),
        ("refused", status.refusals.iter().map(|refused| refused.count).sum::<u64>().to_string()),
    ];
    if !verbose {
        return fields(&lines);
    }
    let accepted = listed(status.ports.iter().map(|port| format!("{} to {}", port.accepted, port.port)));
    lines.insert(lines.len() - 1, ("accepted", accepted));
    let mut text = fields(&lines);
    if !status.refusals.is_empty() {
        text.push('\n');
        text.push_str(&refusals(&status.refusals));
    }
    text
}

fn listed(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

fn hosts(counts: &HostCounts) -> String {
    let HostCounts { up, suspect, down, pending } = counts;
    let others = [(suspect, "suspect"), (down, "down"), (pending, "pending")];
    let others = others.into_iter().filter(|(count, _)| **count > 0).map(|(count, word)| format!("{count} {word}"));
    listed(std::iter::once(format!("{up} up")).chain(others))
}

fn store(store: &StoreStatus) -> String {
    let millis = |micros: u64| format!("{}.{:02} ms", micros / 1000, micros % 1000 / 10);
    let mut text = format!("{}, {} commits", store.size, store.commits);
    if store.failed > 0 {
        text.push_str(&format!(", {} failed", store.failed));
    }
    if store.commits > 0 {
        let (half, most) = (millis(store.commit_p50_us), millis(store.commit_p99_us));
        text.push_str(&format!("; half of the latest within {half}, 99 % within {most}"));
    }
    text
}

fn audit(audit: &AuditStatus) -> String {
    let mut text = format!("{} lines", audit.head.seq + 1);
    let flaw = audit.flaw.as_ref().map(|flaw| format!("CHANGED: {flaw}"));
    let trouble = audit.trouble.as_ref().map(|why| format!("CANNOT BE WRITTEN, so nothing is changed: {why}"));
    for wrong in flaw.into_iter().chain(trouble) {
        text.push_str(&format!("; {wrong}"));
    }
    text
}

fn port(port: &PortStatus) -> String {
    format!("{} open to {}", port.open, port.port)
}

fn refusals(refusals: &[Refused]) -> String {
    let mut table = Table::new(["At", "Refused", "Times"]);
    for refused in refusals {
        table.row([refused.at.clone(), refused.kind.clone(), refused.count.to_string()]);
    }
    table.render()
}
