//! What a host says late changes nothing.

use maglica_proto::job::{JobSpec, JobState, Task, VmRef, VmTask};
use uuid::Uuid;

use super::*;
use crate::{job::store::SqliteStore, order::Order};

fn beat(held: Vec<maglica_proto::host::Held>) -> Heartbeat {
    Heartbeat { boot: Uuid::nil(), held, inventory: 0 }
}

#[tokio::test]
async fn heartbeats_of_before_a_grant_do_not_end_the_job_however_late_they_come_and_later_ones_do() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("jobs.db")).unwrap();
    let (desk, _thread) = Desk::start(Box::new(store), Duration::from_secs(24 * 3600), |_| {}).unwrap();
    let (id, host, name) =
        (JobId::generate(), HostName::new("h1").unwrap(), "vm0".parse::<maglica_proto::name::DomainName>());
    let name = name.unwrap();
    let new = NewJob {
        id,
        spec: JobSpec::Start(VmRef { name: name.clone(), host: None }),
        task: Task::Start(VmTask { name, uuid: Uuid::nil() }),
        host: host.clone(),
        why: Vec::new(),
        by: "root".into(),
        reachable: true,
    };
    desk.submit(vec![new]).await.unwrap().remove(0).unwrap();
    assert_eq!(desk.accept(host.clone(), Order::new(2, 5), id).await.unwrap(), Ok(()));
    for late in [Order::new(1, 900), Order::new(2, 3), Order::new(2, 4)] {
        desk.heartbeat(host.clone(), late, beat(Vec::new())).await.unwrap();
    }
    assert_eq!(desk.show(id).await.unwrap().row.state, JobState::Running);
    for later in [Order::new(2, 6), Order::new(2, 7)] {
        desk.heartbeat(host.clone(), later, beat(Vec::new())).await.unwrap();
    }
    let state = desk.show(id).await.unwrap().row.state;
    assert!(matches!(&state, JobState::Failed { .. }), "a host that forgot it says so by not naming it: {state:?}");
}
