//! Client authentication at the token endpoint (RFC 6749 section 2.3, RFC 7523, RFC 8705).

use super::assertion::{self, Signer};
use crate::credential::SecretAuth;
use crate::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use std::time::SystemTime;
use url::Url;
use url::form_urlencoded::{self, Serializer};

/// Header that declares to SAP's issuer that the Basic credentials are form-encoded. Without it,
/// the issuer takes them raw.
const ENCODED_CREDENTIALS: HeaderName = HeaderName::from_static("x-cf-encoded-credentials");

/// Evidence of the client's identity in one token request.
pub(super) enum Evidence<'a> {
    Secret(SecretAuth, &'a Secret),
    /// The client certificate of the TLS handshake.
    Certificate,
    /// An assertion that is signed at this time.
    Assertion(&'a Signer, SystemTime),
}

/// Name of the form parameter with the assertion.
const ASSERTION: &str = "client_assertion";

/// Returns the assertion in the form of a token request.
pub(super) fn assertion_in(form: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(form.as_bytes());
    pairs.find(|(name, _)| name == ASSERTION).map(|(_, assertion)| assertion.into_owned())
}

/// Returns the headers and the form body of a token request.
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
            form.append_pair(ASSERTION, &assertion);
        }
    }
    form.extend_pairs(parameters);
    (headers, form.finish())
}

fn basic(id: &str, secret: &str) -> HeaderValue {
    let encoded = STANDARD.encode(format!("{id}:{secret}"));
    // Base64 is always a valid header value.
    let mut value = HeaderValue::try_from(format!("Basic {encoded}"))
        .unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}
