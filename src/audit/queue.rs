//! Lines that wait to be written.

use arc_swap::ArcSwapOption;
use std::mem::take;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// The largest number of bytes that wait.
const MOST: usize = 4 << 20;

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
    /// The length of their lines.
    bytes: usize,
    rotates: bool,
}

impl Waiting {
    /// Makes room for a line. Lines that nobody wants any more go first.
    fn has_room(&mut self, length: usize) -> bool {
        if self.bytes + length > MOST {
            self.jobs.retain(Job::is_wanted);
            self.bytes = self.jobs.iter().map(|job| job.line.len()).sum();
        }
        self.bytes + length <= MOST
    }
}

/// A line and what waits for it.
pub(super) struct Job {
    pub(super) line: Vec<u8>,
    /// What waits for the line, until it has an answer.
    written: Option<oneshot::Sender<Written>>,
    /// Whether the line is written even if nothing waits for it, and tried again if that fails.
    pub(super) stays: bool,
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds lines. Unless they stay, they are left out if the result is dropped before they are
    /// written. `None` if too much waits.
    pub(super) fn push(&self, line: Vec<u8>, stays: bool) -> Option<oneshot::Receiver<Written>> {
        let (written, receiver) = oneshot::channel();
        let mut waiting = self.waiting();
        if !waiting.has_room(line.len()) {
            return None;
        }
        waiting.bytes += line.len();
        waiting.jobs.push(Job { line, written: Some(written), stays });
        drop(waiting);
        self.changed.notify_one();
        Some(receiver)
    }

    /// Adds lines that could not be written, before newer ones. Without room for one, it is lost.
    pub(super) fn put_back(&self, mut jobs: Vec<Job>) {
        let mut waiting = self.waiting();
        jobs.retain(|job| {
            let has_room = waiting.has_room(job.line.len());
            waiting.bytes += if has_room { job.line.len() } else { 0 };
            has_room
        });
        waiting.jobs.splice(0..0, jobs);
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
        waiting.bytes = 0;
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
        self.stays || self.is_awaited()
    }

    fn is_awaited(&self) -> bool {
        self.written.as_ref().is_some_and(|written| !written.is_closed())
    }

    /// Whether a request waits for the line. What waits for an empty one waits for all before it.
    pub(super) fn is_urgent(&self) -> bool {
        self.is_awaited() && !self.line.is_empty()
    }

    /// Reports whether the line was written.
    pub(super) fn report(&mut self, written: Written) {
        if let Some(waiting) = self.written.take() {
            // Fails if nothing waits for it any more.
            let _ = waiting.send(written);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_waits_for_makes_room_and_notes_stay() {
        let queue = Queue::default();
        let line = || vec![0; MOST / 4];
        let note = queue.push(line(), true);
        let withdrawn = [queue.push(line(), false), queue.push(line(), false)];
        let wanted = queue.push(line(), false);
        assert!(note.is_some() && wanted.is_some());
        assert!(queue.push(line(), false).is_none(), "full");
        drop((note, withdrawn));
        let again = [queue.push(line(), false), queue.push(line(), false)];
        assert!(again.iter().all(Option::is_some));
        assert!(queue.push(line(), false).is_none(), "the note and the wanted line are there");
        let (jobs, _) = queue.take();
        assert_eq!(jobs.iter().filter(|job| job.is_wanted()).count(), 4);
        assert!(queue.push(line(), false).is_some());
    }
}
