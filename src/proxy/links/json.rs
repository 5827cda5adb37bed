//! Rewrites the tenant's links in a JSON document while it streams through.
//!
//! The document is never held as a whole. Bit masks find its brackets and the strings that begin
//! like a link, and only for these the key before them is looked up. All other bytes are copied in
//! long runs. Only the beginning of a string that may be a link is held back.

mod chunk;
mod context;
mod escape;
mod keys;
mod scan;

use std::sync::Arc;

use memchr::memchr;

use self::chunk::{Before, Chunk};
use self::context::Probe;
use self::escape::{Decoder, Stop, write_escaped};
use self::keys::{Frame, LONGEST_KEY, Role, role_of};
use self::scan::{Class, Strings};
use super::header_kind::HeaderKind;
use super::origin::{Match, OriginMap};

/// The largest number of open objects and arrays. Deeper nesting ends the rewriting.
const DEEPEST: usize = 512;
/// The longest value of a header in a batch, which is held as a whole. A longer one passes.
const LONGEST_HEADER: usize = 8 * 1024;

/// Replaces the upstreams' origins in the links of one JSON document.
///
/// Only string values under link keys change (`@odata.nextLink`, `__next`, `uri`, ...), or strings
/// directly in an array under one. All other bytes stay as they are, malformed JSON included.
#[derive(Debug)]
pub struct JsonRewriter {
    map: Arc<OriginMap>,
    /// How many decoded bytes of a value decide whether it is replaced.
    window: usize,
    /// The first bytes of a link, apart from a slash or an escape.
    starts: Class,
    state: State,
    /// Whether the next byte is within a string.
    strings: Strings,
    /// The innermost open container.
    top: Frame,
    /// The containers around it.
    parents: Vec<Frame>,
    /// The text before the bytes that are being scanned, if these are in an object.
    before: Before,
    /// The key or value that is being decoded.
    decoder: Decoder,
    /// The bytes of the undecided value as they were written, not yet in the output.
    held: Vec<u8>,
    /// Reads the context of the innermost object.
    probe: Probe,
    /// Rewrites the value of a header in a batch.
    rewrite_header: RewriteHeader,
    rewritten: u64,
}

/// Returns the new value of a header, if it changes.
pub(super) type RewriteHeader = fn(HeaderKind, &str, &Arc<OriginMap>) -> Option<String>;

/// What happens to the next byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The byte is scanned.
    Scan,
    /// The byte continues a key that began in an earlier chunk.
    Key,
    /// The byte continues the beginning of a link, which is held back.
    Link,
    /// The byte continues a header's value, which is held back.
    Header(HeaderKind),
    /// The byte passes: rewriting has ended.
    Stopped,
}

impl JsonRewriter {
    /// A rewriter for one document.
    pub fn new(map: Arc<OriginMap>) -> Self {
        Self {
            window: map.longest(),
            starts: Class::covering(map.first_bytes()),
            map,
            state: State::Scan,
            strings: Strings::default(),
            top: Frame::Root,
            parents: Vec::new(),
            before: Before::Other,
            decoder: Decoder::default(),
            held: Vec::new(),
            probe: Probe::default(),
            rewrite_header: |_, _, _| None,
            rewritten: 0,
        }
    }

    /// A rewriter for the response to a batch. `rewrite_header` changes the headers of each
    /// response in it.
    pub(super) fn with_header_values(map: Arc<OriginMap>, rewrite_header: RewriteHeader) -> Self {
        let starts = Class::covering(map.first_bytes().chain(HeaderKind::first_bytes()));
        Self { top: Frame::AnswerRoot, starts, rewrite_header, ..Self::new(map) }
    }

    /// A rewriter for one batch of requests, in which the URL of each request is a link, too.
    pub fn for_batch_request(map: Arc<OriginMap>) -> Self {
        Self { top: Frame::BatchRoot, ..Self::new(map) }
    }

    /// Takes the next bytes of the document and appends what is decided to `output`.
    pub fn push(&mut self, input: &[u8], output: &mut Vec<u8>) {
        let mut chunk = Chunk::new(input);
        if self.probe.is_open() {
            self.top = self.probe.read(input).unwrap_or(self.top);
        }
        while chunk.at < input.len() {
            match self.state {
                State::Scan => self.scan(&mut chunk, output),
                State::Key => self.continue_key(&mut chunk),
                State::Link => self.continue_link(&mut chunk, output),
                State::Header(kind) => self.continue_header(kind, &mut chunk, output),
                State::Stopped => chunk.at = input.len(),
            }
        }
        chunk.copy(chunk.at, output);
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

    /// Scans the rest of the chunk, or up to a link that the next chunk decides on.
    fn scan(&mut self, chunk: &mut Chunk<'_>, output: &mut Vec<u8>) {
        chunk.floor = chunk.at + usize::from(self.strings.is_escaped());
        while chunk.at < chunk.input.len() {
            let block = chunk.at;
            let (length, events) = self.strings.read(chunk.rest(), self.starts);
            let mut rest = events.marks | events.starts;
            while rest != 0 {
                let bit = rest & rest.wrapping_neg();
                rest ^= bit;
                let at = block + bit.trailing_zeros() as usize;
                if events.starts & bit == 0 {
                    self.follow(at, chunk);
                // A string that was opened by the last chunk is classified already.
                } else if let Some(opening) = at.checked_sub(1) {
                    let role = self.string_role(opening, chunk);
                    self.handle_string(role, at, chunk, output);
                }
                if self.state != State::Scan {
                    return;
                }
            }
            chunk.at = block + length;
        }
        self.suspend(chunk, output);
    }

    /// Follows the structure at a bracket or backslash.
    fn follow(&mut self, at: usize, chunk: &Chunk<'_>) {
        match chunk.input.get(at) {
            Some(b'{') => self.open(at, chunk, true),
            Some(b'[') => self.open(at, chunk, false),
            Some(b'}') => self.close(true),
            Some(b']') => self.close(false),
            // Malformed: the structure of what follows is not certain.
            Some(b'\\') => self.state = State::Stopped,
            _ => {}
        }
    }

    fn open(&mut self, at: usize, chunk: &Chunk<'_>, is_object: bool) {
        if self.parents.len() == DEEPEST {
            self.state = State::Stopped;
            return;
        }
        let mut frame = self.top.inner(is_object, self.role_at(at, chunk));
        if frame == Frame::Object {
            let inside = chunk.input.get(at + 1..).unwrap_or_default();
            frame = self.probe.begin(inside).unwrap_or(frame);
        }
        self.parents.push(self.top);
        self.top = frame;
    }

    fn close(&mut self, is_object: bool) {
        match self.parents.pop() {
            Some(parent) if self.top.is_object() == is_object => self.top = parent,
            // Malformed, as in `follow`.
            _ => self.state = State::Stopped,
        }
    }

    /// The role of the string that opens here: by its key, by its array, or as a key.
    fn string_role(&mut self, opening: usize, chunk: &Chunk<'_>) -> Role {
        if self.top == Frame::Links {
            return Role::Link;
        }
        match self.before(opening, chunk) {
            Before::Colon(role) => role,
            _ if self.top.has_urls_as_keys() => Role::Link,
            Before::String(_) | Before::Other => Role::Plain,
        }
    }

    /// The role of the value that begins here, by its key.
    fn role_at(&mut self, at: usize, chunk: &Chunk<'_>) -> Role {
        match self.before(at, chunk) {
            Before::Colon(role) => role,
            Before::String(_) | Before::Other => Role::Plain,
        }
    }

    /// The text before this place. It only matters in objects, since only they have keys.
    fn before(&mut self, at: usize, chunk: &Chunk<'_>) -> Before {
        if !self.top.is_object() {
            return Before::Other;
        }
        match chunk.last(at) {
            Some((colon, b':')) => Before::Colon(self.role_before(colon, chunk)),
            Some((_, b'"')) => Before::String(self.role_before(at, chunk)),
            Some(_) => Before::Other,
            None => self.before,
        }
    }

    /// The role that the string before this place gives to its value, if a string is there.
    fn role_before(&mut self, at: usize, chunk: &Chunk<'_>) -> Role {
        match (chunk.last(at), self.before) {
            (Some((quote, b'"')), _) => self.role_of_string(quote, chunk),
            (None, Before::String(role)) => role,
            _ => Role::Plain,
        }
    }

    /// The role that the string which ends with this quote gives to its value.
    fn role_of_string(&mut self, quote: usize, chunk: &Chunk<'_>) -> Role {
        let Some(opening) = chunk.opening(quote).filter(|&at| !self.is_value(at, chunk)) else {
            return Role::Plain;
        };
        let key = chunk.input.get(opening + 1..quote).unwrap_or_default();
        if memchr(b'\\', key).is_none() {
            return role_of(key, self.top);
        }
        // With its quote, which may cut off an escape.
        let key = chunk.input.get(opening + 1..=quote).unwrap_or_default();
        self.decoder.clear();
        match self.decoder.read(key, LONGEST_KEY + 1) {
            (_, Stop::End) => role_of(self.decoder.text(), self.top),
            _ => Role::Plain,
        }
    }

    /// Whether the string that opens here in an object comes after a colon, so that it is not a
    /// key.
    fn is_value(&self, opening: usize, chunk: &Chunk<'_>) -> bool {
        match chunk.last(opening) {
            Some((_, byte)) => byte == b':',
            None => matches!(self.before, Before::Colon(_)),
        }
    }

    /// Handles the string that begins here by its role.
    fn handle_string(
        &mut self,
        role: Role,
        at: usize,
        chunk: &mut Chunk<'_>,
        output: &mut Vec<u8>,
    ) {
        match role {
            Role::Link => self.decide_link(at, chunk, output),
            Role::Header(kind) => {
                chunk.copy(at, output);
                chunk.at = at;
                self.decoder.clear();
                self.state = State::Header(kind);
            }
            _ => {}
        }
    }

    /// Replaces the origin of the link that begins here, if it is an upstream's.
    fn decide_link(&mut self, at: usize, chunk: &mut Chunk<'_>, output: &mut Vec<u8>) {
        let rest = chunk.input.get(at..).unwrap_or_default();
        self.decoder.clear();
        match self.decoder.read(rest, self.window) {
            (_, Stop::Malformed) => {}
            (_, Stop::Input) => {
                chunk.copy(at, output);
                self.held.extend_from_slice(rest);
                chunk.at = chunk.input.len();
                chunk.copied = chunk.at;
                self.state = State::Link;
            }
            (_, stop) => {
                let found = self.map.find(self.decoder.text(), stop == Stop::End);
                if let Match::Replace { length, with } = found {
                    chunk.copy(at, output);
                    write_escaped(with, output);
                    chunk.copied += self.decoder.written_length(rest, length);
                    self.rewritten += 1;
                }
            }
        }
    }

    /// Keeps what the next chunk needs: the text before it, or the string that continues in it.
    fn suspend(&mut self, chunk: &mut Chunk<'_>, output: &mut Vec<u8>) {
        let end = chunk.input.len();
        if !self.strings.is_inside() {
            self.before = self.before(end, chunk);
            return;
        }
        // Without an opening quote in this chunk it is a value, or an unknown key.
        if let Some(opening) = chunk.opening(end) {
            let role = match opening + 1 == end {
                true => self.string_role(opening, chunk),
                false => Role::Plain,
            };
            if matches!(role, Role::Link | Role::Header(_)) {
                // No byte of it has arrived yet.
                self.handle_string(role, end, chunk, output);
            } else if self.top.is_object() && !self.is_value(opening, chunk) {
                self.decoder.clear();
                self.state = State::Key;
                chunk.at = opening + 1;
            }
        }
    }

    /// Decodes more of a key.
    fn continue_key(&mut self, chunk: &mut Chunk<'_>) {
        let (taken, stop) = self.decoder.read(chunk.rest(), LONGEST_KEY + 1);
        chunk.at += taken;
        match stop {
            Stop::Input => {}
            Stop::End => self.resume(false, role_of(self.decoder.text(), self.top)),
            Stop::Enough | Stop::Malformed => self.resume(true, Role::Plain),
        }
    }

    /// Decodes more of a link that is held back, until it is decided.
    fn continue_link(&mut self, chunk: &mut Chunk<'_>, output: &mut Vec<u8>) {
        let rest = chunk.rest();
        let (taken, stop) = self.decoder.read(rest, self.window);
        self.held.extend_from_slice(rest.get(..taken).unwrap_or_default());
        chunk.at += taken;
        chunk.copied = chunk.at;
        if stop == Stop::Input {
            return;
        }
        let replaced = match self.map.find(self.decoder.text(), stop == Stop::End) {
            Match::Replace { length, with } if stop != Stop::Malformed => {
                write_escaped(with, output);
                self.rewritten += 1;
                self.decoder.written_length(&self.held, length)
            }
            _ => 0,
        };
        output.extend_from_slice(self.held.get(replaced..).unwrap_or_default());
        self.held.clear();
        self.resume(stop != Stop::End, Role::Plain);
    }

    /// Decodes more of a header's value, until it is complete.
    fn continue_header(&mut self, kind: HeaderKind, chunk: &mut Chunk<'_>, output: &mut Vec<u8>) {
        let rest = chunk.rest();
        let (taken, stop) = self.decoder.read(rest, LONGEST_HEADER);
        self.held.extend_from_slice(rest.get(..taken).unwrap_or_default());
        chunk.at += taken;
        chunk.copied = chunk.at;
        if stop == Stop::Input {
            return;
        }
        let text = str::from_utf8(self.decoder.text()).ok().filter(|_| stop == Stop::End);
        match text.and_then(|text| (self.rewrite_header)(kind, text, &self.map)) {
            Some(ours) => {
                write_escaped(&ours, output);
                output.push(b'"');
                self.rewritten += u64::from(kind != HeaderKind::Tag);
            }
            None => output.extend_from_slice(&self.held),
        }
        self.held.clear();
        self.resume(stop != Stop::End, Role::Plain);
    }

    /// Resumes scanning after a string with this role as a key, or within a string.
    fn resume(&mut self, is_inside: bool, role: Role) {
        self.state = State::Scan;
        self.strings = Strings::at(is_inside);
        self.before = Before::String(role);
    }
}

#[cfg(test)]
mod tests;
