//! One chunk of a document, in which the key of a value is looked up backwards.
//!
//! Most keys never matter, so none is looked at on the way. A look back passes over nothing but
//! whitespace, a colon and one key; no byte is passed over more than a few times.

use memchr::memrchr;

use super::keys::Role;

/// One call's input: up to `copied` it is in the output (or held back), up to `at` it is read.
pub(super) struct Chunk<'a> {
    pub(super) input: &'a [u8],
    pub(super) at: usize,
    pub(super) copied: usize,
    /// Where the scanning began: the earliest byte that is looked back at.
    pub(super) floor: usize,
}

/// The last thing before a place outside strings, apart from whitespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// A string, and what it says as a key.
    String(Role),
    /// A colon, and what the key before it says.
    Colon(Role),
    Other,
}

impl<'a> Chunk<'a> {
    pub(super) const fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0, copied: 0, floor: 0 }
    }

    /// What is not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.input.get(self.at..).unwrap_or_default()
    }

    /// Writes what comes before `end` and is not yet written.
    pub(super) fn copy(&mut self, end: usize, output: &mut Vec<u8>) {
        output.extend_from_slice(self.input.get(self.copied..end).unwrap_or_default());
        self.copied = self.copied.max(end);
    }

    /// The last byte before `end` that is not whitespace, and where it is.
    pub(super) fn last(&self, end: usize) -> Option<(usize, u8)> {
        let span = self.input.get(self.floor..end)?;
        let is_space = |byte: u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        let at = span.iter().rposition(|&byte| !is_space(byte))?;
        Some((self.floor + at, *span.get(at)?))
    }

    /// Where the string opens whose bytes come before `end`; nothing if that was before `floor`.
    pub(super) fn opening(&self, end: usize) -> Option<usize> {
        let mut span = self.input.get(self.floor..end)?;
        loop {
            let at = memrchr(b'"', span)?;
            span = span.get(..at)?;
            // All other quotes in the string are escaped, and no opening one is.
            if span.last() != Some(&b'\\') {
                return Some(self.floor + at);
            }
        }
    }
}
