//! The YAML configuration of a sidecar, built key by key. Values are YAML text.

use super::tls;
use std::fmt::{self, Display};

/// A client, an upstream or a route: its keys in order.
#[derive(Clone, Default)]
struct Section {
    name: String,
    keys: Vec<(String, String)>,
}

impl Section {
    fn named(name: &str) -> Self {
        Self { name: name.to_owned(), keys: Vec::new() }
    }
}

/// A configuration on free ports. Methods that set a key replace its value if it has one.
#[derive(Clone)]
pub(crate) struct Configuration {
    keys: Vec<(String, String)>,
    clients: Vec<Section>,
    upstreams: Vec<Section>,
    routes: Vec<Section>,
}

fn set(keys: &mut Vec<(String, String)>, key: &str, value: impl Display) {
    match keys.iter_mut().find(|(known, _)| known == key) {
        Some((_, old)) => *old = value.to_string(),
        None => keys.push((key.to_owned(), value.to_string())),
    }
}

impl Configuration {
    /// A configuration without clients, upstreams and routes.
    pub(crate) fn new() -> Self {
        let empty = Self {
            keys: Vec::new(),
            clients: Vec::new(),
            upstreams: Vec::new(),
            routes: Vec::new(),
        };
        empty.key("listen", tls::listen()).key("admin", "{ listen: 127.0.0.1:0 }")
    }

    /// Sets a key at the top level.
    pub(crate) fn key(mut self, key: &str, value: impl Display) -> Self {
        set(&mut self.keys, key, value);
        self
    }

    /// Adds a client without keys.
    pub(crate) fn add_client(mut self, name: &str) -> Self {
        self.clients.push(Section::named(name));
        self
    }

    /// Sets a key of the last client.
    pub(crate) fn client(mut self, key: &str, value: impl Display) -> Self {
        set(&mut self.clients.last_mut().unwrap().keys, key, value);
        self
    }

    /// Sets these keys of the last client to nothing: they are left out.
    pub(crate) fn without_client_keys(mut self, keys: &[&str]) -> Self {
        self.clients.last_mut().unwrap().keys.retain(|(key, _)| !keys.contains(&key.as_str()));
        self
    }

    /// Gives the last client another name.
    pub(crate) fn rename_client(mut self, name: &str) -> Self {
        name.clone_into(&mut self.clients.last_mut().unwrap().name);
        self
    }

    /// Adds an upstream without keys.
    pub(crate) fn add_upstream(mut self, name: &str) -> Self {
        self.upstreams.push(Section::named(name));
        self
    }

    /// Sets a key of the last upstream.
    pub(crate) fn upstream(mut self, key: &str, value: impl Display) -> Self {
        set(&mut self.upstreams.last_mut().unwrap().keys, key, value);
        self
    }

    /// Leaves out a key of the last upstream.
    pub(crate) fn without_upstream_key(mut self, key: &str) -> Self {
        self.upstreams.last_mut().unwrap().keys.retain(|(known, _)| known != key);
        self
    }

    /// Gives the last upstream another name.
    pub(crate) fn rename_upstream(mut self, name: &str) -> Self {
        name.clone_into(&mut self.upstreams.last_mut().unwrap().name);
        self
    }

    /// Removes all upstreams.
    pub(crate) fn without_upstreams(mut self) -> Self {
        self.upstreams.clear();
        self
    }

    /// Sets a key of the route with this path. Adds the route if there is none.
    pub(crate) fn route(mut self, path: &str, key: &str, value: impl Display) -> Self {
        let place = self.routes.iter().position(|route| route.name == path);
        let place = place.unwrap_or_else(|| {
            self.routes.push(Section::named(path));
            self.routes.len() - 1
        });
        set(&mut self.routes[place].keys, key, value);
        self
    }

    /// Sets a key of all routes.
    pub(crate) fn all_routes(mut self, key: &str, value: impl Display) -> Self {
        for route in &mut self.routes {
            set(&mut route.keys, key, &value);
        }
        self
    }

    /// Removes all routes.
    pub(crate) fn without_routes(mut self) -> Self {
        self.routes.clear();
        self
    }
}

/// Keys in YAML's flow form.
fn flow(keys: &[(String, String)]) -> String {
    let pairs: Vec<_> = keys.iter().map(|(key, value)| format!("{key}: {value}")).collect();
    format!("{{ {} }}", pairs.join(", "))
}

impl Display for Configuration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, value) in &self.keys {
            writeln!(formatter, "{key}: {value}")?;
        }
        for (title, sections) in [("clients", &self.clients), ("upstreams", &self.upstreams)] {
            writeln!(formatter, "{title}:")?;
            for section in sections {
                writeln!(formatter, "  {}: {}", section.name, flow(&section.keys))?;
            }
        }
        if !self.routes.is_empty() {
            writeln!(formatter, "routes:")?;
        }
        for route in &self.routes {
            let path = ("path".to_owned(), route.name.clone());
            let keys = [&[path][..], &route.keys].concat();
            writeln!(formatter, "  - {}", flow(&keys))?;
        }
        Ok(())
    }
}
