//! Text from others, made safe to read: it can't move a terminal's cursor, start a line, be
//! invisible, or go on without end.

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};
use std::borrow::Cow;
use std::fmt::Write;

/// The largest number of bytes of a path, or of other text from a request, that are logged.
pub(crate) const LONGEST: usize = 1024;

/// A text in which every character that could deceive a reader is written as `\u001b`. Line breaks
/// stay.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |character| character != '\n' && is_deceptive(character))
}

/// A text for one line, in which line breaks are escaped, too.
pub fn one_line(text: &str) -> Cow<'_, str> {
    escaped(text, is_deceptive)
}

/// A text in which only deceptive characters beyond ASCII are escaped, for text whose ASCII is safe
/// already.
pub(crate) fn beyond_ascii(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return text.into();
    }
    escaped(text, |character| !character.is_ascii() && is_deceptive(character))
}

/// The beginning of a text and its length, if it is longer than [`LONGEST`].
pub(crate) fn cut(text: Cow<'_, str>) -> Cow<'_, str> {
    cut_at(LONGEST, text)
}

/// The beginning of a text and its length, if it is longer than `most` bytes.
pub(crate) fn cut_at(most: usize, text: Cow<'_, str>) -> Cow<'_, str> {
    if text.len() <= most {
        return text;
    }
    let start = (0..=most).rev().find_map(|end| text.get(..end)).unwrap_or_default();
    format!("{start}... ({} bytes)", text.len()).into()
}

/// Whether a character is a control character, ends a line, changes the direction of text, or is
/// invisible.
pub(crate) fn is_deceptive(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_control();
    }
    let category = CodePointMapData::<GeneralCategory>::new().get(character);
    matches!(
        category,
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    ) || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(character)
}

fn escaped(text: &str, is_bad: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&is_bad) {
        return text.into();
    }
    let mut clean = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_bad(character) {
            // As in JSON, so that a JSON document stays valid: characters with more than four
            // digits become two UTF-16 units.
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(clean, "\\u{unit:04x}");
            }
        } else {
            clean.push(character);
        }
    }
    clean.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_moves_a_cursor_or_begins_a_line_is_written_out() {
        assert_eq!(one_line("a\u{1b}[2Jb\r\nc\u{9b}31m"), "a\\u001b[2Jb\\u000d\\u000ac\\u009b31m");
        assert_eq!(lines("a\nb\u{202e}c\0"), "a\nb\\u202ec\\u0000");
        assert!(matches!(one_line("Grüße 世界"), Cow::Borrowed(_)));
    }

    #[test]
    fn what_nobody_sees_is_written_out() {
        assert_eq!(one_line("a\u{200b}b\u{feff}c\u{e0041}"), "a\\u200bb\\ufeffc\\udb40\\udc41");
        for unseen in [
            '\u{ad}',
            '\u{34f}',
            '\u{600}',
            '\u{61c}',
            '\u{115f}',
            '\u{180e}',
            '\u{200d}',
            '\u{2028}',
            '\u{202e}',
            '\u{2060}',
            '\u{2064}',
            '\u{2069}',
            '\u{206a}',
            '\u{3164}',
            '\u{fe0f}',
            '\u{fff9}',
            '\u{110bd}',
            '\u{13430}',
            '\u{1bca0}',
            '\u{1d173}',
            '\u{e0001}',
            '\u{e007f}',
            '\u{e0100}',
        ] {
            assert!(is_deceptive(unseen), "{unseen:?}");
            assert!(
                one_line(&format!("a{unseen}")).is_ascii()
                    && beyond_ascii(&unseen.to_string()).is_ascii()
            );
        }
        for seen in ['a', ' ', '\u{a0}', 'é', '世', '\u{301}', '🔑', '\u{e000}', '\u{fffd}'] {
            assert!(!is_deceptive(seen), "{seen:?}");
        }
        assert_eq!(beyond_ascii("\u{1b}[1m\t\u{9b}"), "\u{1b}[1m\t\\u009b");
    }

    #[test]
    fn what_is_too_long_says_so() {
        let long = "ä".repeat(LONGEST);
        let cut_off = cut(long.as_str().into());
        assert!(cut_off.starts_with("ää") && cut_off.ends_with("ä... (2048 bytes)"), "{cut_off}");
        assert!(cut_off.len() < LONGEST + 20);
        assert_eq!(cut("short".into()), "short");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_of_a_json_document(text in any::<String>()) {
            let document = serde_json::to_string(&text).unwrap();
            let read: String = serde_json::from_str(&lines(&document)).unwrap();
            prop_assert_eq!(read, text);
            prop_assert!(!one_line(&document).chars().any(is_deceptive));
        }
    }
}
