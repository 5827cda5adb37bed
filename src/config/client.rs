//! An OAuth client.

use super::transport::Transport;
use crate::credential::CredentialSource;
use std::time::{Duration, SystemTime};

/// An OAuth client at an issuer.
#[derive(Clone, Debug, PartialEq)]
pub struct Client {
    /// The name in the file, in metrics and in logs.
    pub name: String,
    /// The source of the client's identity: token endpoint, id and credential.
    pub source: CredentialSource,
    /// Scopes to request. Without them, the key's scopes, or else all scopes of the client.
    pub scope: Option<String>,
    /// Additional parameters of the token request.
    pub token_params: Vec<(String, String)>,
    /// The day on which the OAuth client itself expires, if the configuration names it.
    pub expires_on: Option<SystemTime>,
    /// Fraction of a token's lifetime after which the next token is fetched.
    pub refresh_at: f64,
    /// The longest time a request waits for a usable token.
    pub wait: Duration,
    /// TLS and forward proxy on the way to the token endpoint.
    pub transport: Transport,
}
