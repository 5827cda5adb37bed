//! A token source without an issuer, for measurements without sockets. Benches use it too.

use bearerd::token::{Token, TokenError, TokenSource};
use http::HeaderValue;
use std::time::Duration;

/// A source of one long-lived token of the size of Datasphere's.
pub(crate) struct OneToken;

#[async_trait::async_trait]
impl TokenSource for OneToken {
    async fn fetch(&self) -> Result<Token, TokenError> {
        Ok(Token {
            authorization: HeaderValue::try_from(format!("Bearer {}", "x".repeat(2000))).unwrap(),
            lifetime: Duration::from_secs(86_400),
            clock_skew: None,
        })
    }
}
