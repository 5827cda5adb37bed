//! The escapes of JSON strings (RFC 8259 section 7), byte by byte.

/// Where the decoding of a JSON string stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Escape {
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
pub(super) enum Step {
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
    pub(super) fn step(&mut self, byte: u8) -> Step {
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

/// How many of these bytes of a string make up so many decoded ones.
pub(super) fn written_length(written: &[u8], decoded: usize) -> usize {
    let (mut escape, mut count) = (Escape::None, 0);
    let is_enough = |&byte: &u8| {
        let before = count;
        if let Step::Decoded { width, .. } = escape.step(byte) {
            count += width;
        }
        before == decoded
    };
    written.iter().position(is_enough).unwrap_or(written.len())
}

/// Writes a text as a part of a JSON string.
pub(super) fn write_escaped(text: &str, output: &mut Vec<u8>) {
    let is_special = |&byte: &u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    if !text.as_bytes().iter().any(is_special) {
        return output.extend_from_slice(text.as_bytes());
    }
    for byte in text.bytes() {
        if is_special(&byte) {
            output.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
        } else {
            output.push(byte);
        }
    }
}
