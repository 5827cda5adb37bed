//! The tokens of a client that are still valid: who has one acts with the client's rights, be it the current one
//! or one before it.

use super::Token;
use super::instant::Instant;
use crate::redact::Secrets;
use bytes::Bytes;

/// So many are remembered. At their usual pace there are two; heals and short lives bring more.
const MOST: usize = 8;
/// A shorter token is none of SAP's, and may stand in any text.
const SHORTEST: usize = 8;

/// Tokens and their ends, the latest first.
#[derive(Default)]
pub(super) struct Valid {
    tokens: Vec<(Bytes, Instant)>,
    secrets: Option<Secrets>,
}

impl Valid {
    /// The same with a token that was asked for at this moment, and without those that have ended by then.
    pub(super) fn with(&self, token: &Token, asked: Instant) -> Self {
        let new = (Bytes::copy_from_slice(token.text().as_bytes()), asked + token.lifetime);
        let others = self.tokens.iter().filter(|(_, end)| *end > asked).cloned();
        let tokens: Vec<_> = std::iter::once(new).chain(others).take(MOST).collect();
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
        let short = Valid::default().with(&token("x", 100), now);
        assert!(short.secrets().is_none(), "it may stand in any text");
    }
}
