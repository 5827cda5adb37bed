//! Destinations of the BTP destination service: an exported properties file, its JSON, or the
//! answer of its REST interface (`destinationConfiguration`).

use super::client::{self, KeyNames, prefixed};
use super::document::Document;
use super::error::ClientFault;
use super::fields::Fields;
use super::flat::FlatFormat;
use super::found::{ClientAuth, ClientDetails};
use crate::secret::Secret;

static KEYS: KeyNames = KeyNames {
    client_id: &["clientId"],
    client_secret: &["clientSecret"],
    token_url: &["tokenServiceURL"],
    base_url: &[],
    cert_url: &[],
    api_url: &["URL"],
    scope: &["scope"],
};

const WANTED: &str = "OAuth2ClientCredentials";

/// All other values that SAP documents. Messages repeat no value but these.
const OTHER_AUTHENTICATIONS: [&str; 12] = [
    "NoAuthentication",
    "BasicAuthentication",
    "PrincipalPropagation",
    "ClientCertificateAuthentication",
    "AppToAppSSO",
    "SAMLAssertion",
    "OAuth2SAMLBearerAssertion",
    "OAuth2UserTokenExchange",
    "OAuth2JWTBearer",
    "OAuth2Password",
    "OAuth2AuthorizationCode",
    "OAuth2RefreshToken",
];

/// Names, or their prefixes, that change requests, but that bearerd does not follow.
const IGNORED: [&str; 8] = [
    "tokenServiceURL.headers.",
    "URL.headers.",
    "URL.queries.",
    "clientAssertion.",
    "tokenServiceUser",
    "tokenServicePassword",
    "tokenService.KeyStore",
    "ProxyType",
];

pub(super) const FORMAT: FlatFormat =
    FlatFormat { name: "destination", is_format: is_destination, read };

/// Whether a map is a destination, whatever its kind of authentication.
pub(super) fn is_destination(fields: &Fields<'_>) -> bool {
    fields.has(KEYS.token_url)
        || fields.has(&["Authentication"]) && fields.has(&["Type", "ProxyType", "URL"])
}

fn read(fields: &Fields<'_>) -> Result<ClientDetails, Vec<ClientFault>> {
    let one = |fault| vec![fault];
    check_authentication(fields).map_err(one)?;
    check_tenant(fields).map_err(one)?;
    let mut details = client::read(fields, &KEYS)
        .map_err(|faults| faults.into_iter().map(|p| with_advice(p, fields)).collect::<Vec<_>>())?;
    let pairs = |prefix| {
        prefixed(fields, prefix).map(|(name, text)| (name.to_owned(), Secret::new(text.to_owned())))
    };
    details.token_params =
        pairs("tokenServiceURL.queries.").chain(pairs("tokenService.body.")).collect();
    details.client_auth = details.client_auth.or_else(|| client_auth(fields));
    details.ignored = ignored(fields);
    Ok(details)
}

fn check_authentication(fields: &Fields<'_>) -> Result<(), ClientFault> {
    let named = fields.required(&["Authentication"])?.trim();
    if named.eq_ignore_ascii_case(WANTED) {
        return Ok(());
    }
    let known = OTHER_AUTHENTICATIONS.iter().find(|known| known.eq_ignore_ascii_case(named));
    Err(ClientFault::Authentication { found: known.unwrap_or(&"of an unknown kind") })
}

/// Refuses a common token URL, into which the destination service writes the tenant of its caller.
/// A sidecar has one tenant, and must not guess it.
fn check_tenant(fields: &Fields<'_>) -> Result<(), ClientFault> {
    let kind = fields.optional(&["tokenServiceURLType"]).unwrap_or_default();
    let url = fields.optional(KEYS.token_url).unwrap_or_default();
    if kind.eq_ignore_ascii_case("Common") || url.contains("{tenant}") {
        return Err(ClientFault::CommonTokenUrl);
    }
    Ok(())
}

fn with_advice(fault: ClientFault, fields: &Fields<'_>) -> ClientFault {
    match fault {
        ClientFault::NoProof { field }
            if prefixed(fields, "tokenService.KeyStore").next().is_some() =>
        {
            ClientFault::InKeyStore { field }
        }
        ClientFault::NoProof { field } => ClientFault::NotExported { field },
        other => other,
    }
}

fn client_auth(fields: &Fields<'_>) -> Option<ClientAuth> {
    let value = fields.values("tokenService.addClientCredentialsInBody").next()?;
    let in_body = match value {
        Document::Flag(flag) => *flag,
        other => other.text()?.trim().parse().ok()?,
    };
    Some(if in_body { ClientAuth::Body } else { ClientAuth::Basic })
}

/// The keys of a map that are in [`IGNORED`], except a proxy type that has no effect.
fn ignored(fields: &Fields<'_>) -> Vec<String> {
    let is_ignored = |key: &str, value: &Document| {
        let starts = |prefix: &&str| {
            key.split_at_checked(prefix.len())
                .is_some_and(|(start, _)| start.eq_ignore_ascii_case(prefix))
        };
        let is_direct =
            value.text().is_some_and(|text| text.trim().eq_ignore_ascii_case("Internet"));
        IGNORED.iter().any(starts) && !(key.eq_ignore_ascii_case("ProxyType") && is_direct)
    };
    let entries = fields.entries().iter();
    entries.filter(|(key, value)| is_ignored(key, value)).map(|(key, _)| key.clone()).collect()
}
