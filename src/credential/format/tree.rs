//! Content of a file or folder, in memory.

use std::collections::BTreeMap;
use std::fmt;
use zeroize::Zeroizing;

/// Content of a file or of a folder.
#[derive(Clone)]
pub enum Tree {
    /// The bytes of a file.
    File(Zeroizing<Vec<u8>>),
    /// The entries of a folder by name. Environment variables fit too, one file each.
    Folder(BTreeMap<String, Self>),
}

impl Tree {
    /// A file of these bytes.
    pub fn file(bytes: impl Into<Vec<u8>>) -> Self {
        Self::File(Zeroizing::new(bytes.into()))
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(bytes) => write!(formatter, "File({} bytes, redacted)", bytes.len()),
            Self::Folder(entries) => formatter.debug_map().entries(entries).finish(),
        }
    }
}
