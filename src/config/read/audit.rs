//! The audit log: where it is written, and what happens if it can't be.

use super::caller::{self, KnownRoutes};
use crate::config::audit::{Audit, AuditTarget, OnAuditFailure};
use crate::config::file;
use crate::config::section::{Section, unknown};
use crate::config::value;

/// Reads the section; `None` if there is none, or if it is wrong.
pub(super) fn read(root: &Section<'_>, known: Option<&KnownRoutes<'_>>) -> Option<Audit> {
    if root.is_empty("audit") {
        root.fault("audit", "is empty; give it a folder, or remove the key");
    }
    let section = root.optional("audit", file::AUDIT)?;
    section.refuse_empty(&["folder", "routes"]);
    let folder = section.parse("folder", |text| match value::path(text)? {
        folder if folder.parent().is_none() => {
            Err("is the root, and bearerd could then write everywhere; give a folder".to_owned())
        }
        folder => Ok(folder),
    });
    let stderr = section.parse("stderr", value::switch);
    let target = match (folder, stderr?) {
        (Some(folder), false) => Some(AuditTarget::Folder(folder)),
        (None, true) if !section.has("folder") => Some(AuditTarget::Stderr),
        _ => {
            if section.has("folder") == (stderr == Some(true)) {
                let message = match section.has("folder") {
                    true => "has a folder and `stderr: on`; remove one of them",
                    false => "has no folder; set it, or `stderr: on`",
                };
                section.reader.fault(section.place(), section.own_path(), message);
            }
            None
        }
    };
    let routes = caller::routes(&section, known);
    let sync = section.parse("sync", value::switch);
    let max_size = section.parse("max_size", value::size);
    let on_failure = section.parse("on_failure", |text| match text {
        "refuse" => Ok(OnAuditFailure::Refuse),
        "warn" => Ok(OnAuditFailure::Warn),
        other => Err(unknown("word", other, ["refuse", "warn"].into_iter())),
    });
    Some(Audit {
        target: target?,
        routes,
        sync: sync?,
        max_size: max_size?,
        on_failure: on_failure?,
    })
}
