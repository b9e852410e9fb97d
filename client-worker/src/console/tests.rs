//! The task, with a host played by the test.

use std::sync::mpsc;

use maglica_proto::console::Chunk;

use super::*;

const LIMIT: Duration = Duration::from_secs(20);

fn start() -> (Consoles, mpsc::Receiver<(HostName, Broadcast)>) {
    let (sender, said) = mpsc::channel();
    let consoles = Consoles::start(move |host, broadcast| {
        let _ = sender.send((host, broadcast));
    });
    (consoles, said)
}

fn opening(id: u128, by: &str, writes: bool) -> Opening {
    let vm = VmTask { name: "vm0".parse().unwrap(), uuid: Uuid::from_u128(9) };
    Opening { id: Uuid::from_u128(id), by: by.parse().unwrap(), host: host(), vm, writes, force: false }
}

fn host() -> HostName {
    "h1".parse().unwrap()
}

fn report(line: Uuid, from: u64, output: &[u8], taken: u64) -> LineReport {
    LineReport { line, from, output: Chunk(output.to_vec()), taken, ended: None }
}

/// The next thing that is said to the host: the line, whether to open it, and what to type.
async fn next(said: &mpsc::Receiver<(HostName, Broadcast)>) -> (Uuid, bool, ConsoleInput) {
    let until = Instant::now() + LIMIT;
    loop {
        match said.try_recv() {
            Ok((_, Broadcast::Console { line, open, input, .. })) => return (line, open, input),
            Ok((_, other)) => panic!("{other:?}"),
            Err(_) => assert!(Instant::now() < until, "nothing is said"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_line_is_asked_for_again_until_its_host_has_heard_and_what_is_typed_survives_a_lost_broadcast() {
    let (consoles, said) = start();
    let asking = {
        let consoles = consoles.clone();
        tokio::spawn(async move { consoles.open(opening(1, "alice", true)).await })
    };
    let (line, open, _) = next(&said).await;
    assert!(open);
    assert_eq!(next(&said).await.0, line, "it is said again, of the same line");
    assert!(consoles.report(host(), report(line, 0, b"login: ", 0)).await.unwrap().input.0.is_empty());
    let view = asking.await.unwrap().unwrap();
    assert_eq!((view.from, view.viewers, view.writer.as_deref()), (0, 1, Some("alice")));

    let (alice, id) = ("alice".parse().unwrap(), Uuid::from_u128(1));
    assert_eq!(consoles.read(&alice, id, 0, LIMIT).await.unwrap().output.0, b"login: ");
    let typed = ConsoleInput { from: 0, input: Chunk(b"root\n".to_vec()) };
    assert_eq!(consoles.write(&alice, id, typed.clone()).await.unwrap(), 5);
    // Broadcast and lost: it is said again, and the host's next word brings it too.
    let lost = next(&said).await;
    assert_eq!((lost.1, &lost.2), (false, &typed));
    assert_eq!(next(&said).await.2, typed);
    assert_eq!(consoles.report(host(), report(line, 7, b"", 0)).await.unwrap(), typed);
    assert_eq!(consoles.report("h2".parse().unwrap(), report(line, 7, b"evil", 5)).await, None, "another host's word");
    let reading = {
        let consoles = consoles.clone();
        tokio::spawn(async move { consoles.read(&"alice".parse().unwrap(), id, 7, LIMIT).await })
    };
    assert!(consoles.report(host(), report(line, 7, b"root\r\n", 5)).await.unwrap().input.0.is_empty());
    assert_eq!(reading.await.unwrap().unwrap().output.0, b"root\r\n", "one who waits is woken");
}

#[tokio::test]
async fn nobody_reads_or_types_with_anothers_id_and_the_last_one_to_leave_closes_the_line() {
    let (consoles, said) = start();
    let asking = {
        let consoles = consoles.clone();
        tokio::spawn(async move { consoles.open(opening(1, "alice", true)).await })
    };
    let (line, ..) = next(&said).await;
    consoles.report(host(), report(line, 0, b"secret", 0)).await.unwrap();
    asking.await.unwrap().unwrap();
    let view = consoles.open(opening(2, "bob", false)).await.unwrap();
    assert_eq!((view.viewers, view.writer.as_deref()), (2, Some("alice")));
    let (alice, bob): (OperatorName, OperatorName) = ("alice".parse().unwrap(), "bob".parse().unwrap());
    let of_alice = Uuid::from_u128(1);
    assert_eq!(consoles.read(&bob, of_alice, 0, Duration::ZERO).await.unwrap_err().code, Code::NotFound);
    let typed = ConsoleInput { from: 0, input: Chunk(b"x".to_vec()) };
    assert_eq!(consoles.write(&bob, of_alice, typed.clone()).await.unwrap_err().code, Code::NotFound);
    assert_eq!(consoles.write(&bob, Uuid::from_u128(2), typed).await.unwrap_err().code, Code::Conflict);
    consoles.close(&bob, of_alice).await;
    assert_eq!(consoles.read(&alice, of_alice, 0, Duration::ZERO).await.unwrap().output.0, b"secret");
    consoles.close(&alice, of_alice).await;
    consoles.close(&bob, Uuid::from_u128(2)).await;
    assert_eq!(consoles.report(host(), report(line, 6, b"", 0)).await, None, "nobody looks any more");
    let told = |(_, broadcast)| matches!(broadcast, Broadcast::ConsoleEnd { line: ended } if ended == line);
    assert!(said.try_iter().any(told));
}
