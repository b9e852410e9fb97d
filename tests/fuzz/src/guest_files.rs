//! The files of a guest that is to be customized. The guest may be anybody's.
//!
//! Input, as text: a first line with what is wished for (see [`wish`]), then the files, each after a line with its path:
//!
//! ```text
//! debian dhcp keys
//! @ /etc/hostname
//! golden.example.jp
//! @ /etc/resolv.conf -> ../run/systemd/resolve/stub-resolv.conf
//! @ /usr/sbin/sshd ?
//! ```

use maglica_host_worker::customize::{
    Entry, Identity, Tree, Want,
    plan::{Family, plan, wants},
};
use maglica_proto::{
    job::{Customization, Network},
    key::Secret,
    name::GuestName,
    net::MacAddr,
};

/// Plans, carries it out, plans again.
pub fn check(data: &[u8]) {
    // Each byte a character, as a tree has its texts.
    let text: String = data.iter().copied().map(char::from).collect();
    let (first, files) = text.split_once('\n').unwrap_or((&text, ""));
    let (family, new) = wish(first);
    let before = tree(files, &wants(&new));
    let Ok(first) = plan(family, &before, &new) else { return };
    let mut after = before.clone();
    after.apply(&first.edits);
    for edit in &first.edits {
        let path = edit.path();
        assert!(path.starts_with('/') && !path.split('/').any(|part| part == ".."), "{path} is outside");
        if let Some(bytes) = after.bytes(path) {
            let had = before.bytes(path).map_or(0, <[u8]>::len);
            assert!(bytes.len() <= 4 * had + 4096, "{path} grew from {had} to {} bytes", bytes.len());
        }
    }
    let second = plan(family, &after, &new).expect("a guest that was customized is still understood");
    let left: Vec<_> = second.edits.iter().map(|edit| (edit.path(), after.text(edit.path()))).collect();
    assert_eq!(second.edits, [], "a second run changes something: {left:?}");
}

/// Words that change what is wished for: `redhat`, `v4`, `v6`, `keys`, `password`, `no-mac`.
fn wish(line: &str) -> (Family, Identity) {
    let has = |word: &str| line.split(' ').any(|found| found == word);
    let network = if has("v4") {
        Network::Static {
            address: "192.168.0.10/24".parse().expect("an address"),
            gateway: Some([192, 168, 0, 1].into()),
            dns: vec![[192, 168, 0, 1].into(), [8, 8, 8, 8].into()],
        }
    } else if has("v6") {
        Network::Static {
            address: "2001:db8::10/64".parse().expect("an address"),
            gateway: Some("2001:db8::1".parse().expect("an address")),
            dns: vec!["2001:db8::53".parse().expect("an address")],
        }
    } else {
        Network::Dhcp
    };
    let ssh_keys = if has("keys") { vec!["ssh-ed25519 AAAA größe@example".to_owned()] } else { Vec::new() };
    let root_password_hash = has("password").then(|| Secret::new("$6$salt$hash".to_owned()));
    let customization = Customization { network, ssh_keys, root_password_hash };
    let name = GuestName::new("vm0.example.jp").expect("a name");
    let macs = if has("no-mac") { Vec::new() } else { vec![MacAddr::kvm([1, 2, 3]), MacAddr::kvm([1, 2, 4])] };
    let family = if has("redhat") { Family::RedHat } else { Family::Debian };
    (family, Identity { name, macs, customization, force_tcg: true })
}

/// As the reader makes it of a guest: only what is wanted is in it.
fn tree(text: &str, wants: &[Want]) -> Tree {
    let mut tree = Tree::default();
    let mut file: Option<(&str, Vec<u8>)> = None;
    for line in text.split_inclusive('\n') {
        let Some(head) = line.strip_prefix("@ ") else {
            if let Some((_, content)) = &mut file {
                content.extend(line.chars().filter_map(|c| u8::try_from(c).ok()));
            }
            continue;
        };
        if let Some((path, content)) = file.take() {
            put(&mut tree, wants, path, Entry::File(content));
        }
        let head = head.trim_end_matches('\n');
        if let Some((path, target)) = head.split_once(" -> ") {
            put(&mut tree, wants, path, Entry::Link(target.to_owned()));
        } else if let Some(path) = head.strip_suffix(" ?") {
            put(&mut tree, wants, path, Entry::Unread);
        } else if let Some(path) = head.strip_suffix('/') {
            put(&mut tree, wants, path, Entry::Folder);
        } else {
            file = Some((head, Vec::new()));
        }
    }
    if let Some((path, content)) = file {
        put(&mut tree, wants, path, Entry::File(content));
    }
    tree
}

fn put(tree: &mut Tree, wants: &[Want], path: &str, entry: Entry) {
    let text_file = !matches!(&entry, Entry::File(content) if content.contains(&0));
    let folder = path.rsplit_once('/').filter(|(_, name)| !name.is_empty()).map(|(folder, _)| folder);
    for want in wants {
        match (want, &entry) {
            (Want::Presence(wanted), Entry::Folder) if *wanted == path => tree.put(path, Entry::Folder),
            (Want::Presence(wanted), _) if *wanted == path => tree.put(path, Entry::Unread),
            (Want::File(wanted), Entry::File(_)) if *wanted == path && text_file => tree.put(path, entry.clone()),
            (Want::File(wanted) | Want::Names(wanted) | Want::Folder(wanted), Entry::Link(_)) if *wanted == path => {
                tree.put(path, entry.clone());
            }
            (Want::File(wanted), Entry::Folder) | (Want::Names(wanted) | Want::Folder(wanted), Entry::File(_))
                if *wanted == path =>
            {
                tree.put(path, Entry::Unread);
            }
            (Want::Names(wanted) | Want::Folder(wanted), Entry::Folder) if *wanted == path => {
                tree.put(path, Entry::Folder);
            }
            (Want::Names(wanted) | Want::Folder(wanted), Entry::File(_) | Entry::Unread)
                if folder == Some(*wanted) && !tree.exists(path) =>
            {
                tree.put(*wanted, Entry::Folder);
                let deep = matches!(want, Want::Folder(_)) && text_file;
                tree.put(path, if deep { entry.clone() } else { Entry::Unread });
            }
            _ => {}
        }
    }
}
