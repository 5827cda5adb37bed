//! From the tree to the parsed [`Config`]: section by section, every fault noted.

mod access;
mod client;
mod listen;
mod route;
mod transport;
mod upstream;

pub(super) use client::PARTS;

use super::fault::Faults;
use super::file;
use super::node::{Entry, Node};
use super::section::{Reader, Section, named, unknown};
use super::{Client, Config, Limits, Log, LogFormat, Shutdown, Upstream, value};
use crate::environment::Environment;
use std::sync::Arc;
use std::time::Duration;
use tracing::level_filters::LevelFilter;

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

/// Clients and upstreams in the order of the text; `None` where one is wrong.
struct Named {
    clients: Vec<Option<Arc<Client>>>,
    upstreams: Vec<Option<Arc<Upstream>>>,
}

fn shared<T>(all: Vec<Option<T>>) -> Vec<Option<Arc<T>>> {
    all.into_iter().map(|one| one.map(Arc::new)).collect()
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
        let access = self.section.child(reader, "access", file::ACCESS);
        let (access, allow_remote) = access::read(reader, &access);
        let addresses = listen::read(reader, &self.section, allow_remote);
        let listen: Vec<_> =
            addresses.iter().flatten().map(|(address, _)| address.clone()).collect();
        let limits = self.section.child(reader, "limits", file::LIMITS);
        let requests = limits.parse(reader, "requests", value::requests(1));
        let workers = self.section.parse(reader, "workers", value::workers);
        let admin = self.section.child(reader, "admin", file::ADMIN);
        let admin_listen = admin.parse(reader, "listen", value::socket_address);
        let proxy = transport::of_environment(reader);
        let clients = self.clients.iter().map(|entry| client::client(reader, entry, &proxy));
        let mut clients: Vec<_> = clients.collect();
        let upstreams = self.upstreams.iter().map(|entry| {
            upstream::read(
                reader,
                entry,
                &proxy,
                &listen,
                |reader, section| self.reference(reader, section, "client", self.clients),
                &mut clients,
            )
        });
        let (upstreams, inherited): (Vec<_>, Vec<_>) = upstreams.unzip();
        let named = Named { clients: shared(clients), upstreams: shared(upstreams) };
        let routes = self.routes(reader, &named, &inherited, &listen);
        if let (Some(addresses), Some(routes)) = (&addresses, &routes) {
            listen::check_use(reader, addresses, routes);
        }
        let sandbox = self.section.parse(reader, "sandbox", value::switch);
        let log = self.log(reader);
        let shutdown = self.shutdown(reader);
        Some(Config {
            listen,
            access: access?,
            limits: Limits { requests: requests? },
            workers: workers?,
            admin_listen: admin_listen?,
            clients: named.clients.into_iter().collect::<Option<_>>()?,
            upstreams: named.upstreams.into_iter().collect::<Option<_>>()?,
            routes: routes?,
            sandbox: sandbox?,
            log: log?,
            shutdown: shutdown?,
        })
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
        let section = self.section.child(reader, "log", file::LOG);
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
        let section = self.section.child(reader, "shutdown", file::SHUTDOWN);
        let bounds = || value::duration(Duration::ZERO, HOUR);
        let lame_duck = section.parse(reader, "lame_duck", bounds());
        let grace = section.parse(reader, "grace", bounds());
        Some(Shutdown { lame_duck: lame_duck?, grace: grace? })
    }
}
