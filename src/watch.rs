//! Reports when files may have changed: by events of the system, and by polling without them.
//!
//! Folders are watched, never files: Kubernetes and careful editors replace a file by a new one,
//! which a watch on the old file would miss. The folders of all links on the path to a file are
//! watched too. Links are followed again after each event.
//!
//! It needs no thread of its own, because the system may refuse a new thread when a configuration
//! is reloaded.

use crate::blocking;
use crate::credential::folder::{MAX_DEPTH, MAX_ENTRIES};
use crate::files::{folder_of, links};
use futures_util::StreamExt;
use inotify::{EventStream, Inotify, WatchDescriptor, WatchMask, Watches};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::read_dir;
use std::future::pending;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex as SharedMutex, PoisonError};
use std::time::Duration;
use tokio::select;
use tokio::sync::{Mutex, Notify};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::warn;

/// Interval of polling. Network file systems have no events, and a folder that was replaced is no
/// longer watched.
pub(crate) const POLL: Duration = Duration::from_secs(30);
/// Time without an event after which a change has settled. A change usually has several events.
const QUIET: Duration = Duration::from_millis(100);
/// Longest time that a change may take to settle.
const SETTLE_LIMIT: Duration = Duration::from_secs(1);
/// Events that may change the content of a folder. Reading is not among them.
const CHANGES: WatchMask = WatchMask::ATTRIB
    .union(WatchMask::CLOSE_WRITE)
    .union(WatchMask::CREATE)
    .union(WatchMask::DELETE)
    .union(WatchMask::DELETE_SELF)
    .union(WatchMask::MODIFY)
    .union(WatchMask::MOVE)
    .union(WatchMask::MOVE_SELF)
    .union(WatchMask::ONLYDIR);
/// Largest number of folders of one [`Watch`]. Beyond it, links in a folder of credentials are not
/// followed.
const MAX_FOLDERS: usize = 2 * MAX_ENTRIES;
/// Size of the buffer for events, in bytes.
const BUFFER: usize = 4096;

/// A watch over some files and folders.
pub struct Watch {
    trigger: Arc<Notify>,
    /// Events of the system; `None` leaves polling.
    events: Option<Events>,
}

impl Watch {
    /// Watches these paths. If the system can't, they are polled, and the log says so.
    ///
    /// A new watch reports a change at once: the paths may have changed since they were read.
    pub fn new<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        let trigger = Arc::new(Notify::new());
        let paths: Arc<[PathBuf]> = paths.into_iter().map(Path::to_owned).collect();
        if paths.is_empty() {
            return Self { trigger, events: None };
        }
        let events = Events::of(paths, trigger.clone()).inspect_err(warn_unwatched);
        trigger.notify_one();
        Self { trigger, events: events.ok() }
    }

    /// Resolves when something may have changed and has settled, or when the next poll is due.
    pub async fn changed(&self) {
        if timeout(POLL, self.event()).await.is_ok() {
            let limit = Instant::now() + SETTLE_LIMIT;
            let settled = async { while timeout(QUIET, self.event()).await.is_ok() {} };
            // If it has not settled, the next event leads to another read.
            let _ = timeout_at(limit, settled).await;
        }
        if let Some(events) = &self.events {
            // Folders may be new, or may have been replaced.
            events.follow(|_| {});
        }
    }

    async fn event(&self) {
        match &self.events {
            None => self.trigger.notified().await,
            Some(events) => select! {
                () = self.trigger.notified() => {}
                () = events.next() => {}
            },
        }
    }

    /// Returns what to notify to make [`Watch::changed`] resolve.
    pub fn trigger(&self) -> Arc<Notify> {
        self.trigger.clone()
    }
}

fn warn_unwatched(error: &io::Error) {
    let seconds = POLL.as_secs();
    warn!("Cannot watch for changes ({error}); polling every {seconds} s instead.");
}

/// Events of the system (inotify(7)).
struct Events {
    stream: Mutex<EventStream<[u8; BUFFER]>>,
    watches: Watches,
    paths: Arc<[PathBuf]>,
    /// The folders that are watched, by the number of their watch.
    known: Arc<SharedMutex<BTreeMap<i32, WatchDescriptor>>>,
    /// Notified when a folder is new, since earlier changes in it had no event.
    trigger: Arc<Notify>,
}

impl Events {
    fn of(paths: Arc<[PathBuf]>, trigger: Arc<Notify>) -> io::Result<Self> {
        let stream = Inotify::init()?.into_event_stream([0; BUFFER])?;
        let (watches, known) = (stream.watches(), Arc::default());
        let events = Self { stream: Mutex::new(stream), watches, paths, known, trigger };
        events.follow(|followed| {
            // Later errors concern folders that come and go.
            if let Err(error) = followed {
                warn_unwatched(&error);
            }
        });
        Ok(events)
    }

    /// Watches the folders that exist now. Runs beside the runtime, since their file system may
    /// hang.
    fn follow(&self, then: impl FnOnce(io::Result<()>) + Send + 'static) {
        let (mut watches, paths) = (self.watches.clone(), self.paths.clone());
        let (known, trigger) = (self.known.clone(), self.trigger.clone());
        // Without a thread for it, polling goes on, and the next poll tries again.
        let _ = blocking::submit(move || {
            let (mut outcome, mut current) = (Ok(()), BTreeMap::new());
            for folder in folders(&paths) {
                match watches.add(folder, CHANGES) {
                    Ok(watch) => drop(current.insert(watch.get_watch_descriptor_id(), watch)),
                    Err(error) => outcome = outcome.and(Err(error)),
                }
            }
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            let before = std::mem::replace(&mut *known, current);
            if known.keys().any(|id| !before.contains_key(id)) {
                trigger.notify_one();
            }
            for (_, unused) in before.into_iter().filter(|(id, _)| !known.contains_key(id)) {
                // Fails if the folder is gone, since the system has removed the watch.
                let _ = watches.remove(unused);
            }
            drop(known);
            then(outcome);
        });
    }

    /// Resolves after an event. Its kind does not matter, since everything is read again.
    async fn next(&self) {
        match self.stream.lock().await.next().await {
            Some(Ok(_)) => {}
            // There will be no more events: the runtime ends, or the system has closed the stream.
            Some(Err(_)) | None => pending().await,
        }
    }
}

/// The folders to watch: the folder of a file, or a folder with those in it, and the folders of the
/// links on the path.
fn folders(paths: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut folders: BTreeMap<&Path, usize> = BTreeMap::new();
    for path in paths {
        let folder = folder_of(path);
        let depth = folders.entry(folder).or_default();
        if folder == path {
            *depth = MAX_DEPTH;
        }
    }
    let mut found = BTreeSet::new();
    for path in paths {
        follow_links(path, &mut found);
    }
    for (folder, depth) in folders {
        descend(folder, depth, &mut found);
    }
    found
}

/// Adds a folder and those in it, as deep as credentials are read.
fn descend(folder: &Path, depth: usize, found: &mut BTreeSet<PathBuf>) {
    found.insert(folder.to_owned());
    if depth > 0
        && let Ok(entries) = read_dir(folder)
    {
        for path in entries.flatten().take(MAX_ENTRIES).map(|entry| entry.path()) {
            if found.len() >= MAX_FOLDERS {
                return;
            }
            if path.is_symlink() {
                follow_links(&path, found);
            }
            if path.is_dir() {
                descend(&path, depth - 1, found);
            }
        }
    }
}

/// Adds the folders of the links on a path, and the folder of their target.
fn follow_links(path: &Path, found: &mut BTreeSet<PathBuf>) {
    let (links, end) = links(path);
    if !links.is_empty() {
        found.extend(links.into_iter().map(|link| link.folder));
        found.insert(folder_of(&end).to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[tokio::test(start_paused = true)]
    async fn a_change_before_the_watch_started_is_reported_before_the_first_poll() {
        let folder = tempfile::tempdir().unwrap();
        let started_at = Instant::now();
        let watch = Watch::new([folder.path().join("secret").as_path()]);
        watch.changed().await;
        assert!(started_at.elapsed() < POLL, "{:?}", started_at.elapsed());
    }

    /// A watch that has started, with no change left to report.
    async fn started_watch(path: &Path) -> Watch {
        let watch = Watch::new([path]);
        let known = watch.events.as_ref().unwrap().known.clone();
        let started = async {
            while known.lock().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        timeout(POLL, started).await.expect("the watch starts");
        watch.changed().await;
        watch
    }

    async fn is_reported(watch: &Watch) -> bool {
        timeout(POLL / 2, watch.changed()).await.is_ok()
    }

    #[tokio::test]
    async fn changes_of_a_file_are_reported_and_reads_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "old").unwrap();
        let watch = started_watch(&path).await;
        fs::read(&path).unwrap();
        let seen = timeout(2 * QUIET, watch.changed()).await;
        assert!(seen.is_err(), "a read is reported as a change, which leads to another read");
        fs::write(&path, "new").unwrap();
        assert!(is_reported(&watch).await);
        fs::write(folder.path().join("other"), "newer").unwrap();
        fs::rename(folder.path().join("other"), &path).unwrap();
        assert!(is_reported(&watch).await);
        fs::remove_file(&path).unwrap();
        assert!(is_reported(&watch).await);
    }

    #[tokio::test]
    async fn changes_in_a_folder_that_was_created_later_are_reported() {
        let root = tempfile::tempdir().unwrap();
        let watch = started_watch(root.path()).await;
        let inner = root.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        assert!(is_reported(&watch).await);
        // The new folder is watched a moment later, so the write is repeated until it is reported.
        let mut text = String::new();
        let written = async {
            loop {
                text.push('x');
                fs::write(inner.join("secret"), &text).unwrap();
                if timeout(10 * QUIET, watch.changed()).await.is_ok() {
                    return;
                }
            }
        };
        timeout(POLL / 2, written).await.expect("a write is reported");
    }

    /// Waits until no more changes are reported.
    async fn settle(watch: &Watch) {
        while timeout(3 * QUIET, watch.changed()).await.is_ok() {}
    }

    /// Replaces a file by a new one.
    fn replace(path: &Path) {
        let new = path.with_extension("new");
        fs::write(&new, "new").unwrap();
        fs::rename(new, path).unwrap();
    }

    #[tokio::test]
    async fn changes_of_link_targets_and_of_links_are_reported() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for folder in ["app", "keys", "v1", "v2"] {
            fs::create_dir(at(folder)).unwrap();
        }
        for file in ["v1/key", "v2/key"] {
            fs::write(at(file), "old").unwrap();
        }
        // A link to a link to a file in a folder that is a link itself.
        symlink("../keys/key", at("app/key")).unwrap();
        symlink(at("current/key"), at("keys/key")).unwrap();
        symlink("v1", at("current")).unwrap();
        let watch = started_watch(&at("app/key")).await;
        replace(&at("v1/key"));
        assert!(is_reported(&watch).await, "the file");
        settle(&watch).await;
        symlink("v2", at("switched")).unwrap();
        fs::rename(at("switched"), at("current")).unwrap();
        assert!(is_reported(&watch).await, "the link above it");
        settle(&watch).await;
        fs::write(at("v2/key"), "in place").unwrap();
        assert!(is_reported(&watch).await, "the file that the switched link leads to");
        settle(&watch).await;
        symlink("../v1/key", at("keys/switched")).unwrap();
        fs::rename(at("keys/switched"), at("keys/key")).unwrap();
        assert!(is_reported(&watch).await, "the link in the middle");
    }

    #[tokio::test]
    async fn changes_of_link_targets_in_a_folder_of_credentials_are_reported() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for folder in ["real", "elsewhere"] {
            fs::create_dir(at(folder)).unwrap();
        }
        fs::write(at("elsewhere/secret"), "old").unwrap();
        symlink(at("elsewhere/secret"), at("real/secret")).unwrap();
        symlink("real", at("binding")).unwrap();
        let watch = started_watch(&at("binding")).await;
        replace(&at("elsewhere/secret"));
        assert!(is_reported(&watch).await);
    }

    #[tokio::test]
    async fn a_folder_that_no_link_leads_to_any_more_is_not_watched_any_more() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir(at("app")).unwrap();
        let switch_to = |version: &str| {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("key"), version).unwrap();
            symlink(at(version).join("key"), at("app/switched")).unwrap();
            fs::rename(at("app/switched"), at("app/key")).unwrap();
        };
        switch_to("v0");
        let watch = started_watch(&at("app/key")).await;
        let known = watch.events.as_ref().unwrap().known.clone();
        let ids = || known.lock().unwrap().keys().copied().collect::<Vec<_>>();
        for version in 1..4 {
            let before = ids();
            switch_to(&format!("v{version}"));
            let followed = async {
                while ids() == before {
                    watch.changed().await;
                }
            };
            timeout(POLL / 2, followed).await.expect("the link is followed");
            assert_eq!(ids().len(), 2, "the folder of the link and the folder of the file");
        }
    }

    #[test]
    fn circular_and_very_long_chains_of_links_are_not_followed_without_end() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        symlink("b", at("a")).unwrap();
        symlink("a", at("b")).unwrap();
        symlink("deep/self", at("self")).unwrap();
        symlink(".", at("deep")).unwrap();
        for link in 0..1000 {
            fs::create_dir(at(&format!("d{link}"))).unwrap();
            symlink(at(&format!("d{}/key", link + 1)), at(&format!("d{link}/key"))).unwrap();
        }
        let paths = ["a", "self", "d0/key"].map(at);
        let found = folders(&paths);
        assert!(found.contains(root.path()) && found.len() < 50, "{found:?}");
        let found = folders(&[root.path().to_owned()]);
        assert!(found.len() < MAX_FOLDERS + 50, "{}", found.len());
    }
}
