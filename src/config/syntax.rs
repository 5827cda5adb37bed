//! Errors of YAML's syntax, in words, and where the person has to look. Pure.

/// A line and a column, both from 1.
type Spot = (u64, u64);

/// Returns the place of an error and what is wrong there, for the parser's message.
pub(super) fn explain(text: &str, found: Option<Spot>, message: &str) -> (Option<Spot>, String) {
    let message = message.split(" at line ").next().unwrap_or(message);
    let has = |part: &str| message.contains(part);
    if has("tabs disallowed") || has("found a tab") || has("tab character") {
        return (
            tab_in_indentation(text, found).or(found),
            "there is a tab before the key; indent with spaces".to_owned(),
        );
    }
    if let Some(rest) = message.strip_prefix("duplicate mapping key: ") {
        let key = rest.split(',').next().unwrap_or(rest);
        let first = found.and_then(|(line, _)| earlier(text, line, key));
        let first = first.map_or_else(String::new, |line| format!(" (first on line {line})"));
        return (found, format!("`{key}` is given twice{first}; keep one of them"));
    }
    let words = if has("simple key expected") {
        "there is no space after the colon of a key; write `key: value`".to_owned()
    } else if has("did not find expected key") {
        format!("{}indent the keys of a mapping alike", indentation(text, found))
    } else if has("mapping values are not allowed") {
        match indentation(text, found) {
            differs if differs.is_empty() => {
                "YAML misreads a value with `: `, `[`, `{` or `#` in it; put the whole value in single quotes".to_owned()
            }
            differs => format!("{differs}indent the keys of a mapping alike"),
        }
    } else if has("hexadecimal number") || has("unknown escape") {
        "in double quotes, a backslash begins an escape; use single quotes".to_owned()
    } else if has("unexpected character") || has("unknown anchor") {
        let first = found.and_then(|spot| character(text, spot));
        let first = first.map_or_else(String::new, |first| format!(" with `{first}`"));
        format!("a value cannot begin{first} unless it is quoted; put it in single quotes")
    } else if has("unclosed quote") {
        "the quote is not closed; close it, or put the whole value in the other kind of quotes"
            .to_owned()
    } else {
        message.to_owned()
    };
    (found, words)
}

fn line(text: &str, number: u64) -> Option<&str> {
    text.lines().nth(usize::try_from(number.checked_sub(1)?).ok()?)
}

fn character(text: &str, (number, column): Spot) -> Option<char> {
    line(text, number)?.chars().nth(usize::try_from(column.checked_sub(1)?).ok()?)
}

/// The tab in the indentation of a line that is nearest to the place of an error.
fn tab_in_indentation(text: &str, found: Option<Spot>) -> Option<Spot> {
    let near = found.map_or(1, |(line, _)| line);
    let tabs = (1_u64..).zip(text.lines()).filter_map(|(number, line)| {
        let indentation = line.bytes().take_while(|byte| matches!(byte, b' ' | b'\t'));
        let (column, _) = (1_u64..).zip(indentation).find(|(_, byte)| *byte == b'\t')?;
        let is_key = !line.trim().is_empty() && !line.trim_start().starts_with('#');
        is_key.then_some((number, column))
    });
    tabs.min_by_key(|(number, _)| number.abs_diff(near))
}

/// The nearest earlier line of the same mapping with the same key.
fn earlier(text: &str, number: u64, key: &str) -> Option<u64> {
    let lines: Vec<&str> = text.lines().collect();
    let index = usize::try_from(number.checked_sub(1)?).ok()?;
    let indentation = spaces(lines.get(index)?);
    let before = lines.get(..index)?.iter().enumerate().rev();
    let of_mapping = before.take_while(|(_, line)| line.is_empty() || spaces(line) >= indentation);
    let is_key = |line: &str| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':'));
    let mut same = of_mapping.filter(|(_, line)| spaces(line) == indentation);
    let (found, _) = same.find(|(_, line)| is_key(line.trim_start()))?;
    u64::try_from(found + 1).ok()
}

fn spaces(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// How the indentation of a line and that of the line before it differ, unless the line before
/// is its parent.
fn indentation(text: &str, found: Option<Spot>) -> String {
    let lines = || {
        let (number, _) = found?;
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        let lines: Vec<&str> = text.lines().collect();
        let is_content = |line: &&&str| {
            let line = line.trim_start();
            !line.is_empty() && !line.starts_with('#')
        };
        let before = lines.get(..index)?.iter().rev().find(is_content)?;
        let is_parent = before.trim_end().ends_with(':');
        (!is_parent).then_some((spaces(lines.get(index)?), spaces(before)))
    };
    match lines() {
        Some((this, before)) if this != before => {
            format!("this line begins with {this} spaces, the line before it with {before}; ")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str, found: Spot, message: &str) -> (Spot, String) {
        let (spot, words) = explain(text, Some(found), message);
        (spot.unwrap(), words)
    }

    #[test]
    fn the_place_is_where_the_person_has_to_look() {
        let duplicate = "duplicate mapping key: url, set it";
        let text = "a:\n  url: 1\nb:\n  url: 2\n  x: 3\n  url: 4\n";
        let (spot, words_of) = words(text, (6, 3), duplicate);
        assert_eq!(
            (spot, &*words_of),
            ((6, 3), "`url` is given twice (first on line 4); keep one of them")
        );
        let list = "r:\n  - path: a\n    x: 1\n  - path: b\n    path: c\n";
        let (_, words_of) = words(list, (5, 5), "duplicate mapping key: path");
        assert_eq!(words_of, "`path` is given twice; keep one of them");
        let tabs = "# \t\n\t\na:\n  b: 1\n\tc: 2\n";
        let (spot, _) = words(tabs, (4, 6), "while scanning a plain scalar, found a tab");
        assert_eq!(spot, (5, 1));
        let colon = "a:\n    # why\n    b: c: d\n";
        let (_, words_of) = words(colon, (3, 9), "mapping values are not allowed in this context");
        assert!(words_of.starts_with("YAML misreads a value"), "{words_of}");
    }
}
