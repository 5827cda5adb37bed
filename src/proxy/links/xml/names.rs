//! The elements and attributes that hold links: those of Atom and of schemas (CSDL).

use memchr::memchr;

/// The largest number of bytes of a name that are kept. A longer name is none of those below.
pub(super) const NAME_LIMIT: usize = 64;

/// The attributes that hold links on every element. XML names are case-sensitive. `Url` is EDMX of
/// OData V3, `UrlRef` the value of an annotation. The prefixes are the usual ones.
const LINK_ATTRIBUTES: [&[u8]; 8] =
    [b"xml:base", b"href", b"src", b"Uri", b"Url", b"UrlRef", b"m:context", b"metadata:context"];

/// An element with links of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    Other,
    /// An element whose text is a name, which may be a link: Atom's `id`, a constant of an
    /// annotation.
    Name,
    /// An element whose text is a link.
    Link,
    /// A reference to an entity: `m:ref`.
    Reference,
    /// An action or function that an entity offers: `m:action`, `m:function`.
    Operation,
    /// An added or removed link in a delta: `m:link`, `m:deleted-link`.
    Relation,
    /// A removed entity in a delta: `at:deleted-entry` (RFC 6721).
    Tombstone,
}

impl Element {
    /// The element with this name. Properties, which are data, have a prefix and none of the
    /// attributes. So the prefix matters for a text, and not for an attribute.
    pub(super) fn named(name: &[u8]) -> Self {
        if name.len() >= NAME_LIMIT {
            return Self::Other;
        }
        match name {
            // Olingo's prefix is `a`.
            b"id" | b"atom:id" | b"a:id" | b"String" | b"edm:String" => return Self::Name,
            b"uri" | b"next" | b"icon" | b"logo" | b"atom:uri" | b"a:uri" => return Self::Link,
            _ => {}
        }
        let colon = memchr(b':', name).map_or(0, |colon| colon + 1);
        match name.get(colon..).unwrap_or_default() {
            b"ref" => Self::Reference,
            b"action" | b"function" => Self::Operation,
            b"link" | b"deleted-link" => Self::Relation,
            b"deleted-entry" => Self::Tombstone,
            _ => Self::Other,
        }
    }

    pub(super) const fn has_link_as_text(self) -> bool {
        matches!(self, Self::Name | Self::Link)
    }

    /// Whether the value of this attribute is a link, and if so, whether an absolute path in it is
    /// one.
    pub(super) fn takes_paths_in(self, attribute: &[u8]) -> Option<bool> {
        let is_link = match (self, attribute) {
            // A constant of an annotation may be anything.
            (_, b"String") => return Some(false),
            (Self::Reference, b"id") | (Self::Tombstone, b"ref") => true,
            (Self::Operation, b"metadata" | b"target") => true,
            (Self::Relation, b"source" | b"target") => true,
            _ => LINK_ATTRIBUTES.contains(&attribute),
        };
        is_link.then_some(true)
    }
}
