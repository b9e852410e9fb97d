//! Files over a real connection: whole, sparse, resumed, and refused where they should be.
#![cfg(feature = "transfer")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs::File,
    io::Write as _,
    net::{TcpListener, TcpStream},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use maglica_proto::{
    fault::Code,
    id::JobId,
    key::KeyPair,
    transfer::{
        Acceptor, Hello, Offer, OfferedFile, Role, Taker, Told, TransferError, Wire, content::SEGMENT, give,
        seal::OPENING_HEAD,
    },
    units::ByteSize,
};
use proptest::prelude::*;

const MIB: u64 = 1024 * 1024;

/// Both ends of a connection, after the handshake.
fn pair() -> (Wire, Wire) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (own, peer) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let (server, known) = (own.public(), peer.public());
    let accepting = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let acceptor = opening(&stream, &own).unwrap();
        assert_eq!((acceptor.key, acceptor.role), (known, Role::Host));
        let (message, sealed) = acceptor.accept().unwrap();
        (&stream).write_all(&message).unwrap();
        Wire::new(stream, sealed).unwrap()
    });
    let stream = TcpStream::connect(address).unwrap();
    let dialled = Wire::open(stream, &peer, server, Role::Host, &Hello::new(JobId::generate())).unwrap();
    (accepting.join().unwrap(), dialled)
}

fn opening(mut stream: &TcpStream, keys: &KeyPair) -> Result<Acceptor, TransferError> {
    use std::io::Read as _;
    let mut head = [0; OPENING_HEAD];
    stream.read_exact(&mut head).map_err(TransferError::Io)?;
    let (role, length) = Acceptor::head(head)?;
    let mut message = vec![0; length];
    stream.read_exact(&mut message).map_err(TransferError::Io)?;
    Acceptor::read(keys, role, &message)
}

fn offer(path: &Path) -> Offer {
    let file = OfferedFile::new("vda", "raw", File::open(path).unwrap()).unwrap();
    Offer { description: Some("<domain/>".to_owned()), pool: None, files: vec![file] }
}

fn giving(mut wire: Wire, path: &Path) -> JoinHandle<Result<(), TransferError>> {
    let offer = offer(path);
    thread::spawn(move || give(&mut wire, &offer))
}

fn open(path: &Path) -> File {
    File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap()
}

/// A file of some segments with data here and there, holes elsewhere, and an odd end.
fn sample(path: &Path, seed: u8) -> u64 {
    let size = 2 * SEGMENT + 5 * MIB + 777;
    let file = File::create(path).unwrap();
    file.set_len(size).unwrap();
    let bytes: Vec<u8> = (0..3 * MIB).map(|at| u8::try_from(at % 251).unwrap() ^ seed).collect();
    for offset in [0, 10 * MIB + 4096, SEGMENT - MIB, 2 * SEGMENT + 4 * MIB] {
        let length = bytes.len().min(usize::try_from(size - offset).unwrap());
        file.write_all_at(&bytes[..length], offset).unwrap();
    }
    // Zeros that are written, and so are data for the file system.
    file.write_all_at(&vec![0; 1 << 20], 30 * MIB).unwrap();
    size
}

fn same(a: &Path, b: &Path) {
    assert_eq!(std::fs::metadata(a).unwrap().len(), std::fs::metadata(b).unwrap().len());
    assert!(std::fs::read(a).unwrap() == std::fs::read(b).unwrap(), "the contents differ");
}

#[test]
fn a_file_arrives_whole_with_its_holes_and_tells_how_far_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    let size = sample(&from, 0);
    let (server, mut client) = pair();
    let giver = giving(server, &from);
    let mut taker = Taker::new(&mut client);
    let listed = taker.list().unwrap();
    assert_eq!((listed.description.as_deref(), listed.files[0].size), (Some("<domain/>"), ByteSize::bytes(size)));
    let mut seen: Vec<Told> = Vec::new();
    taker.fetch(0, &open(&to), None, |told| seen.push(told)).unwrap();
    taker.done().unwrap();
    giver.join().unwrap().unwrap();
    same(&from, &to);
    let blocks = std::fs::metadata(&to).unwrap().blocks() * 512;
    assert!(blocks < 13 * MIB, "{blocks} bytes are taken up: holes and zeros are not written");
    assert!(seen.windows(2).all(|pair| pair[0].done <= pair[1].done), "it never goes back: {seen:?}");
    let end = seen.last().unwrap();
    assert_eq!(end.done, end.total);
}

#[test]
fn what_is_there_already_does_not_travel_again_and_what_is_wrong_does() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    sample(&from, 0);
    std::fs::copy(&from, &to).unwrap();
    // A wrong byte in the second segment, and a third one that is missing.
    open(&to).write_all_at(&[1], SEGMENT + 20 * MIB).unwrap();
    open(&to).set_len(2 * SEGMENT).unwrap();
    let (server, mut client) = pair();
    let giver = giving(server, &from);
    let mut taker = Taker::new(&mut client);
    let mut first = None;
    taker.fetch(0, &open(&to), None, |told| _ = first.get_or_insert(told)).unwrap();
    taker.done().unwrap();
    giver.join().unwrap().unwrap();
    same(&from, &to);
    let first = first.unwrap();
    assert!(
        first.done.as_bytes() >= 7 * MIB && first.done < first.total,
        "it begins behind the first segment: {first:?}"
    );
}

#[test]
fn a_transfer_that_breaks_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    sample(&from, 0);
    let (server, mut client) = pair();
    let giver = giving(server, &from);
    let breaker = client.breaker().unwrap();
    let mut taker = Taker::new(&mut client);
    // So slow that the rest is not on its way already.
    let broken = taker.fetch(0, &open(&to), Some(ByteSize::mib(20)), |told| {
        // In the middle of the third segment.
        if told.done.as_bytes() > 9 * MIB {
            breaker.cut();
        }
    });
    assert!(broken.as_ref().is_err_and(TransferError::may_pass), "{broken:?}");
    assert!(giver.join().unwrap().is_err());
    let (server, mut client) = pair();
    let giver = giving(server, &from);
    let mut taker = Taker::new(&mut client);
    let mut first = None;
    taker.fetch(0, &open(&to), None, |told| _ = first.get_or_insert(told)).unwrap();
    taker.done().unwrap();
    giver.join().unwrap().unwrap();
    same(&from, &to);
    assert!(first.unwrap().done.as_bytes() >= 8 * MIB, "{first:?}");
}

#[test]
fn a_file_that_is_written_to_meanwhile_is_not_given_out_as_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    sample(&from, 0);
    let (server, mut client) = pair();
    let giver = giving(server, &from);
    let source = open(&from);
    let mut written = false;
    let result = Taker::new(&mut client).fetch(0, &open(&to), None, |_| {
        if !std::mem::replace(&mut written, true) {
            source.write_all_at(b"changed", 2 * SEGMENT + 5 * MIB).unwrap();
        }
    });
    let Err(TransferError::Refused(fault)) = result else { panic!("{result:?}") };
    assert!(fault.code == Code::WrongState && fault.message.contains("written to"), "{fault:?}");
    giver.join().unwrap().unwrap_err();
}

#[test]
fn a_rate_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    std::fs::write(&from, vec![7; 8 << 20]).unwrap();
    let (server, mut client) = pair();
    let giver = giving(server, &from);
    let begun = Instant::now();
    let mut taker = Taker::new(&mut client);
    taker.fetch(0, &open(&to), Some(ByteSize::mib(8)), |_| {}).unwrap();
    let took = begun.elapsed();
    taker.done().unwrap();
    giver.join().unwrap().unwrap();
    same(&from, &to);
    assert!(took > Duration::from_millis(900), "8 MiB at 8 MiB/s took {took:?}");
}

#[test]
fn who_has_another_key_pinned_or_says_nonsense_hears_nothing() {
    let keys = KeyPair::generate().unwrap();
    let talk = |sent: Vec<u8>| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        stream.write_all(&sent).unwrap();
        drop(stream);
        opening(&accepted, &keys).map(drop)
    };
    let (own, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let hello = Hello::new(JobId::generate());
    let open_for = |key| maglica_proto::transfer::Opener::start(&own, key, Role::Operator, &hello).unwrap().1;
    assert!(talk(open_for(keys.public())).is_ok());
    assert!(matches!(talk(open_for(other.public())), Err(TransferError::Seal(_))));
    // An operator's opening is not a host's.
    let mut changed = open_for(keys.public());
    changed[5] = 1;
    assert!(matches!(talk(changed), Err(TransferError::Seal(_))));
    let mut long = open_for(keys.public());
    (long[6], long[7]) = (0xff, 0xff);
    assert!(matches!(talk(long), Err(TransferError::Protocol(_))));
    assert!(matches!(talk(b"GET / HTTP/1.1\r\n\r\n".to_vec()), Err(TransferError::Protocol(_))));
    assert!(matches!(talk(open_for(keys.public())[..40].to_vec()), Err(TransferError::Io(_))));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_opening_is_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let keys = KeyPair::generate().unwrap();
        for role in [Role::Host, Role::Operator] {
            prop_assert!(Acceptor::read(&keys, role, &bytes).is_err());
        }
        if let Some(head) = bytes.first_chunk() {
            prop_assert!(Acceptor::head(*head).is_err() || bytes.starts_with(b"MGLT"));
        }
    }
}
