//! Checks of the connection to a server: name, TCP, forward proxy, TLS.

use super::{Subject, Verdict};
use crate::config::Transport;
use crate::endpoint;
use crate::forward_proxy::{Destination, ForwardProxy};
use crate::http_client;
use crate::no_answer::NoAnswer;
use crate::resolver::look_up_all;
use crate::secret_file::CertificateAndKey;
use crate::token::client_expiry::not_after;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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
    let config = http_client::client_config(server.transport, server.certificate);
    let config = match (server.url.scheme(), config) {
        ("https", Err(error)) => {
            return subject.add("tls", Verdict::Failed, error.to_string(), None);
        }
        (_, config) => config.ok(),
    };
    let proxy = server.transport.proxy.proxy_for(server.url);
    let (host, port) = match proxy {
        Some(proxy) => (proxy.host.clone(), proxy.port),
        None => (endpoint::host(server.url), endpoint::port(server.url)),
    };
    // What fails before the tunnel is the proxy's.
    let fail_before = |check, place: &str, failure: NoAnswer, subject: &mut Subject| {
        let advice = match proxy {
            Some(_) => NoAnswer::Proxy(Box::new(NoAnswer::Unknown)).advice(&host),
            None => failure.advice(&host),
        };
        let which = if proxy.is_some() { "the forward proxy " } else { "" };
        let detail = format!("{which}{place} {}", failure.predicate());
        subject.add(check, Verdict::Failed, detail, advice.map(str::to_owned));
    };
    let connect_to = &server.transport.connect_to;
    let hosts = match proxy.is_none() && !connect_to.is_empty() {
        true => connect_to.clone(),
        false => vec![host.clone()],
    };
    let host = hosts.join(", ");
    let host = host.as_str();
    let found = match timeout(STEP, look_up_all(&hosts, port)).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(NoAnswer::of(&error)),
        Err(_) => Err(NoAnswer::DnsSilent),
    };
    let found = match found {
        Ok(found) => found,
        Err(failure) => return fail_before("dns", host, failure, subject),
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
        Err((address, failure)) => return fail_before("tcp", &address, failure, subject),
    };
    let peer = stream.peer_addr().map_or_else(|_| host.to_owned(), |peer| peer.to_string());
    subject.ok("tcp", format!("connected to {peer}"));
    if let Some(proxy) = proxy {
        if let Err(error) = tunnel(&mut stream, server.url, proxy).await {
            return subject.add("proxy", Verdict::Failed, error, None);
        }
        subject.ok("proxy", format!("connected through {}", proxy.authority()));
    }
    let Some(config) = config else { return };
    if server.url.scheme() == "https" {
        tls(stream, config, server, subject).await;
    } else if let Ok(address) = stream.peer_addr()
        && speaks_tls(stream, config, server).await
        && !speaks_http(address, server).await
    {
        let advice = format!("write https:// in {}", server.key);
        let detail =
            format!("{} speaks TLS, but {} begins with http://", authority(server), server.key);
        subject.add("tls", Verdict::Failed, detail, Some(advice));
    }
}

fn authority(server: &Server<'_>) -> String {
    endpoint::authority(&endpoint::host(server.url), endpoint::port(server.url))
}

/// Whether a server that is configured without TLS begins a handshake.
async fn speaks_tls(stream: TcpStream, config: ClientConfig, server: &Server<'_>) -> bool {
    let handshake = timeout(HELLO, handshake(stream, config, server)).await;
    matches!(handshake, Ok(Ok(_) | Err(NoAnswer::Tls(_))))
}

/// Whether a server that speaks TLS answers in cleartext on the same port, too. Some do. Others
/// answer only with 400.
async fn speaks_http(address: SocketAddr, server: &Server<'_>) -> bool {
    let request =
        format!("HEAD / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", authority(server));
    let first_line = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).await?;
        std::io::Result::Ok(begin)
    };
    let begin = timeout(HELLO, first_line).await;
    matches!(begin, Ok(Ok(begin)) if begin.starts_with(b"HTTP/") && !begin.ends_with(b" 400"))
}

async fn handshake(
    stream: TcpStream,
    config: ClientConfig,
    server: &Server<'_>,
) -> Result<TlsStream<TcpStream>, NoAnswer> {
    let name = ServerName::try_from(endpoint::host(server.url));
    let name = name.map_err(|error| NoAnswer::Other(error.to_string()))?;
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

async fn tls(stream: TcpStream, config: ClientConfig, server: &Server<'_>, subject: &mut Subject) {
    let connected = match handshake(stream, config, server).await {
        Ok(connected) => connected,
        Err(failure) => {
            let advice = failure.advice(&endpoint::host(server.url)).map(str::to_owned);
            let detail = format!("{} {}", authority(server), failure.predicate());
            return subject.add("tls", Verdict::Failed, detail, advice);
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
}

/// The day of a time in UTC.
pub(super) fn day(time: SystemTime) -> String {
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
