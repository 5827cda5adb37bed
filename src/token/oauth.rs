//! The client credentials grant (RFC 6749 section 4.4) over HTTPS.

mod assertion;
mod client_auth;
mod issuer_clock;

pub use assertion::KeyError;

use super::answer::{self, MAX_ANSWER};
use super::valid::Valid;
use super::{InvalidAnswer, Token, TokenError, TokenSource, advice};
use crate::clock;
use crate::clock::Instant;
use crate::config::Client;
use crate::credential::{Identity, Proof};
use crate::http_client::{self, Failure, HttpClientError, Limits, TunnelRefusal};
use crate::redact::Secrets;
use crate::secret::Secret;
use arc_swap::ArcSwap;
use assertion::{BACKDATED, Signer};
use bytes::Bytes;
use client_auth::Evidence;
use http::HeaderMap;
use issuer_clock::IssuerClock;
use reqwest::Response;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use tracing::info;

/// TCP and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From the first byte out to the last byte in. SAP's issuer queues before it refuses.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// A client at a token endpoint, with one identity.
pub struct OAuthSource {
    name: String,
    identity: Identity,
    signer: Option<Signer>,
    /// The scope and whatever else is asked for.
    parameters: Vec<(String, String)>,
    http: http_client::Client,
    /// Whether the later of two secrets is the one that works.
    later: AtomicBool,
    /// What time it is where assertions are judged.
    clock: IssuerClock,
    /// Whether assertions are taken by our own clock's time, and not by the time that the issuer tells.
    is_our_time: AtomicBool,
    /// What it gave.
    given: ArcSwap<Valid>,
}

/// A client that can't ask for tokens.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Trust anchors, TLS, or the client's certificate.
    #[error(transparent)]
    Http(#[from] HttpClientError),
    /// The key for assertions.
    #[error("{place} {source}")]
    Key {
        /// Where it is.
        place: String,
        /// What is wrong with it.
        source: KeyError,
    },
}

impl OAuthSource {
    /// Prepares the connection. Nothing is sent yet.
    ///
    /// # Errors
    /// The trust anchors or the key can't be used, or TLS can't be set up.
    pub fn new(client: &Client, identity: Identity) -> Result<Self, SourceError> {
        let http = http_client::Client::new(&Limits {
            url: &identity.token_url,
            transport: &client.transport,
            certificate: match &identity.proof {
                Proof::Certificate(chain, key) => Some((chain, key)),
                Proof::Secret(..) | Proof::SigningKey(..) => None,
            },
            connect: CONNECT_TIMEOUT,
            whole: REQUEST_TIMEOUT,
            kept: 0,
        })?;
        let signer = match &identity.proof {
            Proof::SigningKey(key, id) => {
                let place = || identity.described.clone();
                let signer = Signer::new(key.expose(), id.clone());
                Some(signer.map_err(|source| SourceError::Key { place: place(), source })?)
            }
            Proof::Secret(..) | Proof::Certificate(..) => None,
        };
        Ok(Self {
            name: client.name.clone(),
            parameters: parameters(client, &identity),
            identity,
            signer,
            http,
            later: AtomicBool::new(false),
            clock: IssuerClock::default(),
            is_our_time: AtomicBool::new(false),
            given: ArcSwap::default(),
        })
    }

    /// One token request.
    async fn ask(&self, evidence: &Evidence<'_>) -> Result<Token, TokenError> {
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
        let answer = self.http.send(request).await.map_err(failed)?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        self.clock.learn(&headers, Instant::now());
        let body = bounded_body(answer, &headers).await?;
        let body = answer::plain(&headers, &body).map_err(TokenError::Invalid)?.into_owned();
        let body = body.as_bytes();
        let judged = answer::judge(status, &headers, body, clock::wall());
        if let Ok(token) = &judged {
            self.given.store(Arc::new(self.given.load().with(token, Instant::now())));
        }
        judged.map_err(|error| self.unquoted(error, body, assertion.as_deref()))
    }

    /// One token request with an assertion; a second one where the first is refused and there are two opinions
    /// about what time it is: the issuer's, as its answers tell, and ours.
    async fn ask_signed(&self, signer: &Signer) -> Result<Token, TokenError> {
        let is_ours = self.is_our_time.load(Ordering::Relaxed);
        let times = || [self.clock.time(Instant::now()), Some(clock::wall())];
        let [theirs, ours] = times();
        let first = theirs.filter(|_| !is_ours).or(ours).unwrap_or_else(clock::wall);
        let refused = match self.ask(&Evidence::Assertion(signer, first)).await {
            Err(refused @ TokenError::Refused { .. }) => refused,
            judged => return judged,
        };
        // The refusal may be the first answer that shows the issuer's time.
        let distance = |time: &SystemTime| clock::ahead(*time, first).abs();
        let others = times().into_iter().flatten();
        let other = others.max_by(|one, other| distance(one).total_cmp(&distance(other)));
        let Some(other) = other.filter(|other| distance(other) > BACKDATED.as_secs_f64()) else {
            return Err(refused);
        };
        let token = match self.ask(&Evidence::Assertion(signer, other)).await {
            Err(TokenError::Refused { .. }) => return Err(refused),
            judged => judged?,
        };
        let is_ours = Some(first) == theirs;
        self.is_our_time.store(is_ours, Ordering::Relaxed);
        let whose = if is_ours { "this machine's" } else { "the issuer's" };
        info!(
            client = self.name,
            "An assertion is refused by its time; {whose} clock is used now."
        );
        Ok(token)
    }

    /// An issuer's words go to the log and to `/readyz`; those that hold a secret are not quoted, be it as they
    /// came or as they are read.
    fn unquoted(&self, error: TokenError, answer: &[u8], assertion: Option<&str>) -> TokenError {
        let TokenError::Refused { status, reason } = error else {
            return error;
        };
        let secrets = self.secrets(assertion);
        let is_told = |text: &[u8]| secrets.as_ref().is_some_and(|secrets| secrets.are_in(text));
        if is_told(answer) || is_told(reason.as_bytes()) {
            return TokenError::Refused {
                status,
                reason: ", in words that hold the secret".into(),
            };
        }
        TokenError::Refused { status, reason }
    }

    /// All that an issuer knows of us and nobody else may see.
    fn secrets(&self, assertion: Option<&str>) -> Option<Secrets> {
        let of_client: Vec<&str> = match &self.identity.proof {
            Proof::Secret(_, first, next) => {
                std::iter::once(first).chain(next).map(Secret::expose).collect()
            }
            Proof::Certificate(..) | Proof::SigningKey(..) => Vec::new(),
        };
        let of_key = self.identity.token_params.iter().map(|(_, value)| value.expose());
        let asked = self.parameters.iter().filter(|(name, _)| is_secret(name));
        let asked = asked.map(|(_, value)| value.as_str());
        let texts = of_client.into_iter().chain(of_key).chain(asked).chain(assertion);
        let texts = texts.map(|text| Bytes::copy_from_slice(text.as_bytes()));
        // However short: what is quoted is for people, and can be done without.
        let secrets = Secrets::new(texts, 1);
        match (secrets, self.given.load().secrets()) {
            (Some(secrets), Some(given)) => Some(secrets.and(given)),
            (secrets, given) => secrets.or_else(|| given.cloned()),
        }
    }
}

/// Whether a parameter of a token request is called like a secret.
fn is_secret(name: &str) -> bool {
    ["assertion", "password", "secret", "token"].iter().any(|word| {
        name.to_ascii_lowercase().contains(word) && !name.to_ascii_lowercase().ends_with("type")
    })
}

#[async_trait::async_trait]
impl TokenSource for OAuthSource {
    async fn fetch(&self) -> Result<Token, TokenError> {
        let (auth, first, next) = match (&self.identity.proof, &self.signer) {
            (Proof::Secret(auth, secret, next), _) => (*auth, secret, next.as_ref()),
            (_, Some(signer)) => return self.ask_signed(signer).await,
            (_, None) => return self.ask(&Evidence::Certificate).await,
        };
        let Some(next) = next else {
            return self.ask(&Evidence::Secret(auth, first)).await;
        };
        // The one that worked last comes first: an issuer must not see a wrong secret at each turn.
        let later = self.later.load(Ordering::Relaxed);
        let (liked, other) = if later { (next, first) } else { (first, next) };
        let refused = match self.ask(&Evidence::Secret(auth, liked)).await {
            Err(refused @ TokenError::Refused { .. }) => refused,
            judged => return judged,
        };
        let token = match self.ask(&Evidence::Secret(auth, other)).await {
            Ok(token) => token,
            Err(TokenError::Refused { .. }) => return Err(refused),
            // The other one may be right: what happened to it decides when to ask again.
            Err(error) => return Err(error),
        };
        self.later.store(!later, Ordering::Relaxed);
        let which = if later { "earlier" } else { "later" };
        info!(client = self.name, "One secret is refused; the {which} one is in use now.");
        Ok(token)
    }

    fn advice(&self, error: &TokenError) -> Option<&'static str> {
        advice::token(error, &self.identity)
    }

    fn clock_skew(&self) -> Option<f64> {
        self.clock.time(Instant::now()).map(|theirs| clock::ahead(theirs, clock::wall()))
    }
}

/// What is asked for besides a token. The configuration's word counts more than the key's.
fn parameters(client: &Client, identity: &Identity) -> Vec<(String, String)> {
    let scope = client.scope.as_ref().or(identity.scope.as_ref());
    let scope = scope.map(|scope| ("scope".to_owned(), scope.clone()));
    let is_new = |name: &str| client.token_params.iter().all(|(known, _)| known != name);
    let of_key = identity.token_params.iter().filter(|(name, _)| is_new(name));
    let of_key = of_key.map(|(name, value)| (name.clone(), value.expose().to_owned()));
    scope.into_iter().chain(client.token_params.iter().cloned()).chain(of_key).collect()
}

/// The body, up to [`MAX_ANSWER`]. Where its length is not announced, its end does not matter once a whole document is there:
/// some servers close without TLS's `close_notify`, others never.
async fn bounded_body(mut answer: Response, headers: &HeaderMap) -> Result<Vec<u8>, TokenError> {
    let mut body = Vec::new();
    loop {
        let chunk = match answer.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(_) if answer::is_whole(headers, &body) => break,
            Err(error) => return Err(failed(Failure::Library(error))),
        };
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(TokenError::Invalid(InvalidAnswer::TooLarge));
        }
        body.extend_from_slice(&chunk);
        if answer.content_length().is_none() && answer::is_whole(headers, &body) {
            break;
        }
    }
    Ok(body)
}

fn failed(failure: Failure) -> TokenError {
    match failure {
        Failure::Timeout => TokenError::Timeout,
        Failure::Library(error) if error.is_timeout() => TokenError::Timeout,
        Failure::Tunnel(error) => match TunnelRefusal::of(&error) {
            Some(refusal) => TokenError::Proxy(refusal),
            None => TokenError::Connect(error.to_string()),
        },
        other => TokenError::Connect(other.cause()),
    }
}
