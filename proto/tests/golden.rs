//! Golden bytes: what travels is what it was in every edition before.
//!
//! `golden/v<N>/<type>.hex` has a line for each value: its name and its bytes. The newest edition ([`EDITION`]) must
//! be exactly what this program writes and reads; each older one must still be read, with nothing of it lost. So a
//! field that is renamed, retyped, or new and not optional fails here before it reaches another machine.
//!
//! A change of what is written, even a harmless one such as a new optional field, is a new edition: raise [`EDITION`]
//! and run `MAGLICA_GOLDEN=write cargo test -p maglica-proto --test golden`, which writes the new folder. The
//! variable adds files and lines that are missing from the newest edition and never changes or removes one: a new
//! variant may be added to an edition that is not yet released. An edition is not the protocol version of the
//! handshake, which is raised only if old and new cannot understand each other.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "golden/change.rs"]
mod change;
#[path = "golden/clear.rs"]
mod clear;
#[path = "golden/console.rs"]
mod console;
#[path = "golden/fixtures.rs"]
mod fixtures;
#[path = "golden/hostile.rs"]
mod hostile;
#[path = "golden/image.rs"]
mod image;
#[path = "golden/independent.rs"]
mod independent;
#[path = "golden/inventory.rs"]
mod inventory;
#[path = "golden/messages.rs"]
mod messages;
#[path = "golden/placement.rs"]
mod placement;
#[path = "golden/value.rs"]
mod value;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    fs,
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use maglica_proto::codec::{self, CodecError};
use serde::{Serialize, de::DeserializeOwned};

use value::Value;

/// The newest folder of golden bytes.
const EDITION: u32 = 1;

/// A value that has golden bytes, its type forgotten.
pub(crate) struct Case {
    file: &'static str,
    name: &'static str,
    bytes: Vec<u8>,
    /// Reads bytes as the type, and writes what was read.
    reread: fn(&[u8]) -> Result<Vec<u8>, CodecError>,
}

impl Case {
    /// The case of a value, which must read back as itself.
    fn of<T: Serialize + DeserializeOwned + PartialEq + Debug>(
        file: &'static str,
        name: &'static str,
        value: &T,
    ) -> Self {
        let bytes = codec::encode(value).unwrap();
        assert_eq!(&codec::decode::<T>(&bytes).unwrap(), value, "{file} {name}");
        Self { file, name, bytes, reread: |bytes| codec::encode(&codec::decode::<T>(bytes)?) }
    }
}

/// The lines of one file: names and bytes.
type Page = BTreeMap<String, Vec<u8>>;

fn folder(edition: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/v{edition}"))
}

fn read_page(path: &Path) -> Page {
    let Ok(text) = fs::read_to_string(path) else { return Page::new() };
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let line = |line: &str| {
        let (name, bytes) = line.split_once(' ').unwrap();
        (name.to_owned(), HEXLOWER.decode(bytes.trim().as_bytes()).unwrap())
    };
    lines.map(line).collect()
}

/// Compares bytes with the newest edition's page of that name, or adds to it if that was asked for.
fn compare(file: &str, written: &[(&str, Vec<u8>)]) {
    let path = folder(EDITION).join(format!("{file}.hex"));
    let mut page = read_page(&path);
    let names: BTreeSet<&str> = written.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), written.len(), "{file}: a name stands for two values");
    let missing: Vec<_> = written.iter().filter(|(name, _)| !page.contains_key(*name)).collect();
    if !missing.is_empty() && std::env::var("MAGLICA_GOLDEN").is_ok_and(|word| word == "write") {
        page.extend(missing.into_iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())));
        let lines: String = page.iter().map(|(name, bytes)| format!("{name} {}\n", HEXLOWER.encode(bytes))).collect();
        fs::create_dir_all(folder(EDITION)).unwrap();
        fs::write(&path, lines).unwrap();
    }
    for (name, bytes) in written {
        let golden =
            page.get(*name).unwrap_or_else(|| panic!("{file} {name} has no golden bytes; see the test's header"));
        assert_eq!(HEXLOWER.encode(bytes), HEXLOWER.encode(golden), "{file} {name} is written otherwise than it was");
    }
    let gone: Vec<_> = page.keys().filter(|name| !names.contains(name.as_str())).collect();
    assert!(gone.is_empty(), "{file}: what was {gone:?} is not written any more");
}

fn by_file() -> BTreeMap<&'static str, Vec<Case>> {
    let mut files = BTreeMap::<_, Vec<Case>>::new();
    for case in messages::all() {
        files.entry(case.file).or_default().push(case);
    }
    files
}

#[test]
fn every_message_is_written_and_read_as_its_golden_bytes() {
    for (file, cases) in by_file() {
        let written: Vec<_> = cases.iter().map(|case| (case.name, case.bytes.clone())).collect();
        compare(file, &written);
    }
}

#[test]
fn nothing_of_any_edition_is_lost() {
    let files = by_file();
    for edition in 1..=EDITION {
        for entry in fs::read_dir(folder(edition)).unwrap() {
            let path = entry.unwrap().path();
            let Some(cases) = path.file_stem().and_then(|stem| files.get(stem.to_str()?)) else { continue };
            for (name, bytes) in read_page(&path) {
                let again =
                    (cases[0].reread)(&bytes).unwrap_or_else(|error| panic!("{} {name}: {error}", path.display()));
                let (old, new): (Value, Value) = (codec::decode(&bytes).unwrap(), codec::decode(&again).unwrap());
                assert!(new.holds(&old), "{} {name}: something was lost\nold {old:?}\nnew {new:?}", path.display());
            }
        }
    }
}

#[test]
fn every_page_of_the_newest_edition_is_still_compared() {
    let mut known: BTreeSet<String> = by_file().into_keys().map(str::to_owned).collect();
    known.extend(["header", "clear", "token", "key", "handshake"].map(str::to_owned));
    let pages = fs::read_dir(folder(EDITION)).unwrap().map(|entry| entry.unwrap().path());
    let stems: BTreeSet<String> = pages.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert!(stems.is_subset(&known), "no test reads {:?}", stems.difference(&known).collect::<Vec<_>>());
}

#[test]
fn an_unknown_field_anywhere_in_a_message_is_ignored() {
    for case in messages::all() {
        let value: Value = codec::decode(&case.bytes).unwrap();
        let extended = codec::encode(&value.clone().with_unknown_fields()).unwrap();
        let again = (case.reread)(&extended).unwrap_or_else(|error| panic!("{} {}: {error:?}", case.file, case.name));
        assert_eq!(again, case.bytes, "{} {}", case.file, case.name);
    }
}

#[test]
fn an_optional_field_may_be_absent_or_nil() {
    let mut dropped = 0;
    for case in messages::all() {
        let value: Value = codec::decode(&case.bytes).unwrap();
        let (without, count) = value.without_nil();
        dropped += count;
        let bytes = codec::encode(&without).unwrap();
        let again = (case.reread)(&bytes).unwrap_or_else(|error| panic!("{} {}: {error:?}", case.file, case.name));
        assert_eq!(again, case.bytes, "{} {}", case.file, case.name);
    }
    assert!(dropped > 50, "the fixtures have optional fields that are not there: {dropped}");
}

#[test]
fn fields_with_a_default_may_be_absent() {
    // Per page: a case, and the fields that may be missing wherever they stand in it.
    for (file, name, fields) in [
        ("task", "clone", &["memory", "dns", "ssh_keys"][..]),
        ("host-event-kind", "step-done", &["note"]),
        ("outcome", "removed", &["kept"]),
        ("answer", "vms", &["addresses"]),
        ("answer", "vm", &["addresses", "marked_image", "readonly"]),
        ("answer", "hosts", &["pools"]),
        ("answer", "fault", &["object", "similar", "left"]),
        ("host-answer", "beat-asking", &["missing", "rekey"]),
    ] {
        let case = messages::all().into_iter().find(|case| (case.file, case.name) == (file, name)).unwrap();
        for field in fields {
            let value: Value = codec::decode(&case.bytes).unwrap();
            let (without, count) = value.without(field);
            assert!(count > 0, "{file} {name} has no {field}");
            let again = (case.reread)(&codec::encode(&without).unwrap());
            let again = again.unwrap_or_else(|error| panic!("{file} {name} without {field}: {error:?}"));
            let read: Value = codec::decode(&again).unwrap();
            assert!(read.holds(&without), "{file} {name} without {field}");
        }
    }
}

#[test]
fn a_word_of_a_newer_version_is_read_as_other_where_that_is_promised() {
    use maglica_proto::{
        fault::Code,
        host::Denial,
        inventory::DomainState,
        job::{HostEventKind, JobEventKind, Step},
    };
    let word = codec::encode(&"of-a-newer-version").unwrap();
    assert_eq!(codec::decode::<Code>(&word).unwrap(), Code::Unknown);
    assert_eq!(codec::decode::<Denial>(&word).unwrap(), Denial::Other);
    assert_eq!(codec::decode::<DomainState>(&word).unwrap(), DomainState::Unknown);
    assert_eq!(codec::decode::<Step>(&word).unwrap(), Step::Other);
    let fields = [("event", "of-a-newer-version"), ("unheard", "of")];
    let event = codec::encode(&BTreeMap::from(fields)).unwrap();
    assert_eq!(codec::decode::<HostEventKind>(&event).unwrap(), HostEventKind::Other);
    assert_eq!(codec::decode::<JobEventKind>(&event).unwrap(), JobEventKind::Other);
    // Deep inside a message as well.
    let case = messages::all().into_iter().find(|case| (case.file, case.name) == ("host-request", "report")).unwrap();
    let value: Value = codec::decode(&case.bytes).unwrap();
    let newer = codec::encode(&value.with_text("step-started", "of-a-newer-version")).unwrap();
    let Value::Map(read) = codec::decode((case.reread)(&newer).unwrap().as_slice()).unwrap() else {
        panic!("not a map")
    };
    assert!(format!("{:?}", read["events"]).contains("\"other\""));
}

#[test]
fn the_document_names_every_field_and_every_word() {
    let document = include_str!("../PROTOCOL.md");
    let mut words = BTreeSet::new();
    for case in messages::all() {
        codec::decode::<Value>(&case.bytes).unwrap().words(&mut words);
    }
    assert!(words.len() > 150, "{}", words.len());
    let missing: Vec<_> = words.iter().filter(|word| !document.contains(&format!("`{word}`"))).collect();
    assert!(missing.is_empty(), "PROTOCOL.md does not name {missing:?}");
    let (verbs, kinds) = (requests_of(document), clear::kinds().len());
    assert_eq!(verbs, messages::verbs(), "the table of requests names other roles than the program asks for");
    assert!((1..=kinds).all(|kind| document.contains(&format!("\n| {kind} | "))));
}

/// The verbs and roles of the document's table of requests.
fn requests_of(document: &str) -> BTreeMap<String, String> {
    let table = document.split("| `verb` | role |").nth(1).unwrap().split("\n\n").next().unwrap();
    let row = |line: &str| {
        let mut cells = line.split('|').map(str::trim);
        let verb = cells.nth(1)?.strip_prefix('`')?.strip_suffix('`')?;
        Some((verb.to_owned(), cells.next()?.to_owned()))
    };
    table.lines().filter_map(row).collect()
}
