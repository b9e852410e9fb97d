//! Which virtual machines a command is about: names, patterns, or all of them, by host, state and image.

use std::collections::BTreeSet;

use clap::{Args, ValueEnum};
use maglica_proto::{
    inventory::DomainState,
    job::VmRef,
    name::{DomainName, HostName},
    request::{Absence, Answer, Request, VmRow},
};

use crate::{app::App, error::Error, input::pattern::Pattern};

/// A state, as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum State {
    /// It runs.
    Running,
    /// It is off.
    Off,
    /// It stands still in memory.
    Paused,
    /// It crashed.
    Crashed,
}

impl State {
    const fn is(self, state: DomainState) -> bool {
        match self {
            Self::Running => matches!(state, DomainState::Running | DomainState::Blocked | DomainState::ShuttingDown),
            Self::Off => matches!(state, DomainState::Off),
            Self::Paused => matches!(state, DomainState::Paused | DomainState::Suspended),
            Self::Crashed => matches!(state, DomainState::Crashed),
        }
    }
}

/// What is wanted of a list.
#[derive(Debug, Clone, Default, Args)]
pub struct Filter {
    /// Only those of this host.
    #[arg(long, visible_alias = "host", value_name = "HOST")]
    pub(super) on: Option<HostName>,
    /// Only those in this state; may be repeated.
    #[arg(long, value_enum, value_name = "STATE", value_delimiter = ',')]
    state: Vec<State>,
    /// Only those cloned from this image, or from images that fit this pattern.
    #[arg(long, value_name = "IMAGE")]
    image: Option<Pattern>,
}

impl Filter {
    /// Whether a row is wanted.
    fn wants(&self, row: &VmRow) -> bool {
        let image = |pattern: &Pattern| row.image.as_ref().is_some_and(|image| pattern.fits(image.as_str()));
        self.on.as_ref().is_none_or(|on| *on == row.host)
            && (self.state.is_empty() || self.state.iter().any(|state| state.is(row.state)))
            && self.image.as_ref().is_none_or(image)
    }

    const fn looks_at_machines(&self) -> bool {
        !self.state.is_empty() || self.image.is_some()
    }

    /// Leaves of a list what is wanted.
    pub(super) fn apply(&self, rows: &mut Vec<VmRow>, absent: &mut Vec<Absence>) {
        rows.retain(|row| self.wants(row));
        if let Some(on) = &self.on {
            absent.retain(|absence| absence.host == *on);
        }
    }
}

/// The machines to act on.
#[derive(Debug, Args)]
pub struct Targets {
    /// Which: names, or patterns as a shell has them, such as 'web-*' (in quotes).
    #[arg(value_name = "NAME")]
    bare: Vec<Pattern>,
    /// A name, as an option.
    #[arg(long = "name", value_name = "NAME")]
    named: Vec<Pattern>,
    /// All of them, as far as --on, --state and --image leave any.
    #[arg(long, conflicts_with_all = ["bare", "named"])]
    all: bool,
    /// Which of them.
    #[command(flatten)]
    filter: Filter,
}

/// What a command is to act on.
pub(super) enum Selected {
    /// One machine, named.
    One(VmRef),
    /// Several, or perhaps several.
    Many(Many),
}

/// Machines that were chosen.
pub(super) struct Many {
    /// Those to act on.
    pub(super) vms: Vec<VmRef>,
    /// Those that were left out, for their host is not up.
    pub(super) away: Vec<VmRef>,
    /// Whether all were named, none found by a pattern.
    pub(super) named: bool,
}

/// All rows of the list, and the hosts that are not up.
pub(super) async fn list(app: &mut App<'_>) -> Result<(Vec<VmRow>, Vec<Absence>), Error> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let request = Request::VmList { after: after.clone() };
        let Answer::Vms { listing, next } = app.ask(&request).await? else {
            return Err(Error::Unexpected(request.verb()));
        };
        rows.extend(listing.rows);
        // A page that leads to itself would never end.
        if next.is_none() || next <= after {
            return Ok((rows, listing.absent));
        }
        after = next;
    }
}

impl Targets {
    /// Finds out which are meant.
    pub(super) async fn select(self, app: &mut App<'_>) -> Result<Selected, Error> {
        let Self { bare, named, all, filter } = self;
        let mut patterns: Vec<Pattern> = Vec::new();
        for pattern in bare.into_iter().chain(named) {
            if !patterns.contains(&pattern) {
                patterns.push(pattern);
            }
        }
        if patterns.is_empty() && !all {
            let message = "the name of the virtual machine is missing: give it bare or as --name=…, or --all";
            return Err(Error::Usage(message.into()));
        }
        let exact =
            |pattern: &Pattern| DomainName::new(pattern.as_str()).map_err(|error| Error::Usage(error.to_string()));
        if let [one] = patterns.as_slice()
            && one.is_plain()
            && !filter.looks_at_machines()
        {
            return Ok(Selected::One(VmRef { name: exact(one)?, host: filter.on }));
        }
        let named = !all && patterns.iter().all(Pattern::is_plain);
        let (rows, absent) = if named && !filter.looks_at_machines() { Default::default() } else { list(app).await? };
        let mut vms = Vec::new();
        for pattern in patterns.iter().filter(|pattern| pattern.is_plain()) {
            let name = exact(pattern)?;
            let found: Vec<&VmRow> = rows.iter().filter(|row| row.name == name).collect();
            // One that is in no list is asked for all the same: the answer says why it cannot be.
            if found.is_empty() || found.iter().any(|row| filter.wants(row)) {
                vms.push(VmRef { name, host: filter.on.clone() });
            }
        }
        let (found, away) = fitting(&rows, &absent, &filter, all, &patterns)?;
        vms.extend(found);
        let mut seen = BTreeSet::new();
        vms.retain(|vm| seen.insert((vm.name.clone(), vm.host.clone())));
        Ok(Selected::Many(Many { vms, away, named }))
    }
}

/// The rows that the patterns and the filter leave: those of hosts that are up, and the others.
fn fitting(
    rows: &[VmRow],
    absent: &[Absence],
    filter: &Filter,
    all: bool,
    patterns: &[Pattern],
) -> Result<(Vec<VmRef>, Vec<VmRef>), Error> {
    let (mut vms, mut away) = (Vec::new(), Vec::new());
    let mut fits = vec![all; patterns.len()];
    for row in rows {
        let mut wanted = all;
        for (fit, pattern) in fits.iter_mut().zip(patterns) {
            if pattern.is_plain() {
                *fit = true;
            } else if pattern.fits(row.name.as_str()) {
                (*fit, wanted) = (true, true);
            }
        }
        if wanted && filter.wants(row) {
            let vm = VmRef { name: row.name.clone(), host: Some(row.host.clone()) };
            if absent.iter().any(|absence| absence.host == row.host) { away.push(vm) } else { vms.push(vm) }
        }
    }
    let stray = patterns.iter().zip(&fits).find(|(pattern, fit)| !**fit && !pattern.is_plain());
    match stray {
        Some((pattern, _)) => Err(Error::NoMatch { pattern: pattern.as_str().to_owned() }),
        None => Ok((vms, away)),
    }
}

#[cfg(test)]
mod tests {
    use maglica_proto::{request::Presence, units::ByteSize};

    use super::*;

    fn row(name: &str, host: &str, state: DomainState, image: Option<&str>) -> VmRow {
        VmRow {
            name: name.parse().unwrap(),
            host: host.parse().unwrap(),
            state,
            vcpus: 1,
            memory: ByteSize::ZERO,
            disk: None,
            image: image.map(|image| image.parse().unwrap()),
            addresses: Vec::new(),
            age_ms: 0,
        }
    }

    #[test]
    fn patterns_and_filters_leave_what_both_want_and_tell_what_is_away() {
        let rows = [
            row("db1", "h1", DomainState::Off, Some("debian.original")),
            row("web1", "h1", DomainState::Off, Some("debian.original")),
            row("web2", "h1", DomainState::Running, Some("debian.original")),
            row("web3", "h2", DomainState::Off, None),
        ];
        let absent = [Absence { host: "h2".parse().unwrap(), presence: Presence::Down, heard: None }];
        let pattern = |text: &str| Pattern::new(text).unwrap();
        let names = |vms: &[VmRef]| vms.iter().map(|vm| vm.name.to_string()).collect::<Vec<_>>();
        let off = Filter { state: vec![State::Off], ..Filter::default() };
        let (vms, away) = fitting(&rows, &absent, &off, false, &[pattern("web*")]).unwrap();
        assert_eq!((names(&vms), names(&away)), (vec!["web1".to_owned()], vec!["web3".to_owned()]));
        let of = Filter { image: Some(pattern("debian*")), ..Filter::default() };
        let (vms, away) = fitting(&rows, &absent, &of, true, &[]).unwrap();
        assert_eq!((names(&vms).len(), away.len()), (3, 0));
        let stray = fitting(&rows, &absent, &Filter::default(), false, &[pattern("web*"), pattern("mail*")]);
        assert!(matches!(stray, Err(Error::NoMatch { pattern }) if pattern == "mail*"));
    }
}
