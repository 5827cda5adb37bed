//! The services behind us: names resolved, addresses tried in turn, pingora's peers made here and
//! nowhere else.

mod gate;
mod http2;
mod tls;
mod tunnel;

pub(super) use gate::Slot;
pub(super) use http2::is_unprocessed;
pub(super) use tls::TOO_OLD as TLS_TOO_OLD;
pub(super) use tunnel::FAILED as PROXY_FAILED;

use crate::config::{Timeouts, TlsVersion, Upstream as UpstreamConfig};
use crate::forward_proxy::Destination;
use crate::http_client::{self, HttpClientError, Limits};
use crate::place;
use arc_swap::ArcSwapOption;
use gate::{Full, Gate};
use http::HeaderValue;
use pingora::protocols::Digest;
use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora::{Error, ErrorType};
use reqwest::Client;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::lookup_host;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tracing::warn;
use tunnel::Tunnels;
use url::Url;

/// How long an answer of the resolver is used before it is asked again.
const ADDRESSES_KEPT: Duration = Duration::from_secs(30);
/// How long the resolver may take.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long fetching a CSRF token may take; the write waits for it.
const CSRF_TIMEOUT: Duration = Duration::from_secs(15);
/// How many addresses one request tries at most.
pub(crate) const MAX_ADDRESSES: usize = 4;

/// Keeps the connections of upstreams apart that have one address: their trust anchors may differ.
static GROUPS: AtomicU64 = AtomicU64::new(1);

/// A service behind the sidecar.
pub struct Upstream {
    name: String,
    /// Whose addresses are looked up: the upstream's, or those of the forward proxy on the way to it.
    host: String,
    port: u16,
    /// The `Host` of every request.
    pub(super) host_header: HeaderValue,
    /// Where CSRF tokens are fetched, if they are managed, and with what.
    pub(super) csrf_url: Option<Url>,
    pub(super) http: Client,
    /// Everything of a peer but its address; it trusts the system's anchors.
    template: HttpPeer,
    min_tls: TlsVersion,
    /// Those of `ca_file`. A connection has either these or the system's: pingora builds, and keeps, a
    /// store of its own for each connection whose anchors are not the system's.
    private_anchors: Option<Arc<CaType>>,
    /// Whether the private anchors are tried first; what worked last time is.
    is_private: AtomicBool,
    resolved: ArcSwapOption<Resolved>,
    resolving: Mutex<()>,
    refreshing: AtomicBool,
    /// The position of the address that is tried first.
    preferred: AtomicUsize,
    gate: Option<Gate>,
}

struct Resolved {
    at: Instant,
    peers: Vec<HttpPeer>,
}

/// Which addresses one request has tried.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// The position of the first one.
    first: Option<usize>,
    /// How many of them could not be connected to.
    failed: usize,
    /// Whether the private anchors are the ones to trust.
    is_private: Option<bool>,
    /// Whether the others were tried before.
    has_turned: bool,
}

/// Why there is no address.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The resolver says so.
    #[error("cannot resolve {host}: {source}")]
    Lookup {
        /// The configured name.
        host: String,
        /// The resolver's error.
        source: io::Error,
    },
    /// The resolver does not answer.
    #[error("cannot resolve {host}: no answer in time")]
    Timeout {
        /// The configured name.
        host: String,
    },
    /// The name exists, but has no address.
    #[error("{host} has no address")]
    NoAddress {
        /// The configured name.
        host: String,
    },
}

impl Upstream {
    /// Prepares the peers of an upstream.
    ///
    /// # Errors
    /// Its `ca_file` can't be used, or TLS can't be set up.
    pub fn new(config: &UpstreamConfig) -> Result<Self, HttpClientError> {
        let origin = &config.origin;
        let (mut host, mut port) = (place::host(origin), place::port(origin));
        let is_tls = origin.scheme() == "https";
        // The address is replaced before use; a literal one keeps pingora from resolving names.
        let mut template =
            HttpPeer::new((IpAddr::from([127, 0, 0, 1]), port), is_tls, host.clone());
        template.group_key = GROUPS.fetch_add(1, Ordering::Relaxed);
        set_timeouts(&mut template, config.timeouts);
        if config.http2 && is_tls {
            http2::offer(&mut template, config.timeouts);
        }
        let transport = &config.transport;
        if let Some(proxy) = transport.proxy.to(origin) {
            (host, port) = (proxy.host.clone(), proxy.port);
            let (destination, connect) =
                (Destination::new(origin, proxy)?, config.timeouts.connect);
            template.options.custom_l4 = Some(Arc::new(Tunnels { destination, connect }));
            template.options.total_connection_timeout = Some(connect * 3);
        }
        let certificate = config.read_certificate()?;
        let certificate = certificate.as_ref().map(|(chain, key)| (chain.as_str(), key));
        let http = http_client::build(&Limits {
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
            name: config.name.clone(),
            host,
            port,
            host_header: host_header(origin),
            csrf_url: csrf_url(config),
            http,
            template,
            min_tls: transport.min_tls,
            is_private: AtomicBool::new(private_anchors.is_some()),
            private_anchors,
            resolved: ArcSwapOption::empty(),
            resolving: Mutex::new(()),
            refreshing: AtomicBool::new(false),
            preferred: AtomicUsize::new(0),
            gate: config.in_flight.map(Gate::new),
        })
    }

    /// The right to send a request, as soon as there is one; `None` without a limit.
    pub(super) async fn enter(&self) -> Result<Option<Slot>, Full> {
        match &self.gate {
            Some(gate) => gate.enter().await.map(Some),
            None => Ok(None),
        }
    }

    /// The peer for a request's next attempt.
    pub(super) async fn peer(
        self: &Arc<Self>,
        attempts: &mut Attempts,
    ) -> pingora::Result<HttpPeer> {
        let resolved = self.resolved().await.map_err(|error| self.unresolved(error))?;
        let first = *attempts.first.get_or_insert_with(|| self.preferred.load(Ordering::Relaxed));
        let position = first.wrapping_add(attempts.failed) % resolved.peers.len().max(1);
        let peer = resolved.peers.get(position).cloned();
        let mut peer = peer.ok_or_else(|| self.unresolved(self.no_address()))?;
        let is_private =
            attempts.is_private.get_or_insert_with(|| self.is_private.load(Ordering::Relaxed));
        if *is_private {
            peer.options.ca = self.private_anchors.clone();
        }
        Ok(peer)
    }

    /// Notes that the latest attempt could not connect. Tells whether another one is worth while.
    pub(super) fn try_again(&self, attempts: &mut Attempts, error: &Error) -> bool {
        if tunnel::is_refusal(error) {
            return false;
        }
        self.try_other_anchors(attempts, error) || self.try_next(attempts)
    }

    /// Refuses a connection whose TLS is older than is asked for.
    pub(super) fn judge(&self, digest: Option<&Digest>) -> pingora::Result<()> {
        let tls = digest.and_then(|digest| digest.ssl_digest.as_deref());
        if tls::is_new_enough(tls, self.min_tls) {
            return Ok(());
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

    /// Tells whether there is another address to try; from now on, requests begin with that one.
    fn try_next(&self, attempts: &mut Attempts) -> bool {
        let tried = attempts.first.unwrap_or_default().wrapping_add(attempts.failed);
        attempts.failed += 1;
        // Of many requests that failed at one address, the first moves on for all.
        let _ = self.preferred.compare_exchange(
            tried,
            tried.wrapping_add(1),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        let known = self.resolved.load().as_ref().map_or(0, |resolved| resolved.peers.len());
        attempts.failed < known.min(MAX_ADDRESSES)
    }

    /// The addresses: known ones at once, even while newer ones are being looked up.
    async fn resolved(self: &Arc<Self>) -> Result<Arc<Resolved>, ResolveError> {
        if let Some(resolved) = self.resolved.load_full() {
            if resolved.at.elapsed() > ADDRESSES_KEPT
                && !self.refreshing.swap(true, Ordering::AcqRel)
            {
                tokio::spawn(self.clone().refresh());
            }
            return Ok(resolved);
        }
        // One request asks, within its time; those behind it share the answer, or the same time-out.
        let asking = async {
            let _first = self.resolving.lock().await;
            match self.resolved.load_full() {
                Some(resolved) => Ok(resolved),
                None => self.look_up().await,
            }
        };
        let timed_out = |_| ResolveError::Timeout { host: self.host.clone() };
        timeout(RESOLVE_TIMEOUT, asking).await.map_err(timed_out)?
    }

    /// Looks the name up anew; the known addresses stay when that fails.
    async fn refresh(self: Arc<Self>) {
        let timed_out = |_| ResolveError::Timeout { host: self.host.clone() };
        let looked_up = timeout(RESOLVE_TIMEOUT, self.look_up()).await.map_err(timed_out);
        if let Err(error) = looked_up.and_then(|found| found) {
            warn!(upstream = self.name, "Using the known addresses on: {error}.");
            if let Some(known) = self.resolved.load_full() {
                self.resolved.store(Some(Arc::new(Resolved {
                    at: Instant::now(),
                    peers: known.peers.clone(),
                })));
            }
        }
        self.refreshing.store(false, Ordering::Release);
    }

    async fn look_up(&self) -> Result<Arc<Resolved>, ResolveError> {
        let found = lookup_host((self.host.as_str(), self.port))
            .await
            .map_err(|source| ResolveError::Lookup { host: self.host.clone(), source })?;
        let peers: Vec<_> = found.map(|address| self.peer_at(address)).collect();
        if peers.is_empty() {
            return Err(self.no_address());
        }
        let resolved = Arc::new(Resolved { at: Instant::now(), peers });
        self.resolved.store(Some(resolved.clone()));
        Ok(resolved)
    }

    fn peer_at(&self, address: SocketAddr) -> HttpPeer {
        let mut peer = self.template.clone();
        peer._address = pingora::protocols::l4::socket::SocketAddr::Inet(address);
        peer
    }

    fn unresolved(&self, error: ResolveError) -> Box<Error> {
        let is_proxied = self.template.options.custom_l4.is_some();
        let kind = if is_proxied { PROXY_FAILED } else { ErrorType::ConnectNoRoute };
        Error::because(kind, error.to_string(), error).into_up()
    }

    fn no_address(&self) -> ResolveError {
        ResolveError::NoAddress { host: self.host.clone() }
    }
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
mod tests {
    use super::*;
    use crate::config::Transport;

    fn upstream(url: &str) -> Arc<Upstream> {
        let second = Duration::from_secs(1);
        let config = UpstreamConfig {
            name: "u".into(),
            origin: url.parse().unwrap(),
            timeouts: Timeouts {
                connect: second,
                read: second * 2,
                write: second * 3,
                idle: second * 4,
            },
            in_flight: None,
            csrf_fetch_path: None,
            transport: Transport::default(),
            http2: false,
            certificate: None,
        };
        pingora::tls::install_default_crypto_provider();
        Arc::new(Upstream::new(&config).unwrap())
    }

    #[test]
    fn host_name_and_port_come_from_the_url() {
        let shown = |url| {
            let upstream = upstream(url);
            format!(
                "{} {} {} {:?}",
                upstream.host, upstream.port, upstream.template.sni, upstream.host_header
            )
        };
        assert_eq!(
            shown("https://acme.example"),
            r#"acme.example 443 acme.example "acme.example""#
        );
        assert_eq!(
            shown("https://acme.example:8443"),
            r#"acme.example 8443 acme.example "acme.example:8443""#
        );
        assert_eq!(shown("https://[::1]:9"), r#"::1 9 ::1 "[::1]:9""#);
        assert_eq!(shown("http://127.0.0.1:80"), r#"127.0.0.1 80 127.0.0.1 "127.0.0.1""#);
    }

    #[tokio::test]
    async fn every_timeout_is_set_on_every_peer() {
        let peer = upstream("https://127.0.0.1:9").peer(&mut Attempts::default()).await.unwrap();
        let options = &peer.options;
        let seconds = |duration: Option<Duration>| duration.unwrap().as_secs();
        assert_eq!(seconds(options.connection_timeout), 1);
        assert_eq!(seconds(options.total_connection_timeout), 2);
        assert_eq!(seconds(options.read_timeout), 2);
        assert_eq!(seconds(options.write_timeout), 3);
        assert_eq!(seconds(options.idle_timeout), 4);
        assert!(options.verify_cert && options.verify_hostname);
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_is_an_error_and_no_panic() {
        let error = upstream("https://no-such-host.invalid")
            .peer(&mut Attempts::default())
            .await
            .err()
            .unwrap();
        assert!(error.to_string().contains("no-such-host.invalid"), "{error}");
    }

    #[tokio::test]
    async fn old_addresses_are_used_while_newer_ones_are_looked_up() {
        let upstream = upstream("https://127.0.0.1:9");
        let old = upstream.peer_at(([127, 0, 0, 7], 9).into());
        let at = Instant::now() - ADDRESSES_KEPT * 2;
        upstream.resolved.store(Some(Arc::new(Resolved { at, peers: vec![old] })));
        let address = async || {
            let peer = upstream.peer(&mut Attempts::default()).await.unwrap();
            peer._address.as_inet().unwrap().ip().to_string()
        };
        assert_eq!(address().await, "127.0.0.7", "nobody waits for the resolver");
        let renewed = async {
            while address().await != "127.0.0.1" {
                tokio::task::yield_now().await;
            }
        };
        timeout(RESOLVE_TIMEOUT, renewed).await.expect("the name is looked up anew");
    }

    #[tokio::test]
    async fn known_addresses_outlive_a_resolver_that_fails() {
        let upstream = upstream("https://no-such-host.invalid");
        let old = upstream.peer_at(([127, 0, 0, 7], 9).into());
        let at = Instant::now() - ADDRESSES_KEPT * 2;
        upstream.resolved.store(Some(Arc::new(Resolved { at, peers: vec![old] })));
        upstream.clone().refresh().await;
        let resolved = upstream.resolved.load_full().unwrap();
        assert!(resolved.peers.len() == 1 && resolved.at.elapsed() < ADDRESSES_KEPT);
    }

    #[tokio::test]
    async fn a_failed_address_is_left_for_the_next_one() {
        let upstream = upstream("https://127.0.0.1:9");
        let peers = [9, 10].map(|port| upstream.peer_at(([127, 0, 0, 1], port).into()));
        upstream
            .resolved
            .store(Some(Arc::new(Resolved { at: Instant::now(), peers: peers.into() })));
        let port = async |attempts: &mut Attempts| {
            upstream.peer(attempts).await.unwrap()._address.as_inet().unwrap().port()
        };
        let (mut one, mut other) = (Attempts::default(), Attempts::default());
        assert_eq!((port(&mut one).await, port(&mut other).await), (9, 9));
        assert!(upstream.try_next(&mut one) && upstream.try_next(&mut other), "there is a second");
        assert_eq!((port(&mut one).await, port(&mut other).await), (10, 10));
        assert_eq!(port(&mut Attempts::default()).await, 10, "others begin with what may work");
        assert!(!upstream.try_next(&mut one), "there is no third");
        assert_eq!(port(&mut Attempts::default()).await, 9, "and come back to the first");
    }
}
