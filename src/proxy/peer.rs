//! What a connection says about the caller at its other end.

use crate::config::{CertificateName, ListenerId};
use crate::listener_tls::CallerCertificate;
use std::time::SystemTime;

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// TCP. A browser could have sent the request.
    Tcp,
    /// TCP with TLS. A browser could have sent the request.
    Tls {
        /// The listener, whose authorities have signed the certificate.
        listener: ListenerId,
        /// The caller's certificate, if it has presented one.
        certificate: Option<CallerCertificate>,
    },
    /// A Unix socket. Browsers cannot use one, and `Host` has no meaning.
    Unix {
        /// The user at the other end.
        uid: Option<u32>,
    },
}

impl Peer {
    /// Whether the caller's certificate has this name, and is still valid.
    pub(super) fn is_named(&self, own: &CertificateName, now: SystemTime) -> bool {
        match self {
            Self::Tls { listener, certificate: Some(certificate) } => {
                own.listener.is_none_or(|wanted| wanted == *listener)
                    && certificate.names.contains(&own.name)
                    && now <= certificate.not_after
            }
            _ => false,
        }
    }
}
