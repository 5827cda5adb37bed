//! Rules of language that a program can hold. CONTRIBUTING.md has all of them.

use std::fs;
use std::path::{Path, PathBuf};

/// Columns of a comment in Rust, as of code.
const WIDTH: usize = 100;

/// Words that CONTRIBUTING.md replaces by plainer ones.
const WORDS: [&str; 14] = [
    "bid",
    "bids",
    "meanwhile",
    "nor",
    "shall",
    "such",
    "tell",
    "telling",
    "tells",
    "thereof",
    "told",
    "whoever",
    "whom",
    "whomever",
];

/// Words that are right as names, for example of a test's data, and not in comments.
const WORDS_OF_COMMENTS: [&str; 2] = ["ours", "theirs"];

/// Lines where a word is right: the end of the file's path, and a part of the line.
const EXCEPTIONS: [(&str, &str); 5] = [
    // The rule itself.
    ("tests/ship/language.rs", ""),
    ("CONTRIBUTING.md", "*tell*"),
    ("CONTRIBUTING.md", "*meanwhile*"),
    // What systems and servers answer.
    ("", "no such"),
    ("", "neither"),
];

/// What people read: sources, documents, configurations, scripts.
const PLACES: [&str; 16] = [
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.toml",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "benches",
    "clippy.toml",
    "config",
    "deny.toml",
    "deploy",
    "docs",
    "fuzz",
    "scripts",
    "src",
    "tests",
];

const ENDINGS: [&str; 9] = ["json", "md", "py", "rs", "service", "sh", "toml", "yaml", "yml"];

/// Text of others, or data.
const FOREIGN: [&str; 6] =
    [".venv", "corpus", "node_modules", "package-lock.json", "schemas", "target"];

fn collect(path: &Path, found: &mut Vec<PathBuf>) {
    let name = path.file_name().unwrap().to_str().unwrap();
    if FOREIGN.contains(&name) {
        return;
    }
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            collect(&entry.unwrap().path(), found);
        }
        return;
    }
    let ending = path.extension().and_then(|ending| ending.to_str());
    if name == "Makefile" || ending.is_some_and(|ending| ENDINGS.contains(&ending)) {
        found.push(path.to_owned());
    }
}

/// Every line of what people read, with its file's path in the repository and its number.
fn lines() -> Vec<(String, usize, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    PLACES.iter().for_each(|place| collect(&root.join(place), &mut files));
    files.sort();
    let mut lines = Vec::new();
    for file in files {
        let path = file.strip_prefix(root).unwrap().display().to_string();
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{path}: {error}"));
        let numbered = text.lines().enumerate();
        lines.extend(numbered.map(|(index, line)| (path.clone(), index + 1, line.to_owned())));
    }
    assert!(lines.len() > 10_000, "only {} lines were found", lines.len());
    lines
}

/// The word of the list that a line has, also as a part of an identifier.
fn word(line: &str) -> Option<&'static str> {
    let line = line.to_ascii_lowercase();
    let mut known = WORDS.to_vec();
    if line.trim_start().starts_with("//") {
        known.extend(WORDS_OF_COMMENTS);
    }
    let mut words = line.split(|character: char| !character.is_ascii_alphabetic());
    words.find_map(|word| known.iter().copied().find(|known| *known == word))
}

fn is_excepted(path: &str, line: &str) -> bool {
    let line = line.to_ascii_lowercase().replace(['_', '-', '/'], " ");
    EXCEPTIONS.iter().any(|(end, part)| path.ends_with(end) && line.contains(part))
}

/// Whether a line of Rust is a comment that is too wide. A URL can't be broken.
fn is_too_wide(line: &str) -> bool {
    let is_comment = line.trim_start().starts_with("//");
    is_comment && line.chars().count() > WIDTH && !line.contains("://")
}

#[test]
fn no_text_has_a_word_that_has_a_plainer_one() {
    let found: Vec<_> = lines()
        .into_iter()
        .filter(|(path, _, line)| !is_excepted(path, line))
        .filter_map(|(path, number, line)| {
            word(&line).map(|word| format!("{path}:{number}: {word}: {}", line.trim()))
        })
        .collect();
    assert!(found.is_empty(), "{} lines:\n{}", found.len(), found.join("\n"));
}

#[test]
fn no_comment_is_wider_than_code() {
    let found: Vec<_> = lines()
        .into_iter()
        .filter(|(path, _, line)| path.ends_with(".rs") && is_too_wide(line))
        .map(|(path, number, _)| format!("{path}:{number}"))
        .collect();
    assert!(found.is_empty(), "{} comments:\n{}", found.len(), found.join("\n"));
}

#[test]
fn both_rules_find_what_they_are_for() {
    for line in ["/// It tells why.", "fn tell_of_it() {}", "Whoever calls", "// of theirs,"] {
        assert!(word(line).is_some(), "{line}");
    }
    for line in ["intelligent", "north", "hours", "shallow", "suchlike", "let ours = 1;"] {
        assert_eq!(word(line), None, "{line}");
    }
    assert!(is_too_wide(&format!("    // {}", "x".repeat(94))));
    assert!(!is_too_wide(&format!("    // {}", "x".repeat(93))));
    assert!(!is_too_wide(&format!("let text = \"{}\";", "x".repeat(94))));
}
