//! Files that somebody else names: read only if they are plain and small; and where they are.

use crate::text;
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions, metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// No configuration, certificate or secret is larger.
const LARGEST: u64 = 1024 * 1024;
/// The kernel follows no more links on the way to a file.
const MOST_LINKS: usize = 40;

/// Opens a file to be read, if it is a plain one. What could block or never end is refused: a pipe, a
/// device. It does not block either where such a thing is put in a file's place in the same moment.
///
/// # Errors
/// The file can't be opened, or is no plain one; that is [`ErrorKind::InvalidInput`].
pub fn open_plain(path: &Path) -> io::Result<File> {
    let not_plain = || io::Error::new(ErrorKind::InvalidInput, "it is no plain file");
    // To open a device may have an effect on it.
    if !metadata(path)?.is_file() {
        return Err(not_plain());
    }
    open_now(path)?.ok_or_else(not_plain)
}

/// Opens whatever is there now without waiting for it; nothing if it is no plain file.
fn open_now(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    Ok(file.metadata()?.is_file().then_some(file))
}

/// The text of a file. What could block or never end is refused: a pipe, a device, something huge.
///
/// # Errors
/// The file can't be read, is no plain file of at most 1 MiB, or no text.
pub fn read_small(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    let read = open_plain(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if u64::try_from(read).is_ok_and(|read| read > LARGEST) {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    let text = text::decode(&bytes).map_err(|why| io::Error::other(format!("it {why}")))?;
    Ok(text.into_owned())
}

/// The folder of a file, since another file may come in its place; a folder itself.
pub fn folder_of(path: &Path) -> &Path {
    if path.is_dir() {
        return path;
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or_else(|| Path::new("."))
}

/// A link on the way to a file or folder.
pub(crate) struct Link {
    /// Where it is, by a path without links.
    pub(crate) folder: PathBuf,
    /// Where it leads.
    pub(crate) target: PathBuf,
}

/// The links on the way to a file or folder, be it there or not, and the path without them.
pub(crate) fn links(path: &Path) -> (Vec<Link>, PathBuf) {
    let Ok(absolute) = std::path::absolute(path) else { return (Vec::new(), path.to_owned()) };
    let parts = |path: &Path| -> Vec<PathBuf> {
        path.components().rev().map(|part| PathBuf::from(part.as_os_str())).collect()
    };
    let (mut here, mut left, mut links) = (PathBuf::new(), parts(&absolute), Vec::new());
    while let Some(part) = left.pop() {
        let next = here.join(&part);
        match next.read_link() {
            Ok(target) if links.len() < MOST_LINKS => {
                left.extend(parts(&target));
                links.push(Link { folder: here.clone(), target });
            }
            _ if part.as_os_str() == ".." => drop(here.pop()),
            _ => here = next,
        }
    }
    (links, here)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_and_small_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "text").unwrap();
        assert_eq!(read_small(&path).unwrap(), "text");
        std::fs::write(&path, b"\xff\xfet\0e\0x\0t\0").unwrap();
        assert_eq!(read_small(&path).unwrap(), "text", "of PowerShell");
        assert!(read_small(folder.path()).is_err());
        assert!(read_small(Path::new("/dev/zero")).is_err());
        std::fs::write(&path, vec![b' '; 1024 * 1024 + 1]).unwrap();
        assert!(read_small(&path).unwrap_err().to_string().contains("larger"));
    }

    #[test]
    fn a_pipe_that_takes_a_files_place_in_the_last_moment_does_not_block() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        // As if it had been a file when that was asked.
        assert!(open_now(&path).unwrap().is_none());
        let error = open_plain(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}
