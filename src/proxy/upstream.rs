//! Upstreams: names are resolved, addresses are tried in turn, and pingora's peers are made, here
//! and nowhere else.

mod concurrency;
mod connect_retry;
mod http2;
mod loss;
mod observed;
mod request_retry;
mod resolved_addresses;
pub(super) mod send_buffer;
mod tls;
mod tried;
mod tunnel;

pub(super) use concurrency::Slot;
pub(super) use http2::{is_cut, requires_http1};
pub(super) use request_retry::{decide_request_retry, idle_timeout, is_idle_timeout};
pub(crate) use send_buffer::MOST_HANDLES;
pub(super) use send_buffer::SendBuffer;
pub(super) use tried::Tried;

use crate::config::{Timeouts, TlsVersion, Upstream};
use crate::endpoint;
use crate::error::ErrorKind;
use crate::forward_proxy::Destination;
use crate::http_client::{HttpClient, HttpClientError, HttpClientOptions};
use crate::keepalive;
use crate::proxy::problem::Problem;
use crate::proxy::replay;
use concurrency::ConcurrencyLimit;
use http::HeaderValue;
use observed::{Observed, new_group};
use pingora::http::RequestHeader;
use pingora::protocols::l4::socket::SocketAddr as PeerAddress;
use pingora::protocols::tls::{ALPN, CaType};
use pingora::protocols::{Digest, TcpKeepalive};
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora::{Error, ErrorType};
use resolved_addresses::Addresses;
pub(super) use resolved_addresses::ResolveError;
use send_buffer::WatchedConnector;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tunnel::Tunnels;
use url::Url;

/// How long fetching a CSRF token may take; the write waits for it.
const CSRF_TIMEOUT: Duration = Duration::from_secs(15);

/// A server to which requests are sent.
pub struct UpstreamHandle {
    /// The `Host` of every request.
    pub(super) host_header: HeaderValue,
    /// Where CSRF tokens are fetched, if they are managed.
    pub(super) csrf_url: Option<Url>,
    /// The HTTP client that fetches CSRF tokens.
    pub(super) http: HttpClient,
    /// Everything of a peer except its address. It trusts the system's anchors.
    template: HttpPeer,
    /// How peers of large request bodies differ: how long the system waits for acknowledgements,
    /// and how connections are made.
    of_uploads: (TcpKeepalive, Arc<WatchedConnector>),
    min_tls: TlsVersion,
    observed: Observed,
    /// The trust anchors of `ca_file`. A connection has either these or the system's: pingora
    /// builds and keeps a store for each connection whose anchors are not the system's.
    private_anchors: Option<Arc<CaType>>,
    /// The addresses of the upstream, or of the forward proxy that leads to it.
    addresses: Arc<Addresses>,
    concurrency: Option<Arc<ConcurrencyLimit>>,
}

impl UpstreamHandle {
    /// How long the upstream may send nothing.
    pub(super) fn read_timeout(&self) -> Duration {
        self.template.options.read_timeout.unwrap_or_default()
    }

    /// Prepares the peers of an upstream.
    ///
    /// # Errors
    /// The `ca_file` cannot be used, or TLS cannot be set up.
    pub fn new(config: &Upstream) -> Result<Self, HttpClientError> {
        let origin = &config.origin;
        let (mut host, mut port) = (endpoint::host(origin), endpoint::port(origin));
        let is_tls = origin.scheme() == "https";
        // The address is replaced before use. A literal one keeps pingora from resolving names.
        let mut template =
            HttpPeer::new((IpAddr::from([127, 0, 0, 1]), port), is_tls, host.clone());
        set_timeouts(&mut template, config.timeouts);
        if config.http2 && is_tls {
            http2::offer(&mut template, config.timeouts);
        }
        let transport = &config.transport;
        let mut watched = WatchedConnector { tunnels: None, connect: config.timeouts.connect };
        let mut instead = transport.connect_to.as_slice();
        if let Some(proxy) = transport.proxy.proxy_for(origin) {
            instead = &[];
            (host, port) = (proxy.host.clone(), proxy.port);
            let (destination, connect) =
                (Destination::new(origin, proxy)?, config.timeouts.connect);
            let tunnels = Arc::new(Tunnels { destination, connect });
            watched.tunnels = Some(tunnels.clone());
            template.options.custom_l4 = Some(tunnels);
            template.options.total_connection_timeout = Some(connect * 3);
        }
        let certificate = config.read_certificate()?;
        let http = HttpClient::new(&HttpClientOptions {
            url: origin,
            transport,
            certificate: certificate.as_ref(),
            connect: config.timeouts.connect,
            whole: CSRF_TIMEOUT.min(config.timeouts.read),
            kept: 0,
        })?;
        if let Some(certificate) = &certificate {
            template.client_cert_key = Some(tls::certificate(certificate)?);
        }
        template.options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
        let private_anchors = transport.ca_file.as_deref().map(tls::private_anchors).transpose()?;
        Ok(Self {
            host_header: host_header(origin),
            csrf_url: csrf_url(config),
            http,
            template,
            of_uploads: (keepalive::for_uploads(config.timeouts.write), Arc::new(watched)),
            min_tls: transport.min_tls,
            observed: Observed::new(private_anchors.is_some()),
            private_anchors,
            addresses: Addresses::new(host, instead, port),
            concurrency: config.in_flight.map(ConcurrencyLimit::new).map(Arc::new),
        })
    }

    /// Replaces the upstream of the same origin that an earlier configuration made. If the limit is
    /// the same, requests that are still in flight at the earlier one count towards it.
    #[must_use]
    pub fn succeeding(mut self, before: Option<&Self>) -> Self {
        if let (Some(new), Some(old)) =
            (&mut self.concurrency, before.and_then(|before| before.concurrency.as_ref()))
            && new.limits == old.limits
        {
            *new = old.clone();
        }
        self
    }

    /// Waits for a slot of `max_in_flight`. Returns `None` without that limit.
    pub(super) async fn acquire_slot(&self) -> pingora::Result<Option<Slot>> {
        match &self.concurrency {
            Some(limit) => limit.acquire().await.map(Some).map_err(concurrency::no_slot),
            None => Ok(None),
        }
    }

    /// The peer for the next attempt of a request.
    pub(super) async fn peer(
        self: &Arc<Self>,
        request: &RequestHeader,
        tried: &mut Tried,
    ) -> pingora::Result<HttpPeer> {
        let found = match &tried.latest {
            Some((_, known)) if tried.needs_lookup => Box::pin(self.addresses.after(known)).await,
            _ => self.addresses.get().await,
        };
        tried.needs_lookup = false;
        let known = found.map_err(|error| self.unresolved(error))?;
        let Some(address) = tried.next_address(&known, &self.observed.avoided()) else {
            // The resolver knows no other address.
            let failure = tried.failure.take();
            return Err(failure.unwrap_or_else(|| Error::new_up(ErrorType::ConnectNoRoute)));
        };
        tried.latest = Some((address, known));
        let mut peer = self.template.clone();
        peer._address = PeerAddress::Inet(address);
        peer.group_key = self.observed.group();
        if std::mem::take(&mut tried.needs_new_connection) {
            // A group of its own: no other request uses the connection.
            (peer.group_key, peer.options.idle_timeout) = (new_group(), Some(Duration::ZERO));
        }
        if replay::outgrows_buffer(request) {
            let (keepalive, watched) = &self.of_uploads;
            peer.options.tcp_keepalive = Some(keepalive.clone());
            peer.options.custom_l4 = Some(watched.clone());
            peer.group_key |= OF_UPLOADS;
        }
        if self.offers_http2() && self.needs_http1(request) {
            peer.options.alpn = ALPN::H1;
            // In one group, other requests would take these connections instead of HTTP/2.
            peer.group_key |= OF_HTTP1;
        }
        let is_private = tried.is_private.get_or_insert_with(|| self.observed.is_private());
        if *is_private {
            peer.options.ca = self.private_anchors.clone();
        }
        Ok(peer)
    }

    /// Whether a request is sent by HTTP/1.1 although the upstream may support HTTP/2.
    fn needs_http1(&self, request: &RequestHeader) -> bool {
        let may_choose = !self.observed.is_http2_only();
        self.observed.requires_http1() || may_choose && http2::is_better_without(request)
    }

    fn offers_http2(&self) -> bool {
        self.template.options.alpn.get_max_http_version() > 1
    }

    /// Stops offering HTTP/2.
    pub(super) fn stop_http2(&self) {
        self.observed.set_requires_http1();
    }

    /// Refuses a connection whose TLS version is older than `min_tls`.
    pub(super) fn check_tls(&self, digest: Option<&Digest>) -> pingora::Result<()> {
        let tls = digest.and_then(|digest| digest.ssl_digest.as_deref());
        if tls::is_new_enough(tls, self.min_tls) {
            return Ok(());
        }
        if self.offers_http2() {
            // An HTTP/2 connection is already in the pool.
            self.observed.abandon_pooled_connections();
        }
        Err(tls::too_old())
    }

    /// The upstream's name and the addresses that were tried: `acme.example (10.0.0.1:443)`.
    pub(super) fn name_with(&self, tried: &Tried) -> String {
        let name = self.host_header.to_str().unwrap_or_default();
        // Behind a forward proxy, the addresses are the proxy's.
        let addresses = match self.template.options.custom_l4 {
            Some(_) => Vec::new(),
            None => tried.addresses(),
        };
        let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        match addresses.join(", ") {
            addresses if addresses.is_empty() || addresses == name => name.to_owned(),
            addresses => format!("{name} ({addresses})"),
        }
    }

    fn unresolved(&self, error: ResolveError) -> Box<Error> {
        if self.template.options.custom_l4.is_some() {
            return tunnel::unreachable(&error.to_string());
        }
        let text = error.to_string();
        Error::because(ErrorType::ConnectNoRoute, text, error).into_up()
    }
}

/// The error if the upstream's name leads to this sidecar: a request would go round for ever.
const LEADS_HERE: ErrorType = ErrorType::new("LeadsHere");

/// Ends a request that would be sent to this sidecar itself.
pub(super) fn leads_here(address: SocketAddr) -> Box<Error> {
    let detail = format!(
        "the upstream's name leads to {address}, which is this sidecar itself; set `connect_to` of the upstream to a name or addresses that lead to the tenant"
    );
    Problem::new(ErrorKind::UpstreamUnreachable, detail).into_error(LEADS_HERE).into_up()
}

/// Marks the pool groups of HTTP/1.1 connections to an upstream that supports HTTP/2. Group numbers
/// never get as large.
const OF_HTTP1: u64 = 1 << 63;
/// Marks the pool groups of connections for large bodies, which have other TCP timeouts.
const OF_UPLOADS: u64 = 1 << 62;

fn csrf_url(config: &Upstream) -> Option<Url> {
    let mut url = config.origin.clone();
    url.set_path(config.csrf_fetch_path.as_ref()?);
    Some(url)
}

fn set_timeouts(peer: &mut HttpPeer, timeouts: Timeouts) {
    let options = &mut peer.options;
    options.connection_timeout = Some(timeouts.connect);
    // TCP and TLS each have the timeout `connect`; this limits both together.
    options.total_connection_timeout = Some(timeouts.connect * 2);
    options.read_timeout = Some(timeouts.read);
    options.write_timeout = Some(timeouts.write);
    options.idle_timeout = Some(timeouts.idle);
    options.tcp_keepalive = Some(keepalive::for_requests());
}

/// The origin's authority, without the scheme's default port.
fn host_header(origin: &Url) -> HeaderValue {
    let host = origin.host_str().unwrap_or_default();
    let text = match origin.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    // A parsed URL's host and port are always a valid header value.
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests;
