//! A look at a running sidecar from outside: whether its admin listener says that it is ready.

use crate::admin::NEEDS_TLS;
use crate::config::{AdminListener, Transport};
use crate::http_client::{
    HttpClient, HttpClientError, HttpClientOptions, bounded_body, set_up_tls,
};
use crate::no_answer::NoAnswer;
use crate::secret_file::{SecretFileError, read_pem};
use crate::token::REFUSED;
use http::StatusCode;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use url::Url;

/// Timeout of one question.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between two questions.
const PAUSE: Duration = Duration::from_millis(100);
/// The beginning of the answer of a sidecar that is ready.
const READY: &str = "ready";
/// The longest answer that is read.
const LONGEST: usize = 64 * 1024;

/// Why a sidecar is not ready.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// Nothing answers there.
    #[error(
        "nothing answers at {0}; start the sidecar, or give its admin address with --admin-listen"
    )]
    NoAnswer(SocketAddr),
    /// It answers why.
    #[error("{0}")]
    Answer(String),
    /// It has TLS, and the configuration has none.
    #[error(
        "the sidecar at {0} speaks TLS, and this configuration has no `admin.tls`; give this command the sidecar's configuration"
    )]
    NeedsTls(SocketAddr),
    /// It has another certificate than the configuration, or no TLS.
    #[error(
        "the program at {0} {1}; only the certificate in {file} is accepted: give this command the sidecar's configuration; if it has that, see in the sidecar's log why it did not take this certificate", file = .2.display()
    )]
    OtherTls(SocketAddr, String, PathBuf),
    /// The certificate in the configuration can't be read.
    #[error(transparent)]
    Unreadable(#[from] SecretFileError),
    /// The file in the configuration holds no certificate.
    #[error("{} holds no certificate; it must be PEM", .0.display())]
    NoCertificate(PathBuf),
    /// The answer is not one of `/readyz`.
    #[error(
        "another program answers at {0}, with status {1}; give the sidecar's admin address with --admin-listen"
    )]
    Stranger(SocketAddr, StatusCode),
    /// Requests can't be sent.
    #[error(transparent)]
    Client(#[from] HttpClientError),
}

/// Waits until the sidecar with this admin address is ready. Asks at least once, and not again
/// after this time.
///
/// # Errors
/// The reason of the last question.
pub async fn wait_until_ready(admin: &AdminListener, limit: Duration) -> Result<(), NotReady> {
    wait(admin, limit, |_| false).await
}

/// Like [`wait_until_ready`], but does not wait if the issuer refuses the client: for a run that no
/// person watches, who could correct the credential.
///
/// # Errors
/// The reason of the last question.
pub async fn wait_unless_refused(admin: &AdminListener, limit: Duration) -> Result<(), NotReady> {
    wait(admin, limit, |answer| answer.contains(REFUSED)).await
}

async fn wait(
    admin: &AdminListener,
    limit: Duration,
    is_hopeless: impl Fn(&str) -> bool,
) -> Result<(), NotReady> {
    set_up_tls();
    let address = SocketAddr::new(reachable(admin.address.ip()), admin.address.port());
    let started = Instant::now();
    loop {
        let reason = match ask(admin, address).await {
            Ok((StatusCode::OK, answer)) if answer.starts_with(READY) => return Ok(()),
            Ok((StatusCode::SERVICE_UNAVAILABLE, answer)) if is_hopeless(&answer) => {
                return Err(NotReady::Answer(answer));
            }
            Ok((StatusCode::SERVICE_UNAVAILABLE, answer)) => NotReady::Answer(answer),
            Ok((StatusCode::BAD_REQUEST, answer)) if answer == NEEDS_TLS => {
                NotReady::NeedsTls(address)
            }
            Ok((status, _)) => NotReady::Stranger(address, status),
            Err(reason) => reason,
        };
        if started.elapsed() + PAUSE > limit {
            return Err(reason);
        }
        sleep(PAUSE).await;
    }
}

/// Asks once, with the certificate that is in the file now: the sidecar takes a new one at once.
async fn ask(admin: &AdminListener, address: SocketAddr) -> Result<(StatusCode, String), NotReady> {
    let no_answer = |_| NotReady::NoAnswer(address);
    let url = format!("{}://{address}/readyz", admin.scheme());
    let url: Url = url.parse().map_err(no_answer)?;
    let options = HttpClientOptions {
        url: &url,
        transport: &Transport::default(),
        certificate: None,
        connect: TIMEOUT,
        whole: TIMEOUT,
        kept: 0,
    };
    let http = match &admin.tls {
        None => HttpClient::new(&options)?,
        Some(tls) => HttpClient::pinned(&options, certificate(&tls.certificate.certificate)?)?,
    };
    let sent = http.send(http.get(url.clone())).await;
    let mut answer = sent.map_err(|error| match (error.failure(), &admin.tls) {
        (Some(failure @ (NoAnswer::Tls(_) | NoAnswer::NotTls)), Some(tls)) => {
            let file = tls.certificate.certificate.clone();
            NotReady::OtherTls(address, failure.predicate(), file)
        }
        _ => NotReady::NoAnswer(address),
    })?;
    let body = bounded_body(&mut answer, LONGEST, |_| false).await;
    let body = body.map_err(|_| NotReady::NoAnswer(address))?;
    Ok((answer.status(), String::from_utf8_lossy(&body).trim().to_owned()))
}

/// The first certificate of a file.
fn certificate(file: &Path) -> Result<CertificateDer<'static>, NotReady> {
    let text = read_pem(file)?;
    CertificateDer::from_pem_slice(text.expose().as_bytes())
        .map_err(|_| NotReady::NoCertificate(file.to_owned()))
}

/// The address by which a listener on this one is reached from the same machine.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}
