//! Which keys have links as their values.

use memchr::{memmem, memrchr};

/// A key with more bytes than this, escapes decoded, is no link key.
pub(super) const LONGEST_KEY: usize = 256;

/// An open container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// None: the top level of the document.
    Root,
    Object,
    /// The object under `__metadata`, where more keys are link keys.
    Metadata,
    Array,
    /// An array under a link key: its strings are links.
    Links,
    /// None, in a batch of requests (OData JSON Format 4.01 section 19.1).
    BatchRoot,
    /// The object that is the batch.
    Batch,
    /// The batch's array of requests.
    Requests,
    /// A request of the batch: its `url` is a link.
    Request,
}

impl Frame {
    pub(super) const fn is_object(self) -> bool {
        matches!(self, Self::Object | Self::Metadata | Self::Batch | Self::Request)
    }

    /// The frame of an object or array that opens in this one, under a key that says this.
    pub(super) const fn inner(self, is_object: bool, role: Role) -> Self {
        match (is_object, role, self) {
            (true, _, Self::BatchRoot) => Self::Batch,
            (true, _, Self::Requests) => Self::Request,
            (true, Role::Metadata, _) => Self::Metadata,
            (true, _, _) => Self::Object,
            (false, Role::Link, _) => Self::Links,
            (false, Role::Requests, _) => Self::Requests,
            (false, _, _) => Self::Array,
        }
    }
}

/// What a key says about its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Role {
    #[default]
    Plain,
    Link,
    Metadata,
    Requests,
}

/// What a key says about its value, in this container.
pub(super) fn role_of(key: &[u8], container: Frame) -> Role {
    const SHORT_FORMS: [&[u8]; 7] =
        [b"nextLink", b"context", b"deltaLink", b"id", b"editLink", b"readLink", b"bind"];
    if key.len() > LONGEST_KEY {
        return Role::Plain;
    }
    let is_link = match key {
        b"__metadata" => return Role::Metadata,
        b"__next" | b"uri" | b"location" | b"$ref" => true,
        b"requests" if container == Frame::Batch => return Role::Requests,
        b"url" => container == Frame::Request,
        b"id" | b"edit_media" | b"media_src" => container == Frame::Metadata,
        _ => {
            let suffix = memrchr(b'@', key).and_then(|at| key.get(at + 1..));
            // The catalog's. Other keys of that ending are data, which a caller may write back.
            key.starts_with(b"asset") && key.ends_with(b"Url")
                || suffix.is_some_and(|suffix| {
                    SHORT_FORMS.contains(&suffix) || memmem::find(key, b"@odata.").is_some()
                })
        }
    };
    if is_link { Role::Link } else { Role::Plain }
}
