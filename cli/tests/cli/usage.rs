//! What is refused before anything is sent, and what is said without asking anybody.

use crate::place::{Place, free_port};

const CLONE: [&str; 3] = ["vm", "clone", "--image=debian12-x86_64.original"];

fn clone(place: &Place, more: &[&str]) -> crate::place::Ran {
    place.run(&[&CLONE, more].concat())
}

#[test]
fn help_and_version_go_to_stdout() {
    let place = Place::new(free_port());
    let help = place.run(&["--help"]).exits(0);
    assert!(
        help.stderr.is_empty()
            && help.stdout.contains("Usage: maglica")
            && help.stdout.contains("maglica help exit-codes"),
        "{help:?}"
    );
    let version = place.run(&["--version"]).exits(0);
    assert_eq!(version.stdout, format!("maglica {}\n", env!("CARGO_PKG_VERSION")));
    let codes = place.run(&["help", "exit-codes"]).exits(0);
    assert!(codes.stdout.contains("  130  Ctrl-C"), "{codes:?}");
    assert!(place.run(&["exit-codes"]).exits(0).stdout.starts_with("    0  done"));
}

#[test]
fn a_mistyped_command_or_option_is_answered_with_what_was_perhaps_meant() {
    let place = Place::new(free_port());
    place.run(&["imge", "list"]).exits(2).says("'image'");
    place.run(&["vm", "lst"]).exits(2).says("'list'");
    clone(&place, &["--hostnam=vm0"]).exits(2).says("'--hostname'");
    let none = place.run(&[]).exits(2);
    assert!(none.stdout.is_empty() && none.stderr.contains("Usage: maglica"), "{none:?}");
}

#[test]
fn host_names_that_would_do_harm_are_refused_with_the_rule_they_break() {
    let place = Place::new(free_port());
    let long = "a".repeat(300);
    for (name, rule) in [
        ("-x", "begins or ends with '-'"),
        ("a..b", "two in a row"),
        ("../../etc/passwd", "only letters"),
        ("x;reboot", "only letters"),
        (&long, "longer than the 64 characters"),
        ("größe", "only letters"),
        ("", "it is empty"),
    ] {
        for words in [vec![format!("--hostname={name}")], vec!["--hostname".to_owned(), name.to_owned()]] {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let ran = clone(&place, &words).exits(2).says(rule).says("is not a valid host name");
            assert!(ran.stdout.is_empty());
        }
    }
}

#[test]
fn a_name_is_wanted_once() {
    let place = Place::new(free_port());
    for words in [
        ["vm", "start"],
        ["vm", "show"],
        ["host", "revoke"],
        ["operator", "revoke"],
        ["job", "show"],
        ["log", "status"],
    ] {
        place.run(&words).exits(2).says("is missing: give it bare or as --");
    }
    place.run(&["vm", "show", "a", "--name=b"]).exits(2).says("two different names are given: a and --name=b");
    place.run(&["job", "show", "17"]).exits(2).says("is not a job id");
}

#[test]
fn a_private_key_is_refused_as_ssh_key_and_so_is_what_is_no_key() {
    let place = Place::new(free_port());
    let private =
        place.file("id_ed25519", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n");
    clone(&place, &["--hostname=vm0", "--ssh-key", &private])
        .exits(2)
        .says("this is a private key; give the public one");
    let other = place.file("notes", "hello\n");
    clone(&place, &["--hostname=vm0", "--ssh-key", &other]).exits(2).says("line 1 is not an ssh public key");
    clone(&place, &["--hostname=vm0", "--ssh-key=/nonexistent/key"]).exits(2).says("cannot read /nonexistent/key");
}

#[test]
fn an_empty_root_password_is_refused() {
    let place = Place::new(free_port());
    let file = place.file("password", "\n");
    clone(&place, &["--hostname=vm0", "--root-password-file", &file]).exits(2).says("is empty");
}

#[test]
fn addresses_that_do_not_go_together_are_refused() {
    let place = Place::new(free_port());
    clone(&place, &["--hostname=vm0", "--ip=192.168.0.10/24", "--gateway=10.0.0.1"])
        .exits(2)
        .says("is not in the network of 192.168.0.10/24");
    clone(&place, &["--hostname=vm0", "--ip=192.168.0.10"]).exits(2).says("is not an address with its prefix length");
    clone(&place, &["--hostname=vm0", "--gateway=10.0.0.1"]).exits(2).says("needs --ip");
}

#[test]
fn a_client_worker_that_does_not_run_is_one_clear_sentence_with_a_hint() {
    let port = free_port();
    let place = Place::new(port);
    let ran = place.run(&["image", "list"]).exits(8);
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert!(
        lines[0]
            .starts_with(&format!("error: no answer from the client worker: connection refused by 127.0.0.1:{port}")),
        "{ran:?}"
    );
    assert!(lines[1].starts_with("hint: is maglica-client-worker running there?"), "{ran:?}");
    assert!(ran.stdout.is_empty());
}

#[test]
fn a_configuration_that_cannot_be_used_names_file_and_key() {
    let place = Place::new(free_port());
    let file = place.file("maglica.conf", "client: {rep_prot: 1}\n");
    place
        .run(&["image", "list"])
        .exits(13)
        .says(&file)
        .says("unknown key client.rep_prot (did you mean client.rep_port?)");
    place.file("maglica.conf", "client: {host: [\n");
    place.run(&["image", "list"]).exits(13).says("is not valid YAML");
    place
        .run(&["image", "list", "--config=/nonexistent.conf"])
        .exits(13)
        .says("cannot read the configuration /nonexistent.conf");
    // Help needs no configuration.
    place.run(&["vm", "--help"]).exits(0);
}

#[test]
fn a_client_worker_that_does_not_run_is_told_even_to_somebody_who_has_no_key_yet() {
    let place = Place::new(free_port());
    std::fs::remove_file(place.path("key")).unwrap();
    place.run(&["vm", "list"]).exits(8).says("connection refused by 127.0.0.1:");
}
