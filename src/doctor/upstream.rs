//! Check of the connection to an upstream, up to TLS.

use super::network::{self, Server};
use super::{Subject, Verdict};
use crate::config::Upstream;

/// Checks the connection. Returns whether there is one.
pub(super) async fn examine(upstream: &Upstream, subject: &mut Subject) -> bool {
    let certificate = match upstream.read_certificate() {
        Ok(certificate) => certificate,
        Err(error) => {
            subject.add("certificate", Verdict::Failed, error.to_string(), None);
            return false;
        }
    };
    let certificate = certificate.as_ref();
    let server =
        Server { url: &upstream.origin, key: "url", transport: &upstream.transport, certificate };
    network::examine(&server, subject).await
}
