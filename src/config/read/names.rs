//! The names of clients and upstreams, and references to them.

use crate::config::section::{Section, unknown};

/// The names of all clients and upstreams, in the order of the text.
pub(super) struct Names<'n> {
    pub(super) clients: Vec<&'n str>,
    pub(super) upstreams: Vec<&'n str>,
}

impl<'n> Names<'n> {
    /// Collects the names. A document without clients or without upstreams has a fault.
    pub(super) fn new(
        root: &Section<'n>,
        clients: &[(&'n str, Section<'n>)],
        upstreams: &[(&'n str, Section<'n>)],
    ) -> Self {
        let of = |key, sections: &[(&'n str, Section<'n>)], variables| {
            if sections.is_empty() {
                root.fault(
                    key,
                    format!(
                        "none is configured; add one to a file given with --config, or set {variables}"
                    ),
                );
            }
            sections.iter().map(|(name, _)| *name).collect()
        };
        let identity = "BEARERD_TOKEN_URL, BEARERD_CLIENT_ID and BEARERD_CLIENT_SECRET_FILE";
        Self {
            clients: of("clients", clients, identity),
            upstreams: of("upstreams", upstreams, "BEARERD_UPSTREAM_URL"),
        }
    }

    /// The position of the client that `section` refers to.
    pub(super) fn client(&self, section: &Section<'_>) -> Option<usize> {
        reference(section, "client", &self.clients)
    }

    /// The position of the upstream that `section` refers to.
    pub(super) fn upstream(&self, section: &Section<'_>) -> Option<usize> {
        reference(section, "upstream", &self.upstreams)
    }

    /// Records that `key` must name a client. If there is no client, there is a fault already.
    pub(super) fn require_client(&self, section: &Section<'_>, key: &str) {
        if self.clients.len() > 1 {
            let message =
                "several clients are configured; set `client` to the one whose token is sent";
            section.fault(key, message);
        }
    }
}

/// The position of the name at `key`. If there is only one name, the key may be missing.
fn reference(section: &Section<'_>, key: &str, names: &[&str]) -> Option<usize> {
    let Some(text) = section.text(key) else {
        return (names.len() == 1).then_some(0);
    };
    let found = names.iter().position(|name| *name == text.value);
    if found.is_none() && !names.is_empty() {
        text.fault(unknown(key, &text.value, names.iter().copied()));
    }
    found
}
