//! What a request gets, by the matrix alone.

use super::attempt::{Attempt, Part, Protocol, Shown};
use super::connection::Way;
use super::world::{KINDS, Kind, ROUTES, Rights, World};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Answer {
    /// It is served as a request of this caller.
    Served(usize),
    /// It is refused with this status.
    Refused(u16),
}

impl World {
    /// The answer to a request over a connection.
    pub(super) fn answer(&self, way: &Way, attempt: &Attempt) -> Answer {
        let shown = attempt.shown(self);
        let lines = |kind: &Kind| shown.iter().filter(|shown| shown.kind == *kind).count();
        if KINDS.iter().any(|kind| self.has(*kind) && lines(kind) > 2) {
            return Answer::Refused(403);
        }
        let is_shown = |caller: &usize| self.is_shown(*caller, way, &shown);
        match (0..self.callers.len()).filter(is_shown).collect::<Vec<_>>()[..] {
            [] if self.has(Kind::Password) => Answer::Refused(401),
            [caller] => self.answer_to(caller, attempt),
            _ => Answer::Refused(403),
        }
    }

    /// Whether some caller has a key, or a password.
    pub(super) fn has(&self, kind: Kind) -> bool {
        self.callers.iter().flat_map(|caller| &caller.secrets).any(|secret| secret.kind == kind)
    }

    /// Whether a connection or a request on it shows a credential of a caller.
    fn is_shown(&self, caller: usize, way: &Way, shown: &[Shown]) -> bool {
        let own = &self.callers[caller];
        let is_by_secret = shown.iter().filter(|shown| shown.caller == caller).any(|shown| {
            own.secrets.iter().filter(|secret| secret.kind == shown.kind).any(|secret| {
                let is_old = shown.generation + 1 == secret.generation;
                shown.generation == secret.generation || secret.keeps_old && is_old
            })
        });
        let is_by_connection = match way {
            Way::Plain => false,
            Way::Tls { .. } => own.is_certified && way.names(self).contains(&own.name),
            Way::Unix => own.is_user,
        };
        is_by_secret || is_by_connection
    }

    fn answer_to(&self, caller: usize, attempt: &Attempt) -> Answer {
        let (rights, route) = (&self.callers[caller].rights, attempt.route());
        if !rights.has_route(route) {
            return Answer::Refused(403);
        }
        if !attempt.methods().all(|method| rights.has_method(route, method)) {
            return Answer::Refused(405);
        }
        let may_all = attempt.batch.iter().all(|batch| {
            batch.parts.iter().all(|part| {
                let is_here = |path: &String| route_of(path) == Some(route);
                readings(part, batch.protocol, ROUTES[route].path).iter().all(is_here)
                    && part.methods().all(|method| rights.has_method(route, method))
            })
        });
        if may_all { Answer::Served(caller) } else { Answer::Refused(403) }
    }
}

impl Rights {
    fn has_route(&self, route: usize) -> bool {
        self.routes.as_ref().is_none_or(|routes| routes.contains(&ROUTES[route].path))
    }

    fn has_method(&self, route: usize, method: &str) -> bool {
        // OData V2 has this name for it.
        let method = if method == "MERGE" { "PATCH" } else { method };
        self.methods.as_ref().is_none_or(|methods| methods.contains(&method))
            && ROUTES[route].methods.contains(&method)
    }
}

/// The paths as which servers may read the target of a part.
fn readings(part: &Part, protocol: Protocol, route: &str) -> Vec<String> {
    let target = part.target(route);
    let below = format!("{route}/{}", target.trim_start_matches('/'));
    if let Some(path) = target.strip_prefix("http://localhost") {
        vec![path.to_owned()]
    } else if !target.starts_with('/') {
        vec![below]
    } else if protocol == Protocol::OData {
        vec![target]
    } else if route_of(&target).is_some() {
        // In SCIM it is below the batch's route, but not every server knows that.
        vec![below, target]
    } else {
        vec![below]
    }
}

/// The route of a path: the longest one that it is below.
fn route_of(path: &str) -> Option<usize> {
    let is_below = |route: &usize| {
        path.strip_prefix(ROUTES[*route].path).is_some_and(|rest| rest.starts_with('/'))
    };
    (0..ROUTES.len()).filter(is_below).max_by_key(|route| ROUTES[*route].path.len())
}
