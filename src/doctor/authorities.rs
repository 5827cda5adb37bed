//! Check of the files of authorities: whether one of them has ended.

use super::network::day;
use super::{Subject, Verdict};
use crate::config::Config;
use crate::token::client_expiry::not_after;
use crate::{files, pem};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::SystemTime;

/// Warns of an authority that has ended, unless its successor is in the same file. The date of an
/// authority is not looked at when it signs a server's certificate, but other programs refuse it,
/// and the server's next certificate probably has another authority.
pub(super) fn examine(config: &Config, subject: &mut Subject) {
    let of_clients = config.clients.iter().map(|client| &client.transport);
    let of_upstreams = config.upstreams.iter().map(|upstream| &upstream.transport);
    let files = of_clients.chain(of_upstreams).filter_map(|transport| transport.ca_file.as_deref());
    for file in files.collect::<BTreeSet<&Path>>() {
        let Ok(text) = files::read_small(file) else { continue };
        if let Some((name, end)) = ended(&pem::normal(&text)) {
            let detail = format!("`{name}` in {} ended on {}", file.display(), day(end));
            let advice = "add the authority's new certificate".to_owned();
            subject.add("ca_file", Verdict::Warning, detail, Some(advice));
        }
    }
}

/// An authority that has ended, with its end.
fn ended(text: &str) -> Option<(String, SystemTime)> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes()).flatten().collect();
    let described = certificates.iter().filter_map(|certificate| {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        Some((parsed.subject().to_string(), not_after(certificate)?))
    });
    let described: Vec<_> = described.collect();
    let now = SystemTime::now();
    let has_successor =
        |name: &str| described.iter().any(|(other, end)| other == name && *end > now);
    let mut old = described.iter().filter(|(name, end)| *end < now && !has_successor(name));
    old.next().cloned()
}
