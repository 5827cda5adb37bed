//! The tokens of a client that are still valid: who has one acts with the client's rights, be it the current one
//! or one before it.

use super::Token;
use crate::clock::Instant;
use crate::redact::Secrets;
use bytes::Bytes;

/// So many are remembered, those that end last. At their usual pace there are two; heals bring more, and so do clients
/// that a reload has replaced. Where they begin alike, as the JWTs of one issuer do, a text that does not hold this
/// beginning is searched once for all of them.
const MOST: usize = 64;
/// A shorter token is none of SAP's, and may stand in any text.
const SHORTEST: usize = 8;

/// Tokens and their ends, the latest one first, then by their ends.
#[derive(Default)]
pub(super) struct Valid {
    tokens: Vec<(Bytes, Instant)>,
    secrets: Option<Secrets>,
}

impl Valid {
    /// The same with a token that was asked for at this moment, and without those that have ended by then.
    pub(super) fn with(&self, token: &Token, asked: Instant) -> Self {
        let new = (Bytes::copy_from_slice(token.text().as_bytes()), asked + token.lifetime);
        Self::of(Some(new), &self.tokens, asked)
    }

    /// The same with those of another client that are still valid.
    pub(super) fn and(&self, other: &Self, now: Instant) -> Self {
        let is_new =
            |(text, _): &&(Bytes, Instant)| !self.tokens.iter().any(|(known, _)| known == text);
        let others = self.tokens.iter().skip(1).chain(other.tokens.iter().filter(is_new));
        Self::of(self.tokens.first().cloned(), &others.cloned().collect::<Vec<_>>(), now)
    }

    /// The latest token, and of others those that have not ended.
    fn of(latest: Option<(Bytes, Instant)>, others: &[(Bytes, Instant)], now: Instant) -> Self {
        let mut others: Vec<_> = others.iter().filter(|(_, end)| *end > now).cloned().collect();
        others.sort_by_key(|(_, end)| std::cmp::Reverse(*end));
        let tokens: Vec<_> = latest.into_iter().chain(others).take(MOST).collect();
        let texts = tokens.iter().map(|(text, _)| text.clone());
        Self { secrets: Secrets::new(texts, SHORTEST), tokens }
    }

    /// What must not be seen of them.
    pub(super) const fn secrets(&self) -> Option<&Secrets> {
        self.secrets.as_ref()
    }
}

/// Nothing prints a token.
impl std::fmt::Debug for Valid {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Valid({})", self.tokens.len())
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
        let knows = |valid: &Valid, text: &str| valid.secrets().unwrap().are_in(text.as_bytes());
        let valid = Valid::default().with(&token("the-first-one", 100), now);
        assert!(knows(&valid, "the-first-one"));
        let later = now + Duration::from_secs(50);
        let valid = valid.with(&token("the-second-one", 100), later);
        assert!(knows(&valid, "the-first-one") && knows(&valid, "the-second-one"));
        let valid = valid.with(&token("the-third-one", 100), now + Duration::from_secs(100));
        assert!(!knows(&valid, "the-first-one") && knows(&valid, "the-second-one"));
        let other = Valid::default().with(&token("of-another-client", 100), later);
        let both = valid.and(&other, now + Duration::from_secs(149));
        for text in ["the-second-one", "the-third-one", "of-another-client"] {
            assert!(knows(&both, text), "{text}");
        }
        let both = valid.and(&other, now + Duration::from_secs(150));
        assert!(knows(&both, "the-third-one") && !knows(&both, "of-another-client"));
        let short = Valid::default().with(&token("x", 100), now);
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
        let mut valid = Valid::default();
        for number in 0..2 * MOST as u64 {
            // Every other one has a long life.
            valid = valid.with(&token(number, if number % 2 == 0 { 43_200 } else { 600 }), now);
        }
        let knows = |number: usize| {
            valid.secrets().unwrap().are_in(format!("token-{number:04}").as_bytes())
        };
        assert_eq!(valid.tokens.len(), MOST);
        assert!(knows(2 * MOST - 1), "the current one, however short its life");
        for number in (2..2 * MOST).step_by(2) {
            assert!(knows(number), "{number}");
        }
        assert!(!knows(1), "of those that end first");
    }
}
