//! Client authentication with a private key (`private_key_jwt`, RFC 7523): the client signs a short
//! statement about itself, which is valid for one request to one token endpoint.
//!
//! UAA supports it experimentally. SAP documents it only for its identity service (IAS).

use super::parameters::Parameters;
use crate::demo::jwt;
use crate::demo::registered_client::RegisteredClient;
use serde::Deserialize;

const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Longest time until an assertion expires, in seconds. The issuer must remember it for that long.
const LONGEST: u64 = 600;

/// The fields of an assertion's header that are read. All registered keys are tried.
#[derive(Deserialize)]
struct Header {
    alg: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: u64,
    #[serde(default)]
    iat: u64,
    #[serde(default)]
    nbf: u64,
    jti: String,
}

/// One recipient, or a list of recipients.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Why an assertion is refused, in the order of the checks.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidAssertion {
    #[error("client_assertion_type must be {TYPE}")]
    Type,
    #[error("the assertion is not a JSON Web Token with the claims iss, sub, aud, exp and jti")]
    Malformed,
    #[error("the assertion's signature is not by a key registered for this client")]
    Signature,
    #[error("iss, sub and client_id must all be the id of this client")]
    Client,
    #[error("aud must be {0}")]
    Audience(String),
    #[error("the assertion has expired")]
    Expired,
    #[error("the assertion is not yet valid: `iat` or `nbf` is in the future")]
    Early,
    #[error("the assertion expires more than {LONGEST} s from now")]
    TooLong,
    #[error("the assertion was used before")]
    Used,
}

/// Whether the request has an assertion.
pub(super) fn is_present(parameters: &Parameters) -> bool {
    parameters.get("client_assertion").is_some()
}

/// Checks the assertion, and records its use if it is valid.
pub(super) fn authenticate(
    client: &RegisteredClient,
    token_url: &str,
    parameters: &Parameters,
    now: u64,
) -> Result<(), InvalidAssertion> {
    if parameters.get("client_assertion_type") != Some(TYPE) {
        return Err(InvalidAssertion::Type);
    }
    let assertion = parameters.get("client_assertion").unwrap_or_default();
    let claims = verify(client, assertion)?;
    let named = parameters.get("client_id").unwrap_or(&client.id);
    if [&claims.iss, &claims.sub, named].iter().any(|id| *id != client.id) {
        return Err(InvalidAssertion::Client);
    }
    if !claims.aud.has(token_url) {
        return Err(InvalidAssertion::Audience(token_url.to_owned()));
    }
    if claims.exp <= now {
        return Err(InvalidAssertion::Expired);
    }
    if claims.iat.max(claims.nbf) > now {
        return Err(InvalidAssertion::Early);
    }
    if claims.exp - now > LONGEST {
        return Err(InvalidAssertion::TooLong);
    }
    if client.use_assertion(claims.jti, claims.exp, now) {
        Ok(())
    } else {
        Err(InvalidAssertion::Used)
    }
}

/// Returns the claims if one of the client's keys signed them.
fn verify(client: &RegisteredClient, assertion: &str) -> Result<Claims, InvalidAssertion> {
    let parts = jwt::split(assertion).ok_or(InvalidAssertion::Malformed)?;
    let header: Header = jwt::decode_json(parts.header).ok_or(InvalidAssertion::Malformed)?;
    let signature = jwt::decode(parts.signature).ok_or(InvalidAssertion::Malformed)?;
    if !client.has_signed(&header.alg, parts.signed.as_bytes(), &signature) {
        return Err(InvalidAssertion::Signature);
    }
    jwt::decode_json(parts.claims).ok_or(InvalidAssertion::Malformed)
}

impl Audience {
    fn has(&self, recipient: &str) -> bool {
        match self {
            Self::One(one) => one == recipient,
            Self::Many(many) => many.iter().any(|one| one == recipient),
        }
    }
}
