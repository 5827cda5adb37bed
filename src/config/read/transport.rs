//! How servers are reached: issuers and upstreams alike.

use crate::config::fault::Place;
use crate::config::section::{Reader, Section};
use crate::config::{TlsVersion, Transport, value};
use crate::forward_proxy::{ForwardProxy, ProxyChoice};
use std::path::PathBuf;
use url::Url;

/// The forward proxy of the environment.
pub(super) fn of_environment(reader: &mut Reader<'_>) -> ProxyChoice {
    ProxyChoice::of(reader.environment).unwrap_or_else(|(name, message)| {
        reader.faults.push(&Place::Environment(name.to_owned()), "", message);
        ProxyChoice::Direct
    })
}

pub(super) fn read(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    environment: &ProxyChoice,
    url: Option<&Url>,
) -> Option<Transport> {
    let ca_file = section.parse(reader, "ca_file", value::non_empty).map(PathBuf::from);
    let min_tls = section.parse(reader, "min_tls", |text| match text {
        "1.2" => Ok(TlsVersion::V1_2),
        "1.3" => Ok(TlsVersion::V1_3),
        other => Err(format!("`{other}` is neither 1.2 nor 1.3")),
    });
    check_tls(reader, section, "min_tls", url);
    let proxy = proxy(reader, section, environment);
    if is_cleartext(url) && matches!(&proxy, Some(ProxyChoice::Through(_))) {
        let message =
            "would see what goes there in the clear; give an https URL, or take the proxy out";
        reader.faults.push(section.place_of("proxy"), &section.path("proxy"), message);
    }
    Some(Transport { ca_file, min_tls: min_tls?, proxy: proxy? })
}

fn is_cleartext(url: Option<&Url>) -> bool {
    url.is_some_and(|url| url.scheme() == "http")
}

/// Notes a key that asks for something of TLS where there is none.
pub(super) fn check_tls(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    key: &str,
    url: Option<&Url>,
) {
    if section.node(key).is_some() && is_cleartext(url) {
        let message = "is for https; give an https URL, or take it out";
        reader.faults.push(section.place_of(key), &section.path(key), message);
    }
}

fn proxy(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    environment: &ProxyChoice,
) -> Option<ProxyChoice> {
    const CREDENTIALS: &str = "proxy_credentials_file";
    let choice = match section.node("proxy") {
        None => Some(environment.clone()),
        Some(_) => section.parse(reader, "proxy", |text| match text {
            "off" => Ok(ProxyChoice::Direct),
            text => ForwardProxy::parse(text).map(ProxyChoice::Through),
        }),
    };
    let Some(file) = section.parse(reader, CREDENTIALS, value::path) else {
        return choice;
    };
    let choice = choice?.with_credentials_file(file).map_err(|message| {
        reader.faults.push(section.place_of(CREDENTIALS), &section.path(CREDENTIALS), message);
    });
    choice.ok()
}
