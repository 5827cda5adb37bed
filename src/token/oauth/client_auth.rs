//! How a client proves itself to the token endpoint (RFC 6749 section 2.3.1).

use crate::config::{Client, ClientAuth};
use crate::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use url::form_urlencoded::{self, Serializer};

/// Tells SAP's issuer that the Basic credentials are form-encoded; without it they are taken raw.
const ENCODED_CREDENTIALS: HeaderName = HeaderName::from_static("x-cf-encoded-credentials");

/// The headers and the form body of a token request.
pub(super) fn request(client: &Client, secret: &Secret) -> (HeaderMap, String) {
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    let mut headers = HeaderMap::new();
    let (id, secret) = (client.client_id.as_str(), secret.expose());
    match client.client_auth {
        ClientAuth::Post => {
            form.append_pair("client_id", id);
            form.append_pair("client_secret", secret);
        }
        ClientAuth::Basic => {
            headers.insert(AUTHORIZATION, basic(id, secret));
        }
        ClientAuth::BasicEncoded => {
            let encode =
                |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            headers.insert(AUTHORIZATION, basic(&encode(id), &encode(secret)));
            headers.insert(ENCODED_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
    if let Some(scope) = &client.scope {
        form.append_pair("scope", scope);
    }
    form.extend_pairs(&client.token_params);
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
