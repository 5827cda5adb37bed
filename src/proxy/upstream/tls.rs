//! TLS to upstreams as pingora needs it: trust anchors, the client certificate, and which errors
//! mean that a certificate is not trusted.

use crate::config::TlsVersion;
use crate::error::ErrorKind;
use crate::http_client::{self, HttpClientError};
use crate::proxy::problem::Problem;
use crate::secret_file::CertificateAndKey;
use crate::trust::{self, TrustError};
use pingora::protocols::tls::{CaType, SslDigest};
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use pingora::{Error, ErrorType};
use std::path::Path;
use std::sync::Arc;

/// The connection's TLS version is older than `min_tls`.
const TOO_OLD: ErrorType = ErrorType::new("TlsTooOld");

/// The certificates of a `ca_file`.
pub(super) fn private_anchors(ca_file: &Path) -> Result<Arc<CaType>, TrustError> {
    let anchors: Box<CaType> = trust::read_pem(ca_file)?
        .into_iter()
        // pingora assumes that they can be parsed.
        .filter(|anchor| x509_parser::parse_x509_certificate(anchor).is_ok())
        .map(|anchor| WrappedX509::new(anchor.to_vec(), parse_x509))
        .collect();
    Ok(anchors.into())
}

/// The client certificate. An HTTP client was built with the same PEM, which checked it.
pub(super) fn certificate(
    certificate: &CertificateAndKey,
) -> Result<Arc<CertKey>, HttpClientError> {
    let (chain, key) = http_client::parse_certificate(certificate)
        .map_err(|error| HttpClientError::Pem(error.to_string()))?;
    // pingora assumes that they can be parsed.
    if chain.is_empty() || chain.iter().any(|der| x509_parser::parse_x509_certificate(der).is_err())
    {
        return Err(HttpClientError::Pem("no certificate".into()));
    }
    let chain = chain.into_iter().map(|certificate| certificate.to_vec()).collect();
    Ok(Arc::new(CertKey::new(chain, key.secret_der().to_vec())))
}

/// Whether the certificate's authority is unknown, or another of the same name signed it. pingora
/// holds the TLS library's error only as text.
pub(super) fn is_untrusted(error: &Error) -> bool {
    let context = error.context.as_ref().map_or("", |context| context.as_str());
    *error.etype() == ErrorType::TLSHandshakeFailure
        && ["UnknownIssuer", "BadSignature"].iter().any(|reason| context.contains(reason))
}

/// Whether the server supports none of the protocols that were offered (RFC 7301 section 3.2).
pub(super) fn has_no_protocol(error: &Error) -> bool {
    let context = error.context.as_ref().map_or("", |context| context.as_str());
    *error.etype() == ErrorType::TLSHandshakeFailure && context.contains("NoApplicationProtocol")
}

/// Whether a connection's TLS version is at least this one. pingora has no setting for that, so it
/// is checked before anything is sent.
pub(super) fn is_new_enough(digest: Option<&SslDigest>, least: TlsVersion) -> bool {
    match least {
        TlsVersion::V1_2 => true,
        TlsVersion::V1_3 => digest.is_some_and(|digest| digest.version == "TLSv1_3"),
    }
}

/// Ends an attempt whose connection has too old a TLS version.
pub(super) fn too_old() -> Box<Error> {
    let detail = "the upstream's TLS version is older than its `min_tls` allows; nothing was sent; update the upstream, or lower `min_tls`";
    Problem::new(ErrorKind::UpstreamTls, detail).into_error(TOO_OLD).into_up()
}
