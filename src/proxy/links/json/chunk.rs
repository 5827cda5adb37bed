//! One chunk of a document, in which the key of a value is looked up backwards.
//!
//! Most keys never matter, so none is read on the way. A look back only passes whitespace, a colon
//! and one key, so that no byte is passed more than a few times.

use memchr::memrchr;

use super::keys::Role;

/// The input of one call. Bytes before `copied` are in the output or held back, bytes before `at`
/// are read.
pub(super) struct Chunk<'a> {
    pub(super) input: &'a [u8],
    pub(super) at: usize,
    pub(super) copied: usize,
    /// The place where scanning began: no byte before it is looked back at.
    pub(super) floor: usize,
}

/// The last token before a place outside of strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// A string, with its role as a key.
    String(Role),
    /// A colon, with the role of the key before it.
    Colon(Role),
    Other,
}

impl<'a> Chunk<'a> {
    pub(super) const fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0, copied: 0, floor: 0 }
    }

    /// The bytes that are not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.input.get(self.at..).unwrap_or_default()
    }

    /// Writes the bytes before `end` that are not written yet.
    pub(super) fn copy(&mut self, end: usize, output: &mut Vec<u8>) {
        output.extend_from_slice(self.input.get(self.copied..end).unwrap_or_default());
        self.copied = self.copied.max(end);
    }

    /// The last byte before `end` that is not whitespace, and its place.
    pub(super) fn last(&self, end: usize) -> Option<(usize, u8)> {
        let span = self.input.get(self.floor..end)?;
        let is_space = |byte: u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        let at = span.iter().rposition(|&byte| !is_space(byte))?;
        Some((self.floor + at, *span.get(at)?))
    }

    /// The opening quote of the string whose bytes come before `end`. `None` if it is before
    /// `floor`.
    pub(super) fn opening(&self, end: usize) -> Option<usize> {
        let mut span = self.input.get(self.floor..end)?;
        loop {
            let at = memrchr(b'"', span)?;
            span = span.get(..at)?;
            // All other quotes in the string are escaped, and an opening quote is not.
            if span.last() != Some(&b'\\') {
                return Some(self.floor + at);
            }
        }
    }
}
