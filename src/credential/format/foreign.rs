//! Files that hold something else than an OAuth client, recognised for the message about them.

use super::document::Document;
use super::fields::Fields;

/// Returns what a document of JSON is, if it is a known one without an OAuth client.
pub(super) fn of_document(document: &Document) -> Option<&'static str> {
    let fields = Fields::of(document.map()?);
    let is = |name: &str, value: &str| {
        fields.values(name).filter_map(Document::text).any(|text| text == value)
    };
    if is("type", "service_account") {
        return Some(
            "it is the key of a Google service account, not SAP's; take the client ID, the secret and the token URL from System > Administration > App Integration",
        );
    }
    let is_client = fields.has(&["client_id", "client_secret"]);
    if !is_client && ["host", "user", "password"].iter().all(|name| fields.has(&[name])) {
        return Some(
            "it is the key of a database (host, user, password), not of an OAuth client; take the client ID, the secret and the token URL from System > Administration > App Integration",
        );
    }
    (fields.has(&["access_token"]) && !is_client).then_some(
        "it is the answer of a token endpoint; a token expires, use the OAuth client itself",
    )
}

/// Returns what a text without names and values is.
pub(super) fn of_text(text: &str) -> Option<&'static str> {
    let text = text.trim();
    if text.is_empty() {
        return Some("it is empty; write the client id, the secret and the token URL into it");
    }
    if text.contains("-----BEGIN ") && text.contains("PRIVATE KEY-----") {
        return Some(
            "it is a private key (PEM), not a client id with its secret and token URL; correct the path, or use private_key_file with client_auth mtls or private-key-jwt",
        );
    }
    if text.contains("-----BEGIN CERTIFICATE-----") {
        return Some(
            "it is a certificate (PEM), not a client id with its secret and token URL; correct the path, or use certificate_file and private_key_file with client_auth mtls",
        );
    }
    if text.starts_with("eyJ") && text.split('.').count() == 3 && !text.contains(' ') {
        return Some("it is an access token, which expires; use the OAuth client itself");
    }
    let mut words = text.split_whitespace();
    if words.clone().any(|word| word == "machine") && words.any(|word| word == "login") {
        return Some(
            "it is a .netrc file with a person's password, not the key of an OAuth client; take the client ID, the secret and the token URL from System > Administration > App Integration",
        );
    }
    (text.lines().count() == 1).then_some(
        "it is a single value; if it is the secret, use client_secret_file, with client_id and token_url",
    )
}
