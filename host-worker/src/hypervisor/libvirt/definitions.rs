//! What libvirt tells nobody: that a domain's definition for its next start changed without its being defined anew (`virsh setvcpus
//! --config`, `attach-disk --config`) and that it is to be started with the host. The files in which libvirt's qemu driver keeps these
//! change then; they say only which domain to ask libvirt about, and are never read.

use std::{ffi::CStr, io, mem::MaybeUninit, path::PathBuf, thread};

use maglica_proto::name::DomainName;
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};

use super::happenings::Happenings;

/// Where the system's libvirt keeps the definitions.
const DEFINITIONS: &str = "/etc/libvirt/qemu";
/// The folder in it with links to those that are started with the host. libvirt makes it with the first one.
const AUTOSTART: &str = "autostart";
/// libvirt writes a new file and renames it. A definition that is deleted is told of by an event, a link is not.
const CHANGES: WatchFlags =
    WatchFlags::MOVED_TO.union(WatchFlags::CLOSE_WRITE).union(WatchFlags::CREATE).union(WatchFlags::DELETE);
/// Some dozen events with their names, as many as one read brings.
const BUFFER: usize = 16 * 1024;

/// Watches them from here on, if this is the URI of a libvirt that has them.
pub(super) fn watch(uri: &str, listener: &Happenings) {
    let local = uri == "qemu:///system" || uri.starts_with("qemu+unix:///system");
    if !local {
        return;
    }
    let listener = listener.clone();
    let watching = thread::Builder::new().name("definitions".to_owned()).spawn(move || {
        if let Err(error) = follow(&listener) {
            tracing::info!(
                %error,
                folder = DEFINITIONS,
                "cannot watch the definitions: what is changed for the next start only shows at the next full look"
            );
        }
    });
    if let Err(error) = watching {
        tracing::warn!(%error, "no thread for the definitions");
    }
}

fn follow(listener: &Happenings) -> io::Result<()> {
    let changes = inotify::init(CreateFlags::CLOEXEC)?;
    let folder = PathBuf::from(DEFINITIONS);
    inotify::add_watch(&changes, &folder, CHANGES)?;
    // If it is not there its making is an event.
    let _ = inotify::add_watch(&changes, folder.join(AUTOSTART), CHANGES);
    let mut buffer = [const { MaybeUninit::uninit() }; BUFFER];
    let mut reader = Reader::new(&changes, &mut buffer);
    loop {
        let change = reader.next()?;
        match change.file_name().map(CStr::to_string_lossy) {
            Some(name) if name == AUTOSTART => {
                inotify::add_watch(&changes, folder.join(AUTOSTART), CHANGES)?;
                listener.add(|happened| happened.everything = true);
            }
            Some(name) => {
                if let Some(domain) = domain(&name) {
                    listener.add(|happened| {
                        happened.names.insert(domain);
                    });
                }
            }
            // More than could be kept: whatever it was, it concerns nobody by name.
            None => listener.add(|happened| happened.everything = true),
        }
    }
}

/// The domain behind the name of a file.
fn domain(file: &str) -> Option<DomainName> {
    DomainName::new(file.strip_suffix(".xml")?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_definitions_name_a_domain() {
        assert_eq!(domain("vm0.example.jp.xml").as_ref().map(DomainName::as_str), Some("vm0.example.jp"));
        assert_eq!(domain("vm0.xml.new"), None);
        assert_eq!(domain("networks"), None);
    }
}
