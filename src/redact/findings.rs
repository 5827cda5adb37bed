//! The places of secrets in a text.

use super::escapes::LONGEST_ESCAPE;
use super::layer::Layer;
use super::runs::end_of;
use std::ops::Range;

/// The shortest beginning of a secret, decoded, that is held back. If shorter ones were, a chunk
/// that ends with the secret's first letter would lack it until the next chunk. If it was a secret
/// after all, the rest is removed.
pub(super) const WORTH_HOLDING: usize = 4;
/// The end of a text, decoded or not, in which a beginning may stand that is too short to be held
/// back, with each letter as the longest escape.
pub(super) const FAINT: usize = LONGEST_ESCAPE * WORTH_HOLDING;

/// The places of secrets in a text.
#[derive(Default)]
pub(super) struct Findings {
    /// The places of whole secrets; once sorted, in order and without overlaps.
    pub(super) places: Vec<Range<usize>>,
    /// The starts of secrets that may continue after the end.
    pub(super) open: Vec<usize>,
    /// Where the text has to be searched again if it continues.
    pub(super) again: Option<usize>,
    /// How many encodings are around the deepest text that may continue.
    pub(super) layers: u32,
}

impl Findings {
    pub(super) const fn is_empty(&self) -> bool {
        self.places.is_empty() && self.open.is_empty() && self.again.is_none()
    }

    /// Adds the end of a text that may continue.
    pub(super) fn add_end(&mut self, layer: &Layer<'_>) {
        if !layer.text.is_empty() {
            self.search_again(layer.source_start(end_of(layer.text, FAINT)));
        }
    }

    pub(super) fn search_again(&mut self, from: usize) {
        self.again = Some(self.again.map_or(from, |again| again.min(from)));
    }

    pub(super) fn sorted(mut self) -> Self {
        self.places.sort_unstable_by_key(|place| (place.start, place.end));
        let mut apart: Vec<Range<usize>> = Vec::with_capacity(self.places.len());
        for place in self.places {
            match apart.last_mut() {
                Some(last) if place.start < last.end => last.end = last.end.max(place.end),
                _ => apart.push(place),
            }
        }
        self.places = apart;
        self
    }

    /// The first start of a secret that may continue, outside of the secrets that were found.
    pub(super) fn first_open(&self) -> Option<usize> {
        let is_free = |at: &&usize| !self.places.iter().any(|place| place.contains(at));
        self.open.iter().filter(is_free).min().copied()
    }
}
