//! TLS of listeners: the certificate that callers see, and the certificates that callers present.
//!
//! The files are read again when they change. A connection keeps the certificate with which it
//! began. HTTP/1.1 alone is offered: bearerd's checks of framing are those of HTTP/1.1, and a tool
//! of old gains nothing from HTTP/2 on its way to the same machine or network.

mod client_verifier;
mod handshake;
mod summary;

pub(crate) use handshake::{HandshakeFailure, TLS_HANDSHAKE};
pub use summary::{CertificateSummary, summary};

use crate::config::{SubjectName, TlsSettings};
use crate::http_client::{self, parse_certificate};
use crate::secret_file::SecretFileError;
use crate::trust::{self, TrustError};
use arc_swap::{ArcSwap, ArcSwapOption};
use client_verifier::ClientVerifier;
use handshake::Handshakes;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, pem};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{Error, RootCertStore, ServerConfig};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_parser::extensions::GeneralName;
use x509_parser::time::ASN1Time;

/// The protocol that is offered (RFC 7301).
const HTTP_1: &[u8] = b"http/1.1";

/// The number of names of a caller's certificate that count. An idle connection holds them.
const MOST_NAMES: usize = 64;

/// The time before the end of a certificate in which it should be replaced.
const RENEWAL: Duration = Duration::from_secs(7 * 86_400);

/// Why a listener's TLS can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ListenerTlsError {
    /// A file can't be read.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// The authorities of callers' certificates can't be used.
    #[error("client_ca_file: {0}")]
    Authorities(#[from] TrustError),
    /// The certificate or its key can't be used.
    #[error(
        "cannot use {certificate} and its key: {reason}; both must be PEM, and belong together"
    )]
    Certificate {
        /// The file of the certificate.
        certificate: String,
        /// What is wrong.
        reason: String,
    },
}

/// The certificate that a caller has presented, and that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerCertificate {
    /// Its alternative names.
    pub names: Vec<SubjectName>,
    /// When it expires.
    pub not_after: SystemTime,
}

impl CallerCertificate {
    /// Reads the certificate of a connection. `None` if the caller has presented none.
    pub(crate) fn of(stream: &TlsStream<TcpStream>) -> Option<Self> {
        let presented = stream.get_ref().1.peer_certificates()?.first()?;
        let (_, parsed) = x509_parser::parse_x509_certificate(presented).ok()?;
        let names = parsed.subject_alternative_name().ok().flatten();
        let names = names.iter().flat_map(|extension| &extension.value.general_names);
        let names = names.filter_map(|name| match name {
            GeneralName::URI(uri) => Some(SubjectName::Uri((*uri).to_owned())),
            GeneralName::DNSName(name) => Some(SubjectName::Dns(name.to_ascii_lowercase())),
            _ => None,
        });
        let not_after = Validity::of(presented)?.not_after;
        Some(Self { names: names.take(MOST_NAMES).collect(), not_after })
    }
}

/// The end of a certificate, and when it should have been replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_after: SystemTime,
    /// Seven days before the end, or for a certificate that lives shorter, after two thirds of its
    /// life: then an ACME client has renewed it.
    pub(crate) renewal_due: SystemTime,
}

impl Validity {
    fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let time = |time: ASN1Time| {
            let seconds = time.timestamp().try_into().ok()?;
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
        };
        let not_after = time(parsed.validity().not_after)?;
        let not_before = time(parsed.validity().not_before)?;
        let life = not_after.duration_since(not_before).ok()?;
        let renewal_due = not_after.checked_sub(RENEWAL.min(life / 3))?;
        Some(Self { not_after, renewal_due })
    }

    /// Says when the certificate expires, if it should have been replaced.
    pub(crate) fn complaint(self, now: SystemTime) -> Option<String> {
        let end = humantime::format_rfc3339_seconds(self.not_after);
        match now {
            now if now < self.renewal_due => None,
            now if now < self.not_after => Some(format!("it ends at {end}; replace its file")),
            _ => Some(format!("it ended at {end}; replace its file")),
        }
    }
}

/// TLS of one listener.
pub struct ListenerTls {
    settings: TlsSettings,
    /// What was read, to notice a change.
    read: ArcSwap<Read>,
    /// Why the files differ from what is in use, if they do.
    complaint: ArcSwapOption<String>,
    /// Asks for a look at the files.
    look: Notify,
    handshakes: Handshakes,
    /// Changed when an authority of callers' certificates is removed.
    removals: watch::Sender<()>,
}

/// The content of the files, and what was made of it.
struct Read {
    chain: Vec<CertificateDer<'static>>,
    authorities: Vec<CertificateDer<'static>>,
    acceptor: TlsAcceptor,
}

impl ListenerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// A file can't be read or used.
    pub(crate) fn new(settings: &TlsSettings) -> Result<Self, ListenerTlsError> {
        Ok(Self {
            settings: settings.clone(),
            read: ArcSwap::from_pointee(read(settings)?),
            complaint: ArcSwapOption::empty(),
            look: Notify::new(),
            handshakes: Handshakes::default(),
            removals: watch::Sender::default(),
        })
    }

    /// Reads the files again. Returns whether they have changed. If they can't be used, those from
    /// before stay in use.
    ///
    /// # Errors
    /// A file can't be read or used.
    pub(crate) fn renew(&self) -> Result<bool, ListenerTlsError> {
        let (new, old) = (read(&self.settings)?, self.read.load());
        let is_new = new.chain != old.chain || new.authorities != old.authorities;
        if is_new {
            let is_removed = old.authorities.iter().any(|one| !new.authorities.contains(one));
            self.read.store(Arc::new(new));
            if is_removed {
                self.removals.send_replace(());
            }
        }
        Ok(is_new)
    }

    /// Returns what changes when an authority of callers' certificates is removed from now on.
    /// Connections that began before must end.
    pub(crate) fn removals(&self) -> watch::Receiver<()> {
        self.removals.subscribe()
    }

    /// Triggers a look at the files.
    pub(crate) fn look(&self) {
        self.look.notify_one();
    }

    /// Waits until [`ListenerTls::look`] is called.
    pub(crate) async fn look_wanted(&self) {
        self.look.notified().await;
    }

    /// Sets why the files differ from what is in use.
    pub(crate) fn set_complaint(&self, why: Option<String>) {
        self.complaint.store(why.map(Arc::new));
    }

    /// Returns why the files differ from what is in use, if they do.
    pub(crate) fn complaint(&self) -> Option<Arc<String>> {
        self.complaint.load_full()
    }

    /// Returns when the certificate in use expires.
    pub(crate) fn validity(&self) -> Option<Validity> {
        Validity::of(self.read.load().chain.first()?)
    }

    /// Returns the settings.
    pub(crate) const fn settings(&self) -> &TlsSettings {
        &self.settings
    }

    /// Does the handshake of a connection.
    ///
    /// # Errors
    /// The caller speaks no TLS, or not as it is required, or its certificate is not accepted.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, HandshakeFailure> {
        let acceptor = self.read.load().acceptor.clone();
        handshake::accept(&acceptor, &self.handshakes, stream).await
    }
}

fn read(settings: &TlsSettings) -> Result<Read, ListenerTlsError> {
    let unusable = |reason: String| ListenerTlsError::Certificate {
        certificate: settings.certificate.certificate.display().to_string(),
        reason,
    };
    let (chain, key) =
        parse_certificate(&settings.certificate.read()?).map_err(|error| match error {
            pem::Error::NoItemsFound => unusable("the key's file has no key".to_owned()),
            other => unusable(other.to_string()),
        })?;
    if chain.is_empty() {
        return Err(unusable("the certificate's file has no certificate".to_owned()));
    }
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(http_client::versions(settings.min_tls))
        .map_err(|error| unusable(error.to_string()))?;
    let mut authorities = Vec::new();
    let builder = match &settings.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            authorities = trust::read_pem(file)?;
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(authorities.iter().cloned());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            let verifier = match settings.is_certificate_optional {
                true => verifier.allow_unauthenticated(),
                false => verifier,
            };
            let verifier = verifier.build().map_err(|_| TrustError::NoAnchors)?;
            builder.with_client_cert_verifier(Arc::new(ClientVerifier::new(verifier)))
        }
    };
    let config = builder.with_single_cert(chain.clone(), key);
    let mut config = config.map_err(|error| match error {
        Error::InconsistentKeys(_) => unusable("the key is another certificate's".to_owned()),
        other => unusable(other.to_string()),
    })?;
    config.alpn_protocols = vec![HTTP_1.to_vec()];
    if settings.client_ca.is_some() {
        // A resumed session would not verify the certificate again, and outlive it.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Read { chain, authorities, acceptor: TlsAcceptor::from(Arc::new(config)) })
}
