//! The boundaries of the multiparts that are open. Pure.

use super::super::media_type::MediaType;
use super::super::refusal::{BatchRefusal, unreadable};
use super::head::AnnouncedLength;
use memchr::memmem;

/// The longest boundary (RFC 2046 section 5.1.1).
const LONGEST_BOUNDARY: usize = 70;
/// The deepest nesting: a batch holds change sets, which hold no change sets.
const DEEPEST: usize = 2;

/// The multiparts that are open, the outermost first.
#[derive(Debug, Default)]
pub(super) struct Boundaries(Vec<OpenMultipart>);

/// A multipart that is open.
#[derive(Debug)]
pub(super) struct OpenMultipart {
    /// `--boundary`
    pub(super) delimiter: Vec<u8>,
    /// The length that its header announces.
    pub(super) length: AnnouncedLength,
}

impl Boundaries {
    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn get(&self, index: usize) -> Option<&OpenMultipart> {
        self.0.get(index)
    }

    /// Closes the innermost multipart.
    pub(super) fn pop(&mut self) -> Option<OpenMultipart> {
        self.0.pop()
    }

    /// The length of the longest delimiter.
    pub(super) fn longest(&self) -> usize {
        self.0.iter().map(|open| open.delimiter.len()).max().unwrap_or_default()
    }

    /// The place of the first boundary in `held`, and the index of its multipart.
    pub(super) fn find(&self, held: &[u8], from: usize) -> Option<(usize, usize)> {
        let rest = held.get(from..)?;
        let found = self.0.iter().enumerate().filter_map(|(index, multipart)| {
            Some((from + memmem::find(rest, &multipart.delimiter)?, index))
        });
        found.min()
    }

    /// Opens a multipart.
    pub(super) fn enter(
        &mut self,
        media: &MediaType,
        length: AnnouncedLength,
    ) -> Result<(), BatchRefusal> {
        if self.0.len() == DEEPEST {
            return unreadable("is a change set within a change set");
        }
        let boundary = media.parameter("boundary")?.unwrap_or_default();
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&byte);
        if boundary.is_empty()
            || boundary.len() > LONGEST_BOUNDARY
            || !boundary.bytes().all(is_allowed)
        {
            return unreadable("has no boundary that RFC 2046 allows");
        }
        let delimiter = format!("--{boundary}").into_bytes();
        let is_within = |text: &[u8], other: &[u8]| memmem::find(text, other).is_some();
        if self.0.iter().any(|open| {
            is_within(&open.delimiter, &delimiter) || is_within(&delimiter, &open.delimiter)
        }) {
            return unreadable("has a boundary that begins like the one around it");
        }
        self.0.push(OpenMultipart { delimiter, length });
        Ok(())
    }
}
