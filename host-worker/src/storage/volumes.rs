//! Volumes and their files: found, renamed, deleted; waiting where libvirt says that they are in use for now.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::hypervisor::{CALL_LIMIT, Host, HypervisorError};

/// How often a call is repeated that libvirt refuses because a volume is in use.
const RETRY_EVERY: Duration = Duration::from_millis(500);
/// How long a volume may still be copied into by libvirtd, after whoever asked for the copy is gone, before it is given up.
pub const DELETE_LIMIT: Duration = Duration::from_secs(15 * 60);
/// How long a pool may be busy before it is left as libvirt last saw it. It is busy as long as any volume is made in it,
/// which is too long to wait for: nothing but lists depends on the refresh.
pub const REFRESH_LIMIT: Duration = Duration::from_secs(3);

/// Which file it is, whatever its name: proof that a file is the one that a job made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileId {
    /// The file system's device.
    pub device: u64,
    /// The inode.
    pub inode: u64,
}

impl FileId {
    /// Of the file at this path.
    ///
    /// # Errors
    /// What the system says.
    pub fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

/// Repeats a call for as long as libvirt refuses it because something is in use.
async fn while_busy(
    host: &Host,
    doing: &str,
    limit: Duration,
    call: impl Fn(&dyn crate::hypervisor::Hypervisor) -> Result<(), HypervisorError> + Clone + Send + 'static,
) -> Result<(), HypervisorError> {
    let until = Instant::now() + limit;
    loop {
        match host.call(doing, CALL_LIMIT, call.clone()).await {
            Err(HypervisorError::Busy { .. }) if Instant::now() < until => sleep(RETRY_EVERY).await,
            result => return result,
        }
    }
}

/// Deletes a volume, waiting for at most `limit` until it is not in use any more.
///
/// # Errors
/// [`HypervisorError`]; `NotFound` if there is no such volume.
pub async fn delete(host: &Host, pool: &str, volume: &str, limit: Duration) -> Result<(), HypervisorError> {
    let doing = format!("deleting volume {volume} of storage pool {pool}");
    let (pool, volume) = (pool.to_owned(), volume.to_owned());
    while_busy(host, &doing, limit, move |hypervisor| {
        // libvirt's refusal is the same for a pool that is off, which no waiting would start.
        if !hypervisor.pool(&pool)?.active {
            let doing = format!("deleting volume {volume} of storage pool {pool}");
            return Err(HypervisorError::Refused { doing, why: "the pool is not active".to_owned() });
        }
        hypervisor.delete_volume(&pool, &volume)
    })
    .await
}

/// Lets libvirt look at a pool anew, waiting for at most `limit` until it is not busy.
///
/// # Errors
/// [`HypervisorError`]; `Busy` if it is still being built in.
pub async fn refresh(host: &Host, pool: &str, limit: Duration) -> Result<(), HypervisorError> {
    let doing = format!("refreshing storage pool {pool}");
    let pool = pool.to_owned();
    while_busy(host, &doing, limit, move |hypervisor| hypervisor.refresh_pool(&pool)).await
}

/// Renames a file within its folder, never over another one.
///
/// # Errors
/// What the system says; `AlreadyExists` if there is a file of the new name.
pub async fn rename(from: PathBuf, to: PathBuf) -> io::Result<()> {
    tokio::task::spawn_blocking(move || {
        match renameat_with(CWD, &from, CWD, &to, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            // NFS and some others know no such rename; a link fails as well where the name is taken.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                fs::hard_link(&from, &to)?;
                fs::remove_file(&from)?;
            }
            Err(error) => return Err(error.into()),
        }
        // The new name is to outlive a power cut before the domain that names it is defined.
        to.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
    })
    .await
    .map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_keeps_its_identity_when_renamed_and_never_replaces_another() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&from, "ours").unwrap();
        let id = FileId::of(&from).unwrap();
        fs::write(&to, "theirs").unwrap();
        let refused = rename(from.clone(), to.clone()).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&to).unwrap(), "theirs");
        fs::remove_file(&to).unwrap();
        rename(from.clone(), to.clone()).await.unwrap();
        assert_eq!(FileId::of(&to).unwrap(), id);
        assert!(!from.exists());
    }
}
