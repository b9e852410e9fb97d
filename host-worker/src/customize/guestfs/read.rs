//! Reads the files that a plan needs.

use super::fish::{Fish, quoted};
use crate::customize::{CustomizeError, Entry, Tree, Want};

/// How large a file may be that is read. `/etc/hosts` grows to a megabyte where it blocks advertisements; libguestfs
/// itself hands out at most four at once.
const SIZE_MAX: usize = 2 * 1024 * 1024;

/// How many entries a folder may have that is read: the guest may be anybody's, and each one is asked about.
const ENTRIES_MAX: usize = 4096;
/// How much of the files in one folder may be read; the plan holds it several times over.
const FOLDER_MAX: usize = 16 * 1024 * 1024;

/// What `is-…` says of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Link,
    Folder,
    Nothing,
}

async fn kinds(fish: &mut Fish, paths: &[String]) -> Result<Vec<Kind>, CustomizeError> {
    let questions = paths.iter().flat_map(|path| {
        let path = quoted(path.as_bytes());
        ["is-file", "is-symlink", "is-dir"].map(|question| format!("{question} {path}"))
    });
    let answers = fish.ask("looking at the guest's files", &questions.collect::<Vec<_>>()).await?;
    let yes = |answer: Option<&String>| answer.is_some_and(|answer| answer.trim_ascii() == "true");
    Ok(answers
        .chunks(3)
        .map(|answer| match (yes(answer.first()), yes(answer.get(1)), yes(answer.get(2))) {
            (true, _, _) => Kind::File,
            (_, true, _) => Kind::Link,
            (_, _, true) => Kind::Folder,
            (false, false, false) => Kind::Nothing,
        })
        .collect())
}

/// Reads a text file, following links; none if it is too large or not text.
pub(super) async fn text(fish: &mut Fish, path: &str) -> Result<Option<String>, CustomizeError> {
    Ok(content(fish, path).await?.map(|content| String::from_utf8_lossy(&content).into_owned()))
}

async fn content(fish: &mut Fish, path: &str) -> Result<Option<Vec<u8>>, CustomizeError> {
    let size = fish.ask(&format!("reading {path}"), &[format!("filesize {}", quoted(path.as_bytes()))]).await?;
    let size = size.first().and_then(|size| size.trim_ascii().parse().ok()).filter(|size| *size <= SIZE_MAX);
    let Some(size) = size else { return Ok(None) };
    let content = fish.read(path, size).await?;
    Ok(Some(content).filter(|content| !content.contains(&0)))
}

/// Reads what is wanted.
///
/// # Errors
/// Besides those of libguestfs: a file that a plan would change is too large or not text.
pub(super) async fn read(fish: &mut Fish, wants: &[Want]) -> Result<Tree, CustomizeError> {
    let mut tree = Tree::default();
    let path = |want: &Want| match want {
        Want::Presence(path) | Want::File(path) | Want::Names(path) | Want::Folder(path) => (*path).to_owned(),
    };
    let found = kinds(fish, &wants.iter().map(path).collect::<Vec<_>>()).await?;
    for (want, kind) in wants.iter().zip(found) {
        let path = path(want);
        match (want, kind) {
            (_, Kind::Nothing) => {}
            (Want::Presence(_), Kind::Folder) => tree.put(path, Entry::Folder),
            (Want::Presence(_), _) => tree.put(path, Entry::Unread),
            (_, Kind::Link) => {
                let target = fish.ask("reading a link", &[format!("readlink {}", quoted(path.as_bytes()))]).await?;
                let target = target.first().map(|target| target.trim_end_matches('\n').to_owned()).unwrap_or_default();
                tree.put(path, Entry::Link(target));
            }
            (Want::File(_), Kind::File) => {
                let content = content(fish, &path).await?.ok_or_else(|| CustomizeError::Guestfs {
                    doing: format!("reading {path}"),
                    message: "it is not a text file of at most 2 MiB".to_owned(),
                })?;
                tree.put(path, Entry::File(content));
            }
            (Want::Names(_) | Want::Folder(_), Kind::Folder) => {
                tree.put(&*path, Entry::Folder);
                read_folder(fish, &mut tree, &path, matches!(want, Want::Folder(_))).await?;
            }
            (Want::File(_), Kind::Folder) | (Want::Names(_) | Want::Folder(_), Kind::File) => {
                tree.put(path, Entry::Unread);
            }
        }
    }
    Ok(tree)
}

async fn read_folder(fish: &mut Fish, tree: &mut Tree, folder: &str, deep: bool) -> Result<(), CustomizeError> {
    let names = fish.ask(&format!("reading {folder}"), &[format!("ls {}", quoted(folder.as_bytes()))]).await?;
    // A name that is not UTF-8 or holds a line's end is found not to exist, and so is left alone.
    let paths: Vec<String> =
        names.iter().flat_map(|names| names.lines()).map(|name| format!("{folder}/{name}")).collect();
    if paths.len() > ENTRIES_MAX {
        return Err(too_much(folder, format!("it has {} entries, more than {ENTRIES_MAX}", paths.len())));
    }
    let mut held = 0;
    for (path, kind) in paths.iter().zip(kinds(fish, &paths).await?) {
        if kind == Kind::File && !tree.exists(path) {
            let content = if deep { content(fish, path).await? } else { None };
            held += content.as_ref().map_or(0, Vec::len);
            if held > FOLDER_MAX {
                return Err(too_much(folder, format!("its files are larger than {FOLDER_MAX} bytes together")));
            }
            tree.put(&**path, content.map_or(Entry::Unread, Entry::File));
        }
    }
    Ok(())
}

fn too_much(folder: &str, message: String) -> CustomizeError {
    CustomizeError::Guestfs { doing: format!("reading {folder}"), message }
}
