//! What makes one machine differ from its copy, whatever the distribution: machine-id, ssh host keys, random seeds,
//! leases, and who may log in as root.

use super::{CustomizeError, Entry, Identity, Tree, Want, plan::Family, tree::as_read};

pub(super) const SHADOW: &str = "/etc/shadow";
const MACHINE_ID: &str = "/etc/machine-id";
const DBUS_MACHINE_ID: &str = "/var/lib/dbus/machine-id";
const SSH: &str = "/etc/ssh";
const SSHD: &str = "/usr/sbin/sshd";
const ROOT_SSH: &str = "/root/.ssh";
const AUTHORIZED_KEYS: &str = "/root/.ssh/authorized_keys";
const UDEV_RULES: &str = "/etc/udev/rules.d/70-persistent-net.rules";
const AUTORELABEL: &str = "/.autorelabel";
const SELINUX: &str = "/etc/selinux/config";
const CLOUD_CONFIG: &str = "/etc/cloud/cloud.cfg.d";

/// Seeds from which a copy would make the same random numbers, and a key from which NetworkManager makes addresses.
const SEEDS: [&str; 5] = [
    "/var/lib/systemd/random-seed",
    "/var/lib/urandom/random-seed",
    "/var/lib/random-seed",
    "/var/lib/NetworkManager/secret_key",
    "/var/lib/systemd/credential.secret",
];
/// Folders of DHCP clients, which ask for the lease again that they find there.
const LEASES: [&str; 5] =
    ["/var/lib/dhcp", "/var/lib/dhcp3", "/var/lib/dhclient", "/var/lib/NetworkManager", "/var/lib/dhcpcd"];
/// DUIDs of dhcpcd, by which a DHCP server knows the machine.
const DUIDS: [&str; 3] = ["/etc/dhcpcd.duid", "/var/lib/dhcpcd/duid", "/var/lib/dhcpcd/secret"];

pub(super) const WANTS: &[Want] = &[
    Want::Presence("/usr/lib/systemd/systemd"),
    Want::Presence("/lib/systemd/systemd"),
    Want::File(MACHINE_ID),
    Want::File(DBUS_MACHINE_ID),
    Want::Names(SSH),
    Want::Presence(SSHD),
    Want::File(KEY_UNIT),
    Want::File(KEY_UNIT_WANTED),
    Want::Presence("/etc/systemd/system/multi-user.target.wants"),
    Want::File(SSH_DEFAULTS),
    Want::Presence(ROOT_SSH),
    Want::File(AUTHORIZED_KEYS),
    Want::File(UDEV_RULES),
    Want::Presence(AUTORELABEL),
    Want::File(SELINUX),
    Want::Folder(CLOUD_CONFIG),
    Want::Presence(SEEDS[0]),
    Want::Presence(SEEDS[1]),
    Want::Presence(SEEDS[2]),
    Want::Presence(SEEDS[3]),
    Want::Presence(SEEDS[4]),
    Want::Names(LEASES[0]),
    Want::Names(LEASES[1]),
    Want::Names(LEASES[2]),
    Want::Names(LEASES[3]),
    Want::Names(LEASES[4]),
    Want::Presence(DUIDS[0]),
];

/// Debian's openssh-server makes host keys when it is installed and never again, so the guest gets a unit that does if
/// it has none. Only then: an administrator who deleted one kind of key does not get it back.
const KEY_UNIT: &str = "/etc/systemd/system/maglica-ssh-host-keys.service";
const KEY_UNIT_WANTED: &str = "/etc/systemd/system/multi-user.target.wants/maglica-ssh-host-keys.service";
const KEY_UNIT_TEXT: &str = "\
# Installed by Maglica: this machine is a copy and makes ssh host keys of its own when it starts without any.
[Unit]
Description=Make this machine's own ssh host keys
Documentation=man:ssh-keygen(1)
ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key
Before=ssh.service sshd.service

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A
RemainAfterExit=yes

[Install]
WantedBy=multi-user.target
";
/// Read by `/etc/init.d/ssh`, a shell script, before it checks for keys: the same for a Debian without systemd.
const SSH_DEFAULTS: &str = "/etc/default/ssh";
const SSH_DEFAULTS_LINE: &str = "ls /etc/ssh/ssh_host_*_key >/dev/null 2>&1 || ssh-keygen -A # added by Maglica\n";

const CLOUD_FILE: &str = "/etc/cloud/cloud.cfg.d/99-maglica.cfg";
const CLOUD_TEXT: &str = "\
# Installed by Maglica, which has set name and network: cloud-init is not to set them back.
preserve_hostname: true
manage_etc_hosts: false
network: {config: disabled}
";

pub(super) fn reset(
    tree: &mut Tree,
    family: Family,
    new: &Identity,
    changed: &mut Vec<String>,
) -> Result<(), CustomizeError> {
    reset_machine_id(tree);
    changed.push("machine-id".to_owned());
    reset_host_keys(tree, family);
    changed.push("ssh host keys".to_owned());

    step(tree, changed, "udev network rules", |tree| {
        if tree.exists(UDEV_RULES) {
            tree.write(UDEV_RULES, "");
        }
    });
    step(tree, changed, "random seed", |tree| SEEDS.iter().for_each(|path| tree.remove(path)));
    step(tree, changed, "dhcp leases", |tree| {
        for folder in LEASES {
            let is_lease = |name: &str| name.ends_with(".lease") || name.ends_with(".leases");
            tree.files(folder, is_lease).iter().for_each(|path| tree.remove(path));
        }
        DUIDS.iter().for_each(|path| tree.remove(path));
    });
    step(tree, changed, "cloud-init", |tree| {
        if tree.exists(CLOUD_CONFIG) {
            tree.write(CLOUD_FILE, CLOUD_TEXT);
        }
    });
    authorize(tree, &new.customization.ssh_keys, changed)?;
    if let Some(hash) = &new.customization.root_password_hash {
        set_root_password(tree, hash.expose())?;
        changed.push("root password".to_owned());
    }
    step(tree, changed, "selinux relabel", |tree| {
        if selinux_is_on(tree) {
            tree.write(AUTORELABEL, "");
        }
    });
    Ok(())
}

fn step(tree: &mut Tree, changed: &mut Vec<String>, what: &str, work: impl FnOnce(&mut Tree)) {
    let before = tree.clone();
    work(tree);
    if *tree != before {
        changed.push(what.to_owned());
    }
}

/// An empty file, not a missing one: systemd then makes an id without taking the start for the machine's first.
fn reset_machine_id(tree: &mut Tree) {
    if tree.has_systemd() && !tree.exists(MACHINE_ID) {
        tree.write_with_mode(MACHINE_ID, "", 0o444);
    } else if tree.bytes(MACHINE_ID).is_some() {
        tree.write(MACHINE_ID, "");
    }
    // Usually a link to the other; made again by systemd-tmpfiles or dbus-uuidgen if it is missing.
    if tree.bytes(DBUS_MACHINE_ID).is_some() {
        tree.remove(DBUS_MACHINE_ID);
    }
}

fn reset_host_keys(tree: &mut Tree, family: Family) {
    let is_key = |name: &str| {
        name.strip_prefix("ssh_host_").is_some_and(|rest| rest.ends_with("key") || rest.ends_with("key.pub"))
    };
    tree.files(SSH, is_key).iter().for_each(|path| tree.remove(path));
    match family {
        // Its sshd-keygen makes missing keys at every start.
        Family::RedHat => {}
        Family::Debian if !tree.exists(SSHD) => {}
        Family::Debian if tree.has_systemd() => {
            tree.write(KEY_UNIT, KEY_UNIT_TEXT);
            tree.folder("/etc/systemd/system/multi-user.target.wants", 0o755);
            tree.put(KEY_UNIT_WANTED, Entry::Link(KEY_UNIT.to_owned()));
        }
        Family::Debian => {
            let mut text = tree.text(SSH_DEFAULTS).unwrap_or_default();
            if !text.contains(SSH_DEFAULTS_LINE) {
                if !text.is_empty() && !text.ends_with('\n') {
                    text.push('\n');
                }
                text.push_str(SSH_DEFAULTS_LINE);
                tree.write(SSH_DEFAULTS, &text);
            }
        }
    }
}

/// Adds the keys to those that root has.
fn authorize(tree: &mut Tree, keys: &[String], changed: &mut Vec<String>) -> Result<(), CustomizeError> {
    if keys.is_empty() {
        return Ok(());
    }
    let mut text = tree.text(AUTHORIZED_KEYS).unwrap_or_default();
    for key in keys {
        let key = key.trim();
        if key.is_empty() || key.chars().any(char::is_control) {
            let why = "a key is empty or has more than one line".to_owned();
            return Err(CustomizeError::Unsupported { what: "ssh key", why });
        }
        let key = as_read(key);
        if text.lines().any(|line| line.trim_ascii() == key) {
            continue;
        }
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&key);
        text.push('\n');
    }
    tree.folder(ROOT_SSH, 0o700);
    tree.write_with_mode(AUTHORIZED_KEYS, &text, 0o600);
    changed.push("ssh keys of root".to_owned());
    Ok(())
}

fn set_root_password(tree: &mut Tree, hash: &str) -> Result<(), CustomizeError> {
    let cannot = |why: &str| CustomizeError::Unsupported { what: "root password", why: why.to_owned() };
    if hash.is_empty() || !hash.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':') {
        return Err(cannot("it is not a crypt(3) hash"));
    }
    let text = tree.text(SHADOW).ok_or_else(|| cannot("the guest has no /etc/shadow"))?;
    let mut found = false;
    let lines: String = text
        .split_inclusive('\n')
        .map(|line| {
            let mut fields: Vec<&str> = line.split(':').collect();
            match fields.as_mut_slice() {
                ["root", password, _, ..] if !found => {
                    found = true;
                    *password = hash;
                    fields.join(":")
                }
                _ => line.to_owned(),
            }
        })
        .collect();
    if !found {
        return Err(cannot("/etc/shadow has no line for root"));
    }
    tree.write(SHADOW, &lines);
    Ok(())
}

/// Files that are written from outside lack their labels: a system that checks them has to set them.
fn selinux_is_on(tree: &Tree) -> bool {
    let text = tree.text(SELINUX).unwrap_or_default();
    let mode = super::network::sysconfig::get(&text, "SELINUX");
    mode.is_some_and(|mode| mode.eq_ignore_ascii_case("enforcing") || mode.eq_ignore_ascii_case("permissive"))
}
