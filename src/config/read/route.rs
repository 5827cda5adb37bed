//! Routes: given ones, or the profiles' own paths.

use super::upstream::Inherited;
use super::{Named, Root, SECOND, listen};
use crate::config::file;
use crate::config::node::{Node, Value};
use crate::config::section::{Reader, Section, unknown};
use crate::config::{ListenAddress, ListenerId, Place, Retry, Route, value};
use crate::profile::{METHODS, Methods, PROFILES, Profile};
use http::{HeaderName, HeaderValue, Method};
use std::time::Duration;

impl<'n> Root<'n> {
    pub(super) fn routes(
        &self,
        reader: &mut Reader<'_>,
        named: &Named,
        inherited: &[Inherited],
        listen: &[ListenAddress],
    ) -> Option<Vec<Route>> {
        let Some(node) = self.section.node("routes") else {
            return self.default_routes(reader, named, inherited, listen);
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
            .map(|(index, item)| self.route(reader, item, index, named, inherited, listen))
            .collect();
        let routes: Vec<_> = routes.into_iter().collect::<Option<_>>()?;
        for (index, route) in routes.iter().enumerate() {
            let is_the_same = |other: &Route| {
                other.path == route.path && listen::overlap(&other.listen, &route.listen)
            };
            if routes.iter().take(index).any(is_the_same) {
                let place = items.get(index).map_or(&node.place, |item| &item.place);
                let message = format!(
                    "`{}` is routed already; remove one of the two, or give each a `listen` of its own",
                    route.path
                );
                reader.faults.push(place, &format!("routes[{index}].path"), message);
            }
        }
        Some(routes)
    }

    /// The profiles' own paths, for an only upstream, or for each on listeners of its own.
    fn default_routes(
        &self,
        reader: &mut Reader<'_>,
        named: &Named,
        inherited: &[Inherited],
        listen: &[ListenAddress],
    ) -> Option<Vec<Route>> {
        if inherited.is_empty() {
            // The fault is told already.
            return None;
        }
        let listeners = inherited.iter().map(|upstream| listeners(None, upstream, listen));
        let listeners: Vec<_> = listeners.collect();
        let is_alone = |(index, own): (usize, &Vec<ListenerId>)| {
            !listeners.iter().take(index).any(|other| listen::overlap(own, other))
        };
        if !listeners.iter().enumerate().all(is_alone) {
            reader.faults.push(
                self.section.place(),
                "routes",
                "missing; with several upstreams, say which paths go where, or give each upstream a `listen` of its own",
            );
            return None;
        }
        let mut routes = Vec::new();
        for (index, (inherited, listen)) in inherited.iter().zip(&listeners).enumerate() {
            let Some(client) = inherited.client else {
                return self.no_client(reader, "upstreams", self.section.place_of("upstreams"));
            };
            let client = named.clients.get(client).cloned().flatten()?;
            let upstream = named.upstreams.get(index).cloned().flatten()?;
            let paths = PROFILES.iter().flat_map(|profile| {
                profile.paths.iter().map(move |path| (profile, (*path).to_owned()))
            });
            routes.extend(paths.map(|(profile, path)| Route {
                path,
                listen: listen.clone(),
                upstream: upstream.clone(),
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

    fn no_client<T>(&self, reader: &mut Reader<'_>, path: &str, place: &Place) -> Option<T> {
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
        named: &Named,
        inherited: &[Inherited],
        listen: &[ListenAddress],
    ) -> Option<Route> {
        let section = Section::open(reader, node, &format!("routes[{index}]"), file::ROUTE);
        let path = section.parse(reader, "path", path);
        let profile = section.parse(reader, "profile", profile);
        let upstream = self.reference(reader, &section, "upstream", self.upstreams);
        if upstream.is_none() && section.node("upstream").is_none() && self.upstreams.len() > 1 {
            let message = "missing; several upstreams are configured";
            reader.faults.push(section.place(), &section.path("upstream"), message);
        }
        let own = self.reference(reader, &section, "client", self.clients);
        let inherited = upstream.and_then(|upstream| inherited.get(upstream));
        let client = match section.node("client") {
            Some(_) => own,
            None => inherited.and_then(|inherited| inherited.client),
        };
        let client = match client {
            Some(client) => Some(client),
            None if section.node("client").is_none() && upstream.is_some() => {
                self.no_client(reader, &section.path("client"), section.place())
            }
            None => None,
        };
        let chosen = listen::chosen(reader, &section, listen);
        let methods = methods(reader, &section, profile);
        let strip_path = section.parse(reader, "strip_path", value::boolean);
        let links = section.parse(reader, "links", value::switch);
        let html = section.parse(reader, "html", value::switch);
        let unchecked_batches = section.parse(reader, "unchecked_batches", value::switch);
        let retry = retry(reader, &section);
        let only_writes = methods.is_some_and(|methods| {
            ![Method::GET, Method::HEAD].iter().any(|read| methods.contains(read))
        });
        if only_writes && section.node("retry").is_some() {
            let message = "is for GET and HEAD, which this route does not take; take it out";
            reader.faults.push(section.place_of("retry"), &section.path("retry"), message);
        }
        let headers = headers(reader, &section);
        Some(Route {
            path: path?,
            listen: listeners(chosen, inherited?, listen),
            upstream: named.upstreams.get(upstream?).cloned().flatten()?,
            client: named.clients.get(client?).cloned().flatten()?,
            profile: profile?,
            methods: methods?,
            strip_path: strip_path?,
            links: links?,
            html: html?,
            unchecked_batches: unchecked_batches?,
            retry: retry?,
            headers: headers?,
        })
    }
}

/// Where a route is served: as it says itself, or its upstream, or else everywhere.
fn listeners(
    own: Option<Vec<ListenerId>>,
    inherited: &Inherited,
    listen: &[ListenAddress],
) -> Vec<ListenerId> {
    own.or_else(|| inherited.listen.clone()).unwrap_or_else(|| listen::all(listen))
}

/// `Some(None)`: none.
fn retry(reader: &mut Reader<'_>, route: &Section<'_>) -> Option<Option<Retry>> {
    let Some(node) = route.node("retry") else {
        return Some(None);
    };
    let section = Section::open(reader, node, &route.path("retry"), file::RETRY);
    let attempts = section.parse(reader, "attempts", |text| {
        let most = Retry::MOST_ATTEMPTS;
        let number = text.parse().ok().filter(|attempts| (2..=most).contains(attempts));
        number.ok_or_else(|| format!("`{text}` is not a number from 2 to {most}"))
    });
    let max_wait = section.parse(reader, "max_wait", value::duration(Duration::ZERO, 300 * SECOND));
    Some(Some(Retry { attempts: attempts?, max_wait: max_wait? }))
}

pub(super) fn path(text: &str) -> Result<String, String> {
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
) -> Option<Vec<(HeaderName, HeaderValue)>> {
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
