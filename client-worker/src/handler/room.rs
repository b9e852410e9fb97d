//! Lists that would be too large for one message: what can be asked for singly is left out of the largest rows. Pure.

use maglica_proto::{
    codec,
    job::{ImageOutcome, JobRow, JobState, Outcome},
    request::{HostRow, ImageCopy},
};

/// How large a list may be, in bytes: a message has a mebibyte.
const MOST: usize = 900 << 10;
/// How much text a row of jobs keeps of its fault when it has to give way: a thousand such rows fit.
const SENTENCE: usize = 300;

/// Cuts the outcomes of jobs, which `job show` has in full.
pub(super) fn jobs(rows: &mut [JobRow]) {
    if size(rows) <= MOST {
        return;
    }
    rows.iter_mut().for_each(brief);
}

/// Cuts what came of one job to a sentence.
pub(crate) fn brief(row: &mut JobRow) {
    match &mut row.state {
        JobState::Failed { fault } | JobState::Cancelled { fault } => {
            shorten(&mut fault.message);
            (fault.object, fault.similar, fault.left) = (None, Vec::new(), Vec::new());
        }
        JobState::Succeeded {
            outcome: Outcome::Removed { volumes, kept } | Outcome::Image(ImageOutcome::Removed { volumes, kept }),
        } => {
            (*volumes, *kept) = (Vec::new(), Vec::new());
        }
        JobState::Succeeded { outcome: Outcome::Changed { note, why, .. } } => {
            shorten(note);
            why.as_mut().map(shorten);
        }
        JobState::Succeeded { .. }
        | JobState::Queued
        | JobState::Offered
        | JobState::Running
        | JobState::Cancelling
        | JobState::Lost => {}
    }
}

fn shorten(text: &mut String) {
    if let Some((at, _)) = text.char_indices().nth(SENTENCE) {
        text.truncate(at);
        text.push('…');
    }
}

/// Leaves out the pools of those hosts that have most of them.
pub(super) fn hosts(rows: &mut [HostRow]) {
    let mut total = size(rows);
    if total <= MOST {
        return;
    }
    let mut sizes: Vec<(usize, usize)> = rows.iter().map(|row| size(&row.pools)).zip(0..).collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    for (bytes, at) in sizes {
        if total <= MOST {
            return;
        }
        rows[at].pools = Vec::new();
        total -= bytes;
    }
}

/// Leaves out the names of clones, then the last hosts.
pub(super) fn copies(copies: &mut Vec<ImageCopy>) {
    if size(copies.as_slice()) > MOST {
        copies.iter_mut().for_each(|copy| copy.clones = Vec::new());
    }
    while copies.len() > 1 && size(copies.as_slice()) > MOST {
        copies.truncate(copies.len() / 2);
    }
}

fn size<T: serde::Serialize + ?Sized>(value: &T) -> usize {
    codec::encode(&value).map_or(usize::MAX, |bytes| bytes.len())
}

#[cfg(test)]
mod tests {
    use maglica_proto::{
        fault::{Code, Fault},
        id::JobId,
        units::Timestamp,
    };

    use super::*;

    #[test]
    fn a_thousand_jobs_that_failed_with_many_words_fit_into_a_message() {
        let fault = Fault { left: vec!["x".repeat(1000); 60], ..Fault::new(Code::ToolFailed, "é".repeat(8000)) };
        let row = JobRow {
            id: JobId::generate(),
            verb: "start".into(),
            vm: "n".repeat(255).parse().unwrap(),
            host: "h1".parse().unwrap(),
            state: JobState::Failed { fault },
            by: "root".into(),
            submitted: Timestamp::from_millis(0),
            updated: Timestamp::from_millis(0),
        };
        let mut few = vec![row.clone(); 10];
        jobs(&mut few);
        assert_eq!(few, vec![row.clone(); 10], "a list that fits is left as it is");
        let mut many = vec![row; 1000];
        jobs(&mut many);
        assert!(many.len() == 1000 && size(&many) < 1 << 20, "{}", size(&many));
    }
}
