//! Verification of callers' certificates, with the reasons in the log.

use crate::throttle::Throttle;
use crate::trust;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use std::sync::Arc;
use tracing::warn;

/// Verifier of callers' certificates. The log says why one is refused, once a minute for each kind
/// of reason. The caller gets the same answer for every reason.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    library: Arc<dyn ClientCertVerifier>,
    logs: [Throttle; 3],
}

impl ClientVerifier {
    pub(super) fn new(library: Arc<dyn ClientCertVerifier>) -> Self {
        Self { library, logs: Default::default() }
    }

    /// Limits the log lines about errors of this kind.
    fn log_of(&self, error: &Error) -> &Throttle {
        use CertificateError::*;
        let [expired, unknown, other] = &self.logs;
        match error {
            Error::InvalidCertificate(Expired | ExpiredContext { .. }) => expired,
            Error::InvalidCertificate(UnknownIssuer | BadSignature) => unknown,
            _ => other,
        }
    }
}

/// Words for a caller's certificate that is not accepted. The caller chose what is in it, so none
/// of that is quoted.
fn why_refused(error: &Error) -> String {
    use CertificateError::*;
    let Error::InvalidCertificate(reason) = error else {
        return "it is not a certificate".to_owned();
    };
    match reason {
        Expired
        | ExpiredContext { .. }
        | NotValidYet
        | NotValidYetContext { .. }
        | BadSignature => {
            let text = error.to_string();
            trust::plain(&text).unwrap_or_else(str::to_owned)
        }
        UnknownIssuer => "its authority is not in client_ca_file".to_owned(),
        InvalidPurpose | InvalidPurposeContext { .. } => {
            "it is not for clients (extended key usage)".to_owned()
        }
        _ => "it is no valid certificate for a client".to_owned(),
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.library.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.library.verify_client_cert(end_entity, intermediates, now).map_err(|error| {
            if self.log_of(&error).try_pass() {
                warn!("A caller's certificate is not accepted: {}.", why_refused(&error));
            }
            CertificateError::ApplicationVerificationFailure.into()
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.library.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.library.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.library.supported_verify_schemes()
    }

    fn offer_client_auth(&self) -> bool {
        self.library.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.library.client_auth_mandatory()
    }
}
