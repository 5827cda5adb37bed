//! The client credentials grant (RFC 6749 section 4.4) over HTTPS.

mod client_auth;

use super::answer::{self, MAX_ANSWER};
use super::{InvalidAnswer, Token, TokenError, TokenSource};
use crate::config::Client;
use crate::http_client::{self, HttpClientError, Limits};
use crate::secret::Secret;
use reqwest::Response;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use std::error::Error;
use std::time::{Duration, SystemTime};

/// TCP and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From the first byte out to the last byte in. SAP's issuer queues before it refuses.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// A client at a token endpoint.
pub struct OAuthSource {
    client: Client,
    http: reqwest::Client,
}

impl OAuthSource {
    /// Prepares the connection. Nothing is sent yet.
    ///
    /// # Errors
    /// The trust anchors can't be read, or TLS can't be set up.
    pub fn new(client: Client) -> Result<Self, HttpClientError> {
        let http = http_client::build(&Limits {
            https_only: client.token_url.scheme() == "https",
            ca_file: client.ca_file.as_deref(),
            connect: CONNECT_TIMEOUT,
            whole: REQUEST_TIMEOUT,
        })?;
        Ok(Self { client, http })
    }
}

#[async_trait::async_trait]
impl TokenSource for OAuthSource {
    async fn fetch(&self) -> Result<Token, TokenError> {
        let secret = self.client.credential.read_in_time().await?;
        let (headers, body) = client_auth::request(&self.client, &secret);
        let answer = self
            .http
            .post(self.client.token_url.clone())
            .headers(headers)
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body)
            .send()
            .await
            .map_err(failed)?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = bounded_body(answer).await?;
        let judged = answer::judge(status, &headers, &body, SystemTime::now());
        judged.map_err(|error| without_echo(error, &body, &secret))
    }
}

/// An issuer's words go to the log and to `/readyz`; one that echoes the secret is not quoted.
fn without_echo(error: TokenError, answer: &[u8], secret: &Secret) -> TokenError {
    match error {
        TokenError::Refused { status, .. } if client_auth::is_told_by(answer, secret) => {
            TokenError::Refused { status, reason: ", in words that hold the secret".into() }
        }
        other => other,
    }
}

/// The body, up to [`MAX_ANSWER`].
async fn bounded_body(mut answer: Response) -> Result<Vec<u8>, TokenError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(TokenError::Invalid(InvalidAnswer::TooLarge));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn failed(error: reqwest::Error) -> TokenError {
    if error.is_timeout() {
        return TokenError::Timeout;
    }
    // The innermost cause is what helps: "connection refused", "UnknownIssuer".
    let error = error.without_url();
    let mut cause: &dyn Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    TokenError::Connect(cause.to_string())
}
