//! An image of the real libvirt, fetched over a real connection. Both ends use the libvirt of this machine, so the copy gets another
//! name here than the image has.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod rig;

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

use maglica_host_worker::{
    task::{self, TaskContext},
    transfer::{Asking, Grants, listen::Listening},
};
use maglica_proto::{
    fault::{Code, Fault},
    host::{Door, Visitor, Vouched},
    id::JobId,
    job::{CopyTask, HostEventKind, ImageOutcome, ImageTask, Outcome, Step, Task, VmTask},
    key::{KeyPair, PublicKey},
    name::{DomainName, HostName},
    units::ByteSize,
};
use rig::{Record, Rig, program, virsh};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What the client worker would say.
struct Word {
    own: KeyPair,
    /// The key of the host that fetches, and what it may have.
    allowed: Option<(PublicKey, VmTask)>,
    door: Mutex<Option<(SocketAddr, PublicKey)>>,
}

impl Grants for Word {
    fn keys(&self) -> KeyPair {
        self.own.clone()
    }

    fn source(&self, _: JobId) -> Asking<'_, Result<Door, Fault>> {
        let door = *self.door.lock().unwrap();
        let (host, none) = (HostName::new("source").unwrap(), Fault::new(Code::HostDown, "it takes no connections"));
        Box::pin(async move { door.map(|(address, key)| Door { host, address, key }).ok_or(none) })
    }

    fn vouch(&self, _: JobId, key: PublicKey, role: Visitor) -> Asking<'_, Result<Option<Vouched>, Fault>> {
        let allowed = self.allowed.clone().filter(|(known, _)| *known == key && role == Visitor::Host);
        Box::pin(async move { Ok(allowed.map(|(_, image)| Vouched::Image(image))) })
    }
}

/// A host that has the image, and one that is to have it.
struct Pair {
    source: Rig,
    dest: Rig,
    giver: Arc<Word>,
    taker: Arc<Word>,
    stop: CancellationToken,
}

impl Pair {
    async fn new(megabytes: u64) -> Self {
        let (source, dest) = (Rig::new(megabytes), Rig::empty());
        let (own, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let allowed = Some((other.public(), source.task(&source.image)));
        let giver = Arc::new(Word { own, allowed, door: Mutex::default() });
        let taker = Arc::new(Word { own: other, allowed: None, door: Mutex::default() });
        let mut pair = Self { source, dest, giver, taker, stop: CancellationToken::new() };
        pair.listen(0).await;
        pair
    }

    /// Begins to listen, or does so again.
    async fn listen(&mut self, port: u16) {
        self.stop = CancellationToken::new();
        let (announce, mut announced) = watch::channel(None);
        let listening = Listening {
            address: Some(Ipv4Addr::LOCALHOST.into()),
            port,
            server: String::new(),
            grants: self.giver.clone(),
            host: self.source.host.clone(),
        };
        tokio::spawn(listening.run(announce, self.stop.clone()));
        let address = *timeout(Duration::from_secs(20), announced.wait_for(Option::is_some)).await.unwrap().unwrap();
        *self.taker.door.lock().unwrap() = address.map(|address| (address, self.giver.own.public()));
    }

    fn address(&self) -> SocketAddr {
        self.taker.door.lock().unwrap().unwrap().0
    }

    fn name(&self) -> String {
        format!("{}-copy.original", self.dest.pool)
    }

    fn task(&self, rate: Option<ByteSize>) -> CopyTask {
        CopyTask {
            image: VmTask { name: DomainName::new(self.name()).unwrap(), uuid: Uuid::nil() },
            from: HostName::new("source").unwrap(),
            copy: Uuid::new_v4(),
            macs: vec!["52:54:00:0a:0b:0d".parse().unwrap()],
            pool: Some(self.dest.pool.parse().unwrap()),
            rate,
            by: "tester".to_owned(),
        }
    }

    fn context(&self) -> (TaskContext, Arc<Record>) {
        let (cx, record) = self.dest.context();
        (TaskContext { grants: self.taker.clone(), ..cx }, record)
    }

    fn compare(&self) {
        let copy = self.dest.at(&format!("{}.qcow2", self.name()));
        program("cmp", &[&self.source.at("base.qcow2"), &copy]);
        program("qemu-img", &["check", "-q", &copy]);
    }
}

fn whole(task: &CopyTask) -> Task {
    Task::Image(ImageTask::Copy(task.clone()))
}

fn copied(outcome: &Outcome) -> ByteSize {
    let Outcome::Image(ImageOutcome::Copied { size, .. }) = outcome else { panic!("{outcome:?}") };
    *size
}

/// Waits until a transfer is under way.
async fn under_way(record: &Record, least: ByteSize) {
    let seen = || {
        record.events.lock().unwrap().iter().any(
            |event| matches!(event, HostEventKind::StepProgress { step: Step::Transfer, done, .. } if *done >= least),
        )
    };
    timeout(Duration::from_secs(30), async {
        while !seen() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the transfer begins");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_an_image_is_copied_whole_and_others_at_the_door_do_not_matter() {
    let pair = Pair::new(40).await;
    let before = pair.source.state();
    // More than the door holds, and none says a word; the last one speaks nonsense.
    let strangers: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(pair.address()).unwrap()).collect();
    std::io::Write::write_all(&mut strangers.last().unwrap(), b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let task = pair.task(None);
    let (cx, record) = pair.context();
    let outcome = task::run(&whole(&task), &cx).await.unwrap();
    assert!(copied(&outcome) >= ByteSize::mib(40), "{outcome:?}");
    assert_eq!(*record.done.lock().unwrap(), [Step::Check, Step::Transfer, Step::Define]);
    pair.compare();
    assert_eq!(pair.source.state(), before);
    let name = pair.name();
    let expected = [format!("domain {name}"), format!("file \"{name}.qcow2\""), format!("volume {name}.qcow2")];
    assert_eq!(pair.dest.state().into_iter().collect::<Vec<_>>(), expected);
    let xml = virsh(&["dumpxml", &name]);
    assert!(xml.contains("52:54:00:0a:0b:0d") && xml.contains("<maglica:by>tester"), "{xml}");
    assert_eq!(pair.dest.task(&name).uuid, task.copy);

    // A second time it is refused, and the first is left alone.
    let (again, record) = pair.context();
    let refused = task::run(&whole(&pair.task(None)), &again).await.unwrap_err();
    assert_eq!((refused.code, record.undo.lock().unwrap().len()), (Code::Conflict, 0), "{refused:?}");
    // After a crash behind the definition it is there.
    let (_, record) = pair.context();
    drop(record);
    let undo: Vec<_> = record_of(&pair, &task).await;
    let done = [Step::Check, Step::Transfer, Step::Define];
    let again = task::recover(&whole(&task), &done, &undo, &cx).await.unwrap();
    assert!(copied(&again) >= ByteSize::mib(39), "{again:?}");
    // One before its end is taken back, however often.
    for _ in 0..2 {
        let fault = task::recover(&whole(&task), &done[..2], &undo, &cx).await.unwrap_err();
        assert!(fault.left.is_empty() && fault.message.contains("define"), "{fault:?}");
        assert_eq!(pair.dest.state().into_iter().collect::<Vec<_>>(), Vec::<String>::new());
    }
}

/// What the finished job of this task wrote down.
async fn record_of(pair: &Pair, _: &CopyTask) -> Vec<task::Undo> {
    let volume = format!("{}.qcow2", pair.name());
    let file = maglica_host_worker::storage::volumes::FileId::of(&pair.dest.path().join(&volume)).unwrap();
    let name = DomainName::new(pair.name()).unwrap();
    let uuid = pair.dest.task(&pair.name()).uuid;
    vec![
        task::Undo::DeleteVolume { pool: pair.dest.pool.clone(), volume, file: Some(file) },
        task::Undo::UndefineDomain { name, uuid },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn real_a_copy_that_is_cancelled_leaves_nothing_on_either_host() {
    let pair = Pair::new(64).await;
    let (there, here) = (pair.source.state(), pair.dest.state());
    let (cx, record) = pair.context();
    *record.cancel_at_progress.lock().unwrap() = true;
    let fault = task::run(&whole(&pair.task(Some(ByteSize::mib(16)))), &cx).await.unwrap_err();
    assert_eq!((fault.code, fault.left.as_slice()), (Code::Cancelled, [].as_slice()), "{fault:?}");
    assert_eq!((pair.source.state(), pair.dest.state()), (there, here));
}

#[tokio::test(flavor = "multi_thread")]
async fn real_a_copy_goes_on_after_its_host_worker_was_killed_and_after_the_other_one_was() {
    let mut pair = Pair::new(160).await;
    let task = pair.task(Some(ByteSize::mib(60)));
    let (cx, record) = pair.context();
    let (first, running) = (whole(&task), cx.clone());
    let work = tokio::spawn(async move { task::run(&first, &running).await });
    under_way(&record, ByteSize::mib(80)).await;
    work.abort();
    assert!(work.await.unwrap_err().is_cancelled());
    let left = pair.dest.state();
    assert!(
        left.len() == 1 && left.iter().all(|what| what.contains("maglica-") && what.contains(".partial")),
        "{left:?}"
    );

    // The next start finds it, and goes on; then the other host's worker goes away and comes back.
    let undo = record.undo.lock().unwrap().clone();
    record.events.lock().unwrap().clear();
    let (again, running) = (whole(&task), cx.clone());
    let work = tokio::spawn(async move { task::recover(&again, &[Step::Check], &undo, &running).await });
    under_way(&record, ByteSize::mib(1)).await;
    let begins = record
        .events
        .lock()
        .unwrap()
        .iter()
        .find_map(|event| if let HostEventKind::StepProgress { done, .. } = event { Some(*done) } else { None });
    assert!(begins >= Some(ByteSize::mib(60)), "it begins where the first segment ends: {begins:?}");
    let port = pair.address().port();
    pair.stop.cancel();
    pair.listen(port).await;
    let outcome = timeout(Duration::from_secs(60), work).await.unwrap().unwrap().unwrap();
    assert!(copied(&outcome) >= ByteSize::mib(160), "{outcome:?}");
    pair.compare();
    let notes: Vec<String> = record.events.lock().unwrap().iter().filter_map(note).collect();
    assert!(notes.iter().any(|note| note.contains("the connection broke")), "{notes:?}");
    assert_eq!(pair.dest.state().len(), 3, "{:?}", pair.dest.state());
}

fn note(event: &HostEventKind) -> Option<String> {
    if let HostEventKind::StepDone { note, .. } = event { Some(note.clone()) } else { None }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_what_is_no_image_or_runs_or_stands_on_another_file_is_not_given() {
    let pair = Pair::new(1).await;
    let over = pair.source.at("over.qcow2");
    program("qemu-img", &["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", &pair.source.at("base.qcow2"), &over]);
    virsh(&["pool-refresh", &pair.source.pool]);
    let before = pair.dest.state();
    virsh(&["undefine", &pair.source.image]);
    let (cx, record) = pair.context();
    let gone = task::run(&whole(&pair.task(None)), &cx).await.unwrap_err();
    assert_eq!(gone.code, Code::NotFound, "{gone:?}");
    assert!(record.undo.lock().unwrap().is_empty());
    assert_eq!(pair.dest.state(), before);
}
