//! Accidents with ids and secrets that the issuer answers only with "bad credentials". The messages
//! never show the value.

use super::{Identity, Proof};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The shortest secret that is taken for base64 of another one. SAP's own are not base64: they hold
/// `$`, `-` or `_`.
const LONG: usize = 24;

impl Identity {
    /// Returns what looks wrong with the id and the secret, each with what to do.
    pub fn suspicions(&self) -> Vec<String> {
        let token_url = of_token_url(self.token_url.path());
        let token_url = token_url.map(|why| format!("the token URL {why}"));
        let id = of_id(&self.client_id).map(|why| format!("the client id {why}"));
        let secret = match &self.proof {
            Proof::Secret { current, .. } => of_secret(current.expose()),
            Proof::Certificate(_) | Proof::SigningKey { .. } => None,
        };
        let secret = secret.map(|why| format!("the client secret {why}"));
        token_url.into_iter().chain(id).chain(secret).collect()
    }
}

/// What looks wrong with the path of a token URL.
fn of_token_url(path: &str) -> Option<&'static str> {
    if path.contains("/oauth/token/oauth/token") {
        return Some("has /oauth/token twice, as one of SAP's pages prints it; keep the first one");
    }
    if path.ends_with("/oauth/authorize") {
        return Some("is the one for logins; write /oauth/token instead of /oauth/authorize");
    }
    (path == "/").then_some("has no path; add /oauth/token to it")
}

/// What looks wrong with a client id.
fn of_id(id: &str) -> Option<&'static str> {
    let lower = id.to_ascii_lowercase();
    if lower.contains("%21") || lower.contains("%7c") {
        return Some("is percent-encoded; write ! instead of %21, and | instead of %7C");
    }
    of_text(id)
}

/// What looks wrong with a client secret.
fn of_secret(secret: &str) -> Option<&'static str> {
    if ["client_secret", "clientsecret"]
        .iter()
        .any(|name| secret.to_ascii_lowercase().starts_with(name))
    {
        return Some("begins with `client_secret` or similar; keep only the secret itself");
    }
    let decoded = || STANDARD.decode(secret).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    if secret.len() >= LONG
        && decoded().is_some_and(|text| text.trim_end().bytes().all(|byte| byte.is_ascii_graphic()))
    {
        return Some("looks like base64 of the secret; decode it (`base64 -d`)");
    }
    of_text(secret)
}

fn of_text(text: &str) -> Option<&'static str> {
    let is_quoted =
        |quote: char| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
    if text.trim() != text {
        return Some("begins or ends with a space or a line break; remove it");
    }
    if is_quoted('"') || is_quoted('\'') {
        return Some("is in quotes, which are sent, too; remove them");
    }
    let is_invisible = |character: char| {
        character.is_control()
            || matches!(character, '\u{a0}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
    };
    if text.contains('\n') {
        return Some("has several lines; keep only the line with the value");
    }
    text.contains(is_invisible).then_some("holds an invisible character; type it, or copy it again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accidents_are_named_and_good_values_are_not() {
        for (secret, part) in [
            ("s3cret ", "a space"),
            ("s3cret\n", "a line break"),
            ("\"s3cret\"", "in quotes"),
            ("'s3cret'", "in quotes"),
            ("client_secret=s3cret", "or similar"),
            ("clientSecret: s3cret", "or similar"),
            ("N2QzZiRhVisvOT1kZW1vLW9ubHk9", "base64"),
            ("s3\u{200b}cret", "invisible"),
            ("\u{feff}s3cret", "invisible"),
        ] {
            let why = of_secret(secret).unwrap_or_else(|| panic!("{secret}"));
            assert!(why.contains(part) && !why.contains("s3cret"), "{secret}: {why}");
        }
        for good in
            ["7d3f$aV+/9=demo-only=", "a\"b", "x'", "4f0c9a52-1b2c-4d3e-8f9a-0123456789ab", "abcd"]
        {
            assert_eq!(of_secret(good), None, "{good}");
        }
        assert!(
            of_id("sb-1%21b2%7Cclient%21b7").is_some_and(|why| why.contains("percent-encoded"))
        );
        assert!(of_id("sb-1!b2|client!b7\u{200b}").is_some());
        assert_eq!(of_id("sb-1!b2|client!b7"), None);
    }
}
