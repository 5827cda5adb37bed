//! The escapes of JSON strings (RFC 8259 section 7).

use memchr::memchr2;

/// Decodes a string in steps.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    escape: Escape,
    text: Vec<u8>,
}

/// Why a decoder has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The input has ended.
    Input,
    /// As many bytes were decoded as were asked for.
    Enough,
    /// The string has ended. Its quote was taken.
    End,
    /// The next byte is not allowed there.
    Malformed,
}

impl Decoder {
    /// Begins a string.
    pub(super) fn clear(&mut self) {
        self.escape = Escape::None;
        self.text.clear();
    }

    /// The decoded text. Characters beyond ASCII may be replaced by others of the same length.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Decodes `input` up to `enough` bytes in total, or two more. Returns how many bytes were
    /// taken.
    pub(super) fn read(&mut self, input: &[u8], enough: usize) -> (usize, Stop) {
        let mut rest = input;
        let stop = loop {
            let wanted = enough.saturating_sub(self.text.len());
            if wanted == 0 {
                break Stop::Enough;
            }
            if matches!(self.escape, Escape::None) {
                let window = rest.get(..wanted).unwrap_or(rest);
                let plain = memchr2(b'"', b'\\', window).unwrap_or(window.len());
                let (run, after) = rest.split_at_checked(plain).unwrap_or_default();
                self.text.extend_from_slice(run);
                rest = after;
                if plain == wanted {
                    continue;
                }
            }
            let Some((&byte, after)) = rest.split_first() else {
                break Stop::Input;
            };
            match self.escape.step(byte) {
                EscapeStep::Malformed => break Stop::Malformed,
                EscapeStep::End => {
                    rest = after;
                    break Stop::End;
                }
                EscapeStep::Decoded { byte, width } => {
                    self.text.resize(self.text.len() + width, byte);
                }
                EscapeStep::More => {}
            }
            rest = after;
        };
        (input.len() - rest.len(), stop)
    }

    /// How many bytes of this string stand for this many decoded ones.
    pub(super) fn written_length(&mut self, input: &[u8], decoded: usize) -> usize {
        self.clear();
        self.read(input, decoded).0
    }
}

/// The state within an escape of a JSON string.
#[derive(Clone, Copy, Debug, Default)]
enum Escape {
    #[default]
    None,
    Backslash,
    /// After `\u` and this many of its four digits.
    Unicode {
        digits: u8,
        unit: u16,
    },
}

/// The meaning of one more byte of a JSON string.
#[derive(Clone, Copy, Debug)]
enum EscapeStep {
    /// No character yet.
    More,
    /// A character, as `width` times `byte`.
    Decoded { byte: u8, width: usize },
    /// The quote that ends the string.
    End,
    /// A byte that is not allowed there, and was not taken.
    Malformed,
}

impl Escape {
    fn step(&mut self, byte: u8) -> EscapeStep {
        let one = |byte| EscapeStep::Decoded { byte, width: 1 };
        let (next, step) = match (*self, byte) {
            (Self::None, b'"') => (Self::None, EscapeStep::End),
            (Self::None, b'\\') => (Self::Backslash, EscapeStep::More),
            (Self::None, _) => (Self::None, one(byte)),
            (Self::Backslash, b'u') => (Self::Unicode { digits: 0, unit: 0 }, EscapeStep::More),
            (Self::Backslash, b'"' | b'\\' | b'/') => (Self::None, one(byte)),
            (Self::Backslash, b'b' | b'f' | b'n' | b'r' | b't') => (Self::None, one(b'\n')),
            (Self::Backslash, _) => (Self::None, EscapeStep::Malformed),
            (Self::Unicode { digits, unit }, _) => match char::from(byte).to_digit(16) {
                None => (Self::None, EscapeStep::Malformed),
                Some(digit) => {
                    let unit = unit << 4 | digit as u16;
                    if digits < 3 {
                        (Self::Unicode { digits: digits + 1, unit }, EscapeStep::More)
                    } else {
                        (Self::None, decoded_unit(unit))
                    }
                }
            },
        };
        *self = next;
        step
    }
}

/// The step for a UTF-16 code unit. Only ASCII is compared, so that of other characters only the
/// length matters.
fn decoded_unit(unit: u16) -> EscapeStep {
    match unit {
        0..0x80 => EscapeStep::Decoded { byte: unit.to_le_bytes()[0], width: 1 },
        // A surrogate is one half of a character of four bytes.
        0x80..0x800 | 0xD800..0xE000 => EscapeStep::Decoded { byte: 0xFF, width: 2 },
        _ => EscapeStep::Decoded { byte: 0xFF, width: 3 },
    }
}

/// Writes a text as part of a JSON string.
pub(super) fn write_escaped(text: &str, output: &mut Vec<u8>) {
    let is_special = |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\');
    // Without an exit from the loop, the compiler compares many bytes at once.
    if !text.bytes().fold(false, |any, byte| any | is_special(byte)) {
        return output.extend_from_slice(text.as_bytes());
    }
    for byte in text.bytes() {
        if is_special(byte) {
            output.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
        } else {
            output.push(byte);
        }
    }
}
