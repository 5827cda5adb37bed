//! Destinations of the BTP destination service: an exported properties file, its JSON, or the
//! answer of its REST interface (`destinationConfiguration`).

use super::client::{self, Keys, prefixed};
use super::error::Problem;
use super::node::Node;
use super::section::Section;
use super::{ClientAuth, Details, Flat};
use crate::secret::Secret;

static KEYS: Keys = Keys {
    client_id: &["clientId"],
    client_secret: &["clientSecret"],
    token_url: &["tokenServiceURL"],
    base_url: &[],
    cert_url: &[],
    api_url: &["URL"],
    scope: &["scope"],
};

const WANTED: &str = "OAuth2ClientCredentials";

/// Every other value that SAP documents; what is not among them is not repeated in messages.
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

/// Prefixes and names that change requests, but that bearerd does not follow.
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

pub(super) const FORMAT: Flat = Flat { name: "destination", is, read };

/// Whether a map is a destination, with a usable kind of authentication or without.
pub(super) fn is(section: &Section<'_>) -> bool {
    section.has(KEYS.token_url)
        || section.has(&["Authentication"]) && section.has(&["Type", "ProxyType", "URL"])
}

fn read(section: &Section<'_>) -> Result<Details, Vec<Problem>> {
    let one = |problem| vec![problem];
    check_authentication(section).map_err(one)?;
    check_tenant(section).map_err(one)?;
    let mut details = client::read(section, &KEYS).map_err(|problems| {
        problems.into_iter().map(|p| with_advice(p, section)).collect::<Vec<_>>()
    })?;
    let pairs = |prefix| {
        prefixed(section, prefix)
            .map(|(name, text)| (name.to_owned(), Secret::new(text.to_owned())))
    };
    details.token_params =
        pairs("tokenServiceURL.queries.").chain(pairs("tokenService.body.")).collect();
    details.client_auth = details.client_auth.or_else(|| client_auth(section));
    details.ignored = ignored(section);
    Ok(details)
}

fn check_authentication(section: &Section<'_>) -> Result<(), Problem> {
    let told = section.required(&["Authentication"])?.trim();
    if told.eq_ignore_ascii_case(WANTED) {
        return Ok(());
    }
    let known = OTHER_AUTHENTICATIONS.iter().find(|known| known.eq_ignore_ascii_case(told));
    Err(Problem::Authentication { found: known.unwrap_or(&"of an unknown kind") })
}

/// The destination service puts the tenant of whoever calls it into a common token URL. A sidecar
/// has one tenant, and must not guess which.
fn check_tenant(section: &Section<'_>) -> Result<(), Problem> {
    let kind = section.optional(&["tokenServiceURLType"]).unwrap_or_default();
    let url = section.optional(KEYS.token_url).unwrap_or_default();
    if kind.eq_ignore_ascii_case("Common") || url.contains("{tenant}") {
        return Err(Problem::CommonTokenUrl);
    }
    Ok(())
}

fn with_advice(problem: Problem, section: &Section<'_>) -> Problem {
    match problem {
        Problem::NoProof { field }
            if prefixed(section, "tokenService.KeyStore").next().is_some() =>
        {
            Problem::InKeyStore { field }
        }
        Problem::NoProof { field } => Problem::NotExported { field },
        other => other,
    }
}

fn client_auth(section: &Section<'_>) -> Option<ClientAuth> {
    let told = section.values("tokenService.addClientCredentialsInBody").next()?;
    let in_body = match told {
        Node::Flag(flag) => *flag,
        other => other.text()?.trim().parse().ok()?,
    };
    Some(if in_body { ClientAuth::Body } else { ClientAuth::Basic })
}

/// The keys of [`IGNORED`], but for a proxy type that asks for nothing.
fn ignored(section: &Section<'_>) -> Vec<String> {
    let is_ignored = |key: &str, value: &Node| {
        let starts = |prefix: &&str| {
            key.split_at_checked(prefix.len())
                .is_some_and(|(start, _)| start.eq_ignore_ascii_case(prefix))
        };
        let is_direct =
            value.text().is_some_and(|text| text.trim().eq_ignore_ascii_case("Internet"));
        IGNORED.iter().any(starts) && !(key.eq_ignore_ascii_case("ProxyType") && is_direct)
    };
    let entries = section.entries().iter();
    entries.filter(|(key, value)| is_ignored(key, value)).map(|(key, _)| key.clone()).collect()
}
