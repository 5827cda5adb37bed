//! How servers read characters beyond ASCII: `ſ` is `s` to a server that ignores case, and `／` is
//! `/` to one that normalises. Pure.

use icu_normalizer::DecomposingNormalizerBorrowed;
use std::borrow::Cow;

/// A text with ASCII for every character that a server may read as ASCII. A text in ASCII is not
/// copied.
///
/// It covers compatibility forms (NFKC, NFKD), pairs of upper and lower case, accents that are
/// dropped, overlong UTF-8, bytes and characters that are ignored, and the signs for `/` and `\` of
/// Windows and of Japanese and Korean character sets. It does not cover letters that only look
/// alike, for example the Cyrillic `с`, or the rest of a character whose upper byte is cut off.
pub(super) fn folded(text: &[u8]) -> Cow<'_, [u8]> {
    if text.is_ascii() {
        return text.into();
    }
    let text = shortened(text);
    let text = String::from_utf8_lossy(&text);
    let mut folded = String::with_capacity(text.len());
    for one in DecomposingNormalizerBorrowed::new_nfkd().normalize(&text).chars() {
        match one {
            '\0'..='\x7f' => folded.push(one),
            '\u{2044}' | '\u{2215}' | '\u{29f8}' => folded.push('/'),
            '\u{a5}' | '\u{20a9}' | '\u{2216}' | '\u{29f5}' => folded.push('\\'),
            '\u{3002}' => folded.push('.'),
            '\u{1e9e}' => folded.push_str("SS"),
            one if is_ignored(one) => {}
            one if one.is_whitespace() => folded.push(' '),
            one if one.to_uppercase().all(|capital| capital.is_ascii()) => {
                folded.extend(one.to_uppercase());
            }
            one => folded.push(one),
        }
    }
    folded.into_bytes().into()
}

/// Accents, control characters, the replacement for bytes that are not UTF-8, and what Unicode
/// calls ignorable by default (Unicode Standard, section 5.21).
fn is_ignored(one: char) -> bool {
    one.is_control()
        || matches!(one,
            '\u{ad}'
            | '\u{300}'..='\u{36f}'
            | '\u{61c}'
            | '\u{115f}' | '\u{1160}'
            | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{1ab0}'..='\u{1aff}'
            | '\u{1dc0}'..='\u{1dff}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{20d0}'..='\u{20ff}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{fe20}'..='\u{fe2f}'
            | '\u{feff}'
            | '\u{fff0}'..='\u{fffd}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// A text with ASCII for overlong UTF-8. Decoders that only look at the first byte also read
/// `%c1%1c` as `\`.
fn shortened(text: &[u8]) -> Cow<'_, [u8]> {
    let low = |byte: u8| byte & 0x3f;
    let ascii = |rest: &[u8]| match rest {
        [lead @ (0xc0 | 0xc1), last, ..] => Some(((lead & 1) << 6 | low(*last), 2)),
        [0xe0, high @ (0x80 | 0x81), last, ..]
        | [0xf0, 0x80, high @ (0x80 | 0x81), last, ..]
        | [0xf8, 0x80, 0x80, high @ (0x80 | 0x81), last, ..]
        | [0xfc, 0x80, 0x80, 0x80, high @ (0x80 | 0x81), last, ..] => {
            let length = match rest.first() {
                Some(0xe0) => 3,
                Some(0xf0) => 4,
                Some(0xf8) => 5,
                _ => 6,
            };
            Some(((high & 1) << 6 | low(*last), length))
        }
        _ => None,
    };
    let mut short = Vec::new();
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        let (byte, length) = ascii(rest).unwrap_or((*first, 1));
        short.push(byte);
        rest = rest.get(length..).unwrap_or(behind);
    }
    short.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_may_take_for_ascii_is_ascii() {
        for (text, wanted) in [
            ("plain", "plain"),
            ("con\u{17f}umption", "consumption"),
            ("\u{212a}ey", "Key"),
            ("\u{ff43}\u{ff4f}\u{ff4e}", "con"),
            ("\u{24d2}\u{1d428}n", "con"),
            (
                "a\u{ff0f}b\u{ff3c}c\u{ff0e}d\u{ff05}e\u{ff1b}f\u{37e}g\u{fe68}h",
                "a/b\\c.d%e;f;g\\h",
            ),
            ("a\u{2044}b\u{2215}c\u{29f8}d\u{2216}e\u{29f5}f\u{a5}g\u{ffe6}", "a/b/c/d\\e\\f\\g\\"),
            ("\u{2024}\u{2025}\u{2026}\u{3002}\u{ff61}", "........"),
            ("consumpt\u{131}on \u{130}d stra\u{df}e \u{fb06}", "consumptIon Id straSSe st"),
            ("c\u{f6}n", "con"),
            ("c\u{20e3}o\u{1ab0}n\u{fe20}\u{1e9e}", "conSS"),
            ("c\u{ad}o\u{200b}n\u{feff}\u{85}", "con"),
            ("a\u{a0}\u{3000}\u{2003}\u{2028}", "a    "),
            ("\u{441}\u{43e}n \u{5c71}", "\u{441}\u{43e}n \u{5c71}"),
        ] {
            assert_eq!(String::from_utf8_lossy(&folded(text.as_bytes())), wanted, "{text}");
        }
    }

    #[test]
    fn overlong_characters_and_bytes_that_are_none_are_read_as_lenient_decoders_do() {
        for (text, wanted) in [
            (&b"\xc0\xafx\xc0\xae\xc1\x9c"[..], &b"/x.\\"[..]),
            (b"\xc0\x2f\xc1\x1c", b"/\\"),
            (b"\xe0\x80\xaf\xe0\x81\x9c\xf0\x80\x80\xaf", b"/\\/"),
            (b"\xf8\x80\x80\x80\xaf\xfc\x80\x80\x80\x80\xae", b"/."),
            (b"a\xffb\xe4c\xc0", b"abc"),
            ("\u{800}\u{10000}".as_bytes(), "\u{800}\u{10000}".as_bytes()),
        ] {
            assert_eq!(&*folded(text), wanted, "{}", text.escape_ascii());
        }
    }
}
