//! Where applications connect, and which routes they find there.

use crate::config::section::{Reader, Section};
use crate::config::{ListenAddress, ListenerId, Place, Route, value};

/// The addresses, each with its place; `None` where one is wrong.
pub(super) fn read<'n>(
    reader: &mut Reader<'_>,
    root: &Section<'n>,
    allow_remote: bool,
) -> Option<Vec<(ListenAddress, &'n Place)>> {
    let texts = root.list(reader, "listen");
    if texts.is_empty() {
        let message = "the list is empty; give an address such as 127.0.0.1:8080";
        reader.faults.push(root.place_of("listen"), "listen", message);
    }
    let addresses = texts.into_iter().map(|text| {
        value::listen(&text.value, allow_remote)
            .map(|address| (address, text.place))
            .map_err(|message| reader.faults.push(text.place, &text.path, message))
            .ok()
    });
    let addresses: Vec<_> = addresses.collect();
    addresses.into_iter().collect()
}

/// Those of the addresses that an upstream or a route names; `None` where it names none.
pub(super) fn chosen(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    listen: &[ListenAddress],
) -> Option<Vec<ListenerId>> {
    section.node("listen")?;
    let texts = section.list(reader, "listen");
    if texts.is_empty() {
        let message = "the list is empty; name some of the addresses in `listen`, or leave it out";
        reader.faults.push(section.place_of("listen"), &section.path("listen"), message);
    }
    let mut chosen = Vec::new();
    for text in texts {
        // Whether other machines may reach it is judged where it is listened on.
        let wanted = value::listen(&text.value, true);
        let wanted = wanted.and_then(|wanted| {
            let found = listen.iter().position(|address| *address == wanted);
            let known = || listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            found.ok_or_else(|| format!("{wanted} is not in `listen`, which has {}", known()))
        });
        match wanted {
            Ok(index) => chosen.push(ListenerId(index)),
            // With no address at all, or a wrong one, the fault is told already.
            Err(_) if listen.is_empty() => {}
            Err(message) => reader.faults.push(text.place, &text.path, message),
        }
    }
    chosen.sort_unstable();
    chosen.dedup();
    Some(chosen)
}

/// All of the listeners.
pub(super) fn all(listen: &[ListenAddress]) -> Vec<ListenerId> {
    (0..listen.len()).map(ListenerId).collect()
}

/// Whether there is a listener that both have.
pub(super) fn overlap(one: &[ListenerId], other: &[ListenerId]) -> bool {
    one.iter().any(|listener| other.contains(listener))
}

/// Notes each address where nothing is served.
pub(super) fn check_use(
    reader: &mut Reader<'_>,
    listen: &[(ListenAddress, &Place)],
    routes: &[Route],
) {
    if routes.is_empty() {
        // The fault is told already.
        return;
    }
    for (index, (address, place)) in listen.iter().enumerate() {
        if !routes.iter().any(|route| route.listen.contains(&ListenerId(index))) {
            let message = format!("no route is served on {address}; remove it, or give it a route");
            reader.faults.push(place, "listen", message);
        }
    }
}
