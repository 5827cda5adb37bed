//! A scanner of PromQL that finds the metrics and labels of an expression.

/// A metric with its label matchers.
#[derive(Debug)]
pub(crate) struct Selector {
    pub(crate) metric: String,
    pub(crate) matchers: Vec<(String, String)>,
}

/// `by (…)`, `without (…)`, `on (…)` or another grouping.
#[derive(Debug)]
pub(crate) struct Grouping {
    pub(crate) keyword: String,
    pub(crate) labels: Vec<String>,
    /// The metrics that it applies to. For `by` and `without`, these are the aggregated ones.
    pub(crate) metrics: Vec<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Expression {
    pub(crate) selectors: Vec<Selector>,
    pub(crate) groupings: Vec<Grouping>,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Sign(char),
}

const OPERATORS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];
const GROUPINGS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// Parses an expression without Grafana's variables.
pub(crate) fn parse(text: &str) -> Expression {
    let tokens = tokens(text);
    let mut found = Expression::default();
    let mut at = 0;
    while at < tokens.len() {
        let next = tokens.get(at + 1);
        match &tokens[at] {
            Token::Word(word) if is_grouping(word, next) => {
                let end = closing(&tokens, at + 1);
                let labels = words(&tokens[at + 2..end]);
                let about = match &**word {
                    "by" | "without" => end + 1..closing(&tokens, end + 1),
                    _ => 0..tokens.len(),
                };
                let metrics = metrics(&tokens[about]);
                found.groupings.push(Grouping { keyword: word.clone(), labels, metrics });
                at = end;
            }
            Token::Word(word) if is_metric(word, next) => {
                let mut matchers = Vec::new();
                if next == Some(&Token::Sign('{')) {
                    let end = closing(&tokens, at + 1);
                    let mut name = String::new();
                    for token in &tokens[at + 2..end] {
                        match token {
                            Token::Word(word) => name.clone_from(word),
                            Token::Text(value) => matchers.push((name.clone(), value.clone())),
                            Token::Sign(_) => {}
                        }
                    }
                    at = end;
                }
                found.selectors.push(Selector { metric: word.clone(), matchers });
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Whether a word begins a grouping. `group_left` can stand without labels.
fn is_grouping(word: &str, next: Option<&Token>) -> bool {
    GROUPINGS.contains(&word) && next == Some(&Token::Sign('('))
}

/// Whether a word is a metric: not a function (before a parenthesis), not an aggregation (before
/// its grouping) and not an operator.
fn is_metric(word: &str, next: Option<&Token>) -> bool {
    let before_grouping =
        matches!(next, Some(Token::Word(next)) if matches!(&**next, "by" | "without"));
    let is_function = next == Some(&Token::Sign('('));
    !before_grouping && !is_function && !OPERATORS.contains(&word) && !GROUPINGS.contains(&word)
}

/// The metrics in a part of an expression, without labels in braces and groupings.
fn metrics(tokens: &[Token]) -> Vec<String> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let next = tokens.get(at + 1);
        match &tokens[at] {
            Token::Sign('{') => at = closing(tokens, at),
            Token::Word(word) if is_grouping(word, next) => at = closing(tokens, at + 1),
            Token::Word(word) if is_metric(word, next) => found.push(word.clone()),
            _ => {}
        }
        at += 1;
    }
    found
}

fn words(tokens: &[Token]) -> Vec<String> {
    let word = |token: &Token| match token {
        Token::Word(word) => Some(word.clone()),
        _ => None,
    };
    tokens.iter().filter_map(word).collect()
}

/// The index of the bracket that closes the one at this index.
fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token {
            Token::Sign('(' | '{') => depth += 1,
            Token::Sign(')' | '}') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    panic!("not closed: {tokens:?}")
}

/// Words, texts and brackets. Numbers, durations and other characters are skipped.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(first) = rest.next() {
        let mut more = |first: char| {
            let mut word = String::from(first);
            while let Some(next) = rest.next_if(|next| next.is_alphanumeric() || *next == '_') {
                word.push(next);
            }
            word
        };
        match first {
            '"' => {
                tokens.push(Token::Text(rest.by_ref().take_while(|next| *next != '"').collect()))
            }
            '(' | ')' | '{' | '}' => tokens.push(Token::Sign(first)),
            _ if first.is_ascii_digit() => drop(more(first)),
            _ if first.is_alphabetic() || first == '_' => tokens.push(Token::Word(more(first))),
            _ => {}
        }
    }
    tokens
}

#[test]
fn metrics_matchers_and_groupings_are_found() {
    let found = parse(
        r#"sum by (client, le) (rate(a_bucket{client=~"x|y",outcome!="z"}[5m])) > 1e9
           and ignoring (version) b unless on (job) group_left abs(c) >= 2 * 86400"#,
    );
    let metrics: Vec<_> = found.selectors.iter().map(|selector| &*selector.metric).collect();
    assert_eq!(metrics, ["a_bucket", "b", "c"]);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(found.selectors[0].matchers, [pair("client", "x|y"), pair("outcome", "z")]);
    let groupings: Vec<_> = found
        .groupings
        .iter()
        .map(|grouping| {
            format!("{} {:?} {:?}", grouping.keyword, grouping.labels, grouping.metrics)
        })
        .collect();
    assert_eq!(
        groupings,
        [
            r#"by ["client", "le"] ["a_bucket"]"#,
            r#"ignoring ["version"] ["a_bucket", "b", "c"]"#,
            r#"on ["job"] ["a_bucket", "b", "c"]"#,
        ]
    );
}
