//! Work that blocks: files are read, names are looked up. It is done on threads that exist since the start.
//!
//! Later, the system may have no thread to give (a limit of processes, a control group), and tokio's own
//! pool ends the caller then. Here work waits for its turn, or is refused with an error, and what was known
//! before stays in use. As long as threads can be had, more are made where some hang.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Threads that are always there: a file system that hangs and a resolver that does leave one.
const PERMANENT: usize = 3;
/// Threads in all. Each that hangs, hangs on its own; beyond, the limit of processes would be used up.
const MOST: usize = 32;
/// Work that waits for a thread. More than all clients and names of a large configuration have at once.
const WAITING: usize = 256;
/// How long a thread beyond the permanent ones waits for more.
const IDLE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

static POOL: Pool = Pool::new();

/// Work that was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockingError {
    /// There is no thread for it, and there will be none soon.
    #[error(
        "no thread is free for it; does a file system hang, or is the limit of processes used up?"
    )]
    Busy,
    /// It panicked.
    #[error("it failed; please report this")]
    Panicked,
    /// It did not end in time.
    #[error("it takes too long; does its file system hang?")]
    Timeout,
}

/// Makes the permanent threads. To be called once the sandbox is entered, which threads inherit.
///
/// # Errors
/// The system has no thread to give.
pub fn start() -> io::Result<()> {
    POOL.fill()
}

/// Does this beside the runtime. What is not done in time goes on, but nobody waits for it any more.
///
/// # Errors
/// It was not done, or not in time.
pub(crate) async fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BlockingError> {
    let (reply, done) = oneshot::channel();
    submit(move || {
        // Nobody waits for it any more.
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

/// Has this done some time.
///
/// # Errors
/// There is no thread for it.
pub(crate) fn submit(work: impl FnOnce() + Send + 'static) -> Result<(), BlockingError> {
    POOL.submit(Box::new(work))
}

struct Pool {
    queue: Mutex<Queue>,
    /// That there is work.
    work: Condvar,
}

struct Queue {
    jobs: VecDeque<Job>,
    threads: usize,
    /// Those that wait for work.
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

    /// Makes one more thread.
    fn grow(&'static self) -> io::Result<()> {
        self.queue().threads += 1;
        let thread = thread::Builder::new().name("bearerd-files".into());
        thread.spawn(|| self.serve()).map(drop).inspect_err(|_| self.queue().threads -= 1)
    }

    fn submit(&'static self, job: Job) -> Result<(), BlockingError> {
        let mut queue = self.queue();
        if queue.jobs.len() >= WAITING {
            return Err(BlockingError::Busy);
        }
        queue.jobs.push_back(job);
        let lacks_one = queue.idle < queue.jobs.len() && queue.threads < MOST;
        drop(queue);
        self.work.notify_one();
        // Without a further thread it waits for one of those that there are.
        if lacks_one && self.grow().is_err() && self.queue().threads == 0 {
            self.queue().jobs.clear();
            return Err(BlockingError::Busy);
        }
        Ok(())
    }

    /// What a thread does.
    fn serve(&self) {
        while let Some(job) = self.next() {
            // The one that waits learns of it by the end of its channel.
            let _ = catch_unwind(AssertUnwindSafe(job));
        }
    }

    /// The next work; none when the thread is one too many.
    fn next(&self) -> Option<Job> {
        let mut queue = self.queue();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            queue.idle += 1;
            let waited = self.work.wait_timeout(queue, IDLE);
            let is_over;
            (queue, is_over) = waited.unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
            if is_over.timed_out() && queue.jobs.is_empty() && queue.threads > PERMANENT {
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
    async fn work_is_done_and_a_panic_is_an_error() {
        assert_eq!(within(LONG, || 1 + 1).await, Ok(2));
        let failed = within(LONG, || -> u8 { panic!("as it happens") }).await;
        assert_eq!(failed, Err(BlockingError::Panicked));
        assert_eq!(within(LONG, || 3).await, Ok(3));
    }

    #[tokio::test]
    async fn work_that_hangs_holds_up_no_other() {
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
    fn a_pool_without_a_thread_to_spare_lets_work_wait_and_then_refuses_it() {
        static FULL: Pool = Pool::new();
        // As if all were there, and all were busy.
        FULL.queue().threads = MOST;
        for _ in 0..WAITING {
            assert_eq!(FULL.submit(Box::new(|| {})), Ok(()));
        }
        assert_eq!(FULL.submit(Box::new(|| {})), Err(BlockingError::Busy));
        let done = FULL.next().map(|job| job());
        assert_eq!(done, Some(()), "what waits is done when a thread is free");
        assert_eq!(FULL.submit(Box::new(|| {})), Ok(()));
    }
}
