//! A text and its decoded forms, with their places in the original text.

use std::ops::Range;

/// A decoded text.
pub(super) struct Decoded {
    pub(super) text: Vec<u8>,
    /// The source of each byte, if positions are tracked.
    places: Option<Vec<Source>>,
    is_open: bool,
}

/// The bytes of the original text that a decoded byte comes from.
#[derive(Clone, Copy)]
pub(super) struct Source {
    start: u32,
    end: u32,
    /// The start of what is needed to decode the byte again: in base64 this is not the byte's own
    /// first digit.
    from: u32,
}

impl Decoded {
    pub(super) fn layer(&self) -> Layer<'_> {
        let origin = self.places.as_deref().map_or(Origin::Unknown, Origin::Mapped);
        Layer { text: &self.text, origin, is_open: self.is_open }
    }

    /// An empty text, to be decoded from this layer.
    pub(super) fn of(layer: &Layer<'_>) -> Self {
        let length = layer.text.len();
        let is_tracked = !matches!(layer.origin, Origin::Unknown);
        let places = is_tracked.then(|| Vec::with_capacity(length));
        Self { text: Vec::with_capacity(length), places, is_open: layer.is_open }
    }

    /// Appends a byte that was decoded from this place of the layer.
    pub(super) fn push(&mut self, byte: u8, layer: &Layer<'_>, place: Range<usize>) {
        let from = place.start;
        self.push_from(byte, layer, place, from);
    }

    /// Appends a byte, with the start of what is needed to decode it again.
    pub(super) fn push_from(
        &mut self,
        byte: u8,
        layer: &Layer<'_>,
        place: Range<usize>,
        from: usize,
    ) {
        self.text.push(byte);
        if let Some(places) = &mut self.places {
            // No text is longer than a chunk.
            let bound = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
            let (place, from) = (layer.place(place), bound(layer.source_start(from)));
            places.push(Source { start: bound(place.start), end: bound(place.end), from });
        }
    }
}

/// A text at one level of decoding, and its place in the original text.
#[derive(Clone, Copy)]
pub(super) struct Layer<'a> {
    pub(super) text: &'a [u8],
    pub(super) origin: Origin<'a>,
    /// Whether the text may continue after its end.
    pub(super) is_open: bool,
}

/// The place of a layer in the original text.
#[derive(Clone, Copy)]
pub(super) enum Origin<'a> {
    /// Positions are not tracked: only whether there is a secret is asked.
    Unknown,
    /// The original text itself, from this byte on.
    Original(usize),
    /// A decoded text, with the source of each byte.
    Mapped(&'a [Source]),
}

impl<'a> Layer<'a> {
    /// A part of the original text, from `start` on.
    pub(super) const fn original(text: &'a [u8], start: usize, is_open: bool) -> Self {
        Self { text, origin: Origin::Original(start), is_open }
    }

    /// A text whose positions are not tracked.
    pub(super) const fn untracked(text: &'a [u8], is_open: bool) -> Self {
        Self { text, origin: Origin::Unknown, is_open }
    }

    /// A part of this text.
    pub(super) fn part(&self, part: Range<usize>, is_open: bool) -> Self {
        let origin = match self.origin {
            Origin::Unknown => Origin::Unknown,
            Origin::Original(start) => Origin::Original(start + part.start),
            Origin::Mapped(places) => Origin::Mapped(places.get(part.clone()).unwrap_or_default()),
        };
        Self { text: self.text.get(part).unwrap_or_default(), origin, is_open }
    }

    /// The place of a part of this text in the original text.
    pub(super) fn place(&self, part: Range<usize>) -> Range<usize> {
        match self.origin {
            Origin::Unknown => 0..0,
            Origin::Original(start) => start + part.start..start + part.end,
            Origin::Mapped(places) => {
                let places = places.get(part).unwrap_or_default();
                let start = places.first().map_or(0, |place| place.start as usize);
                start..places.last().map_or(start, |place| place.end as usize)
            }
        }
    }

    /// The start of what is needed of the original text to find this text from `at` on again.
    pub(super) fn source_start(&self, at: usize) -> usize {
        match self.origin {
            Origin::Unknown => 0,
            Origin::Original(start) => start + at,
            Origin::Mapped(places) => places.get(at).map_or(0, |place| place.from as usize),
        }
    }
}
