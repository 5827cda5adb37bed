//! Output of logs to standard error from a background thread, so that a slow reader never blocks a
//! request.
//!
//! At first, a line is written by the thread that logs it, so that a process that fails at its
//! start has logged why. While a [`WriterGuard`] exists, lines are buffered, and the background
//! thread writes them: access-log lines in batches, others at once.

use super::target::ACCESS;
use std::fs::File;
use std::io::{self, ErrorKind, Write, stderr};
use std::mem::{swap, take};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use tracing::{Metadata, dispatcher, warn};
use tracing_subscriber::fmt::MakeWriter;

/// Time for which access-log lines are collected, unless another line is logged.
const COLLECT_TIME: Duration = Duration::from_millis(20);
/// Amount that is written at once, without collecting more: 64 KiB, the buffer of a pipe.
const BATCH: usize = 64 << 10;
/// The largest number of bytes that are buffered for a stalled reader: 1 MiB. Lines beyond are
/// lost, and counted.
const BUFFER: usize = 1 << 20;
/// Time that the end of the process waits for a stalled reader.
const END_TIME: Duration = Duration::from_secs(1);

/// Destination of log lines. Clones share it.
#[derive(Clone)]
pub(super) struct Output(Arc<Shared>);

struct Shared {
    file: Mutex<Box<dyn Write + Send>>,
    lines: Mutex<Lines>,
    /// Notified when there are lines, when they are to be written at once, and at the end.
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    state: State,
    waiting: Vec<u8>,
    /// Whether the buffer is to be written at once.
    urgent: bool,
    /// Lines that did not fit into the buffer.
    lost: u64,
}

#[derive(Default, PartialEq)]
enum State {
    /// Lines are written by the thread that logs them.
    #[default]
    Direct,
    /// Lines are buffered for the background thread.
    Buffered,
    /// Lines are buffered; the background thread ends when it has written the buffer.
    Ending,
}

impl Output {
    pub(super) fn stderr() -> Self {
        // With a file of its own, other writers to standard error do not wait for its lock.
        match stderr().as_fd().try_clone_to_owned() {
            Ok(descriptor) => Self::new(Box::new(File::from(descriptor))),
            Err(_) => Self::new(Box::new(stderr())),
        }
    }

    fn new(file: Box<dyn Write + Send>) -> Self {
        let (lines, changed) = (Mutex::default(), Condvar::new());
        Self(Arc::new(Shared { file: Mutex::new(file), lines, changed }))
    }

    /// Returns a writer that waits until its lines are written.
    pub(super) fn direct(&self) -> Direct {
        Direct(self.0.clone())
    }

    /// Starts the background thread, which writes until the guard is dropped. Events that the
    /// thread itself logs go to the caller's subscriber.
    pub(super) fn start_writer(&self) -> io::Result<WriterGuard> {
        let (output, dispatch) = (self.clone(), dispatcher::get_default(Clone::clone));
        self.0.lines().state = State::Buffered;
        let write = move || dispatcher::with_default(&dispatch, || output.0.write_lines());
        match thread::Builder::new().name("bearerd-log".into()).spawn(write) {
            Ok(_) => Ok(WriterGuard(self.clone())),
            Err(error) => {
                self.0.lines().state = State::Direct;
                Err(error)
            }
        }
    }
}

impl<'writer> MakeWriter<'writer> for Output {
    type Writer = Line<'writer>;

    fn make_writer(&'writer self) -> Line<'writer> {
        Line { shared: &self.0, urgent: true }
    }

    fn make_writer_for(&'writer self, metadata: &Metadata<'_>) -> Line<'writer> {
        Line { shared: &self.0, urgent: metadata.target() != ACCESS }
    }
}

/// Writer of whole lines, which waits until they are written.
pub(super) struct Direct(Arc<Shared>);

impl Write for Direct {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.0.write(lines).map(|()| lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writer of one line, which comes in one call.
pub(super) struct Line<'writer> {
    shared: &'writer Shared,
    urgent: bool,
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut lines = self.shared.lines();
        if lines.state == State::Direct {
            drop(lines);
            return self.shared.file().write(line);
        }
        if lines.waiting.len() + line.len() > BUFFER {
            lines.lost += 1;
            return Ok(line.len());
        }
        let was_empty = lines.waiting.is_empty();
        lines.waiting.extend_from_slice(line);
        let hurry = !lines.urgent && (self.urgent || lines.waiting.len() >= BATCH);
        lines.urgent |= hurry;
        drop(lines);
        if was_empty || hurry {
            self.shared.changed.notify_all();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self) -> MutexGuard<'_, Box<dyn Write + Send>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes lines until the end; the background thread runs it.
    fn write_lines(&self) {
        let mut batch = Vec::new();
        loop {
            let lost = {
                let Some(mut lines) = self.wait_for_batch() else { return };
                swap(&mut lines.waiting, &mut batch);
                lines.urgent = false;
                take(&mut lines.lost)
            };
            if self.write(&batch).is_err() {
                // Counted until the log can be written again.
                self.lines().lost += lost;
            } else if lost > 0 {
                warn!(lost, "Log lines were lost: standard error was not read in time.");
            }
            batch.clear();
            batch.shrink_to(BATCH);
        }
    }

    /// Waits until lines are to be written. Returns `None` at the end.
    fn wait_for_batch(&self) -> Option<MutexGuard<'_, Lines>> {
        let is_empty =
            |lines: &mut Lines| lines.waiting.is_empty() && lines.state == State::Buffered;
        let may_collect = |lines: &mut Lines| !lines.urgent && lines.state == State::Buffered;
        let lines = self.changed.wait_while(self.lines(), is_empty);
        let lines = lines.unwrap_or_else(PoisonError::into_inner);
        let (mut lines, _) = self
            .changed
            .wait_timeout_while(lines, COLLECT_TIME, may_collect)
            .unwrap_or_else(PoisonError::into_inner);
        if lines.waiting.is_empty() {
            lines.state = State::Direct;
            self.changed.notify_all();
            return None;
        }
        Some(lines)
    }

    fn write(&self, mut batch: &[u8]) -> io::Result<()> {
        let mut file = self.file();
        while !batch.is_empty() {
            match file.write(batch) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => batch = batch.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Another process with the same standard error may have made it non-blocking.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::park_timeout(COLLECT_TIME)
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Guard of the background thread. Dropping it waits until the lines are written, unless their
/// reader stalls.
#[must_use]
pub struct WriterGuard(Output);

impl Drop for WriterGuard {
    fn drop(&mut self) {
        let shared = &self.0.0;
        let mut lines = shared.lines();
        lines.state = State::Ending;
        shared.changed.notify_all();
        let ending = |lines: &mut Lines| lines.state == State::Ending;
        // Lines that a stalled reader has not taken by then are lost.
        let _ = shared.changed.wait_timeout_while(lines, END_TIME, ending);
    }
}

#[cfg(test)]
mod tests {
    use super::super::subscriber;
    use super::*;
    use crate::config::{Log, LogFormat};
    use std::io::{BufRead, BufReader, PipeReader, pipe};
    use tracing::info;
    use tracing::level_filters::LevelFilter;

    /// Runs `run` with logs that go to a pipe, of which it gets the other end.
    fn logging<T>(run: impl FnOnce(&Output, BufReader<PipeReader>) -> T) -> T {
        let (reader, writer) = pipe().unwrap();
        let output = Output::new(Box::new(writer));
        let log = Log { level: LevelFilter::INFO, format: LogFormat::Json };
        let (subscriber, _) = subscriber(log, output.clone());
        tracing::subscriber::with_default(subscriber, || run(&output, BufReader::new(reader)))
    }

    fn line(reader: &mut impl BufRead) -> serde_json::Value {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    #[test]
    fn lines_come_in_order_from_both_threads() {
        logging(|output, mut reader| {
            info!(n = 0, "Before.");
            let writer = output.start_writer().unwrap();
            info!(target: ACCESS, n = 1, "Request.");
            info!(n = 2, "At once.");
            info!(target: ACCESS, n = 3, "Request.");
            drop(writer);
            info!(n = 4, "After.");
            for n in 0..5 {
                assert_eq!(line(&mut reader)["n"], n);
            }
        });
    }

    #[test]
    fn an_access_log_line_is_written_when_nothing_follows_it() {
        logging(|output, mut reader| {
            let _writer = output.start_writer().unwrap();
            info!(target: ACCESS, n = 1, "Request.");
            assert_eq!(line(&mut reader)["n"], 1);
        });
    }

    #[test]
    fn a_reader_that_stalls_blocks_nobody_and_gets_the_number_of_lost_lines() {
        logging(|output, mut reader| {
            let writer = output.start_writer().unwrap();
            // More than the pipe, a batch and the buffer hold together.
            let text = "x".repeat(1_000);
            let logged = 3_000;
            for n in 0..logged {
                info!(target: ACCESS, n, text, "Request.");
            }
            let mut read = 0;
            let lost = loop {
                let line = line(&mut reader);
                if let Some(lost) = line["lost"].as_u64() {
                    break lost;
                }
                assert_eq!(line["n"], read, "the oldest are kept");
                read += 1;
            };
            assert_eq!(read + lost, logged);
            drop(writer);
        });
    }

    #[test]
    fn a_reader_that_is_gone_ends_nothing() {
        logging(|output, reader| {
            let writer = output.start_writer().unwrap();
            drop(reader);
            info!("Nobody reads this.");
            drop(writer);
            assert!(output.0.lines().state == State::Direct, "the thread has ended by itself");
        });
    }
}
