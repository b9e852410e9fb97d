//! `maglica audit`: who asked for what, and whether the record of it is whole. The chain is made anew here, from the lines
//! as they stand in the client worker's file: nobody has to be believed but whoever noted a head.

use std::collections::HashMap;

use clap::Args;
use maglica_proto::{
    audit::{Asked, AuditEntry, AuditEvent, AuditHead, AuditPage, AuditPlace, Chain, Verdict},
    request::{Answer, Request},
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

/// Lines of a page.
const PAGE: u32 = 5000;

/// Show who asked for what, the latest last.
#[derive(Debug, Args)]
pub struct Audit {
    /// How many at the most.
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Not older than this: a time such as 2h or 7d, or a moment such as 2026-11-21 or 2026-11-21T09:00:00+09:00.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what this operator or host asked.
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
    /// Only this verb, such as submit or host-revoke.
    #[arg(long, value_name = "VERB")]
    verb: Option<String>,
    /// Only about this virtual machine, host, operator or job.
    #[arg(long, value_name = "NAME")]
    object: Option<String>,
    /// Read all of it and check that no line was removed, changed, put in or moved.
    #[arg(long, conflicts_with_all = ["since", "operator", "verb", "object"])]
    verify: bool,
    /// With --verify: a head that was noted earlier, to see whether the end was cut off or everything made anew.
    #[arg(long, value_name = "SEQ:HASH", requires = "verify")]
    head: Option<AuditHead>,
}

/// What `-o json` and `-o yaml` show.
#[derive(Serialize)]
struct Shown {
    entries: Vec<Row>,
    head: AuditHead,
    flaw: Option<String>,
}

/// What `--verify` shows so.
#[derive(Serialize)]
struct Verified {
    sound: bool,
    lines: u64,
    first: Option<u64>,
    head: Option<AuditHead>,
    flaws: Vec<String>,
}

/// One that is shown: what was asked with what came of it, or what the audit tells of itself.
#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    entry: AuditEntry,
    /// What came of it, whichever line has it; none if that is not known.
    result: Option<Verdict>,
}

/// What of the audit is wanted.
struct Wanted {
    since: Timestamp,
    operator: Option<String>,
    verb: Option<String>,
    object: Option<String>,
}

impl Wanted {
    fn fits(&self, entry: &AuditEntry) -> bool {
        let AuditEvent::Asked(asked) = &entry.what else { return self.everything() };
        let same = |wanted: &Option<String>, have: Option<&str>| wanted.as_deref().is_none_or(|w| have == Some(w));
        let job = asked.job.map(|job| job.to_string());
        entry.at >= self.since
            && same(&self.operator, Some(&asked.who))
            && same(&self.verb, Some(&asked.verb))
            && (same(&self.object, asked.object.as_deref()) || same(&self.object, job.as_deref()))
    }

    const fn everything(&self) -> bool {
        self.operator.is_none() && self.verb.is_none() && self.object.is_none()
    }
}

impl Audit {
    pub(super) async fn run(self, app: &mut App<'_>) -> Result<Exit, Error> {
        if self.verify { verify(app, self.head).await } else { self.list(app).await }
    }

    /// Reads backwards until there is enough.
    async fn list(self, app: &mut App<'_>) -> Result<Exit, Error> {
        let since = self.since.as_deref().map(|text| moment(text, jiff::Timestamp::now())).transpose();
        let since = since.map_err(|why| Error::Input { what: "--since".into(), why })?.unwrap_or_default();
        let most = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let wanted = Wanted { since, operator: self.operator, verb: self.verb, object: self.object };
        let (mut rows, mut outcomes, mut from, mut later) = (Vec::new(), HashMap::new(), None, None::<String>);
        let (mut head, mut flaw) = (None, None);
        // What is asked has two lines; where only some are wanted, many are read.
        let size = if wanted.everything() { self.limit.saturating_mul(3).saturating_add(20).min(PAGE) } else { PAGE };
        loop {
            let page = ask(app, from, true, size).await?;
            let mut chain = Chain::part();
            let entries: Vec<AuditEntry> = page.lines.iter().filter_map(|line| chain.read(line)).collect();
            match &later {
                Some(later) => drop(chain.read(later)),
                None if chain.last().is_some_and(|last| last != page.head) => {
                    flaw = Some("the last line is not the one that the client worker names".to_owned());
                }
                None => {}
            }
            head.get_or_insert(page.head);
            flaw = flaw.or(page.flaw).or_else(|| chain.flaws().first().map(ToString::to_string));
            let old = entries.first().is_some_and(|entry| entry.at < since);
            for entry in entries.into_iter().rev() {
                if let AuditEvent::Outcome { of, outcome } = entry.what {
                    outcomes.insert(of, outcome);
                } else if rows.len() < most && wanted.fits(&entry) && (app.out.verbose() || worth_showing(&entry)) {
                    rows.push(Row::of(entry, &mut outcomes));
                }
            }
            later = page.lines.into_iter().next().or(later);
            from = page.next;
            if rows.len() >= most || old || from.is_none() {
                break;
            }
        }
        rows.reverse();
        let Some(head) = head else { return Err(Error::Unexpected("audit")) };
        let shown = Shown { entries: rows, head, flaw };
        let table = || {
            let mut table = Table::new(["When", "Who", "Asked for", "Object", "Detail", "Job", "Outcome"]);
            shown.entries.iter().for_each(|row| row.add_to(&mut table));
            table.render()
        };
        let numbers = || shown.entries.iter().map(|row| row.entry.seq.to_string()).collect();
        app.out.show(&shown, table, numbers)?;
        match shown.flaw {
            None => Ok(Exit::Ok),
            Some(why) => Err(Error::Audit { why, more: None }),
        }
    }
}

impl Row {
    fn of(entry: AuditEntry, outcomes: &mut HashMap<u64, Verdict>) -> Self {
        let result = match &entry.what {
            AuditEvent::Asked(asked) => asked.outcome.or_else(|| outcomes.remove(&entry.seq)),
            AuditEvent::Begun { .. }
            | AuditEvent::Outcome { .. }
            | AuditEvent::Torn { .. }
            | AuditEvent::Broken { .. }
            | AuditEvent::Other => None,
        };
        Self { entry, result }
    }

    fn add_to(&self, table: &mut Table) {
        let when = time::moment(self.entry.at);
        let itself = |what: &str, detail: String| {
            let none = String::new;
            [when.clone(), "(audit)".into(), what.to_owned(), none(), detail, none(), none()]
        };
        table.row(match &self.entry.what {
            AuditEvent::Asked(asked) => {
                let Asked { who, verb, object, detail, job, unlisted, .. } = asked;
                let more = if *unlisted > 0 { format!(" (and {unlisted} more)") } else { String::new() };
                [
                    when,
                    who.clone(),
                    format!("{verb}{more}"),
                    object.clone().unwrap_or_default(),
                    detail.clone().unwrap_or_default(),
                    job.map_or_else(String::new, |job| job.to_string()),
                    self.result.map_or_else(|| "unknown".to_owned(), |result| result.to_string()),
                ]
            }
            AuditEvent::Begun { program, .. } => itself("file begun", program.clone()),
            AuditEvent::Torn { bytes, .. } => itself("line torn", format!("{bytes} bytes were cut off")),
            AuditEvent::Broken { line, why } => itself("chain broken", format!("line {line} of the file: {why}")),
            AuditEvent::Outcome { .. } | AuditEvent::Other => itself("something newer", String::new()),
        });
    }
}

/// That a file begins is a detail.
const fn worth_showing(entry: &AuditEntry) -> bool {
    !matches!(entry.what, AuditEvent::Begun { .. })
}

/// Reads everything, forwards.
async fn verify(app: &mut App<'_>, noted: Option<AuditHead>) -> Result<Exit, Error> {
    let (mut chain, mut from) = (Chain::whole().against(noted), None);
    let mut flaws: Vec<String> = Vec::new();
    loop {
        let page = ask(app, from, false, PAGE).await?;
        page.lines.iter().for_each(|line| drop(chain.read(line)));
        from = page.next;
        if from.is_none() {
            chain.end();
            flaws.extend(chain.flaws().iter().map(ToString::to_string));
            if chain.last() != Some(page.head) {
                flaws.push(format!("the client worker names {} as the last line, which it is not", page.head));
            }
            break;
        }
    }
    let verified = Verified {
        sound: flaws.is_empty(),
        lines: chain.lines(),
        first: chain.first(),
        head: chain.last(),
        flaws: flaws.clone(),
    };
    let text = || match (verified.first, verified.head) {
        (Some(first), Some(head)) if verified.sound => {
            format!("lines {first} to {} hang together\nhead {head}", head.seq)
        }
        _ => flaws.join("\n"),
    };
    let name = || verified.head.map(|head| head.to_string()).into_iter().collect();
    app.out.show(&verified, text, name)?;
    let mut told = flaws.into_iter();
    match told.next() {
        None => Ok(Exit::Ok),
        Some(why) => Err(Error::Audit { why, more: Some(told.count()) }),
    }
}

async fn ask(app: &mut App<'_>, from: Option<AuditPlace>, back: bool, limit: u32) -> Result<AuditPage, Error> {
    let request = Request::Audit { from, back, limit };
    let Answer::Audit(page) = app.ask(&request).await? else { return Err(Error::Unexpected(request.verb())) };
    Ok(*page)
}

/// A moment that a person gives: how long ago, a day, or a moment with or without its offset.
fn moment(text: &str, now: jiff::Timestamp) -> Result<Timestamp, String> {
    let local = |at: jiff::civil::DateTime| at.to_zoned(jiff::tz::TimeZone::system()).map(|at| at.timestamp()).ok();
    let at = match input::duration(text) {
        Ok(ago) => now.checked_sub(ago).ok(),
        Err(_) => text
            .parse::<jiff::Timestamp>()
            .ok()
            .or_else(|| text.parse().ok().and_then(local))
            .or_else(|| text.parse::<jiff::civil::Date>().ok().and_then(|day| local(day.at(0, 0, 0, 0)))),
    };
    let millis = at.and_then(|at| u64::try_from(at.as_millisecond()).ok());
    millis
        .map(Timestamp::from_millis)
        .ok_or_else(|| format!("{text:?} is no time: write 2h, 7d, 2026-11-21 or 2026-11-21T09:00:00+09:00"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_given_as_an_age_a_day_or_a_moment() {
        let now: jiff::Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let millis = |text: &str| moment(text, now).unwrap().as_millis();
        assert_eq!(millis("2h"), 1_795_255_200_000);
        assert_eq!(millis("2026-11-21T10:00:00Z"), 1_795_255_200_000);
        assert_eq!(millis("2026-11-21T19:00:00+09:00"), 1_795_255_200_000);
        assert!(millis("2026-11-21").abs_diff(1_795_219_200_000) <= 14 * 3_600_000);
        assert!(millis("2026-11-21T10:00:00").abs_diff(1_795_255_200_000) <= 14 * 3_600_000);
        for wrong in ["", "yesterday", "2026-13-01", "1969-01-01T00:00:00Z"] {
            assert!(moment(wrong, now).is_err(), "{wrong}");
        }
    }
}
