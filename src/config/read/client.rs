//! OAuth clients and what proves them.

use super::{SECOND, ca_file};
use crate::config::file::{self, Reader, Section, join, unknown};
use crate::config::node::Entry;
use crate::config::{Client, ClientAuth, value};
use crate::credential::Credential;
use crate::secret::Secret;
use std::time::Duration;

pub(super) fn client(reader: &mut Reader<'_>, entry: &Entry) -> Option<Client> {
    let path = join("clients", &entry.key);
    let section = Section::open(reader, &entry.node, &path, file::CLIENT);
    let cleartext = section.parse(reader, "allow_cleartext", value::boolean);
    let token_url = section
        .parse(reader, "token_url", |text| value::token_url(text, cleartext.unwrap_or(true)));
    let client_id = section.parse(reader, "client_id", value::non_empty);
    let credential = credential(reader, &section);
    let client_auth = section.parse(reader, "client_auth", |text| match text {
        "post" => Ok(ClientAuth::Post),
        "basic" => Ok(ClientAuth::Basic),
        "basic-encoded" => Ok(ClientAuth::BasicEncoded),
        other => Err(unknown("method", other, ["post", "basic", "basic-encoded"].into_iter())),
    });
    let scope = section.text(reader, "scope").map(|text| text.value);
    let token_params = token_params(reader, &section);
    let expires_on = section.parse(reader, "expires_on", value::date);
    let refresh_at = section.parse(reader, "refresh_at", value::fraction);
    let wait = section.parse(reader, "wait", value::duration(Duration::ZERO, 60 * SECOND));
    let ca_file = ca_file(reader, &section);
    Some(Client {
        name: entry.key.clone(),
        token_url: token_url?,
        client_id: client_id?,
        credential: credential?,
        client_auth: client_auth?,
        scope: scope.filter(|scope| !scope.is_empty()),
        token_params: token_params?,
        expires_on,
        refresh_at: refresh_at?,
        wait: wait?,
        ca_file,
    })
}

fn credential(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Credential> {
    let secret = section.parse(reader, "client_secret", value::non_empty);
    let file = section.parse(reader, "client_secret_file", value::non_empty);
    match (secret, file) {
        (Some(secret), None) => Some(Credential::Secret(Secret::new(secret))),
        (None, Some(file)) => Some(Credential::SecretFile(file.into())),
        (Some(_), Some(_)) => {
            let message = "both client_secret and client_secret_file are given; keep one";
            reader.faults.push(
                section.place_of("client_secret"),
                &section.path("client_secret"),
                message,
            );
            None
        }
        (None, None) => {
            let given = ["client_secret", "client_secret_file"];
            if given.iter().all(|key| section.node(key).is_none()) {
                let message = "missing; give client_secret_file, or client_secret";
                reader.faults.push(section.place(), &section.path("client_secret_file"), message);
            }
            None
        }
    }
}

/// Parameters that the request sets by itself can't be set a second time.
fn token_params(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Vec<(String, String)>> {
    const OURS: [&str; 4] = ["grant_type", "client_id", "client_secret", "scope"];
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
