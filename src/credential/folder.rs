//! Reading of a file or folder into memory, within bounds: the only part of recognising
//! credentials that touches the file system.
//!
//! Kubernetes replaces a mounted Secret by pointing the link `..data` at another folder. Either the
//! old folder is read as a whole, or the new one: never a new id with an old secret.

use super::format::Tree;
use crate::files::{self, read_wiped};
use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The largest number of bytes of all files together.
pub const MAX_SUM: usize = 1024 * 1024;
/// The largest number of files and folders together.
pub const MAX_ENTRIES: usize = 200;
/// The largest number of folders inside each other.
pub const MAX_DEPTH: usize = 4;

/// The link to the folder with the current files of a Kubernetes mount.
const SNAPSHOT: &str = "..data";
/// How many times a folder is read if it changes during the read.
const ATTEMPTS: usize = 3;

/// A file or folder that can't be read. Messages name paths, never content.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system returns an error.
    #[error("{}", files::unreadable(&path.display().to_string(), path, cause))]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// The path names a socket, a pipe or a device.
    #[error("{} is not a file or a folder; check the path", path.display())]
    NeitherFileNorFolder {
        /// The configured path.
        path: PathBuf,
    },
    /// A file is larger than a credential.
    #[error("{} is larger than 64 KiB; credentials are smaller, check the path", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A folder holds more than credentials.
    #[error("the folder holds more than {what}; the limit was reached at {}; give a folder that holds only bindings", path.display())]
    FolderTooLarge {
        /// The path at which the limit was reached.
        path: PathBuf,
        /// The limit.
        what: &'static str,
    },
    /// The folder was replaced during every attempt to read it.
    #[error("{} changed during each attempt to read it; wait until nothing writes to it", path.display())]
    Changing {
        /// The folder.
        path: PathBuf,
    },
}

/// Reads a file, or a folder with all folders in it. Links are followed. Left out are names that
/// begin with `..`, names that are not UTF-8, sockets, pipes and devices.
///
/// # Errors
/// Something can't be read, or is larger than a credential.
pub fn read(path: &Path) -> Result<Tree, ReadError> {
    let mut budget = Budget { bytes: MAX_SUM, entries: MAX_ENTRIES };
    let metadata = fs::metadata(path).map_err(|source| unreadable(path, source))?;
    match entry(path, &metadata, 0, &mut budget)? {
        Some(tree) => Ok(tree),
        None => Err(ReadError::NeitherFileNorFolder { path: path.to_owned() }),
    }
}

/// What may still be read of a folder.
#[derive(Clone)]
struct Budget {
    bytes: usize,
    entries: usize,
}

fn entry(
    path: &Path,
    metadata: &Metadata,
    depth: usize,
    budget: &mut Budget,
) -> Result<Option<Tree>, ReadError> {
    if metadata.is_file() {
        return file(path, budget).map(Some);
    }
    if !metadata.is_dir() {
        return Ok(None);
    }
    if depth == MAX_DEPTH {
        let what = "4 nested folders";
        return Err(ReadError::FolderTooLarge { path: path.to_owned(), what });
    }
    folder(path, depth, budget).map(Some)
}

fn file(path: &Path, budget: &mut Budget) -> Result<Tree, ReadError> {
    let bytes = read_wiped(path).map_err(|source| match source.kind() {
        ErrorKind::FileTooLarge => ReadError::FileTooLarge { path: path.to_owned() },
        _ => unreadable(path, source),
    })?;
    let what = "1 MiB";
    budget.bytes = budget
        .bytes
        .checked_sub(bytes.len())
        .ok_or_else(|| ReadError::FolderTooLarge { path: path.to_owned(), what })?;
    Ok(Tree::File(bytes))
}

/// Reads a folder, and again if it was replaced while it was read.
fn folder(path: &Path, depth: usize, budget: &mut Budget) -> Result<Tree, ReadError> {
    for _ in 0..ATTEMPTS {
        let mut left = budget.clone();
        let snapshot = snapshot(path);
        let read = entries(snapshot.as_deref().unwrap_or(path), depth, &mut left);
        if snapshot == self::snapshot(path) {
            *budget = left;
            return read.map(Tree::Folder);
        }
    }
    Err(ReadError::Changing { path: path.to_owned() })
}

/// The folder that Kubernetes' link points at, if there is one.
fn snapshot(path: &Path) -> Option<PathBuf> {
    fs::canonicalize(path.join(SNAPSHOT)).ok().filter(|snapshot| snapshot.is_dir())
}

fn entries(
    folder: &Path,
    depth: usize,
    budget: &mut Budget,
) -> Result<BTreeMap<String, Tree>, ReadError> {
    let mut entries = BTreeMap::new();
    for listed in fs::read_dir(folder).map_err(|source| unreadable(folder, source))? {
        let listed = listed.map_err(|source| unreadable(folder, source))?;
        let Some(name) = listed.file_name().to_str().map(str::to_owned) else { continue };
        if name.starts_with("..") {
            continue;
        }
        let path = listed.path();
        let what = "200 entries";
        budget.entries = budget
            .entries
            .checked_sub(1)
            .ok_or_else(|| ReadError::FolderTooLarge { path: path.clone(), what })?;
        // Deleted since it was listed, or a dangling link. The format reports it if it is required.
        let metadata = match fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            metadata => metadata.map_err(|source| unreadable(&path, source))?,
        };
        if let Some(tree) = entry(&path, &metadata, depth + 1, budget)? {
            entries.insert(name, tree);
        }
    }
    Ok(entries)
}

fn unreadable(path: &Path, error: io::Error) -> ReadError {
    ReadError::Unreadable { path: path.to_owned(), cause: error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::MAX_SECRET;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    fn temporary() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    /// The tree's paths and contents, one a line.
    fn listing(tree: &Tree) -> Vec<String> {
        match tree {
            Tree::File(bytes) => vec![format!("={}", String::from_utf8_lossy(bytes))],
            Tree::Folder(entries) => entries
                .iter()
                .flat_map(|(name, tree)| {
                    listing(tree).into_iter().map(move |line| format!("/{name}{line}"))
                })
                .collect(),
        }
    }

    fn message(path: &Path) -> String {
        read(path).unwrap_err().to_string()
    }

    #[test]
    fn files_and_folders_are_read_and_printed_without_content() {
        let root = temporary();
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        fs::write(root.path().join("a/b/c"), "secret").unwrap();
        fs::write(root.path().join("d"), "").unwrap();
        fs::write(root.path().join("..leftover"), "x").unwrap();
        let tree = read(root.path()).unwrap();
        assert_eq!(listing(&tree), ["/a/b/c=secret", "/d="]);
        assert!(!format!("{tree:?}").contains("115") && !format!("{tree:?}").contains("secret"));
        assert_eq!(listing(&read(&root.path().join("a/b/c")).unwrap()), ["=secret"]);
    }

    #[test]
    fn a_kubernetes_mount_is_read_through_its_link_and_once() {
        let root = temporary();
        let at = |name: &str| root.path().join(name);
        for (folder, value) in [("..2026_old", "old"), ("..2026_new", "new")] {
            fs::create_dir(at(folder)).unwrap();
            fs::write(at(folder).join("clientid"), value).unwrap();
        }
        symlink("..2026_old", at("..data")).unwrap();
        symlink("..data/clientid", at("clientid")).unwrap();
        // Missing in the folder of the link, and so not read: the link is followed once for all.
        fs::write(at("beside"), "x").unwrap();
        assert_eq!(listing(&read(root.path()).unwrap()), ["/clientid=old"]);
        symlink("..2026_new", at("..next")).unwrap();
        fs::rename(at("..next"), at("..data")).unwrap();
        assert_eq!(listing(&read(root.path()).unwrap()), ["/clientid=new"]);
    }

    #[test]
    fn pipes_sockets_and_links_to_nothing_never_block() {
        let root = temporary();
        let pipe = root.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let _socket = UnixListener::bind(root.path().join("socket")).unwrap();
        symlink("nowhere", root.path().join("link")).unwrap();
        fs::write(root.path().join("file"), "x").unwrap();
        assert_eq!(listing(&read(root.path()).unwrap()), ["/file=x"]);
        assert!(message(&pipe).ends_with("pipe is not a file or a folder; check the path"));
        assert!(message(&root.path().join("none")).starts_with("cannot read"));
    }

    #[test]
    fn files_larger_than_credentials_are_refused() {
        let root = temporary();
        let at = |name: &str| root.path().join(name);
        fs::write(at("file"), vec![b'x'; MAX_SECRET + 1]).unwrap();
        assert!(message(root.path()).contains("file is larger than 64 KiB"));
        fs::write(at("file"), vec![b'x'; MAX_SECRET]).unwrap();
        assert!(read(root.path()).is_ok());
        for index in 0..16 {
            fs::write(at(&format!("file{index}")), vec![b'x'; MAX_SECRET]).unwrap();
        }
        assert!(message(root.path()).contains("more than 1 MiB"));
    }

    #[test]
    fn too_many_entries_and_folders_are_refused_and_a_loop_ends() {
        let root = temporary();
        for index in 0..MAX_ENTRIES {
            fs::write(root.path().join(index.to_string()), "").unwrap();
        }
        assert!(read(root.path()).is_ok());
        fs::write(root.path().join("one-more"), "").unwrap();
        assert!(message(root.path()).contains("more than 200 entries"));

        let deep = temporary();
        fs::create_dir_all(deep.path().join("1/2/3")).unwrap();
        fs::write(deep.path().join("1/2/3/file"), "x").unwrap();
        assert_eq!(listing(&read(deep.path()).unwrap()), ["/1/2/3/file=x"]);
        fs::create_dir(deep.path().join("1/2/3/4")).unwrap();
        assert!(message(deep.path()).contains("more than 4 nested folders"));
        fs::remove_dir(deep.path().join("1/2/3/4")).unwrap();
        symlink(deep.path(), deep.path().join("1/2/3/loop")).unwrap();
        assert!(message(deep.path()).contains("more than 4 nested folders"));
    }
}
