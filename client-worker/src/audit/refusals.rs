//! Keeps an operator who asks again and again for what its role does not include from filling the disk: so many lines a
//! minute, and beyond them a count. The moment is given.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use maglica_proto::{audit::Asked, key::Fingerprint};

/// So many refusals of one key in a minute have a line of their own.
pub(super) const LINES: u32 = 60;
const MINUTE: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Window {
    began: Instant,
    lines: u32,
    unlisted: u64,
    last: Asked,
}

/// The refusals of the last minute, by key: only enrolled keys come here.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    windows: HashMap<Fingerprint, Window>,
}

impl Refusals {
    /// Somebody was refused: gives the line, if it has one.
    pub(super) fn line(&mut self, mut asked: Asked, now: Instant) -> Option<Asked> {
        let window = self.windows.entry(asked.key.clone()).or_insert_with(|| Window {
            began: now,
            lines: 0,
            unlisted: 0,
            last: asked.clone(),
        });
        if now.saturating_duration_since(window.began) >= MINUTE {
            (window.began, window.lines) = (now, 0);
        }
        if window.lines < LINES {
            window.lines += 1;
            asked.unlisted = std::mem::take(&mut window.unlisted);
            return Some(asked);
        }
        window.unlisted += 1;
        window.last = asked;
        None
    }

    /// The counts whose minute is over, each in the line of the last that was counted; at the end all of them.
    pub(super) fn due(&mut self, now: Instant, end: bool) -> Vec<Asked> {
        let mut lines = Vec::new();
        self.windows.retain(|_, window| {
            let over = end || now.saturating_duration_since(window.began) >= MINUTE;
            if over && window.unlisted > 0 {
                // The line itself is one of those that were counted.
                lines.push(Asked { unlisted: window.unlisted - 1, ..window.last.clone() });
            }
            !over
        });
        lines
    }
}

#[cfg(test)]
mod tests {
    use maglica_proto::{
        audit::{Capacity, Verdict},
        fault::Code,
        key::KeyPair,
    };

    use super::*;

    #[test]
    fn a_minute_has_so_many_lines_and_a_count_of_the_others() {
        let asked = Asked {
            who: "eve".into(),
            role: Capacity::Operator,
            key: KeyPair::generate().unwrap().public().fingerprint(),
            verb: "submit".into(),
            object: None,
            detail: None,
            job: None,
            outcome: Some(Verdict::Fault(Code::Forbidden)),
            unlisted: 0,
        };
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        let lines = (0..1000).filter_map(|_| refusals.line(asked.clone(), start)).count();
        assert_eq!(lines, 60);
        assert!(refusals.due(start + MINUTE / 2, false).is_empty());
        let due = refusals.due(start + MINUTE, false);
        assert_eq!(due.iter().map(|asked| asked.unlisted + 1).collect::<Vec<_>>(), [940]);
        assert!(refusals.due(start + MINUTE * 2, true).is_empty(), "each is counted once");
        // A refusal in the next minute brings the count of the one before with it.
        (0..61).for_each(|_| drop(refusals.line(asked.clone(), start)));
        assert_eq!(refusals.line(asked, start + MINUTE).unwrap().unlisted, 1);
    }
}
