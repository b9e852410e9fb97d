//! Golden values of serial consoles and logs.

use maglica_proto::{
    console::{Chunk, ConsoleInput, ConsoleOutput, ConsoleView, LineReport, LogPart, LogPlace},
    host::{Broadcast, HostAnswer, HostRequest},
    request::{Answer, Request},
};

use super::fixtures::{fault, name, uuid, vm_task};

fn input() -> ConsoleInput {
    ConsoleInput { from: 12, input: Chunk(b"root\r".to_vec()) }
}

fn place() -> LogPlace {
    LogPlace { file: 4711, offset: 65_536 }
}

fn part() -> LogPart {
    LogPart { output: Chunk(b"login: ".to_vec()), next: place(), missed: true }
}

pub(crate) fn requests() -> Vec<(&'static str, Request)> {
    let (id, host) = (uuid(), || Some(name("host0.example.jp")));
    vec![
        ("console-open", Request::ConsoleOpen { id, name: name("vm0.example.jp"), host: host(), force: true }),
        ("console-view", Request::ConsoleView { id, name: name("vm0.example.jp"), host: None }),
        ("console-read", Request::ConsoleRead { id, from: 700, wait_ms: 25_000 }),
        ("console-write", Request::ConsoleWrite { id, input: input() }),
        ("console-close", Request::ConsoleClose { id }),
        (
            "vm-log",
            Request::VmLog {
                name: name("vm0.example.jp"),
                host: host(),
                place: Some(place()),
                tail: 0,
                wait_ms: 20_000,
            },
        ),
        (
            "vm-log-end",
            Request::VmLog { name: name("vm0.example.jp"), host: None, place: None, tail: 65_536, wait_ms: 0 },
        ),
    ]
}

pub(crate) fn answers() -> Vec<(&'static str, Answer)> {
    let view = |writer| ConsoleView {
        vm: name("vm0.example.jp"),
        host: name("host0.example.jp"),
        from: 700,
        typed: 12,
        viewers: 2,
        writer,
    };
    let output = |ended| ConsoleOutput { from: 700, output: Chunk(b"login: ".to_vec()), ended };
    vec![
        ("console", Answer::Console(view(Some("alice".to_owned())))),
        ("console-view", Answer::Console(view(None))),
        ("console-output", Answer::ConsoleOutput(output(None))),
        ("console-output-end", Answer::ConsoleOutput(output(Some(fault())))),
        ("console-taken", Answer::ConsoleTaken { taken: 17 }),
        ("vm-log", Answer::VmLog(part())),
    ]
}

pub(crate) fn broadcasts() -> Vec<(&'static str, Broadcast)> {
    let read = |place| Broadcast::LogRead { number: 7, vm: vm_task(), place, tail: 65_536, wait_ms: 20_000 };
    vec![
        ("console", Broadcast::Console { line: uuid(), vm: vm_task(), open: true, input: input() }),
        ("console-end", Broadcast::ConsoleEnd { line: uuid() }),
        ("log-read", read(Some(place()))),
        ("log-read-end", read(None)),
    ]
}

pub(crate) fn host_requests() -> Vec<(&'static str, HostRequest)> {
    let report = |ended| LineReport { line: uuid(), from: 700, output: Chunk(b"login: ".to_vec()), taken: 17, ended };
    vec![
        ("line", HostRequest::Line(report(None))),
        ("line-end", HostRequest::Line(report(Some(fault())))),
        ("log", HostRequest::Log { number: 7, result: Ok(part()) }),
        ("log-fault", HostRequest::Log { number: 7, result: Err(fault()) }),
    ]
}

pub(crate) fn host_answers() -> Vec<(&'static str, HostAnswer)> {
    vec![("line", HostAnswer::Line { wanted: true, input: input() })]
}
