//! The escapes of JSON strings (RFC 8259 section 7).

use memchr::memchr2;

/// Decodes a string as far as it is asked for, and goes on where it stopped.
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
    /// There are as many decoded bytes as asked for.
    Enough,
    /// The string has ended; its quote is taken.
    End,
    /// The next byte cannot follow.
    Malformed,
}

impl Decoder {
    /// Begins a string.
    pub(super) fn clear(&mut self) {
        self.escape = Escape::None;
        self.text.clear();
    }

    /// What is decoded. Characters that are not ASCII may be others of the same length.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Decodes `input` up to so many bytes in all, or two more. Tells how much of it is taken.
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
                Step::Malformed => break Stop::Malformed,
                Step::End => {
                    rest = after;
                    break Stop::End;
                }
                Step::Decoded { byte, width } => {
                    self.text.resize(self.text.len() + width, byte);
                }
                Step::More => {}
            }
            rest = after;
        };
        (input.len() - rest.len(), stop)
    }

    /// How many bytes of this string make up so many decoded ones.
    pub(super) fn written_length(&mut self, input: &[u8], decoded: usize) -> usize {
        self.clear();
        self.read(input, decoded).0
    }
}

/// Where the decoding of a JSON string stands.
#[derive(Clone, Copy, Debug, Default)]
enum Escape {
    #[default]
    None,
    Backslash,
    /// After `\u` and so many of its four digits.
    Unicode {
        digits: u8,
        unit: u16,
    },
}

/// What one more byte of a JSON string brings.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Nothing yet.
    More,
    /// A character, as `width` times `byte`.
    Decoded { byte: u8, width: usize },
    /// The quote that ends the string.
    End,
    /// This byte cannot follow; it is not taken.
    Malformed,
}

impl Escape {
    fn step(&mut self, byte: u8) -> Step {
        let one = |byte| Step::Decoded { byte, width: 1 };
        let (next, step) = match (*self, byte) {
            (Self::None, b'"') => (Self::None, Step::End),
            (Self::None, b'\\') => (Self::Backslash, Step::More),
            (Self::None, _) => (Self::None, one(byte)),
            (Self::Backslash, b'u') => (Self::Unicode { digits: 0, unit: 0 }, Step::More),
            (Self::Backslash, b'"' | b'\\' | b'/') => (Self::None, one(byte)),
            (Self::Backslash, b'b' | b'f' | b'n' | b'r' | b't') => (Self::None, one(b'\n')),
            (Self::Backslash, _) => (Self::None, Step::Malformed),
            (Self::Unicode { digits, unit }, _) => match char::from(byte).to_digit(16) {
                None => (Self::None, Step::Malformed),
                Some(digit) => {
                    let unit = unit << 4 | digit as u16;
                    if digits < 3 {
                        (Self::Unicode { digits: digits + 1, unit }, Step::More)
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

/// A UTF-16 code unit. All that is looked for is ASCII, so that of others only the length counts.
fn decoded_unit(unit: u16) -> Step {
    match unit {
        0..0x80 => Step::Decoded { byte: unit.to_le_bytes()[0], width: 1 },
        // A surrogate is one half of a character of four bytes.
        0x80..0x800 | 0xD800..0xE000 => Step::Decoded { byte: 0xFF, width: 2 },
        _ => Step::Decoded { byte: 0xFF, width: 3 },
    }
}

/// Writes a text as a part of a JSON string.
pub(super) fn write_escaped(text: &str, output: &mut Vec<u8>) {
    let is_special = |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\');
    // Without a way out of the loop, many bytes are compared at once.
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
