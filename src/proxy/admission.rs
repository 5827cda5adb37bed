//! Who gets through: a request with sound framing, a route, an allowed method, and a token.

use super::batch_check::BatchCheck;
use super::downstream::unless_disconnected;
use super::guard::{self, Entry};
use super::respond::Problem;
use super::upstream::{Slot, Upstream};
use super::{Context, Proxy, RouteHandle, csrf, failure, headers, route};
use crate::error::ErrorKind;
use crate::token::ClientHandle;
use crate::token::store::Usable;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Version};
use pingora::http::RequestHeader;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::proxy::Session;
use std::time::Duration;

/// What pingora can keep of a body to send it again.
pub(super) const REPLAY_BUFFER: u64 = 64 * 1024;

/// When it may be worth to come again after a refusal for want of room.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Proxy {
    /// Finds the route and the token, or says why there is none.
    pub(super) async fn admit(
        &self,
        session: &Session,
        context: &mut Context,
    ) -> Result<(), Problem> {
        let request = session.req_header();
        check_framing(session).map_err(|why| Problem::new(ErrorKind::BadRequest, why))?;
        let share = context.share.as_ref().ok_or_else(|| {
            Problem::new(
                ErrorKind::Internal,
                "the request came in on no listener; please report this",
            )
        })?;
        let (route, batch) = {
            let table = self.table.load();
            if share.requests() > table.limit {
                let detail = "more requests at once than `limits.requests` allows; try again";
                let retry_after = Some(RETRY_AFTER);
                return Err(Problem { retry_after, ..Problem::new(ErrorKind::Overloaded, detail) });
            }
            guard::check_size(request)?;
            table.guard.judge(&request.headers, entry(session))?;
            let route = table.find(share.listener(), request.raw_path())?;
            let batch = BatchCheck::of(request, &table, share.listener(), &route);
            (route, batch)
        };
        context.route = Some(route.clone());
        context.record.route = Some(route.metrics.clone());
        context.record.span.routed(&route.config.path);
        route.allows(&request.method, &request.headers, request.raw_path())?;
        context.batch = batch?;
        let token = self.token_of(&route.client).await?;
        context.token = Some(if outgrows_replay(request) {
            Box::pin(self.long_lived(&route.client, token)).await
        } else {
            token
        });
        Ok(())
    }

    /// The current token; without one, the next, within the client's `wait`.
    async fn token_of(&self, client: &ClientHandle) -> Result<Usable, Problem> {
        match client.store.usable() {
            Some(usable) => Ok(usable),
            // Boxed, since nearly every request finds one.
            None => Box::pin(self.next_token(client)).await,
        }
    }

    async fn next_token(&self, client: &ClientHandle) -> Result<Usable, Problem> {
        let waited = tokio::select! {
            waited = client.store.wait(client.wait) => waited,
            () = self.drain.deadline() => {
                return Err(Problem::new(ErrorKind::Draining, "the sidecar ends before a token came"));
            }
        };
        client.metrics.record_wait(waited.is_ok());
        waited.map_err(|unavailable| Problem {
            retry_after: Some(unavailable.retry_after),
            ..Problem::new(unavailable.kind, no_token(unavailable.kind, &client.name))
        })
    }

    /// Gets what the next attempt needs besides a connection: the right to send it, the token of its time, and a
    /// CSRF token, which goes with just that one.
    pub(super) async fn equip(
        &self,
        route: &RouteHandle,
        session: &Session,
        context: &mut Context,
    ) -> pingora::Result<()> {
        let csrf = csrf::needed(route, session.req_header(), context);
        let Some((tokens, need)) = csrf else {
            self.wait_for_slot(route, session, context).await?;
            context.csrf = None;
            context.equip(route, route.client.store.usable());
            return Ok(());
        };
        // Boxed, since most requests do without.
        Box::pin(async {
            loop {
                // While it waits for this, it is not under way.
                let token = route.client.store.usable();
                context.csrf = match &token {
                    Some(token) => {
                        unless_disconnected(session, tokens.session(token, need)).await?
                    }
                    None => None,
                };
                self.wait_for_slot(route, session, context).await?;
                let generation = |token: &Usable| token.generation;
                let latest = route.client.store.usable().as_ref().map(generation);
                if context.slot.is_none() || latest == token.as_ref().map(generation) {
                    context.equip(route, token);
                    return Ok(());
                }
                // The turn came with another token.
                context.slot = None;
            }
        })
        .await
    }

    /// Waits for a slot, unless the request has one. During a heal, or the fetch of a CSRF token, it has none.
    async fn wait_for_slot(
        &self,
        route: &RouteHandle,
        session: &Session,
        context: &mut Context,
    ) -> pingora::Result<()> {
        if context.slot.is_none() {
            context.slot = unless_disconnected(session, self.slot(&route.upstream)).await??;
        }
        Ok(())
    }

    /// The right to send a request to an upstream, as soon as there is one.
    async fn slot(&self, upstream: &Upstream) -> pingora::Result<Option<Slot>> {
        tokio::select! {
            entered = upstream.acquire() => entered.map_err(failure::full),
            () = self.drain.deadline() => Err(failure::ended_meanwhile()),
        }
    }

    /// Before a body that could not be sent twice: a token that will last, if one can be had in
    /// time; otherwise the one there is.
    async fn long_lived(&self, client: &ClientHandle, token: Usable) -> Usable {
        if !client.store.is_short_lived() {
            return token;
        }
        client.store.try_request_newer(token.generation);
        client.store.wait_newer(token.generation, client.wait).await.unwrap_or(token)
    }
}

impl RouteHandle {
    /// Whether a request with these may take this route.
    ///
    /// # Errors
    /// The answer to one that may not.
    pub(super) fn allows(
        &self,
        method: &Method,
        headers: &HeaderMap,
        target: &[u8],
    ) -> Result<(), Problem> {
        self.allows_as(self.reads_by_post(target), method, headers, target)
    }

    /// The same where it is known whether a POST reads.
    ///
    /// # Errors
    /// The answer to a request that may not.
    pub(super) fn allows_as(
        &self,
        is_read: bool,
        method: &Method,
        headers: &HeaderMap,
        target: &[u8],
    ) -> Result<(), Problem> {
        let route = &self.config;
        let takes_post = !route.profile.post_only_reads
            || is_read
            || route::always_ends_with(target, route::BATCH);
        // What is no method at all is one that no route has.
        let is_allowed = headers::all_methods(method, headers, |method| {
            let is_post = *method == Method::POST;
            route.methods.contains(method) && (takes_post || !is_post)
                || is_read && is_post && route.methods.contains(&Method::GET)
        });
        if is_allowed {
            return Ok(());
        }
        let refused = *method == Method::POST && !takes_post;
        let detail = if refused {
            format!("profile {} takes POST only on …/$batch and …/$query", route.profile.name)
        } else if route.methods.contains(method) {
            format!(
                "profile {} on this route takes {}, in X-HTTP-Method too",
                route.profile.name, route.methods
            )
        } else {
            format!("profile {} on this route takes {}", route.profile.name, route.methods)
        };
        Err(Problem {
            allow: Some(route.methods.to_string()),
            ..Problem::new(ErrorKind::MethodNotAllowed, detail)
        })
    }

    /// Whether a request changes nothing, so that it may be sent twice.
    pub(super) fn only_reads(&self, request: &RequestHeader) -> bool {
        headers::all_methods(&request.method, &request.headers, |method| {
            method.is_safe() || *method == Method::POST && self.reads_by_post(request.raw_path())
        })
    }

    /// Whether a POST to this target reads, whatever server it is that reads the target.
    pub(super) fn reads_by_post(&self, target: &[u8]) -> bool {
        self.config.profile.reads_by_post.iter().any(|name| route::always_ends_with(target, name))
    }
}

/// Whether the body is larger than what can be kept for a replay, or may be: chunked ones tell
/// nothing.
pub(super) fn outgrows_replay(request: &RequestHeader) -> bool {
    let length = request.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    match length {
        Some(length) => length.parse::<u64>().is_ok_and(|length| length > REPLAY_BUFFER),
        None => request.headers.contains_key(TRANSFER_ENCODING),
    }
}

fn no_token(kind: ErrorKind, client: &str) -> String {
    match kind {
        ErrorKind::CredentialRejected => format!(
            "the issuer refuses client {client}; see bearerd's log for its reason, and check client_id, secret and the client's expiry"
        ),
        _ => format!(
            "client {client} has no valid token now; see bearerd's log and /readyz for the reason"
        ),
    }
}

/// How the request came in. What is not known counts as TCP, where more is checked.
fn entry(session: &Session) -> Entry {
    match session.server_addr() {
        Some(SocketAddr::Unix(_)) => Entry::Unix,
        _ => Entry::Tcp,
    }
}

/// What pingora lets through although RFC 9112 does not.
fn check_framing(session: &Session) -> Result<(), &'static str> {
    let request = session.req_header();
    let hosts = request.headers.get_all(HOST).iter().count();
    if hosts > 1 || hosts == 0 && request.version == Version::HTTP_11 {
        return Err("an HTTP/1.1 request has exactly one Host (RFC 9112 section 3.2)");
    }
    let mut lengths = request.headers.get_all(CONTENT_LENGTH).iter();
    let is_number = |length: &HeaderValue| {
        !length.is_empty() && length.as_bytes().iter().all(u8::is_ascii_digit)
    };
    if lengths.next().is_some_and(|length| !is_number(length)) || lengths.next().is_some() {
        return Err("Content-Length is one number (RFC 9110 section 8.6)");
    }
    let mut codings = request.headers.get_all(TRANSFER_ENCODING).iter();
    let only_chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if codings.next().is_some_and(|coding| !only_chunked(coding)) || codings.next().is_some() {
        return Err(
            "the only transfer coding that is understood is one `chunked` (RFC 9112 section 6.1)",
        );
    }
    // pingora drops a fragment without a word, and the length where both are, so the bytes are asked.
    let block = session.to_h1_raw();
    if request_line(&block).contains(&b'#') {
        return Err(
            "a request target has no fragment (RFC 9112 section 3.2); percent-encode a `#` that is part of it",
        );
    }
    if request.headers.contains_key(TRANSFER_ENCODING)
        && names_header(&block, CONTENT_LENGTH.as_str())
    {
        return Err(
            "Content-Length and Transfer-Encoding exclude each other (RFC 9112 section 6.1)",
        );
    }
    Ok(())
}

/// The first line of a raw header block that is not empty (RFC 9112 section 2.2).
fn request_line(block: &[u8]) -> &[u8] {
    let block = block.trim_ascii_start();
    block.split(|byte| *byte == b'\n').next().unwrap_or(block)
}

/// Whether a line of a raw header block has this name.
fn names_header(block: &[u8], name: &str) -> bool {
    block.split(|byte| *byte == b'\n').any(|line| {
        let given = line.split(|byte| *byte == b':').next().unwrap_or(line);
        given.eq_ignore_ascii_case(name.as_bytes())
    })
}
