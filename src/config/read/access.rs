//! Who may call.

use crate::config::file;
use crate::config::section::{Reader, Section};
use crate::config::{Access, value};
use std::path::PathBuf;

/// The names of this machine to itself.
const HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// The section, and whether it allows addresses that other machines reach.
pub(super) fn read(reader: &mut Reader<'_>, section: &Section<'_>) -> (Option<Access>, bool) {
    let hosts = match section.node("hosts") {
        None => Some(HOSTS.map(str::to_owned).to_vec()),
        Some(_) => all(reader, section, "hosts", value::host),
    };
    let uids = all(reader, section, "uids", value::uid);
    let basic = basic(reader, section);
    let api_key_file = section.parse(reader, "api_key_file", value::path);
    let has_credential = section.node("basic").is_some() || section.node("api_key_file").is_some();
    let wished = section.parse(reader, "allow_remote", value::boolean).unwrap_or_default();
    if wished && !has_credential {
        let message = "needs a local credential: set access.basic or access.api_key_file";
        let (place, path) = (section.place_of("allow_remote"), section.path("allow_remote"));
        reader.faults.push(place, &path, message);
    }
    let access = hosts.zip(uids).zip(basic);
    let access = access.map(|((hosts, uids), basic)| Access { hosts, basic, api_key_file, uids });
    (access, wished)
}

/// Both parts or none. `None`: it is wrong.
fn basic(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Option<(String, PathBuf)>> {
    let Some(node) = section.node("basic") else {
        return Some(None);
    };
    let inner = Section::open(reader, node, &section.path("basic"), file::BASIC);
    let username = inner.parse(reader, "username", |text| match text {
        text if text.contains(':') => Err("holds a colon, which HTTP Basic can't carry".into()),
        text => value::non_empty(text),
    });
    let password_file = inner.parse(reader, "password_file", value::path);
    for (key, is_there) in
        [("username", username.is_some()), ("password_file", password_file.is_some())]
    {
        if !is_there && inner.node(key).is_none() {
            let message = "missing; basic needs username and password_file";
            reader.faults.push(inner.place(), &inner.path(key), message);
        }
    }
    username.zip(password_file).map(|(name, file)| Some((name, file)))
}

fn all<T>(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    key: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Option<Vec<T>> {
    let texts = section.list(reader, key);
    let parsed: Vec<Option<T>> = texts
        .into_iter()
        .map(|text| {
            parse(&text.value)
                .map_err(|message| reader.faults.push(text.place, &text.path, message))
                .ok()
        })
        .collect();
    parsed.into_iter().collect()
}
