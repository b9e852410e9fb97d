//! The files of a guest that matter to a plan, and edits to them.
//!
//! A plan works on a copy of the [`Tree`] that was read from the guest; the edits are the difference of the two. So a
//! plan for a guest that already is as wanted has no edits, whatever the policies do on the way.

use std::{borrow::Cow, collections::BTreeMap, fmt};

/// Something that is to be read from every guest before its plan is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Whether the path exists; the content does not matter or must not be read.
    Presence(&'static str),
    /// A file with its content, or where a symbolic link points.
    File(&'static str),
    /// The names in a folder.
    Names(&'static str),
    /// The names in a folder with the content of the files.
    Folder(&'static str),
}

/// What there is at a path.
#[derive(Clone, PartialEq, Eq)]
pub enum Entry {
    /// A file.
    File(Vec<u8>),
    /// Something whose content was not read.
    Unread,
    /// A folder.
    Folder,
    /// A symbolic link with its target.
    Link(String),
}

impl fmt::Debug for Entry {
    /// Without the content, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(content) => write!(f, "File({} bytes)", content.len()),
            Self::Unread => f.write_str("Unread"),
            Self::Folder => f.write_str("Folder"),
            Self::Link(target) => write!(f, "Link({target:?})"),
        }
    }
}

/// A change to a guest's files.
#[derive(Clone, PartialEq, Eq)]
pub enum Edit {
    /// Delete a file or link.
    Remove {
        /// Which.
        path: String,
    },
    /// Make a folder with those above it.
    Folder {
        /// Which.
        path: String,
        /// Its rights.
        mode: u32,
    },
    /// Write a file. One that exists keeps its owner and, if no mode is given, its rights.
    Write {
        /// Which.
        path: String,
        /// Its whole new content.
        content: Vec<u8>,
        /// Its rights.
        mode: Option<u32>,
    },
    /// Make a symbolic link.
    Link {
        /// Where.
        path: String,
        /// To what.
        target: String,
    },
}

impl Edit {
    /// The path that is changed.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::Remove { path } | Self::Folder { path, .. } | Self::Write { path, .. } | Self::Link { path, .. } => {
                path
            }
        }
    }
}

impl fmt::Debug for Edit {
    /// Without the content, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remove { path } => write!(f, "remove {path}"),
            Self::Folder { path, mode } => write!(f, "folder {path} {mode:o}"),
            Self::Write { path, content, mode } => {
                write!(f, "write {path} ({} bytes)", content.len())?;
                mode.map_or(Ok(()), |mode| write!(f, " {mode:o}"))
            }
            Self::Link { path, target } => write!(f, "link {path} to {target}"),
        }
    }
}

/// Rights of a new file that everybody may read.
const PUBLIC_FILE: u32 = 0o644;
/// Rights of a new folder that everybody may enter.
const PUBLIC_FOLDER: u32 = 0o755;

/// Files of a guest by their absolute paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    entries: BTreeMap<String, Entry>,
    modes: BTreeMap<String, u32>,
}

impl Tree {
    /// Notes what the guest has at a path.
    pub fn put(&mut self, path: impl Into<String>, entry: Entry) {
        self.entries.insert(path.into(), entry);
    }

    /// What there is at a path.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// Whether there is anything.
    #[must_use]
    pub fn exists(&self, path: &str) -> bool {
        self.entries.contains_key(path)
    }

    /// Whether systemd is the guest's init.
    #[must_use]
    pub fn has_systemd(&self) -> bool {
        self.exists("/usr/lib/systemd/systemd") || self.exists("/lib/systemd/systemd")
    }

    /// A file's content as bytes.
    #[must_use]
    pub fn bytes(&self, path: &str) -> Option<&[u8]> {
        match self.get(path) {
            Some(Entry::File(content)) => Some(content),
            Some(Entry::Unread | Entry::Folder | Entry::Link(_)) | None => None,
        }
    }

    /// A file's content with each byte as one character, so that text of any encoding survives being edited.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<String> {
        self.bytes(path).map(|content| content.iter().copied().map(char::from).collect())
    }

    /// The paths of the files in a folder, in the order of their names, that `keep` by their name.
    #[must_use]
    pub fn files(&self, folder: &str, keep: impl Fn(&str) -> bool) -> Vec<String> {
        let prefix = format!("{folder}/");
        let entries = self.entries.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
        entries
            .filter(|(path, entry)| {
                let name = path.get(prefix.len()..).unwrap_or_default();
                matches!(entry, Entry::File(_) | Entry::Unread) && !name.contains('/') && keep(name)
            })
            .map(|(path, _)| path.clone())
            .collect()
    }

    /// Sets a file's content; text that came from [`text`](Self::text) goes back byte by byte.
    pub fn write(&mut self, path: &str, text: &str) {
        let mut content = Vec::with_capacity(text.len());
        for c in text.chars() {
            match u8::try_from(c) {
                Ok(byte) => content.push(byte),
                Err(_) => content.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        self.put(path, Entry::File(content));
    }

    /// Sets a file's content and its rights, which hold even if it exists.
    pub fn write_with_mode(&mut self, path: &str, text: &str, mode: u32) {
        self.write(path, text);
        self.modes.insert(path.to_owned(), mode);
    }

    /// Sets a folder to exist, with these rights if it is new.
    pub fn folder(&mut self, path: &str, mode: u32) {
        if !self.exists(path) {
            self.put(path, Entry::Folder);
            self.modes.insert(path.to_owned(), mode);
        }
    }

    /// Deletes a path.
    pub fn remove(&mut self, path: &str) {
        self.entries.remove(path);
    }

    /// The edits that make this tree of `before`, in an order in which they can be carried out.
    #[must_use]
    pub fn edits_since(&self, before: &Self) -> Vec<Edit> {
        let mut edits: Vec<Edit> = before
            .entries
            .iter()
            // Replacing a link by a file must not write to what the link points to.
            .filter(|(path, old)| match (old, self.get(path)) {
                (_, None) => true,
                (Entry::Link(_), Some(new)) => !matches!(new, Entry::Link(_)),
                (Entry::File(_) | Entry::Unread | Entry::Folder, Some(_)) => false,
            })
            .map(|(path, _)| Edit::Remove { path: path.clone() })
            .collect();
        // Sorted by path, a folder comes before what is in it.
        for (path, new) in &self.entries {
            let old = before.get(path);
            if old == Some(new) {
                continue;
            }
            let mode = self.modes.get(path).copied();
            let path = path.clone();
            match new {
                Entry::File(content) => {
                    let mode = if old.is_none() { Some(mode.unwrap_or(PUBLIC_FILE)) } else { mode };
                    edits.push(Edit::Write { path, content: content.clone(), mode });
                }
                Entry::Folder => edits.push(Edit::Folder { path, mode: mode.unwrap_or(PUBLIC_FOLDER) }),
                Entry::Link(target) => edits.push(Edit::Link { path, target: target.clone() }),
                Entry::Unread => {}
            }
        }
        edits
    }

    /// Carries out edits, as they are on a guest.
    pub fn apply(&mut self, edits: &[Edit]) {
        for edit in edits {
            match edit {
                Edit::Remove { path } => self.remove(path),
                Edit::Folder { path, .. } => self.put(path, Entry::Folder),
                Edit::Write { path, content, .. } => self.put(path, Entry::File(content.clone())),
                Edit::Link { path, target } => self.put(path, Entry::Link(target.clone())),
            }
        }
    }
}

/// Text in UTF-8 in the form in which [`Tree::text`] has it.
#[must_use]
pub fn as_read(text: &str) -> Cow<'_, str> {
    if text.is_ascii() { Cow::Borrowed(text) } else { text.bytes().map(char::from).collect::<String>().into() }
}
