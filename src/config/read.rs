//! Reads the tree into the [`Draft`], section by section, and records every fault.

mod access;
mod audit;
mod caller;
mod client;
mod listen;
mod names;
mod route;
mod transport;
mod upstream;

use super::draft::Draft;
use super::fault::Faults;
use super::file;
use super::model::{Config, Limits, Log, LogFormat, ShutdownTimes};
use super::node::Node;
use super::section::{Reader, Section, unknown};
use super::value::{self, HOUR, ListenerId};
use crate::environment::Environment;
use names::Names;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tracing::level_filters::LevelFilter;

/// Reads a whole document. `faults` were found before, by the overrides.
pub(super) fn draft(tree: &Node, environment: &Environment, faults: Faults) -> Draft {
    let reader = Reader::new(environment, faults);
    let draft = read(&Section::open(&reader, tree, String::new(), file::ROOT));
    Draft { faults: reader.into_faults(), ..draft }
}

/// Reads a document. The faults stay with its reader.
fn read(root: &Section<'_>) -> Draft {
    let access = root.child("access", file::ACCESS);
    let allow_remote = access::allow_remote(root, &access);
    let listeners = listen::read(root, allow_remote);
    let given = listeners.iter().flatten();
    let listen: Vec<_> = given.map(|listener| listener.address.clone()).collect();
    let proxy = transport::of_environment(root.reader);
    let clients = root.named("clients", file::CLIENT);
    let upstreams = root.named("upstreams", file::UPSTREAM);
    let names = Names::new(root, &clients, &upstreams);
    let clients = clients.iter().map(|(name, section)| client::read(name, section, &proxy));
    let clients: Vec<_> = clients.map(|client| client.map(Arc::new)).collect();
    let sources =
        upstream::UpstreamSources { names: &names, clients: &clients, listen: &listen, proxy };
    let upstreams = upstreams.iter().map(|(name, section)| sources.read(name, section));
    let (upstreams, inherited): (Vec<_>, Vec<_>) = upstreams.unzip();
    let routes =
        route::RouteSources { names: &names, clients: &clients, inherited, listen: &listen };
    let routes = routes.read(root);
    let known = routes.as_deref().map(|routes| caller::KnownRoutes { routes, listen: &listen });
    let callers = caller::CallerSources {
        names: &names,
        clients: &clients,
        listeners: listeners.as_deref().unwrap_or_default(),
        listen: &listen,
        routes: known.as_ref(),
    };
    let callers = callers.read(root);
    if let (Some(listeners), Some(routes)) = (&listeners, &routes) {
        listen::check_use(root.reader, listeners, routes);
    }
    let audit = audit::read(root, known.as_ref());
    let faults = Faults::default();
    let rest = rest(root, &access, listen.clone()).zip(callers).map(|(config, callers)| {
        let listeners = listeners.unwrap_or_default();
        let warnings = access::warning(&access).into_iter();
        let warnings = warnings.chain(listen::cleartext_warnings(&listeners)).collect();
        let of_each = listeners.into_iter().enumerate();
        let tls = of_each.filter_map(|(index, one)| Some((ListenerId(index), one.tls?)));
        Config { tls: tls.collect(), callers, audit, warnings, ..config }
    });
    Draft { faults, clients, upstreams, routes, rest }
}

/// Everything but clients, upstreams and routes.
fn rest(
    root: &Section<'_>,
    access: &Section<'_>,
    listen: Vec<value::ListenAddress>,
) -> Option<Config> {
    let access = access::read(access);
    let requests = root.child("limits", file::LIMITS).parse("requests", value::requests(1));
    let workers = root.parse("workers", value::workers);
    let admin = listen::admin(root, &listen);
    let sandbox = root.parse("sandbox", value::switch);
    let log = log(&root.child("log", file::LOG));
    let shutdown = shutdown(&root.child("shutdown", file::SHUTDOWN));
    Some(Config {
        listen,
        tls: BTreeMap::new(),
        workers: workers?,
        access: access?,
        callers: Vec::new(),
        audit: None,
        limits: Limits { requests: requests? },
        admin: admin?,
        clients: Vec::new(),
        upstreams: Vec::new(),
        routes: Vec::new(),
        sandbox: sandbox?,
        log: log?,
        shutdown: shutdown?,
        references: BTreeSet::new(),
        warnings: Vec::new(),
    })
}

fn log(section: &Section<'_>) -> Option<Log> {
    let level = section.parse("level", |text| match text {
        "error" => Ok(LevelFilter::ERROR),
        "warn" => Ok(LevelFilter::WARN),
        "info" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        "trace" => Ok(LevelFilter::TRACE),
        other => {
            Err(unknown("level", other, ["error", "warn", "info", "debug", "trace"].into_iter()))
        }
    });
    let format = section.parse("format", |text| match text {
        "auto" => Ok(LogFormat::Auto),
        "json" => Ok(LogFormat::Json),
        "text" => Ok(LogFormat::Text),
        other => Err(unknown("format", other, ["auto", "json", "text"].into_iter())),
    });
    Some(Log { level: level?, format: format? })
}

fn shutdown(section: &Section<'_>) -> Option<ShutdownTimes> {
    let time = |key| section.parse(key, value::duration(Duration::ZERO, HOUR));
    let (lame_duck, grace) = (time("lame_duck"), time("grace"));
    Some(ShutdownTimes { lame_duck: lame_duck?, grace: grace? })
}
