//! The type of an object, by the context URL that it begins with (OData 4.01 part 1, section 10).
//! If a document needs a context, it comes first in the object (OData JSON Format 4.01 section
//! 4.6.1).

use memchr::{memchr, memmem};

use super::escape::{Decoder, Stop};
use super::keys::{Frame, is_context};

/// The largest number of bytes of the URL that are decoded at once: it may hold a long list of
/// properties.
const PIECE: usize = 256;
/// The number of last bytes that are kept: more than any text that is looked for.
const KEPT: usize = 24;

/// Reads the beginning of an object, in pieces, ahead of the rewriter.
#[derive(Debug, Default)]
pub(super) struct Probe {
    place: ProbeState,
    decoder: Decoder,
    context: ValueContext,
}

/// The part of the object that the next byte belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ProbeState {
    /// None: the probe is done.
    #[default]
    Done,
    /// The white space before this byte.
    Before(u8),
    /// The first key.
    Key,
    /// The value under the first key.
    Value,
}

impl Probe {
    /// Whether more of the object has to be read.
    pub(super) fn is_open(&self) -> bool {
        self.place != ProbeState::Done
    }

    /// Begins an object, after its brace. Returns its frame, if that is clear already.
    #[inline]
    pub(super) fn begin(&mut self, input: &[u8]) -> Option<Frame> {
        if cannot_begin(input) {
            return None;
        }
        self.begin_slowly(input)
    }

    #[inline(never)]
    fn begin_slowly(&mut self, input: &[u8]) -> Option<Frame> {
        self.place = ProbeState::Before(b'"');
        self.decoder.clear();
        self.context = ValueContext::default();
        self.read(input)
    }

    /// Takes the next bytes.
    #[inline(never)]
    pub(super) fn read(&mut self, input: &[u8]) -> Option<Frame> {
        let mut rest = input;
        while !rest.is_empty() {
            match self.place {
                ProbeState::Done => return None,
                ProbeState::Before(wanted) => {
                    rest = rest.trim_ascii_start();
                    let (&byte, after) = rest.split_first()?;
                    rest = after;
                    self.place = match (byte == wanted, wanted, self.decoder.text().is_empty()) {
                        (false, _, _) => ProbeState::Done,
                        (true, b':', _) => ProbeState::Before(b'"'),
                        (true, _, true) => ProbeState::Key,
                        (true, _, false) => {
                            self.decoder.clear();
                            ProbeState::Value
                        }
                    };
                }
                ProbeState::Key => {
                    let (taken, stop) = self.decoder.read(rest, PIECE);
                    rest = rest.get(taken..).unwrap_or_default();
                    self.place = match stop {
                        Stop::Input => ProbeState::Key,
                        Stop::End if is_context(self.decoder.text()) => ProbeState::Before(b':'),
                        _ => ProbeState::Done,
                    };
                }
                ProbeState::Value => {
                    let (taken, stop) = self.decoder.read(rest, PIECE);
                    rest = rest.get(taken..).unwrap_or_default();
                    if stop == Stop::Input {
                        return None;
                    }
                    self.context.read(self.decoder.text());
                    self.decoder.clear();
                    if stop != Stop::Enough {
                        self.place = ProbeState::Done;
                        return self.context.frame().filter(|_| stop == Stop::End);
                    }
                }
            }
        }
        None
    }
}

/// Whether an object that begins like this certainly has no context. Most have none.
#[inline]
const fn cannot_begin(input: &[u8]) -> bool {
    match input {
        // Nearly every row of data.
        [b'"', next, ..] if !matches!(next, b'@' | b'o' | b'\\') => true,
        [b'"', b'@', b'o', b'd', b'a', b't', b'a', b'.', next, ..] => !matches!(next, b'c' | b'\\'),
        [b'"', b'@', next, ..] => !matches!(next, b'o' | b'c' | b'\\'),
        [b'"', ..] => false,
        [next, ..] => !matches!(next, b'"' | b' ' | b'\t' | b'\r' | b'\n'),
        [] => false,
    }
}

/// A context URL that is read in pieces.
#[derive(Debug, Default)]
pub(super) struct ValueContext {
    end: Vec<u8>,
    has_fragment: bool,
    names_metadata: bool,
    names_links: bool,
}

impl ValueContext {
    /// Takes the next bytes of the URL.
    pub(super) fn read(&mut self, text: &[u8]) {
        self.end.extend_from_slice(text);
        self.has_fragment |= memchr(b'#', &self.end).is_some();
        self.names_metadata |= memmem::find(&self.end, b"$metadata").is_some();
        self.names_links |= memmem::find(&self.end, b"/$links/").is_some();
        self.end.drain(..self.end.len().saturating_sub(KEPT));
    }

    /// The frame of the object, once the URL is complete. `None` if its keys mean nothing special.
    pub(super) fn frame(&self) -> Option<Frame> {
        let ends = |end: &[u8]| self.end.ends_with(end);
        // A context without a fragment is that of a service document. With `$links` it is OData V3.
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
