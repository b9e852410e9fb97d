//! `qemu-img`: what a disk's file is, and whether it is sound.

use std::time::Duration;

use maglica_proto::units::ByteSize;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::tool::{Tool, ToolError, ToolPaths};

/// The program.
pub const PROGRAM: &str = "qemu-img";
/// A check reads the tables of a disk: seconds for a terabyte on a slow disk.
const CHECK_LIMIT: Duration = Duration::from_secs(600);
/// `qemu-img check` found clusters that nothing refers to: room lost, nothing wrong.
const LEAKS_ONLY: i32 = 3;

/// A file of a disk's chain.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImageInfo {
    /// The file.
    pub filename: String,
    /// Its format.
    pub format: String,
    /// The size that a guest sees.
    pub virtual_size: ByteSize,
    /// What it takes up.
    #[serde(default)]
    pub actual_size: ByteSize,
    /// The file that it is an overlay of.
    #[serde(default)]
    pub full_backing_filename: Option<String>,
}

/// `qemu-img` could not say what a file is.
#[derive(Debug, thiserror::Error)]
pub enum QemuImgError {
    /// It failed.
    #[error("examining {path} failed")]
    Tool {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: ToolError,
    },
    /// It printed something else than is known of it.
    #[error("what qemu-img says of {path} is not understood")]
    Output {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// The chain of a disk, itself first. The format is given, never guessed from the content, which belongs to the guest.
///
/// # Errors
/// [`QemuImgError`], also if a file of the chain is missing.
pub async fn chain(
    tools: &ToolPaths,
    path: &str,
    format: &str,
    cancel: &CancellationToken,
) -> Result<Vec<ImageInfo>, QemuImgError> {
    let output = Tool::new(PROGRAM)
        .paths(tools)
        .args(["info", "--output=json", "--backing-chain", "--force-share", "-f", format, path])
        .run(cancel)
        .await
        .map_err(|source| QemuImgError::Tool { path: path.to_owned(), source })?;
    serde_json::from_str(&output.stdout).map_err(|source| QemuImgError::Output { path: path.to_owned(), source })
}

/// Whether a disk refers to no other file: neither one that it is an overlay of nor one that holds its data. No such file is looked at.
///
/// # Errors
/// [`QemuImgError`].
pub async fn stands_alone(
    tools: &ToolPaths,
    path: &str,
    format: &str,
    cancel: &CancellationToken,
) -> Result<bool, QemuImgError> {
    #[derive(Deserialize)]
    struct Info {
        #[serde(rename = "backing-filename")]
        backing: Option<String>,
        #[serde(rename = "format-specific")]
        specific: Option<Specific>,
    }
    #[derive(Deserialize)]
    struct Specific {
        #[serde(default)]
        data: serde_json::Map<String, serde_json::Value>,
    }
    if format == "raw" {
        return Ok(true);
    }
    let output = Tool::new(PROGRAM)
        .paths(tools)
        .args(["info", "--output=json", "-f", format, path])
        .run(cancel)
        .await
        .map_err(|source| QemuImgError::Tool { path: path.to_owned(), source })?;
    let info: Info = serde_json::from_str(&output.stdout)
        .map_err(|source| QemuImgError::Output { path: path.to_owned(), source })?;
    let data_file = info.specific.is_some_and(|specific| specific.data.contains_key("data-file"));
    Ok(info.backing.is_none() && !data_file)
}

/// Checks that a disk is sound. Formats that know no check are taken to be.
///
/// # Errors
/// [`QemuImgError`] with what is wrong.
pub async fn check(
    tools: &ToolPaths,
    path: &str,
    format: &str,
    cancel: &CancellationToken,
) -> Result<(), QemuImgError> {
    if format == "raw" {
        return Ok(());
    }
    let ended =
        Tool::new(PROGRAM).paths(tools).args(["check", "-q", "-f", format, path]).limit(CHECK_LIMIT).run(cancel).await;
    match ended {
        Ok(_) => Ok(()),
        Err(ToolError::Failed { status, .. }) if status.code() == Some(LEAKS_ONLY) => Ok(()),
        Err(source) => Err(QemuImgError::Tool { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_chain_is_read_with_its_sizes_and_a_broken_one_names_the_missing_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (tools, cancel) = (ToolPaths::default(), CancellationToken::new());
        let create = |args: Vec<String>| Tool::new(PROGRAM).args(["create", "-q", "-f", "qcow2"]).args(args);
        create(vec![path("base"), "8M".to_owned()]).run(&cancel).await.unwrap();
        create(vec!["-b".to_owned(), path("base"), "-F".to_owned(), "qcow2".to_owned(), path("over")])
            .run(&cancel)
            .await
            .unwrap();
        let found = chain(&tools, &path("over"), "qcow2", &cancel).await.unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[0].virtual_size, found[0].full_backing_filename.clone()),
            (ByteSize::mib(8), Some(path("base")))
        );
        check(&tools, &path("over"), "qcow2", &cancel).await.unwrap();
        std::fs::remove_file(path("base")).unwrap();
        let error = chain(&tools, &path("over"), "qcow2", &cancel).await.unwrap_err();
        assert!(maglica_proto::fault::chain(&error).contains(&path("base")), "{error:?}");
    }

    #[tokio::test]
    async fn a_damaged_disk_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk").to_str().unwrap().to_owned();
        std::fs::write(&path, "QFI no longer").unwrap();
        check(&ToolPaths::default(), &path, "qcow2", &CancellationToken::new()).await.unwrap_err();
    }
}
