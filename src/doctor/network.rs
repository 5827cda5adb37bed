//! Checks of the connection to a server: name, TCP, forward proxy, TLS.

use super::{Subject, Verdict};
use crate::config::Transport;
use crate::endpoint;
use crate::files;
use crate::forward_proxy::{Destination, ForwardProxy};
use crate::http_client;
use crate::no_answer::NoAnswer;
use crate::resolver::look_up;
use crate::secret_file::CertificateAndKey;
use crate::token::client_expiry::not_after;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::Url;

/// Timeout of each step.
const STEP: Duration = Duration::from_secs(5);
/// The longest wait for a TLS answer of a server that is configured without TLS.
const HELLO: Duration = Duration::from_secs(1);
/// A certificate that expires sooner gets a warning.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// A server, and how it is reached.
pub(super) struct Server<'a> {
    pub(super) url: &'a Url,
    /// The key of the URL in the configuration.
    pub(super) key: &'static str,
    pub(super) transport: &'a Transport,
    /// Certificate and key for mutual TLS.
    pub(super) certificate: Option<&'a CertificateAndKey>,
}

/// Tries each step, up to the first that fails. Returns whether all passed.
pub(super) async fn examine(server: &Server<'_>, subject: &mut Subject) -> bool {
    let before = subject.findings.len();
    try_steps(server, subject).await;
    subject.findings.iter().skip(before).all(|finding| finding.verdict != Verdict::Failed)
}

async fn try_steps(server: &Server<'_>, subject: &mut Subject) {
    let proxy = server.transport.proxy.proxy_for(server.url);
    let (host, port) = match proxy {
        Some(proxy) => (proxy.host.clone(), proxy.port),
        None => (endpoint::host(server.url), endpoint::port(server.url)),
    };
    let host = host.as_str();
    let found = match timeout(STEP, look_up(host, port)).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(NoAnswer::of(&error)),
        Err(_) => Err(NoAnswer::DnsSilent),
    };
    let found = match found {
        Ok(found) => found,
        Err(failure) => return fail("dns", host, &failure, server, subject),
    };
    let shown: Vec<_> = found.iter().map(|address| address.ip().to_string()).collect();
    subject.ok("dns", format!("{host} is {}", shown.join(", ")));

    let mut stream = Err((host.to_owned(), NoAnswer::UnknownName));
    for address in &found {
        stream = match timeout(STEP, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err((address.to_string(), NoAnswer::of(&error))),
            Err(_) => Err((address.to_string(), NoAnswer::ConnectTimeout)),
        };
        if stream.is_ok() {
            break;
        }
    }
    let mut stream = match stream {
        Ok(stream) => stream,
        Err((address, failure)) => return fail("tcp", &address, &failure, server, subject),
    };
    let peer = stream.peer_addr().map_or_else(|_| host.to_owned(), |peer| peer.to_string());
    subject.ok("tcp", format!("connected to {peer}"));
    if let Some(proxy) = proxy {
        if let Err(error) = tunnel(&mut stream, server.url, proxy).await {
            return subject.add("proxy", Verdict::Failed, error, None);
        }
        subject.ok("proxy", format!("connected through {}", proxy.authority()));
    }
    if server.url.scheme() == "https" {
        tls(stream, server, subject).await;
    } else if speaks_tls(stream, server).await {
        let advice = format!("write https:// in {}", server.key);
        let detail =
            format!("{} speaks TLS, but {} begins with http://", authority(server), server.key);
        subject.add("tls", Verdict::Failed, detail, Some(advice));
    }
}

fn authority(server: &Server<'_>) -> String {
    endpoint::authority(&endpoint::host(server.url), endpoint::port(server.url))
}

/// Adds the finding that a step failed, at this name or address.
fn fail(
    check: &'static str,
    place: &str,
    failure: &NoAnswer,
    server: &Server<'_>,
    subject: &mut Subject,
) {
    let advice = failure.advice(&endpoint::host(server.url)).map(str::to_owned);
    let detail = format!("{place} {}", failure.predicate());
    subject.add(check, Verdict::Failed, detail, advice);
}

/// Whether a server that is configured without TLS begins a handshake.
async fn speaks_tls(stream: TcpStream, server: &Server<'_>) -> bool {
    let handshake = timeout(HELLO, handshake(stream, server)).await;
    matches!(handshake, Ok(Ok(_) | Err(NoAnswer::Tls(_))))
}

async fn handshake(
    stream: TcpStream,
    server: &Server<'_>,
) -> Result<TlsStream<TcpStream>, NoAnswer> {
    let other = |error: String| NoAnswer::Other(error);
    let config = http_client::client_config(server.transport, server.certificate);
    let config = config.map_err(|error| other(error.to_string()))?;
    let name = ServerName::try_from(endpoint::host(server.url));
    let name = name.map_err(|error| other(error.to_string()))?;
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let connected = timeout(STEP, connecting).await.map_err(|_| NoAnswer::TlsTimeout)?;
    connected.map_err(|error| NoAnswer::of(&error))
}

async fn tunnel(stream: &mut TcpStream, url: &Url, proxy: &ForwardProxy) -> Result<(), String> {
    let destination = Destination::new(url, proxy).map_err(|error| error.to_string())?;
    let opened = timeout(STEP, destination.open(stream)).await;
    let opened = opened.map_err(|_| format!("no answer in {} s", STEP.as_secs()))?;
    opened.map_err(|error| error.to_string())
}

async fn tls(stream: TcpStream, server: &Server<'_>, subject: &mut Subject) {
    let connected = match handshake(stream, server).await {
        Ok(connected) => connected,
        Err(failure) => {
            return fail("tls", &authority(server), &failure, server, subject);
        }
    };
    let (_, connection) = connected.get_ref();
    let version = connection.protocol_version().and_then(|version| version.as_str());
    let version = version.unwrap_or("unknown version").replace("TLSv1_", "TLS 1.");
    let chain = connection.peer_certificates().unwrap_or_default();
    let mut parts = vec![version];
    parts.extend(chain.iter().filter_map(named));
    let end = chain.iter().filter_map(not_after).min();
    let left = end.map(|end| end.duration_since(SystemTime::now()).unwrap_or_default());
    parts.extend(end.zip(left).map(|(end, left)| {
        format!("until {} ({} days left)", day(end), left.as_secs() / (24 * 3600))
    }));
    let is_short = left.is_some_and(|left| left < SOON);
    let verdict = if is_short { Verdict::Warning } else { Verdict::Ok };
    let advice = is_short.then(|| {
        "the server's certificate expires soon; ask the server's operator to renew it".to_owned()
    });
    subject.add("tls", verdict, parts.join(", "), advice);
    if let Some(file) = &server.transport.ca_file {
        authorities(file, subject);
    }
}

/// Warns of an authority that has expired. Its date is not looked at when it signs a server's
/// certificate, but other programs refuse it, and it is probably replaced already.
fn authorities(file: &Path, subject: &mut Subject) {
    let Ok(text) = files::read_small(file) else { return };
    let certificates = CertificateDer::pem_slice_iter(text.as_bytes()).flatten();
    let ended = certificates.filter_map(|one| not_after(&one)).find(|end| *end < SystemTime::now());
    if let Some(end) = ended {
        let detail = format!("{} holds an authority that ended on {}", file.display(), day(end));
        let advice = "put the authority's new certificate into it".to_owned();
        subject.add("ca_file", Verdict::Warning, detail, Some(advice));
    }
}

fn day(time: SystemTime) -> String {
    let day = humantime::format_rfc3339_seconds(time).to_string();
    day.split('T').next().unwrap_or_default().to_owned()
}

/// Subject and issuer of a certificate: `acme.example (from Example CA)`.
fn named(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let common = |name: &x509_parser::x509::X509Name<'_>| {
        name.iter_common_name().next().and_then(|name| name.as_str().ok()).map(str::to_owned)
    };
    let subject = common(parsed.subject()).unwrap_or_else(|| "a certificate without a name".into());
    let issuer = common(parsed.issuer()).filter(|issuer| *issuer != subject);
    Some(match issuer {
        Some(issuer) => format!("{subject} (from {issuer})"),
        None => subject,
    })
}
