//! Claims of an access token. Its signature is for the resource server to check.

use super::error::InvalidAnswer;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use std::time::{Duration, SystemTime};

/// Claims that help people. SAP's tokens have all of them; an opaque token has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// The client that the token was issued to.
    pub client_id: Option<String>,
    /// The scopes that the token grants.
    pub scopes: Vec<String>,
    /// The resource servers that the token is for.
    pub audience: Vec<String>,
    /// The identity zone, which is the subaccount.
    pub zone: Option<String>,
    /// The issuer.
    pub issuer: Option<String>,
    /// When the token was issued.
    pub issued: Option<SystemTime>,
    /// When the token expires.
    pub expires: Option<SystemTime>,
}

impl Claims {
    /// Returns the claims of a JWT; `None` for an opaque token.
    pub fn of(token: &str) -> Option<Self> {
        let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
        let claims: Value = serde_json::from_slice(&payload).ok()?;
        let claims = claims.as_object()?;
        let text = |name: &str| claims.get(name)?.as_str().map(str::to_owned);
        let time = |name: &str| {
            let seconds = Duration::try_from_secs_f64(claims.get(name)?.as_f64()?).ok()?;
            SystemTime::UNIX_EPOCH.checked_add(seconds)
        };
        Some(Self {
            client_id: text("client_id").or_else(|| text("cid")).or_else(|| text("azp")),
            scopes: claims.get("scope").map(words).unwrap_or_default(),
            audience: claims.get("aud").map(words).unwrap_or_default(),
            zone: text("zid"),
            issuer: text("iss"),
            issued: time("iat"),
            expires: time("exp"),
        })
    }

    /// Returns how long the token is still valid by the issuer's clock.
    ///
    /// `date` is the issuer's time when it returned the token; without it, the time of issue is
    /// used. `local` is the local time, which may be wrong and decides nothing alone. `None` means
    /// that the claims do not say.
    ///
    /// # Errors
    /// The token has expired, by both clocks.
    pub(super) fn remaining(
        &self,
        date: Option<SystemTime>,
        local: SystemTime,
    ) -> Result<Option<Duration>, InvalidAnswer> {
        let whole = self.lifetime();
        let Some(end) = self.expires.filter(|_| whole.is_some() || self.issued.is_none()) else {
            return Ok(None);
        };
        match date.map(|date| end.duration_since(date).unwrap_or_default()) {
            Some(left) if left.is_zero() && end <= local => Err(InvalidAnswer::Expired),
            Some(left) if left.is_zero() => Ok(whole),
            left => Ok(left.into_iter().chain(whole).min()),
        }
    }

    /// Returns how long the token is valid from when it was issued.
    pub fn lifetime(&self) -> Option<Duration> {
        let lifetime = self.expires?.duration_since(self.issued?).ok()?;
        (!lifetime.is_zero()).then_some(lifetime)
    }
}

/// Returns the items of a list, or the words of a text.
fn words(value: &Value) -> Vec<String> {
    match value {
        Value::Array(values) => {
            values.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        Value::String(text) => text.split_whitespace().map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn token(claims: &Value) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    #[test]
    fn claims_are_read_in_both_of_their_forms() {
        let sap = json!({"cid": "sb-1", "scope": ["a", "b"], "aud": ["x"], "zid": "z",
            "iss": "https://i.example/oauth/token", "iat": 1000, "exp": 44_200});
        let claims = Claims::of(&token(&sap)).unwrap();
        assert_eq!(claims.client_id.as_deref(), Some("sb-1"));
        assert_eq!(
            (&claims.scopes[..], &claims.audience[..]),
            (&["a".into(), "b".into()][..], &["x".into()][..])
        );
        assert_eq!(claims.lifetime(), Some(Duration::from_secs(43_200)));
        let others = Claims::of(&token(&json!({"scope": "a b", "aud": "x", "exp": 1}))).unwrap();
        assert_eq!(others.scopes, ["a", "b"]);
        assert_eq!(others.lifetime(), None);
    }

    #[test]
    fn what_is_no_jwt_has_no_claims() {
        for opaque in ["", "abc", "a.b.c", "a..c", "e30.W10.c", "e30.MQ.c"] {
            assert_eq!(Claims::of(opaque), None, "{opaque}");
        }
        assert_eq!(Claims::of(&token(&json!({"exp": -1, "iat": 1e300}))).unwrap().lifetime(), None);
    }
}
