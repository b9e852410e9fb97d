//! What is accepted, what is refused, and in which words.

use std::{collections::HashMap, fs, path::Path, time::Duration};

use super::{Accel, Config, ConfigError, LogLevel, ServerAddress, load_from, schema::LogFormat};
use crate::name::HostName;

fn yaml(text: &str) -> Result<Config, ConfigError> {
    Config::from_yaml(text, Path::new("/etc/maglica.conf"))
}

fn error(text: &str) -> String {
    yaml(text).expect_err(text).to_string()
}

#[test]
fn nothing_at_all_is_a_whole_configuration_for_one_machine() {
    for text in ["", "# only a comment\n", "client:\nlisten:\n"] {
        let config = yaml(text).unwrap();
        assert_eq!(config.client.rep_addr(), "127.0.0.1:5556");
        assert_eq!(config.listen.pub_addr(), "127.0.0.1:5555");
        assert_eq!(config.libvirt.uri(), "qemu:///system");
        assert_eq!(config.timing.down, Duration::from_secs(30));
        assert_eq!((config.host.accel, config.host.jobs), (Accel::Auto, 2));
        assert_eq!((config.log.level, config.log.format), (LogLevel::Info, LogFormat::Text));
        assert_eq!(config.weight(&HostName::new("any").unwrap()), 10);
    }
}

#[test]
fn an_old_file_works_unchanged() {
    let config = yaml(
        "hosts:\n  - name: host0.example.jp\n    weight: 20\n  - name: host1.example.jp\n    weight: 10\n\
         client:\n  host: 192.168.0.1\n  pub_port: 6555\n  rep_port: 6556\n\
         libvirt:\n  driver: qemu\n  transport: tls\n  path: system\n",
    )
    .unwrap();
    assert_eq!(config.weight(&HostName::new("host0.example.jp").unwrap()), 20);
    assert_eq!(config.client.pub_addr(), "192.168.0.1:6555");
    assert_eq!(config.listen.rep_addr(), "192.168.0.1:6556", "the client worker listens where the others look for it");
    assert_eq!(config.libvirt.uri(), "qemu:///system");
}

#[test]
fn the_uri_of_libvirt_follows_driver_and_path() {
    for (text, uri) in [
        ("libvirt: {driver: test}", "test:///default"),
        ("libvirt: {driver: test, path: /abs/path.xml}", "test:///abs/path.xml"),
        ("libvirt: {path: session}", "qemu:///session"),
        ("libvirt: {driver: qemu+unix, path: 'system?socket=/run/s'}", "qemu+unix:///system?socket=/run/s"),
        ("libvirt: {path: /system}", "qemu:///system"),
    ] {
        assert_eq!(yaml(text).unwrap().libvirt.uri(), uri);
    }
}

#[test]
fn a_mistyped_key_is_told_with_its_file_its_path_and_what_was_perhaps_meant() {
    for (text, key, meant) in [
        ("cleint: {host: a}", "unknown key cleint ", "did you mean client?"),
        ("client: {rep_prot: 1}", "unknown key client.rep_prot ", "did you mean client.rep_port?"),
        ("client: {repport: 1}", "unknown key client.repport ", "did you mean client.rep_port?"),
        ("hosts: [{name: a, wieght: 1}]", "unknown key hosts[0].wieght ", "did you mean hosts[0].weight?"),
        ("Client: {host: a}", "unknown key Client ", "did you mean client?"),
        ("timing: {heartbeat: 1}", "unknown key timing.heartbeat ", "did you mean timing.heartbeat_ms?"),
        ("statedir: /x", "unknown key statedir ", "did you mean state_dir?"),
    ] {
        let said = error(text);
        assert!(said.starts_with("/etc/maglica.conf: ") && said.contains(key) && said.contains(meant), "{said}");
        assert!(said.contains("allowed here: "), "{said}");
    }
    let said = error("client: {zzz: 1}");
    assert_eq!(said, "/etc/maglica.conf: unknown key client.zzz; allowed here: host, pub_port, rep_port");
}

#[test]
fn a_wrong_value_is_told_with_its_key_and_what_is_allowed() {
    for (text, said) in [
        ("client: {rep_port: many}", "client.rep_port is \"many\"; allowed: a port number from 1 to 65535"),
        ("client: {rep_port: 0}", "client.rep_port is 0; allowed: a port number from 1 to 65535"),
        ("client: {rep_port: 65536}", "client.rep_port is 65536; allowed: a port number from 1 to 65535"),
        ("client: {rep_port: -1}", "client.rep_port is -1; allowed"),
        ("client: {rep_port: [1]}", "client.rep_port is a list; allowed"),
        ("client: 5556", "client is 5556; allowed: a section"),
        ("client: {host: 'a b'}", "client.host is \"a b\"; allowed: a host name or an IP address"),
        (
            "client: {host: '192.168.0.1:5556'}",
            "client.host is \"192.168.0.1:5556\"; allowed: a host name or an IP address, without a port",
        ),
        ("hosts: host0", "hosts is \"host0\"; allowed: a list of hosts"),
        ("hosts: [host0]", "hosts[0] is \"host0\"; allowed: a list of hosts"),
        ("hosts: [{weight: 1}]", "hosts[0].name is missing"),
        ("hosts: [{name: a, weight: 0}]", "hosts[0].weight is 0; allowed: a whole number from 1"),
        ("hosts: [{name: a..b}]", "hosts[0].name is \"a..b\"; allowed: a host name"),
        ("hosts: [{name: a}, {name: A}]", "hosts[1].name is a, which is in the list already"),
        ("listen: {allow: [10.0.0.0/33]}", "listen.allow is a list; allowed: a list of networks"),
        ("state_dir: relative", "state_dir is \"relative\"; allowed: an absolute path"),
        ("host: {accel: fast}", "host.accel is \"fast\"; allowed: auto, kvm or emulation"),
        ("host: {tool_path: [bin]}", "host.tool_path is a list; allowed: a list of absolute paths"),
        ("log: {format: xml}", "log.format is \"xml\"; allowed: text or json"),
        ("log: {level: loud}", "log.level is \"loud\"; allowed: error, warn, info, debug or trace"),
        ("timing: {heartbeat_ms: 0}", "timing.heartbeat_ms is 0; allowed: a whole number from 10"),
        ("timing: {suspect_ms: 1000}", "timing.suspect_ms is not longer than timing.heartbeat_ms"),
        ("client: {pub_port: 7, rep_port: 7}", "client.rep_port is 7, the same as client.pub_port"),
    ] {
        let error = error(text);
        assert!(
            error.starts_with("/etc/maglica.conf: ") && error.contains(said),
            "{text}\n  says   {error}\n  wanted {said}"
        );
    }
}

#[test]
fn a_file_that_is_no_yaml_is_told_with_its_place() {
    let said = error("client: {host: [\n");
    assert!(said.starts_with("/etc/maglica.conf is not valid YAML: ") && said.contains("line"), "{said}");
    assert!(!said.contains('\n'));
    assert!(error("- a\n- b\n").contains("/etc/maglica.conf"));
}

#[test]
fn networks_and_addresses_are_allowed_by_list() {
    let listen = yaml("listen: {address: '::', allow: [10.0.0.0/8, 192.168.0.7]}").unwrap().listen;
    assert_eq!(listen.rep_addr(), "[::]:5556");
    for (address, allowed) in
        [("10.9.9.9", true), ("192.168.0.7", true), ("192.168.0.8", false), ("::ffff:10.1.1.1", true), ("::1", false)]
    {
        assert_eq!(listen.allows(address.parse().unwrap()), allowed, "{address}");
    }
}

fn variables(pairs: &[(&str, &str)]) -> Option<HashMap<String, String>> {
    Some(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
}

#[test]
fn variables_override_the_file_and_their_errors_name_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("maglica.conf");
    fs::write(&path, "client: {host: host9, rep_port: 7000}\n").unwrap();
    let load = |pairs| load_from(Some(&path), &[], variables(pairs));

    let config =
        load(&[("MAGLICA__CLIENT__REP_PORT", "7001"), ("MAGLICA_CONFIG", "/x"), ("OTHER", "1")]).unwrap().config;
    assert_eq!(config.client.rep_addr(), "host9:7001");
    let config = load(&[("MAGLICA__HOST__TOOL_PATH", "/a/bin:/b/bin"), ("MAGLICA__LISTEN__ALLOW", "10.0.0.0/8, ::1")])
        .unwrap()
        .config;
    assert_eq!((config.host.tool_path.len(), config.listen.allow.len()), (2, 2));

    let said = load(&[("MAGLICA__CLIENT__REP_PORT", "x")]).unwrap_err().to_string();
    assert_eq!(said, "the environment: client.rep_port is \"x\"; allowed: a port number from 1 to 65535");
    let said = load(&[("MAGLICA__CLEINT__REP_PORT", "1")]).unwrap_err().to_string();
    assert!(said.starts_with("the environment: unknown key cleint (did you mean client?)"), "{said}");
}

#[test]
fn the_first_of_the_default_files_counts_and_a_named_one_must_exist() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("a"), folder.path().join("b"));
    let load = |named| load_from(named, &[&first, &second], variables(&[]));

    assert_eq!(load(None).unwrap().file, None);
    fs::write(&second, "client: {host: second}").unwrap();
    assert_eq!(load(None).unwrap().file.as_deref(), Some(second.as_path()));
    fs::write(&first, "client: {host: first}").unwrap();
    let loaded = load(None).unwrap();
    assert_eq!(loaded.config.client.host, ServerAddress::Name(HostName::new("first").unwrap()));
    assert_eq!(load(Some(&second)).unwrap().file.as_deref(), Some(second.as_path()));

    let gone = folder.path().join("gone");
    let said = load(Some(&gone)).unwrap_err();
    assert!(matches!(said, ConfigError::Unreadable { .. }) && said.to_string().contains("gone"), "{said}");
}

#[test]
fn an_operators_keys_may_be_named() {
    let config = yaml("operator: {key: /k, server_key: /s}\nstate_dir: /var/x").unwrap();
    assert_eq!(
        (config.operator.key.as_path(), config.operator.server_key.as_path()),
        (Path::new("/k"), Path::new("/s"))
    );
    assert_eq!(super::Operator::of_root(&config.state_dir).key, Path::new("/var/x/operator/key"));
}

const EXAMPLE: &str = include_str!("../../../etc/maglica.conf.example");

#[test]
fn the_example_changes_nothing_as_it_is_and_shows_the_defaults() {
    let defaults = yaml("").unwrap();
    assert_eq!(yaml(EXAMPLE).unwrap(), defaults);

    let uncommented: String = EXAMPLE
        .lines()
        .filter(|line| !line.starts_with("##"))
        .map(|line| format!("{}\n", line.strip_prefix('#').unwrap_or(line)))
        .collect();
    let mut all = yaml(&uncommented).unwrap();
    // What is marked as an example, or depends on who runs it.
    assert_eq!(all.hosts.len(), 2);
    all.hosts.clear();
    assert_eq!(all.host.name().unwrap().as_str(), "host0.example.jp");
    all.host.name = None;
    assert_eq!(all.host.address.take(), Some("192.168.0.10".parse().unwrap()));
    assert_eq!(all.operator, super::Operator::of_root(&all.state_dir));
    all.operator = defaults.operator.clone();
    all.libvirt.transport = None;
    assert_eq!(all, defaults);
}

#[test]
fn every_key_of_the_schema_is_in_the_example() {
    // An unknown key in a section makes the reader list all that it knows there.
    for section in ["client", "listen", "libvirt", "host", "operator", "timing", "jobs", "log"] {
        let said = error(&format!("{section}: {{zzzzzz: 1}}"));
        let known = said.rsplit_once("allowed here: ").expect("a list of keys").1;
        for key in known.split(", ") {
            assert!(EXAMPLE.contains(&format!("#  {key}:")), "{section}.{key} is not in the example");
        }
    }
}
