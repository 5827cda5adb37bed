//! An access token as the issuer returned it.

use http::HeaderValue;
use std::time::Duration;

/// An access token as the issuer returned it.
#[derive(Clone, Debug)]
pub struct Token {
    /// The whole `Authorization` value, marked sensitive so that nothing prints it.
    pub authorization: HeaderValue,
    /// How long the token is valid from the moment of its answer.
    pub lifetime: Duration,
    /// How far the issuer's clock is ahead of the local one, in seconds, if the answer had a
    /// `Date`.
    pub clock_skew: Option<f64>,
}

impl Token {
    /// Returns the token alone. A caller states in a comment why it needs the secret text.
    pub fn text(&self) -> &str {
        let value = self.authorization.to_str().unwrap_or_default();
        value.strip_prefix("Bearer ").unwrap_or(value)
    }
}
