//! `maglica host ping`: how long it takes to say something to hosts, sealed, and hear the answer.

use std::{collections::BTreeMap, time::Duration};

use clap::Args;
use maglica_proto::{
    name::HostName,
    request::{Answer, Ping, Presence, Request},
    units::Timestamp,
};
use serde::Serialize;

use crate::{
    app::App,
    error::Error,
    exit::Exit,
    input,
    output::{table::Table, time},
};

/// The most rounds of one command.
const ROUNDS_MAX: i64 = 10_000;

/// Whom to ask, and how often.
#[derive(Debug, Args)]
pub struct Asked {
    /// Which hosts; all if none is named.
    #[arg(value_name = "NAME")]
    hosts: Vec<HostName>,
    /// How often, one after another.
    #[arg(short = 'c', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=ROUNDS_MAX))]
    count: u32,
    /// How long to wait for the slowest host.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = input::duration)]
    wait: Duration,
}

/// What a host's answers were.
#[derive(Serialize)]
struct Row {
    host: HostName,
    presence: Presence,
    heard: Option<Timestamp>,
    /// How many rounds it answered.
    answered: usize,
    min_us: Option<u64>,
    median_us: Option<u64>,
    max_us: Option<u64>,
}

/// What `-o json` and `-o yaml` show.
#[derive(Serialize)]
struct Shown<'a> {
    rounds: u32,
    pings: &'a [Row],
}

pub(super) async fn run(app: &mut App<'_>, asked: Asked) -> Result<Exit, Error> {
    let Asked { hosts, count, wait } = asked;
    let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
    let request = Request::HostPing { hosts, wait_ms };
    let (mut last, mut took): (Vec<Ping>, BTreeMap<HostName, Vec<u64>>) = (Vec::new(), BTreeMap::new());
    for _ in 0..count {
        let Answer::Pings { pings } = app.ask(&request).await? else { return Err(Error::Unexpected(request.verb())) };
        for ping in &pings {
            took.entry(ping.host.clone()).or_default().extend(ping.took_us);
        }
        last = pings;
    }
    let rows: Vec<Row> = last.into_iter().map(|ping| row(took.remove(&ping.host).unwrap_or_default(), ping)).collect();
    app.out.show(
        &Shown { rounds: count, pings: &rows },
        || table(&rows, count),
        || rows.iter().filter(|row| row.answered > 0).map(|row| row.host.to_string()).collect(),
    )?;
    let silent: Vec<&str> = rows.iter().filter(|row| row.answered == 0).map(|row| row.host.as_str()).collect();
    match silent.as_slice() {
        [] => Ok(Exit::Ok),
        [one] => {
            app.out.note(&format!("{one} did not answer"));
            Ok(Exit::Partial)
        }
        several => {
            app.out.note(&format!("{} of {} hosts did not answer", several.len(), rows.len()));
            Ok(Exit::Partial)
        }
    }
}

fn row(mut took: Vec<u64>, ping: Ping) -> Row {
    took.sort_unstable();
    Row {
        host: ping.host,
        presence: ping.presence,
        heard: ping.heard,
        answered: took.len(),
        min_us: took.first().copied(),
        median_us: took.get(took.len() / 2).copied(),
        max_us: took.last().copied(),
    }
}

fn table(rows: &[Row], rounds: u32) -> String {
    let heard = |row: &Row| row.heard.map(|heard| time::moment_near(heard, jiff::Timestamp::now())).unwrap_or_default();
    if rounds == 1 {
        let mut table = Table::new(["Name", "State", "Answered in", "Heard"]);
        for row in rows {
            table.row([row.host.to_string(), row.presence.as_str().to_owned(), millis(row.median_us), heard(row)]);
        }
        return table.render();
    }
    let mut table = Table::new(["Name", "State", "Answered", "Fastest", "Median", "Slowest", "Heard"]);
    for row in rows {
        table.row([
            row.host.to_string(),
            row.presence.as_str().to_owned(),
            format!("{} of {rounds}", row.answered),
            millis(row.min_us),
            millis(row.median_us),
            millis(row.max_us),
            heard(row),
        ]);
    }
    table.render()
}

/// `1.48 ms`.
fn millis(micros: Option<u64>) -> String {
    micros.map(|micros| format!("{}.{:02} ms", micros / 1000, micros % 1000 / 10)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microseconds_are_shown_as_milliseconds() {
        assert_eq!(millis(Some(1_489)), "1.48 ms");
        assert_eq!(millis(Some(60)), "0.06 ms");
        assert_eq!(millis(None), "");
    }
}
