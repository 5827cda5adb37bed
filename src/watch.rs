//! Tells when files may have changed: by the system's events, and by the clock where there are none.
//!
//! Folders are watched, never files: Kubernetes and careful editors put a new file in the place of the
//! old one, which a watch on the old one would not see.

use crate::files::folder_of;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::warn;

/// Without an event, files are looked at this often: network file systems have none, and a folder
/// that was replaced is not watched any more.
pub(crate) const POLL: Duration = Duration::from_secs(30);
/// A change has several events. After the last of them it must be quiet for this long, but not
/// forever.
const QUIET: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(1);

/// Watches some files and folders.
pub struct Watch {
    changed: Arc<Notify>,
    /// Ends the watching when dropped. `None`: only the clock is left.
    _watcher: Option<RecommendedWatcher>,
}

impl Watch {
    /// Watches these paths. Where the system can't, the clock is left, and the log says so.
    ///
    /// It begins with a change: what became of them between their reading and this, nobody saw.
    pub fn new<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        let changed = Arc::new(Notify::new());
        let folders = folders(paths);
        if folders.is_empty() {
            return Self { changed, _watcher: None };
        }
        let told = changed.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error may hide a change; being read is none.
            if !matches!(event, Ok(Event { kind: EventKind::Access(_), .. })) {
                told.notify_one();
            }
        });
        let watching = watcher.and_then(|mut watcher| {
            folders.iter().try_for_each(|(folder, mode)| watcher.watch(folder, *mode))?;
            Ok(watcher)
        });
        let watching = watching.inspect_err(|error| {
            let seconds = POLL.as_secs();
            warn!("Cannot watch for changes ({error}); looking every {seconds} s instead.");
        });
        changed.notify_one();
        Self { changed, _watcher: watching.ok() }
    }

    /// Resolves when something may have changed and has settled, or when it is time to look anyway.
    pub async fn changed(&self) {
        if timeout(POLL, self.changed.notified()).await.is_err() {
            return;
        }
        let limit = Instant::now() + PATIENCE;
        let settled = async { while timeout(QUIET, self.changed.notified()).await.is_ok() {} };
        // Settled or not, it is read now, and read again at the next event.
        let _ = timeout_at(limit, settled).await;
    }

    /// What makes [`Watch::changed`] resolve from elsewhere.
    pub fn trigger(&self) -> Arc<Notify> {
        self.changed.clone()
    }
}

/// The folders to watch: that of a file, or the folder itself with what is in it.
fn folders<'a>(paths: impl IntoIterator<Item = &'a Path>) -> BTreeMap<PathBuf, RecursiveMode> {
    let mut folders = BTreeMap::new();
    for path in paths {
        let folder = folder_of(path);
        if folder == path {
            folders.insert(folder.to_owned(), RecursiveMode::Recursive);
        } else {
            folders.entry(folder.to_owned()).or_insert(RecursiveMode::NonRecursive);
        }
    }
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_changed_before_the_watch_began_is_looked_at_without_waiting_for_the_clock() {
        let folder = tempfile::tempdir().unwrap();
        let began = Instant::now();
        let watch = Watch::new([folder.path().join("secret").as_path()]);
        watch.changed().await;
        assert!(began.elapsed() < POLL, "{:?}", began.elapsed());
    }
}
