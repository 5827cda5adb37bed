//! Finds the few bytes the rewriter acts on, a block of 64 at a time.
//!
//! A block becomes bit masks, one bit for each byte (the method of simdjson). Numbers, commas,
//! whitespace and the contents of most strings cost no more than that.

use wide::u8x16;

/// How many bytes are read at once: one for each bit of a mask.
const BLOCK: usize = 64;

/// The bytes that are `value` once the bits in `ignored` are set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Class {
    ignored: u8,
    value: u8,
}

impl Class {
    const QUOTE: Self = Self::only(b'"');
    const BACKSLASH: Self = Self::only(b'\\');
    const SLASH: Self = Self::only(b'/');
    /// All brackets and the backslash. The others of this class (`x`, `y`, `z`, `|`, `_`, ...) do
    /// not occur outside strings.
    const MARK: Self = Self { ignored: 0x27, value: 0x7F };

    const fn only(byte: u8) -> Self {
        Self { ignored: 0, value: byte }
    }

    /// The bytes of a block that are of this class, as bits.
    #[inline(always)]
    fn mask(self, block: &[u8; BLOCK]) -> u64 {
        let (ignored, value) = (u8x16::splat(self.ignored), u8x16::splat(self.value));
        block.as_chunks().0.iter().rev().fold(0, |mask, bytes| {
            let hits = (u8x16::new(*bytes) | ignored).simd_eq(value);
            mask << 16 | u64::from(hits.to_bitmask())
        })
    }

    /// A class that holds all these bytes: `h` and `H` alone, or more bytes than given.
    pub(super) fn covering(bytes: impl Iterator<Item = u8>) -> Self {
        let (common, any) =
            bytes.fold((0xFF, 0), |(common, any), byte| (common & byte, any | byte));
        Self { ignored: any & !common, value: any }
    }
}

/// The places in a block that the rewriter looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Events {
    /// Brackets and backslashes outside strings, and a few bytes that are malformed there.
    pub(super) marks: u64,
    /// The first bytes of the strings that can be links. The last may lie after the end of the
    /// input.
    pub(super) starts: u64,
}

/// The state of strings that one block passes to the next.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Strings {
    /// All ones within a string, or zero.
    inside: u64,
    /// One if the next byte follows a backslash that escapes it.
    escaped: u64,
    /// One if the last byte was the quote that opens a string.
    opened: u64,
}

impl Strings {
    /// The state at an unescaped byte, within a string or outside.
    pub(super) const fn at(is_inside: bool) -> Self {
        Self { inside: if is_inside { u64::MAX } else { 0 }, escaped: 0, opened: 0 }
    }

    pub(super) const fn is_inside(self) -> bool {
        self.inside != 0
    }

    pub(super) const fn is_escaped(self) -> bool {
        self.escaped != 0
    }

    /// Reads the first block of `input`, up to 64 bytes. `starts` holds the first bytes of links,
    /// apart from a slash or an escape.
    #[inline(always)]
    pub(super) fn read(&mut self, input: &[u8], starts: Class) -> (usize, Events) {
        match input.first_chunk::<BLOCK>() {
            Some(block) => (BLOCK, self.events(block, BLOCK, starts)),
            None => {
                let mut padded = [0; BLOCK];
                padded.iter_mut().zip(input).for_each(|(slot, byte)| *slot = *byte);
                (input.len(), self.events(&padded, input.len(), starts))
            }
        }
    }

    #[inline(always)]
    fn events(&mut self, block: &[u8; BLOCK], length: usize, starts: Class) -> Events {
        let backslashes = Class::BACKSLASH.mask(block);
        let escaped = escaped(backslashes, self.escaped);
        let quotes = Class::QUOTE.mask(block) & !escaped;
        // From each opening quote to the byte before the closing one.
        let inside = prefix_xor(quotes) ^ self.inside;
        let opening = quotes & inside;
        let first = opening << 1 | self.opened;
        let can_start = starts.mask(block) | Class::SLASH.mask(block) | backslashes;
        let events = Events { marks: Class::MARK.mask(block) & !inside, starts: first & can_start };
        let last = BLOCK - length;
        self.inside = 0_u64.wrapping_sub(inside >> 63);
        self.escaped = (backslashes & !escaped) << last >> 63;
        self.opened = opening << last >> 63;
        events
    }
}

/// The bytes that follow a backslash which is not itself escaped; `first` is the bit before.
///
/// In a run of backslashes every other one escapes. The subtraction carries through each run: the
/// bit after the run then shows whether its length is odd, wherever it began.
#[inline(always)]
const fn escaped(backslashes: u64, first: u64) -> u64 {
    const ODD: u64 = 0xAAAA_AAAA_AAAA_AAAA;
    let runs = backslashes & !first;
    let alternating = (runs << 1 | ODD).wrapping_sub(runs) ^ ODD;
    alternating ^ (backslashes | first)
}

/// Each bit becomes the parity of the bits up to it.
#[inline(always)]
fn prefix_xor(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}

#[cfg(test)]
mod tests;
