//! The services that requests are sent to.

use super::names::Names;
use super::{listen, transport};
use crate::config::client::Client;
use crate::config::draft::{KeyOrigin, NO_URL, OriginDraft, UpstreamDraft};
use crate::config::fault::Fault;
use crate::config::file;
use crate::config::section::Section;
use crate::config::transport::Transport;
use crate::config::upstream::{InFlightLimits, Timeouts, Upstream};
use crate::config::value::{self, HOUR, ListenAddress, ListenerId};
use crate::endpoint;
use crate::forward_proxy::ProxyChoice;
use crate::secret_file::CertificateFiles;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The parts of the configuration that upstreams refer to.
pub(super) struct UpstreamSources<'a> {
    pub(super) names: &'a Names<'a>,
    pub(super) clients: &'a [Option<Arc<Client>>],
    pub(super) listen: &'a [ListenAddress],
    pub(super) proxy: ProxyChoice,
}

/// The settings that routes inherit from their upstream, if the upstream has them.
pub(super) struct Inherited {
    /// The position of the client whose token is injected.
    pub(super) client: Option<usize>,
    /// The listeners that serve the routes.
    pub(super) listen: Option<Vec<ListenerId>>,
}

impl UpstreamSources<'_> {
    /// Reads an upstream, and the settings that its routes inherit.
    pub(super) fn read(&self, name: &str, section: &Section<'_>) -> (UpstreamDraft, Inherited) {
        let client = self.names.client(section);
        let (transport, mut if_cleartext) = transport::read(section, &self.proxy);
        let connect_to = connect_to(section);
        let transport = transport.zip(connect_to);
        let transport =
            transport.map(|(transport, connect_to)| Transport { connect_to, ..transport });
        let http2 = section.parse("http2", value::switch);
        if http2 == Some(true) && section.has("http2") {
            if_cleartext.push(transport::needs_https(section, "http2"));
        }
        let key = client.and_then(|client| self.clients.get(client)?.clone());
        let origin = origin(section, key, if_cleartext);
        let timeouts = timeouts(&section.child("timeouts", file::TIMEOUTS));
        let in_flight = in_flight(section);
        let csrf_fetch_path = csrf_fetch_path(&section.child("csrf", file::CSRF));
        let certificate = certificate(section);
        let rest = || {
            Some(Upstream {
                name: name.to_owned(),
                origin: (),
                origin_client: None,
                timeouts: timeouts?,
                in_flight,
                csrf_fetch_path,
                transport: transport?,
                http2: http2?,
                certificate,
            })
        };
        let upstream = UpstreamDraft { origin, rest: rest() };
        (upstream, Inherited { client, listen: listen::chosen(section, self.listen) })
    }
}

/// The origin: the value of `url`, or the one that the client's key names.
fn origin(
    section: &Section<'_>,
    client: Option<Arc<Client>>,
    if_cleartext: Vec<Fault>,
) -> Option<OriginDraft> {
    let allow_cleartext = section.parse("allow_cleartext", value::switch).unwrap_or(true);
    if section.has("url") {
        let origin = section.parse("url", |text| endpoint::origin(text, allow_cleartext))?;
        transport::check_scheme(section.reader, &origin, if_cleartext);
        return Some(OriginDraft::Given(origin));
    }
    let Some(client) = client else {
        section.fault("url", NO_URL);
        return None;
    };
    let (place, path) = (section.place_of("url").clone(), section.path("url"));
    Some(OriginDraft::OfKey(KeyOrigin { client, place, path, allow_cleartext, if_cleartext }))
}

/// Names and addresses to connect to.
fn connect_to(section: &Section<'_>) -> Option<Vec<String>> {
    section.refuse_empty(&["connect_to"]);
    let bare = |text: &str| match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => value::host(text).map(|host| host.replace(['[', ']'], "")),
    };
    section.parse_list("connect_to", bare)
}

/// Certificate chain and private key. One without the other is a fault.
fn certificate(section: &Section<'_>) -> Option<CertificateFiles> {
    const KEYS: [&str; 2] = ["certificate_file", "private_key_file"];
    let [certificate, key] = KEYS.map(|key| section.parse(key, value::path));
    for (key, other) in [(KEYS[0], KEYS[1]), (KEYS[1], KEYS[0])] {
        if !section.has(key) && section.has(other) {
            section.fault(key, format!("missing; {other} needs it"));
        }
    }
    certificate.zip(key).map(|(certificate, key)| CertificateFiles { certificate, key })
}

fn timeouts(section: &Section<'_>) -> Option<Timeouts> {
    let timeout = |key| section.parse(key, value::duration(Duration::from_millis(1), HOUR));
    let (connect, read) = (timeout("connect"), timeout("read"));
    let (write, idle) = (timeout("write"), timeout("idle"));
    Some(Timeouts { connect: connect?, read: read?, write: write?, idle: idle? })
}

/// The limit of concurrent requests, if there is one.
fn in_flight(upstream: &Section<'_>) -> Option<InFlightLimits> {
    let section = upstream.child("queue", file::QUEUE);
    let queue = section.parse("length", value::requests(0));
    let wait = section.parse("wait", value::duration(Duration::ZERO, HOUR));
    let most = upstream.parse("max_in_flight", value::requests(1));
    Some(InFlightLimits { most: most? as usize, queue: queue? as usize, wait: wait? })
}

/// The path where CSRF tokens are fetched, if bearerd manages them.
fn csrf_fetch_path(section: &Section<'_>) -> Option<String> {
    let managed = section.parse("managed", value::switch);
    let path = section.parse("fetch_path", value::route_path);
    path.filter(|_| managed == Some(true))
}
