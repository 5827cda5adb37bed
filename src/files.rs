//! Files that somebody else names: read only if they are plain and small; and where they are.

use std::fs::{File, metadata};
use std::io::{self, Read};
use std::path::Path;

/// No configuration, certificate or secret is larger.
const LARGEST: u64 = 1024 * 1024;

/// The text of a file. What could block or never end is refused: a pipe, a device, something huge.
///
/// # Errors
/// The file can't be read, is no plain file of at most 1 MiB, or no UTF-8.
pub fn read_small(path: &Path) -> io::Result<String> {
    if !metadata(path)?.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    let mut text = String::new();
    let read = File::open(path)?.take(LARGEST + 1).read_to_string(&mut text)?;
    if u64::try_from(read).is_ok_and(|read| read > LARGEST) {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(text)
}

/// The folder of a file, since another file may come in its place; a folder itself.
pub fn folder_of(path: &Path) -> &Path {
    if path.is_dir() {
        return path;
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or_else(|| Path::new("."))
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
        assert!(read_small(folder.path()).is_err());
        assert!(read_small(Path::new("/dev/zero")).is_err());
        std::fs::write(&path, vec![b' '; 1024 * 1024 + 1]).unwrap();
        assert!(read_small(&path).unwrap_err().to_string().contains("larger"));
    }
}
