//! OAuth clients and their credentials.

use super::transport;
use crate::config::client::Client;
use crate::config::file::{self, IDENTITY_KEYS};
use crate::config::section::{Section, unknown};
use crate::config::value::{self, SECOND};
use crate::credential::format::Binding;
use crate::credential::{CredentialSource, KeyLocation, ProofSource, SecretAuth};
use crate::endpoint;
use crate::forward_proxy::ProxyChoice;
use crate::secret::Secret;
use crate::secret_file::CertificateFiles;
use std::time::Duration;
use url::Url;

const METHODS: [&str; 5] = ["post", "basic", "basic-encoded", "mtls", "private-key-jwt"];

/// The way in which an OAuth client authenticates.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Secret(SecretAuth),
    Mtls,
    PrivateKeyJwt,
}

pub(super) fn read(name: &str, section: &Section<'_>, environment: &ProxyChoice) -> Option<Client> {
    let source = source(section);
    let scope = section.text("scope").map(|text| text.value);
    let token_params = token_params(section);
    let expires_on = section.parse("expires_on", value::date);
    let refresh_at = section.parse("refresh_at", value::fraction);
    let wait = section.parse("wait", value::duration(Duration::ZERO, 60 * SECOND));
    let (transport, if_cleartext) = transport::read(section, environment);
    if let Some(
        CredentialSource::Parts { token_url, .. }
        | CredentialSource::Key { token_url: Some(token_url), .. },
    ) = &source
    {
        transport::check_scheme(section.reader, token_url, if_cleartext);
    }
    Some(Client {
        name: name.to_owned(),
        source: source?,
        scope: scope.filter(|scope| !scope.is_empty()),
        token_params: token_params?,
        expires_on,
        refresh_at: refresh_at?,
        wait: wait?,
        transport: transport?,
    })
}

/// The source of the identity: `credentials` for all of it, or a key for each part.
fn source(section: &Section<'_>) -> Option<CredentialSource> {
    let allow_cleartext = section.parse("allow_cleartext", value::switch).unwrap_or(true);
    let method = section.parse("client_auth", |text| match text {
        "post" => Ok(Method::Secret(SecretAuth::Post)),
        "basic" => Ok(Method::Secret(SecretAuth::Basic)),
        "basic-encoded" => Ok(Method::Secret(SecretAuth::BasicEncoded)),
        "mtls" => Ok(Method::Mtls),
        "private-key-jwt" => Ok(Method::PrivateKeyJwt),
        other => Err(unknown("method", other, METHODS.into_iter())),
    });
    let token_url = section.parse("token_url", |text| endpoint::token_url(text, allow_cleartext));
    if section.has("credentials") {
        key(section, method, token_url, allow_cleartext)
    } else {
        parts(section, method, token_url)
    }
}

/// An identity whose parts have keys of their own.
fn parts(
    section: &Section<'_>,
    method: Option<Method>,
    token_url: Option<Url>,
) -> Option<CredentialSource> {
    for key in ["token_url", "client_id"] {
        if !section.has(key) {
            section.fault(key, "missing; give it, or `credentials` for all of them");
        }
    }
    let client_id = section.parse("client_id", value::non_empty);
    let proof = proof(section, method.unwrap_or(Method::Secret(SecretAuth::Post)));
    Some(CredentialSource::Parts { token_url: token_url?, client_id: client_id?, proof: proof? })
}

/// An identity that `credentials` holds.
fn key(
    section: &Section<'_>,
    method: Option<Method>,
    token_url: Option<Url>,
    allow_cleartext: bool,
) -> Option<CredentialSource> {
    let location = key_location(section);
    for key in IDENTITY_KEYS.iter().filter(|key| **key != "token_url") {
        if section.has(key) {
            section.fault(key, format!("both credentials and {key} are given; keep one"));
        }
    }
    let secret_auth = match method {
        Some(Method::Secret(auth)) => Some(auth),
        Some(Method::Mtls | Method::PrivateKeyJwt) => {
            let message =
                "leave it out; the content of `credentials` decides how the client authenticates";
            section.fault("client_auth", message);
            None
        }
        None => None,
    };
    let binding = section.optional("binding", file::BINDING);
    let binding = binding.map(|section| binding_of(&section)).unwrap_or_default();
    Some(CredentialSource::Key {
        location: location?,
        binding,
        token_url,
        secret_auth,
        allow_cleartext,
    })
}

/// A path, or `env:NAME`.
fn key_location(section: &Section<'_>) -> Option<KeyLocation> {
    let environment = section.reader.environment;
    section.parse("credentials", |text| {
        let Some(name) = text.strip_prefix("env:") else {
            return value::path(text).map(KeyLocation::Path);
        };
        let value = environment.get(name).ok_or_else(|| {
            format!("the environment variable {name} is not set; set it, or name a file")
        })?;
        Ok(KeyLocation::Variable(name.to_owned(), Secret::new(value.to_owned())))
    })
}

fn binding_of(section: &Section<'_>) -> Binding {
    let text = |key| section.parse(key, value::non_empty);
    Binding { name: text("name"), label: text("label"), tag: text("tag"), plan: text("plan") }
}

fn proof(section: &Section<'_>, method: Method) -> Option<ProofSource> {
    let file = |key| section.parse(key, value::path);
    let (certificate, key) = (file("certificate_file"), file("private_key_file"));
    let (secret_file, next) = (file("client_secret_file"), file("client_secret_next_file"));
    let key_id = section.parse("key_id", value::non_empty);
    // `echo secret | base64` in a Kubernetes Secret ends with a line break, as files do.
    let secret = section
        .parse("client_secret", |text| value::non_empty(text.trim_end_matches(['\r', '\n'])));
    let fault = |key: &str, message: &str| {
        section.fault(key, message);
        None
    };
    match method {
        Method::Mtls => match (certificate, key) {
            (Some(certificate), Some(key)) => {
                Some(ProofSource::Certificate(CertificateFiles { certificate, key }))
            }
            (None, _) => fault("certificate_file", "missing; client_auth mtls needs it"),
            (_, None) => fault("private_key_file", "missing; client_auth mtls needs it"),
        },
        Method::PrivateKeyJwt => match key {
            Some(file) => Some(ProofSource::SigningKey { file, id: key_id }),
            None => fault("private_key_file", "missing; client_auth private-key-jwt needs it"),
        },
        Method::Secret(auth) => match (secret, secret_file) {
            (Some(_), Some(_)) => fault(
                "client_secret",
                "both client_secret and client_secret_file are given; keep one",
            ),
            (Some(_), None) if next.is_some() => fault(
                "client_secret_next_file",
                "needs client_secret_file: a secret in the configuration can't change",
            ),
            (Some(secret), None) => Some(ProofSource::Secret(auth, Secret::new(secret))),
            (None, Some(current)) => Some(ProofSource::SecretFile { auth, current, next }),
            // A value that is given but empty has a fault already.
            (None, None) if section.has("client_secret") || section.has("client_secret_file") => {
                None
            }
            (None, None) => {
                fault("client_secret_file", "missing; give client_secret_file, or client_secret")
            }
        },
    }
}

/// Additional parameters. Those that bearerd sends itself can't be set a second time.
fn token_params(section: &Section<'_>) -> Option<Vec<(String, String)>> {
    const RESERVED: [&str; 6] = [
        "grant_type",
        "client_id",
        "client_secret",
        "client_assertion",
        "client_assertion_type",
        "scope",
    ];
    let params = section.pairs("token_params").into_iter().map(|(name, text)| {
        if RESERVED.contains(&name) {
            text.fault(format!("`{name}` is sent by bearerd itself; leave it out"));
            return None;
        }
        Some((name.to_owned(), text.value))
    });
    // All are read, so that each one that is wrong leaves its fault.
    params.collect::<Vec<_>>().into_iter().collect()
}
