//! Tokens of a client that are still valid. The holder of any of them acts with the client's
//! rights, whether it is the current one or an earlier one, so none of them may reach a log or
//! another upstream.

use super::access_token::Token;
use crate::clock::Instant;
use crate::redact::Secrets;
use bytes::Bytes;

/// The largest number of tokens that are kept: the latest one, and those that expire last.
///
/// At the usual pace of refreshes there are two. Heals add more, and so do clients that a reload
/// has replaced. Tokens that begin alike, as the JWTs of one issuer do, cost one search of a text
/// that does not hold that beginning.
const MOST: usize = 64;
/// Length of the shortest token that is kept. SAP's are longer, and a shorter one may occur in any
/// text.
const SHORTEST: usize = 8;

/// Tokens with their expiry: the latest one first, then those that expire last.
#[derive(Default)]
pub(super) struct IssuedTokens {
    tokens: Vec<(Bytes, Instant)>,
    secrets: Option<Secrets>,
}

impl IssuedTokens {
    /// Returns these tokens with one that was requested at `sent`, and without those that had
    /// expired by then.
    pub(super) fn with(&self, token: &Token, sent: Instant) -> Self {
        // The text is needed to find the token in what others send.
        let new = (Bytes::copy_from_slice(token.text().as_bytes()), sent + token.lifetime);
        Self::of(Some(new), &self.tokens, sent)
    }

    /// Returns these tokens with those of another client that are still valid.
    pub(super) fn merge(&self, other: &Self, now: Instant) -> Self {
        let is_new =
            |(text, _): &&(Bytes, Instant)| !self.tokens.iter().any(|(known, _)| known == text);
        let others = self.tokens.iter().skip(1).chain(other.tokens.iter().filter(is_new));
        Self::of(self.tokens.first().cloned(), &others.cloned().collect::<Vec<_>>(), now)
    }

    fn of(latest: Option<(Bytes, Instant)>, others: &[(Bytes, Instant)], now: Instant) -> Self {
        let mut others: Vec<_> = others.iter().filter(|(_, end)| *end > now).cloned().collect();
        others.sort_by_key(|(_, end)| std::cmp::Reverse(*end));
        let tokens: Vec<_> = latest.into_iter().chain(others).take(MOST).collect();
        let texts = tokens.iter().map(|(text, _)| text.clone());
        Self { secrets: Secrets::new(texts, SHORTEST), tokens }
    }

    /// Returns a searcher for these tokens.
    pub(super) const fn secrets(&self) -> Option<&Secrets> {
        self.secrets.as_ref()
    }
}

/// Prints no token.
impl std::fmt::Debug for IssuedTokens {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "IssuedTokens({})", self.tokens.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_token_is_a_secret_until_its_end_and_not_only_until_the_next_one() {
        let token = |text: &str, seconds| Token {
            authorization: HeaderValue::try_from(format!("Bearer {text}")).unwrap(),
            lifetime: Duration::from_secs(seconds),
            clock_skew: None,
        };
        let now = Instant::now();
        let knows =
            |issued: &IssuedTokens, text: &str| issued.secrets().unwrap().occur_in(text.as_bytes());
        let issued = IssuedTokens::default().with(&token("the-first-one", 100), now);
        assert!(knows(&issued, "the-first-one"));
        let later = now + Duration::from_secs(50);
        let issued = issued.with(&token("the-second-one", 100), later);
        assert!(knows(&issued, "the-first-one") && knows(&issued, "the-second-one"));
        let issued = issued.with(&token("the-third-one", 100), now + Duration::from_secs(100));
        assert!(!knows(&issued, "the-first-one") && knows(&issued, "the-second-one"));
        let other = IssuedTokens::default().with(&token("of-another-client", 100), later);
        let both = issued.merge(&other, now + Duration::from_secs(149));
        for text in ["the-second-one", "the-third-one", "of-another-client"] {
            assert!(knows(&both, text), "{text}");
        }
        let both = issued.merge(&other, now + Duration::from_secs(150));
        assert!(knows(&both, "the-third-one") && !knows(&both, "of-another-client"));
        let short = IssuedTokens::default().with(&token("x", 100), now);
        assert!(short.secrets().is_none(), "it may stand in any text");
    }

    #[tokio::test(start_paused = true)]
    async fn of_more_tokens_than_are_remembered_those_go_that_end_first() {
        let token = |number: u64, seconds| Token {
            authorization: HeaderValue::try_from(format!("Bearer token-{number:04}")).unwrap(),
            lifetime: Duration::from_secs(seconds),
            clock_skew: None,
        };
        let now = Instant::now();
        let mut issued = IssuedTokens::default();
        for number in 0..2 * MOST as u64 {
            // Every other one has a long life.
            issued = issued.with(&token(number, if number % 2 == 0 { 43_200 } else { 600 }), now);
        }
        let knows = |number: usize| {
            issued.secrets().unwrap().occur_in(format!("token-{number:04}").as_bytes())
        };
        assert_eq!(issued.tokens.len(), MOST);
        assert!(knows(2 * MOST - 1), "the current one, however short its life");
        for number in (2..2 * MOST).step_by(2) {
            assert!(knows(number), "{number}");
        }
        assert!(!knows(1), "of those that end first");
    }
}
