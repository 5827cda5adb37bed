//! Lines of names and values: `.env` files, Java properties, simple YAML, and what is pasted from
//! SAP's dialogs (`Client ID: …`).

use super::destination;
use super::node::Node;
use super::section::Section;

/// The longest name of a key, in bytes. Longer ones are prose.
const LONGEST_NAME: usize = 128;

/// Reads every line that has a name and a value; what has not is skipped.
///
/// Exports of the destination service are Java properties, whose `\:` and `\=` mean the character
/// alone; elsewhere a backslash is a backslash, and quotes and comments are the shell's.
pub(super) fn parse(text: &str) -> Node {
    let entries = entries(text, shell_value);
    if destination::is(&Section::of(&entries)) {
        return Node::Map(self::entries(text, property));
    }
    Node::Map(entries)
}

/// Takes a value off the text behind a separator, and returns it with what follows.
type TakeValue = for<'t> fn(&'t str) -> (String, &'t str);

fn entries(text: &str, take: TakeValue) -> Vec<(String, Node)> {
    let mut entries = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        match name(rest) {
            Some((name, behind)) => {
                let (value, next) = take(behind);
                entries.push((name.to_owned(), Node::of_value(value)));
                rest = next;
            }
            None => rest = line(rest).1,
        }
    }
    entries
}

/// The name at the beginning of a line, and the text behind its separator.
fn name(text: &str) -> Option<(&str, &str)> {
    let (line, _) = line(text);
    let (name, _) = line.split_once(['=', ':'])?;
    let behind = text.get(name.len() + 1..)?;
    let name = name.trim();
    let name = name.strip_prefix("export ").unwrap_or(name).trim();
    let name = name.trim_matches(['"', '\'']);
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-. ".contains(c);
    let is_name = !name.is_empty() && name.len() <= LONGEST_NAME && name.chars().all(allowed);
    is_name.then_some((name, behind))
}

/// A value as shells and `.env` files write it: quoted, perhaps over lines, or bare.
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

/// The text up to the closing quote, and what follows it. A backslash protects only quotes and
/// backslashes, and only in double quotes: PEM text keeps its `\n`.
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

/// A comment begins with `#` at the start or after a blank: `a#b` has none.
fn without_comment(value: &str) -> &str {
    let is_comment = |(index, _): &(usize, &str)| {
        value.get(..*index).is_some_and(|before| before.is_empty() || before.ends_with([' ', '\t']))
    };
    let comment = value.match_indices('#').find(is_comment);
    comment.and_then(|(index, _)| value.get(..index)).unwrap_or(value)
}

/// A value of a Java properties file.
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

/// The character of `\u` and four digits. Without them nothing was meant, and nothing comes.
fn unicode(characters: &mut std::str::Chars<'_>) -> Option<char> {
    let digits = characters.as_str().get(..4)?;
    let code = u32::from_str_radix(digits, 16).ok()?;
    *characters = characters.as_str().get(4..)?.chars();
    char::from_u32(code)
}

/// The first line and the text behind it.
fn line(text: &str) -> (&str, &str) {
    let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
    (line.strip_suffix('\r').unwrap_or(line), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(String, String)> {
        let Node::Map(entries) = parse(text) else { panic!("lines are a map") };
        let text = |node: Node| node.text().unwrap_or("(no text)").to_owned();
        entries.into_iter().map(|(name, node)| (name, text(node))).collect()
    }

    #[test]
    fn every_way_to_write_a_line_is_understood() {
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
            assert_eq!(parsed(text), [(name.to_owned(), value.to_owned())], "{text}");
        }
    }

    #[test]
    fn a_quoted_value_ends_where_its_line_ends() {
        let pairs = [("A", "b\nc"), ("D", "e")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(parsed("A='b\nc' # d\nD=e\n"), pairs);
    }

    #[test]
    fn properties_of_a_destination_are_unescaped() {
        let text = "tokenServiceURL=https\\://a.example/t\nclientSecret=a\\=b\\\\c\\u0041\"d\"\n";
        assert_eq!(
            parsed(text),
            [
                ("tokenServiceURL".to_owned(), "https://a.example/t".to_owned()),
                ("clientSecret".to_owned(), "a=b\\cA\"d\"".to_owned()),
            ]
        );
    }
}
