//! The addresses to which callers connect, and the routes that each of them serves.

use crate::config::fault::Place;
use crate::config::model::{ListenerId, Route};
use crate::config::section::{Reader, Section};
use crate::config::value::{self, ListenAddress};
use std::net::SocketAddr;

/// The addresses, each with its place. `None` if one of them is wrong.
pub(super) fn read<'n>(
    root: &Section<'n>,
    allow_remote: bool,
) -> Option<Vec<(ListenAddress, &'n Place)>> {
    let texts = root.list("listen");
    if texts.is_empty() {
        root.fault("listen", "the list is empty; give an address, for example 127.0.0.1:8080");
    }
    let parse = |text: &str| value::listen(text, allow_remote);
    let addresses = texts.iter().map(|text| Some((text.parse(parse)?, text.place)));
    let addresses: Vec<_> = addresses.collect();
    addresses.into_iter().collect()
}

/// The address for probes, which callers' addresses must leave free.
pub(super) fn admin(text: &str, listen: &[ListenAddress]) -> Result<SocketAddr, String> {
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
pub(super) fn check_use<U>(
    reader: &Reader<'_>,
    listen: &[(ListenAddress, &Place)],
    routes: &[Route<U>],
) {
    if routes.is_empty() {
        // There is a fault already.
        return;
    }
    for (index, (address, place)) in listen.iter().enumerate() {
        if !routes.iter().any(|route| route.listen.contains(&ListenerId(index))) {
            let message = format!("no route is served on {address}; remove it, or give it a route");
            reader.fault(place, "listen", message);
        }
    }
}
