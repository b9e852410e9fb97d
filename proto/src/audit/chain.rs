//! Whether lines of an audit hang together (pure).

use std::fmt;

use super::{AuditEntry, AuditEvent, AuditHead, LineHash, split};

/// The most flaws that are kept; beyond it they are counted.
const FLAWS_MAX: usize = 20;

/// Something is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// Which, counted from 1 in the order of reading.
    pub line: u64,
    /// What.
    pub kind: FlawKind,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlawKind {
    /// It is no line of an audit.
    Unreadable,
    /// The first line is none with which a file begins.
    Headless {
        /// Its number.
        seq: u64,
    },
    /// Lines before it are not there.
    Missing {
        /// The first that is not.
        from: u64,
        /// This one.
        seq: u64,
    },
    /// It was there already, or stands too late.
    Misplaced {
        /// The number that should stand here.
        wanted: u64,
        /// This one.
        seq: u64,
    },
    /// Its hash does not fit: it was changed, or the line before it was and given a new hash.
    Changed {
        /// Its number.
        seq: u64,
    },
    /// It has another hash than was noted: it or one before it was changed, and all hashes after it made anew.
    Rewritten {
        /// Its number.
        seq: u64,
    },
    /// The line that was noted is older than all that are there: its file was put away.
    PutAway {
        /// The first line that is there.
        first: u64,
        /// What was noted.
        noted: u64,
    },
    /// The line that was noted is not there: the end was cut off.
    Cut {
        /// The last line that is there.
        last: u64,
        /// What was noted.
        noted: u64,
    },
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            FlawKind::Unreadable => write!(f, "the {}. line is no line of an audit", self.line),
            FlawKind::Headless { seq } => {
                write!(
                    f,
                    "line {seq} is the first that is there, and no file begins with it: lines before it were removed"
                )
            }
            FlawKind::Missing { from, seq } if from + 1 == *seq => write!(f, "line {from} is missing"),
            FlawKind::Missing { from, seq } => write!(f, "lines {from} to {} are missing", seq.saturating_sub(1)),
            FlawKind::Misplaced { wanted, seq } => write!(f, "line {seq} stands where line {wanted} should"),
            FlawKind::Changed { seq } => {
                write!(f, "line {seq} does not follow on the one before it: one of the two was changed")
            }
            FlawKind::Rewritten { seq } => {
                write!(f, "line {seq} has another hash than was noted: it or lines before it were changed")
            }
            FlawKind::PutAway { first, noted } => {
                write!(f, "line {noted} was noted, but the audit begins with line {first}: it cannot be compared")
            }
            FlawKind::Cut { last, noted } => {
                write!(
                    f,
                    "line {noted} was noted as the last, but the audit ends with line {last}: its end was cut off"
                )
            }
        }
    }
}

/// Reads lines one after another and tells what does not fit. After a flaw it goes on from what the line says of itself,
/// so that every flaw is told once.
#[derive(Debug)]
pub struct Chain {
    last: Option<AuditHead>,
    first: Option<u64>,
    lines: u64,
    /// The first line may be any.
    part: bool,
    /// The line before could not be read, so this one cannot be checked.
    lost: bool,
    noted: Option<AuditHead>,
    met: bool,
    flaws: Vec<Flaw>,
    more: u64,
}

impl Chain {
    /// For all lines of an audit, from the first of a file on.
    #[must_use]
    pub const fn whole() -> Self {
        Self {
            last: None,
            first: None,
            lines: 0,
            part: false,
            lost: false,
            noted: None,
            met: false,
            flaws: Vec::new(),
            more: 0,
        }
    }

    /// For lines that begin anywhere.
    #[must_use]
    pub fn part() -> Self {
        Self { part: true, ..Self::whole() }
    }

    /// The same, checked against a head that was noted elsewhere.
    #[must_use]
    pub fn against(mut self, noted: Option<AuditHead>) -> Self {
        self.noted = noted;
        self
    }

    /// Takes the next line, without its end. Gives what it says, if it can be read.
    pub fn read(&mut self, line: &str) -> Option<AuditEntry> {
        self.lines += 1;
        let taken = split(line)
            .and_then(|(body, hash)| serde_json::from_str::<AuditEntry>(&body).ok().map(|entry| (body, hash, entry)));
        let Some((body, stated, entry)) = taken else {
            self.flaw(FlawKind::Unreadable);
            self.lost = true;
            return None;
        };
        let seq = entry.seq;
        if let Some(kind) = self.judge(&entry, &body, stated) {
            self.flaw(kind);
        }
        if let Some(noted) = self.noted.filter(|noted| noted.seq == seq) {
            self.met = true;
            if noted.hash != stated {
                self.flaw(FlawKind::Rewritten { seq });
            }
        }
        self.lost = false;
        self.first.get_or_insert(seq);
        self.last = Some(AuditHead { seq, hash: stated });
        Some(entry)
    }

    fn judge(&self, entry: &AuditEntry, body: &str, stated: LineHash) -> Option<FlawKind> {
        let seq = entry.seq;
        let previous = match (self.last, &entry.what) {
            _ if self.lost => return None,
            (Some(last), _) if seq > last.seq + 1 => return Some(FlawKind::Missing { from: last.seq + 1, seq }),
            (Some(last), _) if seq <= last.seq => return Some(FlawKind::Misplaced { wanted: last.seq + 1, seq }),
            (Some(last), _) => last.hash,
            (None, AuditEvent::Begun { prev, .. }) => *prev,
            (None, _) if self.part => return None,
            (
                None,
                AuditEvent::Asked(_)
                | AuditEvent::Outcome { .. }
                | AuditEvent::Torn { .. }
                | AuditEvent::Broken { .. }
                | AuditEvent::Other,
            ) => return Some(FlawKind::Headless { seq }),
        };
        (LineHash::after(previous, body) != stated).then_some(FlawKind::Changed { seq })
    }

    fn flaw(&mut self, kind: FlawKind) {
        if self.flaws.len() < FLAWS_MAX {
            self.flaws.push(Flaw { line: self.lines, kind });
        } else {
            self.more += 1;
        }
    }

    /// All lines were read: looks for what was noted.
    pub fn end(&mut self) {
        if let (Some(noted), false) = (self.noted, self.met) {
            let last = self.last.map_or(0, |last| last.seq);
            match self.first {
                Some(first) if noted.seq < first => self.flaw(FlawKind::PutAway { first, noted: noted.seq }),
                _ if self.last.is_none() || noted.seq > last => self.flaw(FlawKind::Cut { last, noted: noted.seq }),
                // Missing in the middle, which has been told.
                Some(_) | None => {}
            }
        }
    }

    /// What does not fit, the first first.
    #[must_use]
    pub fn flaws(&self) -> &[Flaw] {
        &self.flaws
    }

    /// How many flaws there are in all.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.more + u64::try_from(self.flaws.len()).unwrap_or(u64::MAX)
    }

    /// The number of the first line that was read.
    #[must_use]
    pub const fn first(&self) -> Option<u64> {
        self.first
    }

    /// The last line that was read.
    #[must_use]
    pub const fn last(&self) -> Option<AuditHead> {
        self.last
    }

    /// How many lines were read.
    #[must_use]
    pub const fn lines(&self) -> u64 {
        self.lines
    }

    /// Whether the head that was noted is of a line that was read.
    #[must_use]
    pub const fn met(&self) -> bool {
        self.met
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        audit::{Asked, Capacity, Verdict},
        fault::Code,
        key::KeyPair,
        units::Timestamp,
    };

    /// An audit of so many lines, its files beginning at these.
    fn audit(lines: u64, files: &[u64]) -> Vec<String> {
        let key = KeyPair::generate().unwrap().public().fingerprint();
        let mut previous = LineHash::from_bytes([7; 32]);
        (0..lines)
            .map(|seq| {
                let what = if seq == 0 || files.contains(&seq) {
                    AuditEvent::Begun { prev: previous, key: key.clone(), program: "0.1.0".into() }
                } else if seq % 3 == 1 {
                    AuditEvent::Asked(Asked {
                        who: "alice".into(),
                        role: Capacity::Operator,
                        key: key.clone(),
                        verb: "host-revoke".into(),
                        object: Some(format!("host{seq}")),
                        detail: None,
                        job: None,
                        outcome: (seq % 2 == 0).then_some(Verdict::Fault(Code::Forbidden)),
                        unlisted: 0,
                    })
                } else {
                    AuditEvent::Outcome { of: seq - 1, outcome: Verdict::Ok }
                };
                let entry = AuditEntry { seq, at: Timestamp::from_millis(seq), what };
                let (line, hash) = entry.line(previous).unwrap();
                previous = hash;
                line
            })
            .collect()
    }

    fn check(lines: &[String], noted: Option<AuditHead>) -> Chain {
        let mut chain = Chain::whole().against(noted);
        for line in lines {
            chain.read(line);
        }
        chain.end();
        chain
    }

    fn first(lines: &[String], noted: Option<AuditHead>) -> Option<(u64, FlawKind)> {
        check(lines, noted).flaws().first().map(|flaw| (flaw.line, flaw.kind.clone()))
    }

    #[test]
    fn an_untouched_audit_holds_from_its_first_file_and_from_a_later_one() {
        let lines = audit(20, &[8]);
        let chain = check(&lines, None);
        assert_eq!((chain.count(), chain.lines(), chain.last().unwrap().seq), (0, 20, 19));
        assert_eq!(check(&lines[8..], None).count(), 0, "earlier files were put away");
        let noted = check(&lines[..5], None).last();
        assert_eq!(first(&lines[8..], noted), Some((12, FlawKind::PutAway { first: 8, noted: 4 })));
        let mut part = Chain::part();
        for line in &lines[3..12] {
            assert!(part.read(line).is_some());
        }
        assert_eq!((part.count(), part.first()), (0, Some(3)));
    }

    #[test]
    fn what_was_done_to_an_audit_is_told_by_the_first_line_that_does_not_fit() {
        let lines = audit(12, &[]);
        let cut = |from: usize, to: usize| [&lines[..from], &lines[to..]].concat();
        assert_eq!(first(&cut(3, 4), None), Some((4, FlawKind::Missing { from: 3, seq: 4 })));
        assert_eq!(first(&cut(0, 2), None), Some((1, FlawKind::Headless { seq: 2 })));
        let mut swapped = lines.clone();
        swapped.swap(5, 6);
        assert_eq!(first(&swapped, None), Some((6, FlawKind::Missing { from: 5, seq: 6 })));
        let mut repeated = lines.clone();
        repeated.insert(5, lines[4].clone());
        assert_eq!(first(&repeated, None), Some((6, FlawKind::Misplaced { wanted: 5, seq: 4 })));
        let mut changed = lines.clone();
        changed[4] = changed[4].replace("alice", "mallo");
        assert_eq!(first(&changed, None), Some((5, FlawKind::Changed { seq: 4 })));
        assert_eq!(check(&changed, None).count(), 1, "the lines after it are sound");
        let mut rubbish = lines.clone();
        rubbish[4].truncate(30);
        assert_eq!(first(&rubbish, None), Some((5, FlawKind::Unreadable)));
        assert_eq!(check(&rubbish, None).count(), 1);
    }

    #[test]
    fn a_tail_that_was_cut_and_a_chain_that_was_made_anew_show_against_a_noted_head() {
        let lines = audit(12, &[]);
        let head = check(&lines, None).last();
        assert!(check(&lines, head).met());
        assert_eq!(first(&lines[..9], head), Some((9, FlawKind::Cut { last: 8, noted: 11 })));
        assert_eq!(first(&[], head), Some((0, FlawKind::Cut { last: 0, noted: 11 })));
        // Another key's audit of the same length: sound in itself.
        let other = audit(12, &[]);
        assert_eq!(check(&other, None).count(), 0);
        assert_eq!(first(&other, head), Some((12, FlawKind::Rewritten { seq: 11 })));
    }

    #[test]
    fn a_head_reads_back_as_it_is_shown() {
        let head = check(&audit(2, &[]), None).last().unwrap();
        assert_eq!(head.to_string().parse::<AuditHead>(), Ok(head));
        for wrong in ["", "1", "1:zz", ":", &head.to_string().to_uppercase()] {
            assert!(wrong.parse::<AuditHead>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_line_removed_moved_repeated_or_changed_is_found(
            count in 3_u64..24, at in 0_usize..1000, to in 0_usize..1000, byte in 0_usize..4000, bit in 0_u8..7, deed in 0_u8..4,
        ) {
            let lines = audit(count, &[count / 2 + 1]);
            let head = check(&lines, None).last();
            let (at, to) = (at % lines.len(), to % lines.len());
            let mut done = lines.clone();
            match deed {
                0 => { done.remove(at); }
                1 => { let line = done.remove(at); done.insert(to, line); }
                2 => done.insert(to, lines[at].clone()),
                _ => {
                    let mut bytes = done[at].clone().into_bytes();
                    let byte = byte % bytes.len();
                    bytes[byte] ^= 1 << bit;
                    done[at] = String::from_utf8_lossy(&bytes).into_owned();
                }
            }
            prop_assume!(done != lines);
            prop_assert!(check(&done, head).count() > 0);
            // Without a noted head all is found but a missing end (and a beginning that is a file's).
            let cut = deed == 0 && (at + 1 == lines.len());
            prop_assert_eq!(check(&done, None).count() == 0, cut);
        }
    }
}
