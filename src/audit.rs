//! The audit log: who did what, as one JSON object a line, in files of a folder or on standard
//! error.
//!
//! A write waits until its line is written. A thread of its own writes the lines that wait, all at
//! once, so that many writes share one `fsync`.

mod file;
mod queue;
pub(crate) mod record;

use crate::clock::Instant;
use crate::config::{Audit as Settings, AuditTarget, OnAuditFailure, Route, RouteRef};
use crate::throttle::Throttle;
use file::{Destination, Files};
use queue::{Job, Purpose, Queue};
use record::Record;
use rustix::fs::{Access, access};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::iter::once;
use std::mem::take;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};
use tokio::time::{sleep, timeout};
use tracing::{dispatcher, info, warn};

/// The longest time that a write waits for its line.
const WAIT: Duration = Duration::from_secs(1);
/// The largest number of refused requests of a caller in a second that have lines of their own.
const MOST_REFUSALS: u32 = 50;
/// The same for requests that are from no caller.
const MOST_REFUSALS_OF_NOBODY: u32 = 10;
/// Why lines are lost.
const LOST: &str = "too many wait for the disk";
/// The number of bytes of lines that nothing waits for and that are written at once.
const PIECE: usize = 64 << 10;
/// The time between two tries to write.
const PAUSE: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
/// The longest time that the end of the process waits for the last lines.
const END: Duration = Duration::from_secs(2);

/// Why nothing can be audited.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The folder is missing, or it can't be written to.
    #[error(
        "cannot write to the folder {}: {cause}; make it, and let bearerd's user write to it",
        folder.display()
    )]
    Folder {
        /// The folder as configured.
        folder: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// The system refuses a thread.
    #[error("cannot start the thread of the audit log: {0}; check the limit of processes")]
    Thread(io::Error),
}

/// The audit log. Clones share it.
#[derive(Clone)]
pub struct Audit {
    settings: Arc<Settings>,
    queue: Arc<Queue>,
    warnings: Arc<Throttle>,
    /// Refused requests by the name of their caller; empty for nobody.
    refusals: Arc<Mutex<BTreeMap<String, Refusals>>>,
}

/// Refused requests of a caller in the present second.
#[derive(Debug, Default)]
struct Refusals {
    since: Instant,
    written: u32,
    suppressed: u64,
}

/// Why a line is not written, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotWritten(String);

impl Audit {
    /// Checks that the destination can be written to. Writes nothing.
    ///
    /// # Errors
    /// The folder is missing, or it can't be written to.
    pub fn check(settings: &Settings) -> Result<(), AuditError> {
        let AuditTarget::Folder(folder) = &settings.target else { return Ok(()) };
        let unusable = |cause| AuditError::Folder { folder: folder.clone(), cause };
        if !folder.metadata().map_err(unusable)?.is_dir() {
            return Err(unusable(io::ErrorKind::NotADirectory.into()));
        }
        let all = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
        access(folder, all).map_err(|error| unusable(error.into()))
    }

    /// Starts the thread that writes. `stderr` is used if the configuration names it.
    ///
    /// # Errors
    /// The folder can't be written to, or the system refuses a thread.
    pub fn start(settings: &Settings, stderr: Box<dyn Write + Send>) -> Result<Self, AuditError> {
        let destination = match &settings.target {
            AuditTarget::Folder(folder) => {
                let files = Files::open(folder, settings.max_size, settings.sync);
                let unusable = |cause| AuditError::Folder { folder: folder.clone(), cause };
                Destination::Files(files.map_err(unusable)?)
            }
            AuditTarget::Stderr => Destination::Stderr(stderr),
        };
        let queue = Arc::new(Queue::default());
        let (writing, dispatch) = (queue.clone(), dispatcher::get_default(Clone::clone));
        let write = move || dispatcher::with_default(&dispatch, || write(&writing, destination));
        let named = thread::Builder::new().name("bearerd-audit".into());
        named.spawn(write).map_err(AuditError::Thread)?;
        let settings = Arc::new(settings.clone());
        Ok(Self { settings, queue, warnings: Arc::default(), refusals: Arc::default() })
    }

    /// Whether requests on this route are audited.
    pub(crate) fn covers(&self, route: &Route) -> bool {
        let is_named = |routes: &Vec<RouteRef>| routes.iter().any(|named| named.names(route));
        self.settings.routes.as_ref().is_none_or(is_named)
    }

    /// Writes a line, and waits for it.
    ///
    /// # Errors
    /// The line could not be written, and the configuration refuses what is not audited.
    pub(crate) async fn write(&self, line: Vec<u8>) -> Result<(), NotWritten> {
        let purpose = match self.settings.on_failure {
            OnAuditFailure::Refuse => Purpose::Awaited,
            OnAuditFailure::Warn => Purpose::Kept,
        };
        let written = match self.queue.push(line, purpose) {
            Some(written) => timeout(WAIT, written).await,
            None => return self.failed("too many lines wait for the disk".to_owned()),
        };
        match written {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(why))) => self.failed(why),
            Ok(Err(_)) => self.failed("its thread has ended; restart bearerd".to_owned()),
            Err(_) => {
                let why = format!("writing took longer than {WAIT:?}");
                // The thread that writes withdraws it.
                self.queue.set_complaint(Some(&why));
                self.failed(why)
            }
        }
    }

    /// Writes a line that nothing waits for.
    pub(crate) fn note(&self, line: Vec<u8>) {
        self.push_note(line, Purpose::Kept);
    }

    fn push_note(&self, line: Vec<u8>, purpose: Purpose) {
        if self.queue.push(line, purpose).is_none() && self.warnings.try_pass() {
            warn!("Lines of the audit log are lost: {LOST}.");
        }
    }

    /// Writes the lines of a refused request, unless there are too many of them: refused requests
    /// must not fill the disk, which would refuse writes. Each caller has its own limit, so that
    /// none hides another.
    pub(crate) fn note_refused(&self, caller: Option<&str>, lines: impl FnOnce() -> Vec<u8>) {
        let most = if caller.is_some() { MOST_REFUSALS } else { MOST_REFUSALS_OF_NOBODY };
        let is_first = {
            let mut refusals = self.refusals();
            let refusals = refusals.entry(caller.unwrap_or_default().to_owned()).or_default();
            if refusals.since.elapsed() >= SECOND {
                (refusals.since, refusals.written) = (Instant::now(), 0);
            }
            if refusals.written < most {
                refusals.written += 1;
                None
            } else {
                refusals.suppressed += 1;
                Some(refusals.suppressed == 1)
            }
        };
        match is_first {
            None => self.push_note(lines(), Purpose::Refusal),
            Some(true) => {
                let audit = self.clone();
                tokio::spawn(async move {
                    sleep(SECOND).await;
                    audit.note_suppressed();
                });
            }
            Some(false) => {}
        }
    }

    fn refusals(&self) -> MutexGuard<'_, BTreeMap<String, Refusals>> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes how many refused requests have no lines of their own.
    fn note_suppressed(&self) {
        for (caller, refusals) in self.refusals().iter_mut() {
            let refused = take(&mut refusals.suppressed);
            if refused > 0 {
                let caller = (!caller.is_empty()).then_some(caller.as_str());
                let time = SystemTime::now();
                let line = Record::Suppressed { time, caller, refused }.line();
                self.push_note(line, Purpose::Refusal);
            }
        }
    }

    /// Begins another file.
    pub fn rotate(&self) {
        self.queue.rotate();
    }

    /// Why the last lines could not be written, if they could not.
    pub(crate) fn complaint(&self) -> Option<Arc<String>> {
        self.queue.complaint()
    }

    /// Writes the last lines.
    pub(crate) async fn end(&self) {
        self.note_suppressed();
        let all_written = async {
            loop {
                // It is written after all others.
                let last = self.queue.push(Vec::new(), Purpose::Refusal);
                if let Some(last) = last
                    && let Ok(Ok(())) = last.await
                {
                    return;
                }
                sleep(PAUSE).await;
            }
        };
        if timeout(END, all_written).await.is_err() {
            let slow = || Arc::new(format!("they were not written within {END:?}"));
            let why = self.complaint().unwrap_or_else(slow);
            warn!("The last lines of the audit log are lost: {why}; check its disk.");
        }
    }

    fn failed(&self, why: String) -> Result<(), NotWritten> {
        let goes_on = self.settings.on_failure == OnAuditFailure::Warn;
        if self.warnings.try_pass() {
            let effect = if goes_on { "is sent all the same" } else { "is refused" };
            warn!("The audit log cannot be written, so a write {effect}: {why}.");
        }
        if goes_on { Ok(()) } else { Err(NotWritten(why)) }
    }
}

/// Splits lines into pieces that are written at once, so that a disk with little room takes some.
fn pieces(jobs: Vec<Job>) -> Vec<Vec<Job>> {
    let mut pieces: Vec<Vec<Job>> = Vec::new();
    let mut bytes = PIECE;
    for job in jobs {
        if bytes + job.line.len() > PIECE {
            bytes = 0;
            pieces.push(Vec::new());
        }
        bytes += job.line.len();
        if let Some(piece) = pieces.last_mut() {
            piece.push(job);
        }
    }
    pieces
}

/// Writes lines until the process ends.
fn write(queue: &Queue, mut destination: Destination) {
    let log = Throttle::new();
    loop {
        let (jobs, rotates) = queue.take();
        if rotates {
            destination.rotate();
        }
        // Nobody waits any more: the request was refused, or its caller is gone.
        let mut jobs: Vec<_> = jobs.into_iter().filter(Job::is_wanted).collect();
        jobs.sort_by_key(|job| job.purpose);
        // What requests wait for needs no room for what nothing waits for.
        let rest = jobs.split_off(jobs.partition_point(|job| job.purpose == Purpose::Awaited));
        let (mut result, mut again) = (None, Vec::new());
        for mut piece in once(jobs).chain(pieces(rest)) {
            if piece.iter().all(|job| job.line.is_empty()) {
                // This says nothing about the disk.
                let so_far = result.clone().unwrap_or(Ok(()));
                piece.iter_mut().for_each(|job| job.report(so_far.clone()));
                continue;
            }
            let written = match &result {
                Some(Err(why)) => Err(String::clone(why)),
                _ => {
                    let text: Vec<u8> =
                        piece.iter().flat_map(|job| job.line.iter().copied()).collect();
                    destination.write(&text).map_err(|error| error.to_string())
                }
            };
            piece.iter_mut().for_each(|job| job.report(written.clone()));
            if written.is_err() {
                again.extend(piece.into_iter().filter(Job::stays));
            }
            result = Some(written);
        }
        if queue.put_back(again) > 0 && log.try_pass() {
            warn!("Lines of the audit log are lost: {LOST}.");
        }
        let Some(result) = result else { continue };
        if queue.set_complaint(result.as_ref().err()) {
            match &result {
                Ok(()) => info!("The audit log is written again."),
                Err(why) => warn!("The audit log cannot be written: {why}."),
            }
        }
        let has_failed = result.is_err();
        if has_failed {
            thread::park_timeout(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A disk with this much room left.
    struct Disk(Arc<AtomicUsize>);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let room = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| {
                room.checked_sub(bytes.len())
            });
            room.map(|_| bytes.len()).map_err(|_| io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_disk_with_little_room_takes_a_write_before_what_nothing_waits_for() {
        let settings = Settings {
            target: AuditTarget::Stderr,
            routes: None,
            sync: false,
            max_size: 1,
            on_failure: OnAuditFailure::Refuse,
        };
        let room = Arc::new(AtomicUsize::new(0));
        let audit = Audit::start(&settings, Box::new(Disk(room.clone()))).unwrap();
        for _ in 0..64 {
            audit.note(vec![b'x'; 16 << 10]);
        }
        assert!(audit.write(vec![b'x'; 100]).await.is_err());
        // Less than one piece.
        room.store(50 << 10, Ordering::Relaxed);
        for _ in 0..100 {
            assert_eq!(audit.write(vec![b'x'; 100]).await, Ok(()));
        }
        // The end waits for room, too.
        let room_comes = async {
            while audit.complaint().is_none() {
                sleep(Duration::from_millis(1)).await;
            }
            room.store(10 << 20, Ordering::Relaxed);
        };
        tokio::join!(audit.end(), room_comes);
        let written = (10 << 20) - room.load(Ordering::Relaxed);
        assert_eq!(written, 64 * (16 << 10), "the notes are not lost");
        assert_eq!(audit.complaint(), None);
    }
}
