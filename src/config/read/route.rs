//! Routes: those of the text, or the profiles' default paths.

use super::listen;
use super::names::Names;
use super::upstream::Inherited;
use crate::config::client::Client;
use crate::config::file;
use crate::config::node::Value;
use crate::config::route::{Retry, Route};
use crate::config::section::{Section, unknown};
use crate::config::value::{self, ListenAddress, ListenerId, SECOND};
use crate::profile::{METHODS, Methods, PROFILES, Profile};
use http::{HeaderName, HeaderValue, Method};
use std::sync::Arc;
use std::time::Duration;

/// The parts of the configuration that routes refer to.
pub(super) struct RouteSources<'a> {
    pub(super) names: &'a Names<'a>,
    pub(super) clients: &'a [Option<Arc<Client>>],
    /// The settings that routes inherit, for each upstream.
    pub(super) inherited: Vec<Inherited>,
    pub(super) listen: &'a [ListenAddress],
}

impl RouteSources<'_> {
    /// Reads the routes. `None` if one of them is wrong.
    pub(super) fn read(&self, root: &Section<'_>) -> Option<Vec<Route<usize>>> {
        let Some(node) = root.node("routes") else {
            return self.default_routes(root);
        };
        let Value::List(items) = &node.value else {
            root.fault("routes", format!("expected a list of routes, found {}", node.shape()));
            return None;
        };
        if items.is_empty() {
            let message = "the list is empty, so that every request would be refused; leave `routes` out to get the default paths";
            root.fault("routes", message);
        }
        let open = |(index, item)| {
            Section::open(root.reader, item, format!("routes[{index}]"), file::ROUTE)
        };
        let sections: Vec<_> = items.iter().enumerate().map(open).collect();
        let routes: Vec<_> = sections.iter().map(|section| self.route(section)).collect();
        let routes: Vec<_> = routes.into_iter().collect::<Option<_>>()?;
        for (index, (route, section)) in routes.iter().zip(&sections).enumerate() {
            let is_same = |other: &Route<usize>| {
                other.path == route.path && listen::overlap(&other.listen, &route.listen)
            };
            if routes.iter().take(index).any(is_same) {
                let message = format!(
                    "`{}` is routed already; remove one of the two, or give each a `listen` of its own",
                    route.path
                );
                root.reader.fault(section.place(), &section.path("path"), message);
            }
        }
        Some(routes)
    }

    /// The profiles' default paths, for the only upstream, or for each of several upstreams that
    /// have listeners of their own.
    fn default_routes(&self, root: &Section<'_>) -> Option<Vec<Route<usize>>> {
        if self.inherited.is_empty() {
            // There is a fault already.
            return None;
        }
        let listeners = self.inherited.iter().map(|upstream| self.listeners(None, upstream));
        let listeners: Vec<_> = listeners.collect();
        let is_alone = |(index, own): (usize, &Vec<ListenerId>)| {
            !listeners.iter().take(index).any(|other| listen::overlap(own, other))
        };
        if !listeners.iter().enumerate().all(is_alone) {
            let message = "missing; with several upstreams, give the routes, or give each upstream a `listen` of its own";
            root.fault("routes", message);
            return None;
        }
        let mut routes = Vec::new();
        for (upstream, (inherited, listen)) in self.inherited.iter().zip(&listeners).enumerate() {
            let Some(client) = inherited.client else {
                self.names.require_client(root, "upstreams");
                return None;
            };
            let client = self.clients.get(client)?.clone()?;
            let paths = PROFILES.iter().flat_map(|profile| {
                profile.paths.iter().map(move |(path, _)| (profile, (*path).to_owned()))
            });
            routes.extend(paths.map(|(profile, path)| Route {
                path,
                listen: listen.clone(),
                upstream,
                client: client.clone(),
                profile,
                methods: profile.methods,
                strip_path: false,
                links: true,
                html: false,
                unchecked_batches: false,
                retry: None,
                headers: Vec::new(),
            }));
        }
        Some(routes)
    }

    fn route(&self, section: &Section<'_>) -> Option<Route<usize>> {
        let path = section.parse("path", value::route_path);
        let profile = section.parse("profile", profile);
        let upstream = self.names.upstream(section);
        if upstream.is_none() && !section.has("upstream") && self.names.upstreams.len() > 1 {
            section.fault("upstream", "missing; several upstreams are configured");
        }
        let inherited = upstream.and_then(|upstream| self.inherited.get(upstream));
        let client = self.client(section, inherited);
        let listen = listen::chosen(section, self.listen);
        let methods = methods(section, profile);
        let strip_path = section.parse("strip_path", value::switch);
        let links = section.parse("links", value::switch);
        let html = section.parse("html", value::switch);
        let unchecked_batches = section.parse("unchecked_batches", value::switch);
        let retry = section.optional("retry", file::RETRY).and_then(|section| retry(&section));
        let is_write_only = methods.is_some_and(|methods| {
            ![Method::GET, Method::HEAD].iter().any(|read| methods.contains(read))
        });
        if is_write_only && section.has("retry") {
            section
                .fault("retry", "is for GET and HEAD, which this route does not allow; remove it");
        }
        let headers = headers(section);
        Some(Route {
            path: path?,
            listen: self.listeners(listen, inherited?),
            upstream: upstream?,
            client: self.clients.get(client?)?.clone()?,
            profile: profile?,
            methods: methods?,
            strip_path: strip_path?,
            links: links?,
            html: html?,
            unchecked_batches: unchecked_batches?,
            retry,
            headers: headers?,
        })
    }

    /// The position of the route's client: the route's own, or the upstream's.
    fn client(&self, section: &Section<'_>, inherited: Option<&Inherited>) -> Option<usize> {
        let own = self.names.client(section);
        if section.has("client") {
            return own;
        }
        let inherited = inherited?;
        if inherited.client.is_none() {
            self.names.require_client(section, "client");
        }
        inherited.client
    }

    /// The listeners of a route: the route's own, or the upstream's, or all.
    fn listeners(&self, own: Option<Vec<ListenerId>>, inherited: &Inherited) -> Vec<ListenerId> {
        own.or_else(|| inherited.listen.clone()).unwrap_or_else(|| listen::all(self.listen))
    }
}

fn retry(section: &Section<'_>) -> Option<Retry> {
    let attempts = section.parse("attempts", |text| {
        let most = Retry::MOST_ATTEMPTS;
        let number = text.parse().ok().filter(|attempts| (2..=most).contains(attempts));
        number.ok_or_else(|| format!("`{text}` is not a number from 2 to {most}"))
    });
    let max_wait = section.parse("max_wait", value::duration(Duration::ZERO, 300 * SECOND));
    Some(Retry { attempts: attempts?, max_wait: max_wait? })
}

fn profile(text: &str) -> Result<&'static Profile, String> {
    Profile::named(text)
        .ok_or_else(|| unknown("profile", text, PROFILES.iter().map(|profile| profile.name)))
}

fn methods(section: &Section<'_>, profile: Option<&'static Profile>) -> Option<Methods> {
    if !section.has("methods") {
        return profile.map(|profile| profile.methods);
    }
    let set = method_set(section)?;
    let profile = profile?;
    if set.is_empty() || !set.is_within(profile.methods) {
        let message = format!("must be some of the profile's methods: {}", profile.methods);
        section.fault("methods", message);
        return None;
    }
    Some(set)
}

/// The methods that a section lists.
pub(super) fn method_set(section: &Section<'_>) -> Option<Methods> {
    let names = section.list("methods");
    let set = Methods::of(names.iter().map(|name| name.value.as_str()));
    set.map_err(|name| section.fault("methods", unknown("method", name, METHODS.into_iter()))).ok()
}

fn headers(section: &Section<'_>) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let pairs = section.pairs("headers").into_iter();
    let headers = pairs.map(|(name, text)| text.parse(|value| value::header(name, value)));
    headers.collect::<Vec<_>>().into_iter().collect()
}
