//! The services behind the sidecar.

use super::{HOUR, listen, route, transport};
use crate::config::node::Entry;
use crate::config::section::{Reader, Section, join};
use crate::config::{Client, InFlight, ListenAddress, ListenerId, Timeouts, Upstream, file, value};
use crate::endpoint;
use crate::forward_proxy::ProxyChoice;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// What the routes to an upstream inherit, as far as it is told there.
pub(super) struct Inherited {
    /// Whose token they carry.
    pub(super) client: Option<usize>,
    /// Where they are served.
    pub(super) listen: Option<Vec<ListenerId>>,
}

/// An upstream, and what its routes inherit. `client_of` finds the client in the section.
pub(super) fn read<'n>(
    reader: &mut Reader<'_>,
    entry: &'n Entry,
    environment: &ProxyChoice,
    listen: &[ListenAddress],
    client_of: impl FnOnce(&mut Reader<'_>, &Section<'n>) -> Option<usize>,
    clients: &mut [Option<Client>],
) -> (Option<Upstream>, Inherited) {
    let path = join("upstreams", &entry.key);
    let section = Section::open(reader, &entry.node, &path, file::UPSTREAM);
    let client = client_of(reader, &section);
    let key = client.and_then(|client| clients.get_mut(client)?.as_mut());
    let upstream = upstream(reader, &entry.key, &section, environment, key);
    let listen = listen::chosen(reader, &section, listen);
    (upstream, Inherited { client, listen })
}

fn upstream(
    reader: &mut Reader<'_>,
    name: &str,
    section: &Section<'_>,
    environment: &ProxyChoice,
    client: Option<&mut Client>,
) -> Option<Upstream> {
    let cleartext = section.parse(reader, "allow_cleartext", value::boolean);
    let cleartext = cleartext.unwrap_or(true);
    let origin = if section.node("url").is_some() {
        section.parse(reader, "url", |text| endpoint::origin(text, cleartext))
    } else {
        origin_of_key(client, cleartext)
            .map_err(|message| {
                reader.faults.push(section.place(), &section.path("url"), message);
            })
            .ok()
    };
    let timeouts = timeouts(reader, section);
    let in_flight = in_flight(reader, section);
    let csrf_fetch_path = csrf_fetch_path(reader, section);
    let transport = transport::read(reader, section, environment, origin.as_ref());
    let http2 = section.parse(reader, "http2", value::boolean);
    if http2 == Some(true) {
        transport::check_tls(reader, section, "http2", origin.as_ref());
    }
    let certificate = certificate(reader, section);
    Some(Upstream {
        name: name.to_owned(),
        origin: origin?,
        timeouts: timeouts?,
        in_flight: in_flight?,
        csrf_fetch_path: csrf_fetch_path?,
        transport: transport?,
        http2: http2?,
        certificate: certificate?,
    })
}

/// Both or none.
fn certificate(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
) -> Option<Option<(PathBuf, PathBuf)>> {
    const KEYS: [&str; 2] = ["certificate_file", "private_key_file"];
    let files = KEYS.map(|key| section.parse(reader, key, value::path));
    for (key, other) in [(KEYS[0], KEYS[1]), (KEYS[1], KEYS[0])] {
        if section.node(key).is_none() && section.node(other).is_some() {
            let message = format!("missing; {other} needs it");
            reader.faults.push(section.place(), &section.path(key), message);
            return None;
        }
    }
    let [certificate, key] = files;
    Some(certificate.zip(key))
}

/// An upstream without a URL takes the one that its client's key names.
fn origin_of_key(client: Option<&mut Client>, allow_cleartext: bool) -> Result<Url, String> {
    let missing = "missing; give the tenant's origin, such as https://acme.eu10.hcs.cloud.sap";
    let Some(client) = client else {
        return Err(missing.into());
    };
    match client.source.api_url() {
        Ok(Some(url)) => {
            let origin = endpoint::origin(&url.origin().ascii_serialization(), allow_cleartext)?;
            client.api_origin = Some(origin.clone());
            Ok(origin)
        }
        Ok(None) => Err(format!("{missing}; {} names none", client.source.described())),
        Err(error) => Err(format!("{missing}; the client's key could name it, but: {error}")),
    }
}

fn timeouts(reader: &mut Reader<'_>, upstream: &Section<'_>) -> Option<Timeouts> {
    let section = upstream.child(reader, "timeouts", file::TIMEOUTS);
    let mut timeout =
        |key| section.parse(reader, key, value::duration(Duration::from_millis(1), HOUR));
    let (connect, read) = (timeout("connect"), timeout("read"));
    let (write, idle) = (timeout("write"), timeout("idle"));
    Some(Timeouts { connect: connect?, read: read?, write: write?, idle: idle? })
}

/// `Some(None)`: without a limit.
fn in_flight(reader: &mut Reader<'_>, upstream: &Section<'_>) -> Option<Option<InFlight>> {
    let section = upstream.child(reader, "queue", file::QUEUE);
    let queue = section.parse(reader, "length", value::requests(0));
    let wait = section.parse(reader, "wait", value::duration(Duration::ZERO, HOUR));
    if upstream.node("max_in_flight").is_none() {
        return Some(None);
    }
    let most = upstream.parse(reader, "max_in_flight", value::requests(1));
    Some(Some(InFlight { most: most? as usize, queue: queue? as usize, wait: wait? }))
}

/// `Some(None)`: not managed.
fn csrf_fetch_path(reader: &mut Reader<'_>, upstream: &Section<'_>) -> Option<Option<String>> {
    let section = upstream.child(reader, "csrf", file::CSRF);
    let managed = section.parse(reader, "managed", value::boolean);
    let path = section.parse(reader, "fetch_path", route::path);
    let (managed, path) = (managed?, path?);
    Some(managed.then_some(path))
}
