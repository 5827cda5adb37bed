//! The beginning of a connection with TLS.

use rustls::{AlertDescription, CertificateError, Error};
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// The first byte of a TLS handshake (RFC 8446 section 5.1). No method of HTTP begins with it.
pub(crate) const TLS_HANDSHAKE: u8 = 0x16;
/// Time for a handshake.
const LONGEST: Duration = Duration::from_secs(10);

/// The largest number of handshakes of a listener at once. Each may hold 64 KiB.
const MOST: usize = 256;

/// Why a connection has no TLS.
pub(crate) enum HandshakeFailure {
    /// The caller speaks no TLS.
    Cleartext(TcpStream),
    /// The handshake failed for this reason.
    Failed(&'static str),
    /// The caller is gone, or the reason is in the log already.
    Silent,
}

/// The handshakes of a listener that have not ended.
#[derive(Default)]
pub(super) struct Handshakes {
    begun: AtomicU64,
    running: Mutex<BTreeMap<u64, CancellationToken>>,
}

/// One handshake, until it is dropped.
struct Turn<'h> {
    handshakes: &'h Handshakes,
    number: u64,
    /// Cancelled when a newer handshake takes its place.
    replaced: CancellationToken,
}

impl Handshakes {
    /// Begins a handshake. Beyond the limit, it replaces the oldest one, so that clients that never
    /// end one keep nobody out.
    fn begin(&self) -> Turn<'_> {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        let replaced = CancellationToken::new();
        let mut running = self.running();
        running.insert(number, replaced.clone());
        if running.len() > MOST
            && let Some((_, oldest)) = running.pop_first()
        {
            oldest.cancel();
        }
        Turn { handshakes: self, number, replaced }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<u64, CancellationToken>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.handshakes.running().remove(&self.number);
    }
}

/// Does the handshake.
pub(super) async fn accept(
    acceptor: &TlsAcceptor,
    handshakes: &Handshakes,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, HandshakeFailure> {
    let accepting = async {
        let mut first = [0];
        match stream.peek(&mut first).await {
            Ok(1) if first == [TLS_HANDSHAKE] => {}
            Ok(1) => return Err(HandshakeFailure::Cleartext(stream)),
            _ => return Err(HandshakeFailure::Silent),
        }
        let turn = handshakes.begin();
        match turn.replaced.run_until_cancelled(acceptor.accept(stream)).await {
            Some(Ok(stream)) => Ok(stream),
            Some(Err(error)) => {
                Err(why_failed(&error).map_or(HandshakeFailure::Silent, HandshakeFailure::Failed))
            }
            None => Err(HandshakeFailure::Failed("too many callers begin one at once")),
        }
    };
    let accepted = timeout(LONGEST, accepting).await;
    accepted.unwrap_or(Err(HandshakeFailure::Failed("it takes longer than 10 s")))
}

/// Says why a handshake failed, and what to do. `None` if the reason is in the log already.
fn why_failed(error: &io::Error) -> Option<&'static str> {
    use AlertDescription::*;
    let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<Error>()) else {
        return Some("the caller closed the connection");
    };
    Some(match error {
        Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure) => return None,
        Error::NoCertificatesPresented => {
            "the caller has no certificate, and client_ca_file requires one; give the tool a certificate, or set client_certificate: optional"
        }
        Error::AlertReceived(
            UnknownCA
            | BadCertificate
            | CertificateUnknown
            | CertificateExpired
            | UnsupportedCertificate
            | DecryptError,
        ) => {
            "the caller does not accept the listener's certificate; let the tool trust its authority, and call the listener by a name that stands in it"
        }
        Error::AlertReceived(_) => "the caller ended it",
        Error::NoApplicationProtocol => "the caller does not offer HTTP/1.1 (ALPN)",
        Error::PeerIncompatible(_) => {
            "caller and listener have no version or cipher in common; the listener speaks TLS 1.3, and 1.2 unless min_tls forbids it"
        }
        _ => "what the caller sent is no valid TLS",
    })
}
