//! What an object is, by the context URL that it begins with (OData 4.01 part 1, section 10). That comes
//! first in an object, wherever one is needed (OData JSON Format 4.01 section 4.6.1).

use memchr::{memchr, memmem};

use super::escape::{Decoder, Stop};
use super::keys::{Frame, is_context};

/// So much of the URL is decoded at once: a list of properties in it can be long.
const PIECE: usize = 256;
/// So many of its last bytes are kept: what is looked for is shorter.
const KEPT: usize = 24;

/// Looks at the beginning of an object, in pieces, ahead of the rewriter.
#[derive(Debug, Default)]
pub(super) struct Probe {
    place: Place,
    decoder: Decoder,
    context: Context,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Nothing: it has seen what it needs.
    #[default]
    Done,
    /// The white space before this byte.
    Before(u8),
    /// The first key.
    Key,
    /// The value under it.
    Value,
}

impl Probe {
    /// Whether more of the object has to be seen.
    pub(super) fn is_open(&self) -> bool {
        self.place != Place::Done
    }

    /// Begins an object, behind its brace. What it is, if that is clear already.
    #[inline]
    pub(super) fn begin(&mut self, input: &[u8]) -> Option<Frame> {
        if cannot_begin(input) {
            return None;
        }
        self.begin_slowly(input)
    }

    #[inline(never)]
    fn begin_slowly(&mut self, input: &[u8]) -> Option<Frame> {
        self.place = Place::Before(b'"');
        self.decoder.clear();
        self.context = Context::default();
        self.read(input)
    }

    /// Takes the next bytes.
    #[inline(never)]
    pub(super) fn read(&mut self, input: &[u8]) -> Option<Frame> {
        let mut rest = input;
        while !rest.is_empty() {
            match self.place {
                Place::Done => return None,
                Place::Before(wanted) => {
                    rest = rest.trim_ascii_start();
                    let (&byte, after) = rest.split_first()?;
                    rest = after;
                    self.place = match (byte == wanted, wanted, self.decoder.text().is_empty()) {
                        (false, _, _) => Place::Done,
                        (true, b':', _) => Place::Before(b'"'),
                        (true, _, true) => Place::Key,
                        (true, _, false) => {
                            self.decoder.clear();
                            Place::Value
                        }
                    };
                }
                Place::Key => {
                    let (taken, stop) = self.decoder.read(rest, PIECE);
                    rest = rest.get(taken..).unwrap_or_default();
                    self.place = match stop {
                        Stop::Input => Place::Key,
                        Stop::End if is_context(self.decoder.text()) => Place::Before(b':'),
                        _ => Place::Done,
                    };
                }
                Place::Value => {
                    let (taken, stop) = self.decoder.read(rest, PIECE);
                    rest = rest.get(taken..).unwrap_or_default();
                    if stop == Stop::Input {
                        return None;
                    }
                    self.context.read(self.decoder.text());
                    self.decoder.clear();
                    if stop != Stop::Enough {
                        self.place = Place::Done;
                        return self.context.frame().filter(|_| stop == Stop::End);
                    }
                }
            }
        }
        None
    }
}

/// Whether an object that begins so has no context for sure: most have none, and are not looked at longer.
#[inline]
const fn cannot_begin(input: &[u8]) -> bool {
    match input {
        // As in nearly every row.
        [b'"', next, ..] if !matches!(next, b'@' | b'o' | b'\\') => true,
        [b'"', b'@', b'o', b'd', b'a', b't', b'a', b'.', next, ..] => !matches!(next, b'c' | b'\\'),
        [b'"', b'@', next, ..] => !matches!(next, b'o' | b'c' | b'\\'),
        [b'"', ..] => false,
        [next, ..] => !matches!(next, b'"' | b' ' | b'\t' | b'\r' | b'\n'),
        [] => false,
    }
}

/// A context URL that is read piece by piece.
#[derive(Debug, Default)]
pub(super) struct Context {
    end: Vec<u8>,
    has_fragment: bool,
    names_metadata: bool,
    names_links: bool,
}

impl Context {
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
