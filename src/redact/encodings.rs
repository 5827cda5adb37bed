//! The encodings in which a secret is found, and how they are decoded.
//!
//! Percent-encoding (in either case, of all characters or some), forms, HTML's entities, escapes of
//! JSON and of programming languages, base64 and base64url at any alignment, hexadecimal digits,
//! and these within each other.

use super::escapes::{Escape, backslash, entity, percent, unescaped};
use super::layer::{Decoded, Layer, Origin};
use super::runs::{is_base64, runs_of};

/// How many encodings are decoded within each other. Two occur in practice: a form in base64, a
/// JSON text in JSON.
pub(super) const DEEPEST: u32 = 3;
/// The digits of base64 for as many bytes as are worth holding back.
const LEAST_OPEN: usize = 6;

/// What decoding is done for.
pub(super) struct Wanted {
    /// The length of the shortest secret.
    pub(super) least: usize,
    /// Whether a secret holds a space, which is `+` in a form.
    pub(super) has_space: bool,
}

/// The decoded form of a secret that is percent-encoded itself, as values of cookies are.
pub(super) fn percent_decoded(secret: &[u8]) -> Option<Vec<u8>> {
    let layer = Layer::original(secret, 0, false);
    unescaped(&layer, b"%", |rest, _| percent(rest)).map(|decoded| decoded.text)
}

/// Calls `see` with each decoded form of a text.
pub(super) fn decode(layer: &Layer<'_>, wanted: &Wanted, see: &mut dyn FnMut(Decoded)) {
    let escapes = [
        unescaped(layer, b"%", |rest, _| percent(rest)),
        unescaped(layer, b"&", entity),
        unescaped(layer, b"\\", |rest, _| backslash(rest)),
    ];
    escapes.into_iter().flatten().for_each(&mut *see);
    if wanted.has_space {
        let form = unescaped(layer, b"%+", |rest, _| match rest.first() {
            Some(b'+') => Escape::Byte(1, b' '),
            _ => percent(rest),
        });
        form.into_iter().for_each(&mut *see);
    }
    runs_of(layer, (4 * wanted.least).div_ceil(3), LEAST_OPEN, is_base64, &mut |run| {
        (0..4).map(|skipped| base64(&run, skipped)).for_each(&mut *see);
    });
    let is_digit = |byte: u8| byte.is_ascii_hexdigit();
    runs_of(layer, 2 * wanted.least, LEAST_OPEN, is_digit, &mut |run| {
        (0..2).map(|skipped| decoded::<4>(&run, skipped, nibble)).for_each(&mut *see);
    });
}

/// The bytes of base64 without its first digits. Responses hold long runs of base64: if positions
/// are not tracked, four digits are decoded at once.
fn base64(run: &Layer<'_>, skipped: usize) -> Decoded {
    if !matches!(run.origin, Origin::Unknown) {
        return decoded::<6>(run, skipped, sextet);
    }
    let mut text = Decoded::of(run);
    let (fours, rest) = run.text.get(skipped..).unwrap_or_default().as_chunks::<4>();
    for four in fours {
        let bits = four.iter().fold(0, |bits, digit| bits << 6 | sextet(*digit));
        let [_, bytes @ ..] = bits.to_be_bytes();
        text.text.extend_from_slice(&bytes);
    }
    let rest = decoded::<6>(&Layer::untracked(rest, run.is_open), 0, sextet);
    text.text.extend_from_slice(&rest.text);
    text
}

/// The bytes of digits with `BITS` bits each, without the first digits.
fn decoded<const BITS: u32>(run: &Layer<'_>, skipped: usize, digit: impl Fn(u8) -> u32) -> Decoded {
    let mut text = Decoded::of(run);
    let (mut bits, mut count, mut first, mut from) = (0_u32, 0, skipped, skipped);
    for (at, byte) in run.text.iter().enumerate().skip(skipped) {
        bits = bits << BITS | digit(*byte);
        count += BITS;
        if count >= 8 {
            count -= 8;
            let [.., byte] = (bits >> count).to_be_bytes();
            text.push_from(byte, run, first..at + 1, from);
            bits &= (1 << count) - 1;
            first = if count > 0 { at } else { at + 1 };
            if count == 0 {
                from = first;
            }
        }
    }
    text
}

/// The value of a digit of base64 or base64url.
fn sextet(byte: u8) -> u32 {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    #[expect(clippy::indexing_slicing, reason = "a constant out of bounds does not compile")]
    const VALUES: [u8; 256] = {
        let mut values = [0; 256];
        let mut value = 0;
        while value < 64 {
            values[DIGITS[value] as usize] = value as u8;
            value += 1;
        }
        values[b'-' as usize] = 62;
        values[b'_' as usize] = 63;
        values
    };
    VALUES.get(usize::from(byte)).copied().unwrap_or_default().into()
}

fn nibble(byte: u8) -> u32 {
    char::from(byte).to_digit(16).unwrap_or_default()
}
