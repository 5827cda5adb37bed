//! Which methods a route allows, and which requests only read.

use super::method_override::all_methods;
use super::problem::Problem;
use super::route;
use super::route_handle::RouteHandle;
use crate::error::ErrorKind;
use http::{HeaderMap, Method};
use pingora::http::RequestHeader;

impl RouteHandle {
    /// Checks a request's method.
    ///
    /// # Errors
    /// The answer to a request whose method the route does not allow.
    pub(super) fn check_method(
        &self,
        method: &Method,
        headers: &HeaderMap,
        target: &[u8],
    ) -> Result<(), Problem> {
        self.check_method_of(self.reads_by_post(target), method, headers, target)
    }

    /// Checks a request's method, if it is known whether a POST to its target reads.
    ///
    /// # Errors
    /// The answer to a request whose method the route does not allow.
    pub(super) fn check_method_of(
        &self,
        is_read: bool,
        method: &Method,
        headers: &HeaderMap,
        target: &[u8],
    ) -> Result<(), Problem> {
        let route = &self.config;
        let allows_post = || {
            !route.profile.post_only_reads
                || is_read
                || route::always_ends_with(target, route::BATCH)
        };
        // A method that cannot be parsed is treated as one that no route allows.
        let is_allowed = all_methods(method, headers, |method| {
            let is_post = *method == Method::POST;
            route.methods.contains(method) && (!is_post || allows_post())
                || is_read && is_post && route.methods.contains(&Method::GET)
        });
        if is_allowed {
            return Ok(());
        }
        let here = match (is_read && route.methods.contains(&Method::GET), allows_post()) {
            (true, _) => route.methods.with_post(),
            (false, true) => route.methods,
            (false, false) => route.methods.without_post(),
        };
        let detail = if self.has_fewer_methods {
            format!(
                "this caller may use {here} on this path; `methods` of the caller and of the route can allow more"
            )
        } else if *method == Method::POST && !allows_post() {
            format!(
                "profile {} allows POST only on …/$batch and …/$query; this path allows {here}",
                route.profile.name
            )
        } else if route.methods.contains(method) {
            format!(
                "a header (X-HTTP-Method or similar) asks for a method that profile {} does not allow for this path, which allows {here}",
                route.profile.name
            )
        } else if route.profile.methods.contains(method) {
            format!("the route allows {here} on this path; `methods` of the route can allow more")
        } else {
            format!(
                "profile {} allows {here} on this path; another profile can allow more",
                route.profile.name
            )
        };
        Err(Problem {
            allow: Some(here.to_string()),
            ..Problem::new(ErrorKind::MethodNotAllowed, detail)
        })
    }

    /// Whether a request changes nothing, so that it may be sent again.
    pub(super) fn only_reads(&self, request: &RequestHeader) -> bool {
        all_methods(&request.method, &request.headers, |method| {
            method.is_safe() || *method == Method::POST && self.reads_by_post(request.raw_path())
        })
    }

    /// Whether a POST to this target only reads, however a server may read the target.
    pub(super) fn reads_by_post(&self, target: &[u8]) -> bool {
        self.config.profile.reads_by_post.iter().any(|name| route::always_ends_with(target, name))
    }
}
