//! A snapshot of the disks of a machine that runs, without its memory.
//!
//! The emulator takes it of all disks in one transaction, so that they are of one moment: what a guest finds on them later is what a
//! power cut would have left, or, where its agent could freeze the file systems, more. libvirt is told of it as of one that was taken while
//! the machine was off, which is what going back to it comes to.

use std::{collections::BTreeMap, time::SystemTime};

use maglica_proto::{
    fault::{Code, Fault},
    inventory::DiskDevice,
    job::VmTask,
};
use serde::Deserialize;
use serde_json::json;

use super::{fault, rows};
use crate::{
    hypervisor::{
        CALL_LIMIT, Hypervisor, HypervisorError,
        domain_xml::{self, Description, Source},
        snapshot_xml::NewSnapshot,
    },
    task::TaskContext,
};

/// How long the guest may take to freeze or thaw its file systems, in seconds.
const AGENT_LIMIT_S: i32 = 10;

#[derive(Deserialize)]
struct Answer {
    #[serde(default, rename = "return")]
    value: serde_json::Value,
    #[serde(default)]
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    desc: String,
}

#[derive(Deserialize)]
struct Block {
    #[serde(default)]
    inserted: Option<Inserted>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Inserted {
    file: String,
    node_name: String,
}

fn ask(
    hypervisor: &dyn Hypervisor,
    uuid: uuid::Uuid,
    command: &serde_json::Value,
) -> Result<serde_json::Value, HypervisorError> {
    let refused =
        |why: String| HypervisorError::Refused { doing: "asking the emulator for a snapshot".to_owned(), why };
    let answer = hypervisor.monitor(uuid, &command.to_string())?;
    let answer: Answer = serde_json::from_str(&answer).map_err(|error| refused(error.to_string()))?;
    match answer.error {
        Some(error) => Err(refused(error.desc)),
        None => Ok(answer.value),
    }
}

/// The emulator's names of what is behind these files.
fn nodes(hypervisor: &dyn Hypervisor, uuid: uuid::Uuid, paths: &[String]) -> Result<Vec<String>, HypervisorError> {
    let refused = |why: String| HypervisorError::Refused { doing: "looking for the emulator's disks".to_owned(), why };
    let value = ask(hypervisor, uuid, &json!({"execute": "query-block"}))?;
    let blocks: Vec<Block> = serde_json::from_value(value).map_err(|error| refused(error.to_string()))?;
    let by_file: BTreeMap<String, String> =
        blocks.into_iter().filter_map(|block| block.inserted).map(|at| (at.file, at.node_name)).collect();
    paths
        .iter()
        .map(|path| by_file.get(path).cloned().ok_or_else(|| refused(format!("it does not have {path} open"))))
        .collect()
}

fn transaction(kind: &str, nodes: &[String], name: &str) -> serde_json::Value {
    let actions: Vec<_> =
        nodes.iter().map(|node| json!({"type": kind, "data": {"device": node, "name": name}})).collect();
    json!({"execute": "transaction", "arguments": {"actions": actions}})
}

/// The disks that a snapshot has, by target and file.
fn disks(hypervisor: &dyn Hypervisor, description: &Description) -> Result<Vec<(String, String)>, HypervisorError> {
    let data = description.disks.iter().filter(|disk| disk.device == DiskDevice::Disk && !disk.readonly);
    data.map(|disk| {
        let path = match &disk.source {
            Source::Path(path) => path.clone(),
            Source::Volume { pool, volume } => hypervisor.volume(pool, volume)?.path,
            Source::Empty | Source::Other(_) => {
                let doing = "looking at the disks".to_owned();
                return Err(HypervisorError::Refused { doing, why: format!("{} is no file", disk.target) });
            }
        };
        Ok((disk.target.clone(), path))
    })
    .collect()
}

/// Takes it; tells whether the guest's file systems were frozen.
pub(super) async fn take(
    vm: &VmTask,
    description: &Description,
    new: &NewSnapshot<'_>,
    cx: &TaskContext,
) -> Result<String, Fault> {
    let parent =
        rows(vm, cx).await?.into_iter().find(|row| row.snapshot.current).map(|row| row.snapshot.name.to_string());
    let (uuid, name, description) = (vm.uuid, new.name.to_owned(), description.clone());
    let (definition, disks) = cx
        .host
        .look(format!("looking at the disks of {}", vm.name), move |hypervisor| {
            // What runs may have other disks than the definition.
            let running = domain_xml::read(&hypervisor.live_xml(uuid)?).unwrap_or(description);
            Ok((hypervisor.domain_xml(uuid)?, disks(hypervisor, &running)?))
        })
        .await?;
    let (targets, paths): (Vec<String>, Vec<String>) = disks.into_iter().unzip();
    let now = SystemTime::now().into();
    let known = new
        .to_know(&targets, now, parent.as_deref(), &definition)
        .map_err(|error| fault(Code::Hypervisor, vm, format!("the description of {}: {error}", vm.name)))?;
    let frozen = cx
        .host
        .call(format!("taking a snapshot of {}", vm.name), CALL_LIMIT, move |hypervisor| {
            let nodes = nodes(hypervisor, uuid, &paths)?;
            let frozen = hypervisor.agent(uuid, r#"{"execute":"guest-fsfreeze-freeze"}"#, AGENT_LIMIT_S).is_ok();
            let taken = ask(hypervisor, uuid, &transaction("blockdev-snapshot-internal-sync", &nodes, &name));
            // Also where the answer to the freezing was lost.
            let thawed = hypervisor.agent(uuid, r#"{"execute":"guest-fsfreeze-thaw"}"#, AGENT_LIMIT_S);
            if let (true, Err(error)) = (frozen, thawed) {
                tracing::warn!(%error, "the guest's file systems were frozen and did not thaw");
            }
            taken?;
            if let Err(error) = hypervisor.know_snapshot(uuid, &known) {
                drop_of(hypervisor, uuid, &nodes, &name);
                return Err(error);
            }
            Ok(frozen)
        })
        .await?;
    Ok(if frozen { "its file systems were frozen meanwhile".to_owned() } else { String::new() })
}

/// Deletes what a transaction left in the disks.
fn drop_of(hypervisor: &dyn Hypervisor, uuid: uuid::Uuid, nodes: &[String], name: &str) {
    for node in nodes {
        let command = json!({
            "execute": "blockdev-snapshot-delete-internal-sync", "arguments": {"device": node, "name": name},
        });
        if let Err(error) = ask(hypervisor, uuid, &command) {
            tracing::debug!(%error, node, "nothing to delete of an unfinished snapshot");
        }
    }
}

/// Takes back what a crash left of a snapshot that libvirt does not know of, and lets the guest write again.
pub(super) async fn clean(vm: &VmTask, name: &str, cx: &TaskContext) {
    let (uuid, name) = (vm.uuid, name.to_owned());
    let cleaned = cx.host.call(format!("cleaning the disks of {}", vm.name), CALL_LIMIT, move |hypervisor| {
        if !hypervisor.state(uuid)?.is_active() {
            return Ok(());
        }
        let _ = hypervisor.agent(uuid, r#"{"execute":"guest-fsfreeze-thaw"}"#, AGENT_LIMIT_S);
        let running = domain_xml::read(&hypervisor.live_xml(uuid)?).map_err(|error| HypervisorError::Refused {
            doing: "reading what runs".to_owned(),
            why: error.to_string(),
        })?;
        let paths: Vec<String> = disks(hypervisor, &running)?.into_iter().map(|(_, path)| path).collect();
        drop_of(hypervisor, uuid, &nodes(hypervisor, uuid, &paths)?, &name);
        Ok(())
    });
    if let Err(error) = cleaned.await {
        tracing::debug!(%error, "nothing cleaned of an unfinished snapshot");
    }
}
