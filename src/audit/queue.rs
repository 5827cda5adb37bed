//! Lines that wait to be written.

use arc_swap::ArcSwapOption;
use std::mem::take;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// The largest number of lines that wait. Requests in flight have two each.
const MOST: usize = 16 * 1024;

/// The end of a line: written, or why not.
pub(super) type Written = Result<(), String>;

/// The queue of lines.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// Notified when there is something to do.
    changed: Condvar,
    /// Why the last lines could not be written.
    complaint: ArcSwapOption<String>,
}

#[derive(Default)]
struct Waiting {
    jobs: Vec<Job>,
    rotates: bool,
}

/// A line and what waits for it.
pub(super) struct Job {
    line: Vec<u8>,
    written: oneshot::Sender<Written>,
    /// Whether the line is written even if nothing waits for it.
    is_note: bool,
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line, which is left out if the result is dropped before it is written. `None` if too
    /// many lines wait.
    pub(super) fn push(&self, line: Vec<u8>) -> Option<oneshot::Receiver<Written>> {
        self.add(line, false)
    }

    /// Adds a line that nothing waits for. Returns whether there was room.
    pub(super) fn push_note(&self, line: Vec<u8>) -> bool {
        self.add(line, true).is_some()
    }

    fn add(&self, line: Vec<u8>, is_note: bool) -> Option<oneshot::Receiver<Written>> {
        let (written, receiver) = oneshot::channel();
        let mut waiting = self.waiting();
        if waiting.jobs.len() >= MOST {
            return None;
        }
        waiting.jobs.push(Job { line, written, is_note });
        drop(waiting);
        self.changed.notify_one();
        Some(receiver)
    }

    /// Asks for another file.
    pub(super) fn rotate(&self) {
        self.waiting().rotates = true;
        self.changed.notify_one();
    }

    /// Waits for something to do. Returns the lines, and whether another file begins.
    pub(super) fn take(&self) -> (Vec<Job>, bool) {
        let is_empty = |waiting: &mut Waiting| waiting.jobs.is_empty() && !waiting.rotates;
        let waiting = self.changed.wait_while(self.waiting(), is_empty);
        let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        (take(&mut waiting.jobs), take(&mut waiting.rotates))
    }

    pub(super) fn complaint(&self) -> Option<Arc<String>> {
        self.complaint.load_full()
    }

    /// Sets why lines can't be written. Returns whether that has changed.
    pub(super) fn set_complaint(&self, why: Option<&String>) -> bool {
        let before = self.complaint.load_full();
        if before.as_deref() == why {
            return false;
        }
        self.complaint.store(why.cloned().map(Arc::new));
        true
    }
}

impl Job {
    /// Whether the line is still to be written.
    pub(super) fn is_wanted(&self) -> bool {
        self.is_note || !self.written.is_closed()
    }

    pub(super) fn take_line(&mut self) -> Vec<u8> {
        take(&mut self.line)
    }

    /// Reports the end of the line.
    pub(super) fn end(self, written: Written) {
        // Fails if nothing waits for it any more.
        let _ = self.written.send(written);
    }
}
