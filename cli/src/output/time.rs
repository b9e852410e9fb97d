//! Moments and durations for people: local time, one decimal.

use std::time::Duration;

use jiff::{Timestamp, Zoned, tz::TimeZone};
use maglica_proto::units;

/// Shorter than this, how long a step took is not worth a number.
const WORTH_SAYING: Duration = Duration::from_millis(100);

fn local(moment: units::Timestamp) -> Option<Zoned> {
    let millis = i64::try_from(moment.as_millis()).ok()?;
    Some(Timestamp::from_millisecond(millis).ok()?.to_zoned(TimeZone::system()))
}

/// `2026-11-21T09:38:24+09:00`.
#[must_use]
pub fn moment(moment: units::Timestamp) -> String {
    local(moment).map_or_else(|| "?".to_owned(), |at| at.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string())
}

/// `09:38:24.123`, for stories whose first line has the day.
#[must_use]
pub fn clock(moment: units::Timestamp) -> String {
    local(moment).map_or_else(|| "?".to_owned(), |at| at.strftime("%H:%M:%S.%3f").to_string())
}

/// The time of day if it is the same day as `now`, else with its date.
#[must_use]
pub fn moment_near(then: units::Timestamp, now: Timestamp) -> String {
    match local(then) {
        Some(at) if at.date() == now.to_zoned(TimeZone::system()).date() => at.strftime("%H:%M:%S").to_string(),
        Some(_) | None => moment(then),
    }
}

/// `1.4 s`, `2 min 3 s`, `1 h`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (large, unit, small, below) = match seconds {
        0..60 => return format!("{}.{} s", seconds, duration.subsec_millis() / 100),
        60..3600 => (seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => (seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => (seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    };
    if small == 0 { format!("{large} {unit}") } else { format!("{large} {unit} {small} {below}") }
}

/// How long a step took; empty if it took no time to speak of.
#[must_use]
pub fn took(millis: u64) -> String {
    let took = Duration::from_millis(millis);
    if took < WORTH_SAYING { String::new() } else { duration(took) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_in_the_two_largest_units() {
        for (millis, said) in [
            (1_449, "1.4 s"),
            (59_999, "59.9 s"),
            (123_000, "2 min 3 s"),
            (7_260_000, "2 h 1 min"),
            (90_000_000, "1 d 1 h"),
            (3_600_000, "1 h"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), said);
        }
        assert_eq!(took(99), "");
    }

    #[test]
    fn a_moment_has_its_offset_and_a_near_one_only_its_clock() {
        let then = units::Timestamp::from_millis(1_700_000_000_123);
        let at = moment(then);
        assert_eq!((at.len(), &at[10..11]), (25, "T"));
        let now = Timestamp::from_millisecond(1_700_000_000_500).unwrap();
        assert_eq!(moment_near(then, now), at[11..19]);
        assert_eq!(moment_near(then, now + jiff::SignedDuration::from_hours(48)), at);
        assert!(clock(then).ends_with(".123"));
    }
}
