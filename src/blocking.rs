//! Threads for work that blocks: reading files and looking up names. They are started with the
//! process.
//!
//! Later the system may refuse a new thread, because of a limit of processes or a control group.
//! tokio's own pool panics then. This pool queues the work, or returns an error, and the caller
//! keeps its last known state. If threads hang, more are started as long as the system allows it.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Threads that never end. A hanging file system and a hanging resolver leave one of them free.
const PERMANENT: usize = 3;
/// The largest number of threads. The limit keeps hanging threads from using up the limit of
/// processes.
const MAX_THREADS: usize = 32;
/// The largest number of jobs that wait for a thread. All clients and names of a large
/// configuration need fewer.
const MAX_QUEUED: usize = 256;
/// How long a thread beyond the permanent ones waits for work before it ends.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

static POOL: Pool = Pool::new();

/// Reason why work has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockingError {
    /// No thread is free, and the queue is full.
    #[error(
        "no thread was free for it; check for a file system that hangs, and the limit of processes"
    )]
    Busy,
    /// The work panicked.
    #[error("the task failed; please report this, with the log")]
    Panicked,
    /// The work did not end within its limit.
    #[error("the read took too long; check for a file system that hangs")]
    Timeout,
}

/// Starts the permanent threads. Call it after the sandbox is entered, because threads inherit it.
///
/// # Errors
/// The system refuses a thread.
pub fn start() -> io::Result<()> {
    POOL.fill()
}

/// Runs work on a thread of the pool and waits for its result, at most for `limit`. After that the
/// work continues, but its result is dropped.
///
/// # Errors
/// The work was not run, panicked, or did not end in time.
pub(crate) async fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BlockingError> {
    let (reply, done) = oneshot::channel();
    submit(move || {
        // The caller may have given up while the work was queued.
        if !reply.is_closed() {
            let _ = reply.send(work());
        }
    })?;
    match timeout(limit, done).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_)) => Err(BlockingError::Panicked),
        Err(_) => Err(BlockingError::Timeout),
    }
}

/// Queues work without waiting for it.
///
/// # Errors
/// No thread is free, and the queue is full.
pub(crate) fn submit(work: impl FnOnce() + Send + 'static) -> Result<(), BlockingError> {
    POOL.submit(Box::new(work))
}

struct Pool {
    queue: Mutex<Queue>,
    /// Signals that there is work.
    work: Condvar,
}

struct Queue {
    jobs: VecDeque<Job>,
    threads: usize,
    /// Number of threads that wait for work.
    idle: usize,
}

impl Pool {
    const fn new() -> Self {
        let queue = Queue { jobs: VecDeque::new(), threads: 0, idle: 0 };
        Self { queue: Mutex::new(queue), work: Condvar::new() }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&'static self) -> io::Result<()> {
        while self.queue().threads < PERMANENT {
            self.grow()?;
        }
        Ok(())
    }

    /// Starts one more thread.
    fn grow(&'static self) -> io::Result<()> {
        self.queue().threads += 1;
        let thread = thread::Builder::new().name("bearerd-files".into());
        thread.spawn(|| self.serve()).map(drop).inspect_err(|_| self.queue().threads -= 1)
    }

    fn submit(&'static self, job: Job) -> Result<(), BlockingError> {
        let mut queue = self.queue();
        if queue.jobs.len() >= MAX_QUEUED {
            return Err(BlockingError::Busy);
        }
        queue.jobs.push_back(job);
        let lacks_one = queue.idle < queue.jobs.len() && queue.threads < MAX_THREADS;
        drop(queue);
        self.work.notify_one();
        // If no thread can be started, the job waits for one of the existing threads.
        if lacks_one && self.grow().is_err() && self.queue().threads == 0 {
            self.queue().jobs.clear();
            return Err(BlockingError::Busy);
        }
        Ok(())
    }

    /// Runs jobs until the thread is no longer needed.
    fn serve(&self) {
        while let Some(job) = self.next() {
            // A panic drops the job's channel, which is how the caller notices it.
            let _ = catch_unwind(AssertUnwindSafe(job));
        }
    }

    /// Waits for the next job. Returns `None` if the thread is not needed any more.
    fn next(&self) -> Option<Job> {
        let mut queue = self.queue();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            queue.idle += 1;
            let waited = self.work.wait_timeout(queue, IDLE_TIMEOUT);
            let waiting;
            (queue, waiting) = waited.unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
            if waiting.timed_out() && queue.jobs.is_empty() && queue.threads > PERMANENT {
                queue.threads -= 1;
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn work_returns_its_result_and_a_panic_is_an_error() {
        assert_eq!(within(LONG, || 1 + 1).await, Ok(2));
        let failed = within(LONG, || -> u8 { panic!("as it happens") }).await;
        assert_eq!(failed, Err(BlockingError::Panicked));
        assert_eq!(within(LONG, || 3).await, Ok(3));
    }

    #[tokio::test]
    async fn work_that_hangs_does_not_delay_other_work() {
        let mut hanging = Vec::new();
        for _ in 0..PERMANENT + 2 {
            let (release, released) = mpsc::channel::<()>();
            hanging.push(release);
            let hang = within(Duration::from_millis(1), move || released.recv().is_ok());
            assert_eq!(hang.await, Err(BlockingError::Timeout));
        }
        assert_eq!(within(LONG, || 4).await, Ok(4));
    }

    #[test]
    fn a_pool_without_a_free_thread_queues_work_and_then_refuses_it() {
        static FULL: Pool = Pool::new();
        // As if all threads existed and were busy.
        FULL.queue().threads = MAX_THREADS;
        for _ in 0..MAX_QUEUED {
            assert_eq!(FULL.submit(Box::new(|| {})), Ok(()));
        }
        assert_eq!(FULL.submit(Box::new(|| {})), Err(BlockingError::Busy));
        let done = FULL.next().map(|job| job());
        assert_eq!(done, Some(()), "queued work is done when a thread is free");
        assert_eq!(FULL.submit(Box::new(|| {})), Ok(()));
    }
}
