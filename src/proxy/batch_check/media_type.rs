//! The media type of a batch, read strictly. Pure.

use super::refusal::{BatchRefusal, unreadable};
use memchr::memmem;

/// Character sets in which the bytes of ASCII mean the same as in ASCII.
const ASCII_COMPATIBLE: [&str; 5] = ["utf-8", "utf8", "us-ascii", "ascii", "latin1"];

/// A media type with its parameters.
#[derive(Debug)]
pub(super) struct MediaType {
    /// Type and subtype, in lower case.
    pub(super) essence: String,
    /// Names, in lower case, and values.
    parameters: Vec<(String, String)>,
}

impl MediaType {
    /// Parses a type that every server reads in the same way: without escapes in quotes, without
    /// comments, and with one boundary only, wherever a server looks for it.
    pub(super) fn parse(text: &str) -> Result<Self, BatchRefusal> {
        if boundaries(text) > 1 {
            return unreadable("has a type with two boundaries");
        }
        let mut rest = text;
        let essence = rest.split(';').next().unwrap_or_default();
        rest = rest.get(essence.len()..).unwrap_or_default();
        let mut parameters = Vec::new();
        while let Some(parameter) = rest.strip_prefix(';') {
            let Some((name, value)) = parameter.split_once('=') else {
                if parameter.trim().is_empty() {
                    break;
                }
                return unreadable("has a type that is not a media type");
            };
            let name = name.trim().to_ascii_lowercase();
            let (value, behind) = match value.strip_prefix('"') {
                Some(quoted) => quoted
                    .split_once('"')
                    .map_or(("\\", ""), |(value, behind)| (value, behind.trim_start())),
                None => {
                    let end = value.find(';').unwrap_or(value.len());
                    let (value, behind) = value.split_at(end);
                    let value = value.trim_end();
                    let is_token = |byte: u8| {
                        byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
                    };
                    (if value.bytes().all(is_token) { value } else { "\\" }, behind)
                }
            };
            let is_plain =
                !value.contains(['"', '\\', '\r', '\n']) && !name.contains(['"', ' ', ';', '*']);
            if !is_plain || !behind.is_empty() && !behind.starts_with(';') {
                return unreadable("has a type that is not a media type");
            }
            parameters.push((name, value.to_owned()));
            rest = behind;
        }
        Ok(Self { essence: essence.trim().to_ascii_lowercase(), parameters })
    }

    /// Checks that the character set is UTF-8 or a subset of it.
    pub(super) fn check_charset(&self) -> Result<(), BatchRefusal> {
        let is_known = |charset: &str| {
            ["utf-8", "utf8", "us-ascii"].iter().any(|known| charset.eq_ignore_ascii_case(known))
        };
        match self.parameter("charset")? {
            Some(charset) if !is_known(charset) => {
                unreadable(format!("is in the character set `{charset}`, not UTF-8"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn parameter(&self, name: &str) -> Result<Option<&str>, BatchRefusal> {
        let mut values = self.parameters.iter().filter(|(given, _)| given == name);
        match (values.next(), values.next()) {
            (_, Some(_)) => unreadable(format!("has a type with two values of `{name}`")),
            (found, None) => Ok(found.map(|(_, value)| value.as_str())),
        }
    }
}

/// How many boundaries a server finds that only looks for `boundary=` in the text.
fn boundaries(text: &str) -> usize {
    let text = text.to_ascii_lowercase();
    text.split("boundary")
        .skip(1)
        .filter(|behind| behind.trim_start().starts_with(['=', '*']))
        .count()
}

/// Whether the bytes of ASCII mean the same in every character set that this type names, wherever
/// in it a server finds one. Only then are the lines of a text what they seem.
pub(super) fn is_ascii_compatible(content_type: &[u8]) -> bool {
    let text = content_type.to_ascii_lowercase();
    // Java reads `charſet` as `charset`, and trims control characters.
    let is_plain = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~');
    text.iter().all(is_plain)
        && memmem::find_iter(&text, b"charset").all(|at| {
            let value = text.get(at + b"charset".len()..).unwrap_or_default().trim_ascii_start();
            let Some(value) = value.strip_prefix(b"=") else { return false };
            let value = value.trim_ascii_start();
            let value = value.strip_prefix(b"\"").unwrap_or(value);
            let end =
                value.iter().position(|byte| b" \t\";,".contains(byte)).unwrap_or(value.len());
            is_known(value.get(..end).unwrap_or_default())
        })
}

/// Whether the bytes of ASCII mean the same in this character set.
fn is_known(charset: &[u8]) -> bool {
    let is_numbered = |family: &&str| {
        charset.strip_prefix(family.as_bytes()).is_some_and(|number| {
            matches!(number.len(), 1 | 2) && number.iter().all(u8::is_ascii_digit)
        })
    };
    ASCII_COMPATIBLE.iter().any(|known| charset == known.as_bytes())
        || ["iso-8859-", "windows-125"].iter().any(is_numbered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_what_they_seem_in_some_character_sets_only() {
        for known in [
            "text/plain",
            "text/plain; charset=UTF-8",
            "text/plain; charset = \"utf-8\"; x=y",
            "text/plain;charset=ISO-8859-15",
            "text/plain;charset=windows-1252",
        ] {
            assert!(is_ascii_compatible(known.as_bytes()), "{known}");
        }
        for other in [
            "text/plain; charset=ISO-2022-JP",
            "text/plain; charset=utf-16",
            "text/plain; charset=utf-7",
            "text/plain; charset=utf-8; Charset=Cp037",
            "text/plain; charset*=utf-8''x",
            "text/plain; charset=",
            "text/plain; charset=utf-8-x",
            "text/plain; x=charset",
            "text/plain; char\u{17f}et=ISO-2022-JP",
            "text/plain;\u{b}charset=utf-8",
            "text/plain; charset\u{1b}(B=utf-8",
            "text/plain; charset=windows-125",
            "text/plain; charset=iso-8859-",
        ] {
            assert!(!is_ascii_compatible(other.as_bytes()), "{other}");
        }
    }
}
