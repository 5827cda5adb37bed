//! Requests: to which route, by which method, with which credentials, and batches.

use super::world::{Kind, METHODS, ROUTES, World};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::iter::once;

/// The headers that override a method.
const OVERRIDES: [&str; 3] = ["X-HTTP-Method", "X-HTTP-Method-Override", "X-Method-Override"];
/// Targets of parts in a batch's own route, whose path stands in place of `~`.
const OWN: [&str; 4] = ["x", "Users/1", "~/x", "http://localhost~/x"];
/// Targets of parts that some server reads as those of another route, or of none.
const ANY: [&str; 8] = [
    "/Users/1",
    "inner/x",
    "/inner/x",
    "/all/x",
    "/some/x",
    "/all/inner/x",
    "/people/x",
    "http://localhost/all/inner/x",
];

/// A request of a connection.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) connection: Index,
    route: Index,
    method: &'static str,
    overrides: Vec<Override>,
    /// A caller, one of its secrets, and by how many generations it is too old.
    secrets: Vec<(Index, Index, u32)>,
    pub(super) batch: Option<Batch>,
}

/// A header that overrides a method.
type Override = (&'static str, &'static str);

#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) protocol: Protocol,
    pub(super) parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Protocol {
    OData,
    Scim,
    /// SCIM, but the content type does not say so.
    UndeclaredScim,
}

#[derive(Clone, Debug)]
pub(super) struct Part {
    method: &'static str,
    overriding: Option<Override>,
    target: &'static str,
}

/// A key or a password in a request.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) caller: usize,
    pub(super) kind: Kind,
    pub(super) generation: u32,
}

pub(super) fn attempts() -> impl Strategy<Value = Attempt> {
    let secret = || (any::<Index>(), any::<Index>(), prop_oneof![8 => Just(0), 1 => 1..3_u32]);
    let secrets = prop_oneof![
        4 => vec(secret(), 0),
        6 => vec(secret(), 1),
        2 => vec(secret(), 2),
        1 => vec(secret(), 3),
    ];
    let overrides = prop_oneof![
        12 => vec(overriding(), 0),
        2 => vec(overriding(), 1),
        1 => vec(overriding(), 2),
    ];
    let batch = option::weighted(0.4, batches());
    let (connection, route) = (any::<Index>(), any::<Index>());
    (connection, route, select(&METHODS[..]), overrides, secrets, batch).prop_map(
        |(connection, route, method, overrides, secrets, batch)| {
            let method = if batch.is_some() { "POST" } else { method };
            Attempt { connection, route, method, overrides, secrets, batch }
        },
    )
}

fn overriding() -> impl Strategy<Value = Override> {
    (select(&OVERRIDES[..]), select([&METHODS[..], &["MERGE", "PURGE"]].concat()))
}

fn batches() -> impl Strategy<Value = Batch> {
    let target = prop_oneof![8 => select(&OWN[..]), 1 => select(&ANY[..])];
    let part = (select(&METHODS[..]), option::weighted(0.1, overriding()), target);
    let part = part.prop_map(|(method, overriding, target)| Part { method, overriding, target });
    let protocols = [Protocol::OData, Protocol::Scim, Protocol::UndeclaredScim];
    (select(protocols.to_vec()), vec(part, 1..4))
        .prop_map(|(protocol, parts)| Batch { protocol, parts })
}

impl Attempt {
    pub(super) fn route(&self) -> usize {
        self.route.index(ROUTES.len())
    }

    pub(super) fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// Its method, and those that override it.
    pub(super) fn methods(&self) -> impl Iterator<Item = &str> {
        once(self.method).chain(self.overrides.iter().map(|(_, method)| *method))
    }

    /// The keys and passwords that it shows.
    pub(super) fn shown(&self, world: &World) -> Vec<Shown> {
        let shown = self.secrets.iter().map(|(caller, secret, age)| {
            let caller = caller.index(world.callers.len());
            let secrets = &world.callers[caller].secrets;
            if secrets.is_empty() {
                // A key of a caller that has none.
                return Shown { caller, kind: Kind::Key, generation: 0 };
            }
            let secret = &secrets[secret.index(secrets.len())];
            let generation = secret.generation.saturating_sub(*age);
            Shown { caller, kind: secret.kind, generation }
        });
        shown.collect()
    }

    /// The bytes of the request, with its number in a header.
    pub(super) fn text(&self, world: &World, number: usize) -> String {
        let mut lines = format!("X-Number: {number}\r\n");
        for Shown { caller, kind, generation } in self.shown(world) {
            let caller = &world.callers[caller];
            let secret = caller.secret(kind, generation);
            lines += &match kind {
                Kind::Key => format!("X-Api-Key: {secret}\r\n"),
                Kind::Password => {
                    let user = STANDARD.encode(format!("{}:{secret}", caller.label()));
                    format!("Authorization: Basic {user}\r\n")
                }
            };
        }
        for (name, method) in &self.overrides {
            lines += &format!("{name}: {method}\r\n");
        }
        let path = ROUTES[self.route()].path;
        let (resource, media, body) = match &self.batch {
            None => ("x", "text/plain", String::new()),
            Some(batch) => batch.content(path),
        };
        format!(
            "{} {path}/{resource} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media}\r\nContent-Length: {}\r\n{lines}\r\n{body}",
            self.method,
            body.len()
        )
    }
}

impl Batch {
    /// The resource, the content type and the text of a batch on this route.
    fn content(&self, route: &str) -> (&'static str, &'static str, String) {
        let (resource, media, list, target) = match self.protocol {
            Protocol::OData => ("$batch", "application/json", "requests", "url"),
            Protocol::Scim => ("Bulk", "application/scim+json", "Operations", "path"),
            Protocol::UndeclaredScim => ("Bulk", "application/json", "Operations", "path"),
        };
        let part = |(index, part): (usize, &Part)| {
            let header = |(name, method): Override| format!(r#""{name}":"{method}""#);
            format!(
                r#"{{"id":"{index}","method":"{}","{target}":"{}","headers":{{{}}}}}"#,
                part.method,
                part.target(route),
                part.overriding.map(header).unwrap_or_default()
            )
        };
        let parts: Vec<_> = self.parts.iter().enumerate().map(part).collect();
        (resource, media, format!(r#"{{"{list}":[{}]}}"#, parts.join(",")))
    }
}

impl Part {
    /// Its method, and those that override it.
    pub(super) fn methods(&self) -> impl Iterator<Item = &str> {
        once(self.method).chain(self.overriding.map(|(_, method)| method))
    }

    /// Its target in a batch on this route.
    pub(super) fn target(&self, route: &str) -> String {
        self.target.replace('~', route)
    }
}
