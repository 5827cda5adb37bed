//! What a reload finds: the files that it depends on, and changes that need a restart.

use super::error::ReloadError;
use crate::app::control::FILES_TIMEOUT;
use crate::app::setup::Setup;
use crate::app::transport_inputs::TransportInputs;
use crate::blocking;
use crate::config::Config;
use crate::files::read_small;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use tracing::warn;

/// Everything that a reload would start with: the text of the file, if there is one, and the inputs
/// of the transports; or why they can't be read.
#[derive(PartialEq)]
pub(super) struct Snapshot(Result<(Option<String>, TransportInputs), String>);

impl Snapshot {
    pub(super) async fn take(setup: &Arc<Setup>, file: Option<PathBuf>) -> Self {
        let setup = setup.clone();
        let read = move || {
            let text = file.as_deref().map(read_small).transpose();
            let text = text.map_err(|error| error.to_string())?;
            let inputs = TransportInputs::read(&setup.config, Some(&setup.inputs.anchors));
            Ok((text, inputs.map_err(|error| error.to_string())?))
        };
        Self(
            blocking::within(FILES_TIMEOUT, read)
                .await
                .unwrap_or_else(|error| Err(error.to_string())),
        )
    }
}

/// Refuses a change that takes effect at a start only.
pub(super) fn refuse_restart_only_changes(
    before: &Config,
    after: &Config,
) -> Result<(), ReloadError> {
    for (name, is_changed) in [
        ("listen", after.listen != before.listen || after.tls != before.tls),
        ("admin", after.admin != before.admin),
        ("workers", after.workers != before.workers),
        ("access.uids", after.access.uids != before.access.uids),
        ("callers.*.uids", uids(after) != uids(before)),
        ("audit", after.audit != before.audit),
        ("sandbox", after.sandbox != before.sandbox),
        ("log.format", after.log.format != before.log.format),
    ] {
        if is_changed {
            return Err(ReloadError::NeedsRestart(name));
        }
    }
    // The file may have been read while it was written.
    if before.asks_for_credentials() && !after.asks_for_credentials() {
        return Err(ReloadError::OpensDoor);
    }
    Ok(())
}

/// Warns of callers whose `routes` or `methods` were removed, which gives them all rights: the file
/// may have been read while it was written.
pub(super) fn warn_of_wider_rights(before: &Config, after: &Config) {
    for caller in &after.callers {
        let known = before.callers.iter().find(|known| known.name == caller.name);
        let Some(known) = known else { continue };
        for (key, is_removed) in [
            ("routes", known.routes.is_some() && caller.routes.is_none()),
            ("methods", known.methods.is_some() && caller.methods.is_none()),
        ] {
            if is_removed {
                warn!("Caller {} has no `{key}` any more, so it may use all of them.", caller.name);
            }
        }
    }
}

/// The user ids that may connect, in any order.
fn uids(config: &Config) -> BTreeSet<u32> {
    config.uids().into_iter().collect()
}
