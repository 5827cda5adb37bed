//! A token source without an issuer, for what is measured without sockets; benches use it, too.

use bearerd::token::{Token, TokenError, TokenSource};
use http::HeaderValue;
use std::time::Duration;

/// Always gives one long-lived token of the size that Datasphere gives.
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
