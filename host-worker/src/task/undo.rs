//! The ways back. Each can be gone twice, finds by itself whether there is anything to take back, and touches nothing that is not
//! the job's own: proof is the job's id in a name or in a domain's metadata, a UUID made for the job, or the file's inode.

use std::{fmt, fs, io, path::Path};

use maglica_proto::name::DomainName;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{TaskContext, file_in};
use crate::{
    hypervisor::{
        CALL_LIMIT, HypervisorError, Nvram,
        domain_xml::{self, Source},
    },
    storage::volumes::{self, DELETE_LIMIT, FileId},
};

/// How to take back something that a step is about to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "undo")]
pub enum Undo {
    /// Forget the unfinished domain of this name, which has the job's id in it.
    UndefinePartial {
        /// Its name.
        name: String,
    },
    /// Forget the domain that the job made.
    UndefineDomain {
        /// Its name.
        name: DomainName,
        /// The UUID made for the job.
        uuid: Uuid,
    },
    /// Switch off the domain that the job made.
    DestroyDomain {
        /// Its name.
        name: DomainName,
        /// The UUID made for the job.
        uuid: Uuid,
    },
    /// Delete a volume that the job made.
    DeleteVolume {
        /// The pool.
        pool: String,
        /// The volume.
        volume: String,
        /// Which file it is. None for a name that has the job's id in it.
        file: Option<FileId>,
    },
    /// Delete a file that the job made.
    RemoveFile {
        /// Where it is.
        path: String,
    },
    /// Delete the volume that the job made, whose name has its id in it, unless the domain has it as a disk.
    DeleteUnattached {
        /// The domain's UUID.
        uuid: Uuid,
        /// The pool.
        pool: String,
        /// The volume.
        volume: String,
    },
    /// A volume that the job deletes, which cannot be taken back: remembered, so that it can be told after a crash.
    Deleted {
        /// The pool.
        pool: String,
        /// The volume.
        volume: String,
    },
}

impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UndefinePartial { name } => write!(f, "unfinished domain {name}"),
            Self::UndefineDomain { name, .. } => write!(f, "definition of domain {name}"),
            Self::DestroyDomain { name, .. } => write!(f, "running domain {name}"),
            Self::DeleteVolume { pool, volume, .. } | Self::DeleteUnattached { pool, volume, .. } => {
                write!(f, "volume {volume} in pool {pool}")
            }
            Self::RemoveFile { path } => write!(f, "file {path}"),
            Self::Deleted { pool, volume } => write!(f, "deletion of volume {volume} in pool {pool}"),
        }
    }
}

impl Undo {
    /// Takes it back; false if there was nothing to take back.
    pub(super) async fn take_back(&self, cx: &TaskContext) -> Result<bool, HypervisorError> {
        let result = match self {
            Self::UndefinePartial { name } => undefine_partial(cx, name.clone()).await,
            Self::UndefineDomain { name, uuid } => undefine(cx, name.clone(), *uuid).await,
            Self::DestroyDomain { name, uuid } => destroy(cx, name.clone(), *uuid).await,
            Self::DeleteVolume { pool, volume, file: None } => {
                volumes::delete(&cx.host, pool, volume, DELETE_LIMIT).await.map(|()| true)
            }
            Self::DeleteVolume { pool, volume, file: Some(file) } => delete_own(cx, pool, volume, *file).await,
            Self::RemoveFile { path } => remove_file(path),
            Self::DeleteUnattached { uuid, pool, volume } => delete_unattached(cx, *uuid, pool, volume).await,
            Self::Deleted { .. } => Ok(false),
        };
        match result {
            Err(error) if error.is_not_found() => Ok(false),
            other => other,
        }
    }
}

async fn undefine_partial(cx: &TaskContext, name: String) -> Result<bool, HypervisorError> {
    cx.host
        .call(format!("undefining domain {name}"), CALL_LIMIT, move |hypervisor| {
            // The variables' file, if any, has a way back of its own.
            hypervisor.undefine(hypervisor.domain_by_name(&name)?, Nvram::Keep).map(|()| true)
        })
        .await
}

async fn undefine(cx: &TaskContext, name: DomainName, uuid: Uuid) -> Result<bool, HypervisorError> {
    let job = cx.job;
    cx.host
        .call(format!("undefining domain {name}"), CALL_LIMIT, move |hypervisor| {
            let found = domain_xml::read(&hypervisor.domain_xml(uuid)?);
            let own = found
                .is_ok_and(|domain| domain.name == name.as_str() && domain.made.is_some_and(|made| made.job == job));
            if !own {
                return Ok(false);
            }
            hypervisor.undefine(uuid, Nvram::Delete).map(|()| true)
        })
        .await
}

async fn destroy(cx: &TaskContext, name: DomainName, uuid: Uuid) -> Result<bool, HypervisorError> {
    cx.host
        .call(format!("switching off domain {name}"), CALL_LIMIT, move |hypervisor| {
            if !hypervisor.state(uuid)?.is_active() {
                return Ok(false);
            }
            hypervisor.destroy(uuid).map(|()| true)
        })
        .await
}

/// A volume under its final name. libvirt may not have seen it yet, for a pool that is being built in cannot be refreshed; then
/// the file is deleted as it was made.
async fn delete_own(cx: &TaskContext, pool: &str, volume: &str, file: FileId) -> Result<bool, HypervisorError> {
    let name = pool.to_owned();
    let row = cx.host.look(format!("looking for pool {pool}"), move |hypervisor| hypervisor.pool(&name)).await?;
    let Some(folder) = row.path else { return Ok(false) };
    let path = file_in(&folder, volume);
    if FileId::of(&path).ok() != Some(file) {
        // Not made, deleted, or somebody else's of the same name.
        return Ok(false);
    }
    match volumes::delete(&cx.host, pool, volume, DELETE_LIMIT).await {
        Err(error) if error.is_not_found() => remove_path(&path),
        other => other.map(|()| true),
    }
}

/// A definition may have come to be though its answer was lost.
async fn delete_unattached(cx: &TaskContext, uuid: Uuid, pool: &str, volume: &str) -> Result<bool, HypervisorError> {
    let (in_pool, name) = (pool.to_owned(), volume.to_owned());
    let attached = cx
        .host
        .look(format!("looking whether domain {uuid} has {volume}"), move |hypervisor| {
            let path = hypervisor.volume(&in_pool, &name)?.path;
            let found = domain_xml::read(&hypervisor.domain_xml(uuid)?);
            Ok(found.is_ok_and(|domain| domain.disks.iter().any(|disk| disk.source == Source::Path(path.clone()))))
        })
        .await?;
    if attached {
        return Ok(false);
    }
    volumes::delete(&cx.host, pool, volume, DELETE_LIMIT).await.map(|()| true)
}

fn remove_file(path: &str) -> Result<bool, HypervisorError> {
    remove_path(Path::new(path))
}

fn remove_path(path: &Path) -> Result<bool, HypervisorError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(HypervisorError::Refused {
            doing: format!("deleting the file {}", path.display()),
            why: error.to_string(),
        }),
    }
}
