//! The beginning of a caller's connection on a listener with TLS.

use super::reply;
use crate::listener_tls::ListenerTls;
use crate::proxy::downstream::{Load, Socket, TLS_HANDSHAKE};
use rustls::{AlertDescription, CertificateError, Error};
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Time for a handshake. Until its end, the connection may be closed to make room for another one.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// Returns the socket on which requests come. `None` if the handshake fails.
pub(super) async fn enter(socket: Socket, tls: &ListenerTls, load: &Load) -> Option<Socket> {
    match socket {
        Socket::Tcp(stream) => match timeout(HANDSHAKE_TIME, handshake(stream, tls, load)).await {
            Ok(socket) => socket,
            Err(_) => {
                load.record_failed_handshake("it takes longer than 10 s");
                None
            }
        },
        socket => Some(socket),
    }
}

async fn handshake(stream: TcpStream, tls: &ListenerTls, load: &Load) -> Option<Socket> {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1) if first == [TLS_HANDSHAKE] => {}
        Ok(1) => {
            load.record_cleartext();
            reply::reject_cleartext(stream, load).await;
            return None;
        }
        // The caller is gone.
        _ => return None,
    }
    match tls.accept(stream).await {
        Ok(stream) => Some(Socket::Tls(Box::new(stream))),
        Err(error) => {
            if let Some(why) = why_failed(&error) {
                load.record_failed_handshake(why);
            }
            None
        }
    }
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
