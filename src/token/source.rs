//! Sources of access tokens.

use super::access_token::Token;
use super::error::TokenError;

/// A source of access tokens for one client.
#[async_trait::async_trait]
pub trait TokenSource: Send + Sync + 'static {
    /// Requests one token. The source itself bounds the time and the size of the answer.
    ///
    /// # Errors
    /// The kind of failure. The caller decides from it when to request again.
    async fn fetch(&self) -> Result<Token, TokenError>;

    /// Returns what to do about an error, if it is a known one.
    fn advice(&self, _error: &TokenError) -> Option<&'static str> {
        None
    }

    /// Returns how far the issuer's clock is now ahead of the local one, in seconds, if any answer
    /// had a `Date`. A refusal has one, too.
    fn clock_skew(&self) -> Option<f64> {
        None
    }
}
