//! Files of shell assignments (`/etc/sysconfig/*`, `ifcfg-*`), edited in place.

fn assignment(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_ascii();
    if line.starts_with('#') {
        return None;
    }
    let (key, value) = line.split_once('=')?;
    let key = key.trim_ascii();
    let key = key.strip_prefix("export ").unwrap_or(key).trim_ascii();
    Some((key, value.trim_ascii()))
}

fn unquoted(value: &str) -> &str {
    ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote)).unwrap_or(value)
}

/// The last value of a key, which is the one that counts, without its quotes.
pub(in crate::customize) fn get(text: &str, key: &str) -> Option<String> {
    let found = text.lines().filter_map(assignment).rfind(|(k, _)| *k == key);
    found.map(|(_, value)| unquoted(value).to_owned())
}

/// Takes out the lines of the keys that are meant.
pub(super) fn remove(text: &str, meant: impl Fn(&str) -> bool) -> String {
    text.split_inclusive('\n').filter(|line| assignment(line).is_none_or(|(key, _)| !meant(key))).collect()
}

/// Sets a key to a value that needs no quotes, in the place where it is, else at the end.
pub(in crate::customize) fn set(text: &str, key: &str, value: &str) -> String {
    let mut placed = false;
    let mut out = String::with_capacity(text.len() + key.len() + value.len() + 2);
    for line in text.split_inclusive('\n') {
        match assignment(line) {
            Some((found, had)) if found == key => {
                if placed {
                    continue;
                }
                placed = true;
                if unquoted(had) == value {
                    out.push_str(line);
                } else {
                    out.push_str(&format!("{key}={value}\n"));
                }
            }
            Some(_) | None => out.push_str(line),
        }
    }
    if !placed {
        if !out.is_empty() && !out.ends_with('\n') {
            out.push('\n');
        }
        out.push_str(&format!("{key}={value}\n"));
    }
    out
}
