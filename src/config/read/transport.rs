//! TLS and forward proxy on the way to issuers and upstreams.

use crate::config::fault::{Fault, Place};
use crate::config::section::{Reader, Section};
use crate::config::transport::Transport;
use crate::config::value::{self, TlsVersion};
use crate::forward_proxy::{ForwardProxy, ProxyChoice};
use std::path::PathBuf;
use url::Url;

/// The forward proxy that the environment names.
pub(super) fn of_environment(reader: &Reader<'_>) -> ProxyChoice {
    ProxyChoice::of(reader.environment).unwrap_or_else(|(name, message)| {
        reader.fault(&Place::Environment(name.to_owned()), "", message);
        ProxyChoice::Direct
    })
}

/// Reads the keys of a section that say how its server is reached. Also returns the faults that
/// exist if the server's URL is not https.
pub(super) fn read(
    section: &Section<'_>,
    environment: &ProxyChoice,
) -> (Option<Transport>, Vec<Fault>) {
    let ca_file = section.parse("ca_file", value::non_empty).map(PathBuf::from);
    let min_tls = section.parse("min_tls", tls_version);
    let mut if_cleartext = Vec::new();
    if section.has("min_tls") {
        if_cleartext.push(needs_https(section, "min_tls"));
    }
    let proxy = proxy(section, environment);
    if matches!(&proxy, Some(ProxyChoice::Through(_))) {
        let message = "would see the cleartext; give an https URL, or remove the proxy";
        if_cleartext.push(section.possible_fault("proxy", message));
    }
    let transport = min_tls.zip(proxy);
    (
        transport.map(|(min_tls, proxy)| Transport {
            ca_file,
            min_tls,
            proxy,
            connect_to: Vec::new(),
        }),
        if_cleartext,
    )
}

/// The fault of a key that is about TLS, if the URL is not https.
pub(super) fn needs_https(section: &Section<'_>, key: &str) -> Fault {
    section.possible_fault(key, "is for https; give an https URL, or remove it")
}

/// Records the faults that exist if this URL is not https.
pub(super) fn check_scheme(reader: &Reader<'_>, url: &Url, if_cleartext: Vec<Fault>) {
    if url.scheme() == "http" {
        for fault in if_cleartext {
            reader.fault(&fault.place, &fault.path, fault.message);
        }
    }
}

fn proxy(section: &Section<'_>, environment: &ProxyChoice) -> Option<ProxyChoice> {
    const CREDENTIALS: &str = "proxy_credentials_file";
    let choice = if section.has("proxy") {
        section.parse("proxy", |text| match text {
            "off" | "false" => Ok(ProxyChoice::Direct),
            text => ForwardProxy::parse(text).map(ProxyChoice::Through),
        })
    } else {
        Some(environment.clone())
    };
    let Some(file) = section.parse(CREDENTIALS, value::path) else {
        return choice;
    };
    choice?.with_credentials_file(file).map_err(|message| section.fault(CREDENTIALS, message)).ok()
}

/// Parses a version of TLS.
pub(super) fn tls_version(text: &str) -> Result<TlsVersion, String> {
    match text {
        "1.2" => Ok(TlsVersion::V1_2),
        "1.3" => Ok(TlsVersion::V1_3),
        other => Err(format!("`{other}` is not 1.2 or 1.3")),
    }
}
