//! What a machine's serial port put out: libvirt keeps it in a file for each machine that Maglica made (virtlogd turns the files over,
//! so that none grows without end); this reads it for the client worker.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use maglica_proto::{
    console::{CHUNK_MAX, Chunk, LogPart, LogPlace},
    fault::{Code, Fault},
    host::HostRequest,
    job::VmTask,
};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::{
    hypervisor::{Host, domain_xml::serial},
    link::Link,
};

/// Where libvirt's logs are. A description that names a file elsewhere is not followed: this worker can read every file.
const FOLDER: &str = "/var/log/libvirt";
/// How many are read at a time; what comes beyond is asked again.
const AT_ONCE: usize = 32;
/// How many of the last questions are remembered: each is asked again until it is answered.
const REMEMBERED: usize = 512;
/// The longest that more is waited for.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// From look to look meanwhile.
const LOOK: Duration = Duration::from_millis(100);
/// How often an answer is said until it is heard.
const TRIES: u32 = 3;
/// virtlogd's suffixes of the files before, the latest first.
const TURNED: [&str; 3] = [".0", ".1", ".2"];

/// The file in which a new machine's serial port is kept.
#[must_use]
pub fn path_of(name: &str, uuid: Uuid) -> PathBuf {
    Path::new(FOLDER).join("qemu").join(format!("{name}-{uuid}.serial.log"))
}

/// Removes what was kept of a machine; one that was not kept is no error.
pub fn remove(path: &Path) {
    let turned = TURNED.iter().map(|suffix| with_suffix(path, suffix));
    for file in std::iter::once(path.to_owned()).chain(turned) {
        match std::fs::remove_file(&file) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(file = %file.display(), %error, "a log cannot be removed"),
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A question for a piece of the log.
#[derive(Debug, Clone)]
pub struct Question {
    /// Its number.
    pub number: u64,
    /// The machine.
    pub vm: VmTask,
    /// From where on.
    pub place: Option<LogPlace>,
    /// Without a place: how much of the end.
    pub tail: u32,
    /// How long to wait for more.
    pub wait: Duration,
}

/// Answers questions, each once.
pub struct Logs {
    host: Host,
    link: Link,
    asked: VecDeque<u64>,
    at_once: Arc<Semaphore>,
}

impl Logs {
    /// Nothing was asked yet.
    #[must_use]
    pub fn new(host: Host, link: Link) -> Self {
        Self { host, link, asked: VecDeque::new(), at_once: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Answers, without waiting for it. One that was asked already is not answered again.
    pub fn read(&mut self, question: Question) {
        if self.asked.contains(&question.number) {
            return;
        }
        let Ok(permit) = self.at_once.clone().try_acquire_owned() else { return };
        if self.asked.len() == REMEMBERED {
            self.asked.pop_front();
        }
        self.asked.push_back(question.number);
        let (host, link) = (self.host.clone(), self.link.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let result = answer(&question, &host).await;
            for _ in 0..TRIES {
                let request = HostRequest::Log { number: question.number, result: result.clone() };
                if link.call(request).await.is_ok() {
                    return;
                }
            }
        });
    }
}

async fn answer(question: &Question, host: &Host) -> Result<LogPart, Fault> {
    let (uuid, name) = (question.vm.uuid, &question.vm.name);
    let about = |code, message: String| Fault::new(code, message).about(name.to_string());
    let xml = host
        .look(format!("looking for the serial log of {name}"), move |hypervisor| hypervisor.domain_xml(uuid))
        .await?;
    let kept = serial::read(&xml).map_err(|error| Fault::from_error(Code::Hypervisor, &error))?.log;
    let Some(path) = kept.map(PathBuf::from) else {
        let message = format!("no log is kept of the serial port of {name}: libvirt's description of it has none");
        return Err(about(Code::Unsupported, message));
    };
    if !lies_in(&path, Path::new(FOLDER)) {
        let message = format!("the log of the serial port of {name} is not in {FOLDER}, but {}", path.display());
        return Err(about(Code::Unsupported, message));
    }
    let until = Instant::now() + question.wait.min(WAIT_MAX);
    let (mut place, tail) = (question.place, question.tail);
    loop {
        let (file, at) = (path.clone(), place);
        let read = tokio::task::spawn_blocking(move || piece(&file, at, tail)).await;
        let part = match read {
            Ok(Ok(part)) => part,
            Ok(Err(error)) => {
                let message = format!("the log of {name} cannot be read: {}: {error}", path.display());
                return Err(about(Code::ToolFailed, message));
            }
            Err(error) => return Err(about(Code::Internal, error.to_string())),
        };
        // A file that was turned over is read to its end first.
        let turned = place.is_some_and(|place| place.file != part.next.file);
        if !part.output.0.is_empty() || part.missed || Instant::now() >= until || place.is_none() {
            return Ok(part);
        }
        place = Some(part.next);
        if !turned {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Whether the file lies in the folder, whatever its path says.
fn lies_in(path: &Path, folder: &Path) -> bool {
    // One that is not there yet has its folder.
    let real = path.canonicalize().or_else(|_| path.parent().unwrap_or(path).canonicalize());
    real.is_ok_and(|real| real.starts_with(folder))
}

/// Reads a piece. A log that is not there yet is empty.
fn piece(path: &Path, place: Option<LogPlace>, tail: u32) -> io::Result<LogPart> {
    let Some((mut file, inode, size)) = open(path)? else {
        let next = place.unwrap_or(LogPlace { file: 0, offset: 0 });
        return Ok(LogPart { output: Chunk::default(), next, missed: false });
    };
    let Some(place) = place else {
        let offset = size.saturating_sub(u64::from(tail));
        return part(&mut file, LogPlace { file: inode, offset }, false);
    };
    if place.file == inode && place.offset <= size {
        return part(&mut file, place, false);
    }
    // The one before, to its end, and then the one after it from its beginning.
    let mut after = inode;
    for suffix in TURNED {
        let Some((mut older, older_inode, older_size)) = open(&with_suffix(path, suffix))? else { break };
        if older_inode == place.file && place.offset <= older_size {
            let read = part(&mut older, place, false)?;
            let over = read.output.0.is_empty();
            return if over { Ok(LogPart { next: LogPlace { file: after, offset: 0 }, ..read }) } else { Ok(read) };
        }
        after = older_inode;
    }
    // What is asked with a file that was never there is a reader who was too early.
    part(&mut file, LogPlace { file: inode, offset: 0 }, place.file != 0)
}

fn open(path: &Path) -> io::Result<Option<(File, u64, u64)>> {
    match File::open(path) {
        Ok(file) => {
            let about = file.metadata()?;
            Ok(Some((file, about.ino(), about.len())))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn part(file: &mut File, place: LogPlace, missed: bool) -> io::Result<LogPart> {
    file.seek(SeekFrom::Start(place.offset))?;
    let mut output = Vec::new();
    file.take(CHUNK_MAX as u64).read_to_end(&mut output)?;
    let next = LogPlace { file: place.file, offset: place.offset + output.len() as u64 };
    Ok(LogPart { output: Chunk(output), next, missed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(part: &LogPart) -> &str {
        std::str::from_utf8(&part.output.0).unwrap()
    }

    #[test]
    fn the_end_is_read_and_then_what_comes_after_it_over_files_that_are_turned_over() {
        let folder = tempfile::tempdir().unwrap();
        let (path, older) = (folder.path().join("vm.log"), folder.path().join("vm.log.0"));
        let before = piece(&path, None, 100).unwrap();
        assert_eq!(text(&before), "");
        std::fs::write(&path, "boot\nlogin: ").unwrap();
        let tail = piece(&path, None, 7).unwrap();
        assert_eq!(text(&tail), "login: ");
        assert_eq!(
            text(&piece(&path, Some(before.next), 0).unwrap()),
            "boot\nlogin: ",
            "who was too early has all of it"
        );
        std::fs::write(&path, "boot\nlogin: root\n").unwrap();
        let more = piece(&path, Some(tail.next), 0).unwrap();
        assert_eq!((text(&more), more.missed), ("root\n", false));

        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        io::Write::write_all(&mut file, b"last").unwrap();
        std::fs::rename(&path, &older).unwrap();
        std::fs::write(&path, "first").unwrap();
        let rest = piece(&path, Some(more.next), 0).unwrap();
        assert_eq!(text(&rest), "last");
        let turn = piece(&path, Some(rest.next), 0).unwrap();
        assert_eq!(text(&turn), "");
        let new = piece(&path, Some(turn.next), 0).unwrap();
        assert_eq!((text(&new), new.missed), ("first", false));

        std::fs::remove_file(&older).unwrap();
        let late = piece(&path, Some(rest.next), 0).unwrap();
        assert_eq!((text(&late), late.missed), ("first", true));
    }

    #[test]
    fn only_files_below_the_folder_of_logs_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let (logs, outside) = (folder.path().join("logs"), folder.path().join("secret"));
        std::fs::create_dir(&logs).unwrap();
        std::fs::write(&outside, "x").unwrap();
        std::fs::write(logs.join("vm.log"), "x").unwrap();
        std::os::unix::fs::symlink(&outside, logs.join("link")).unwrap();
        let logs = logs.canonicalize().unwrap();
        assert!(lies_in(&logs.join("vm.log"), &logs) && lies_in(&logs.join("not-yet.log"), &logs));
        assert!(
            !lies_in(&outside, &logs)
                && !lies_in(&logs.join("link"), &logs)
                && !lies_in(&logs.join("../secret"), &logs)
        );
    }

    #[test]
    fn what_was_kept_of_a_machine_goes_with_all_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vm.log");
        for suffix in ["", ".0", ".1"] {
            std::fs::write(with_suffix(&path, suffix), "x").unwrap();
        }
        remove(&path);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
