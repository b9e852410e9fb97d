//! The files on a real disk, with the thread and the pages on top.

use std::io::Write as _;

use maglica_proto::{
    audit::{Asked, AuditPage, Capacity, Verdict},
    key::KeyPair,
};

use super::*;
use crate::audit::{
    owner::{Command, Owner},
    page,
};

/// A small file, so that tests see several.
const SMALL: u64 = 2000;

fn key() -> Fingerprint {
    KeyPair::generate().unwrap().public().fingerprint()
}

fn asked(object: &str) -> AuditEvent {
    AuditEvent::Asked(Asked {
        who: "alice".into(),
        role: Capacity::Operator,
        key: key(),
        verb: "host-revoke".into(),
        object: Some(object.into()),
        detail: None,
        job: None,
        outcome: Some(Verdict::Ok),
        unlisted: 0,
    })
}

/// Writes so many lines and syncs each.
fn write(files: &mut Files, count: usize) {
    for number in 0..count {
        files.append([&asked(&format!("host{number}"))]).unwrap();
        files.sync().unwrap();
        files.next_if_full().unwrap();
    }
}

fn snapshot(files: &Files) -> page::Snapshot {
    let (folder, first, file) = files.reading().unwrap();
    let synced = files.synced();
    page::Snapshot { folder, first, file, len: synced.len, head: synced.head, flaw: None, trouble: None }
}

fn pages(files: &Files, back: bool, limit: u32) -> Vec<AuditPage> {
    let (snapshot, mut pages, mut from) = (snapshot(files), Vec::new(), None);
    loop {
        let page = page::read(&snapshot, from, back, limit).unwrap();
        from = page.next;
        pages.push(page);
        if from.is_none() {
            return pages;
        }
    }
}

fn forward(files: &Files) -> Vec<String> {
    pages(files, false, 7).into_iter().flat_map(|page| page.lines).collect()
}

fn check(lines: &[String]) -> Chain {
    let mut chain = Chain::whole();
    lines.iter().for_each(|line| drop(chain.read(line)));
    chain
}

#[test]
fn the_chain_goes_on_over_files_and_is_read_in_pages_from_either_end() {
    let folder = tempfile::tempdir().unwrap();
    let (mut files, _) = Files::open(folder.path(), key(), SMALL).unwrap();
    write(&mut files, 50);
    assert!(older(folder.path()).unwrap().len() > 3);
    let lines = forward(&files);
    let chain = check(&lines);
    assert_eq!((chain.flaws(), chain.last()), (&[][..], Some(files.synced().head)));
    let backward: Vec<String> = pages(&files, true, 7).into_iter().rev().flat_map(|page| page.lines).collect();
    assert_eq!(backward, lines);
    assert!(lines.ends_with(&pages(&files, true, 3)[0].lines), "the last come first");
    // Older files may be put away.
    fs::remove_file(&older(folder.path()).unwrap()[0].1).unwrap();
    let left = forward(&files);
    assert!(left.len() < lines.len() && check(&left).flaws().is_empty());
    fs::remove_file(&older(folder.path()).unwrap()[1].1).unwrap();
    assert_eq!(check(&forward(&files)).count(), 1, "but none from their middle");
}

#[test]
fn the_next_start_goes_on_where_the_last_one_ended() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..5 {
        let (mut files, mended) = Files::open(folder.path(), key(), SMALL).unwrap();
        assert!(mended.lines.is_empty() && mended.flaw.is_none());
        write(&mut files, 8);
        assert!(check(&forward(&files)).flaws().is_empty());
    }
    // A crash between two files leaves none of the usual name.
    fs::rename(folder.path().join(PRESENT), folder.path().join("audit-000000000999.log")).unwrap();
    let before = check(&[]).last();
    let (files, _) = Files::open(folder.path(), key(), SMALL).unwrap();
    assert!(files.synced().head.seq > 40 && before.is_none());
}

#[test]
fn a_torn_last_line_is_cut_off_and_told_in_a_line_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (mut files, _) = Files::open(folder.path(), key(), u64::MAX).unwrap();
    write(&mut files, 3);
    let path = folder.path().join(PRESENT);
    append(&path, false).unwrap().write_all(b"{\"seq\":4,\"at\":17").unwrap();
    let (mut files, mended) = Files::open(folder.path(), key(), u64::MAX).unwrap();
    assert_eq!(mended.flaw, None);
    assert_eq!(mended.lines, [AuditEvent::Torn { bytes: 16, text: "{\"seq\":4,\"at\":17".into() }]);
    files.append(&mended.lines).unwrap();
    files.sync().unwrap();
    let lines = forward(&files);
    assert!(check(&lines).flaws().is_empty() && lines[4].contains("\"torn\""), "{lines:#?}");
}

#[test]
fn a_chain_that_does_not_hold_is_told_once_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (mut files, _) = Files::open(folder.path(), key(), u64::MAX).unwrap();
    write(&mut files, 5);
    drop(files);
    let path = folder.path().join(PRESENT);
    let text = fs::read_to_string(&path).unwrap();
    let without: String =
        text.split_inclusive('\n').enumerate().filter(|(at, _)| *at != 2).map(|(_, line)| line).collect();
    fs::write(&path, without).unwrap();
    for start in 0..2 {
        let (mut files, mended) = Files::open(folder.path(), key(), u64::MAX).unwrap();
        assert_eq!(mended.flaw.as_deref(), Some("line 2 is missing"));
        assert_eq!(mended.lines.len(), 1 - start, "a line tells of it once");
        files.append(&mended.lines).unwrap();
        files.sync().unwrap();
        let chain = check(&forward(&files));
        assert_eq!(chain.count(), 1, "what follows is sound: {:?}", chain.flaws());
    }
    fs::write(&path, "").unwrap();
    let (_, mended) = Files::open(folder.path(), key(), u64::MAX).unwrap();
    assert!(mended.flaw.unwrap().contains("empty"));
}

#[test]
fn what_was_not_synced_is_taken_back_without_a_trace() {
    let folder = tempfile::tempdir().unwrap();
    let (mut files, _) = Files::open(folder.path(), key(), u64::MAX).unwrap();
    write(&mut files, 2);
    let before = fs::read(folder.path().join(PRESENT)).unwrap();
    files.append([&asked("a"), &asked("b")]).unwrap();
    files.take_back().unwrap();
    assert_eq!(fs::read(folder.path().join(PRESENT)).unwrap(), before);
    write(&mut files, 2);
    assert!(check(&forward(&files)).flaws().is_empty());
}

#[test]
fn lines_of_one_moment_are_numbered_in_their_order_and_synced_before_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let (files, mended) = Files::open(folder.path(), key(), u64::MAX).unwrap();
    let (commands, receiver) = tokio::sync::mpsc::channel(16);
    let mut answers = Vec::new();
    for number in 0..3 {
        let (reply, answer) = tokio::sync::oneshot::channel();
        let lines = (0..2).map(|line| asked(&format!("{number}.{line}"))).collect();
        commands.try_send(Command::Store(lines, Some(reply))).unwrap();
        let outcome = AuditEvent::Outcome { of: 1, outcome: Verdict::Ok };
        commands.try_send(Command::Store(vec![outcome], None)).unwrap();
        answers.push(answer);
    }
    drop(commands);
    Owner::new(files, mended).run(receiver);
    let numbers: Vec<u64> = answers.into_iter().flat_map(|mut answer| answer.try_recv().unwrap().unwrap()).collect();
    let (files, _) = Files::open(folder.path(), key(), u64::MAX).unwrap();
    let lines = forward(&files);
    for (number, object) in numbers.iter().zip(["0.0", "0.1", "1.0", "1.1", "2.0", "2.1"]) {
        let line = &lines[usize::try_from(*number).unwrap()];
        assert!(line.contains(&format!("\"object\":\"{object}\"")), "{line}");
    }
    assert_eq!((lines.len(), check(&lines).count()), (10, 0));
}
