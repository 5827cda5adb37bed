//! The issuer's answer: pure, so that every malformed one has a tested result.

use super::claims::Claims;
use super::{InvalidAnswer, Token, TokenError};
use crate::retry_after;
use http::header::DATE;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use std::time::{Duration, SystemTime};

/// The most that is read of an answer. A token of 16 KiB is the largest SAP accepts.
pub const MAX_ANSWER: usize = 64 * 1024;

/// The lifetime of a token that tells none, neither beside it nor inside it.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(600);
/// The longest lifetime that is believed; longer ones are cut to it.
const MAX_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// The answer's fields that matter (RFC 6749 section 5.1). Others are ignored.
#[derive(Deserialize)]
struct Success {
    access_token: Option<Value>,
    token_type: Option<Value>,
    expires_in: Option<Value>,
}

/// RFC 6749 section 5.2.
#[derive(Deserialize)]
struct Failure {
    error: Option<String>,
    error_description: Option<String>,
}

/// Judges a whole answer. `body` is at most [`MAX_ANSWER`] bytes long.
///
/// # Errors
/// What the status or the content says, by kind.
pub fn judge(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    now: SystemTime,
) -> Result<Token, TokenError> {
    match status.as_u16() {
        200 => token(headers, body, now).map_err(TokenError::Invalid),
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
        Some(Value::String(text)) if !text.trim().is_empty() => text.as_str(),
        _ => return Err(InvalidAnswer::NoAccessToken),
    };
    match &answer.token_type {
        // RFC 6749 requires it, and says that its letters' case does not matter.
        Some(Value::String(text)) if text.eq_ignore_ascii_case("bearer") => {}
        None => {}
        Some(_) => return Err(InvalidAnswer::TokenType),
    }
    let lifetime = match &answer.expires_in {
        None | Some(Value::Null) => {
            let claims = Claims::of(access_token);
            claims.and_then(|claims| claims.lifetime()).unwrap_or(DEFAULT_LIFETIME)
        }
        Some(told) => lifetime(told)?,
    };
    Ok(Token {
        authorization: authorization(access_token)?,
        lifetime: lifetime.min(MAX_LIFETIME),
        clock_skew: clock_skew(headers, now),
    })
}

/// `Bearer` and the token, if it is a `b64token` (RFC 6750 section 2.1).
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

/// `expires_in` as a number, or as a number in a string, which some issuers send.
fn lifetime(told: &Value) -> Result<Duration, InvalidAnswer> {
    let seconds = match told {
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
    let told = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    Some(match told.duration_since(now) {
        Ok(ahead) => ahead.as_secs_f64(),
        Err(behind) => -behind.duration().as_secs_f64(),
    })
}

/// The issuer's own words behind a refusal, where they are an OAuth error: ", code: description".
///
/// Only printable characters and only so many: this text goes to logs.
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
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;
    use std::time::UNIX_EPOCH;

    fn judged(body: &str) -> Result<Token, TokenError> {
        judge(StatusCode::OK, &HeaderMap::new(), body.as_bytes(), UNIX_EPOCH)
    }

    fn lifetime_of(body: &str) -> u64 {
        judged(body).unwrap().lifetime.as_secs()
    }

    fn invalid(body: &str) -> InvalidAnswer {
        match judged(body) {
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
            judged(r#"{"access_token":"a.b-c_d","token_type":"bearer","expires_in":43199}"#)
                .unwrap();
        assert_eq!(token.authorization, "Bearer a.b-c_d");
        assert!(token.authorization.is_sensitive());
        assert_eq!(token.lifetime.as_secs(), 43_199);
        assert!(!format!("{token:?}").contains("a.b-c_d"));
    }

    #[test]
    fn every_form_of_expires_in_has_its_result() {
        let with = |told: &str| format!(r#"{{"access_token":"t","expires_in":{told}}}"#);
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
        let told = |token: &str| lifetime_of(&format!(r#"{{"access_token":"{token}"}}"#));
        assert_eq!(told(&jwt(r#"{"iat":1000,"exp":4600}"#)), 3600);
        assert_eq!(told(&jwt(r#"{"iat":4600,"exp":1000}"#)), 600);
        assert_eq!(told(&jwt(r#"{"exp":4600}"#)), 600);
        assert_eq!(told("e30.%%%.sig".replace('%', "~").as_str()), 600);
        assert_eq!(told("opaque"), 600);
    }

    #[test]
    fn answers_without_a_usable_token_are_told_apart() {
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
        assert!(judged(r#"{"access_token":"t","token_type":"BEARER"}"#).is_ok());
    }

    #[test]
    fn statuses_are_told_apart() {
        let label = |status: u16| {
            judge(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), b"", UNIX_EPOCH)
                .unwrap_err()
                .outcome()
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
        let error = judge(StatusCode::UNAUTHORIZED, &HeaderMap::new(), body.as_bytes(), UNIX_EPOCH)
            .unwrap_err()
            .to_string();
        assert!(error.contains("invalid_client: Badcredentials[0m"), "{error}");
    }

    #[test]
    fn the_issuers_clock_is_compared_with_ours() {
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
            let _ = judge(status, &HeaderMap::new(), &body, UNIX_EPOCH);
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
