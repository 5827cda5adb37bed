//! How a client proves itself with a private key (`private_key_jwt`, RFC 7523): it signs a short statement about
//! itself, good for one request to one token endpoint.
//!
//! Worth knowing: UAA has it as an experiment, and SAP documents it for its identity service (IAS) only.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Parameters;
use crate::demo::client::Client;

const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How far ahead an assertion may expire, in seconds: the issuer must remember it for that long.
const LONGEST: u64 = 600;

/// What is read of an assertion's header. Which key made it is found by trying.
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

/// One recipient, or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Why an assertion is refused, in the order in which it is checked.
#[derive(Debug, thiserror::Error)]
pub(super) enum AssertionRefusal {
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

/// Whether the request comes with an assertion at all.
pub(super) fn is_in(parameters: &Parameters) -> bool {
    parameters.get("client_assertion").is_some()
}

/// Checks the assertion, and uses it up if it is good.
pub(super) fn check(
    client: &Client,
    token_url: &str,
    parameters: &Parameters,
    now: u64,
) -> Result<(), AssertionRefusal> {
    if parameters.get("client_assertion_type") != Some(TYPE) {
        return Err(AssertionRefusal::Type);
    }
    let assertion = parameters.get("client_assertion").unwrap_or_default();
    let claims = verified(client, assertion)?;
    let named = parameters.get("client_id").unwrap_or(&client.id);
    if [&claims.iss, &claims.sub, named].iter().any(|id| *id != client.id) {
        return Err(AssertionRefusal::Client);
    }
    if !claims.aud.has(token_url) {
        return Err(AssertionRefusal::Audience(token_url.to_owned()));
    }
    if claims.exp <= now {
        return Err(AssertionRefusal::Expired);
    }
    if claims.iat.max(claims.nbf) > now {
        return Err(AssertionRefusal::Early);
    }
    if claims.exp - now > LONGEST {
        return Err(AssertionRefusal::TooLong);
    }
    if client.take_assertion(claims.jti, claims.exp, now) {
        Ok(())
    } else {
        Err(AssertionRefusal::Used)
    }
}

/// The claims, if one of the client's keys signed them.
fn verified(client: &Client, assertion: &str) -> Result<Claims, AssertionRefusal> {
    let (message, signature) = assertion.rsplit_once('.').ok_or(AssertionRefusal::Malformed)?;
    let (header, claims) = message.split_once('.').ok_or(AssertionRefusal::Malformed)?;
    let header: Header = decode_json(header)?;
    if !client.has_signed(&header.alg, message.as_bytes(), &decode(signature)?) {
        return Err(AssertionRefusal::Signature);
    }
    decode_json(claims)
}

impl Audience {
    fn has(&self, recipient: &str) -> bool {
        match self {
            Self::One(one) => one == recipient,
            Self::Many(many) => many.iter().any(|one| one == recipient),
        }
    }
}

fn decode(part: &str) -> Result<Vec<u8>, AssertionRefusal> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| AssertionRefusal::Malformed)
}

fn decode_json<T: DeserializeOwned>(part: &str) -> Result<T, AssertionRefusal> {
    serde_json::from_slice(&decode(part)?).map_err(|_| AssertionRefusal::Malformed)
}
