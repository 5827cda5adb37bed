//! Where logs are written: standard error, behind the backs of those who log, so that none of them waits for
//! its reader.
//!
//! At first a line is written where it is logged: a process that fails at its start has told why. While
//! [`WriterGuard`] lives, lines are collected, and a thread writes them: access-log lines in batches, others at
//! once.

use super::ACCESS;
use std::fs::File;
use std::io::{self, ErrorKind, Write, stderr};
use std::mem::{swap, take};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use tracing::{Metadata, dispatcher, warn};
use tracing_subscriber::fmt::MakeWriter;

/// So long access-log lines are collected, if nothing else is to be told.
const COLLECTED: Duration = Duration::from_millis(20);
/// This much is written at once, however young: 64 KiB, what a pipe holds.
const BATCH: usize = 64 << 10;
/// What waits for a reader that stalls: 1 MiB. Lines beyond are lost, and counted.
const WAITING: usize = 1 << 20;
/// So long the end waits for a reader that stalls.
const PATIENCE: Duration = Duration::from_secs(1);

/// A place for lines.
#[derive(Clone)]
pub(super) struct Output(Arc<Shared>);

struct Shared {
    file: Mutex<Box<dyn Write + Send>>,
    lines: Mutex<Lines>,
    /// That there are lines, that they are to be written at once, or that the end has come.
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    state: State,
    waiting: Vec<u8>,
    /// Whether what waits is to be written at once.
    urgent: bool,
    /// Lines that found no room.
    lost: u64,
}

#[derive(Default, PartialEq)]
enum State {
    /// Lines are written where they are logged.
    #[default]
    Direct,
    /// Lines wait for the thread.
    Buffered,
    /// As before, but the thread goes when it has written what waits.
    Ending,
}

impl Output {
    pub(super) fn stderr() -> Self {
        // By a file of its own: whoever else writes to standard error does not wait for this one's lock.
        match stderr().as_fd().try_clone_to_owned() {
            Ok(descriptor) => Self::new(Box::new(File::from(descriptor))),
            Err(_) => Self::new(Box::new(stderr())),
        }
    }

    fn new(file: Box<dyn Write + Send>) -> Self {
        let (lines, changed) = (Mutex::default(), Condvar::new());
        Self(Arc::new(Shared { file: Mutex::new(file), lines, changed }))
    }

    /// From now on, and until the guard is dropped, a thread of its own writes. What libraries and this crate
    /// log there goes where the caller's logs go.
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

/// Writes one line, by one call.
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
        if lines.waiting.len() + line.len() > WAITING {
            lines.lost += 1;
            return Ok(line.len());
        }
        let was_at_rest = lines.waiting.is_empty();
        lines.waiting.extend_from_slice(line);
        let hurry = !lines.urgent && (self.urgent || lines.waiting.len() >= BATCH);
        lines.urgent |= hurry;
        drop(lines);
        if was_at_rest || hurry {
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

    /// What the thread does.
    fn write_lines(&self) {
        let mut batch = Vec::new();
        loop {
            let lost = {
                let Some(mut lines) = self.ripe() else { return };
                swap(&mut lines.waiting, &mut batch);
                lines.urgent = false;
                take(&mut lines.lost)
            };
            if self.write(&batch).is_err() {
                // Told when somebody reads again.
                self.lines().lost += lost;
            } else if lost > 0 {
                warn!(lost, "Log lines were lost: nobody read them in time.");
            }
            batch.clear();
            batch.shrink_to(BATCH);
        }
    }

    /// The lines as soon as they are to be written; none at the end.
    fn ripe(&self) -> Option<MutexGuard<'_, Lines>> {
        let at_rest =
            |lines: &mut Lines| lines.waiting.is_empty() && lines.state == State::Buffered;
        let young = |lines: &mut Lines| !lines.urgent && lines.state == State::Buffered;
        let lines = self.changed.wait_while(self.lines(), at_rest);
        let lines = lines.unwrap_or_else(PoisonError::into_inner);
        let (mut lines, _) = self
            .changed
            .wait_timeout_while(lines, COLLECTED, young)
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
                // Whoever shares standard error with us may have made it so.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::park_timeout(COLLECTED)
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// While this lives, a thread writes the lines. Dropped, it has written them, unless their reader stalls.
#[must_use]
pub struct WriterGuard(Output);

impl Drop for WriterGuard {
    fn drop(&mut self) {
        let shared = &self.0.0;
        let mut lines = shared.lines();
        lines.state = State::Ending;
        shared.changed.notify_all();
        let ending = |lines: &mut Lines| lines.state == State::Ending;
        // When nobody reads, nobody misses it.
        let _ = shared.changed.wait_timeout_while(lines, PATIENCE, ending);
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

    /// Runs `told` with logs that go behind its back into a pipe, which `read` then sees.
    fn logging<T>(told: impl FnOnce(&Output, BufReader<PipeReader>) -> T) -> T {
        let (reader, writer) = pipe().unwrap();
        let output = Output::new(Box::new(writer));
        let log = Log { level: LevelFilter::INFO, format: LogFormat::Json };
        let (subscriber, _) = subscriber(log, output.clone());
        tracing::subscriber::with_default(subscriber, || told(&output, BufReader::new(reader)))
    }

    fn line(reader: &mut impl BufRead) -> serde_json::Value {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    #[test]
    fn lines_come_in_order_whoever_writes_them() {
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
    fn a_reader_that_stalls_holds_nobody_up_and_learns_what_it_missed() {
        logging(|output, mut reader| {
            let writer = output.start_writer().unwrap();
            // More than the pipe, a batch and what may wait: this would block for ever.
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
            info!("Nobody hears this.");
            drop(writer);
            assert!(output.0.lines().state == State::Direct, "the thread has ended by itself");
        });
    }
}
