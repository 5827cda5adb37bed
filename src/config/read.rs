//! From the tree to the parsed [`Config`]: section by section, every fault noted.

mod access;
mod client;
mod route;

pub(super) use client::PARTS;

use super::environment::Environment;
use super::fault::Faults;
use super::file::{self, Reader, Section, join, named, unknown};
use super::node::{Entry, Node};
use super::{
    Client, ClientId, Config, Limits, Log, LogFormat, Shutdown, Timeouts, Upstream, value,
};
use std::path::PathBuf;
use std::time::Duration;
use tracing::level_filters::LevelFilter;
use url::Url;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Reads a whole configuration.
pub(super) fn config(
    tree: &Node,
    environment: &Environment,
    faults: Faults,
) -> Result<Config, Faults> {
    let mut reader = Reader { environment, faults };
    let parsed = Root::open(&mut reader, tree).config(&mut reader);
    reader.faults.into_result()?;
    // Every missing piece has left a fault, so that without faults nothing is missing.
    parsed.ok_or_else(Faults::default)
}

/// The whole document, with the names that its parts refer to.
struct Root<'n> {
    section: Section<'n>,
    clients: &'n [Entry],
    upstreams: &'n [Entry],
}

impl<'n> Root<'n> {
    fn open(reader: &mut Reader<'_>, tree: &'n Node) -> Self {
        let section = Section::open(reader, tree, "", file::ROOT);
        let clients = named(reader, section.node("clients"), "clients");
        let upstreams = named(reader, section.node("upstreams"), "upstreams");
        for (key, entries, variables) in [
            (
                "clients",
                clients,
                "BEARERD_TOKEN_URL, BEARERD_CLIENT_ID and BEARERD_CLIENT_SECRET_FILE",
            ),
            ("upstreams", upstreams, "BEARERD_UPSTREAM_URL"),
        ] {
            if entries.is_empty() {
                let message = format!(
                    "none is configured; add one to a file given with --config, or set {variables}"
                );
                reader.faults.push(section.place_of(key), key, message);
            }
        }
        Self { section, clients, upstreams }
    }

    fn config(&self, reader: &mut Reader<'_>) -> Option<Config> {
        let access = self.child(reader, "access", file::ACCESS);
        let (access, allow_remote) = access::read(reader, &access);
        let listen = self.listen(reader, allow_remote);
        let limits = self.child(reader, "limits", file::LIMITS);
        let requests = limits.parse(reader, "requests", value::requests);
        let workers = self.section.parse(reader, "workers", value::workers);
        let admin = self.child(reader, "admin", file::ADMIN);
        let admin_listen = admin.parse(reader, "listen", value::socket_address);
        let mut clients: Vec<_> =
            self.clients.iter().map(|entry| client::client(reader, entry)).collect();
        let upstreams: Vec<_> =
            self.upstreams.iter().map(|entry| self.upstream(reader, entry, &mut clients)).collect();
        let owners: Vec<_> = upstreams
            .iter()
            .map(|upstream| upstream.as_ref().and_then(|(_, client)| *client))
            .collect();
        let routes = self.routes(reader, &owners);
        let sandbox = self.section.parse(reader, "sandbox", value::switch);
        let log = self.log(reader);
        let shutdown = self.shutdown(reader);
        Some(Config {
            listen: listen?,
            access: access?,
            limits: Limits { requests: requests? },
            workers: workers?,
            admin_listen: admin_listen?,
            clients: clients.into_iter().collect::<Option<_>>()?,
            upstreams: upstreams
                .into_iter()
                .map(|upstream| upstream.map(|(upstream, _)| upstream))
                .collect::<Option<_>>()?,
            routes: routes?,
            sandbox: sandbox?,
            log: log?,
            shutdown: shutdown?,
        })
    }

    /// A section directly below the root; missing ones read as empty.
    fn child(
        &self,
        reader: &mut Reader<'_>,
        key: &str,
        fields: &'static [file::Field],
    ) -> Section<'n> {
        const EMPTY: &Node = &Node::empty_map();
        Section::open(reader, self.section.node(key).unwrap_or(EMPTY), key, fields)
    }

    fn listen(
        &self,
        reader: &mut Reader<'_>,
        allow_remote: bool,
    ) -> Option<Vec<value::ListenAddress>> {
        let texts = self.section.list(reader, "listen");
        if texts.is_empty() {
            let place = self.section.place_of("listen");
            reader.faults.push(
                place,
                "listen",
                "the list is empty; give an address such as 127.0.0.1:8080",
            );
        }
        texts
            .into_iter()
            .map(|text| {
                value::listen(&text.value, allow_remote)
                    .map_err(|message| reader.faults.push(text.place, &text.path, message))
                    .ok()
            })
            .collect::<Vec<_>>()
            .into_iter()
            .collect()
    }

    fn upstream(
        &self,
        reader: &mut Reader<'_>,
        entry: &'n Entry,
        clients: &mut [Option<Client>],
    ) -> Option<(Upstream, Option<ClientId>)> {
        let path = join("upstreams", &entry.key);
        let section = Section::open(reader, &entry.node, &path, file::UPSTREAM);
        let cleartext = section.parse(reader, "allow_cleartext", value::boolean);
        let cleartext = cleartext.unwrap_or(true);
        let client = self.reference(reader, &section, "client", self.clients);
        let origin = if section.node("url").is_some() {
            section.parse(reader, "url", |text| value::origin(text, cleartext))
        } else {
            let key = client.and_then(|client| clients.get_mut(client)?.as_mut());
            origin_of_key(key, cleartext)
                .map_err(|message| {
                    reader.faults.push(section.place(), &section.path("url"), message);
                })
                .ok()
        };
        let timeouts = timeouts(reader, &section);
        let csrf_fetch_path = csrf_fetch_path(reader, &section);
        let ca_file = ca_file(reader, &section);
        let upstream = Upstream {
            name: entry.key.clone(),
            origin: origin?,
            timeouts: timeouts?,
            csrf_fetch_path: csrf_fetch_path?,
            ca_file,
        };
        Some((upstream, client.map(ClientId)))
    }

    /// The index of the entry that `key` names; an only entry needs no mention.
    fn reference(
        &self,
        reader: &mut Reader<'_>,
        section: &Section<'_>,
        key: &str,
        entries: &[Entry],
    ) -> Option<usize> {
        let Some(text) = section.text(reader, key) else {
            return (entries.len() == 1).then_some(0);
        };
        let found = entries.iter().position(|entry| entry.key == text.value);
        if found.is_none() && !entries.is_empty() {
            let known = entries.iter().map(|entry| entry.key.as_str());
            let message = unknown(key, &text.value, known);
            reader.faults.push(text.place, &text.path, message);
        }
        found
    }

    fn log(&self, reader: &mut Reader<'_>) -> Option<Log> {
        let section = self.child(reader, "log", file::LOG);
        let level = section.parse(reader, "level", |text| match text {
            "error" => Ok(LevelFilter::ERROR),
            "warn" => Ok(LevelFilter::WARN),
            "info" => Ok(LevelFilter::INFO),
            "debug" => Ok(LevelFilter::DEBUG),
            "trace" => Ok(LevelFilter::TRACE),
            other => Err(unknown(
                "level",
                other,
                ["error", "warn", "info", "debug", "trace"].into_iter(),
            )),
        });
        let format = section.parse(reader, "format", |text| match text {
            "json" => Ok(LogFormat::Json),
            "text" => Ok(LogFormat::Text),
            other => Err(unknown("format", other, ["json", "text"].into_iter())),
        });
        Some(Log { level: level?, format: format? })
    }

    fn shutdown(&self, reader: &mut Reader<'_>) -> Option<Shutdown> {
        let section = self.child(reader, "shutdown", file::SHUTDOWN);
        let bounds = || value::duration(Duration::ZERO, HOUR);
        let lame_duck = section.parse(reader, "lame_duck", bounds());
        let grace = section.parse(reader, "grace", bounds());
        Some(Shutdown { lame_duck: lame_duck?, grace: grace? })
    }
}

fn ca_file(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<PathBuf> {
    section.parse(reader, "ca_file", value::non_empty).map(PathBuf::from)
}

/// An upstream without a URL takes the one that its client's key names.
fn origin_of_key(client: Option<&mut Client>, allow_cleartext: bool) -> Result<Url, String> {
    let missing = "missing; give the tenant's origin, such as https://acme.eu10.hcs.cloud.sap";
    let Some(client) = client else {
        return Err(missing.into());
    };
    match client.source.api_url() {
        Ok(Some(url)) => {
            let origin = value::origin(&url.origin().ascii_serialization(), allow_cleartext)?;
            client.api_origin = Some(origin.clone());
            Ok(origin)
        }
        Ok(None) => Err(format!("{missing}; {} names none", client.source.described())),
        Err(error) => Err(format!("{missing}; the client's key could name it, but: {error}")),
    }
}

fn timeouts(reader: &mut Reader<'_>, upstream: &Section<'_>) -> Option<Timeouts> {
    const EMPTY: &Node = &Node::empty_map();
    let node = upstream.node("timeouts").unwrap_or(EMPTY);
    let section = Section::open(reader, node, &upstream.path("timeouts"), file::TIMEOUTS);
    let mut timeout =
        |key| section.parse(reader, key, value::duration(Duration::from_millis(1), HOUR));
    let (connect, read) = (timeout("connect"), timeout("read"));
    let (write, idle) = (timeout("write"), timeout("idle"));
    Some(Timeouts { connect: connect?, read: read?, write: write?, idle: idle? })
}

/// `Some(None)`: not managed.
fn csrf_fetch_path(reader: &mut Reader<'_>, upstream: &Section<'_>) -> Option<Option<String>> {
    const EMPTY: &Node = &Node::empty_map();
    let node = upstream.node("csrf").unwrap_or(EMPTY);
    let section = Section::open(reader, node, &upstream.path("csrf"), file::CSRF);
    let managed = section.parse(reader, "managed", value::boolean);
    let path = section.parse(reader, "fetch_path", route::path);
    let (managed, path) = (managed?, path?);
    Some(managed.then_some(path))
}
