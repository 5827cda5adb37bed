//! Which parts of a batch may be sent.

use super::kind::BatchKind;
use super::part_request::PartRequest;
use super::refusal::BatchRefusal;
use super::target::{Base, Origins};
use crate::config::{CallerId, ListenerId};
use crate::proxy::guard::Guard;
use crate::proxy::method_override::all_methods;
use crate::proxy::route;
use crate::proxy::route_handle::RouteHandle;
use crate::proxy::table::Table;
use http::Method;
use http::header::HOST;
use std::sync::Arc;

/// What parts are compared with: the batch's own request, and the routes at its time.
pub(super) struct PartRules {
    pub(super) table: Arc<Table>,
    pub(super) listener: ListenerId,
    /// The caller, if it has a name.
    pub(super) caller: Option<CallerId>,
    /// The batch's own route.
    pub(super) route: Arc<RouteHandle>,
    pub(super) origins: Origins,
    /// The batch's path, up to the slash before its last segment.
    pub(super) base: Vec<u8>,
    pub(super) kind: BatchKind,
}

impl PartRules {
    /// Checks that a part may be sent. Returns whether it changes something.
    ///
    /// # Errors
    /// The part is refused.
    pub(super) fn check_part(&self, part: &PartRequest<'_>) -> Result<bool, BatchRefusal> {
        let forbidden = |why: String| {
            let target: String = part.target.chars().take(200).collect();
            let target = target.escape_default();
            Err(BatchRefusal::Forbidden(format!("({} {target}) {why}", part.method)))
        };
        let guard: &Guard = &self.table.guard;
        let is_odd = |one: char| one.is_control() || matches!(one, '#' | '\u{2028}' | '\u{2029}');
        // Some servers trim spaces beyond ASCII and characters that are not visible.
        let is_shown = |first: char| first.is_ascii_graphic() || first.is_alphanumeric();
        let begins_oddly = part.target.starts_with(|first: char| !is_shown(first));
        if begins_oddly || part.target.contains(is_odd) {
            return forbidden("has a target with characters that no target may hold".to_owned());
        }
        let base = Base { path: &self.base, takes_absolute: self.kind == BatchKind::Scim };
        let paths = match self.origins.resolve(part.target, &base, guard) {
            Ok(path) => self.paths_here(path),
            Err(why) => return forbidden(why.to_owned()),
        };
        if let Some(host) = part.headers.get(HOST)
            && !self.origins.includes(host.as_bytes(), guard)
        {
            return forbidden("has the Host of another server".to_owned());
        }
        // A server may read a path of SCIM as an absolute one, also of a route that the caller
        // may not use.
        let is_absolute = self.kind == BatchKind::Scim && part.target.starts_with('/');
        if is_absolute
            && let Ok(route) = self.table.find(self.listener, None, part.target.as_bytes())
            && route.name != self.route.name
        {
            return forbidden(format!("can be read as a path of another route, {}", route.name));
        }
        let mut only_reads = true;
        for path in paths {
            match BatchKind::of(&path) {
                // A SCIM resource may be named `Bulk`: reading it is not a batch.
                Some(BatchKind::Scim)
                    if all_methods(&part.method, part.headers, |method| method.is_safe()) => {}
                Some(_) => return forbidden("is a batch itself".to_owned()),
                None => {}
            }
            match self.table.find(self.listener, self.caller, &path) {
                Ok(route) if route.name == self.route.name => {}
                Ok(route) => return forbidden(format!("takes another route, {}", route.name)),
                Err(problem) => return forbidden(format!("may not be sent: {}", problem.detail)),
            }
            let is_read = !part.has_reference() && self.route.reads_by_post(&path);
            let allowed = self.route.check_method_of(is_read, &part.method, part.headers, &path);
            if let Err(problem) = allowed {
                return forbidden(format!("may not be sent: {}", problem.detail));
            }
            only_reads &= all_methods(&part.method, part.headers, |method| {
                method.is_safe() || is_read && *method == Method::POST
            });
        }
        Ok(!only_reads)
    }

    /// The paths on this listener that lead to where the upstream sends a path. With `strip_path`,
    /// the caller may or may not have written the part that the route cuts.
    fn paths_here(&self, path: Vec<u8>) -> Vec<Vec<u8>> {
        let mut paths = vec![path];
        paths.extend(paths.first().and_then(|path| self.below_base(path)));
        if self.route.cut > 0 {
            let prefix = self.route.config.path.as_bytes();
            let is_below = |path: &Vec<u8>| {
                path.strip_prefix(prefix).is_some_and(|rest| rest.first() == Some(&b'/'))
            };
            let whole = paths.iter().map(|path| [prefix, path].concat());
            paths = whole.chain(paths.iter().filter(|path| is_below(path)).cloned()).collect();
        }
        paths
    }

    /// The path below the batch's service, for a server that cuts the service's path off without
    /// a slash after it: Olingo reads `/svcOrders` as `/svc/Orders`.
    fn below_base(&self, path: &[u8]) -> Option<Vec<u8>> {
        let bases =
            [self.base.as_slice().into(), route::without_prefix(&self.base, self.route.cut)];
        bases.iter().find_map(|base| {
            let rest = path.strip_prefix(base.strip_suffix(b"/")?)?;
            let is_glued = !matches!(rest.first(), None | Some(b'/' | b'?'));
            is_glued.then(|| [base, rest].concat())
        })
    }
}
