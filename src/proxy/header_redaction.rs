//! Which secrets are removed from responses, and how they are removed from headers.
//!
//! Debugging gateways send a request back, with the secrets in it. These are for the upstream alone
//! and must not reach the caller. [`crate::redact::Redactor`] removes them from bodies.

use crate::redact::Secrets;
use crate::token::store::{TokenStore, token_changes};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use pingora::http::ResponseHeader;
use std::sync::Arc;

/// The tokens that go to an upstream: those of a route's client, and those of the other clients
/// that use it. No answer may hold any of them.
pub(super) struct UpstreamTokens {
    own: Arc<TokenStore>,
    others: Vec<Arc<TokenStore>>,
    /// All of them, and [`token_changes`] when they were put together. With many clients, that
    /// takes longer than the rest of a request.
    latest: ArcSwapOption<(u64, Option<Secrets>)>,
}

impl UpstreamTokens {
    pub(super) fn new(own: Arc<TokenStore>, others: Vec<Arc<TokenStore>>) -> Self {
        Self { own, others, latest: ArcSwapOption::empty() }
    }

    /// Every valid token.
    fn secrets(&self) -> Option<Secrets> {
        if self.others.is_empty() {
            return self.own.secrets();
        }
        let changes = token_changes();
        if let Some(latest) = self.latest.load().as_ref().filter(|latest| latest.0 == changes) {
            return latest.1.clone();
        }
        let others = self.others.iter().map(|store| store.secrets());
        let secrets = others.fold(self.own.secrets(), union);
        self.latest.store(Some(Arc::new((changes, secrets.clone()))));
        secrets
    }
}

/// The secrets that a response must not hold: every valid token for its upstream, and the secrets
/// that were added to the request.
pub(super) fn secrets_to_redact(
    tokens: &UpstreamTokens,
    added: Option<&Secrets>,
) -> Option<Secrets> {
    union(tokens.secrets(), added.cloned())
}

fn union(these: Option<Secrets>, those: Option<Secrets>) -> Option<Secrets> {
    match (these, those) {
        (Some(these), Some(those)) => Some(these.union(&those)),
        (these, those) => these.or(those),
    }
}

/// Words in the names of headers that hold secrets.
const SECRET_NAMES: [&str; 7] =
    ["auth", "cookie", "credential", "key", "password", "secret", "token"];
/// The shortest value that is removed. A shorter one may stand in any text.
const SHORTEST: usize = 8;

/// The secrets among the headers that a route adds, for example the key of an API gateway.
pub(super) fn secrets_in_headers(headers: &[(HeaderName, HeaderValue)]) -> Option<Secrets> {
    let is_secret =
        |name: &HeaderName| SECRET_NAMES.iter().any(|word| name.as_str().contains(word));
    let secret = headers.iter().filter(|(name, _)| is_secret(name));
    let values = secret.map(|(_, value)| Bytes::copy_from_slice(value.as_bytes()));
    Secrets::new(values, SHORTEST)
}

/// Removes secrets from a response's header. Returns how many there were.
pub(super) fn redact_header(secrets: &Secrets, response: &mut ResponseHeader) -> usize {
    redact_values(secrets, response)
        + redact_names(secrets, response)
        + redact_reason(secrets, response)
}

fn redact_values(secrets: &Secrets, response: &mut ResponseHeader) -> usize {
    let has_one = |value: &HeaderValue| secrets.occur_in(value.as_bytes());
    let mut names: Vec<HeaderName> = response
        .headers
        .iter()
        .filter(|(_, value)| has_one(value))
        .map(|(name, _)| name.clone())
        .collect();
    names.dedup();
    let mut removed = 0;
    for name in names {
        let values: Vec<_> = response.headers.get_all(&name).iter().cloned().collect();
        response.remove_header(&name);
        for value in values {
            let cleaned = match secrets.redact(value.as_bytes()) {
                Some((cleaned, count)) => {
                    removed += count;
                    HeaderValue::from_bytes(&cleaned)
                }
                None => Ok(value),
            };
            // A value stays valid without the secret. If it does not, it is dropped.
            if let Ok(cleaned) = cleaned {
                let _ = response.append_header(name.clone(), cleaned);
            }
        }
    }
    removed
}

/// Removes headers with a secret in their name. The map has names in lower case, but the caller
/// gets them as they were written.
fn redact_names(secrets: &Secrets, response: &mut ResponseHeader) -> usize {
    if !response.headers.keys().any(|name| secrets.fit_in(name.as_str().as_bytes())) {
        return 0;
    }
    let is_one = |name: &[u8]| secrets.occur_in_name(name) || secrets.occur_in(name);
    let in_lower_case = response.headers.keys().filter(|name| is_one(name.as_str().as_bytes()));
    let mut names: Vec<HeaderName> = in_lower_case.cloned().collect();
    if response.has_case() {
        let as_written = response.case_header_iter().filter(|(name, _)| is_one(name.as_slice()));
        names.extend(
            as_written.filter_map(|(name, _)| HeaderName::from_bytes(name.as_slice()).ok()),
        );
    }
    let count = |name: &HeaderName| usize::from(response.remove_header(name).is_some());
    names.iter().map(count).sum()
}

/// Removes the reason phrase if it holds a secret: a response needs none.
fn redact_reason(secrets: &Secrets, response: &mut ResponseHeader) -> usize {
    let reason = response.get_reason_phrase().unwrap_or_default().as_bytes();
    if !secrets.occur_in(reason) {
        return 0;
    }
    let _ = response.set_reason_phrase(None);
    1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Instant;
    use crate::token::Token;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use std::time::Duration;

    const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJqdGkiOiJ4In0.c2ln";

    fn secrets(secret: &str) -> Secrets {
        Secrets::new([Bytes::copy_from_slice(secret.as_bytes())], 8).unwrap()
    }

    #[tokio::test]
    async fn the_tokens_of_all_clients_of_an_upstream_are_secret_as_soon_as_they_are_published() {
        let stores = [(); 3].map(|()| Arc::new(TokenStore::new()));
        let [own, others @ ..] = stores.clone();
        let tokens = UpstreamTokens::new(own, others.to_vec());
        let knows = |token: &str| {
            tokens.secrets().is_some_and(|secrets| secrets.occur_in(token.as_bytes()))
        };
        assert!(!knows("token-0-0"));
        for round in 0..3 {
            for (index, store) in stores.iter().enumerate() {
                let text = format!("token-{index}-{round}");
                assert!(!knows(&text), "{text}");
                let token = Token {
                    authorization: HeaderValue::try_from(format!("Bearer {text}")).unwrap(),
                    lifetime: Duration::from_secs(100),
                    clock_skew: None,
                };
                store.publish(token, Instant::now());
                assert!(knows(&text) && knows("token-0-0"), "{text}");
            }
        }
        let replaced = TokenStore::new();
        let token = Token {
            authorization: HeaderValue::from_static("Bearer replaced-client"),
            lifetime: Duration::from_secs(100),
            clock_skew: None,
        };
        replaced.publish(token, Instant::now());
        stores[1].add_secrets_of(&replaced);
        assert!(knows("replaced-client"));
    }

    #[test]
    fn a_token_in_a_header_is_removed_from_every_value() {
        let mut response = ResponseHeader::build(200, None).unwrap();
        let basic = STANDARD.encode(format!("id:{TOKEN}"));
        response.append_header("x-debug", "first").unwrap();
        response.append_header("x-debug", format!("a {TOKEN} b {TOKEN}")).unwrap();
        response.append_header("x-debug", format!("Basic {basic}")).unwrap();
        assert_eq!(redact_header(&secrets(TOKEN), &mut response), 3);
        let values: Vec<_> = response.headers.get_all("x-debug").iter().collect();
        let [first, second, third] = values[..] else { panic!("{values:?}") };
        assert_eq!(
            (first, second),
            (&"first".parse().unwrap(), &"a [token removed] b [token removed]".parse().unwrap())
        );
        assert_eq!(third.to_str().unwrap().trim_end_matches('='), "Basic aWQ6[token removed]");
    }

    #[test]
    fn of_the_headers_that_a_route_adds_keys_are_secret_and_settings_are_not() {
        let header = |name: &'static str, value: &'static str| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let headers = [header("apikey", "0123456789"), header("x-team", "analytics")];
        let secrets = secrets_in_headers(&headers).unwrap();
        assert!(secrets.occur_in(b"apikey: 0123456789") && !secrets.occur_in(b"x-team: analytics"));
        assert!(secrets_in_headers(&headers[1..]).is_none());
    }

    #[test]
    fn a_token_in_a_name_or_a_reason_goes_with_it() {
        let mut response = ResponseHeader::build(200, None).unwrap();
        response.set_reason_phrase(Some(&format!("OK {TOKEN}"))).unwrap();
        let name = TOKEN.replace('.', "-");
        let encoded = STANDARD.encode(&name).replace('=', "");
        response.append_header(name.clone(), "x").unwrap();
        response.append_header(name.to_ascii_lowercase(), "x").unwrap();
        response.append_header(encoded, "x").unwrap();
        redact_header(&secrets(&name), &mut response);
        assert!(response.headers.is_empty(), "{:?}", response.headers);
        redact_header(&secrets(TOKEN), &mut response);
        assert!(!response.get_reason_phrase().unwrap_or_default().contains(TOKEN));
    }
}
