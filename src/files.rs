//! Reading of files that the configuration names: only regular and small ones; and the links on
//! the way to them.

use crate::text;
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions, metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use zeroize::Zeroizing;

/// The largest configuration or file of trust anchors, in bytes.
const MAX_SMALL: usize = 1024 * 1024;
/// The largest file with secrets, in bytes.
pub const MAX_SECRET: usize = 64 * 1024;
/// The largest number of links that the kernel follows on the way to a file.
const MAX_LINKS: usize = 40;

/// Opens a regular file for reading. A pipe or a device is refused, because reading it could block
/// or never end. Opening does not block even if a pipe replaces a regular file at that moment.
///
/// # Errors
/// The file can't be opened. If it is not a regular file, the kind is [`ErrorKind::InvalidInput`].
pub fn open_regular(path: &Path) -> io::Result<File> {
    let not_regular = || io::Error::new(ErrorKind::InvalidInput, "it is not a regular file");
    // Opening a device may have an effect on it.
    if !metadata(path)?.is_file() {
        return Err(not_regular());
    }
    open_without_waiting(path)?.ok_or_else(not_regular)
}

/// Opens a file without waiting for another process. Returns `None` if it is not a regular file.
fn open_without_waiting(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    Ok(file.metadata()?.is_file().then_some(file))
}

/// Appends the content of a regular file to `bytes`. A file with more bytes than `limit` is an
/// error of the kind [`ErrorKind::FileTooLarge`].
fn read_bounded(path: &Path, limit: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    match open_regular(path)?.take(most).read_to_end(bytes)? {
        read if read > limit => Err(ErrorKind::FileTooLarge.into()),
        _ => Ok(()),
    }
}

/// Reads the text of a regular file of at most 1 MiB.
///
/// # Errors
/// The file can't be read, is not a regular file, is larger than 1 MiB, or holds no text.
pub fn read_small(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    read_bounded(path, MAX_SMALL, &mut bytes).map_err(|error| match error.kind() {
        ErrorKind::FileTooLarge => io::Error::new(error.kind(), "it is larger than 1 MiB"),
        _ => error,
    })?;
    let text = text::decode(&bytes).map_err(|why| io::Error::other(format!("it {why}")))?;
    Ok(text.into_owned())
}

/// Reads a regular file of at most [`MAX_SECRET`] bytes. Every copy of the bytes is wiped.
///
/// # Errors
/// The file can't be read. The kind is [`ErrorKind::InvalidInput`] if it is not a regular file, and
/// [`ErrorKind::FileTooLarge`] if it is larger.
pub(crate) fn read_wiped(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // Never grows: growing would leave a copy behind that is not wiped.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET + 1));
    read_bounded(path, MAX_SECRET, &mut bytes)?;
    Ok(Zeroizing::new(bytes.to_vec()))
}

/// Whether this process has given up the right to open other files than the configured ones.
static IS_SANDBOXED: AtomicBool = AtomicBool::new(false);

/// Records that this process opens only files that are configured, from now on.
pub(crate) fn set_sandboxed() {
    IS_SANDBOXED.store(true, Ordering::Relaxed);
}

/// Returns why a file or folder can't be read, and what to do. `shown` is its name for people.
pub(crate) fn unreadable(shown: &str, path: &Path, error: &io::Error) -> String {
    let why = match error.kind() {
        ErrorKind::NotFound if shown.starts_with('~') => {
            "`~` is not expanded here; write the whole path".to_owned()
        }
        ErrorKind::NotFound if is_of_windows(shown) => {
            "bearerd runs on Linux; write the path as Linux sees it (WSL: /mnt/c/...)".to_owned()
        }
        ErrorKind::NotFound => "it does not exist; correct the path, or create it".to_owned(),
        ErrorKind::PermissionDenied => permission_denied(path),
        ErrorKind::InvalidInput => format!("{error}; give the path of a file"),
        _ => error.to_string(),
    };
    format!("cannot read {shown}: {why}")
}

/// Whether a text is a path of Windows: a drive's letter and a backslash.
pub(crate) fn is_of_windows(text: &str) -> bool {
    matches!(text.as_bytes(), [drive, b':', b'\\', ..] if drive.is_ascii_alphabetic())
}

fn permission_denied(path: &Path) -> String {
    let user = rustix::process::geteuid().as_raw();
    let of_file = metadata(path)
        .map(|file| format!(" (mode {:04o}, owner {})", file.mode() & 0o7777, file.uid()));
    let of_file = of_file.unwrap_or_else(|_| " (one of its folders is closed)".to_owned());
    // The sandbox knows a folder by its inode.
    let hint = match IS_SANDBOXED.load(Ordering::Relaxed) {
        true => ", or restart bearerd if the folder is new or was replaced (`sandbox: on`)",
        false => "",
    };
    format!("user {user} may not read it{of_file}; give user {user} the right to read it{hint}")
}

/// The folder to watch for a path: the parent of a file, which may be replaced, or the folder
/// itself.
pub fn folder_of(path: &Path) -> &Path {
    if path.is_dir() {
        return path;
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or_else(|| Path::new("."))
}

/// A symbolic link on the way to a file or folder.
pub(crate) struct Link {
    /// The folder that holds the link, as a path without links.
    pub(crate) folder: PathBuf,
    /// The target as the link holds it, which may be relative.
    pub(crate) target: PathBuf,
}

/// Returns the links on the way to a file or folder, and the path without links. The file need not
/// exist.
pub(crate) fn links(path: &Path) -> (Vec<Link>, PathBuf) {
    let Ok(absolute) = std::path::absolute(path) else { return (Vec::new(), path.to_owned()) };
    let parts = |path: &Path| -> Vec<PathBuf> {
        path.components().rev().map(|part| PathBuf::from(part.as_os_str())).collect()
    };
    let (mut here, mut left, mut links) = (PathBuf::new(), parts(&absolute), Vec::new());
    while let Some(part) = left.pop() {
        let next = here.join(&part);
        match next.read_link() {
            Ok(target) if links.len() < MAX_LINKS => {
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
    fn only_regular_and_small_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "text").unwrap();
        assert_eq!(read_small(&path).unwrap(), "text");
        std::fs::write(&path, b"\xff\xfet\0e\0x\0t\0").unwrap();
        assert_eq!(read_small(&path).unwrap(), "text", "as PowerShell writes it");
        assert!(read_small(folder.path()).is_err());
        assert!(read_small(Path::new("/dev/zero")).is_err());
        std::fs::write(&path, vec![b' '; 1024 * 1024 + 1]).unwrap();
        assert!(read_small(&path).unwrap_err().to_string().contains("larger"));
    }

    #[test]
    fn a_pipe_that_replaces_a_file_at_the_last_moment_does_not_block() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        // The check before the opening is left out, as if the pipe had come after it.
        assert!(open_without_waiting(&path).unwrap().is_none());
        let error = open_regular(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}
