//! Lines that wait to be written.

use arc_swap::ArcSwapOption;
use std::mem::take;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// The largest number of bytes that wait.
const MOST: usize = 4 << 20;
/// The part of them that lines of refused requests may take, so that these push out no others.
const MOST_OF_REFUSALS: usize = MOST / 4;

/// The end of a line: written, or why not.
pub(super) type Written = Result<(), String>;

/// What a line is for. Lines are written in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    /// A request waits for it. It is left out if the request gives up.
    Awaited,
    /// It is about a request that was or will be sent, whatever becomes of the line.
    Kept,
    /// It is about a refused request.
    Refusal,
}

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
    size: Size,
    rotates: bool,
}

/// The length of lines.
#[derive(Clone, Copy, Default)]
struct Size {
    all: usize,
    refusals: usize,
}

impl Size {
    fn of(jobs: &[Job]) -> Self {
        jobs.iter().fold(Self::default(), |size, job| size.with(job))
    }

    /// The size with one more line.
    const fn with(self, job: &Job) -> Self {
        let length = job.line.len();
        let refusals = if matches!(job.purpose, Purpose::Refusal) { length } else { 0 };
        Self { all: self.all + length, refusals: self.refusals + refusals }
    }

    const fn is_allowed(self) -> bool {
        self.all <= MOST && self.refusals <= MOST_OF_REFUSALS
    }
}

/// A line and what waits for it.
pub(super) struct Job {
    pub(super) line: Vec<u8>,
    /// What waits for the line, until it has an answer.
    written: Option<oneshot::Sender<Written>>,
    pub(super) purpose: Purpose,
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds lines. `None` if too much waits.
    pub(super) fn push(
        &self,
        line: Vec<u8>,
        purpose: Purpose,
    ) -> Option<oneshot::Receiver<Written>> {
        let (written, receiver) = oneshot::channel();
        let job = Job { line, written: Some(written), purpose };
        let mut waiting = self.waiting();
        if !waiting.size.with(&job).is_allowed() {
            waiting.jobs.retain(Job::is_wanted);
            waiting.size = Size::of(&waiting.jobs);
        }
        let size = waiting.size.with(&job);
        if !size.is_allowed() {
            return None;
        }
        waiting.size = size;
        waiting.jobs.push(job);
        drop(waiting);
        self.changed.notify_one();
        Some(receiver)
    }

    /// Adds lines that could not be written, before newer ones. Returns how many are lost, because
    /// there is no room for them.
    pub(super) fn put_back(&self, mut jobs: Vec<Job>) -> usize {
        let mut waiting = self.waiting();
        let (before, mut size) = (jobs.len(), waiting.size);
        jobs.retain(|job| {
            let with = size.with(job);
            if with.is_allowed() {
                size = with;
            }
            with.is_allowed()
        });
        let lost = before - jobs.len();
        waiting.jobs.splice(0..0, jobs);
        waiting.size = size;
        lost
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
        waiting.size = Size::default();
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
    /// Whether the line is written even if nothing waits for it, and tried again if that fails.
    pub(super) fn stays(&self) -> bool {
        self.purpose != Purpose::Awaited
    }

    /// Whether the line is still to be written.
    pub(super) fn is_wanted(&self) -> bool {
        self.stays() || self.written.as_ref().is_some_and(|written| !written.is_closed())
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
        let note = queue.push(line(), Purpose::Kept);
        let withdrawn =
            [queue.push(line(), Purpose::Awaited), queue.push(line(), Purpose::Awaited)];
        let wanted = queue.push(line(), Purpose::Awaited);
        assert!(note.is_some() && wanted.is_some());
        assert!(queue.push(line(), Purpose::Awaited).is_none(), "full");
        drop((note, withdrawn));
        let again = [queue.push(line(), Purpose::Awaited), queue.push(line(), Purpose::Awaited)];
        assert!(again.iter().all(Option::is_some));
        assert!(
            queue.push(line(), Purpose::Awaited).is_none(),
            "the note and the wanted line are there"
        );
        let (jobs, _) = queue.take();
        assert_eq!(jobs.iter().filter(|job| job.is_wanted()).count(), 4);
        assert!(queue.push(line(), Purpose::Awaited).is_some());
    }

    #[test]
    fn what_is_put_back_counts_and_refusals_push_out_nothing_else() {
        let queue = Queue::default();
        let line = || vec![0; MOST / 8];
        for _ in 0..2 {
            assert!(queue.push(line(), Purpose::Refusal).is_some());
        }
        assert!(queue.push(line(), Purpose::Refusal).is_none(), "their part is full");
        for _ in 0..6 {
            assert!(queue.push(line(), Purpose::Kept).is_some());
        }
        for round in 0..3 {
            let (jobs, _) = queue.take();
            assert_eq!(jobs.len(), 8, "round {round}");
            // Newer lines come while the old ones fail.
            assert!(queue.push(line(), Purpose::Kept).is_some());
            assert_eq!(queue.put_back(jobs), 1, "round {round}");
            assert!(queue.push(line(), Purpose::Awaited).is_none(), "full");
        }
    }
}
