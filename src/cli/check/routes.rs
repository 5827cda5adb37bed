//! What may be done: the routes, and what each caller may use of them.

use bearerd::config::{
    Access, AuditTarget, BasicAccess, Caller, Config, OnAuditFailure, Route, RouteRef,
};
use bearerd::profile::Profile;
use http::Method;
use std::fmt::{Error, Write};
use std::path::Path;

/// Lists the routes.
pub(super) fn explain_routes(text: &mut String, config: &Config) -> Result<(), Error> {
    let width = width(config);
    writeln!(text, "\nRoutes:")?;
    for route in &config.routes {
        let (upstream, client) = (&route.upstream.name, &route.client.name);
        let cut = if route.strip_path { ", path removed" } else { "" };
        let on: Vec<_> = config.addresses_of(route).map(ToString::to_string).collect();
        let on = match on.len() == config.listen.len() {
            true => String::new(),
            false => format!(", on {}", on.join(" and ")),
        };
        writeln!(
            text,
            "  {:width$}  {:15}  to {upstream} as {client}{cut}{on}: {}",
            route.path,
            route.profile.name,
            methods(route)
        )?;
    }
    Ok(())
}

/// Lists what each caller with a name may do.
pub(super) fn explain_callers(text: &mut String, config: &Config) -> Result<(), Error> {
    if config.callers.is_empty() {
        return Ok(());
    }
    let width = config.routes.iter().map(|route| config.name_of(route).len()).max();
    let width = width.unwrap_or_default();
    writeln!(text, "\nCallers (requests of anyone else are refused):")?;
    for caller in &config.callers {
        writeln!(text, "  {}, by {}{}", caller.name, credentials(caller), limits(caller))?;
        for route in &config.routes {
            let Some(narrow) = caller.narrow(route) else { continue };
            let (name, client) = (config.name_of(route), &narrow.client.name);
            writeln!(text, "    {name:width$}  as {client}: {}", methods(&narrow))?;
        }
    }
    if let Some(by) = unnamed(&config.access) {
        writeln!(text, "  the caller of access, by {by}\n    all routes, as above")?;
    }
    Ok(())
}

/// Says where writes are audited.
pub(super) fn explain_audit(text: &mut String, config: &Config) -> Result<(), Error> {
    let Some(audit) = &config.audit else { return Ok(()) };
    let place = match &audit.target {
        AuditTarget::Folder(folder) => format!("in {}", folder.display()),
        AuditTarget::Stderr => "on standard error".to_owned(),
    };
    let named = |routes: &Vec<RouteRef>| {
        let is_named = |route: &&Route| routes.iter().any(|named| named.names(route));
        let names = config.routes.iter().filter(is_named).map(|route| config.name_of(route));
        format!(" of {}", names.collect::<Vec<_>>().join(", "))
    };
    let routes = audit.routes.as_ref().map(named);
    let effect = match audit.on_failure {
        OnAuditFailure::Refuse => "refused",
        OnAuditFailure::Warn => "sent all the same",
    };
    writeln!(
        text,
        "\nWrites and refused requests{} are audited {place}. A write that can't be audited is {effect}.",
        routes.unwrap_or_default()
    )
}

fn width(config: &Config) -> usize {
    config.routes.iter().map(|route| route.path.len()).max().unwrap_or_default()
}

/// The methods of a route. A POST that only reads is allowed wherever reading is.
fn methods(route: &Route) -> String {
    let Profile { post_only_reads, reads_by_post, .. } = route.profile;
    let allows_post = route.methods.contains(&Method::POST);
    let batches = (allows_post && *post_only_reads).then_some("$batch");
    let allows_reads = route.methods.contains(&Method::GET) && (!allows_post || *post_only_reads);
    let reads = reads_by_post.iter().copied().filter(|_| allows_reads);
    let by_post: Vec<_> = batches.into_iter().chain(reads).map(|it| format!("…/{it}")).collect();
    let named = if *post_only_reads { route.methods.without_post() } else { route.methods };
    let by_post = (!by_post.is_empty()).then(|| format!("POST on {}", by_post.join(" and ")));
    let named = (!named.is_empty()).then(|| named.to_string());
    let methods = named.into_iter().chain(by_post).collect::<Vec<_>>().join(", and ");
    let unchecked = if route.unchecked_batches {
        "; its batches are not checked: they reach every path of the upstream with every method"
    } else {
        ""
    };
    format!("{methods}{unchecked}")
}

/// How a caller is recognized.
fn credentials(caller: &Caller) -> String {
    let local = local(caller.basic.as_ref(), caller.api_key_file.as_deref());
    let uids: Vec<_> = caller.uids.iter().map(ToString::to_string).collect();
    let uids = (!uids.is_empty()).then(|| format!("user id {}", uids.join(" or ")));
    let certificate = caller.certificate.as_ref().map(|it| format!("certificate with {}", it.name));
    let all: Vec<_> = local.into_iter().chain(uids).chain(certificate).collect();
    all.join(" or ")
}

fn limits(caller: &Caller) -> String {
    let requests = caller.limits.requests.map(|most| format!("{most} requests at once"));
    let rate = caller.limits.rate;
    let rate = rate.map(|rate| format!("{rate} requests"));
    let all: Vec<_> = requests.into_iter().chain(rate).collect();
    if all.is_empty() { String::new() } else { format!("; at most {}", all.join(", ")) }
}

/// How the caller without a name is recognized, if there is one.
fn unnamed(access: &Access) -> Option<String> {
    let all = local(access.basic.as_ref(), access.api_key_file.as_deref());
    (!all.is_empty()).then(|| all.join(" or "))
}

/// Credentials in headers, in words.
fn local(basic: Option<&BasicAccess>, api_key_file: Option<&Path>) -> Vec<String> {
    let key = api_key_file.map(|_| "API key".to_owned());
    let basic = basic.map(|basic| format!("HTTP Basic as {}", basic.username));
    key.into_iter().chain(basic).collect()
}
