//! What the defaults ask of the machine: its full name, and where a user keeps configuration.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

/// The machine's full host name: the kernel's, or if that has no domain, the first name with one that `/etc/hosts`
/// gives for it (what `hostname -f` does without asking a name server).
pub(super) fn full_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    with_domain(&name, &hosts).unwrap_or(name)
}

fn with_domain(name: &str, hosts: &str) -> Option<String> {
    if name.contains('.') {
        return None;
    }
    hosts
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .map(|line| line.split_whitespace().skip(1).collect::<Vec<_>>())
        .filter(|names| names.contains(&name))
        .flat_map(|names| names.into_iter().map(str::to_owned).collect::<Vec<_>>())
        .find(|alias| alias.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

/// Whether this process is root's.
pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Where a user's own configuration lies: `$XDG_CONFIG_HOME`, or `~/.config`.
pub(super) fn user_config(xdg: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let absolute = |path: OsString| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    xdg.and_then(absolute).or_else(|| home.and_then(absolute).map(|home| home.join(Path::new(".config"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_domain_of_a_short_name_is_taken_from_the_hosts_file() {
        let hosts = "127.0.0.1 localhost\n127.0.1.1 host0.example.jp host0 # me\n10.0.0.2 host00.example.jp\n";
        assert_eq!(with_domain("host0", hosts).as_deref(), Some("host0.example.jp"));
        assert_eq!(with_domain("host1", hosts), None);
        assert_eq!(with_domain("host0.other.jp", hosts), None);
    }

    #[test]
    fn a_users_folder_is_the_xdg_one_or_below_home() {
        assert_eq!(user_config(Some("/x".into()), Some("/h".into())), Some("/x".into()));
        assert_eq!(user_config(Some("relative".into()), Some("/h".into())), Some("/h/.config".into()));
        assert_eq!(user_config(None, None), None);
    }
}
