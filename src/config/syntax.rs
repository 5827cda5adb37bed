//! Errors of YAML's syntax, in words, and where the person has to look. Pure.

/// A line and a column, both from 1.
type Spot = (u64, u64);

/// Returns the place of an error and what is wrong there, for the parser's message.
pub(super) fn explain(text: &str, found: Option<Spot>, message: &str) -> (Option<Spot>, String) {
    let message = message.split(" at line ").next().unwrap_or(message);
    let has = |part: &str| message.contains(part);
    if has("tabs disallowed") || has("found a tab") || has("tab character") {
        return (
            tab_in_indentation(text).or(found),
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

/// The first tab in the indentation of a line.
fn tab_in_indentation(text: &str) -> Option<Spot> {
    (1_u64..).zip(text.lines()).find_map(|(number, line)| {
        let indentation = line.bytes().take_while(|byte| matches!(byte, b' ' | b'\t'));
        let (column, _) = (1_u64..).zip(indentation).find(|(_, byte)| *byte == b'\t')?;
        Some((number, column))
    })
}

/// The nearest earlier line with the same key at the same indentation.
fn earlier(text: &str, number: u64, key: &str) -> Option<u64> {
    let indentation = spaces(line(text, number)?);
    (1..number).rev().find(|number| {
        let line = line(text, *number).unwrap_or_default();
        let begins = line.trim_start().strip_prefix(key).is_some_and(|rest| rest.starts_with(':'));
        begins && spaces(line) == indentation
    })
}

fn spaces(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// How the indentation of a line and that of the line before it differ.
fn indentation(text: &str, found: Option<Spot>) -> String {
    let lines = || {
        let (number, _) = found?;
        let before = (1..number).rev().filter_map(|number| line(text, number));
        let before = before.map(str::trim_end).find(|line| !line.is_empty())?;
        Some((spaces(line(text, number)?), spaces(before)))
    };
    match lines() {
        Some((this, before)) if this != before => {
            format!("this line begins with {this} spaces, the line before it with {before}; ")
        }
        _ => String::new(),
    }
}
