//! Taking values out of the parsed tree, one section at a time. Whatever is left in a section when all its keys were
//! asked for is an unknown key.

use std::collections::BTreeMap;

use config::{Value, ValueKind};

/// A key that there is not, or a value that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// No such key.
    #[error("{origin}: unknown key {key}{}; allowed here: {}", did_you_mean(similar.as_ref()), allowed.join(", "))]
    Unknown {
        /// The file, or the environment.
        origin: String,
        /// The whole key, such as `client.rep_port`.
        key: String,
        /// The key that it looks like.
        similar: Option<String>,
        /// The keys that this section has.
        allowed: Vec<&'static str>,
    },
    /// Of another type, or out of its bounds.
    #[error("{origin}: {key} is {found}; allowed: {allowed}")]
    Value {
        /// The file, or the environment.
        origin: String,
        /// The whole key.
        key: String,
        /// What it is.
        found: String,
        /// What it may be.
        allowed: String,
    },
    /// Missing where it must not be.
    #[error("{origin}: {key} is missing; it is {what}")]
    Missing {
        /// The file, or the environment.
        origin: String,
        /// The whole key.
        key: String,
        /// What it is to be.
        what: &'static str,
    },
    /// Right by itself, but not together with another.
    #[error("{origin}: {key} {why}")]
    Contradiction {
        /// The file, or the environment.
        origin: String,
        /// The whole key.
        key: String,
        /// What is wrong with it.
        why: String,
    },
}

fn did_you_mean(similar: Option<&String>) -> String {
    similar.map(|key| format!(" (did you mean {key}?)")).unwrap_or_default()
}

/// How alike two keys must be (Jaro-Winkler, 0 to 1) for one to be suggested: `rep_prot` is, `weight` for `name` is not.
const SIMILAR_ENOUGH: f64 = 0.8;
/// A wrong value is repeated in the error up to this length.
const SHOWN_VALUE: usize = 60;

/// The keys of one table that nobody has asked for yet.
pub(super) struct Section {
    path: String,
    file: String,
    left: BTreeMap<String, Value>,
    known: Vec<&'static str>,
}

impl Section {
    /// The whole tree, read from `file`.
    pub(super) fn root(tree: Value, file: String) -> Self {
        let left = if let ValueKind::Table(table) = tree.kind { table.into_iter().collect() } else { BTreeMap::new() };
        Self { path: String::new(), file, left, known: Vec::new() }
    }

    fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn origin(&self, value: &Value) -> String {
        origin_of(value).map_or_else(|| self.file.clone(), str::to_owned)
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        // `key:` with nothing behind it is as good as no key.
        self.left.remove(key).filter(|value| !matches!(value.kind, ValueKind::Nil))
    }

    /// The value of `key` if it is there and `convert` takes it; `allowed` says what that is.
    pub(super) fn value<T>(
        &mut self,
        key: &'static str,
        allowed: &str,
        convert: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, BadKey> {
        let Some(value) = self.take(key) else { return Ok(None) };
        match convert(&value) {
            Some(converted) => Ok(Some(converted)),
            None => Err(self.wrong(&self.key(key), &value, allowed)),
        }
    }

    /// The section under `key`; an empty one if there is none.
    pub(super) fn section(&mut self, key: &'static str) -> Result<Self, BadKey> {
        let path = self.key(key);
        match self.take(key) {
            None => Ok(Self { path, file: self.file.clone(), left: BTreeMap::new(), known: Vec::new() }),
            Some(value) => self.table(path, value, "a section with keys of its own"),
        }
    }

    /// The sections that `key` lists.
    pub(super) fn sections(&mut self, key: &'static str, allowed: &str) -> Result<Vec<Self>, BadKey> {
        let path = self.key(key);
        let Some(value) = self.take(key) else { return Ok(Vec::new()) };
        let ValueKind::Array(items) = value.kind else { return Err(self.wrong(&path, &value, allowed)) };
        items.into_iter().enumerate().map(|(at, item)| self.table(format!("{path}[{at}]"), item, allowed)).collect()
    }

    fn table(&self, path: String, value: Value, allowed: &str) -> Result<Self, BadKey> {
        let ValueKind::Table(table) = value.kind else { return Err(self.wrong(&path, &value, allowed)) };
        Ok(Self { path, file: self.file.clone(), left: table.into_iter().collect(), known: Vec::new() })
    }

    fn wrong(&self, key: &str, value: &Value, allowed: &str) -> BadKey {
        BadKey::Value {
            origin: self.origin(value),
            key: key.to_owned(),
            found: shown(value),
            allowed: allowed.to_owned(),
        }
    }

    /// What is said when `key` is not there and must be.
    pub(super) fn missing(&self, key: &str, what: &'static str) -> BadKey {
        BadKey::Missing { origin: self.file.clone(), key: self.key(key), what }
    }

    /// What is said when `key` does not go together with the rest.
    pub(super) fn contradiction(&self, key: &str, why: impl Into<String>) -> BadKey {
        BadKey::Contradiction { origin: self.file.clone(), key: self.key(key), why: why.into() }
    }

    /// To be called when every key was asked for.
    pub(super) fn finish(self) -> Result<(), BadKey> {
        let Some((key, value)) = self.left.first_key_value() else { return Ok(()) };
        let similar = self
            .known
            .iter()
            .map(|known| (strsim::jaro_winkler(&key.to_lowercase(), known), known))
            .filter(|(likeness, _)| *likeness >= SIMILAR_ENOUGH)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, known)| self.key(known));
        Err(BadKey::Unknown { origin: self.origin(value), key: self.key(key), similar, allowed: self.known })
    }
}

/// Where a value comes from if not from the file; a table that variables made has none, but its leaves have.
fn origin_of(value: &Value) -> Option<&str> {
    if let ValueKind::Table(table) = &value.kind { table.values().find_map(origin_of) } else { value.origin() }
}

fn shown(value: &Value) -> String {
    match &value.kind {
        ValueKind::Table(_) => "a section".to_owned(),
        ValueKind::Array(_) => "a list".to_owned(),
        ValueKind::String(text) => format!("{:?}", text.chars().take(SHOWN_VALUE).collect::<String>()),
        ValueKind::Nil => "empty".to_owned(),
        ValueKind::Boolean(_)
        | ValueKind::I64(_)
        | ValueKind::I128(_)
        | ValueKind::U64(_)
        | ValueKind::U128(_)
        | ValueKind::Float(_) => value.to_string(),
    }
}

/// A text. Numbers are texts as well: YAML reads a key such as `path: 7` as a number.
pub(super) fn text(value: &Value) -> Option<String> {
    if let ValueKind::String(text) = &value.kind {
        return Some(text.clone());
    }
    matches!(value.kind, ValueKind::I64(_) | ValueKind::U64(_)).then(|| value.to_string())
}

/// A whole number; variables bring it as text.
pub(super) fn number(value: &Value) -> Option<u64> {
    match &value.kind {
        ValueKind::I64(number) => u64::try_from(*number).ok(),
        ValueKind::U64(number) => Some(*number),
        ValueKind::String(text) => text.trim().parse().ok(),
        ValueKind::Nil
        | ValueKind::Boolean(_)
        | ValueKind::I128(_)
        | ValueKind::U128(_)
        | ValueKind::Float(_)
        | ValueKind::Table(_)
        | ValueKind::Array(_) => None,
    }
}

/// A list of texts; variables bring it as one text with `separator` between.
pub(super) fn list(value: &Value, separator: char) -> Option<Vec<String>> {
    if let ValueKind::Array(items) = &value.kind {
        return items.iter().map(text).collect();
    }
    Some(text(value)?.split(separator).map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())
}
