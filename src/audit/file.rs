//! The files of the audit log.

use rustix::fs::fstat;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Where lines are written.
pub(super) enum Destination {
    Files(Files),
    Stderr(Box<dyn Write + Send>),
}

impl Destination {
    /// Writes whole lines.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Files(files) => files.write(lines),
            Self::Stderr(stderr) => stderr.write_all(lines),
        }
    }

    /// Begins another file.
    pub(super) fn rotate(&mut self) {
        if let Self::Files(files) = self {
            files.current = None;
        }
    }
}

/// The files of one process in the folder. Another process writes others, so that two never wait
/// for each other, and a file never changes after its last line.
pub(super) struct Files {
    folder: PathBuf,
    /// The folder, open: a new file is in it for good only when it is synced.
    opened: File,
    /// The length after which another file begins.
    max_size: u64,
    /// Whether lines are on the disk when they count as written.
    sync: bool,
    current: Option<Current>,
}

/// The file that is being written.
struct Current {
    file: File,
    /// The length of whole lines.
    length: u64,
}

impl Files {
    /// Opens the folder. The first line begins the first file.
    pub(super) fn open(folder: &Path, max_size: u64, sync: bool) -> io::Result<Self> {
        let opened = File::open(folder)?;
        Ok(Self { folder: folder.to_owned(), opened, max_size, sync, current: None })
    }

    fn create(&self) -> io::Result<Current> {
        let time = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
        let name = format!("audit-{}-{}.jsonl", time.replace([':', '-'], ""), std::process::id());
        let mut options = OpenOptions::new();
        let file =
            options.append(true).create_new(true).mode(0o600).open(self.folder.join(name))?;
        if self.sync {
            self.opened.sync_all()?;
        }
        Ok(Current { file, length: 0 })
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let is_usable = |current: &Current| {
            // A file that somebody has deleted would lose every line.
            current.length < self.max_size && fstat(&current.file).is_ok_and(|it| it.st_nlink > 0)
        };
        let current = match self.current.take().filter(is_usable) {
            Some(current) => current,
            None => self.create()?,
        };
        let current = self.current.insert(current);
        let written = current.file.write_all(lines).and_then(|()| match self.sync {
            true => current.file.sync_data(),
            false => Ok(()),
        });
        match written {
            Ok(()) => current.length += u64::try_from(lines.len()).unwrap_or(u64::MAX),
            Err(_) => {
                // Part of a line may have been written, to which the next line must not be added.
                if current.file.set_len(current.length).is_err() {
                    self.current = None;
                }
            }
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::read_to_string;

    fn files_of(folder: &Path) -> Vec<PathBuf> {
        let mut files: Vec<_> =
            folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    #[test]
    fn another_file_begins_after_a_size_a_request_or_a_deletion() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = Files::open(folder.path(), 10, false).unwrap();
        assert_eq!(files_of(folder.path()).len(), 0, "none without a line");
        files.write(b"one\n").unwrap();
        files.write(b"a longer line\n").unwrap();
        files.write(b"two\n").unwrap();
        let [first, second] = &files_of(folder.path())[..] else { panic!("two files") };
        assert_eq!(read_to_string(first).unwrap(), "one\na longer line\n");
        std::fs::remove_file(second).unwrap();
        files.write(b"three\n").unwrap();
        let mut destination = Destination::Files(files);
        destination.rotate();
        destination.write(b"four\n").unwrap();
        let texts: Vec<_> =
            files_of(folder.path()).iter().map(|it| read_to_string(it).unwrap()).collect();
        assert_eq!(texts, ["one\na longer line\n", "three\n", "four\n"]);
    }
}
