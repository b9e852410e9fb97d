//! Names that look like one that was not found.

/// How many are worth saying.
const MOST: usize = 3;
/// From this likeness (Jaro-Winkler, 0 to 1) on a name is worth saying; clap uses nearly the same.
const LIKE: f64 = 0.75;

/// The names among `names` that look like `wanted`, best first.
pub fn similar<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut scored: Vec<(f64, &str)> = names
        .map(|name| (strsim::jaro_winkler(wanted, name), name))
        .filter(|&(score, name)| score >= LIKE && name != wanted)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.dedup_by(|a, b| a.1 == b.1);
    scored.into_iter().take(MOST).map(|(_, name)| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_name_finds_what_was_meant_and_nothing_else() {
        let names = ["debian12-x86_64.original", "centos7.original", "web"];
        assert_eq!(similar("debain12-x86_64.original", names.into_iter()), ["debian12-x86_64.original"]);
        assert!(similar("zzz", names.into_iter()).is_empty());
    }
}
