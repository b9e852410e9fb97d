//! Carries out edits. Contents go through guestfish's stdin, not through files or arguments: no secret of the guest is
//! ever on the host's disk or in its list of processes.

use super::fish::{Fish, quoted};
use crate::customize::{CustomizeError, Edit};

/// guestfish reads lines of at most 8 KiB; a byte may take four as an escape.
const CHUNK: usize = 1500;

/// Carries out the edits in their order.
///
/// # Errors
/// [`CustomizeError::Guestfs`] for the first that failed; those before it have been carried out.
pub(super) async fn write(fish: &mut Fish, edits: &[Edit]) -> Result<(), CustomizeError> {
    for edit in edits {
        fish.run(&format!("writing {}", edit.path()), &commands(edit)).await?;
    }
    Ok(())
}

fn commands(edit: &Edit) -> Vec<String> {
    let path = quoted(edit.path().as_bytes());
    match edit {
        Edit::Remove { .. } => vec![format!("rm-f {path}")],
        Edit::Folder { mode, .. } => vec![format!("mkdir-p {path}"), format!("chmod 0{mode:o} {path}")],
        Edit::Link { target, .. } => vec![format!("ln-sf {} {path}", quoted(target.as_bytes()))],
        Edit::Write { content, mode, .. } => {
            let chunks = content.chunks(CHUNK).map(|chunk| format!("write-append {path} {}", quoted(chunk)));
            let empty = format!("write {path} \"\"");
            // The rights first, so that a secret is never readable by others.
            let mode = mode.map(|mode| format!("chmod 0{mode:o} {path}"));
            std::iter::once(empty).chain(mode).chain(chunks).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_command_is_longer_than_a_line_of_guestfish() {
        let path = format!("/etc/{}", "x".repeat(200));
        let edit = Edit::Write { path, content: vec![0xff; 10_000], mode: Some(0o600) };
        let commands = commands(&edit);
        assert!(commands.iter().all(|command| command.len() < 8000));
        assert!(commands.iter().any(|command| command.starts_with("chmod 0600 ")));
    }
}
