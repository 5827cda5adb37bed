//! Rewrites the tenant's links in a JSON document while it streams through.
//!
//! The document is never held as a whole: a small state machine follows its structure, copies
//! everything in long runs, and holds back only the beginning of a string that may be a link.

use std::sync::Arc;

use memchr::{memchr2, memmem, memrchr};

use super::origin::{Match, OriginMap};

/// A key with more bytes than this, escapes decoded, is no link key.
const LONGEST_KEY: usize = 256;
/// More open objects and arrays than this end the rewriting.
const DEEPEST: usize = 512;
/// How many bytes are compared at once; the compiler makes one vector instruction of them.
const BLOCK: usize = 16;

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
            key.ends_with(b"Url")
                || suffix.is_some_and(|suffix| {
                    SHORT_FORMS.contains(&suffix) || memmem::find(key, b"@odata.").is_some()
                })
        }
    };
    if is_link { Role::Link } else { Role::Plain }
}

/// Where the next quote or backslash is; the length of `input`, or `from` beyond it, if nowhere.
fn find_special(input: &[u8], from: usize) -> usize {
    let is_special = |byte| (byte == b'"') | (byte == b'\\');
    let mut at = from;
    // Most strings are short, and end before a call of `memchr2` pays off.
    for _ in 0..2 {
        match find_in_block(input, at, is_special) {
            Some(Some(found)) => return found,
            Some(None) => at += BLOCK,
            None => break,
        }
    }
    match input.get(at..).map(|rest| memchr2(b'"', b'\\', rest)) {
        Some(Some(found)) => at + found,
        Some(None) => input.len(),
        None => from,
    }
}

/// Where the next byte is that [`JsonRewriter::scan_structure`] acts on; `input`'s length if nowhere.
fn find_structure(input: &[u8], from: usize) -> usize {
    // With bit 5 set, brackets are braces.
    let acts =
        |byte: u8| (byte == b'"') | (byte == b',') | (byte | 0x20 == b'{') | (byte | 0x20 == b'}');
    let mut at = from;
    loop {
        match find_in_block(input, at, acts) {
            Some(Some(found)) => return found,
            Some(None) => at += BLOCK,
            None => break,
        }
    }
    let rest = input.get(at..).unwrap_or_default();
    rest.iter().position(|&byte| acts(byte)).map_or(input.len(), |found| at + found)
}

/// Where the first wanted byte is in the block at `at`; nothing if there is no whole block.
#[inline(always)]
fn find_in_block(input: &[u8], at: usize, wanted: impl Fn(u8) -> bool) -> Option<Option<usize>> {
    let block = input.get(at..)?.first_chunk::<BLOCK>()?;
    // All bytes are compared without a branch, which vectorizes; the first hit is the lowest bit.
    let hits = u128::from_le_bytes(block.map(|byte| if wanted(byte) { 0xFF } else { 0 }));
    Some((hits != 0).then(|| at + hits.trailing_zeros() as usize / 8))
}

/// How many of these bytes of a string make up so many decoded ones.
fn written_length(written: &[u8], decoded: usize) -> usize {
    let (mut escape, mut count) = (Escape::None, 0);
    let is_enough = |&byte: &u8| {
        let before = count;
        if let Step::Decoded { width, .. } = escape.step(byte) {
            count += width;
        }
        before == decoded
    };
    written.iter().position(is_enough).unwrap_or(written.len())
}

/// Writes a text as a part of a JSON string.
fn write_escaped(text: &str, output: &mut Vec<u8>) {
    let is_special = |&byte: &u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    if !text.as_bytes().iter().any(is_special) {
        return output.extend_from_slice(text.as_bytes());
    }
    for byte in text.bytes() {
        if is_special(&byte) {
            output.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
        } else {
            output.push(byte);
        }
    }
}

/// Where the decoding of a JSON string stands.
#[derive(Clone, Copy, Debug)]
enum Escape {
    None,
    Backslash,
    /// After `\u` and so many of its four digits.
    Unicode {
        digits: u8,
        unit: u16,
    },
}

/// What one more byte of a JSON string brings.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Nothing yet.
    More,
    /// A character, as `width` times `byte`.
    Decoded { byte: u8, width: usize },
    /// The quote that ends the string.
    End,
    /// This byte cannot follow; it is not taken.
    Malformed,
}

impl Escape {
    fn step(&mut self, byte: u8) -> Step {
        let one = |byte| Step::Decoded { byte, width: 1 };
        let (next, step) = match (*self, byte) {
            (Self::None, b'"') => (Self::None, Step::End),
            (Self::None, b'\\') => (Self::Backslash, Step::More),
            (Self::None, _) => (Self::None, one(byte)),
            (Self::Backslash, b'u') => (Self::Unicode { digits: 0, unit: 0 }, Step::More),
            (Self::Backslash, b'"' | b'\\' | b'/') => (Self::None, one(byte)),
            (Self::Backslash, b'b' | b'f' | b'n' | b'r' | b't') => (Self::None, one(b'\n')),
            (Self::Backslash, _) => (Self::None, Step::Malformed),
            (Self::Unicode { digits, unit }, _) => match char::from(byte).to_digit(16) {
                None => (Self::None, Step::Malformed),
                Some(digit) => {
                    let unit = unit << 4 | digit as u16;
                    if digits < 3 {
                        (Self::Unicode { digits: digits + 1, unit }, Step::More)
                    } else {
                        (Self::None, decoded_unit(unit))
                    }
                }
            },
        };
        *self = next;
        step
    }
}

/// A UTF-16 code unit. All that is looked for is ASCII, so that of others only the length counts.
fn decoded_unit(unit: u16) -> Step {
    match unit {
        0..0x80 => Step::Decoded { byte: unit.to_le_bytes()[0], width: 1 },
        // A surrogate is one half of a character of four bytes.
        0x80..0x800 | 0xD800..0xE000 => Step::Decoded { byte: 0xFF, width: 2 },
        _ => Step::Decoded { byte: 0xFF, width: 3 },
    }
}

#[cfg(test)]
mod tests;
