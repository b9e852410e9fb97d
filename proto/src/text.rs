//! Which characters are fit to be shown: not those that steer a terminal, hide, or turn the text around them round.

/// What stands for a character that is not shown.
pub const REPLACEMENT: char = '\u{fffd}';

/// Whether a character must not reach a terminal or a log: control characters, and the invisible ones that change how others are
/// read (<https://www.unicode.org/reports/tr36/>).
#[must_use]
pub fn is_unfit(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_fit_and_what_steers_or_hides_is_not() {
        assert!(!"größe 大阪 vm-0_1.original @ ✔".chars().any(is_unfit));
        assert!("\x1b\x07\n\t\u{9b}\u{7f}\u{202e}\u{2066}\u{200b}\u{feff}".chars().all(is_unfit));
    }
}
