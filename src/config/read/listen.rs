//! The addresses to which callers connect, and the routes that each of them serves.

use super::transport;
use crate::config::fault::{Fault, Place};
use crate::config::file;
use crate::config::listener::{AdminListener, TlsSettings};
use crate::config::route::Route;
use crate::config::section::{Item, Reader, Section, unknown};
use crate::config::value::{self, ListenAddress, ListenerId};
use crate::secret_file::CertificateFiles;
use std::net::SocketAddr;

/// A listener as configured.
pub(super) struct Listener<'n> {
    pub(super) address: ListenAddress,
    pub(super) tls: Option<TlsSettings>,
    pub(super) place: &'n Place,
}

/// The listeners. `None` if one of them is wrong.
pub(super) fn read<'n>(root: &Section<'n>, allow_remote: bool) -> Option<Vec<Listener<'n>>> {
    let items = root.items("listen", file::LISTENER);
    if items.is_empty() {
        root.fault("listen", "the list is empty; give an address, for example 127.0.0.1:8080");
    }
    let parse = |text: &str| value::listen(text, allow_remote);
    let listeners = items.iter().map(|item| match item {
        Item::Value(text) => {
            Some(Listener { address: text.parse(parse)?, tls: None, place: text.place })
        }
        Item::Section(section) => {
            let address = section.parse("address", parse);
            section.refuse_empty(&["tls"]);
            let tls = match section.optional("tls", file::LISTENER_TLS) {
                Some(tls) => Some(self::tls(&tls)?),
                None => None,
            };
            let address = address?;
            if tls.is_some() && matches!(address, ListenAddress::Unix(_)) {
                section.fault("tls", "is for TCP; remove it, or give an IP address and port");
            }
            Some(Listener { address, tls, place: section.place() })
        }
    });
    // All are read, so that each one that is wrong leaves its fault.
    let listeners: Vec<_> = listeners.collect();
    listeners.into_iter().collect()
}

fn tls(section: &Section<'_>) -> Option<TlsSettings> {
    let server = server_tls(section);
    section.refuse_empty(&["client_ca_file"]);
    let client_ca = section.parse("client_ca_file", value::path);
    let is_certificate_optional = section.parse("client_certificate", |text| match text {
        "required" => Ok(false),
        "optional" => Ok(true),
        other => Err(unknown("word", other, ["required", "optional"].into_iter())),
    });
    if section.has("client_certificate") && client_ca.is_none() {
        section.fault("client_certificate", "needs client_ca_file; set it, or remove this");
    }
    let is_certificate_optional = is_certificate_optional.unwrap_or_default();
    Some(TlsSettings { client_ca, is_certificate_optional, ..server? })
}

/// TLS of a listener whose callers need no certificate.
fn server_tls(section: &Section<'_>) -> Option<TlsSettings> {
    let certificate = section.parse("certificate_file", value::path);
    let key = section.parse("private_key_file", value::path);
    let min_tls = section.parse("min_tls", transport::tls_version);
    Some(TlsSettings {
        certificate: CertificateFiles { certificate: certificate?, key: key? },
        client_ca: None,
        is_certificate_optional: false,
        min_tls: min_tls?,
    })
}

/// A warning for each listener that other machines reach without TLS.
pub(super) fn cleartext_warnings(listeners: &[Listener<'_>]) -> Vec<Fault> {
    let is_open = |listener: &&Listener<'_>| {
        listener.tls.is_none()
            && matches!(listener.address, ListenAddress::Tcp(address) if !address.ip().is_loopback())
    };
    let warning = |listener: &Listener<'_>| Fault {
        place: listener.place.clone(),
        path: "listen".to_owned(),
        message: format!(
            "other machines reach {} in cleartext, with their local credentials and the tenant's data; add `tls`, or let only a proxy with TLS reach it",
            listener.address
        ),
    };
    listeners.iter().filter(is_open).map(warning).collect()
}

/// The listener for probes.
pub(super) fn admin(root: &Section<'_>, listen: &[ListenAddress]) -> Option<AdminListener> {
    let section = root.child("admin", file::ADMIN);
    let address = section.parse("listen", |text| admin_address(text, listen));
    section.refuse_empty(&["tls"]);
    let tls = match section.optional("tls", file::ADMIN_TLS) {
        Some(tls) => Some(server_tls(&tls)?),
        None => None,
    };
    Some(AdminListener { address: address?, tls })
}

/// The address for probes, which callers' addresses must leave free.
fn admin_address(text: &str, listen: &[ListenAddress]) -> Result<SocketAddr, String> {
    let address = value::socket_address(text)?;
    // Port 0 means any free port.
    if address.port() != 0 && listen.contains(&ListenAddress::Tcp(address)) {
        return Err(format!(
            "{address} is in `listen` already; give probes an address of their own"
        ));
    }
    Ok(address)
}

/// The listeners that an upstream or a route names; `None` if it names none.
pub(super) fn chosen(section: &Section<'_>, listen: &[ListenAddress]) -> Option<Vec<ListenerId>> {
    if !section.has("listen") {
        return None;
    }
    let texts = section.list("listen");
    if texts.is_empty() {
        let message = "the list is empty; name some of the addresses in `listen`, or leave it out";
        section.fault("listen", message);
    }
    let mut chosen = Vec::new();
    for text in texts {
        match find(&text.value, listen) {
            Ok(listener) => chosen.push(listener),
            // An empty list has a fault already.
            Err(_) if listen.is_empty() => {}
            Err(message) => text.fault(message),
        }
    }
    chosen.sort_unstable();
    chosen.dedup();
    Some(chosen)
}

fn find(text: &str, listen: &[ListenAddress]) -> Result<ListenerId, String> {
    // Whether other machines may reach an address is checked at the list itself.
    let wanted = value::listen(text, true)?;
    let found = listen.iter().position(|address| *address == wanted);
    found.map(ListenerId).ok_or_else(|| {
        let known: Vec<_> = listen.iter().map(ToString::to_string).collect();
        format!("{wanted} is not in `listen`, which has {}", known.join(", "))
    })
}

/// All listeners.
pub(super) fn all(listen: &[ListenAddress]) -> Vec<ListenerId> {
    (0..listen.len()).map(ListenerId).collect()
}

/// Whether both have a listener in common.
pub(super) fn overlap(one: &[ListenerId], other: &[ListenerId]) -> bool {
    one.iter().any(|listener| other.contains(listener))
}

/// Records a fault for each address that serves no route.
pub(super) fn check_use<U>(reader: &Reader<'_>, listen: &[Listener<'_>], routes: &[Route<U>]) {
    if routes.is_empty() {
        // There is a fault already.
        return;
    }
    for (index, listener) in listen.iter().enumerate() {
        if !routes.iter().any(|route| route.listen.contains(&ListenerId(index))) {
            let address = &listener.address;
            let message = format!("no route is served on {address}; remove it, or give it a route");
            reader.fault(listener.place, "listen", message);
        }
    }
}
