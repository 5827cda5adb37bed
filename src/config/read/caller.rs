//! Callers with names: how each one is recognized, and what it may do.

use super::access;
use super::listen::{self, Listener};
use super::names::Names;
use super::route;
use crate::config::caller::{Caller, CallerLimits, CertificateName, Rate, SubjectName, UNNAMED};
use crate::config::client::Client;
use crate::config::file;
use crate::config::route::{Route, RouteRef, name_of};
use crate::config::section::{Section, unknown};
use crate::config::value::{self, ListenAddress, ListenerId};
use crate::profile::{METHODS, Methods};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// The keys by which a caller is recognized.
const RECOGNIZED_BY: [&str; 4] = ["api_key_file", "basic", "uids", "certificate"];
/// The longest name of a caller.
const LONGEST_NAME: usize = 64;
/// The largest number of requests of a rate.
const MOST: u32 = 1_000_000;

/// The parts of the configuration that callers refer to.
pub(super) struct CallerSources<'a> {
    pub(super) names: &'a Names<'a>,
    pub(super) clients: &'a [Option<Arc<Client>>],
    pub(super) listeners: &'a [Listener<'a>],
    pub(super) listen: &'a [ListenAddress],
    /// `None` if a route is wrong.
    pub(super) routes: Option<&'a KnownRoutes<'a>>,
}

impl CallerSources<'_> {
    /// Reads the callers. A value that is wrong has left its fault, and is missing.
    pub(super) fn read(&self, root: &Section<'_>) -> Option<Vec<Caller>> {
        let sections = root.named("callers", file::CALLER);
        if root.is_empty("callers") || root.has("callers") && sections.is_empty() {
            root.fault("callers", "is empty; add a caller, or remove the key");
        }
        let callers: Vec<_> =
            sections.iter().map(|(name, section)| self.caller(root, name, section)).collect();
        refuse_shared(&sections, &callers);
        callers.into_iter().collect()
    }

    fn caller(&self, root: &Section<'_>, name: &str, section: &Section<'_>) -> Option<Caller> {
        if let Some(message) = fault_of_name(name) {
            root.reader.fault(section.place(), &format!("callers.{name}"), message);
        }
        section.refuse_empty(&RECOGNIZED_BY);
        section.refuse_empty(&["routes", "methods", "client", "limits"]);
        let api_key_file = section.parse("api_key_file", value::path);
        let basic = section.optional("basic", file::CALLER_BASIC);
        let basic = basic.and_then(|section| access::basic(&section));
        let uids = section.parse_list("uids", value::uid);
        if section.has("uids") && uids.as_ref().is_some_and(Vec::is_empty) {
            section.fault("uids", "the list is empty; give a user id, or remove the key");
        }
        let certificate = section.optional("certificate", file::CALLER_CERTIFICATE);
        let certificate = certificate.and_then(|section| self.certificate(&section));
        if !RECOGNIZED_BY.iter().any(|key| section.has(key)) {
            let message = "has no credential; give it api_key_file, basic, uids or certificate";
            root.reader.fault(section.place(), &format!("callers.{name}"), message);
        }
        let is_unix = |listener: &Listener<'_>| matches!(listener.address, ListenAddress::Unix(_));
        if section.has("uids") && !self.listeners.iter().any(is_unix) {
            section.fault("uids", "needs a Unix socket in `listen`; add one, or remove this");
        }
        let routes = routes(section, self.routes);
        let methods = methods(section);
        let client = section.has("client").then(|| self.names.client(section)).flatten();
        let client = client.and_then(|client| self.clients.get(client)?.clone());
        let limits = limits(section);
        let caller = Caller {
            name: name.to_owned(),
            api_key_file,
            basic,
            uids: uids?,
            certificate,
            routes,
            methods,
            client,
            limits,
        };
        if let Some(known) = self.routes {
            let mut usable = known.routes.iter().filter(|route| caller.may_use(route));
            match usable.next() {
                None => {
                    let message =
                        "may use no route: none allows these methods; change methods or routes";
                    root.reader.fault(section.place(), &format!("callers.{name}"), message);
                }
                Some(first) if caller.client.is_some() => {
                    if usable.any(|route| route.upstream != first.upstream) {
                        let message = "would be used for several upstreams, and tokens of one tenant would be sent to another; give the caller `routes` of one upstream";
                        section.fault("client", message);
                    }
                }
                Some(_) => {}
            }
        }
        Some(caller)
    }

    /// The listener whose authorities sign the certificate, if it matters.
    fn signing_listener(&self, section: &Section<'_>) -> Option<ListenerId> {
        let authority = |listener: &Listener<'_>| listener.tls.as_ref()?.client_ca.clone();
        let mut authorities = self.listeners.iter().filter_map(authority);
        let Some(first) = authorities.next() else {
            let message = "needs a listener with tls.client_ca_file; add one, or remove this";
            section.reader.fault(section.place(), section.own_path(), message);
            return None;
        };
        let chosen = listen::chosen(section, self.listen);
        let Some(listener) = chosen.and_then(|all| all.first().copied()) else {
            if !section.has("listen") && authorities.any(|other| other != first) {
                let message = "missing; listeners have different client_ca_files, so name the one whose authority signs this certificate";
                section.fault("listen", message);
            }
            return None;
        };
        if self.listeners.get(listener.0).and_then(authority).is_none() {
            section.fault("listen", "has no tls.client_ca_file; name a listener that has one");
        }
        Some(listener)
    }

    /// The name in the certificate: of one kind.
    fn certificate(&self, section: &Section<'_>) -> Option<CertificateName> {
        let listener = self.signing_listener(section);
        let uri = section.parse("san_uri", value::non_empty);
        let dns = section.parse("san_dns", |text| match text.contains('*') {
            true => Err("holds `*`; give the name as it is in the certificate".to_owned()),
            false => value::host(text),
        });
        let named = |name| Some(CertificateName { name, listener });
        match (uri, dns) {
            (Some(uri), None) if !section.has("san_dns") => named(SubjectName::Uri(uri)),
            (None, Some(dns)) if !section.has("san_uri") => named(SubjectName::Dns(dns)),
            _ => {
                let names = ["san_uri", "san_dns"].map(|key| section.has(key));
                if names[0] == names[1] {
                    let message = match names[0] {
                        true => "has san_uri and san_dns; remove one of them",
                        false => "needs san_uri or san_dns",
                    };
                    section.reader.fault(section.place(), section.own_path(), message);
                }
                None
            }
        }
    }
}

/// The routes that a section names; `None` for all of them.
pub(super) fn routes(
    section: &Section<'_>,
    known: Option<&KnownRoutes<'_>>,
) -> Option<Vec<RouteRef>> {
    if !section.has("routes") {
        return None;
    }
    let texts = section.list("routes");
    if texts.is_empty() {
        section.fault("routes", "the list is empty; name a route, or leave it out for all");
    }
    let known = known?;
    let routes: Vec<_> = texts.iter().map(|text| text.parse(|name| known.find(name))).collect();
    routes.into_iter().collect()
}

/// The routes of the configuration, to which callers and the audit log refer.
pub(super) struct KnownRoutes<'a> {
    pub(super) routes: &'a [Route<usize>],
    pub(super) listen: &'a [ListenAddress],
}

impl KnownRoutes<'_> {
    /// The route of a name in metrics and logs.
    fn find(&self, text: &str) -> Result<RouteRef, String> {
        let text = text.strip_suffix('/').unwrap_or(text);
        let names = self.routes.iter().map(|route| name_of(route, self.routes, self.listen));
        let names: Vec<_> = names.collect();
        let found = names.iter().zip(self.routes).find(|(name, _)| *name == text);
        if let Some((_, Route { path, listen, .. })) = found {
            return Ok(RouteRef { path: path.clone(), listen: listen.clone() });
        }
        let same: Vec<_> = names.iter().filter(|name| name.ends_with(text)).collect();
        if self.routes.iter().any(|route| route.path == text) {
            let same: Vec<_> = same.iter().map(|name| format!("`{name}`")).collect();
            return Err(format!(
                "`{text}` is served on several listeners; write {}",
                same.join(" or ")
            ));
        }
        Err(unknown("route", text, names.iter().map(String::as_str)))
    }
}

/// What is wrong with a name. It stands in metrics and in the log.
fn fault_of_name(name: &str) -> Option<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name == UNNAMED {
        let message = format!("`{UNNAMED}` is the caller of `access`; choose another name");
        return Some(message);
    }
    let is_name = !name.is_empty() && name.len() <= LONGEST_NAME && name.bytes().all(is_plain);
    (!is_name).then(|| {
        format!(
            "a name has 1 to {LONGEST_NAME} letters, digits, `.`, `_` or `-`; choose another one"
        )
    })
}

/// The methods of a caller; `None` for those of the route.
fn methods(section: &Section<'_>) -> Option<Methods> {
    if !section.has("methods") {
        return None;
    }
    let methods = route::method_set(section)?;
    if methods.is_empty() {
        let known = METHODS.join(", ");
        section.fault("methods", format!("the list is empty; give some of {known}"));
        return None;
    }
    Some(methods)
}

fn limits(section: &Section<'_>) -> CallerLimits {
    let Some(section) = section.optional("limits", file::CALLER_LIMITS) else {
        return CallerLimits::default();
    };
    section.refuse_empty(&["requests", "rate"]);
    if !section.has("requests") && !section.has("rate") {
        section.reader.fault(section.place(), section.own_path(), "needs requests or rate");
    }
    CallerLimits {
        requests: section.parse("requests", value::requests(1)),
        rate: section.parse("rate", rate),
    }
}

/// Parses a rate, for example 20/s.
fn rate(text: &str) -> Result<Rate, String> {
    let parsed = text.split_once('/').and_then(|(number, unit)| {
        let requests = number.trim().parse().ok().filter(|number| (1..=MOST).contains(number))?;
        let seconds = match unit.trim() {
            "s" => 1,
            "m" | "min" => 60,
            "h" => 3600,
            _ => return None,
        };
        Some(Rate { requests, period: Duration::from_secs(seconds) })
    });
    parsed.ok_or_else(|| {
        format!(
            "`{text}` is not a number (1 to {MOST}) of requests per s, min or h, for example 20/s"
        )
    })
}

/// Records a fault for each user id, user name or certificate's name of two callers. Whether two
/// callers have the same key is known only when the files are read.
fn refuse_shared(sections: &[(&str, Section<'_>)], callers: &[Option<Caller>]) {
    let mut owners: HashMap<String, &str> = HashMap::new();
    for ((name, section), caller) in sections.iter().zip(callers) {
        let Some(caller) = caller else { continue };
        let uids = caller.uids.iter().map(|uid| ("uids", format!("user id {uid}")));
        let basic = caller.basic.iter().map(|it| ("basic", format!("user name {}", it.username)));
        for (key, what) in uids.chain(basic) {
            match owners.insert(what.clone(), name) {
                Some(other) if other != *name => {
                    let message =
                        format!("{what} is also that of caller {other}; one caller can have it");
                    section.fault(key, message);
                }
                _ => {}
            }
        }
    }
    let certified = || {
        let both = sections.iter().zip(callers);
        both.filter_map(|((name, section), caller)| {
            Some((*name, section, caller.as_ref()?.certificate.as_ref()?))
        })
    };
    for (index, (_, section, own)) in certified().enumerate() {
        if let Some((other, ..)) = certified().take(index).find(|(.., it)| it.overlaps(own)) {
            let name = &own.name;
            let message = format!("{name} is also that of caller {other}; one caller can have it");
            section.fault("certificate", message);
        }
    }
}
