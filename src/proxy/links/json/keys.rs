//! Which keys have links as their values.

use memchr::{memmem, memrchr2};

use super::super::header_kind::HeaderKind;

/// The longest key that is compared, decoded. A longer key is not a link key.
pub(super) const LONGEST_KEY: usize = 256;

/// An open container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// The top level of the document.
    Root,
    Object,
    Array,
    /// An array under a link key: its strings are links.
    Links,
    /// The object under `__metadata` or `__mediaresource`, where more keys are link keys.
    Metadata,
    /// The object under `actions` or `functions` in a metadata object: its keys are URLs, its
    /// values operations.
    Operations,
    /// An operation that an entity offers: its `target` is a link.
    Operation,
    /// An array of operations.
    Overloads,
    /// A service document, or references to entities in OData V3: `url` is a link in it, and in
    /// what its `value` lists. Also an object in that list.
    Listing,
    /// The list under `value` of a service document.
    Listed,
    /// A removed entity in a delta of OData 4.0: its `id` is a link.
    Deleted,
    /// An added or removed link in a delta: its `source` and `target` are links.
    Relation,
    /// The object under `$Reference` of a schema: its keys are URLs.
    References,
    /// An annotation's object or one within it.
    Annotation,
    /// An annotation's array or one within it.
    Annotations,
    /// The top level of a batch of requests (OData JSON Format 4.01 section 19.1).
    BatchRoot,
    /// The object of a batch of requests.
    Batch,
    /// The batch's array of requests.
    Requests,
    /// A request of the batch: its `url` is a link.
    Request,
    /// The top level of the response to a batch (section 19.4).
    AnswerRoot,
    /// The object of the response to a batch.
    Answer,
    /// The array of responses of a batch.
    Responses,
    /// A response of a batch.
    Response,
    /// The object with the headers of a response.
    Headers,
}

impl Frame {
    pub(super) const fn is_object(self) -> bool {
        !matches!(
            self,
            Self::Root
                | Self::Array
                | Self::Links
                | Self::Overloads
                | Self::Listed
                | Self::Annotations
                | Self::BatchRoot
                | Self::Requests
                | Self::AnswerRoot
                | Self::Responses
        )
    }

    /// Whether the keys of this object are URLs.
    pub(super) const fn has_urls_as_keys(self) -> bool {
        matches!(self, Self::Operations | Self::References)
    }

    /// The frame of an object or array that opens in this one, under a key with this role.
    pub(super) const fn inner(self, is_object: bool, role: Role) -> Self {
        if is_object { self.inner_object(role) } else { self.inner_array(role) }
    }

    const fn inner_object(self, role: Role) -> Self {
        match (self, role) {
            // Most objects in most documents.
            (Self::Array | Self::Object, Role::Plain) => Self::Object,
            (Self::BatchRoot, _) => Self::Batch,
            (Self::Requests, _) => Self::Request,
            (Self::AnswerRoot, _) => Self::Answer,
            (Self::Responses, _) => Self::Response,
            (Self::Listed, _) => Self::Listing,
            (Self::Operations | Self::Overloads, _) | (_, Role::Operation) => Self::Operation,
            (Self::Annotation | Self::Annotations, _) | (_, Role::Annotation) => Self::Annotation,
            (_, Role::Metadata) => Self::Metadata,
            (_, Role::Operations) => Self::Operations,
            (_, Role::References) => Self::References,
            (_, Role::Headers) => Self::Headers,
            _ => Self::Object,
        }
    }

    const fn inner_array(self, role: Role) -> Self {
        match (self, role) {
            (_, Role::Link) => Self::Links,
            (_, Role::Requests) => Self::Requests,
            (_, Role::Responses) => Self::Responses,
            (_, Role::Listed) => Self::Listed,
            (Self::Operations, _) | (_, Role::Operation) => Self::Overloads,
            (Self::Annotation | Self::Annotations, _) | (_, Role::Annotation) => Self::Annotations,
            _ => Self::Array,
        }
    }
}

/// The meaning of a value, by its key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Role {
    #[default]
    Plain,
    Link,
    Metadata,
    Operations,
    Operation,
    Listed,
    References,
    Annotation,
    Requests,
    Responses,
    Headers,
    /// The value of a response's header.
    Header(HeaderKind),
}

/// The role of the value under this key, in this container.
pub(super) fn role_of(key: &[u8], container: Frame) -> Role {
    if key.len() > LONGEST_KEY || container.has_urls_as_keys() {
        return Role::Plain;
    }
    let is_link = match key {
        b"__metadata" | b"__mediaresource" => return Role::Metadata,
        b"__next" | b"__delta" | b"uri" | b"associationuri" | b"location" | b"$ref" => true,
        b"documentationUri" | b"specUri" | b"longtextUrl" | b"longtext_url" | b"$UrlRef" => true,
        b"$Reference" => return Role::References,
        b"actions" | b"functions" if container == Frame::Metadata => return Role::Operations,
        b"value" if container == Frame::Listing => return Role::Listed,
        b"requests" if container == Frame::Batch => return Role::Requests,
        b"responses" if container == Frame::Answer => return Role::Responses,
        b"headers" if container == Frame::Response => return Role::Headers,
        b"url" => matches!(container, Frame::Request | Frame::Listing),
        b"id" => matches!(container, Frame::Metadata | Frame::Deleted),
        b"edit_media" | b"media_src" => container == Frame::Metadata,
        b"target" => matches!(container, Frame::Operation | Frame::Relation),
        b"source" => container == Frame::Relation,
        b"href" | b"retryLink" => container == Frame::Annotation,
        _ if container == Frame::Headers => {
            return HeaderKind::of(key).map_or(Role::Plain, Role::Header);
        }
        // The catalog's keys. Other keys with this ending are data, which a caller may write back.
        _ if key.starts_with(b"asset") && key.ends_with(b"Url") => true,
        // OData V3.
        _ if key.starts_with(b"odata.") => true,
        _ => return role_of_annotation(key),
    };
    if is_link { Role::Link } else { Role::Plain }
}

/// The role of a key with an `@` or a `#` in it. Names of properties have neither.
fn role_of_annotation(key: &[u8]) -> Role {
    /// Control information in its short form (OData JSON Format 4.01 section 4.6).
    const SHORT_FORMS: [&[u8]; 12] = [
        b"context",
        b"nextLink",
        b"deltaLink",
        b"id",
        b"editLink",
        b"readLink",
        b"navigationLink",
        b"associationLink",
        b"mediaReadLink",
        b"mediaEditLink",
        b"bind",
        b"type",
    ];
    let Some((at, suffix)) =
        memrchr2(b'@', b'#', key).and_then(|at| Some((at, key.get(at + 1..)?)))
    else {
        return Role::Plain;
    };
    if key.get(at) == Some(&b'#') {
        return Role::Operation;
    }
    let is_link = suffix.starts_with(b"odata.")
        || SHORT_FORMS.contains(&suffix)
        || suffix.ends_with(b".longtextUrl")
        || memmem::find(key, b"@odata.").is_some();
    match is_link {
        true => Role::Link,
        false if suffix.contains(&b'.') => Role::Annotation,
        false => Role::Plain,
    }
}

/// Whether the value under this key is a context URL, which names the type of its object.
pub(super) fn is_context(key: &[u8]) -> bool {
    matches!(key, b"@odata.context" | b"@context" | b"odata.metadata")
}
