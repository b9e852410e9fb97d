//! Files of sections and `key=value` lines (systemd, NetworkManager), edited in place: lines that are not meant stay as
//! they are, comments and order included.

/// A file in parts; put together again it is what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ini {
    /// The first one has no name: what comes before any section.
    sections: Vec<Section>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    name: String,
    /// With the header's line, and with the ends of the lines.
    lines: Vec<String>,
}

fn key_of(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_ascii();
    if line.starts_with(['#', ';', '[']) {
        return None;
    }
    line.split_once('=').map(|(key, value)| (key.trim_ascii(), value.trim_ascii()))
}

impl Section {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.lines.iter().filter_map(|line| key_of(line)).find(|(k, _)| *k == key).map(|(_, value)| value)
    }
}

impl Ini {
    pub(super) fn parse(text: &str) -> Self {
        let mut sections = vec![Section { name: String::new(), lines: Vec::new() }];
        for line in text.split_inclusive('\n') {
            let bare = line.trim_ascii();
            if let Some(name) = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                sections.push(Section { name: name.to_owned(), lines: Vec::new() });
            }
            if let Some(section) = sections.last_mut() {
                section.lines.push(line.to_owned());
            }
        }
        Self { sections }
    }

    pub(super) fn render(&self) -> String {
        self.sections.iter().flat_map(|section| &section.lines).map(String::as_str).collect()
    }

    pub(super) fn has_section(&self, name: &str) -> bool {
        self.sections.iter().any(|section| section.name == name)
    }

    /// The first value of a key in the sections of this name.
    pub(super) fn get(&self, section: &str, key: &str) -> Option<&str> {
        self.sections.iter().filter(|s| s.name == section).find_map(|s| s.get(key))
    }

    /// Takes out the lines of a section whose keys are meant.
    pub(super) fn remove(&mut self, section: &str, meant: impl Fn(&str) -> bool) {
        for part in self.sections.iter_mut().filter(|part| part.name == section) {
            part.lines.retain(|line| key_of(line).is_none_or(|(key, _)| !meant(key)));
        }
    }

    /// Takes out whole sections.
    pub(super) fn remove_sections(&mut self, meant: impl Fn(&Section) -> bool) {
        self.sections.retain(|section| section.name.is_empty() || !meant(section));
    }

    /// Sets a key to one value, in the place where it is, else at the end of its section, which is made if need be.
    pub(super) fn set(&mut self, section: &str, key: &str, value: &str) {
        let line = format!("{key}={value}\n");
        if self.get(section, key).is_some() {
            let mut placed = false;
            for part in self.sections.iter_mut().filter(|part| part.name == section) {
                part.lines.retain_mut(|old| {
                    let Some((found, had)) = key_of(old) else { return true };
                    if found != key {
                        return true;
                    }
                    if !placed && had != value {
                        old.clone_from(&line);
                    }
                    !std::mem::replace(&mut placed, true)
                });
            }
            return;
        }
        if let Some(last) = self.sections.last_mut().and_then(|section| section.lines.last_mut())
            && !last.ends_with('\n')
        {
            last.push('\n');
        }
        if let Some(part) = self.sections.iter_mut().find(|part| part.name == section) {
            let end = part.lines.iter().rposition(|line| !line.trim_ascii().is_empty()).map_or(0, |at| at + 1);
            part.lines.insert(end, line);
        } else {
            let mut lines = vec![format!("[{section}]\n"), line];
            if self.sections.iter().any(|section| !section.lines.is_empty()) {
                lines.insert(0, "\n".to_owned());
            }
            self.sections.push(Section { name: section.to_owned(), lines });
        }
    }
}
