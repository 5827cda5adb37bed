//! Reports when files may have changed: by events of the system, and by polling without them.
//!
//! Folders are watched, never files: Kubernetes and careful editors replace a file by a new one,
//! which a watch on the old file would miss. The folders of all links on the path to a file are
//! watched too. Links are followed again after each event.
//!
//! It needs no thread, which the system may not have to give when a configuration is reloaded.

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
/// How long there must be no event after a change, which usually has several.
const QUIET: Duration = Duration::from_millis(100);
/// How long a change may take to settle.
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
const MOST_FOLDERS: usize = 2 * MAX_ENTRIES;
/// Size of the buffer for events, in bytes.
const BUFFER: usize = 4096;

/// A watch over some files and folders.
pub struct Watch {
    asked: Arc<Notify>,
    /// Events of the system; `None` leaves polling.
    events: Option<Events>,
}

impl Watch {
    /// Watches these paths. If the system can't, they are polled, and the log says so.
    ///
    /// A watch begins with a change: the paths may have changed since they were read.
    pub fn new<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        let asked = Arc::new(Notify::new());
        let paths: Arc<[PathBuf]> = paths.into_iter().map(Path::to_owned).collect();
        if paths.is_empty() {
            return Self { asked, events: None };
        }
        let events = Events::of(paths, asked.clone()).inspect_err(warn_of);
        asked.notify_one();
        Self { asked, events: events.ok() }
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
            None => self.asked.notified().await,
            Some(events) => select! {
                () = self.asked.notified() => {}
                () = events.next() => {}
            },
        }
    }

    /// Returns what to notify to make [`Watch::changed`] resolve.
    pub fn trigger(&self) -> Arc<Notify> {
        self.asked.clone()
    }
}

fn warn_of(error: &io::Error) {
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
    asked: Arc<Notify>,
}

impl Events {
    fn of(paths: Arc<[PathBuf]>, asked: Arc<Notify>) -> io::Result<Self> {
        let stream = Inotify::init()?.into_event_stream([0; BUFFER])?;
        let (watches, known) = (stream.watches(), Arc::default());
        let events = Self { stream: Mutex::new(stream), watches, paths, known, asked };
        events.follow(|followed| {
            // Later errors concern folders that come and go.
            if let Err(error) = followed {
                warn_of(&error);
            }
        });
        Ok(events)
    }

    /// Watches the folders that exist now. Runs beside the runtime, since their file system may
    /// hang.
    fn follow(&self, then: impl FnOnce(io::Result<()>) + Send + 'static) {
        let (mut watches, paths) = (self.watches.clone(), self.paths.clone());
        let (known, asked) = (self.known.clone(), self.asked.clone());
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
                asked.notify_one();
            }
            for (_, left) in before.into_iter().filter(|(id, _)| !known.contains_key(id)) {
                // Fails if the folder is gone, since the system has removed the watch.
                let _ = watches.remove(left);
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
            if found.len() >= MOST_FOLDERS {
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
    async fn what_changed_before_the_watch_began_is_looked_at_without_waiting_for_the_clock() {
        let folder = tempfile::tempdir().unwrap();
        let began = Instant::now();
        let watch = Watch::new([folder.path().join("secret").as_path()]);
        watch.changed().await;
        assert!(began.elapsed() < POLL, "{:?}", began.elapsed());
    }

    /// A watch that has begun.
    async fn begun(path: &Path) -> Watch {
        let watch = Watch::new([path]);
        let known = watch.events.as_ref().unwrap().known.clone();
        let begun = async {
            while known.lock().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        timeout(POLL, begun).await.expect("it begins");
        watch.changed().await;
        watch
    }

    async fn is_seen(watch: &Watch) -> bool {
        timeout(POLL / 2, watch.changed()).await.is_ok()
    }

    #[tokio::test]
    async fn what_happens_to_a_file_is_seen_and_reading_it_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "old").unwrap();
        let watch = begun(&path).await;
        fs::read(&path).unwrap();
        let seen = timeout(2 * QUIET, watch.changed()).await;
        assert!(seen.is_err(), "it would be read over and over");
        fs::write(&path, "new").unwrap();
        assert!(is_seen(&watch).await);
        fs::write(folder.path().join("other"), "newer").unwrap();
        fs::rename(folder.path().join("other"), &path).unwrap();
        assert!(is_seen(&watch).await);
        fs::remove_file(&path).unwrap();
        assert!(is_seen(&watch).await);
    }

    #[tokio::test]
    async fn what_happens_in_a_folder_that_came_later_is_seen() {
        let root = tempfile::tempdir().unwrap();
        let watch = begun(root.path()).await;
        let inner = root.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        assert!(is_seen(&watch).await);
        // It is watched from some moment after that on.
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
        timeout(POLL / 2, written).await.expect("it is seen");
    }

    /// Hears what is left of a change.
    async fn settle(watch: &Watch) {
        while timeout(3 * QUIET, watch.changed()).await.is_ok() {}
    }

    /// Puts a new file in the place of the old one.
    fn put(path: &Path) {
        let new = path.with_extension("new");
        fs::write(&new, "new").unwrap();
        fs::rename(new, path).unwrap();
    }

    #[tokio::test]
    async fn what_happens_behind_links_is_seen_and_where_they_are_turned() {
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
        let watch = begun(&at("app/key")).await;
        put(&at("v1/key"));
        assert!(is_seen(&watch).await, "the file");
        settle(&watch).await;
        symlink("v2", at("turned")).unwrap();
        fs::rename(at("turned"), at("current")).unwrap();
        assert!(is_seen(&watch).await, "the link above it");
        settle(&watch).await;
        fs::write(at("v2/key"), "in place").unwrap();
        assert!(is_seen(&watch).await, "the file behind the turned link");
        settle(&watch).await;
        symlink("../v1/key", at("keys/turned")).unwrap();
        fs::rename(at("keys/turned"), at("keys/key")).unwrap();
        assert!(is_seen(&watch).await, "the link in the middle");
    }

    #[tokio::test]
    async fn what_links_in_a_folder_of_credentials_lead_to_is_seen() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for folder in ["real", "elsewhere"] {
            fs::create_dir(at(folder)).unwrap();
        }
        fs::write(at("elsewhere/secret"), "old").unwrap();
        symlink(at("elsewhere/secret"), at("real/secret")).unwrap();
        symlink("real", at("binding")).unwrap();
        let watch = begun(&at("binding")).await;
        put(&at("elsewhere/secret"));
        assert!(is_seen(&watch).await);
    }

    #[tokio::test]
    async fn a_folder_that_no_link_leads_to_any_more_is_left() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir(at("app")).unwrap();
        let turn = |version: &str| {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("key"), version).unwrap();
            symlink(at(version).join("key"), at("app/turned")).unwrap();
            fs::rename(at("app/turned"), at("app/key")).unwrap();
        };
        turn("v0");
        let watch = begun(&at("app/key")).await;
        let known = watch.events.as_ref().unwrap().known.clone();
        let ids = || known.lock().unwrap().keys().copied().collect::<Vec<_>>();
        for version in 1..4 {
            let before = ids();
            turn(&format!("v{version}"));
            let left = async {
                while ids() == before {
                    watch.changed().await;
                }
            };
            timeout(POLL / 2, left).await.expect("it is followed");
            assert_eq!(ids().len(), 2, "that of the link and that of the file");
        }
    }

    #[test]
    fn links_in_circles_and_without_end_are_not_followed_for_ever() {
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
        assert!(found.len() < MOST_FOLDERS + 50, "{}", found.len());
    }
}
