//! The policy of rewriting guests, on trees of files as the distributions have them; no libguestfs.

#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use maglica_host_worker::customize::{
    CustomizeError, Edit, Entry, Identity, Tree,
    plan::{Family, plan},
};
use maglica_proto::{
    job::{Customization, Network},
    key::Secret,
    name::GuestName,
    net::MacAddr,
};
use proptest::prelude::*;

fn tree(files: &[(&str, &str)]) -> Tree {
    let mut tree = Tree::default();
    for (path, text) in files {
        for (at, _) in path.match_indices('/').skip(1) {
            tree.put(&path[..at], Entry::Folder);
        }
        tree.put(*path, Entry::File(text.as_bytes().to_vec()));
    }
    tree
}

fn dhcp() -> Identity {
    let customization = Customization { network: Network::Dhcp, ssh_keys: Vec::new(), root_password_hash: None };
    let name = GuestName::new("vm0.example.jp").unwrap();
    Identity { name, macs: vec![MacAddr::kvm([1, 2, 3])], customization, force_tcg: false }
}

fn fixed(address: &str, gateway: &str, dns: &[&str]) -> Identity {
    let network = Network::Static {
        address: address.parse().unwrap(),
        gateway: Some(gateway.parse().unwrap()),
        dns: dns.iter().map(|server| server.parse().unwrap()).collect(),
    };
    let mut new = dhcp();
    new.customization.network = network;
    new
}

fn v4() -> Identity {
    fixed("192.168.0.10/24", "192.168.0.1", &["192.168.0.1", "8.8.8.8"])
}

fn v6() -> Identity {
    fixed("2001:db8::10/64", "2001:db8::1", &["2001:db8::53"])
}

/// Carries a plan out and checks that a second one finds nothing to do.
fn done(family: Family, before: &Tree, new: &Identity) -> Tree {
    let first = plan(family, before, new).unwrap();
    let mut after = before.clone();
    after.apply(&first.edits);
    let second = plan(family, &after, new).unwrap();
    assert_eq!(second.edits, [], "a second run changes something");
    after
}

fn text(tree: &Tree, path: &str) -> String {
    tree.text(path).unwrap_or_else(|| panic!("no {path}"))
}

const SYSTEMD: (&str, &str) = ("/usr/lib/systemd/systemd", "");
const INTERFACES: &str = "\
# The loopback network interface
auto lo
iface lo inet loopback

# The primary network interface
auto ens3
iface ens3 inet static
    address 10.0.0.9
    netmask 255.255.255.0
    gateway 10.0.0.1
    # a comment of the stanza
    mtu 9000
    up ip route add 10.9.0.0/16 via 10.0.0.2

allow-hotplug ens4
iface ens4 inet static
    address 10.1.0.9/24
";

fn debian(more: &[(&str, &str)]) -> Tree {
    let mut files = vec![
        SYSTEMD,
        ("/etc/hostname", "golden.example.jp\n"),
        ("/etc/hosts", "127.0.0.1\tlocalhost\n127.0.1.1\tgolden.example.jp\tgolden\n# keep\n10.0.0.1 nfs # store\n"),
        ("/etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
    ];
    files.extend_from_slice(more);
    tree(&files)
}

#[test]
fn debian_with_ifupdown_gets_dhcp_and_keeps_the_rest() {
    let after = done(Family::Debian, &debian(&[("/etc/network/interfaces", INTERFACES)]), &dhcp());
    let wanted = INTERFACES.replace(
        "ens3 inet static\n    address 10.0.0.9\n    netmask 255.255.255.0\n    gateway 10.0.0.1\n",
        "ens3 inet dhcp\n",
    );
    assert_eq!(text(&after, "/etc/network/interfaces"), wanted);
    assert_eq!(text(&after, "/etc/hostname"), "vm0.example.jp\n");
    assert_eq!(
        text(&after, "/etc/hosts"),
        "127.0.0.1\tlocalhost\n127.0.1.1\tvm0.example.jp\tvm0\n# keep\n10.0.0.1 nfs # store\n"
    );
    assert_eq!(text(&after, "/etc/machine-id"), "");
}

#[test]
fn debian_with_ifupdown_gets_a_fixed_ipv4_address_with_name_servers() {
    let resolv = ("/etc/resolv.conf", "search example.jp\nnameserver 10.0.0.1\n");
    let after = done(Family::Debian, &debian(&[("/etc/network/interfaces", INTERFACES), resolv]), &v4());
    let wanted = INTERFACES.replace(
        "    address 10.0.0.9\n    netmask 255.255.255.0\n    gateway 10.0.0.1\n",
        "    address 192.168.0.10/24\n    gateway 192.168.0.1\n    dns-nameservers 192.168.0.1 8.8.8.8\n",
    );
    assert_eq!(text(&after, "/etc/network/interfaces"), wanted);
    assert_eq!(text(&after, "/etc/resolv.conf"), "search example.jp\nnameserver 192.168.0.1\nnameserver 8.8.8.8\n");
    assert!(text(&after, "/etc/hosts").contains("192.168.0.10\tvm0.example.jp\tvm0\n"));
    assert!(!text(&after, "/etc/hosts").contains("127.0.1.1"));
}

#[test]
fn debian_with_ifupdown_gets_a_fixed_ipv6_address_beside_dhcp() {
    let folder = [
        ("/etc/network/interfaces", "source /etc/network/interfaces.d/*\nauto lo\niface lo inet loopback\n"),
        ("/etc/network/interfaces.d/primary", "allow-hotplug ens3\niface ens3 inet dhcp\n"),
    ];
    let after = done(Family::Debian, &debian(&folder), &v6());
    assert_eq!(
        text(&after, "/etc/network/interfaces.d/primary"),
        "allow-hotplug ens3\niface ens3 inet dhcp\niface ens3 inet6 static\n    address 2001:db8::10/64\n    \
         gateway 2001:db8::1\n    dns-nameservers 2001:db8::53\n"
    );
    assert_eq!(text(&after, "/etc/network/interfaces"), folder[0].1);
}

#[test]
fn debian_on_a_bridge_gets_the_address_on_the_bridge() {
    let bridge = "iface ens3 inet manual\nauto br0\niface br0 inet dhcp\n    bridge_ports ens3\n";
    let after = done(Family::Debian, &debian(&[("/etc/network/interfaces", bridge)]), &v4());
    let text = text(&after, "/etc/network/interfaces");
    assert!(text.starts_with("iface ens3 inet manual\nauto br0\niface br0 inet static\n    address 192.168.0.10/24\n"));
    assert!(text.ends_with("    bridge_ports ens3\n"));
}

const NETPLAN: &str = "\
# made by the installer
network:
  version: 2
  ethernets:
    ens3:
      match:
        macaddress: 52:54:00:aa:aa:aa
      set-name: lan0
      addresses: [10.0.0.9/24]
      mtu: 9000
      routes:
      - {to: default, via: 10.0.0.1}
      - {to: 10.9.0.0/16, via: 10.0.0.2}
      nameservers: {addresses: [10.0.0.1]}
    ens4:
      addresses: [10.1.0.9/24]
";

#[test]
fn debian_with_netplan_gets_dhcp_and_keeps_the_rest() {
    let after = done(Family::Debian, &debian(&[("/etc/netplan/00-installer.yaml", NETPLAN)]), &dhcp());
    assert_eq!(
        text(&after, "/etc/netplan/00-installer.yaml"),
        "# made by the installer\nnetwork:\n  version: 2\n  ethernets:\n    ens3:\n      match:\n        macaddress: \
         52:54:00:01:02:03\n      set-name: lan0\n      mtu: 9000\n      routes:\n      - to: 10.9.0.0/16\n        \
         via: 10.0.0.2\n      dhcp4: true\n    ens4:\n      addresses:\n      - 10.1.0.9/24\n"
    );
}

#[test]
fn debian_with_netplan_gets_a_fixed_address() {
    let after = done(Family::Debian, &debian(&[("/etc/netplan/00-installer.yaml", NETPLAN)]), &v4());
    let text = text(&after, "/etc/netplan/00-installer.yaml");
    for part in ["dhcp4: false", "- 192.168.0.10/24", "via: 192.168.0.1", "- 8.8.8.8", "to: 10.9.0.0/16", "10.1.0.9/24"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(!text.contains("10.0.0.9") && !text.contains("10.0.0.1\n"), "{text}");
}

const NETWORKD: &str = "\
# wired
[Match]
Name=en*

[Network]
Address=10.0.0.9/24
Gateway=10.0.0.1
DNS=10.0.0.1
LLDP=yes

[Route]
Destination=10.9.0.0/16
Gateway=10.0.0.2
";

#[test]
fn debian_with_networkd_gets_dhcp_or_a_fixed_address_of_either_family() {
    let before = debian(&[("/etc/systemd/network/10-wired.network", NETWORKD)]);
    let path = "/etc/systemd/network/10-wired.network";
    let wanted =
        NETWORKD.replace("Address=10.0.0.9/24\nGateway=10.0.0.1\nDNS=10.0.0.1\nLLDP=yes\n", "LLDP=yes\nDHCP=yes\n");
    assert_eq!(text(&done(Family::Debian, &before, &dhcp()), path), wanted);
    let wanted = NETWORKD
        .replace("10.0.0.9/24", "192.168.0.10/24")
        .replace("Gateway=10.0.0.1\nDNS=10.0.0.1", "Gateway=192.168.0.1\nDNS=192.168.0.1 8.8.8.8")
        .replace("LLDP=yes\n", "LLDP=yes\nDHCP=no\n");
    assert_eq!(text(&done(Family::Debian, &before, &v4()), path), wanted);
    assert!(
        text(&done(Family::Debian, &before, &v6()), path).contains("Address=2001:db8::10/64\nGateway=2001:db8::1\n")
    );
}

#[test]
fn debian_name_servers_go_to_resolved_where_it_is_in_charge() {
    let mut before = debian(&[("/etc/network/interfaces", INTERFACES)]);
    before.put("/etc/resolv.conf", Entry::Link("../run/systemd/resolve/stub-resolv.conf".to_owned()));
    let after = done(Family::Debian, &before, &v4());
    assert!(
        text(&after, "/etc/systemd/resolved.conf.d/maglica.conf").ends_with("[Resolve]\nDNS=192.168.0.1 8.8.8.8\n")
    );
    // Back to DHCP, it is taken away again.
    let again = done(Family::Debian, &after, &dhcp());
    assert!(!again.exists("/etc/systemd/resolved.conf.d/maglica.conf"));
}

#[test]
fn debian_forgets_the_image_s_keys_and_makes_its_own_at_the_next_start() {
    let before = debian(&[
        ("/usr/sbin/sshd", ""),
        ("/etc/ssh/ssh_host_rsa_key", "secret"),
        ("/etc/ssh/ssh_host_rsa_key.pub", "x"),
        ("/etc/ssh/sshd_config", "x"),
        ("/var/lib/dbus/machine-id", "0123"),
        ("/var/lib/systemd/random-seed", "x"),
        ("/var/lib/dhcp/dhclient.ens3.leases", "x"),
        ("/etc/udev/rules.d/70-persistent-net.rules", "SUBSYSTEM==\"net\"\n"),
        ("/etc/mailname", "golden.example.jp\n"),
        ("/etc/dhcp/dhclient.conf", "send host-name \"golden\";\nrequest routers;\n"),
        ("/etc/cloud/cloud.cfg.d/05_logging.cfg", "x"),
    ]);
    let after = done(Family::Debian, &before, &dhcp());
    for gone in [
        "/etc/ssh/ssh_host_rsa_key",
        "/etc/ssh/ssh_host_rsa_key.pub",
        "/var/lib/dbus/machine-id",
        "/var/lib/systemd/random-seed",
        "/var/lib/dhcp/dhclient.ens3.leases",
    ] {
        assert!(!after.exists(gone), "{gone}");
    }
    assert_eq!(text(&after, "/etc/ssh/sshd_config"), "x");
    assert_eq!(text(&after, "/etc/udev/rules.d/70-persistent-net.rules"), "");
    assert_eq!(text(&after, "/etc/mailname"), "vm0.example.jp\n");
    assert_eq!(text(&after, "/etc/dhcp/dhclient.conf"), "send host-name = gethostname();\nrequest routers;\n");
    assert!(text(&after, "/etc/cloud/cloud.cfg.d/99-maglica.cfg").contains("preserve_hostname: true"));
    let unit = text(&after, "/etc/systemd/system/maglica-ssh-host-keys.service");
    assert!(unit.contains("ExecStart=/usr/bin/ssh-keygen -A") && unit.contains("Before=ssh.service"));
    assert!(after.exists("/etc/systemd/system/multi-user.target.wants/maglica-ssh-host-keys.service"));
}

#[test]
fn root_gets_keys_and_password_and_nobody_else_can_read_them() {
    let shadow = "daemon:*:1:0:::::\nroot:!:19000:0:99999:7:::\n";
    let before = debian(&[("/etc/shadow", shadow), ("/root/.bashrc", "")]);
    let mut new = dhcp();
    new.customization.ssh_keys = vec!["ssh-ed25519 AAAA vérène".to_owned()];
    new.customization.root_password_hash = Some(Secret::new("$6$salt$hash".to_owned()));
    let planned = plan(Family::Debian, &before, &new).unwrap();
    assert!(planned.edits.contains(&Edit::Folder { path: "/root/.ssh".to_owned(), mode: 0o700 }));
    assert!(planned.edits.contains(&Edit::Write {
        path: "/root/.ssh/authorized_keys".to_owned(),
        content: "ssh-ed25519 AAAA vérène\n".as_bytes().to_vec(),
        mode: Some(0o600),
    }));
    let after = done(Family::Debian, &before, &new);
    assert_eq!(text(&after, "/etc/shadow"), "daemon:*:1:0:::::\nroot:$6$salt$hash:19000:0:99999:7:::\n");
    assert!(!format!("{planned:?}").contains("$6$salt"), "the plan shows the hash");

    new.customization.root_password_hash = Some(Secret::new("a:b\nc".to_owned()));
    let error = plan(Family::Debian, &before, &new).unwrap_err();
    assert!(matches!(error, CustomizeError::Unsupported { what: "root password", .. }), "{error:?}");
}

const IFCFG: &str = "\
# by hand
DEVICE=eth0
HWADDR=52:54:00:AA:AA:AA
UUID=\"aaaaaaaa-0000-0000-0000-000000000000\"
ONBOOT=no
BOOTPROTO=none
IPADDR0=10.0.0.9
PREFIX0=24
GATEWAY=10.0.0.1
DNS1=10.0.0.1
DHCP_HOSTNAME=golden
MTU=9000
";

fn red_hat(more: &[(&str, &str)]) -> Tree {
    let mut files = vec![
        ("/etc/hosts", "127.0.0.1   localhost golden\n::1 localhost localhost6\n"),
        ("/etc/sysconfig/network", "NETWORKING=yes\nHOSTNAME=golden.example.jp\nGATEWAY=10.0.0.1\n"),
    ];
    files.extend_from_slice(more);
    tree(&files)
}

#[test]
fn red_hat_with_ifcfg_gets_dhcp_and_keeps_the_rest() {
    let path = "/etc/sysconfig/network-scripts/ifcfg-eth0";
    let lo = ("/etc/sysconfig/network-scripts/ifcfg-lo", "DEVICE=lo\nIPADDR=127.0.0.1\n");
    let after = done(Family::RedHat, &red_hat(&[(path, IFCFG), lo]), &dhcp());
    assert_eq!(
        text(&after, path),
        "# by hand\nDEVICE=eth0\nONBOOT=yes\nBOOTPROTO=dhcp\nDHCP_HOSTNAME=vm0.example.jp\nMTU=9000\n"
    );
    assert_eq!(text(&after, lo.0), lo.1);
    assert_eq!(text(&after, "/etc/sysconfig/network"), "NETWORKING=yes\nHOSTNAME=vm0.example.jp\n");
    assert_eq!(
        text(&after, "/etc/hosts"),
        "127.0.0.1\tlocalhost\n127.0.1.1\tvm0.example.jp\tvm0\n::1 localhost localhost6\n"
    );
    assert!(!after.exists("/etc/hostname"), "version 6 has no such file");
}

#[test]
fn red_hat_with_ifcfg_gets_a_fixed_address_of_either_family() {
    let path = "/etc/sysconfig/network-scripts/ifcfg-eth0";
    let four = text(&done(Family::RedHat, &red_hat(&[(path, IFCFG)]), &v4()), path);
    assert!(four.contains("BOOTPROTO=none\n"), "{four}");
    assert!(
        four.ends_with(
            "MTU=9000\nIPADDR=192.168.0.10\nPREFIX=24\nGATEWAY=192.168.0.1\nDNS1=192.168.0.1\nDNS2=8.8.8.8\n"
        ),
        "{four}"
    );
    let six = text(&done(Family::RedHat, &red_hat(&[(path, IFCFG)]), &v6()), path);
    assert!(six.contains("BOOTPROTO=dhcp\n"), "{six}");
    assert!(six.contains("IPV6ADDR=2001:db8::10/64\nIPV6_DEFAULTGW=2001:db8::1\nDNS1=2001:db8::53\n"), "{six}");
}

#[test]
fn red_hat_interface_that_is_known_by_its_hardware_address_only_gets_the_new_one() {
    let path = "/etc/sysconfig/network-scripts/ifcfg-lan";
    let before = red_hat(&[(path, "TYPE=Ethernet\nHWADDR=52:54:00:AA:AA:AA\nBOOTPROTO=dhcp\nONBOOT=yes\n")]);
    let after = done(Family::RedHat, &before, &dhcp());
    assert_eq!(text(&after, path), "TYPE=Ethernet\nHWADDR=52:54:00:01:02:03\nBOOTPROTO=dhcp\nONBOOT=yes\n");
}

const KEYFILE: &str = "\
[connection]
id=lan
uuid=bbbbbbbb-0000-0000-0000-000000000000
type=ethernet

[ethernet]
mac-address=52:54:00:AA:AA:AA
mtu=9000

[ipv4]
address1=10.0.0.9/24,10.0.0.1
dns=10.0.0.1;
method=manual

[ipv6]
method=auto
";

#[test]
fn two_keyfiles_of_one_uuid_get_one_each_and_what_refers_to_it_follows_the_first() {
    let path = |name: &str| format!("/etc/NetworkManager/system-connections/{name}.nmconnection");
    let (first, second, vlan) = (path("a"), path("b"), path("vlan"));
    let refers = "[connection]\ntype=vlan\n[vlan]\nparent=bbbbbbbb-0000-0000-0000-000000000000\n";
    let before = red_hat(&[(&first, KEYFILE), (&second, KEYFILE), (&vlan, refers), SYSTEMD]);
    // `done` plans again and expects nothing to do.
    let after = done(Family::RedHat, &before, &dhcp());
    let uuid = |path: &str| text(&after, path).lines().find_map(|line| Some(line.strip_prefix("uuid=")?.to_owned()));
    let (one, other) = (uuid(&first).unwrap(), uuid(&second).unwrap());
    assert_ne!(one, other);
    assert!(text(&after, &vlan).ends_with(&format!("parent={one}\n")), "{}", text(&after, &vlan));
}

#[test]
fn red_hat_with_a_keyfile_gets_dhcp_or_a_fixed_address() {
    let path = "/etc/NetworkManager/system-connections/lan.nmconnection";
    let vlan = (
        "/etc/NetworkManager/system-connections/vlan.nmconnection",
        "[connection]\ntype=vlan\n[vlan]\nparent=bbbbbbbb-0000-0000-0000-000000000000\n",
    );
    let before = red_hat(&[(path, KEYFILE), SYSTEMD, vlan]);
    let after = done(Family::RedHat, &before, &dhcp());
    let auto = text(&after, path);
    assert!(
        auto.ends_with(
            "[ethernet]\nmac-address=52:54:00:01:02:03\nmtu=9000\n\n[ipv4]\nmethod=auto\n\n[ipv6]\nmethod=auto\n"
        ),
        "{auto}"
    );
    let uuid = auto.lines().find_map(|line| line.strip_prefix("uuid=")).unwrap();
    assert_ne!(uuid, "bbbbbbbb-0000-0000-0000-000000000000");
    assert!(text(&after, vlan.0).ends_with(&format!("parent={uuid}\n")), "what refers to it does not follow");
    assert_eq!(text(&after, "/etc/hostname"), "vm0.example.jp\n");

    let four = text(&done(Family::RedHat, &before, &v4()), path);
    assert!(
        four.contains("[ipv4]\naddress1=192.168.0.10/24,192.168.0.1\ndns=192.168.0.1;8.8.8.8;\nmethod=manual\n"),
        "{four}"
    );
    let six = text(&done(Family::RedHat, &before, &v6()), path);
    assert!(six.contains("[ipv4]\nmethod=auto\n"), "{six}");
    assert!(six.contains("[ipv6]\nmethod=manual\naddress1=2001:db8::10/64,2001:db8::1\ndns=2001:db8::53;\n"), "{six}");
}

#[test]
fn selinux_is_asked_to_relabel_only_where_it_is_on() {
    for (mode, relabel) in [("enforcing", true), ("permissive", true), ("disabled", false)] {
        let config = format!("# x\nSELINUX={mode}\nSELINUXTYPE=targeted\n");
        let after = done(Family::RedHat, &red_hat(&[("/etc/selinux/config", &config)]), &dhcp());
        assert_eq!(after.exists("/.autorelabel"), relabel, "{mode}");
    }
}

#[test]
fn a_fixed_address_that_nobody_would_read_is_refused() {
    for family in [Family::Debian, Family::RedHat] {
        let error = plan(family, &debian(&[]), &v4()).unwrap_err();
        assert!(matches!(error, CustomizeError::Unsupported { what: "static address", .. }), "{error:?}");
        let planned = plan(family, &debian(&[]), &dhcp()).unwrap();
        assert!(planned.changed.contains(&"network (left as it was)".to_owned()), "{planned:?}");
    }
}

#[test]
fn text_of_another_encoding_survives() {
    let mut before = debian(&[("/etc/network/interfaces", INTERFACES)]);
    before.put("/etc/hosts", Entry::File(b"# caf\xe9 \xc3\xa9\n127.0.0.1 localhost\n".to_vec()));
    let after = done(Family::Debian, &before, &dhcp());
    assert!(after.bytes("/etc/hosts").unwrap().starts_with(b"# caf\xe9 \xc3\xa9\n127.0.0.1 localhost\n127.0.1.1\tvm0"));
}

#[test]
fn systems_are_told_apart_by_name_or_by_their_package_tool() {
    assert_eq!(Family::of("linux", "debian", "apt"), Some(Family::Debian));
    assert_eq!(Family::of("linux", "new-spin", "dnf"), Some(Family::RedHat));
    assert_eq!(Family::of("linux", "archlinux", "pacman"), None);
    assert_eq!(Family::of("windows", "windows", "unknown"), None);
}

/// Paths that plans read, so that random content reaches every parser.
const PATHS: [&str; 18] = [
    "/usr/lib/systemd/systemd",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/mailname",
    "/etc/machine-id",
    "/etc/network/interfaces",
    "/etc/network/interfaces.d/a",
    "/etc/netplan/a.yaml",
    "/etc/systemd/network/a.network",
    "/etc/systemd/network/a.link",
    "/etc/resolv.conf",
    "/etc/dhcp/dhclient.conf",
    "/etc/sysconfig/network",
    "/etc/sysconfig/network-scripts/ifcfg-eth0",
    "/etc/NetworkManager/system-connections/a",
    "/etc/selinux/config",
    "/etc/shadow",
    "/root/.ssh/authorized_keys",
];

fn content() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        "iface",
        "eth0",
        "inet",
        "inet6",
        "static",
        "dhcp",
        "auto",
        "\n",
        "\n",
        "\\\n",
        " ",
        "\t",
        "=",
        "[Match]\n",
        "[Network]\n",
        "[ipv4]\n",
        "[connection]\n",
        "type=ethernet\n",
        "method=manual\n",
        "uuid=",
        "address1=",
        "Name=en*\n",
        "DHCP=yes\n",
        "address 10.0.0.1\n",
        "DEVICE=",
        "HWADDR=1\n",
        "network:\n",
        "  ethernets:\n",
        "    a:\n",
        "      addresses: []\n",
        "root:",
        ":",
        "#",
        "\"",
        "golden",
        "127.0.1.1",
        "localhost",
        "HOSTNAME=",
        "nameserver",
        "source x\n",
        "\u{85}",
        "é",
    ]);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60),
        prop::collection::vec(words, 0..30).prop_map(|words| words.concat().into_bytes()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_is_in_the_files_a_plan_does_not_panic_and_a_second_one_has_nothing_to_do(
        files in prop::collection::vec((prop::sample::select(&PATHS[..]), content()), 0..8),
        which in 0..3,
        red_hat in any::<bool>(),
    ) {
        let mut before = Tree::default();
        for (path, content) in files {
            before.put(path, Entry::File(content));
        }
        let mut new = match which { 0 => dhcp(), 1 => v4(), _ => v6() };
        new.customization.ssh_keys = vec!["ssh-ed25519 AAAA x".to_owned()];
        let family = if red_hat { Family::RedHat } else { Family::Debian };
        if let Ok(first) = plan(family, &before, &new) {
            let mut after = before.clone();
            after.apply(&first.edits);
            let second = plan(family, &after, &new);
            match second {
                Ok(second) => prop_assert_eq!(&second.edits, &[], "from {:?}\nto {:?}", before, after),
                Err(error) => prop_assert!(false, "the second plan fails: {:?}", error),
            }
        }
    }
}
