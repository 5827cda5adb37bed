//! The headers that hold URLs or entity tags, and in which form. Pure.

/// The form of a value.
///
/// Headers that a caller depends on most come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum HeaderKind {
    /// A URL.
    Url,
    /// URLs in angle brackets, with parameters (RFC 8288 section 3).
    Links,
    /// JSON with URLs in it: the messages of SAP's OData services.
    Messages,
    /// An entity tag of a body whose bytes may change.
    Tag,
}

/// Response headers with what a caller sends back to the sidecar.
pub(super) const HEADERS: [(&str, HeaderKind); 9] = [
    ("location", HeaderKind::Url),
    ("content-location", HeaderKind::Url),
    // OData 4.01 part 1, section 8.3.4. Some services leave the prefix out.
    ("odata-entityid", HeaderKind::Url),
    ("entityid", HeaderKind::Url),
    // The same in OData V3.
    ("dataserviceid", HeaderKind::Url),
    ("link", HeaderKind::Links),
    ("sap-message", HeaderKind::Messages),
    ("sap-messages", HeaderKind::Messages),
    ("etag", HeaderKind::Tag),
];

impl HeaderKind {
    /// The form of the header with this name, if it is one of them.
    pub(super) fn of(name: &[u8]) -> Option<Self> {
        let known = HEADERS.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
        known.map(|(_, kind)| *kind)
    }

    /// The first bytes of values that may change, besides those of URLs and escapes.
    pub(super) fn first_bytes() -> impl Iterator<Item = u8> {
        b"<[{".iter().copied()
    }
}
