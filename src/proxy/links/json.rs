//! Rewrites the tenant's links in a JSON document while it streams through.
//!
//! The document is never held as a whole: a small state machine follows its structure, copies
//! everything in long runs, and holds back only the beginning of a string that may be a link.

mod escape;
mod scan;

use std::sync::Arc;

use memchr::{memmem, memrchr};

use self::escape::{Escape, Step, write_escaped, written_length};
use self::scan::{find_special, find_structure};
use super::origin::{Match, OriginMap};

/// A key with more bytes than this, escapes decoded, is no link key.
const LONGEST_KEY: usize = 256;
/// More open objects and arrays than this end the rewriting.
const DEEPEST: usize = 512;

/// Replaces the upstreams' origins in the links of one JSON document.
///
/// Only string values under link keys change (`@odata.nextLink`, `__next`, `uri`, ...), or strings
/// directly in an array under one. All other bytes stay as they are, malformed JSON included.
#[derive(Debug)]
pub struct JsonRewriter {
    map: Arc<OriginMap>,
    /// How many decoded bytes of a value decide whether it is replaced.
    window: usize,
    /// Whether a value with this first byte can be a link at all.
    can_start: [bool; 256],
    state: State,
    /// The innermost open container.
    top: Frame,
    /// The containers around it.
    parents: Vec<Frame>,
    /// Whether the next string is a key.
    expects_key: bool,
    /// What the last key says about its value, until the value is there.
    role: Role,
    /// Where the key or value that is decoded byte by byte stands.
    escape: Escape,
    /// That key or value, decoded as far as it came.
    decoded: Vec<u8>,
    /// The bytes of the undecided value as they were written, not yet in the output.
    held: Vec<u8>,
    rewritten: u64,
}

/// Which part of the document the next byte belongs to.
#[derive(Clone, Copy, Debug)]
enum State {
    /// Between strings: punctuation, whitespace, numbers and literals.
    Structure,
    /// In a key that has escapes or came in more than one chunk.
    Key,
    /// In the beginning of a link's value, which is held back.
    Start,
    /// In a string that stays as it is; `escaped` tells that a backslash came last.
    Body { escaped: bool },
    /// Rewriting has ended, the rest passes.
    Stopped,
}

/// An open container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    /// None: the top level of the document.
    Root,
    Object,
    /// The object under `__metadata`, where more keys are link keys.
    Metadata,
    Array,
    /// An array under a link key: its strings are links.
    Links,
}

/// What a key says about its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Role {
    #[default]
    Plain,
    Link,
    Metadata,
}

/// One call's input: up to `copied` it is in the output (or held back), up to `at` it is read.
struct Chunk<'a> {
    input: &'a [u8],
    at: usize,
    copied: usize,
    /// The last key. It is judged only when its value can be a link or is a container.
    key: Option<&'a [u8]>,
}

impl Chunk<'_> {
    /// Writes what is read but not written.
    fn copy(&mut self, output: &mut Vec<u8>) {
        output.extend_from_slice(self.input.get(self.copied..self.at).unwrap_or_default());
        self.copied = self.at;
    }
}

impl JsonRewriter {
    /// A rewriter for one document.
    pub fn new(map: Arc<OriginMap>) -> Self {
        let mut can_start = [false; 256];
        for (slot, byte) in can_start.iter_mut().zip(0_u8..=255) {
            // After a backslash anything may follow.
            *slot = byte == b'\\' || map.find(&[byte], false) != Match::No;
        }
        Self {
            window: map.longest(),
            map,
            can_start,
            state: State::Structure,
            top: Frame::Root,
            parents: Vec::new(),
            expects_key: false,
            role: Role::Plain,
            escape: Escape::None,
            decoded: Vec::new(),
            held: Vec::new(),
            rewritten: 0,
        }
    }

    /// Takes the next bytes of the document and appends what is decided to `output`.
    pub fn push(&mut self, input: &[u8], output: &mut Vec<u8>) {
        let mut chunk = Chunk { input, at: 0, copied: 0, key: None };
        while chunk.at < input.len() {
            match self.state {
                State::Structure => self.scan_structure(&mut chunk, output),
                State::Key => self.scan_key(&mut chunk),
                State::Start => self.scan_start(&mut chunk, output),
                State::Body { escaped } => self.skip_body(&mut chunk, escaped),
                State::Stopped => chunk.at = input.len(),
            }
        }
        self.judge_key(&mut chunk);
        chunk.copy(output);
    }

    /// Ends the document: what is held back is appended to `output` as it was written.
    pub fn finish(&mut self, output: &mut Vec<u8>) {
        output.append(&mut self.held);
        self.state = State::Stopped;
    }

    /// How many links were changed.
    pub const fn rewritten(&self) -> u64 {
        self.rewritten
    }

    /// Follows the structure up to a string that needs more than skipping.
    fn scan_structure(&mut self, chunk: &mut Chunk<'_>, output: &mut Vec<u8>) {
        while let Some(&byte) = chunk.input.get(chunk.at) {
            match byte {
                b'"' => {
                    chunk.at += 1;
                    if self.expects_key {
                        self.read_key(chunk);
                    } else if self.may_be_link(chunk) {
                        self.read_link(chunk, output);
                    } else {
                        self.skip_body(chunk, false);
                    }
                }
                b',' => {
                    self.expects_key = matches!(self.top, Frame::Object | Frame::Metadata);
                    chunk.at += 1;
                }
                b':' | b' ' => chunk.at += 1,
                b'{' | b'[' => self.open(byte, chunk),
                b'}' | b']' => self.close(byte, chunk),
                _ => chunk.at = find_structure(chunk.input, chunk.at + 1),
            }
            if !matches!(self.state, State::Structure) {
                return;
            }
        }
    }

    fn open(&mut self, byte: u8, chunk: &mut Chunk<'_>) {
        if self.parents.len() == DEEPEST {
            self.state = State::Stopped;
            return;
        }
        self.judge_key(chunk);
        let frame = match (byte, std::mem::take(&mut self.role)) {
            (b'{', Role::Metadata) => Frame::Metadata,
            (b'{', _) => Frame::Object,
            (_, Role::Link) => Frame::Links,
            _ => Frame::Array,
        };
        self.parents.push(self.top);
        self.top = frame;
        self.expects_key = byte == b'{';
        chunk.at += 1;
    }

    fn close(&mut self, byte: u8, chunk: &mut Chunk<'_>) {
        let is_object = matches!(self.top, Frame::Object | Frame::Metadata);
        match self.parents.pop() {
            Some(parent) if is_object == (byte == b'}') => self.top = parent,
            // Malformed: what follows cannot be told apart with certainty.
            _ => self.state = State::Stopped,
        }
        // A value has ended, so the key of the closed container says nothing any more.
        chunk.key = None;
        self.role = Role::Plain;
        self.expects_key = false;
        chunk.at += 1;
    }

    /// Turns the last key into a role, while its container is still the innermost one.
    fn judge_key(&mut self, chunk: &mut Chunk<'_>) {
        if let Some(key) = chunk.key.take() {
            self.role = role_of(key, self.top);
        }
    }

    /// Whether the value that begins here is under a link key and can be a link.
    fn may_be_link(&mut self, chunk: &mut Chunk<'_>) -> bool {
        // The first byte comes first: it rules out most values without a look at their keys.
        if let Some(&first) = chunk.input.get(chunk.at)
            && !self.can_start.get(usize::from(first)).copied().unwrap_or_default()
        {
            (chunk.key, self.role) = (None, Role::Plain);
            return false;
        }
        self.judge_key(chunk);
        std::mem::take(&mut self.role) == Role::Link || self.top == Frame::Links
    }

    /// Reads a key, in one go where it is whole and without escapes.
    fn read_key(&mut self, chunk: &mut Chunk<'_>) {
        self.expects_key = false;
        let end = find_special(chunk.input, chunk.at);
        if chunk.input.get(end) == Some(&b'"') {
            chunk.key = chunk.input.get(chunk.at..end);
            chunk.at = end + 1;
            return;
        }
        chunk.key = None;
        self.role = Role::Plain;
        self.begin_decoding(State::Key);
    }

    fn begin_decoding(&mut self, state: State) {
        self.state = state;
        self.escape = Escape::None;
        self.decoded.clear();
    }

    /// Decodes a key byte by byte.
    fn scan_key(&mut self, chunk: &mut Chunk<'_>) {
        while let Some(&byte) = chunk.input.get(chunk.at) {
            match self.escape.step(byte) {
                Step::More => {}
                Step::Decoded { byte, width } => {
                    self.decoded.extend(std::iter::repeat_n(byte, width));
                }
                Step::End => {
                    chunk.at += 1;
                    self.role = role_of(&self.decoded, self.top);
                    self.state = State::Structure;
                    return;
                }
                Step::Malformed => {
                    self.state = State::Body { escaped: false };
                    return;
                }
            }
            chunk.at += 1;
            if self.decoded.len() > LONGEST_KEY {
                self.state = State::Body { escaped: false };
                return;
            }
        }
    }

    /// Judges a value under a link key, in one go where enough of it is here without escapes.
    fn read_link(&mut self, chunk: &mut Chunk<'_>, output: &mut Vec<u8>) {
        let limit = chunk.input.len().min(chunk.at + self.window);
        let end = find_special(chunk.input.get(..limit).unwrap_or_default(), chunk.at);
        let is_whole = chunk.input.get(end) == Some(&b'"');
        let start = chunk.input.get(chunk.at..end).unwrap_or_default();
        if !is_whole && start.len() < self.window {
            chunk.copy(output);
            self.begin_decoding(State::Start);
            return;
        }
        if let Match::Replace { length, with } = self.map.find(start, is_whole) {
            chunk.copy(output);
            write_escaped(with, output);
            self.rewritten += 1;
            chunk.at += length;
            chunk.copied = chunk.at;
        }
        self.skip_body(chunk, false);
    }

    /// Decodes the beginning of a link's value byte by byte until it is judged.
    fn scan_start(&mut self, chunk: &mut Chunk<'_>, output: &mut Vec<u8>) {
        while let Some(&byte) = chunk.input.get(chunk.at) {
            let step = self.escape.step(byte);
            let is_whole = matches!(step, Step::End);
            match step {
                Step::Malformed => {
                    output.append(&mut self.held);
                    self.state = State::Body { escaped: false };
                    return;
                }
                Step::Decoded { byte, width } => {
                    self.decoded.extend(std::iter::repeat_n(byte, width));
                }
                Step::More | Step::End => {}
            }
            self.held.push(byte);
            chunk.at += 1;
            chunk.copied = chunk.at;
            if matches!(step, Step::More) {
                continue;
            }
            // The whole window is waited for, so that chunks make no difference where one origin
            // is the beginning of another, and the map is asked once.
            if is_whole || self.decoded.len() >= self.window {
                let replaced = match self.map.find(&self.decoded, is_whole) {
                    Match::Replace { length, with } => {
                        write_escaped(with, output);
                        self.rewritten += 1;
                        written_length(&self.held, length)
                    }
                    Match::No | Match::NeedsMore => 0,
                };
                output.extend_from_slice(self.held.get(replaced..).unwrap_or_default());
                self.held.clear();
                self.state =
                    if is_whole { State::Structure } else { State::Body { escaped: false } };
                return;
            }
        }
    }

    /// Skips the rest of a string.
    fn skip_body(&mut self, chunk: &mut Chunk<'_>, escaped: bool) {
        let mut at = chunk.at + usize::from(escaped);
        loop {
            at = find_special(chunk.input, at);
            match chunk.input.get(at) {
                Some(b'"') => {
                    chunk.at = at + 1;
                    self.state = State::Structure;
                    return;
                }
                Some(_) => at += 2,
                None => {
                    // One past the end: the byte after the backslash is yet to come.
                    self.state = State::Body { escaped: at > chunk.input.len() };
                    chunk.at = chunk.input.len();
                    return;
                }
            }
        }
    }
}

/// What a key says about its value, in this container.
fn role_of(key: &[u8], container: Frame) -> Role {
    const SHORT_FORMS: [&[u8]; 6] =
        [b"nextLink", b"context", b"deltaLink", b"id", b"editLink", b"readLink"];
    if key.len() > LONGEST_KEY {
        return Role::Plain;
    }
    let is_link = match key {
        b"__metadata" => return Role::Metadata,
        b"__next" | b"uri" | b"location" | b"$ref" => true,
        b"id" | b"edit_media" | b"media_src" => container == Frame::Metadata,
        _ => {
            let suffix = memrchr(b'@', key).and_then(|at| key.get(at + 1..));
            // The catalog's. Other keys of that ending are data, which a caller may write back.
            key.starts_with(b"asset") && key.ends_with(b"Url")
                || suffix.is_some_and(|suffix| {
                    SHORT_FORMS.contains(&suffix) || memmem::find(key, b"@odata.").is_some()
                })
        }
    };
    if is_link { Role::Link } else { Role::Plain }
}

#[cfg(test)]
mod tests;
