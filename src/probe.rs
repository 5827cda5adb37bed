//! A look at a running sidecar from outside: whether its admin listener says that it is ready.

use crate::config::Transport;
use crate::http_client::{
    HttpClient, HttpClientError, HttpClientOptions, bounded_body, set_up_tls,
};
use crate::token::REFUSED;
use http::StatusCode;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
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
pub async fn wait_until_ready(admin: SocketAddr, limit: Duration) -> Result<(), NotReady> {
    wait(admin, limit, |_| false).await
}

/// Like [`wait_until_ready`], but does not wait if the issuer refuses the client: for a run that no
/// person watches, who could correct the credential.
///
/// # Errors
/// The reason of the last question.
pub async fn wait_unless_refused(admin: SocketAddr, limit: Duration) -> Result<(), NotReady> {
    wait(admin, limit, |answer| answer.contains(REFUSED)).await
}

async fn wait(
    admin: SocketAddr,
    limit: Duration,
    is_hopeless: impl Fn(&str) -> bool,
) -> Result<(), NotReady> {
    set_up_tls();
    let admin = SocketAddr::new(reachable(admin.ip()), admin.port());
    let url: Url =
        format!("http://{admin}/readyz").parse().map_err(|_| NotReady::NoAnswer(admin))?;
    let transport = Transport::default();
    let http = HttpClient::new(&HttpClientOptions {
        url: &url,
        transport: &transport,
        certificate: None,
        connect: TIMEOUT,
        whole: TIMEOUT,
        kept: 1,
    })?;
    let started = Instant::now();
    loop {
        let reason = match ask(&http, &url).await {
            Ok((StatusCode::OK, answer)) if answer.starts_with(READY) => return Ok(()),
            Ok((StatusCode::SERVICE_UNAVAILABLE, answer)) if is_hopeless(&answer) => {
                return Err(NotReady::Answer(answer));
            }
            Ok((StatusCode::SERVICE_UNAVAILABLE, answer)) => NotReady::Answer(answer),
            Ok((status, _)) => NotReady::Stranger(admin, status),
            Err(()) => NotReady::NoAnswer(admin),
        };
        if started.elapsed() + PAUSE > limit {
            return Err(reason);
        }
        sleep(PAUSE).await;
    }
}

/// Asks once. Fails without an answer.
async fn ask(http: &HttpClient, url: &Url) -> Result<(StatusCode, String), ()> {
    let mut answer = http.send(http.get(url.clone())).await.map_err(drop)?;
    let body = bounded_body(&mut answer, LONGEST, |_| false).await.map_err(drop)?;
    Ok((answer.status(), String::from_utf8_lossy(&body).trim().to_owned()))
}

/// The address by which a listener on this one is reached from the same machine.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}
