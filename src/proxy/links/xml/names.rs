//! Which elements and attributes hold links: those of Atom and of schemas (CSDL).

use memchr::memchr;

/// The most bytes of a name that are kept. A name this long or longer is none of ours.
pub(super) const NAME_LIMIT: usize = 64;

/// The attributes that hold links on every element. XML names are case-sensitive. `Url` is EDMX of
/// OData V3, `UrlRef` an annotation's value, and the prefixes are those that everyone uses.
const LINK_ATTRIBUTES: [&[u8]; 8] =
    [b"xml:base", b"href", b"src", b"Uri", b"Url", b"UrlRef", b"m:context", b"metadata:context"];

/// An element that has links where others do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    Other,
    /// Its text is a name, which may be a link: Atom's `id`, a constant of an annotation.
    Name,
    /// Its text is a link.
    Link,
    /// The reference to an entity: `m:ref`.
    Reference,
    /// An action or function that an entity offers: `m:action`, `m:function`.
    Operation,
    /// A link that is new or gone, in a delta: `m:link`, `m:deleted-link`.
    Relation,
    /// An entity that is gone, in a delta: `at:deleted-entry` (RFC 6721).
    Tombstone,
}

impl Element {
    /// The element of this name. Properties, which are data, have a prefix and no attributes of these
    /// names, so that the prefix of a text matters, and that of an attribute's element does not.
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

    /// Whether the value of this attribute is a link, and if so, whether an absolute path is one there.
    pub(super) fn takes_paths_in(self, attribute: &[u8]) -> Option<bool> {
        let is_link = match (self, attribute) {
            // A constant of an annotation, which may be anything.
            (_, b"String") => return Some(false),
            (Self::Reference, b"id") | (Self::Tombstone, b"ref") => true,
            (Self::Operation, b"metadata" | b"target") => true,
            (Self::Relation, b"source" | b"target") => true,
            _ => LINK_ATTRIBUTES.contains(&attribute),
        };
        is_link.then_some(true)
    }
}
