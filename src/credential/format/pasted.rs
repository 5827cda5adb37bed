//! What people paste from SAP's page *App Integration*: labels and values on lines of their own or
//! with tabs between them, or the three values alone.

use super::document::{Document, Entries};

/// Labels of the page, and other names for them.
const LABELS: [&str; 14] = [
    "oauth client id",
    "client id",
    "client_id",
    "secret",
    "client secret",
    "client_secret",
    "token url",
    "oauth token url",
    "token_url",
    "authorization url",
    "oauth2saml token url",
    "oauth2saml audience",
    "purpose",
    "name",
];

/// The largest number of lines of a page.
const MOST_LINES: usize = 40;

/// Returns the names and values of a pasted page. `None` if the text is something else.
pub(super) fn entries(text: &str) -> Option<Vec<(String, Document)>> {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.len() > MOST_LINES || text.contains("-----BEGIN ") {
        return None;
    }
    labelled(&lines).or_else(|| bare(&lines))
}

fn label(text: &str) -> Option<&'static str> {
    let text = text.trim_end_matches([':', '*']).trim_end();
    LABELS.iter().find(|label| label.eq_ignore_ascii_case(text)).copied()
}

/// Labels, each with its value behind a tab or on the next line.
fn labelled(lines: &[&str]) -> Option<Vec<(String, Document)>> {
    let mut entries = Vec::new();
    let mut rest = lines.iter();
    while let Some(line) = rest.next() {
        let (name, value) = match line.split_once('\t') {
            Some((name, value)) => (label(name.trim_end()), Some(value.trim())),
            None => (label(line), None),
        };
        let Some(name) = name else { continue };
        let value = match value.filter(|value| !value.is_empty()) {
            Some(value) => value,
            // A label without a value is followed by the next label.
            None => match rest.as_slice().first() {
                Some(next) if label(next).is_none() => rest.next()?,
                _ => continue,
            },
        };
        if value.starts_with(['=', ':']) {
            return None;
        }
        entries.push((name.to_owned(), Document::of_value(value.to_owned())));
    }
    has_client(&entries).then_some(entries)
}

fn has_client(entries: &Entries) -> bool {
    let has = |part: &str| entries.iter().any(|(name, _)| name.contains(part));
    has("id") && (has("secret") || has("url"))
}

/// Three values without labels: the URL and the id are recognised by their form, and the secret is
/// what is left.
fn bare(lines: &[&str]) -> Option<Vec<(String, Document)>> {
    let [_, _, _] = lines else { return None };
    let is_url = |line: &&str| line.starts_with("https://") && !line.contains(' ');
    let is_id = |line: &&str| {
        let is_uuid = line.len() == 36 && line.bytes().filter(|byte| *byte == b'-').count() == 4;
        (line.starts_with("sb-") && line.contains('!')) || is_uuid
    };
    let url = lines.iter().find(|line| is_url(line))?;
    let id = lines.iter().find(|line| is_id(line))?;
    let secret = lines.iter().find(|line| !is_url(line) && !is_id(line))?;
    let is_value = !secret.contains([' ', '\t']);
    let named = [("client_id", id), ("client_secret", secret), ("token_url", url)];
    let entry =
        |(name, value): (&str, &&str)| (name.to_owned(), Document::of_value((*value).to_owned()));
    is_value.then(|| named.map(entry).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "sb-fake-0001!b1|client!b2";
    const SECRET: &str = "FAKE-secret-$a+b/c=";
    const URL: &str = "https://acme.authentication.eu10.hana.ondemand.com/oauth/token";

    fn values(text: &str) -> Option<Vec<String>> {
        let wanted = ["id", "secret", "token"];
        let entries = entries(text)?;
        let value = |part: &str| {
            let (_, value) = entries.iter().find(|(name, _)| name.contains(part))?;
            value.text().map(str::to_owned)
        };
        wanted.into_iter().map(value).collect()
    }

    #[test]
    fn every_form_of_the_page_is_read() {
        let expected = Some(vec![ID.to_owned(), SECRET.to_owned(), URL.to_owned()]);
        for text in [
            format!("OAuth Client ID\n{ID}\nSecret\n{SECRET}\nToken URL\n{URL}\n"),
            format!(
                "Name\r\nreports\r\nOAuth Client ID\r\n\r\n{ID}\r\nSecret:\r\n{SECRET}\r\nToken URL\r\n{URL}"
            ),
            format!("OAuth Client ID\t{ID}\nSecret\t{SECRET}\nToken URL\t{URL}\n"),
            format!("{ID}\n{SECRET}\n{URL}\n"),
            format!("{URL}\n{ID}\n{SECRET}"),
        ] {
            assert_eq!(values(&text), expected, "{text}");
        }
    }

    #[test]
    fn other_texts_are_left_to_other_formats() {
        for text in [
            format!("client_id={ID}\nclient_secret={SECRET}\ntoken_url={URL}\n"),
            format!("OAuth Client ID: {ID}\nSecret: {SECRET}\nToken URL: {URL}\n"),
            "one\ntwo\nthree\n".to_owned(),
            format!("{ID}\n{URL}\n"),
            String::new(),
        ] {
            assert!(entries(&text).is_none(), "{text}");
        }
    }
}
