//! A message as plain MessagePack, to change it without its type.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// What a message is made of; ours hold no bytes, floats or negative numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Value {
    Nil(()),
    Bool(bool),
    Number(u64),
    Text(String),
    List(Vec<Value>),
    Map(BTreeMap<String, Value>),
}

impl Value {
    /// The same with an unknown field in each map. Not in the map of a result, whose one key is the choice.
    pub(crate) fn with_unknown_fields(self) -> Self {
        match self {
            Self::List(items) => Self::List(items.into_iter().map(Self::with_unknown_fields).collect()),
            Self::Map(fields) => {
                let choice = fields.len() == 1 && (fields.contains_key("Ok") || fields.contains_key("Err"));
                let mut fields: BTreeMap<_, _> =
                    fields.into_iter().map(|(key, value)| (key, value.with_unknown_fields())).collect();
                if !choice {
                    let newer =
                        BTreeMap::from([("deeper".to_owned(), Self::List(vec![Self::Number(7), Self::Nil(())]))]);
                    fields.insert("of_a_newer_version".to_owned(), Self::Map(newer));
                }
                Self::Map(fields)
            }
            plain @ (Self::Nil(()) | Self::Bool(_) | Self::Number(_) | Self::Text(_)) => plain,
        }
    }

    /// The same without the fields for which `drop` holds, and how many those were.
    fn filtered(self, drop: &dyn Fn(&str, &Self) -> bool) -> (Self, usize) {
        let mut count = 0;
        let mut go = |value: Self| {
            let (value, dropped) = value.filtered(drop);
            count += dropped;
            value
        };
        let value = match self {
            Self::List(items) => Self::List(items.into_iter().map(go).collect()),
            Self::Map(fields) => {
                let before = fields.len();
                let kept: BTreeMap<_, _> = fields.into_iter().filter(|(key, value)| !drop(key, value)).collect();
                let gone = before - kept.len();
                let map = Self::Map(kept.into_iter().map(|(key, value)| (key, go(value))).collect());
                count += gone;
                map
            }
            plain @ (Self::Nil(()) | Self::Bool(_) | Self::Number(_) | Self::Text(_)) => plain,
        };
        (value, count)
    }

    /// The same without the fields that are nil.
    pub(crate) fn without_nil(self) -> (Self, usize) {
        self.filtered(&|_, value| *value == Self::Nil(()))
    }

    /// The same without the fields of this name.
    pub(crate) fn without(self, field: &str) -> (Self, usize) {
        self.filtered(&|key, _| key == field)
    }

    /// The same with one text in the place of another.
    pub(crate) fn with_text(self, old: &str, new: &str) -> Self {
        match self {
            Self::Text(text) if text == old => Self::Text(new.to_owned()),
            Self::List(items) => Self::List(items.into_iter().map(|item| item.with_text(old, new)).collect()),
            Self::Map(fields) => {
                Self::Map(fields.into_iter().map(|(key, value)| (key, value.with_text(old, new))).collect())
            }
            plain @ (Self::Nil(()) | Self::Bool(_) | Self::Number(_) | Self::Text(_)) => plain,
        }
    }

    /// The same with this text in every field of this name that holds a text.
    pub(crate) fn with_text_in(self, field: &str, new: &str) -> Self {
        match self {
            Self::List(items) => Self::List(items.into_iter().map(|item| item.with_text_in(field, new)).collect()),
            Self::Map(fields) => {
                let changed = |(key, value): (String, Self)| {
                    let here = key == field && matches!(value, Self::Text(_));
                    let value = if here { Self::Text(new.to_owned()) } else { value.with_text_in(field, new) };
                    (key, value)
                };
                Self::Map(fields.into_iter().map(changed).collect())
            }
            plain @ (Self::Nil(()) | Self::Bool(_) | Self::Number(_) | Self::Text(_)) => plain,
        }
    }

    /// The names of all fields, and the words of all choices.
    pub(crate) fn words(&self, words: &mut BTreeSet<String>) {
        const CHOICES: [&str; 21] = [
            "verb",
            "answer",
            "ask",
            "broadcast",
            "kind",
            "event",
            "state",
            "outcome",
            "guest",
            "mode",
            "why",
            "code",
            "step",
            "device",
            "role",
            "presence",
            "accel",
            "result",
            "verdict",
            "about",
            "change",
        ];
        match self {
            Self::List(items) => items.iter().for_each(|item| item.words(words)),
            Self::Map(fields) => {
                // What libvirt calls a pool's or an interface's kind is its word, not ours.
                let ours = !fields.contains_key("active") && !fields.contains_key("mac");
                for (field, value) in fields {
                    words.insert(field.clone());
                    match value {
                        Self::Text(text) if CHOICES.contains(&field.as_str()) && (ours || field != "kind") => {
                            words.insert(text.clone());
                        }
                        Self::Text(_) | Self::Nil(()) | Self::Bool(_) | Self::Number(_) => {}
                        Self::List(_) | Self::Map(_) => value.words(words),
                    }
                }
            }
            Self::Nil(()) | Self::Bool(_) | Self::Number(_) | Self::Text(_) => {}
        }
    }

    /// Whether all of `old` is here: each field with its value, and perhaps others. Nil and absent are the same.
    pub(crate) fn holds(&self, old: &Self) -> bool {
        match (self, old) {
            (Self::Map(new), Self::Map(old)) => old.iter().all(|(key, value)| match new.get(key) {
                Some(here) => here.holds(value),
                None => *value == Self::Nil(()),
            }),
            (Self::List(new), Self::List(old)) => {
                new.len() == old.len() && new.iter().zip(old).all(|(new, old)| new.holds(old))
            }
            (new, old) => new == old,
        }
    }
}

#[test]
fn a_lost_or_changed_field_is_noticed() {
    let map = |fields: &[(&str, Value)]| {
        Value::Map(fields.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
    };
    let old = map(&[("a", Value::Number(1)), ("b", Value::Nil(()))]);
    assert!(map(&[("a", Value::Number(1)), ("c", Value::Bool(true))]).holds(&old));
    assert!(!map(&[("a", Value::Number(2))]).holds(&old));
    assert!(!map(&[("b", Value::Nil(()))]).holds(&old));
}
