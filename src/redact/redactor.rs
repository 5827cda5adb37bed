//! Removing secrets from a body that comes in chunks.

use super::findings::Findings;
use super::runs::first_run;
use super::secrets::{REMOVED, Secrets};
use bytes::Bytes;

/// The byte that fills up the place of a secret, so that a body keeps its length.
const FILLER: u8 = b'*';
/// How many bytes of a body are searched: errors, and responses that repeat a request, are short.
pub(super) const LOOKED_AT: usize = 64 * 1024;
/// The longest possible beginning of a secret that is held back. A longer one is removed, with all
/// that continues it.
pub(super) const LONGEST_HELD: usize = LOOKED_AT;
/// How many times the body's length so far may be searched again with later chunks. Chunks of one
/// byte would make the search quadratic.
pub(super) const AGAIN: usize = 8;
/// How many more bytes may be searched again: the first small chunks of a slow stream pass at once.
pub(super) const SPARE: usize = 16 * 1024;

/// Removes secrets from a body that comes in chunks. The body keeps its length.
///
/// The possible beginning of a secret is held back, at most [`LONGEST_HELD`] bytes. If many small
/// chunks have used up what may be searched again, further bytes wait for the next search: up to an
/// eighth of what is held and kept. All bytes are passed on with the end of the body at the latest.
pub(crate) struct Redactor {
    secrets: Secrets,
    /// How many bytes of the body were passed on.
    seen: usize,
    /// How many bytes of the body were taken.
    taken: usize,
    /// The end of what was taken, which may be the beginning of a secret.
    pub(super) held: Vec<u8>,
    /// How many bytes at the end of `held` were not searched yet.
    waiting: usize,
    /// The bytes before `held`, which were passed on. A secret may have begun in them.
    pub(super) passed: Vec<u8>,
    /// How many bytes were searched again.
    again: usize,
    /// Whether the next bytes belong to a secret that is too long to be held.
    is_removing: bool,
}

impl Redactor {
    pub(crate) const fn new(secrets: Secrets) -> Self {
        Self {
            secrets,
            seen: 0,
            taken: 0,
            held: Vec::new(),
            waiting: 0,
            passed: Vec::new(),
            again: 0,
            is_removing: false,
        }
    }

    /// Removes secrets from the next chunk of a body. Returns how many there were.
    pub(crate) fn redact_chunk(&mut self, chunk: &mut Option<Bytes>, is_end: bool) -> usize {
        let left = LOOKED_AT.saturating_sub(self.seen);
        if left == 0 && self.held.is_empty() {
            if self.is_removing
                && let Some(input) = chunk
            {
                *input = self.without_run(input).into();
            }
            return 0;
        }
        let input = chunk.take().unwrap_or_default();
        if left == 0 || input.len() <= left {
            let (output, count) = self.clean(&input, is_end);
            *chunk = output.map_or_else(|| some(input), |output| some(output.into()));
            return count;
        }
        // The rest of a large chunk is not searched.
        let (first, rest) = (input.slice(..left), input.slice(left..));
        let (first_output, first_count) = self.clean(&first, false);
        let (rest_output, rest_count) = match self.held.is_empty() {
            true if self.is_removing => (Some(self.without_run(&rest)), 0),
            true => (None, 0),
            false => self.clean(&rest, is_end),
        };
        *chunk = some(match (first_output, rest_output) {
            (None, None) => input,
            (first_output, rest_output) => {
                let first = first_output.map_or(first, Bytes::from);
                let rest = rest_output.map_or(rest, Bytes::from);
                [first, rest].concat().into()
            }
        });
        first_count + rest_count
    }

    /// The chunk without secrets, if it changes.
    fn clean(&mut self, input: &[u8], is_end: bool) -> (Option<Vec<u8>>, usize) {
        self.taken += input.len();
        let is_alone = self.held.is_empty() && !self.secrets.may_continue(self.passed.len(), input);
        if is_alone {
            let found = self.secrets.find(input, !is_end);
            self.passed.clear();
            if found.places.is_empty() && found.open.is_empty() {
                // As nearly always.
                if let Some(again) = found.again {
                    self.passed.extend_from_slice(input.get(again..).unwrap_or_default());
                }
                self.seen += input.len();
                return (None, 0);
            }
            return self.replace(input.to_vec(), &found, is_end);
        }
        let again = self.again + self.passed.len() + self.held.len() - self.waiting;
        if !is_end && again > SPARE + AGAIN * self.taken {
            self.held.extend_from_slice(input);
            self.waiting += input.len();
            return (Some(Vec::new()), 0);
        }
        (self.again, self.waiting) = (again, 0);
        let mut body = std::mem::take(&mut self.passed);
        let passed = body.len();
        body.append(&mut self.held);
        body.extend_from_slice(input);
        let found = self.secrets.find(&body, !is_end);
        self.passed = body.get(..passed).unwrap_or_default().to_vec();
        self.replace(body, &found, is_end)
    }

    /// Replaces what was found in `body`, which begins with bytes that were passed on, and holds
    /// back the possible beginning of another secret.
    fn replace(
        &mut self,
        mut body: Vec<u8>,
        found: &Findings,
        is_end: bool,
    ) -> (Option<Vec<u8>>, usize) {
        let (passed, mut count) = (self.passed.len(), found.places.len());
        for place in &found.places {
            if let Some(place) = body.get_mut(place.clone()) {
                remove(place);
            }
        }
        self.held.clear();
        self.passed.clear();
        if !is_end {
            if let Some(open) = found.first_open() {
                self.held = body.split_off(open.max(passed));
            }
            // A secret in `held` may have begun in bytes that were passed on.
            let again = found.again.and_then(|again| body.get(again..));
            self.passed.extend_from_slice(again.unwrap_or_default());
        }
        // A secret's replacement has the length of the secret.
        body.drain(..passed.min(body.len()));
        if self.held.len() > LONGEST_HELD {
            self.is_removing = true;
            count += 1;
            remove(&mut self.held);
            body.append(&mut self.held);
        }
        self.seen += body.len();
        (Some(body), count)
    }

    /// A chunk without the rest of a secret that was too long to be held, which ends with the run
    /// of plain bytes.
    fn without_run(&mut self, input: &[u8]) -> Vec<u8> {
        let mut output = input.to_vec();
        let (run, rest) = output.split_at_mut(first_run(input));
        run.fill(FILLER);
        self.is_removing = rest.is_empty();
        output
    }
}

/// Overwrites a secret, or a part of one.
fn remove(place: &mut [u8]) {
    place.fill(FILLER);
    if let Some(start) = place.get_mut(..REMOVED.len()) {
        start.copy_from_slice(REMOVED.as_bytes());
    }
}

/// An empty chunk would end a chunked body.
fn some(chunk: Bytes) -> Option<Bytes> {
    (!chunk.is_empty()).then_some(chunk)
}
