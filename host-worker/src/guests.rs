//! Asks the agents of running guests which addresses they have, where no lease of libvirt's own networks tells: now and then, a few at a
//! time, and less and less often those that do not answer.

use std::{collections::HashMap, sync::Arc, time::Duration};

use maglica_proto::inventory::Inventory;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    hypervisor::{
        Host, HypervisorError, LOOK_LIMIT,
        agent::{self, Heard},
    },
    inventory::InventoryHandle,
};

/// How long an agent has for its answer, in seconds; one that is not there is refused by libvirt at once.
const ANSWER_LIMIT_S: i32 = 2;
/// From asking to asking a guest that answers, and one whose agent is not there (yet).
const ASK_EVERY: Duration = Duration::from_secs(30);
/// An agent that is not there is no answer at once; one that takes longer is there and hangs.
const HANGS_AFTER: Duration = Duration::from_secs(1);
/// The longest time that a guest which hangs is left alone.
const LEFT_ALONE: Duration = Duration::from_secs(1800);
/// How often it is looked who is to be asked.
const LOOK_EVERY: Duration = Duration::from_secs(2);

struct Guest {
    next: Instant,
    pause: Duration,
}

/// Asks until `stop`.
pub async fn run(
    host: Host,
    inventory: InventoryHandle,
    seen: watch::Receiver<Option<Arc<Inventory>>>,
    stop: CancellationToken,
) {
    let mut guests: HashMap<Uuid, Guest> = HashMap::new();
    loop {
        let known = seen.borrow().clone();
        let now = Instant::now();
        let domains = known.iter().flat_map(|inventory| &inventory.domains);
        let running: Vec<_> = domains
            .filter(|domain| domain.state.is_active() && !domain.nics.is_empty())
            .map(|domain| (domain.uuid, domain.name.clone()))
            .collect();
        guests.retain(|uuid, _| running.iter().any(|(one, _)| one == uuid));
        for (uuid, name) in running {
            let guest = guests.entry(uuid).or_insert(Guest { next: now, pause: ASK_EVERY });
            if guest.next > now || stop.is_cancelled() {
                continue;
            }
            let asked = Instant::now();
            let answer = ask(&host, uuid).await;
            // It is there and hangs: each question costs its whole time.
            let hangs = answer.is_err() && asked.elapsed() >= HANGS_AFTER;
            guest.pause = if hangs { (guest.pause * 2).min(LEFT_ALONE) } else { ASK_EVERY };
            guest.next = Instant::now() + guest.pause;
            if let Ok(heard) = answer
                && inventory.heard(uuid, heard)
            {
                inventory.look_at(name);
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

async fn ask(host: &Host, uuid: Uuid) -> Result<Heard, HypervisorError> {
    let answer = host
        .call(format!("asking the agent of domain {uuid} for its addresses"), LOOK_LIMIT, move |hypervisor| {
            hypervisor.agent(uuid, r#"{"execute":"guest-network-get-interfaces"}"#, ANSWER_LIMIT_S)
        })
        .await?;
    agent::interfaces(&answer).map_err(|error| HypervisorError::Refused {
        doing: format!("reading the answer of the agent of domain {uuid}"),
        why: error.to_string(),
    })
}
