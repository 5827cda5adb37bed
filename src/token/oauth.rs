//! Token source for the client credentials grant (RFC 6749 section 4.4) over HTTPS.

mod assertion;
mod client_auth;
mod issuer_clock;

pub use assertion::KeyError;

use super::access_token::Token;
use super::advice;
use super::answer::body::{self, MAX_ANSWER};
use super::answer::parse_answer;
use super::error::{InvalidAnswer, TokenError};
use super::issued::IssuedTokens;
use super::source::TokenSource;
use crate::clock;
use crate::clock::Instant;
use crate::config::Client;
use crate::credential::{Identity, Proof};
use crate::http_client::{
    BodyError, HttpClient, HttpClientError, HttpClientOptions, SendError, TunnelRefusal,
    bounded_body,
};
use crate::no_answer::NoAnswer;
use crate::redact::Secrets;
use crate::secret::Secret;
use arc_swap::ArcSwap;
use assertion::{BACKDATED, Signer};
use bytes::Bytes;
use client_auth::Evidence;
use issuer_clock::IssuerClock;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use tracing::info;

/// Timeout of a connection with its TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout from the first byte sent to the last byte received. SAP's issuer queues requests before
/// it refuses them.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Source of tokens for one client at a token endpoint, with one identity.
pub struct OAuthSource {
    name: String,
    identity: Identity,
    signer: Option<Signer>,
    /// Further parameters of token requests, for example the scope.
    parameters: Vec<(String, String)>,
    http: HttpClient,
    /// Whether the second of two secrets is the one that works.
    prefers_second: AtomicBool,
    clock: IssuerClock,
    /// Whether the issuer accepts assertions with the local time rather than with its own.
    prefers_local_time: AtomicBool,
    issued: ArcSwap<IssuedTokens>,
}

/// Why a client cannot request tokens.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The trust anchors, TLS, or the client's certificate.
    #[error(transparent)]
    Http(#[from] HttpClientError),
    /// The private key for assertions.
    #[error("{place} {source}")]
    Key {
        /// Where the key is.
        place: String,
        /// What is wrong with the key.
        source: KeyError,
    },
}

impl OAuthSource {
    /// Creates the source. Nothing is sent yet.
    ///
    /// # Errors
    /// The trust anchors or the key cannot be used, or TLS cannot be set up.
    pub fn new(client: &Client, identity: Identity) -> Result<Self, SourceError> {
        let http = HttpClient::new(&HttpClientOptions {
            url: &identity.token_url,
            transport: &client.transport,
            certificate: match &identity.proof {
                Proof::Certificate(certificate) => Some(certificate),
                Proof::Secret { .. } | Proof::SigningKey { .. } => None,
            },
            connect: CONNECT_TIMEOUT,
            whole: REQUEST_TIMEOUT,
            kept: 0,
        })?;
        let signer = match &identity.proof {
            Proof::SigningKey { key, id } => {
                let place = || identity.description.clone();
                let signer = Signer::new(key.expose(), id.clone());
                Some(signer.map_err(|source| SourceError::Key { place: place(), source })?)
            }
            Proof::Secret { .. } | Proof::Certificate(_) => None,
        };
        Ok(Self {
            name: client.name.clone(),
            parameters: parameters(client, &identity),
            identity,
            signer,
            http,
            prefers_second: AtomicBool::new(false),
            clock: IssuerClock::default(),
            prefers_local_time: AtomicBool::new(false),
            issued: ArcSwap::default(),
        })
    }

    /// Sends one token request.
    async fn request_token(&self, evidence: &Evidence<'_>) -> Result<Token, TokenError> {
        let Identity { client_id, token_url, .. } = &self.identity;
        let (headers, form) =
            client_auth::request(client_id, token_url, evidence, &self.parameters);
        let assertion = match evidence {
            Evidence::Assertion(..) => client_auth::assertion_in(&form),
            Evidence::Secret(..) | Evidence::Certificate => None,
        };
        let request = self.http.post(token_url.clone()).headers(headers);
        let request = request
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form);
        let mut answer = self.http.send(request).await.map_err(error_of)?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        self.clock.set_from(&headers, Instant::now());
        let body = bounded_body(&mut answer, MAX_ANSWER, |body| body::is_whole(&headers, body));
        let body = body.await.map_err(|error| match error {
            BodyError::TooLong => TokenError::Invalid(InvalidAnswer::TooLarge),
            BodyError::Incomplete(error) => error_of(error),
        })?;
        let body = body::decode(&headers, &body).map_err(TokenError::Invalid)?.into_owned();
        let body = body.as_bytes();
        let result = parse_answer(status, &headers, body, clock::wall());
        if let Ok(token) = &result {
            self.issued.store(Arc::new(self.issued.load().with(token, Instant::now())));
        }
        result.map_err(|error| self.without_secrets(error, body, assertion.as_deref()))
    }

    /// Sends a token request with an assertion. If it is refused, and the issuer's time and the
    /// local time differ, sends a second one with the other time.
    async fn request_with_assertion(&self, signer: &Signer) -> Result<Token, TokenError> {
        let prefers_local = self.prefers_local_time.load(Ordering::Relaxed);
        let times = || [self.clock.time(Instant::now()), Some(clock::wall())];
        let [at_issuer, local] = times();
        let first = at_issuer.filter(|_| !prefers_local).or(local).unwrap_or_else(clock::wall);
        let refused = match self.request_token(&Evidence::Assertion(signer, first)).await {
            Err(refused @ TokenError::Refused { .. }) => refused,
            result => return result,
        };
        // The refusal may be the first answer that shows the issuer's time.
        let distance = |time: &SystemTime| clock::ahead(*time, first).abs();
        let others = times().into_iter().flatten();
        let other = others.max_by(|one, other| distance(one).total_cmp(&distance(other)));
        let Some(other) = other.filter(|other| distance(other) > BACKDATED.as_secs_f64()) else {
            return Err(refused);
        };
        let token = match self.request_token(&Evidence::Assertion(signer, other)).await {
            Err(TokenError::Refused { .. }) => return Err(refused),
            result => result?,
        };
        let prefers_local = Some(first) == at_issuer;
        self.prefers_local_time.store(prefers_local, Ordering::Relaxed);
        let whose = if prefers_local { "this machine's" } else { "the issuer's" };
        info!(
            client = self.name,
            "The issuer refused an assertion for its times; using {whose} clock from now on."
        );
        Ok(token)
    }

    /// Returns the error without the issuer's words if they hold a secret: they go to the log and
    /// to `/readyz`. Both the raw answer and the reason that was read from it are searched.
    fn without_secrets(
        &self,
        error: TokenError,
        answer: &[u8],
        assertion: Option<&str>,
    ) -> TokenError {
        let TokenError::Refused { status, reason } = error else {
            return error;
        };
        let secrets = self.secrets(assertion);
        let is_in = |text: &[u8]| secrets.as_ref().is_some_and(|secrets| secrets.occur_in(text));
        if is_in(answer) || is_in(reason.as_bytes()) {
            let reason = ", reason not shown: it holds the secret".into();
            return TokenError::Refused { status, reason };
        }
        TokenError::Refused { status, reason }
    }

    /// Returns everything secret that the issuer knows of the client.
    fn secrets(&self, assertion: Option<&str>) -> Option<Secrets> {
        let of_client: Vec<&str> = match &self.identity.proof {
            Proof::Secret { current, next, .. } => {
                std::iter::once(current).chain(next).map(Secret::expose).collect()
            }
            Proof::Certificate(_) | Proof::SigningKey { .. } => Vec::new(),
        };
        let of_key = self.identity.token_params.iter().map(|(_, value)| value.expose());
        let parameters = self.parameters.iter().filter(|(name, _)| is_secret(name));
        let parameters = parameters.map(|(_, value)| value.as_str());
        let texts = of_client.into_iter().chain(of_key).chain(parameters).chain(assertion);
        let texts = texts.map(|text| Bytes::copy_from_slice(text.as_bytes()));
        // Of any length: a reason that is left out by mistake does no harm.
        let secrets = Secrets::new(texts, 1);
        match (secrets, self.issued.load().secrets()) {
            (Some(secrets), Some(issued)) => Some(secrets.union(issued)),
            (secrets, issued) => secrets.or_else(|| issued.cloned()),
        }
    }
}

/// Whether the name of a parameter of a token request suggests a secret.
fn is_secret(name: &str) -> bool {
    ["assertion", "password", "secret", "token"].iter().any(|word| {
        name.to_ascii_lowercase().contains(word) && !name.to_ascii_lowercase().ends_with("type")
    })
}

#[async_trait::async_trait]
impl TokenSource for OAuthSource {
    async fn fetch(&self) -> Result<Token, TokenError> {
        let (auth, first, next) = match (&self.identity.proof, &self.signer) {
            (Proof::Secret { auth, current, next }, _) => (*auth, current, next.as_ref()),
            (_, Some(signer)) => return self.request_with_assertion(signer).await,
            (_, None) => return self.request_token(&Evidence::Certificate).await,
        };
        let Some(next) = next else {
            return self.request_token(&Evidence::Secret(auth, first)).await;
        };
        // The secret that worked last comes first: the issuer must not see a wrong one each time.
        let prefers_second = self.prefers_second.load(Ordering::Relaxed);
        let (preferred, other) = if prefers_second { (next, first) } else { (first, next) };
        let refused = match self.request_token(&Evidence::Secret(auth, preferred)).await {
            Err(refused @ TokenError::Refused { .. }) => refused,
            result => return result,
        };
        let token = match self.request_token(&Evidence::Secret(auth, other)).await {
            Ok(token) => token,
            Err(TokenError::Refused { .. }) => return Err(refused),
            // The other secret may be right, so its error decides when to request again.
            Err(error) => return Err(error),
        };
        self.prefers_second.store(!prefers_second, Ordering::Relaxed);
        let which = if prefers_second { "first" } else { "second" };
        info!(client = self.name, "The issuer refused one secret; the {which} one is in use now.");
        Ok(token)
    }

    fn advice(&self, error: &TokenError) -> Option<&'static str> {
        advice::for_error(error, &self.identity)
    }

    fn clock_skew(&self) -> Option<f64> {
        self.clock.time(Instant::now()).map(|time| clock::ahead(time, clock::wall()))
    }
}

/// Returns the further parameters of token requests. The configuration overrides the key.
fn parameters(client: &Client, identity: &Identity) -> Vec<(String, String)> {
    let scope = client.scope.as_ref().or(identity.scope.as_ref());
    let scope = scope.map(|scope| ("scope".to_owned(), scope.clone()));
    let is_new = |name: &str| client.token_params.iter().all(|(known, _)| known != name);
    let of_key = identity.token_params.iter().filter(|(name, _)| is_new(name));
    let of_key = of_key.map(|(name, value)| (name.clone(), value.expose().to_owned()));
    scope.into_iter().chain(client.token_params.iter().cloned()).chain(of_key).collect()
}

fn error_of(error: SendError) -> TokenError {
    match (error.failure(), &error) {
        (Some(late @ (NoAnswer::ReadTimeout | NoAnswer::ConnectTimeout)), _) => {
            TokenError::Timeout(late)
        }
        (Some(failure), _) => TokenError::Connect(failure),
        (None, SendError::Tunnel(error)) => {
            TokenError::Proxy(TunnelRefusal::of(error).unwrap_or(TunnelRefusal::Other))
        }
        (None, _) => TokenError::Connect(NoAnswer::Closed),
    }
}
