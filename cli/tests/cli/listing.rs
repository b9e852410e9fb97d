//! What is shown of lists, in every form.

use maglica_proto::{
    fault::{Code, Fault},
    inventory::DomainState,
    request::{Absence, Answer, ImageRow, ImageState, Listing, Presence, Request, VmCursor, VmRow},
    units::{ByteSize, Timestamp},
};

use crate::{
    place::{Place, free_port},
    worker::{Door, Reply, serve, serve_as},
};

fn with(handler: impl FnMut(Request) -> Reply + Send + 'static) -> Place {
    let place = Place::new(free_port());
    place.configure(serve(place.server.clone(), Door::Operator(place.operator.public()), handler));
    place
}

fn images(absent: Vec<Absence>) -> Answer {
    let row = ImageRow {
        name: "debian12-x86_64.original".parse().unwrap(),
        host: "host0.example.jp".parse().unwrap(),
        disk: Some(ByteSize::mib(1024)),
        format: "qcow2".into(),
        state: ImageState::Ready,
        age_ms: 5,
    };
    Answer::Images(Listing { rows: vec![row], absent })
}

#[test]
fn images_are_listed_in_every_form() {
    let place = with(|request| {
        assert_eq!(request, Request::ImageList);
        images(Vec::new()).into()
    });
    let table = place.run(&["image", "list"]).exits(0);
    assert_eq!(
        table.stdout,
        "Name                      Host              Disk     Format  State\n\
         debian12-x86_64.original  host0.example.jp  1.0 GiB  qcow2   ready\n"
    );
    assert!(table.stderr.is_empty());

    let json = place.run(&["image", "list", "-o", "json"]).exits(0).stdout;
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (value["images"][0]["disk"].as_u64(), value["absent"].as_array().map(Vec::len)),
        (Some(1 << 30), Some(0))
    );
    let yaml: serde_json::Value =
        serde_norway::from_str(&place.run(&["-o=yaml", "image", "list"]).exits(0).stdout).unwrap();
    assert_eq!(yaml, value);
    assert_eq!(place.run(&["image", "list", "-oname"]).exits(0).stdout, "debian12-x86_64.original\n");
    assert_eq!(place.run(&["image", "list", "-oname", "--on=other"]).exits(0).stdout, "");
}

#[test]
fn an_absent_host_is_told_beside_the_data_and_by_the_exit_code() {
    let absent = Absence {
        host: "host0.example.jp".parse().unwrap(),
        presence: Presence::Down,
        heard: Some(Timestamp::from_millis(86_399_000)),
    };
    let place = with(move |_| images(vec![absent.clone()]).into());
    let ran = place.run(&["image", "list", "-o", "json"]).exits(3);
    assert_eq!(ran.stderr, "host0.example.jp: down since 1970-01-01T23:59:59+00:00, its 1 image is as last seen\n");
    serde_json::from_str::<serde_json::Value>(&ran.stdout).expect("stdout is JSON all the same");
}

fn machine(number: usize) -> VmRow {
    VmRow {
        name: format!("vm{number:04}").parse().unwrap(),
        host: "host0".parse().unwrap(),
        state: DomainState::Running,
        vcpus: 1,
        memory: ByteSize::mib(512),
        disk: None,
        image: None,
        addresses: Vec::new(),
        age_ms: 0,
    }
}

#[test]
fn machines_come_in_pages_and_are_shown_as_one_list() {
    let place = with(|request| {
        let Request::VmList { after } = request else { panic!("{request:?}") };
        let from = after.map_or(0, |after| after.name.as_str()[2..].parse::<usize>().unwrap() + 1);
        let rows: Vec<VmRow> = (from..(from + 1000).min(2500)).map(machine).collect();
        let next = rows
            .last()
            .filter(|row| row.name.as_str() != "vm2499")
            .map(|row| VmCursor { name: row.name.clone(), host: row.host.clone() });
        Answer::Vms { listing: Listing { rows, absent: Vec::new() }, next }.into()
    });
    let names = place.run(&["vm", "list", "-o", "name"]).exits(0).stdout;
    assert_eq!(
        (names.lines().count(), names.lines().next(), names.lines().last()),
        (2500, Some("vm0000"), Some("vm2499"))
    );
}

#[test]
fn a_mistyped_name_is_answered_with_what_was_perhaps_meant() {
    let place = with(|_| {
        let mut fault = Fault::new(Code::NotFound, "there is no virtual machine vm9").about("vm9");
        fault.similar = vec!["vm0".into()];
        Answer::Fault { fault }.into()
    });
    let ran = place.run(&["vm", "show", "vm9"]).exits(4);
    assert_eq!(ran.stderr, "error: there is no virtual machine vm9\nhint: did you mean vm0?\n");
}

#[test]
fn a_lost_answer_is_asked_for_again_on_a_fresh_connection() {
    let mut asked = 0;
    let place = with(move |_| {
        asked += 1;
        if asked < 3 { Reply::Hang } else { images(Vec::new()).into() }
    });
    assert_eq!(place.run(&["image", "list", "-oname"]).exits(0).stdout, "debian12-x86_64.original\n");
}

#[test]
fn an_invitation_is_one_line_on_stdout_and_its_token_is_not_sent() {
    let place = with(|request| {
        let Request::HostInvite { name, invite } = request else { panic!("{request:?}") };
        assert_eq!((name.as_str(), invite.valid_s), ("host1", 7200));
        Answer::Done.into()
    });
    let ran = place
        .run(&["host", "invite", "host1", "--valid=2h"])
        .exits(0)
        .says("maglica-host-worker join")
        .says("this machine only");
    let invitation: maglica_proto::join::Invitation = ran.stdout.parse().unwrap();
    assert_eq!(invitation.key, place.server.public());
    assert_eq!(ran.stdout.lines().count(), 1);
    assert!(!ran.stderr.contains("mg-"));
}

#[test]
fn a_client_worker_of_another_version_is_told_of_once_and_before_what_it_answers() {
    let place = Place::new(free_port());
    let door = || Door::Operator(place.operator.public());
    place.configure(serve_as("99.7.0", place.server.clone(), door(), |_| images(Vec::new()).into()));
    let ran = place.run(&["image", "list"]).exits(0);
    assert_eq!(ran.stderr.matches("99.7.0").count(), 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("note:") && ran.stderr.contains("update this command"), "{}", ran.stderr);
    let fault = Answer::Fault { fault: Fault::new(Code::Version, "not understood") };
    place.configure(serve_as("99.7.0", place.server.clone(), door(), move |_| fault.clone().into()));
    let refused = place.run(&["image", "list"]).exits(1).stderr;
    assert!(refused.find("99.7.0") < refused.find("error:"), "said before it hurts: {refused}");
    place.configure(serve_as(env!("CARGO_PKG_VERSION"), place.server.clone(), door(), |_| images(Vec::new()).into()));
    assert_eq!(place.run(&["image", "list"]).exits(0).stderr, "");
}
