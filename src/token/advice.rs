//! Known failures of issuers, in words that say what to do. Pure.

use super::{InvalidAnswer, TokenError};
use crate::credential::{Identity, Proof, SecretAuth};
use crate::http_client::TunnelRefusal;
use crate::trust;

/// What went wrong, and what to do.
pub fn with(error: &TokenError, advice: Option<&'static str>) -> String {
    advice.map_or_else(|| error.to_string(), |advice| format!("{error}; {advice}"))
}

/// A client or certificate that ends.
pub(crate) const fn renew() -> &'static str {
    "extend the OAuth client before its end on the App Integration page; one that has expired gets a new secret when it is activated again"
}

/// A token request that failed.
pub(crate) fn token(error: &TokenError, identity: &Identity) -> Option<&'static str> {
    Some(match error {
        TokenError::Refused { reason, .. } => refused_client(reason, identity),
        TokenError::NotAnIssuer { .. } => {
            "token_url must end in /oauth/token, and its first part must be the subaccount's subdomain"
        }
        TokenError::Invalid(InvalidAnswer::NotJson) => {
            "a page came instead of a token: token_url is not the token endpoint, or a forward proxy answers"
        }
        TokenError::Invalid(InvalidAnswer::NoAccessToken) => {
            "an empty token is how some tenants say that the client has no rights; check its purpose and roles"
        }
        TokenError::Invalid(InvalidAnswer::Expired) => {
            "the issuer, or a cache before it, gives tokens of old; if both it and this machine have the right time, ask who runs it"
        }
        TokenError::RateLimited { .. } => {
            "60 token requests a second are allowed for all clients of the subaccount together"
        }
        TokenError::Connect(reason) => return trust::advice(reason),
        TokenError::Proxy(TunnelRefusal::Credentials) => {
            "by 407: give it the right user name and password, in its URL or in proxy_credentials_file; `bearerd doctor` tells what it wants"
        }
        TokenError::Proxy(TunnelRefusal::Other) => "`bearerd doctor` tells its answer",
        _ => return None,
    })
}

/// The issuer's words for a client that it does not let in.
fn refused_client(reason: &str, identity: &Identity) -> &'static str {
    let says = |words: &[&str]| {
        let reason = reason.to_ascii_lowercase();
        words.iter().any(|words| reason.contains(words))
    };
    if says(&["unauthorized grant type", "unauthorized_client", "unsupported_grant_type"]) {
        return "this client was not made for the client credentials grant (SAML 2.0 Bearer, or Interactive Usage); create one with purpose Technical User, or API Access with Client Credentials";
    }
    if says(&["invalid_scope"]) {
        return "leave `scope` out, or ask only for scopes that the client has";
    }
    if says(&["securitycontext", "authentication object was not found"]) {
        return "the credentials did not arrive; try another client_auth, and check token_url";
    }
    if let Proof::Secret(SecretAuth::Basic, secret, _) = &identity.proof
        && secret.expose().contains(['+', '%', '&'])
    {
        return "the secret holds a character that raw Basic garbles at SAP; leave client_auth out (post), or use basic-encoded";
    }
    if matches!(identity.proof, Proof::SigningKey(..)) && is_about_time(reason) {
        return "the issuer refuses the times in the assertion: set this machine's clock (NTP); `bearerd doctor` tells how far the issuer's is from it";
    }
    match identity.proof {
        Proof::Secret(..) => {
            "check client_id and secret; a client that has expired (three months after its creation, unless set otherwise) gets a new secret when it is activated again"
        }
        Proof::Certificate(..) => {
            "is the certificate the one that was registered for this client, and token_url the host with `.cert.` in it?"
        }
        Proof::SigningKey(..) => {
            "does the issuer know the public key, under this key_id, and take private_key_jwt at all? If it does, compare this machine's clock with the issuer's (`bearerd doctor`)"
        }
    }
}

/// Whether an issuer's words about an assertion hint at its times.
fn is_about_time(reason: &str) -> bool {
    const PHRASES: [&str; 11] = [
        "expir",
        "not yet",
        "before use",
        "not before",
        "in the future",
        "not active",
        "no longer valid",
        "time range",
        "too old",
        "issued at",
        "clock",
    ];
    const WORDS: [&str; 5] = ["exp", "iat", "nbf", "skew", "lifetime"];
    let reason = reason.to_ascii_lowercase();
    let mut words = reason.split(|letter: char| !letter.is_ascii_alphanumeric());
    PHRASES.iter().any(|phrase| reason.contains(phrase)) || words.any(|word| WORDS.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use http::StatusCode;

    fn identity(auth: SecretAuth, secret: &str) -> Identity {
        Identity {
            token_url: "https://i.example/oauth/token".parse().unwrap(),
            client_id: "sb-1".into(),
            proof: Proof::Secret(auth, Secret::new(secret.into()), None),
            scope: None,
            token_params: Vec::new(),
            api_url: None,
            described: String::new(),
        }
    }

    fn refused(reason: &str, identity: &Identity) -> &'static str {
        let status = StatusCode::UNAUTHORIZED;
        token(&TokenError::Refused { status, reason: reason.into() }, identity).unwrap()
    }

    #[test]
    fn the_issuers_words_tell_what_to_do() {
        let post = identity(SecretAuth::Post, "a+b");
        for (reason, advice) in [
            (", unauthorized: Unauthorized grant type", "purpose Technical User"),
            (", invalid_scope: x", "leave `scope` out"),
            (
                ", unauthorized: An Authentication object was not found in the SecurityContext",
                "did not arrive",
            ),
            (", unauthorized: Bad credentials", "expired"),
            ("", "check client_id and secret"),
        ] {
            assert!(refused(reason, &post).contains(advice), "{reason}");
        }
        let basic = identity(SecretAuth::Basic, "a+b");
        assert!(refused(", unauthorized: Bad credentials", &basic).contains("basic-encoded"));
        let plain = identity(SecretAuth::Basic, "ab");
        assert!(!refused(", unauthorized: Bad credentials", &plain).contains("basic-encoded"));
    }

    #[test]
    fn an_assertion_that_is_refused_by_its_time_has_the_clock_in_its_advice() {
        let secret = identity(SecretAuth::Post, "a");
        let key = Proof::SigningKey(Secret::new("key".into()), None);
        let signed = Identity { proof: key, ..secret.clone() };
        for reason in [
            ", invalid_client: the assertion has expired",
            ", invalid_client: JWT before use time",
            ", invalid_client: Token is not active",
            ", invalid_client: AADSTS700024: Client assertion is not within its valid time range.",
            ", invalid_client: the claim `iat` is in the future",
            ", invalid_client: nbf",
        ] {
            assert!(refused(reason, &signed).contains("set this machine's clock"), "{reason}");
            assert!(!refused(reason, &secret).contains("clock"), "{reason}");
        }
        for reason in ["", ", invalid_client: Immediate association of initiator failed"] {
            let advice = refused(reason, &signed);
            assert!(advice.starts_with("does the issuer know") && advice.contains("clock"));
        }
    }
}
