//! The services behind us: names resolved, addresses tried in turn, pingora's peers made here and
//! nowhere else.

mod addresses;
mod attempts;
mod concurrency;
mod http2;
mod loss;
pub(super) mod send_buffer;
mod tls;
mod tunnel;

pub(super) use attempts::Attempts;
pub(crate) use attempts::{MAX_ADDRESSES, MAX_CUTS};
pub(super) use concurrency::{Full, Slot};
pub(super) use http2::wants_http1;
pub(super) use loss::is_silence;
pub(crate) use send_buffer::MOST_HANDLES;
pub(super) use send_buffer::SendBuffer;
pub(super) use tls::TOO_OLD as TLS_TOO_OLD;
pub(super) use tunnel::FAILED as PROXY_FAILED;

use crate::config::{Timeouts, TlsVersion, Upstream as UpstreamConfig};
use crate::endpoint;
use crate::forward_proxy::Destination;
use crate::http_client::{Client, HttpClientError, Limits};
use crate::proxy::admission::outgrows_replay;
use crate::silence;
use addresses::{Addresses, ResolveError};
use arc_swap::ArcSwap;
use concurrency::ConcurrencyLimit;
use http::HeaderValue;
use pingora::http::RequestHeader;
use pingora::protocols::l4::socket::SocketAddr as PeerAddress;
use pingora::protocols::tls::{ALPN, CaType};
use pingora::protocols::{Digest, TcpKeepalive};
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora::{Error, ErrorType};
use send_buffer::Watched;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tunnel::Tunnels;
use url::Url;

/// How long fetching a CSRF token may take; the write waits for it.
const CSRF_TIMEOUT: Duration = Duration::from_secs(15);
/// A service behind the sidecar.
pub struct Upstream {
    /// The `Host` of every request.
    pub(super) host_header: HeaderValue,
    /// Where CSRF tokens are fetched, if they are managed, and with what.
    pub(super) csrf_url: Option<Url>,
    pub(super) http: Client,
    /// Everything of a peer but its address; it trusts the system's anchors.
    template: HttpPeer,
    /// What is other where large bodies go: how long the system waits for acknowledgements, and how it is connected.
    of_uploads: (TcpKeepalive, Arc<Watched>),
    min_tls: TlsVersion,
    /// It speaks HTTP/2 but wants HTTP/1.1, if not for all requests then for some that can't be told apart.
    wants_http1: AtomicBool,
    /// It speaks nothing but HTTP/2.
    knows_only_http2: AtomicBool,
    /// Whose connections are ours. A new one leaves those behind that were found wanting.
    group: AtomicU64,
    /// Those of `ca_file`. A connection has either these or the system's: pingora builds, and keeps, a
    /// store of its own for each connection whose anchors are not the system's.
    private_anchors: Option<Arc<CaType>>,
    /// Whether the private anchors are tried first; what worked last time is.
    is_private: AtomicBool,
    /// The upstream's, or those of the forward proxy on the way to it.
    addresses: Arc<Addresses>,
    /// Addresses that could not be connected to lately.
    shunned: ArcSwap<Vec<SocketAddr>>,
    concurrency: Option<Arc<ConcurrencyLimit>>,
}

impl Upstream {
    /// How long it may be silent.
    pub(super) fn patience(&self) -> Duration {
        self.template.options.read_timeout.unwrap_or_default()
    }

    /// Prepares the peers of an upstream.
    ///
    /// # Errors
    /// Its `ca_file` can't be used, or TLS can't be set up.
    pub fn new(config: &UpstreamConfig) -> Result<Self, HttpClientError> {
        let origin = &config.origin;
        let (mut host, mut port) = (endpoint::host(origin), endpoint::port(origin));
        let is_tls = origin.scheme() == "https";
        // The address is replaced before use; a literal one keeps pingora from resolving names.
        let mut template =
            HttpPeer::new((IpAddr::from([127, 0, 0, 1]), port), is_tls, host.clone());
        set_timeouts(&mut template, config.timeouts);
        if config.http2 && is_tls {
            http2::offer(&mut template, config.timeouts);
        }
        let transport = &config.transport;
        let mut watched = Watched { tunnels: None, connect: config.timeouts.connect };
        if let Some(proxy) = transport.proxy.to(origin) {
            (host, port) = (proxy.host.clone(), proxy.port);
            let (destination, connect) =
                (Destination::new(origin, proxy)?, config.timeouts.connect);
            let tunnels = Arc::new(Tunnels { destination, connect });
            watched.tunnels = Some(tunnels.clone());
            template.options.custom_l4 = Some(tunnels);
            template.options.total_connection_timeout = Some(connect * 3);
        }
        let certificate = config.read_certificate()?;
        let certificate = certificate.as_ref().map(|(chain, key)| (chain.as_str(), key));
        let http = Client::new(&Limits {
            url: origin,
            transport,
            certificate,
            connect: config.timeouts.connect,
            whole: CSRF_TIMEOUT.min(config.timeouts.read),
            kept: 0,
        })?;
        if let Some((chain, key)) = certificate {
            template.client_cert_key = Some(tls::certificate(chain, key)?);
        }
        template.options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
        let private_anchors = transport.ca_file.as_deref().map(tls::private_anchors).transpose()?;
        Ok(Self {
            host_header: host_header(origin),
            csrf_url: csrf_url(config),
            http,
            template,
            of_uploads: (silence::keepalive_of_uploads(config.timeouts.write), Arc::new(watched)),
            min_tls: transport.min_tls,
            wants_http1: AtomicBool::new(false),
            knows_only_http2: AtomicBool::new(false),
            group: AtomicU64::new(new_group()),
            is_private: AtomicBool::new(private_anchors.is_some()),
            private_anchors,
            addresses: Addresses::new(host, port),
            shunned: ArcSwap::default(),
            concurrency: config.in_flight.map(ConcurrencyLimit::new).map(Arc::new),
        })
    }

    /// Takes the place of another one of the same origin. Requests that are still under way there count here, too, where
    /// the limits are the same.
    #[must_use]
    pub fn succeeding(mut self, before: Option<&Self>) -> Self {
        if let (Some(ours), Some(theirs)) =
            (&mut self.concurrency, before.and_then(|before| before.concurrency.as_ref()))
            && ours.limits == theirs.limits
        {
            *ours = theirs.clone();
        }
        self
    }

    /// The right to send a request, as soon as there is one; `None` without a limit.
    pub(super) async fn acquire(&self) -> Result<Option<Slot>, Full> {
        match &self.concurrency {
            Some(concurrency) => concurrency.acquire().await.map(Some),
            None => Ok(None),
        }
    }

    /// The peer for the next attempt of this request.
    pub(super) async fn peer(
        self: &Arc<Self>,
        request: &RequestHeader,
        attempts: &mut Attempts,
    ) -> pingora::Result<HttpPeer> {
        let found = match &attempts.latest {
            Some((_, known)) if attempts.asks_anew => Box::pin(self.addresses.after(known)).await,
            _ => self.addresses.get().await,
        };
        attempts.asks_anew = false;
        let known = found.map_err(|error| self.unresolved(error))?;
        let Some(address) = attempts.next(&known, &self.shunned.load()) else {
            // The resolver knows no other ones.
            let failure = attempts.failure.take();
            return Err(failure.unwrap_or_else(|| Error::new_up(ErrorType::ConnectNoRoute)));
        };
        attempts.latest = Some((address, known));
        let mut peer = self.template.clone();
        peer._address = PeerAddress::Inet(address);
        peer.group_key = self.group.load(Ordering::Relaxed);
        if std::mem::take(&mut attempts.wants_new) {
            // Nobody else will use it.
            (peer.group_key, peer.options.idle_timeout) = (new_group(), Some(Duration::ZERO));
        }
        if outgrows_replay(request) {
            let (keepalive, watched) = &self.of_uploads;
            peer.options.tcp_keepalive = Some(keepalive.clone());
            peer.options.custom_l4 = Some(watched.clone());
            peer.group_key |= OF_UPLOADS;
        }
        if self.speaks_http2() && self.needs_http1(request) {
            peer.options.alpn = ALPN::H1;
            // Others would take these connections rather than a new one that speaks HTTP/2.
            peer.group_key |= OF_HTTP1;
        }
        let is_private =
            attempts.is_private.get_or_insert_with(|| self.is_private.load(Ordering::Relaxed));
        if *is_private {
            peer.options.ca = self.private_anchors.clone();
        }
        Ok(peer)
    }

    /// Notes that the latest attempt could not connect, and why. Where another one is worth while, what is returned
    /// asks for it.
    pub(super) fn try_again(&self, attempts: &mut Attempts, mut error: Box<Error>) -> Box<Error> {
        let is_final = tunnel::is_refusal(&error)
            || !(self.try_other_anchors(attempts, &error)
                || self.try_http2(&error)
                || attempts.is_worth_another_stream(&error)
                || self.try_next(attempts));
        error.set_retry(false);
        if is_final {
            return error;
        }
        let mut again = Error::new_up(error.etype().clone());
        again.set_retry(true);
        attempts.failure = Some(error);
        again
    }

    /// Whether a request goes by HTTP/1.1 although the upstream may speak HTTP/2.
    fn needs_http1(&self, request: &RequestHeader) -> bool {
        let may_choose = !self.knows_only_http2.load(Ordering::Relaxed);
        self.wants_http1.load(Ordering::Relaxed) || may_choose && http2::is_better_without(request)
    }

    /// What would better go by HTTP/1.1 goes by HTTP/2 to whoever knows nothing else.
    fn try_http2(&self, error: &Error) -> bool {
        self.speaks_http2()
            && tls::has_no_protocol(error)
            && !self.knows_only_http2.swap(true, Ordering::Relaxed)
    }

    fn speaks_http2(&self) -> bool {
        self.template.options.alpn.get_max_http_version() > 1
    }

    /// From now on, HTTP/2 is not offered any more.
    pub(super) fn use_http1(&self) {
        self.wants_http1.store(true, Ordering::Relaxed);
    }

    /// Refuses a connection whose TLS is older than is asked for.
    pub(super) fn judge(&self, digest: Option<&Digest>) -> pingora::Result<()> {
        let tls = digest.and_then(|digest| digest.ssl_digest.as_deref());
        if tls::is_new_enough(tls, self.min_tls) {
            return Ok(());
        }
        if self.speaks_http2() {
            // Of HTTP/2, it is in the pool already.
            self.group.store(new_group(), Ordering::Relaxed);
        }
        Err(Error::new_up(tls::TOO_OLD))
    }

    /// An authority that one set of trust anchors does not know may be in the other.
    fn try_other_anchors(&self, attempts: &mut Attempts, error: &Error) -> bool {
        if self.private_anchors.is_none() || attempts.has_turned || !tls::is_untrusted(error) {
            return false;
        }
        let tried = attempts.is_private.unwrap_or_default();
        self.is_private.store(!tried, Ordering::Relaxed);
        (attempts.is_private, attempts.has_turned) = (Some(!tried), true);
        true
    }

    /// Tells whether there may be another address to try; from now on, requests begin with that one.
    fn try_next(&self, attempts: &mut Attempts) -> bool {
        let Some((tried, known)) = &attempts.latest else { return false };
        attempts.failed.push(*tried);
        self.shunned.rcu(|shunned| {
            let is_shunned = |address: &SocketAddr| address == tried || shunned.contains(address);
            let all: Vec<_> = known.addresses.iter().copied().filter(is_shunned).collect();
            // Where none is left, those that failed before may work again.
            if all.len() < known.addresses.len() { all } else { vec![*tried] }
        });
        let is_known = attempts.next(known, &[]).is_some();
        // When all have failed, the name may have moved.
        attempts.asks_anew = !is_known && known.is_doubtful();
        attempts.failed.len() < MAX_ADDRESSES && (is_known || attempts.asks_anew)
    }

    fn unresolved(&self, error: ResolveError) -> Box<Error> {
        let is_proxied = self.template.options.custom_l4.is_some();
        let kind = if is_proxied { PROXY_FAILED } else { ErrorType::ConnectNoRoute };
        Error::because(kind, error.to_string(), error).into_up()
    }
}

/// Marks the groups of connections that speak HTTP/1.1 to an upstream of HTTP/2. There are never so many groups.
const OF_HTTP1: u64 = 1 << 63;
/// Marks those over which large bodies go: what the system does about silence there is another matter.
const OF_UPLOADS: u64 = 1 << 62;

/// Keeps the connections of upstreams apart that have one address: their trust anchors may differ.
fn new_group() -> u64 {
    static GROUPS: AtomicU64 = AtomicU64::new(1);
    GROUPS.fetch_add(1, Ordering::Relaxed)
}

fn csrf_url(config: &UpstreamConfig) -> Option<Url> {
    let mut url = config.origin.clone();
    url.set_path(config.csrf_fetch_path.as_ref()?);
    Some(url)
}

fn set_timeouts(peer: &mut HttpPeer, timeouts: Timeouts) {
    let options = &mut peer.options;
    options.connection_timeout = Some(timeouts.connect);
    // TCP and TLS each have `connect`; this bounds both together.
    options.total_connection_timeout = Some(timeouts.connect * 2);
    options.read_timeout = Some(timeouts.read);
    options.write_timeout = Some(timeouts.write);
    options.idle_timeout = Some(timeouts.idle);
    options.tcp_keepalive = Some(silence::keepalive());
}

/// The origin's authority; the port only where it is not the scheme's own.
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
