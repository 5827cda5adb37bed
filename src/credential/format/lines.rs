//! Lines of names and values: `.env` files, Java properties, simple YAML, and what is pasted from
//! SAP's dialogs (`Client ID: …`).

use super::document::Document;

/// The longest name of a key, in bytes. A longer text before a separator is prose.
const LONGEST_NAME: usize = 128;

/// How values are written.
#[derive(Clone, Copy)]
pub(super) enum Escapes {
    /// Quotes and comments as in a shell. A backslash outside of quotes is a plain character.
    Shell,
    /// The escapes of Java properties: `\:` and `\=` stand for the second character.
    Properties,
}

/// Returns the names and values of all lines. A line without both is skipped.
pub(super) fn entries(text: &str, escapes: Escapes) -> Vec<(String, Document)> {
    let take = match escapes {
        Escapes::Shell => shell_value,
        Escapes::Properties => property,
    };
    let mut entries = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        match name(rest) {
            Some((name, after)) => {
                let (value, next) = take(after);
                entries.push((name.to_owned(), Document::of_value(value)));
                rest = next;
            }
            None => rest = line(rest).1,
        }
    }
    entries
}

/// The name at the beginning of a line, and the text after its separator.
fn name(text: &str) -> Option<(&str, &str)> {
    let (line, _) = line(text);
    let (name, _) = line.split_once(['=', ':'])?;
    let after = text.get(name.len() + 1..)?;
    let name = name.trim();
    let name = name.strip_prefix("export ").unwrap_or(name).trim();
    let name = name.trim_matches(['"', '\'']);
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-. ".contains(c);
    let is_name = !name.is_empty() && name.len() <= LONGEST_NAME && name.chars().all(allowed);
    is_name.then_some((name, after))
}

/// Takes a value as shells and `.env` files write it: quoted, maybe over several lines, or bare.
/// Returns the value and the text after it, as [`property`] does.
fn shell_value(text: &str) -> (String, &str) {
    let start = text.trim_start_matches([' ', '\t']);
    if let Some(quote @ ('"' | '\'')) = start.chars().next()
        && let Some((value, rest)) = quoted(start.get(1..).unwrap_or_default(), quote)
    {
        return (value, line(rest).1);
    }
    let (value, rest) = line(text);
    (without_comment(value).trim().to_owned(), rest)
}

/// The text up to the closing quote, and the text after it. A backslash escapes only quotes and
/// backslashes, and only in double quotes, so that PEM text keeps its `\n`.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut value = String::with_capacity(text.len());
    let mut characters = text.char_indices().peekable();
    while let Some((index, character)) = characters.next() {
        if character == quote {
            let rest = text.get(index + 1..)?;
            let (tail, _) = line(rest);
            return without_comment(tail).trim().is_empty().then_some((value, rest));
        }
        let escaped = (quote == '"' && character == '\\')
            .then(|| characters.next_if(|(_, next)| matches!(next, '"' | '\\')))
            .flatten();
        value.push(escaped.map_or(character, |(_, next)| next));
    }
    None
}

/// Removes a comment. It begins with `#` at the start or after a blank: `a#b` has none.
fn without_comment(value: &str) -> &str {
    let is_comment = |(index, _): &(usize, &str)| {
        value.get(..*index).is_some_and(|before| before.is_empty() || before.ends_with([' ', '\t']))
    };
    let comment = value.match_indices('#').find(is_comment);
    comment.and_then(|(index, _)| value.get(..index)).unwrap_or(value)
}

/// Takes a value of a Java properties file.
fn property(text: &str) -> (String, &str) {
    let (raw, rest) = line(text);
    let mut value = String::with_capacity(raw.len());
    let mut characters = raw.trim().chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            value.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => value.push('\n'),
            Some('r') => value.push('\r'),
            Some('t') => value.push('\t'),
            Some('u') => value.extend(unicode(&mut characters)),
            other => value.extend(other),
        }
    }
    (value, rest)
}

/// The character of `\u` and four hexadecimal digits, or nothing without them.
fn unicode(characters: &mut std::str::Chars<'_>) -> Option<char> {
    let digits = characters.as_str().get(..4)?;
    let code = u32::from_str_radix(digits, 16).ok()?;
    *characters = characters.as_str().get(4..)?.chars();
    char::from_u32(code)
}

/// The first line, and the text after it.
fn line(text: &str) -> (&str, &str) {
    let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
    (line.strip_suffix('\r').unwrap_or(line), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, escapes: Escapes) -> Vec<(String, String)> {
        let value = |document: Document| document.text().unwrap_or("(no text)").to_owned();
        let entries = entries(text, escapes).into_iter();
        entries.map(|(name, document)| (name, value(document))).collect()
    }

    #[test]
    fn every_way_to_write_a_line_is_read() {
        for (text, name, value) in [
            ("A=b", "A", "b"),
            ("  A = b  \r\n", "A", "b"),
            ("export A='b c'", "A", "b c"),
            ("a: \"b\" # why", "a", "b"),
            ("\"a\": b", "a", "b"),
            ("A=b # why", "A", "b"),
            ("A=b#c", "A", "b#c"),
            ("A=b=c:d", "A", "b=c:d"),
            ("A=\"b\\\"c\\\\d\\ne\"", "A", "b\"c\\d\\ne"),
            ("A='b\\'", "A", "b\\"),
            ("A=\"b\nc\"", "A", "b\nc"),
            ("A=\"b", "A", "\"b"),
            ("A='b'c", "A", "'b'c"),
            ("Client ID: x|y!z", "Client ID", "x|y!z"),
            ("A=", "A", ""),
            ("# B=c\n---\nprose\nA=b", "A", "b"),
        ] {
            let expected = [(name.to_owned(), value.to_owned())];
            assert_eq!(parsed(text, Escapes::Shell), expected, "{text}");
        }
    }

    #[test]
    fn a_quoted_value_ends_where_its_line_ends() {
        let pairs = [("A", "b\nc"), ("D", "e")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(parsed("A='b\nc' # d\nD=e\n", Escapes::Shell), pairs);
    }

    #[test]
    fn java_properties_are_unescaped() {
        let text = "tokenServiceURL=https\\://a.example/t\nclientSecret=a\\=b\\\\c\\u0041\"d\"\n";
        assert_eq!(
            parsed(text, Escapes::Properties),
            [
                ("tokenServiceURL".to_owned(), "https://a.example/t".to_owned()),
                ("clientSecret".to_owned(), "a=b\\cA\"d\"".to_owned()),
            ]
        );
    }
}
