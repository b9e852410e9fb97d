//! One line: what was shown lately, what is still to be typed, who looks. Pure; the moment is given.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use maglica_proto::{
    console::{CHUNK_MAX, Chunk, ConsoleInput, ConsoleOutput, ConsoleView, LineReport},
    fault::{Code, Fault},
    job::VmTask,
    name::{HostName, OperatorName},
};
use uuid::Uuid;

/// How much of what was shown is kept for those who are slow.
const KEPT: usize = 256 << 10;
/// How much of it one who comes new is given: some screens.
const SCROLL: u64 = 8 << 10;
/// How much may wait to be typed. A writer hears how much was taken, and says the rest again.
const TYPED_MAX: usize = 64 << 10;
/// How many may look at one line.
const USERS: usize = 64;
/// After so long without a word from whoever looks at it, he is gone: a long poll takes 25 s.
const GONE: Duration = Duration::from_secs(40);

/// One who looks, or types.
#[derive(Debug)]
struct User {
    by: OperatorName,
    writes: bool,
    /// How much he has typed.
    typed: u64,
    seen: Instant,
}

/// A console as its host has it open.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) host: HostName,
    pub(super) vm: VmTask,
    /// What its host knows it by; another after the host worker restarted.
    pub(super) number: Uuid,
    /// Where the host's own counts begin: 0, or where they were when its worker restarted.
    shown_base: u64,
    typed_base: u64,
    /// Whether the host has said anything of it.
    pub(super) heard: bool,
    /// When the host was last heard of it, or it was opened.
    pub(super) heard_at: Instant,
    /// When the host was last told anything.
    pub(super) said_at: Instant,
    /// Why there will be no more.
    pub(super) ended: Option<Fault>,
    shown: VecDeque<u8>,
    shown_from: u64,
    typed: VecDeque<u8>,
    typed_from: u64,
    users: HashMap<Uuid, User>,
}

impl Line {
    pub(super) fn new(host: HostName, vm: VmTask, now: Instant) -> Self {
        Self {
            host,
            vm,
            number: Uuid::new_v4(),
            shown_base: 0,
            typed_base: 0,
            heard: false,
            heard_at: now,
            said_at: now,
            ended: None,
            shown: VecDeque::new(),
            shown_from: 0,
            typed: VecDeque::new(),
            typed_from: 0,
            users: HashMap::new(),
        }
    }

    fn shown_to(&self) -> u64 {
        self.shown_from + self.shown.len() as u64
    }

    /// Whether something waits to be typed.
    pub(super) fn has_typed(&self) -> bool {
        !self.typed.is_empty()
    }

    /// Somebody opens it: the same twice is the same.
    pub(super) fn enter(
        &mut self,
        id: Uuid,
        by: &OperatorName,
        writes: bool,
        force: bool,
        now: Instant,
    ) -> Result<(), Fault> {
        if let Some(user) = self.users.get_mut(&id) {
            user.seen = now;
            return if user.by == *by { Ok(()) } else { Err(unknown(id)) };
        }
        if self.users.len() >= USERS {
            let message = format!("{USERS} people look at the console of {} already", self.vm.name);
            return Err(Fault::new(Code::Unavailable, message).about(self.vm.name.to_string()));
        }
        if writes && let Some(other) = self.users.values_mut().find(|user| user.writes) {
            if !force {
                let message = format!("{} types into the console of {} already", other.by, self.vm.name);
                return Err(Fault::new(Code::Conflict, message).about(self.vm.name.to_string()));
            }
            other.writes = false;
        }
        self.users.insert(id, User { by: by.clone(), writes, typed: 0, seen: now });
        Ok(())
    }

    /// Somebody leaves.
    pub(super) fn leave(&mut self, id: Uuid, by: &OperatorName) {
        if self.users.get(&id).is_some_and(|user| user.by == *by) {
            self.users.remove(&id);
        }
    }

    /// Those who have not been heard of for long leave by themselves; tells whether nobody is left.
    pub(super) fn sweep(&mut self, waits: impl Fn(&Uuid) -> bool, now: Instant) -> bool {
        self.users.retain(|id, user| waits(id) || now.saturating_duration_since(user.seen) < GONE);
        self.users.is_empty()
    }

    /// Who uses it under this id.
    pub(super) fn is_of(&mut self, id: Uuid, by: &OperatorName, now: Instant) -> bool {
        let user = self.users.get_mut(&id).filter(|user| user.by == *by);
        user.map(|user| user.seen = now).is_some()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &Uuid> {
        self.users.keys()
    }

    pub(super) fn view(&self, id: Uuid) -> ConsoleView {
        ConsoleView {
            vm: self.vm.name.clone(),
            host: self.host.clone(),
            from: self.shown_from.max(self.shown_to().saturating_sub(SCROLL)),
            typed: self.users.get(&id).map_or(0, |user| user.typed),
            viewers: u32::try_from(self.users.len()).unwrap_or(u32::MAX),
            writer: self.users.values().find(|user| user.writes).map(|user| user.by.to_string()),
        }
    }

    /// What was shown from there on; none if there is nothing yet.
    pub(super) fn read(&self, from: u64) -> Option<ConsoleOutput> {
        let ended = self.ended.clone();
        if from >= self.shown_to() && ended.is_none() {
            return None;
        }
        let from = from.clamp(self.shown_from, self.shown_to());
        let skip = usize::try_from(from - self.shown_from).unwrap_or(usize::MAX);
        let output: Vec<u8> = self.shown.iter().skip(skip).take(CHUNK_MAX).copied().collect();
        // The end is told with the last piece.
        let last = from + output.len() as u64 == self.shown_to();
        Some(ConsoleOutput { from, output: Chunk(output), ended: ended.filter(|_| last) })
    }

    /// An answer without anything in it.
    pub(super) fn nothing(&self) -> ConsoleOutput {
        ConsoleOutput { from: self.shown_to(), output: Chunk::default(), ended: None }
    }

    /// Somebody types. Gives how much he has typed with it, and what the host is to hear of it at once.
    pub(super) fn write(&mut self, id: Uuid, input: &ConsoleInput) -> Result<(u64, Option<ConsoleInput>), Fault> {
        if let Some(ended) = &self.ended {
            return Err(ended.clone());
        }
        let Some(user) = self.users.get_mut(&id) else { return Err(unknown(id)) };
        if !user.writes {
            let message =
                format!("the console of {} is open to look at only, or somebody else types into it now", self.vm.name);
            return Err(Fault::new(Code::Conflict, message).about(self.vm.name.to_string()));
        }
        let bytes = &input.input.0;
        let Some(skip) = user.typed.checked_sub(input.from).and_then(|skip| usize::try_from(skip).ok()) else {
            return Err(Fault::new(Code::InvalidInput, format!("{} bytes were typed, not {}", user.typed, input.from)));
        };
        let room = TYPED_MAX.saturating_sub(self.typed.len());
        let new: Vec<u8> = bytes.iter().skip(skip).take(room.min(CHUNK_MAX)).copied().collect();
        user.typed += new.len() as u64;
        let taken = user.typed;
        let from = self.typed_from + self.typed.len() as u64 - self.typed_base;
        self.typed.extend(&new);
        Ok((taken, (!new.is_empty()).then_some(ConsoleInput { from, input: Chunk(new) })))
    }

    /// What the host is to type from this position on, by its own count.
    pub(super) fn input(&self, from: u64) -> ConsoleInput {
        let from = from.saturating_add(self.typed_base).max(self.typed_from);
        let skip = usize::try_from(from - self.typed_from).unwrap_or(usize::MAX);
        ConsoleInput {
            from: from - self.typed_base,
            input: Chunk(self.typed.iter().skip(skip).take(CHUNK_MAX).copied().collect()),
        }
    }

    /// The host says something; a part of it may have been heard before.
    pub(super) fn report(&mut self, report: LineReport, now: Instant) {
        (self.heard, self.heard_at) = (true, now);
        let to = self.shown_to();
        let from = report.from.saturating_add(self.shown_base);
        if let Some(skip) = to.checked_sub(from).and_then(|skip| usize::try_from(skip).ok()) {
            self.shown.extend(report.output.0.iter().skip(skip).take(CHUNK_MAX));
            let surplus = self.shown.len().saturating_sub(KEPT);
            self.shown.drain(..surplus);
            self.shown_from += surplus as u64;
        }
        let typed_to = self.typed_from + self.typed.len() as u64;
        let taken = report.taken.saturating_add(self.typed_base).clamp(self.typed_from, typed_to);
        self.typed.drain(..usize::try_from(taken - self.typed_from).unwrap_or(usize::MAX).min(self.typed.len()));
        self.typed_from = taken;
        if self.ended.is_none() {
            self.ended = report.ended;
        }
    }

    /// Its host worker restarted, and counts from the beginning: what was not typed yet is typed then.
    pub(super) fn begin_anew(&mut self, now: Instant) {
        (self.number, self.heard, self.heard_at) = (Uuid::new_v4(), false, now);
        (self.shown_base, self.typed_base) = (self.shown_to(), self.typed_from);
    }
}

/// Nobody has a console of this id, or not the one who asks.
pub(super) fn unknown(id: Uuid) -> Fault {
    Fault::new(Code::NotFound, "this console is not open any more").about(id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Uuid = Uuid::from_u128(1);
    const B: Uuid = Uuid::from_u128(2);

    fn line() -> (Line, OperatorName, Instant) {
        let vm = VmTask { name: "vm0".parse().unwrap(), uuid: Uuid::nil() };
        let now = Instant::now();
        (Line::new("h1".parse().unwrap(), vm, now), "alice".parse().unwrap(), now)
    }

    fn report(from: u64, output: &[u8], taken: u64) -> LineReport {
        LineReport { line: Uuid::nil(), from, output: Chunk(output.to_vec()), taken, ended: None }
    }

    fn typed(from: u64, text: &str) -> ConsoleInput {
        ConsoleInput { from, input: Chunk(text.as_bytes().to_vec()) }
    }

    #[test]
    fn what_is_said_twice_is_shown_once_and_a_gap_is_not_filled_with_what_comes_later() {
        let (mut line, _, now) = line();
        line.report(report(0, b"login", 0), now);
        line.report(report(0, b"login: ", 0), now);
        assert_eq!(line.read(0).unwrap().output.0, b"login: ");
        line.report(report(9, b"xx", 0), now);
        assert_eq!(line.read(7), None);
        assert_eq!(line.read(3).unwrap().output.0, b"in: ");
    }

    #[test]
    fn a_slow_reader_hears_where_the_rest_begins() {
        let (mut line, _, now) = line();
        let piece = vec![b'x'; CHUNK_MAX];
        for number in 0..20 {
            line.report(report(number * CHUNK_MAX as u64, &piece, 0), now);
        }
        let late = line.read(0).unwrap();
        assert_eq!((late.from, late.output.0.len()), ((20 * CHUNK_MAX - KEPT) as u64, CHUNK_MAX));
    }

    #[test]
    fn each_byte_is_typed_once_whatever_is_lost_or_repeated() {
        let (mut line, alice, now) = line();
        line.enter(A, &alice, true, false, now).unwrap();
        let (taken, said) = line.write(A, &typed(0, "ls")).unwrap();
        assert_eq!((taken, said), (2, Some(typed(0, "ls"))));
        // The answer was lost: the same again, with more.
        let (taken, said) = line.write(A, &typed(0, "ls\n")).unwrap();
        assert_eq!((taken, said), (3, Some(typed(2, "\n"))));
        // The first broadcast was lost: the host has nothing, and hears all of it.
        line.report(report(0, b"", 0), now);
        assert_eq!(line.input(0), typed(0, "ls\n"));
        line.report(report(0, b"", 2), now);
        assert_eq!(line.input(2), typed(2, "\n"));
        line.report(report(0, b"", 99), now);
        assert!(!line.has_typed());
        assert_eq!(line.write(A, &typed(9, "x")).unwrap_err().code, Code::InvalidInput);
    }

    #[test]
    fn a_writer_hears_how_much_was_taken_when_the_guest_does_not_listen() {
        let (mut line, alice, now) = line();
        line.enter(A, &alice, true, false, now).unwrap();
        let long = "x".repeat(CHUNK_MAX);
        let mut taken = 0;
        for _ in 0..5 {
            taken = line.write(A, &typed(taken, &long)).unwrap().0;
        }
        assert_eq!(taken, TYPED_MAX as u64);
    }

    #[test]
    fn one_types_and_others_look_until_somebody_takes_his_place() {
        let (mut line, alice, now) = line();
        let bob: OperatorName = "bob".parse().unwrap();
        line.enter(A, &alice, true, false, now).unwrap();
        let refused = line.enter(B, &bob, true, false, now).unwrap_err();
        assert!(refused.code == Code::Conflict && refused.message.contains("alice"), "{refused}");
        line.enter(Uuid::from_u128(3), &bob, false, false, now).unwrap();
        line.enter(B, &bob, true, true, now).unwrap();
        assert_eq!(line.view(B).writer.as_deref(), Some("bob"));
        assert_eq!(line.write(A, &typed(0, "x")).unwrap_err().code, Code::Conflict);
        assert!(!line.is_of(B, &alice, now), "an id is good for the one who made it");
        assert!(line.enter(B, &alice, false, false, now).is_err());
    }

    #[test]
    fn those_who_are_silent_leave_by_themselves_unless_they_wait() {
        let (mut line, alice, now) = line();
        line.enter(A, &alice, true, false, now).unwrap();
        let later = now + GONE;
        assert!(!line.sweep(|id| *id == A, later));
        assert!(line.sweep(|_| false, later));
    }

    #[test]
    fn a_host_worker_that_restarts_counts_anew_and_types_what_was_left() {
        let (mut line, alice, now) = line();
        line.enter(A, &alice, true, false, now).unwrap();
        line.report(report(0, b"login: ", 0), now);
        line.write(A, &typed(0, "root")).unwrap();
        line.report(report(7, b"ro", 2), now);
        let before = line.number;
        line.begin_anew(now);
        assert_ne!(line.number, before);
        assert_eq!(line.input(0), typed(0, "ot"), "by the new count");
        line.report(report(0, b"ot", 2), now);
        assert!(!line.has_typed());
        assert_eq!(line.read(0).unwrap().output.0, b"login: root");
        let (taken, said) = line.write(A, &typed(4, "!")).unwrap();
        assert_eq!((taken, said), (5, Some(typed(2, "!"))));
    }

    #[test]
    fn the_end_is_told_with_the_last_of_what_was_shown() {
        let (mut line, _, now) = line();
        let piece = vec![b'x'; CHUNK_MAX];
        line.report(report(0, &piece, 0), now);
        let end = Fault::new(Code::WrongState, "off");
        line.report(LineReport { ended: Some(end.clone()), ..report(CHUNK_MAX as u64, b"bye", 0) }, now);
        assert_eq!(line.read(0).unwrap().ended, None);
        let last = line.read(CHUNK_MAX as u64).unwrap();
        assert_eq!((last.output.0.as_slice(), last.ended), (b"bye".as_slice(), Some(end.clone())));
        assert_eq!(line.read(u64::MAX).unwrap().ended, Some(end));
    }
}
