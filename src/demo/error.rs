//! Errors of the demo tenant itself, as opposed to the error responses that it sends.

use std::io;
use std::net::SocketAddr;

/// Why the demo tenant could not start, make a certificate or register a key.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The address is in use, or does not belong to this machine.
    #[error(
        "cannot listen on {address}: {reason}; choose another address, or port 0 for any free port"
    )]
    Bind {
        /// The address as it was requested.
        address: SocketAddr,
        /// The error of the operating system.
        reason: io::Error,
    },
    /// A certificate could not be made, probably because the name is not a DNS name or an IP
    /// address.
    #[error("cannot make a certificate for {name}: {reason}")]
    Certificate {
        /// The requested name.
        name: String,
        /// The error of the certificate library.
        reason: rcgen::Error,
    },
    /// The TLS library refused the demo tenant's certificate or settings.
    #[error("cannot set up TLS: {0}")]
    Tls(rustls::Error),
    /// No RSA key could be made, because the operating system gave no random numbers.
    #[error("cannot make a signing key: {0}")]
    SigningKey(rsa::Error),
    /// The public key of the OAuth client has an unsupported type or format.
    #[error(
        "the client's public key is not an RSA or P-256 key in PEM (`-----BEGIN PUBLIC KEY-----`)"
    )]
    ClientKey,
    /// The runtime shut down before the tenant had started.
    #[error("the runtime stopped while the demo tenant was starting")]
    Interrupted,
}
