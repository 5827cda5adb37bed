//! Advice on what to do about known failures of token requests. Pure.

use super::error::{InvalidAnswer, TokenError};
use crate::credential::{Identity, Proof, SecretAuth};
use crate::endpoint;
use crate::http_client::TunnelRefusal;
use crate::no_answer::NoAnswer;

/// Returns the message of an error, with what to do about it.
pub fn append(error: &TokenError, advice: Option<&'static str>) -> String {
    advice.map_or_else(|| error.to_string(), |advice| format!("{error}; {advice}"))
}

/// Advice on a client or certificate that expires soon.
pub(crate) const RENEW: &str = "extend the OAuth client on the App Integration page before it expires; an expired one gets a new secret when it is activated again";

/// Returns what to do about a failed token request, if it is a known failure.
pub(crate) fn for_error(error: &TokenError, identity: &Identity) -> Option<&'static str> {
    Some(match error {
        TokenError::Refused { reason, .. } => refused_client(reason, identity),
        TokenError::NotAnIssuer { .. } => {
            "token_url must end in /oauth/token, and the first part of its host name must be the subaccount's subdomain"
        }
        TokenError::Invalid(InvalidAnswer::NotJson) => {
            "the answer may be a login page or a proxy's page: check that token_url is the token endpoint, and whether a forward proxy answered"
        }
        TokenError::Invalid(InvalidAnswer::NoAccessToken) => {
            "some tenants send an empty token to a client that has no rights; check the client's purpose and roles"
        }
        TokenError::Invalid(InvalidAnswer::Expired) => {
            "the issuer, or a cache in front of it, returned an old token; check the time of both machines, then ask the issuer's operator"
        }
        TokenError::Server { .. } => {
            "bearerd tries again by itself; if it lasts, see SAP's status page, or report it to SAP"
        }
        TokenError::RateLimited { .. } => {
            "all clients of the subaccount together may send 60 token requests a second; find the program that sends too many"
        }
        TokenError::Timeout(NoAnswer::ReadTimeout) => {
            "bearerd tries again by itself; if it lasts, the issuer is overloaded, or a device on the way drops packets"
        }
        TokenError::Connect(failure) | TokenError::Timeout(failure) => {
            return failure.advice(&endpoint::host(&identity.token_url));
        }
        TokenError::Proxy(TunnelRefusal::Credentials) => {
            "it answered 407: set its user name and password, in its URL or in proxy_credentials_file; `bearerd doctor` shows what it asks for"
        }
        TokenError::Proxy(TunnelRefusal::Other) => "`bearerd doctor` shows its answer",
        _ => return None,
    })
}

/// Returns what to do about a refusal, from the issuer's words.
fn refused_client(reason: &str, identity: &Identity) -> &'static str {
    let says = |words: &[&str]| {
        let reason = reason.to_ascii_lowercase();
        words.iter().any(|words| reason.contains(words))
    };
    if says(&["unauthorized grant type", "unauthorized_client", "unsupported_grant_type"]) {
        return "this client may not use the client credentials grant (it is for SAML 2.0 Bearer, or Interactive Usage); create one with purpose Technical User, or API Access with Client Credentials";
    }
    if says(&["invalid_scope"]) {
        return "the client does not have the scope; leave `scope` out, or request only scopes that it has";
    }
    if says(&["securitycontext", "authentication object was not found"]) {
        return "the issuer found no credentials in the request; try another client_auth, and check token_url";
    }
    if let Proof::Secret { auth: SecretAuth::Basic, current, .. } = &identity.proof
        && current.expose().contains(['+', '%', '&'])
    {
        return "the secret holds a character that SAP misreads in raw Basic; leave client_auth out (post), or use basic-encoded";
    }
    if matches!(identity.proof, Proof::SigningKey { .. }) && is_about_time(reason) {
        return "the issuer refuses the times in the assertion: set this machine's clock (NTP); `bearerd doctor` shows how far the issuer's differs";
    }
    match identity.proof {
        Proof::Secret { .. } => {
            "check client_id and secret; a client that has expired (three months after its creation, unless set otherwise) gets a new secret when it is activated again"
        }
        Proof::Certificate(..) => {
            "check that this certificate is registered for the client, and that token_url is the host with `.cert.` in it"
        }
        Proof::SigningKey { .. } => {
            "check that the issuer has the public key under this key_id and allows private_key_jwt; then compare this machine's clock with the issuer's (`bearerd doctor`)"
        }
    }
}

/// Whether an issuer's words about an assertion name its times as the cause.
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
            proof: Proof::Secret { auth, current: Secret::new(secret.into()), next: None },
            scope: None,
            token_params: Vec::new(),
            api_url: None,
            description: String::new(),
        }
    }

    fn refused(reason: &str, identity: &Identity) -> &'static str {
        let status = StatusCode::UNAUTHORIZED;
        for_error(&TokenError::Refused { status, reason: reason.into() }, identity).unwrap()
    }

    #[test]
    fn the_issuers_words_decide_what_to_do() {
        let post = identity(SecretAuth::Post, "a+b");
        for (reason, advice) in [
            (", unauthorized: Unauthorized grant type", "purpose Technical User"),
            (", invalid_scope: x", "leave `scope` out"),
            (
                ", unauthorized: An Authentication object was not found in the SecurityContext",
                "found no credentials",
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
        let key = Proof::SigningKey { key: Secret::new("key".into()), id: None };
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
            assert!(
                advice.starts_with("check that the issuer has the public key")
                    && advice.contains("clock")
            );
        }
    }
}
