//! What a context URL says about the object that it is in (OData 4.01 part 1, section 10).

use memchr::{memchr, memmem};

use super::keys::Frame;

/// So many of the last bytes are kept: what is looked for is shorter.
const KEPT: usize = 24;

/// Reads a context URL piece by piece; a list of properties in it can be long.
#[derive(Debug, Default)]
pub(super) struct Context {
    end: Vec<u8>,
    has_fragment: bool,
    names_metadata: bool,
    names_links: bool,
}

impl Context {
    /// Begins another one.
    pub(super) fn clear(&mut self) {
        self.end.clear();
        (self.has_fragment, self.names_metadata, self.names_links) = (false, false, false);
    }

    /// Takes the next bytes of it.
    pub(super) fn read(&mut self, text: &[u8]) {
        self.end.extend_from_slice(text);
        self.has_fragment |= memchr(b'#', &self.end).is_some();
        self.names_metadata |= memmem::find(&self.end, b"$metadata").is_some();
        self.names_links |= memmem::find(&self.end, b"/$links/").is_some();
        self.end.drain(..self.end.len().saturating_sub(KEPT));
    }

    /// What the object is, once all is read. `None`: nothing whose keys mean more than elsewhere.
    pub(super) fn frame(&self) -> Option<Frame> {
        let ends = |end: &[u8]| self.end.ends_with(end);
        // What has no fragment is a service document; that with `$links` is OData V3.
        if self.names_links || self.names_metadata && !self.has_fragment {
            Some(Frame::Listing)
        } else if ends(b"/$deletedEntity") {
            Some(Frame::Deleted)
        } else if ends(b"/$link") || ends(b"/$deletedLink") {
            Some(Frame::Relation)
        } else {
            None
        }
    }
}
