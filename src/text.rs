//! Text encodings that editors, shells and servers use. Pure.

use std::borrow::Cow;

/// The reason why bytes are not text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotText {
    /// The bytes are not UTF-8, and not UTF-16 with a byte order mark.
    #[error("is not UTF-8 text; save it as UTF-8")]
    Encoding,
    /// The bytes are probably UTF-16 without a byte order mark.
    #[error(
        "holds zero bytes: it is UTF-16 without a byte order mark, or not text; save it as UTF-8"
    )]
    Zeros,
}

/// Decodes UTF-8, and UTF-16 with a byte order mark, which PowerShell's `>` writes. A byte order
/// mark is removed.
///
/// # Errors
/// The bytes are in another encoding.
pub fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, NotText> {
    let text = match bytes {
        [0xff, 0xfe, rest @ ..] => Cow::Owned(utf16(rest, u16::from_le_bytes)?),
        [0xfe, 0xff, rest @ ..] => Cow::Owned(utf16(rest, u16::from_be_bytes)?),
        [0xef, 0xbb, 0xbf, rest @ ..] => Cow::Borrowed(utf8(rest)?),
        _ => Cow::Borrowed(utf8(bytes)?),
    };
    if text.contains('\0') { Err(NotText::Zeros) } else { Ok(text) }
}

fn utf8(bytes: &[u8]) -> Result<&str, NotText> {
    std::str::from_utf8(bytes).map_err(|_| NotText::Encoding)
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, NotText> {
    let (units, []) = bytes.as_chunks() else {
        return Err(NotText::Encoding);
    };
    // Reserves room for all of it: a buffer that grows would leave a copy of a secret in memory.
    let mut text = String::with_capacity(bytes.len() * 2);
    for character in char::decode_utf16(units.iter().copied().map(unit)) {
        text.push(character.map_err(|_| NotText::Encoding)?);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text in each supported encoding.
    fn encodings(text: &str) -> [Vec<u8>; 4] {
        let utf16 = |bytes: fn(u16) -> [u8; 2]| {
            format!("\u{feff}{text}").encode_utf16().flat_map(bytes).collect::<Vec<u8>>()
        };
        [
            text.into(),
            format!("\u{feff}{text}").into(),
            utf16(u16::to_le_bytes),
            utf16(u16::to_be_bytes),
        ]
    }

    #[test]
    fn text_is_decoded_in_every_supported_encoding() {
        for text in ["", "s3cret", "gr\u{fc}n \u{20ac} \u{1f511}"] {
            for bytes in encodings(text) {
                assert_eq!(decode(&bytes).as_deref(), Ok(text), "{bytes:?}");
            }
        }
    }

    #[test]
    fn bytes_in_other_encodings_are_refused() {
        for bytes in [&b"\xfc"[..], b"\xff\xfea", b"\xff\xfe\x00\xd8"] {
            assert_eq!(decode(bytes), Err(NotText::Encoding), "{bytes:?}");
        }
        let without_mark: Vec<u8> = "s3cret".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(decode(&without_mark), Err(NotText::Zeros));
    }
}
