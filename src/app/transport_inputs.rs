//! What decides how servers are reached, beside the configuration itself.

use crate::config::Config;
use crate::files::read_small;
use crate::secret::Secret;
use crate::trust::{SystemAnchors, TrustError};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The content of each file: trust anchors, certificates, credentials for forward proxies. Files
/// that can't be read are missing.
pub(super) type Files = BTreeMap<PathBuf, Secret>;

/// Files and system trust anchors as they were read for a configuration.
#[derive(Clone, PartialEq)]
pub(super) struct TransportInputs {
    pub(super) files: Files,
    pub(super) anchors: SystemAnchors,
}

impl TransportInputs {
    /// Reads everything that `config` names, and the system's anchors: anew if there are any from
    /// `before`.
    pub(super) fn read(
        config: &Config,
        before: Option<&SystemAnchors>,
    ) -> Result<Self, TrustError> {
        let anchors = before.map_or_else(|| Ok(SystemAnchors::load()), SystemAnchors::reload)?;
        Ok(Self { files: files(config), anchors })
    }

    /// Whether the anchors and these files are the same in `other`.
    pub(super) fn match_for<'a>(
        &self,
        other: &Self,
        mut files: impl Iterator<Item = &'a Path>,
    ) -> bool {
        self.anchors == other.anchors
            && files.all(|path| self.files.get(path) == other.files.get(path))
    }
}

fn files(config: &Config) -> Files {
    let clients = config.clients.iter().flat_map(|client| client.transport.files());
    let upstreams = config.upstreams.iter().flat_map(|upstream| upstream.files());
    let read = |path: &Path| Some((path.to_owned(), Secret::new(read_small(path).ok()?)));
    clients.chain(upstreams).filter_map(read).collect()
}
