//! Escapes: percent-encoding, HTML entities, and backslashes of JSON and programming languages.

use super::layer::{Decoded, Layer};

/// The largest number of digits in a number. Leading zeros could go on without end.
const LONGEST_NUMBER: usize = 12;
/// The length of the longest escape: `&#x000000000041;`.
pub(super) const LONGEST_ESCAPE: usize = "&#x;".len() + LONGEST_NUMBER;

/// The meaning of the text at an escape's first byte.
pub(super) enum Escape {
    /// No escape.
    Plain,
    /// An escape of this many bytes, and the byte that it stands for.
    Byte(usize, u8),
    /// An escape of this many bytes, and the character that it stands for.
    Character(usize, char),
    /// The beginning of an escape.
    Unfinished,
}

/// A text without the escapes that begin with these bytes. `None` if it has none.
pub(super) fn unescaped(
    layer: &Layer<'_>,
    marks: &[u8],
    escape: impl Fn(&[u8], bool) -> Escape,
) -> Option<Decoded> {
    let text = layer.text;
    let next = |from: usize| {
        let rest = text.get(from..)?;
        let found = match marks {
            [mark] => memchr::memchr(*mark, rest),
            _ => rest.iter().position(|byte| marks.contains(byte)),
        };
        found.map(|at| from + at)
    };
    let mut mark = next(0)?;
    let mut decoded = Decoded::of(layer);
    let (mut at, mut is_escaped) = (0, false);
    loop {
        for plain in at..mark {
            decoded.push(text.get(plain).copied().unwrap_or_default(), layer, plain..plain + 1);
        }
        at = mark;
        let rest = text.get(at..).unwrap_or_default();
        let Some(byte) = rest.first() else { break };
        let found = escape(rest, layer.is_open);
        is_escaped |= match found {
            Escape::Unfinished => layer.is_open,
            Escape::Plain => false,
            Escape::Byte(..) | Escape::Character(..) => true,
        };
        at += match found {
            Escape::Unfinished if layer.is_open => break,
            Escape::Plain | Escape::Unfinished => {
                decoded.push(*byte, layer, at..at + 1);
                1
            }
            Escape::Byte(length, byte) => {
                decoded.push(byte, layer, at..at + length);
                length
            }
            Escape::Character(length, character) => {
                for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                    decoded.push(byte, layer, at..at + length);
                }
                length
            }
        };
        mark = next(at).unwrap_or(text.len());
    }
    is_escaped.then_some(decoded)
}

/// The number after the first `start` bytes: the count of its digits, at least one and at most
/// `most`, and its value.
fn number(rest: &[u8], start: usize, radix: u32, most: usize) -> Option<(usize, u32)> {
    let digits =
        rest.get(start..)?.iter().take(most).map_while(|byte| char::from(*byte).to_digit(radix));
    let (count, value) = digits.fold((0, 0_u32), |(count, value), digit| {
        (count + 1, value.saturating_mul(radix).saturating_add(digit))
    });
    (count > 0).then_some((count, value))
}

/// An escape with exactly `count` hexadecimal digits after the first `start` bytes.
fn hexadecimal(rest: &[u8], start: usize, count: usize) -> Escape {
    let Some(digits) = rest.get(start..) else { return Escape::Unfinished };
    let is_cut = digits.len() < count && digits.iter().all(u8::is_ascii_hexdigit);
    match number(rest, start, 16, count) {
        _ if is_cut => Escape::Unfinished,
        Some((found, value)) if found == count => {
            match (u8::try_from(value), char::from_u32(value)) {
                // Four digits stand for a character, two for a byte of one.
                (Ok(byte), _) if count == 2 || byte.is_ascii() => Escape::Byte(start + count, byte),
                (_, Some(character)) => Escape::Character(start + count, character),
                _ => Escape::Plain,
            }
        }
        _ => Escape::Plain,
    }
}

/// Reads `%41`, and JavaScript's `%u0041`.
pub(super) fn percent(rest: &[u8]) -> Escape {
    match rest.get(1) {
        None => Escape::Unfinished,
        Some(b'u') => hexadecimal(rest, 2, 4),
        Some(_) => hexadecimal(rest, 1, 2),
    }
}

/// Reads `\u0041`, `\x41`, `\/`.
pub(super) fn backslash(rest: &[u8]) -> Escape {
    match rest.get(1) {
        None => Escape::Unfinished,
        Some(b'u') => hexadecimal(rest, 2, 4),
        Some(b'x') => hexadecimal(rest, 2, 2),
        Some(b'n') => Escape::Byte(2, b'\n'),
        Some(b'r') => Escape::Byte(2, b'\r'),
        Some(b't') => Escape::Byte(2, b'\t'),
        Some(other) if other.is_ascii_punctuation() => Escape::Byte(2, *other),
        Some(_) => Escape::Plain,
    }
}

/// The names of printable ASCII characters in HTML.
const NAMED: [(&[u8], u8); 43] = [
    (b"amp", b'&'),
    (b"lt", b'<'),
    (b"gt", b'>'),
    (b"quot", b'"'),
    (b"apos", b'\''),
    (b"AMP", b'&'),
    (b"LT", b'<'),
    (b"GT", b'>'),
    (b"QUOT", b'"'),
    (b"excl", b'!'),
    (b"num", b'#'),
    (b"dollar", b'$'),
    (b"percnt", b'%'),
    (b"lpar", b'('),
    (b"rpar", b')'),
    (b"ast", b'*'),
    (b"midast", b'*'),
    (b"plus", b'+'),
    (b"comma", b','),
    (b"period", b'.'),
    (b"sol", b'/'),
    (b"colon", b':'),
    (b"semi", b';'),
    (b"equals", b'='),
    (b"quest", b'?'),
    (b"commat", b'@'),
    (b"lsqb", b'['),
    (b"lbrack", b'['),
    (b"bsol", b'\\'),
    (b"rsqb", b']'),
    (b"rbrack", b']'),
    (b"Hat", b'^'),
    (b"lowbar", b'_'),
    (b"UnderBar", b'_'),
    (b"grave", b'`'),
    (b"lcub", b'{'),
    (b"lbrace", b'{'),
    (b"verbar", b'|'),
    (b"vert", b'|'),
    (b"VerticalLine", b'|'),
    (b"rcub", b'}'),
    (b"rbrace", b'}'),
    (b"nbsp", b' '),
];

/// Reads `&#65;`, `&#x41;`, `&amp;`. Browsers accept numbers without the `;`.
pub(super) fn entity(rest: &[u8], may_go_on: bool) -> Escape {
    let word =
        rest.iter().skip(1).take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'#');
    let length = word.count() + 1;
    if may_go_on && length == rest.len() && length < LONGEST_ESCAPE {
        return Escape::Unfinished;
    }
    let (start, radix) = match rest {
        [b'&', b'#', b'x' | b'X', ..] => (3, 16),
        [b'&', b'#', ..] => (2, 10),
        _ => {
            let name = rest.get(1..length).unwrap_or_default();
            let named = NAMED.iter().find(|(known, _)| *known == name);
            return match (named, rest.get(length)) {
                (Some((_, byte)), Some(b';')) => Escape::Byte(length + 1, *byte),
                _ => Escape::Plain,
            };
        }
    };
    let Some((count, value)) = number(rest, start, radix, LONGEST_NUMBER) else {
        return Escape::Plain;
    };
    let end = start + count;
    let length = if rest.get(end) == Some(&b';') { end + 1 } else { end };
    char::from_u32(value).map_or(Escape::Plain, |character| Escape::Character(length, character))
}
