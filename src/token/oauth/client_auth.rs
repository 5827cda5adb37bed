//! How a client proves itself to the token endpoint (RFC 6749 section 2.3, RFC 7523, RFC 8705).

use super::assertion::{self, Signer};
use crate::credential::SecretAuth;
use crate::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use std::time::SystemTime;
use url::Url;
use url::form_urlencoded::{self, Serializer};

/// Tells SAP's issuer that the Basic credentials are form-encoded; without it they are taken raw.
const ENCODED_CREDENTIALS: HeaderName = HeaderName::from_static("x-cf-encoded-credentials");

/// What one token request proves the client with.
pub(super) enum Evidence<'a> {
    Secret(SecretAuth, &'a Secret),
    /// The TLS handshake does.
    Certificate,
    /// Signed at this time.
    Assertion(&'a Signer, SystemTime),
}

/// The headers and the form body of a token request.
pub(super) fn request(
    client_id: &str,
    token_url: &Url,
    evidence: &Evidence<'_>,
    parameters: &[(String, String)],
) -> (HeaderMap, String) {
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    let mut headers = HeaderMap::new();
    match evidence {
        Evidence::Secret(SecretAuth::Post, secret) => {
            form.append_pair("client_id", client_id);
            form.append_pair("client_secret", secret.expose());
        }
        Evidence::Secret(SecretAuth::Basic, secret) => {
            headers.insert(AUTHORIZATION, basic(client_id, secret.expose()));
        }
        Evidence::Secret(SecretAuth::BasicEncoded, secret) => {
            let encode =
                |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            headers.insert(AUTHORIZATION, basic(&encode(client_id), &encode(secret.expose())));
            headers.insert(ENCODED_CREDENTIALS, HeaderValue::from_static("true"));
        }
        Evidence::Certificate => {
            form.append_pair("client_id", client_id);
        }
        Evidence::Assertion(signer, now) => {
            let assertion = signer.assertion(client_id, token_url, *now);
            form.append_pair("client_id", client_id);
            form.append_pair("client_assertion_type", assertion::TYPE);
            form.append_pair("client_assertion", &assertion);
        }
    }
    form.extend_pairs(parameters);
    (headers, form.finish())
}

/// Whether an answer holds the secret, in any form in which a request carries it.
pub(super) fn is_told_by(answer: &[u8], secret: &Secret) -> bool {
    let (text, secret) = (String::from_utf8_lossy(answer), secret.expose());
    if secret.is_empty() {
        return false;
    }
    let form: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    // In the base64 of `id:secret` the secret begins at one of three offsets; but for the first
    // letters, which mix with the id, and the last, which mix with nothing, it looks the same there.
    let mut base64 = ["", "-", "--"].into_iter().map(|offset| {
        let encoded = STANDARD.encode(format!("{offset}{secret}"));
        let inner = encoded.get(4..).unwrap_or_default().trim_end_matches('=');
        inner.to_owned()
    });
    // Within its quotes; twice, where a JSON text quotes another.
    let quoted = |text: &str| {
        let quoted = serde_json::to_string(text).unwrap_or_default();
        quoted.trim_matches('"').to_owned()
    };
    let json = quoted(secret);
    text.contains(secret)
        || text.contains(&form)
        || text.contains(&json)
        || text.contains(&quoted(&json))
        || base64.any(|inner| !inner.is_empty() && text.contains(&inner))
}

fn basic(id: &str, secret: &str) -> HeaderValue {
    let encoded = STANDARD.encode(format!("{id}:{secret}"));
    // Base64 is always a valid header value.
    let mut value = HeaderValue::try_from(format!("Basic {encoded}"))
        .unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_of_the_secret_is_found_in_every_form() {
        let secret = Secret::new("7d3f$aV+/9=demo".into());
        let told = |text: &str| is_told_by(text.as_bytes(), &secret);
        assert!(told("bad secret 7d3f$aV+/9=demo for you"));
        assert!(told("client_secret=7d3f%24aV%2B%2F9%3Ddemo&x"));
        for id in ["a", "ab", "abc", "sb-1f2e!b42|client!b7"] {
            assert!(told(&STANDARD.encode(format!("{id}:7d3f$aV+/9=demo"))), "{id}");
        }
        assert!(!told("Bad credentials"));
        let odd = Secret::new("a\"b\\c".into());
        assert!(is_told_by(br#"you sent a\"b\\c"#, &odd), "as JSON has it");
        assert!(is_told_by(br#"you sent a\\\"b\\\\c"#, &odd), "in JSON within JSON");
    }
}
