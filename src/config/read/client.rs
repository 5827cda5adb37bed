//! OAuth clients and what proves them.

use super::{SECOND, transport};
use crate::config::file;
use crate::config::node::Entry;
use crate::config::section::{Reader, Section, join, unknown};
use crate::config::{Client, value};
use crate::credential::format::Binding;
use crate::credential::{KeyPlace, ProofSource, SecretAuth, Source};
use crate::endpoint;
use crate::forward_proxy::ProxyChoice;
use crate::secret::Secret;
use std::time::Duration;

/// The keys that name each part of an identity; `credentials` stands for all of them.
pub(crate) const PARTS: [&str; 8] = [
    "token_url",
    "client_id",
    "client_secret",
    "client_secret_file",
    "client_secret_next_file",
    "certificate_file",
    "private_key_file",
    "key_id",
];
const METHODS: [&str; 5] = ["post", "basic", "basic-encoded", "mtls", "private-key-jwt"];

/// How an OAuth client proves itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Secret(SecretAuth),
    Mtls,
    PrivateKeyJwt,
}

pub(super) fn client(
    reader: &mut Reader<'_>,
    entry: &Entry,
    environment: &ProxyChoice,
) -> Option<Client> {
    let path = join("clients", &entry.key);
    let section = Section::open(reader, &entry.node, &path, file::CLIENT);
    let source = source(reader, &section);
    let scope = section.text(reader, "scope").map(|text| text.value);
    let token_params = token_params(reader, &section);
    let expires_on = section.parse(reader, "expires_on", value::date);
    let refresh_at = section.parse(reader, "refresh_at", value::fraction);
    let wait = section.parse(reader, "wait", value::duration(Duration::ZERO, 60 * SECOND));
    let url = match &source {
        Some(Source::Parts { token_url, .. }) => Some(token_url),
        Some(Source::Key { token_url, .. }) => token_url.as_ref(),
        None => None,
    };
    let transport = transport::read(reader, &section, environment, url);
    Some(Client {
        name: entry.key.clone(),
        source: source?,
        scope: scope.filter(|scope| !scope.is_empty()),
        token_params: token_params?,
        expires_on,
        refresh_at: refresh_at?,
        wait: wait?,
        transport: transport?,
        api_origin: None,
    })
}

/// Either all of it in one place, or each part in its own.
fn source(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Source> {
    let cleartext = section.parse(reader, "allow_cleartext", value::boolean).unwrap_or(true);
    let method = section.parse(reader, "client_auth", |text| match text {
        "post" => Ok(Method::Secret(SecretAuth::Post)),
        "basic" => Ok(Method::Secret(SecretAuth::Basic)),
        "basic-encoded" => Ok(Method::Secret(SecretAuth::BasicEncoded)),
        "mtls" => Ok(Method::Mtls),
        "private-key-jwt" => Ok(Method::PrivateKeyJwt),
        other => Err(unknown("method", other, METHODS.into_iter())),
    });
    let token_url = section.parse(reader, "token_url", |text| endpoint::token_url(text, cleartext));
    if section.node("credentials").is_none() {
        let missing = |reader: &mut Reader<'_>, key: &str, found: bool| {
            if !found && section.node(key).is_none() {
                let message = "missing; give it, or `credentials` for all of them";
                reader.faults.push(section.place(), &section.path(key), message);
            }
        };
        missing(reader, "token_url", token_url.is_some());
        let client_id = section.parse(reader, "client_id", value::non_empty);
        missing(reader, "client_id", client_id.is_some());
        let proof = proof(reader, section, method.unwrap_or(Method::Secret(SecretAuth::Post)));
        return Some(Source::Parts { token_url: token_url?, client_id: client_id?, proof: proof? });
    }
    let place = key_place(reader, section);
    for key in PARTS.iter().filter(|key| **key != "token_url") {
        if section.node(key).is_some() {
            let message = format!("both credentials and {key} are given; keep one");
            reader.faults.push(section.place_of(key), &section.path(key), message);
        }
    }
    let secret_auth = match method {
        Some(Method::Secret(auth)) => Some(auth),
        Some(Method::Mtls | Method::PrivateKeyJwt) => {
            let message =
                "leave it out: what `credentials` holds says how the client proves itself";
            reader.faults.push(
                section.place_of("client_auth"),
                &section.path("client_auth"),
                message,
            );
            None
        }
        None => None,
    };
    Some(Source::Key {
        place: place?,
        binding: binding(reader, section),
        token_url,
        secret_auth,
        allow_cleartext: cleartext,
    })
}

/// A path, or `env:NAME`.
fn key_place(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<KeyPlace> {
    let environment = reader.environment;
    section.parse(reader, "credentials", |text| {
        let Some(name) = text.strip_prefix("env:") else {
            return value::path(text).map(KeyPlace::Path);
        };
        let value = environment.get(name).ok_or_else(|| {
            format!("the environment variable {name} is not set; set it, or name a file")
        })?;
        Ok(KeyPlace::Variable(name.to_owned(), Secret::new(value.to_owned())))
    })
}

fn binding(reader: &mut Reader<'_>, section: &Section<'_>) -> Binding {
    let Some(node) = section.node("binding") else {
        return Binding::default();
    };
    let inner = Section::open(reader, node, &section.path("binding"), file::BINDING);
    let mut text = |key| inner.parse(reader, key, value::non_empty);
    Binding { name: text("name"), label: text("label"), tag: text("tag"), plan: text("plan") }
}

fn proof(reader: &mut Reader<'_>, section: &Section<'_>, method: Method) -> Option<ProofSource> {
    let mut file = |key| section.parse(reader, key, value::path);
    let (certificate, key) = (file("certificate_file"), file("private_key_file"));
    let (secret_file, next) = (file("client_secret_file"), file("client_secret_next_file"));
    let key_id = section.parse(reader, "key_id", value::non_empty);
    let secret = section.parse(reader, "client_secret", value::non_empty);
    let mut fault = |key: &str, message: &str| {
        let place =
            if section.node(key).is_some() { section.place_of(key) } else { section.place() };
        reader.faults.push(place, &section.path(key), message);
        None
    };
    match method {
        Method::Mtls => match (certificate, key) {
            (Some(certificate), Some(key)) => Some(ProofSource::Certificate(certificate, key)),
            (None, _) => fault("certificate_file", "missing; client_auth mtls needs it"),
            (_, None) => fault("private_key_file", "missing; client_auth mtls needs it"),
        },
        Method::PrivateKeyJwt => match key {
            Some(key) => Some(ProofSource::SigningKey(key, key_id)),
            None => fault("private_key_file", "missing; client_auth private-key-jwt needs it"),
        },
        Method::Secret(auth) => match (secret, secret_file) {
            (Some(_), Some(_)) => fault(
                "client_secret",
                "both client_secret and client_secret_file are given; keep one",
            ),
            (Some(_), None) if next.is_some() => fault(
                "client_secret_next_file",
                "needs client_secret_file: a secret that is written here can't change",
            ),
            (Some(secret), None) => Some(ProofSource::Secret(auth, Secret::new(secret))),
            (None, Some(file)) => Some(ProofSource::SecretFile(auth, file, next)),
            // One that is given but empty was told already.
            (None, None)
                if section
                    .node("client_secret")
                    .or_else(|| section.node("client_secret_file"))
                    .is_some() =>
            {
                None
            }
            (None, None) => {
                fault("client_secret_file", "missing; give client_secret_file, or client_secret")
            }
        },
    }
}

/// Parameters that the request sets by itself can't be set a second time.
fn token_params(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Vec<(String, String)>> {
    const OURS: [&str; 6] = [
        "grant_type",
        "client_id",
        "client_secret",
        "client_assertion",
        "client_assertion_type",
        "scope",
    ];
    section
        .pairs(reader, "token_params")
        .into_iter()
        .map(|(name, text)| {
            if OURS.contains(&name) {
                let message = format!("`{name}` is sent by bearerd itself; leave it out");
                reader.faults.push(text.place, &text.path, message);
                return None;
            }
            Some((name.to_owned(), text.value))
        })
        .collect()
}
