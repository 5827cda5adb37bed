//! From the tree to the parsed [`Config`]: section by section, every fault noted.

use super::environment::Environment;
use super::fault::Faults;
use super::file::{self, Reader, Section, join, named, unknown};
use super::node::{Entry, Node, Value};
use super::{
    Client, ClientAuth, ClientId, Config, Log, LogFormat, Route, Shutdown, Timeouts, Upstream,
    UpstreamId, value,
};
use crate::credential::Credential;
use crate::proxy::profile::{METHODS, Methods, PROFILES, Profile};
use crate::secret::Secret;
use std::path::PathBuf;
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
        let listen = self.listen(reader);
        let workers = self.section.parse(reader, "workers", value::workers);
        let admin = self.child(reader, "admin", file::ADMIN);
        let admin_listen = admin.parse(reader, "listen", value::socket_address);
        let clients: Vec<_> = self.clients.iter().map(|entry| client(reader, entry)).collect();
        let upstreams: Vec<_> =
            self.upstreams.iter().map(|entry| self.upstream(reader, entry)).collect();
        let owners: Vec<_> = upstreams
            .iter()
            .map(|upstream| upstream.as_ref().and_then(|(_, client)| *client))
            .collect();
        let routes = self.routes(reader, &owners);
        let log = self.log(reader);
        let shutdown = self.shutdown(reader);
        Some(Config {
            listen: listen?,
            workers: workers?,
            admin_listen: admin_listen?,
            clients: clients.into_iter().collect::<Option<_>>()?,
            upstreams: upstreams
                .into_iter()
                .map(|upstream| upstream.map(|(upstream, _)| upstream))
                .collect::<Option<_>>()?,
            routes: routes?,
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

    fn listen(&self, reader: &mut Reader<'_>) -> Option<Vec<value::ListenAddress>> {
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
                value::listen(&text.value)
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
    ) -> Option<(Upstream, Option<ClientId>)> {
        let path = join("upstreams", &entry.key);
        let section = Section::open(reader, &entry.node, &path, file::UPSTREAM);
        let cleartext = section.parse(reader, "allow_cleartext", value::boolean);
        let origin =
            section.parse(reader, "url", |text| value::origin(text, cleartext.unwrap_or(true)));
        let client = self.reference(reader, &section, "client", self.clients);
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

    fn routes(&self, reader: &mut Reader<'_>, owners: &[Option<ClientId>]) -> Option<Vec<Route>> {
        let Some(node) = self.section.node("routes") else {
            return self.default_routes(reader, owners);
        };
        let Value::List(items) = &node.value else {
            let message = format!("expected a list of routes, found {}", node.shape());
            reader.faults.push(&node.place, "routes", message);
            return None;
        };
        if items.is_empty() {
            reader.faults.push(&node.place, "routes", "the list is empty, so that every request would be refused; leave `routes` out to get the default paths");
        }
        let routes: Vec<_> = items
            .iter()
            .enumerate()
            .map(|(index, item)| self.route(reader, item, index, owners))
            .collect();
        let routes: Vec<_> = routes.into_iter().collect::<Option<_>>()?;
        for (index, route) in routes.iter().enumerate() {
            if routes.iter().take(index).any(|other| other.path == route.path) {
                let place = items.get(index).map_or(&node.place, |item| &item.place);
                let message = format!("`{}` is routed already; remove one of the two", route.path);
                reader.faults.push(place, &format!("routes[{index}].path"), message);
            }
        }
        Some(routes)
    }

    /// The profiles' own paths, for an only upstream.
    fn default_routes(
        &self,
        reader: &mut Reader<'_>,
        owners: &[Option<ClientId>],
    ) -> Option<Vec<Route>> {
        let [owner] = owners else {
            if owners.len() > 1 {
                reader.faults.push(
                    self.section.place(),
                    "routes",
                    "missing; with several upstreams, say which paths go where",
                );
            }
            return None;
        };
        let Some(client) = *owner else {
            return self.no_client(reader, "upstreams", self.section.place_of("upstreams"));
        };
        let routes = PROFILES.iter().flat_map(|profile| {
            profile.paths.iter().map(move |path| Route {
                path: (*path).to_owned(),
                upstream: UpstreamId(0),
                client,
                profile,
                methods: profile.methods,
                strip_path: false,
                headers: Vec::new(),
            })
        });
        Some(routes.collect())
    }

    fn no_client<T>(&self, reader: &mut Reader<'_>, path: &str, place: &super::Place) -> Option<T> {
        // With no clients at all, or a wrong name, the fault is told already.
        if self.clients.len() > 1 {
            reader.faults.push(
                place,
                path,
                "several clients are configured; say with `client` whose token goes there",
            );
        }
        None
    }

    fn route(
        &self,
        reader: &mut Reader<'_>,
        node: &'n Node,
        index: usize,
        owners: &[Option<ClientId>],
    ) -> Option<Route> {
        let section = Section::open(reader, node, &format!("routes[{index}]"), file::ROUTE);
        let path = section.parse(reader, "path", route_path);
        let profile = section.parse(reader, "profile", profile);
        let upstream = self.reference(reader, &section, "upstream", self.upstreams);
        if upstream.is_none() && section.node("upstream").is_none() && self.upstreams.len() > 1 {
            let message = "missing; several upstreams are configured";
            reader.faults.push(section.place(), &section.path("upstream"), message);
        }
        let own = self.reference(reader, &section, "client", self.clients);
        let inherited = upstream.and_then(|upstream| owners.get(upstream).copied().flatten());
        let client = if section.node("client").is_some() { own.map(ClientId) } else { inherited };
        let client = match client {
            Some(client) => Some(client),
            None if section.node("client").is_none() && upstream.is_some() => {
                self.no_client(reader, &section.path("client"), section.place())
            }
            None => None,
        };
        let methods = methods(reader, &section, profile);
        let strip_path = section.parse(reader, "strip_path", value::boolean);
        let headers = headers(reader, &section);
        Some(Route {
            path: path?,
            upstream: UpstreamId(upstream?),
            client: client?,
            profile: profile?,
            methods: methods?,
            strip_path: strip_path?,
            headers: headers?,
        })
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

fn client(reader: &mut Reader<'_>, entry: &Entry) -> Option<Client> {
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

fn ca_file(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<PathBuf> {
    section.parse(reader, "ca_file", value::non_empty).map(PathBuf::from)
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
    let path = section.parse(reader, "fetch_path", route_path);
    let (managed, path) = (managed?, path?);
    Some(managed.then_some(path))
}

fn route_path(text: &str) -> Result<String, String> {
    let path = text.strip_suffix('/').unwrap_or(text);
    let plain = |segment: &str| {
        !segment.is_empty()
            && segment != "."
            && segment != ".."
            && segment.bytes().all(|byte| byte.is_ascii_graphic() && !b"%\\?#".contains(&byte))
    };
    match path.strip_prefix('/') {
        Some("") | None => Err(format!(
            "`{text}` must begin with `/` and name at least one segment, such as /api/v1/scim2"
        )),
        Some(segments) if !segments.split('/').all(plain) => Err(format!(
            "`{text}` must be plain segments: no `//`, `.`, `..`, `%`, `?`, `#`, `\\` or spaces"
        )),
        Some(_) => Ok(path.to_owned()),
    }
}

fn profile(text: &str) -> Result<&'static Profile, String> {
    Profile::named(text)
        .ok_or_else(|| unknown("profile", text, PROFILES.iter().map(|profile| profile.name)))
}

fn methods(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    profile: Option<&'static Profile>,
) -> Option<Methods> {
    let names = section.list(reader, "methods");
    if section.node("methods").is_none() {
        return profile.map(|profile| profile.methods);
    }
    let set = match Methods::of(names.iter().map(|name| name.value.as_str())) {
        Ok(set) => set,
        Err(name) => {
            let message = unknown("method", name, METHODS.into_iter());
            reader.faults.push(section.place_of("methods"), &section.path("methods"), message);
            return None;
        }
    };
    let profile = profile?;
    if names.is_empty() || !set.is_within(profile.methods) {
        let message = format!("must be some of the profile's methods: {}", profile.methods);
        reader.faults.push(section.place_of("methods"), &section.path("methods"), message);
        return None;
    }
    Some(set)
}

fn headers(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
) -> Option<Vec<(http::HeaderName, http::HeaderValue)>> {
    section
        .pairs(reader, "headers")
        .into_iter()
        .map(|(name, text)| {
            value::header(name, &text.value)
                .map_err(|message| reader.faults.push(text.place, &text.path, message))
                .ok()
        })
        .collect()
}
