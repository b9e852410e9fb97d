//! Patterns for names, as a shell has them: `*` any text, `?` one character, `[abc]` and `[a-z]` one of these, `[!abc]` none of them.

/// A name, or a pattern for names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    One(char),
    Any,
    Many,
    Of { ranges: Vec<(char, char)>, not: bool },
}

impl Part {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::One(one) => *one == c,
            Self::Any => true,
            Self::Many => false,
            Self::Of { ranges, not } => ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) != *not,
        }
    }
}

impl Pattern {
    /// Reads one.
    ///
    /// # Errors
    /// A sentence for the user.
    pub fn new(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut left = text.chars();
        while let Some(c) = left.next() {
            parts.push(match c {
                '*' => Part::Many,
                '?' => Part::Any,
                '[' => {
                    let rest = left.as_str();
                    // A ']' right at the beginning is one of the characters.
                    let from = rest.strip_prefix('!').map_or(0, |_| 1);
                    let end = rest.char_indices().skip(from + 1).find(|(_, c)| *c == ']').map(|(at, _)| at);
                    let end = end.ok_or_else(|| format!("the pattern {text:?} has a '[' without its ']'"))?;
                    let part = of(&rest[..end]);
                    left = rest[end + 1..].chars();
                    part
                }
                c => Part::One(c),
            });
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// Whether it is a name and nothing else.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::One(_)))
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a name fits it. The time is bounded by the product of both lengths.
    #[must_use]
    pub fn fits(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let (mut at, mut part) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while at < name.len() {
            if self.parts.get(part) == Some(&Part::Many) {
                star = Some((part, at));
                part += 1;
            } else if self.parts.get(part).is_some_and(|part| part.takes(name[at])) {
                part += 1;
                at += 1;
            } else if let Some((after, taken)) = star {
                // The last star takes one more.
                star = Some((after, taken + 1));
                part = after + 1;
                at = taken + 1;
            } else {
                return false;
            }
        }
        self.parts[part..].iter().all(|part| *part == Part::Many)
    }
}

fn of(text: &str) -> Part {
    let (not, text) = text.strip_prefix('!').map_or((false, text), |text| (true, text));
    let chars: Vec<char> = text.chars().collect();
    let (mut ranges, mut at) = (Vec::new(), 0);
    while let Some(&from) = chars.get(at) {
        match (chars.get(at + 1), chars.get(at + 2)) {
            (Some('-'), Some(&to)) => {
                ranges.push((from, to));
                at += 3;
            }
            (Some(_) | None, _) => {
                ranges.push((from, from));
                at += 1;
            }
        }
    }
    Part::Of { ranges, not }
}

impl std::str::FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_fit_as_in_a_shell() {
        for (pattern, fits, not) in [
            ("web1", vec!["web1"], vec!["web", "web11", "Web1"]),
            ("web*", vec!["web", "web1", "webs.example.jp"], vec!["a-web"]),
            ("*.example.jp", vec!["a.example.jp", ".example.jp"], vec!["a.example.com"]),
            ("web?", vec!["web1", "webé"], vec!["web", "web12"]),
            ("web[0-3x]", vec!["web0", "web3", "webx"], vec!["web4", "web"]),
            ("web[!0-3]", vec!["web4"], vec!["web0"]),
            ("a[]]b", vec!["a]b"], vec!["ab"]),
            ("*a*b*", vec!["ab", "xaxbx", "aab"], vec!["ba"]),
            ("*", vec!["", "x"], vec![]),
        ] {
            let read = Pattern::new(pattern).unwrap();
            assert!(fits.iter().all(|name| read.fits(name)), "{pattern}");
            assert!(!not.iter().any(|name| read.fits(name)), "{pattern}");
            assert_eq!(read.is_plain(), pattern == "web1", "{pattern}");
        }
        assert!(Pattern::new("a[b").is_err());
    }

    #[test]
    fn many_stars_take_no_time() {
        let pattern = Pattern::new(&"*a".repeat(50)).unwrap();
        assert!(!pattern.fits(&"a".repeat(49)));
        assert!(pattern.fits(&"a".repeat(255)));
    }

    proptest! {
        #[test]
        fn nothing_that_can_be_typed_is_too_much(pattern in "[a-c*?\\[\\]!é-]{0,12}", name in "[a-cé-]{0,12}") {
            if let Ok(pattern) = Pattern::new(&pattern) {
                let _ = pattern.fits(&name);
            }
        }

        #[test]
        fn a_name_fits_itself_and_its_beginning_with_a_star(name in "[a-z0-9.-]{1,20}", cut in 0_usize..20) {
            prop_assert!(Pattern::new(&name).unwrap().fits(&name));
            let cut: String = name.chars().take(cut).collect();
            let begins = format!("{cut}*");
            prop_assert!(Pattern::new(&begins).unwrap().fits(&name));
        }
    }
}
