//! Parser of the issuer's answer. Pure, so that every malformed answer has a tested result.

pub(super) mod body;

use super::access_token::Token;
use super::claims::Claims;
use super::error::{InvalidAnswer, TokenError};
use crate::{clock, retry_after};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use std::time::{Duration, SystemTime};

/// Lifetime of a token when the answer and the token itself give none.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(600);
/// Longest lifetime that is accepted; longer ones are cut to it.
const MAX_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// Fields of a successful answer that are read (RFC 6749 section 5.1).
#[derive(Deserialize)]
struct Success {
    access_token: Option<Value>,
    token_type: Option<Value>,
    expires_in: Option<Value>,
}

/// Fields of an error answer (RFC 6749 section 5.2).
#[derive(Deserialize)]
struct Failure {
    error: Option<String>,
    error_description: Option<String>,
}

/// Parses a whole answer into a token or an error. `now` is the local time, which alone decides
/// nothing.
///
/// # Errors
/// The kind of failure that the status or the content means.
pub fn parse_answer(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    now: SystemTime,
) -> Result<Token, TokenError> {
    match status.as_u16() {
        200 => token(headers, body, now).map_err(TokenError::Invalid),
        // RFC 6749 says 200. Another status of success with a token means the same; without JSON,
        // it comes from another server.
        201..=299 => token(headers, body, now).map_err(|invalid| match invalid {
            InvalidAnswer::NotJson => TokenError::NotAnIssuer { status },
            invalid => TokenError::Invalid(invalid),
        }),
        400 | 401 | 403 => Err(TokenError::Refused { status, reason: reason(body) }),
        429 => Err(TokenError::RateLimited { retry_after: retry_after::read(headers, now) }),
        408 | 500..=599 => {
            Err(TokenError::Server { status, retry_after: retry_after::read(headers, now) })
        }
        _ => Err(TokenError::NotAnIssuer { status }),
    }
}

fn token(headers: &HeaderMap, body: &[u8], now: SystemTime) -> Result<Token, InvalidAnswer> {
    let answer: Success = serde_json::from_slice(body).map_err(|_| InvalidAnswer::NotJson)?;
    let access_token = match &answer.access_token {
        Some(Value::String(text)) if !text.trim().is_empty() => text.trim(),
        _ => return Err(InvalidAnswer::NoAccessToken),
    };
    match &answer.token_type {
        Some(Value::String(text)) if is_bearer(text) => {}
        None => {}
        Some(_) => return Err(InvalidAnswer::TokenType),
    }
    let expires_in = match &answer.expires_in {
        None | Some(Value::Null) => None,
        Some(value) => Some(lifetime(value)?),
    };
    let remaining = match Claims::of(access_token) {
        None => None,
        Some(claims) => claims.remaining(retry_after::server_time(headers), now)?,
    };
    // The earlier end counts: an issuer's cache returns tokens that have lived for a while together
    // with the full `expires_in`.
    let lifetime = expires_in.into_iter().chain(remaining).min().unwrap_or(DEFAULT_LIFETIME);
    Ok(Token {
        authorization: authorization(access_token)?,
        lifetime: lifetime.min(MAX_LIFETIME),
        clock_skew: clock_skew(headers, now),
    })
}

/// Whether a `token_type` means bearer, in any case of its letters (RFC 6749 section 5.1). Some
/// issuers write `BearerToken`, or nothing.
fn is_bearer(token_type: &str) -> bool {
    let letters = token_type.bytes().filter(u8::is_ascii_alphanumeric);
    let letters: Vec<u8> = letters.map(|byte| byte.to_ascii_lowercase()).collect();
    matches!(&letters[..], b"bearer" | b"bearertoken") || token_type.trim().is_empty()
}

/// Returns `Bearer` and the token, if it is a `b64token` (RFC 6750 section 2.1).
fn authorization(access_token: &str) -> Result<HeaderValue, InvalidAnswer> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if !access_token.bytes().all(allowed) {
        return Err(InvalidAnswer::NotABearerToken);
    }
    let mut value = HeaderValue::try_from(format!("Bearer {access_token}"))
        .map_err(|_| InvalidAnswer::NotABearerToken)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Returns the value of `expires_in`: a number, or a number in a string, which some issuers send.
fn lifetime(value: &Value) -> Result<Duration, InvalidAnswer> {
    let seconds = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    match seconds {
        Some(seconds) if seconds >= 1.0 => {
            Ok(Duration::try_from_secs_f64(seconds).unwrap_or(MAX_LIFETIME))
        }
        _ => Err(InvalidAnswer::Lifetime),
    }
}

fn clock_skew(headers: &HeaderMap, now: SystemTime) -> Option<f64> {
    retry_after::server_time(headers).map(|time| clock::ahead(time, now))
}

/// Returns the issuer's reason for a refusal, if it is an OAuth error: ", code: description".
///
/// The text goes to logs, so it is bounded and has printable characters only.
fn reason(body: &[u8]) -> String {
    const MOST: usize = 160;
    let Ok(failure) = serde_json::from_slice::<Failure>(body) else {
        return String::new();
    };
    let clean = |text: String| -> String {
        text.chars()
            .filter(|character| character.is_ascii_graphic() || *character == ' ')
            .take(MOST)
            .collect()
    };
    match (failure.error.map(clean), failure.error_description.map(clean)) {
        (Some(error), Some(description)) => format!(", {error}: {description}"),
        (Some(text), None) | (None, Some(text)) => format!(", {text}"),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::labels::Label;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use http::header::DATE;
    use proptest::prelude::*;
    use std::time::UNIX_EPOCH;

    fn parsed(body: &str) -> Result<Token, TokenError> {
        parse_answer(StatusCode::OK, &HeaderMap::new(), body.as_bytes(), UNIX_EPOCH)
    }

    fn lifetime_of(body: &str) -> u64 {
        parsed(body).unwrap().lifetime.as_secs()
    }

    fn invalid(body: &str) -> InvalidAnswer {
        match parsed(body) {
            Err(TokenError::Invalid(why)) => why,
            other => panic!("{body}: {other:?}"),
        }
    }

    fn jwt(payload: &str) -> String {
        format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn a_good_answer_becomes_a_sensitive_bearer_value() {
        let token =
            parsed(r#"{"access_token":"a.b-c_d","token_type":"bearer","expires_in":43199}"#)
                .unwrap();
        assert_eq!(token.authorization, "Bearer a.b-c_d");
        assert!(token.authorization.is_sensitive());
        assert_eq!(token.lifetime.as_secs(), 43_199);
        assert!(!format!("{token:?}").contains("a.b-c_d"));
    }

    #[test]
    fn every_form_of_expires_in_has_its_result() {
        let with = |value: &str| format!(r#"{{"access_token":"t","expires_in":{value}}}"#);
        assert_eq!(lifetime_of(&with("60")), 60);
        assert_eq!(lifetime_of(&with("59.9")), 59);
        assert_eq!(lifetime_of(&with(r#""3600""#)), 3600);
        assert_eq!(lifetime_of(&with("1e300")), MAX_LIFETIME.as_secs());
        assert_eq!(lifetime_of(&with("18446744073709551616")), MAX_LIFETIME.as_secs());
        assert_eq!(lifetime_of(&with("null")), 600);
        for wrong in ["0", "-1", "0.5", r#""soon""#, r#""NaN""#, r#""""#, "[]", "{}", "true"] {
            assert_eq!(invalid(&with(wrong)), InvalidAnswer::Lifetime, "{wrong}");
        }
    }

    #[test]
    fn a_missing_expires_in_is_read_from_the_jwt_or_else_ten_minutes() {
        let lifetime = |token: &str| lifetime_of(&format!(r#"{{"access_token":"{token}"}}"#));
        assert_eq!(lifetime(&jwt(r#"{"iat":1000,"exp":4600}"#)), 3600);
        assert_eq!(lifetime(&jwt(r#"{"iat":4600,"exp":1000}"#)), 600);
        assert_eq!(lifetime(&jwt(r#"{"exp":4600}"#)), 600);
        assert_eq!(lifetime("e30.%%%.sig".replace('%', "~").as_str()), 600);
        assert_eq!(lifetime("opaque"), 600);
    }

    #[test]
    fn answers_without_a_usable_token_are_distinguished() {
        assert_eq!(invalid("<html>login</html>"), InvalidAnswer::NotJson);
        assert_eq!(invalid(""), InvalidAnswer::NotJson);
        assert_eq!(invalid("[]"), InvalidAnswer::NotJson);
        assert_eq!(invalid("{}"), InvalidAnswer::NoAccessToken);
        assert_eq!(invalid(r#"{"access_token":""}"#), InvalidAnswer::NoAccessToken);
        assert_eq!(invalid(r#"{"access_token":7}"#), InvalidAnswer::NoAccessToken);
        assert_eq!(invalid(r#"{"access_token":"a\r\nX: y"}"#), InvalidAnswer::NotABearerToken);
        assert_eq!(invalid(r#"{"access_token":"ä"}"#), InvalidAnswer::NotABearerToken);
        assert_eq!(invalid(r#"{"access_token":"t","token_type":"mac"}"#), InvalidAnswer::TokenType);
        assert_eq!(invalid(r#"{"access_token":"t","token_type":1}"#), InvalidAnswer::TokenType);
        assert_eq!(
            invalid(r#"{"access_token":"t","token_type":"bear"}"#),
            InvalidAnswer::TokenType
        );
    }

    #[test]
    fn a_bearer_token_is_one_under_all_its_names() {
        for name in ["bearer", "BEARER", "BearerToken", "Bearer Token", " bearer ", ""] {
            let answer = format!(r#"{{"access_token":"t","token_type":"{name}"}}"#);
            assert!(parsed(&answer).is_ok(), "{name}");
        }
        let surrounded = parsed(r#"{"access_token":" t\n","token_type":null}"#).unwrap();
        assert_eq!(surrounded.authorization, "Bearer t");
    }

    #[test]
    fn a_token_is_one_with_any_status_of_success() {
        let parsed = |status: u16, body: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            parse_answer(status, &HeaderMap::new(), body.as_bytes(), UNIX_EPOCH)
        };
        for status in [200, 201, 202, 203, 206, 299] {
            assert!(parsed(status, r#"{"access_token":"t"}"#).is_ok(), "{status}");
            let outcome = parsed(status, r#"{"access_token":""}"#).unwrap_err().outcome().label();
            assert_eq!(outcome, "invalid_answer", "{status}");
        }
        assert_eq!(
            parsed(302, r#"{"access_token":"t"}"#).unwrap_err().outcome().label(),
            "not_an_issuer"
        );
    }

    /// Returns the lifetime of a token with these times in it, from an issuer whose clock says
    /// `date`, by a local clock that says `now`.
    fn lifetime_by_clocks(
        expires_in: &str,
        claims: &str,
        date: Option<u64>,
        now: u64,
    ) -> Result<u64, InvalidAnswer> {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let date = date.map(|date| (DATE, httpdate::fmt_http_date(at(date)).parse().unwrap()));
        let body = format!(r#"{{"access_token":"{}"{expires_in}}}"#, jwt(claims));
        let parsed =
            parse_answer(StatusCode::OK, &date.into_iter().collect(), body.as_bytes(), at(now));
        match parsed {
            Ok(token) => Ok(token.lifetime.as_secs()),
            Err(TokenError::Invalid(why)) => Err(why),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_earlier_of_expires_in_and_the_tokens_own_end_counts() {
        const HOUR: &str = r#","expires_in":3600"#;
        let fresh = r#"{"iat":10000,"exp":13600}"#;
        for (expires_in, claims, date, lifetime) in [
            (HOUR, fresh, Some(10_000), 3600),
            (HOUR, fresh, None, 3600),
            (r#","expires_in":60"#, fresh, Some(10_000), 60),
            // From the issuer's cache.
            (HOUR, fresh, Some(13_500), 100),
            ("", fresh, Some(13_500), 100),
            (HOUR, r#"{"iat":10000,"exp":10300}"#, None, 300),
            (HOUR, r#"{"exp":10300}"#, Some(10_000), 300),
            // Only the local clock says what time it is.
            (HOUR, r#"{"exp":10300}"#, None, 3600),
            // The server in front of the issuer has another clock.
            ("", fresh, Some(2_000), 3600),
            // Times that no valid token has.
            (HOUR, r#"{"iat":10000,"exp":0}"#, Some(10_000), 3600),
            (HOUR, r#"{"iat":"soon","exp":"later"}"#, Some(10_000), 3600),
        ] {
            // A machine that is two hours ahead or behind gets the same.
            for local in [10_000, 17_200, 2_800] {
                let found = lifetime_by_clocks(expires_in, claims, date, local);
                assert_eq!(found, Ok(lifetime), "{expires_in} {claims} {date:?} {local}");
            }
        }
    }

    #[test]
    fn a_token_has_expired_only_if_both_clocks_say_so() {
        let old = r#"{"iat":10000,"exp":13600}"#;
        let lifetime =
            |date, local| lifetime_by_clocks(r#","expires_in":3600"#, old, Some(date), local);
        assert_eq!(lifetime(20_000, 20_000), Err(InvalidAnswer::Expired));
        assert_eq!(lifetime(13_600, 13_600), Err(InvalidAnswer::Expired));
        assert_eq!(lifetime(20_000, 10_000), Ok(3600), "a wrong clock in front of the issuer");
        assert_eq!(lifetime(10_000, 20_000), Ok(3600), "the local clock is wrong");
    }

    #[test]
    fn statuses_are_distinguished() {
        let label = |status: u16| {
            parse_answer(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), b"", UNIX_EPOCH)
                .unwrap_err()
                .outcome()
                .label()
        };
        assert_eq!([400, 401, 403].map(label), ["refused"; 3]);
        assert_eq!([408, 500, 502, 503, 504].map(label), ["server_error"; 5]);
        assert_eq!([201, 204, 302, 404, 405].map(label), ["not_an_issuer"; 5]);
        assert_eq!(label(429), "rate_limited");
    }

    #[test]
    fn a_refusal_carries_the_issuers_words_and_nothing_unprintable() {
        let body =
            "{\"error\":\"invalid_client\",\"error_description\":\"Bad\\ncredentials\\u001b[0m\"}";
        let error =
            parse_answer(StatusCode::UNAUTHORIZED, &HeaderMap::new(), body.as_bytes(), UNIX_EPOCH)
                .unwrap_err()
                .to_string();
        assert!(error.contains("invalid_client: Badcredentials[0m"), "{error}");
    }

    #[test]
    fn the_issuers_clock_is_compared_with_the_local_one() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let date = httpdate::fmt_http_date(now - Duration::from_secs(90));
        let headers = HeaderMap::from_iter([(DATE, date.parse().unwrap())]);
        assert_eq!(clock_skew(&headers, now), Some(-90.0));
    }

    proptest! {
        #[test]
        fn no_answer_panics_and_every_accepted_token_has_a_bounded_life(
            status in 100u16..600, body in prop::collection::vec(any::<u8>(), 0..200)
        ) {
            let status = StatusCode::from_u16(status).unwrap();
            let _ = parse_answer(status, &HeaderMap::new(), &body, UNIX_EPOCH);
        }

        #[test]
        fn no_expires_in_panics(seconds in any::<f64>()) {
            if let Some(number) = serde_json::Number::from_f64(seconds) {
                match lifetime(&Value::Number(number)) {
                    Ok(life) => prop_assert!(seconds >= 1.0 && !life.is_zero()),
                    Err(_) => prop_assert!(seconds < 1.0),
                }
            }
        }
    }
}
