//! Rewrites the upstreams' links in XML (Atom feeds and `$metadata`) while it streams through.
//!
//! The tokenizer knows as much of XML 1.0 as it needs to distinguish start tags and their
//! attributes from comments, CDATA sections, processing instructions and the DOCTYPE. It does not
//! check well-formedness. If it does not understand the markup, it passes the rest unchanged.

mod names;

use std::sync::Arc;

use memchr::{memchr, memchr2};

use self::names::{Element, NAME_LIMIT};
use super::origin::{Match, OriginMap};

/// The byte that ends the text of an element.
const TEXT_END: u8 = b'<';

/// The bytes held back for each byte of an origin: room for a character reference (`&#x002f;`).
const REFERENCE_LENGTH: usize = 8;

/// Rewrites the upstreams' links in an XML document that arrives in chunks of any size.
///
/// Links are the values of some attributes, of more on certain elements, and the texts of some
/// elements. Everything else passes byte for byte.
#[derive(Clone, Debug)]
pub struct XmlRewriter {
    map: Arc<OriginMap>,
    state: State,
    /// The name being read, at most [`NAME_LIMIT`] bytes of it; already written to the output.
    name: Vec<u8>,
    /// The beginning of a link that is not decided yet; not yet written to the output.
    held: Vec<u8>,
    /// The element of the current start tag.
    element: Element,
    /// Whether an absolute path counts as a link, at a place where a link may be.
    takes_paths: bool,
    /// How many `<` of a DOCTYPE are open; 0 outside of it.
    depth: usize,
    rewritten: u64,
}

/// The part of the document that the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Character data.
    Text,
    /// After a `<`, as long as it is not clear what it opens.
    Opening,
    /// A comment, CDATA section or processing instruction. It ends at a `>` after `needed` times
    /// `mark`, and the last `run` bytes were marks.
    Section { mark: u8, needed: usize, run: usize },
    /// A DOCTYPE, outside of its literals.
    Doctype,
    /// A literal in a DOCTYPE, up to this quote.
    DoctypeLiteral(u8),
    /// An end tag.
    EndTag,
    /// The name of a start tag.
    TagName,
    /// Between the attributes of a start tag. Without white space, no attribute may follow.
    Tag { spaced: bool },
    /// After the `/` of an empty-element tag.
    Slash,
    /// The name of an attribute.
    AttributeName,
    /// Before the `=` of an attribute.
    Equals,
    /// Before the opening quote of an attribute's value.
    Quote,
    /// An attribute's value up to this quote, of which nothing is held back.
    Value(u8),
    /// The white space after the start tag of an element whose text is a link.
    TextSpace,
    /// The beginning of a link, held back until it is decided. The link ends at this quote, or at
    /// [`TEXT_END`] in a text.
    Link(u8),
    /// After a `<` (not yet written) that followed an undecided link in a text.
    TextClose,
    /// The markup is malformed, or the document is over: everything passes.
    Passive,
}

impl XmlRewriter {
    /// A rewriter for one document.
    pub fn new(map: Arc<OriginMap>) -> Self {
        Self {
            map,
            state: State::Text,
            name: Vec::with_capacity(NAME_LIMIT),
            held: Vec::new(),
            element: Element::Other,
            takes_paths: false,
            depth: 0,
            rewritten: 0,
        }
    }

    /// Takes the next chunk of the document and appends to `output` what is decided by now.
    pub fn push(&mut self, input: &[u8], output: &mut Vec<u8>) {
        // What lies between `copied` and `at` passes as it is, and is copied in one go.
        let (mut copied, mut at) = (0, 0);
        while let Some(rest) = input.get(at..).filter(|rest| !rest.is_empty()) {
            match self.state {
                State::Link(end) => {
                    output.extend_from_slice(input.get(copied..at).unwrap_or_default());
                    at += self.take_link(end, rest, output);
                    copied = at;
                }
                State::TextClose => {
                    // Before a comment or CDATA section the text would continue after it.
                    let is_whole = rest.first() == Some(&b'/');
                    let found = find_origin(&self.map, &self.held, self.takes_paths, is_whole);
                    self.rewritten += release(&mut self.held, found, output);
                    output.push(b'<');
                    self.open();
                }
                _ => at += self.pass(rest),
            }
        }
        output.extend_from_slice(input.get(copied..at).unwrap_or_default());
    }

    /// Ends the document: appends to `output` what is held back, as it came.
    pub fn finish(&mut self, output: &mut Vec<u8>) {
        output.append(&mut self.held);
        if self.state == State::TextClose {
            output.push(b'<');
        }
        self.state = State::Passive;
    }

    /// How many links have been changed.
    pub fn rewritten(&self) -> u64 {
        self.rewritten
    }

    /// Reads the beginning of a link. Returns how many bytes of `rest` were taken.
    fn take_link(&mut self, end: u8, rest: &[u8], output: &mut Vec<u8>) -> usize {
        let limit = self.map.longest() * REFERENCE_LENGTH;
        let room = limit.saturating_sub(self.held.len());
        let window = rest.get(..room).unwrap_or(rest);
        // A value holds no `<`: what follows one is not read here.
        let stop = memchr2(end, b'<', window);
        let taken = stop.unwrap_or(window.len());
        self.held.extend_from_slice(window.get(..taken).unwrap_or_default());

        let is_whole = end != TEXT_END && window.get(taken) == Some(&end);
        let found = find_origin(&self.map, &self.held, self.takes_paths, is_whole);
        if found == Match::NeedsMore {
            if stop.is_some() && end == TEXT_END {
                self.state = State::TextClose;
                return taken + 1;
            }
            if stop.is_none() && self.held.len() < limit {
                return taken;
            }
        }
        self.rewritten += release(&mut self.held, found, output);
        self.state = if end == TEXT_END { State::Text } else { State::Value(end) };
        taken
    }

    /// Reads what passes as it is. Returns how many bytes of `rest` were taken.
    ///
    /// It takes at least one byte or changes the state, so that `push` ends.
    fn pass(&mut self, rest: &[u8]) -> usize {
        let Some(&first) = rest.first() else { return 0 };
        match self.state {
            State::Text => match memchr(b'<', rest) {
                Some(at) => {
                    self.open();
                    at + 1
                }
                None => rest.len(),
            },
            State::Opening => {
                self.state = self.opened(first);
                1
            }
            State::Section { mark, needed, run } => self.pass_section(rest, mark, needed, run),
            State::Doctype | State::DoctypeLiteral(_) => self.pass_doctype(rest),
            State::EndTag => self.pass_to(memchr2(b'>', b'<', rest), rest, b'>', State::Text),
            State::Value(quote) => {
                let end = memchr2(quote, b'<', rest);
                self.pass_to(end, rest, quote, State::Tag { spaced: false })
            }
            State::TextSpace => {
                let space = rest.iter().position(|byte| !is_space(*byte)).unwrap_or(rest.len());
                self.state = match rest.get(space) {
                    None => State::TextSpace,
                    Some(b'<') => State::Text,
                    Some(_) => State::Link(TEXT_END),
                };
                space
            }
            State::TagName | State::AttributeName => self.pass_name(rest),
            State::Tag { .. } | State::Slash | State::Equals | State::Quote => {
                self.state = self.in_tag(first);
                // The first byte of a name is read with the rest of it.
                usize::from(self.state != State::AttributeName)
            }
            State::Passive | State::Link(_) | State::TextClose => rest.len(),
        }
    }

    /// Passes up to and with `end`, where the byte `wanted` leads to `next`. Another byte there is
    /// an error.
    fn pass_to(&mut self, end: Option<usize>, rest: &[u8], wanted: u8, next: State) -> usize {
        let Some(end) = end else { return rest.len() };
        self.state = if rest.get(end) == Some(&wanted) { next } else { State::Passive };
        end + 1
    }

    /// Starts to read what a `<` opens.
    fn open(&mut self) {
        self.name.clear();
        self.state = State::Opening;
    }

    /// The state after one more byte of what a `<` has opened.
    fn opened(&mut self, byte: u8) -> State {
        self.name.push(byte);
        let is_inside_doctype = self.depth > 0;
        match self.name.as_slice() {
            b"?" => State::Section { mark: b'?', needed: 1, run: 0 },
            b"!--" => State::Section { mark: b'-', needed: 2, run: 0 },
            b"!" | b"!-" => State::Opening,
            [b'!', _] if is_inside_doctype && byte.is_ascii_alphabetic() => {
                self.depth = self.depth.saturating_add(1);
                State::Doctype
            }
            _ if is_inside_doctype => State::Passive,
            b"/" => State::EndTag,
            b"![CDATA[" => State::Section { mark: b']', needed: 2, run: 0 },
            b"!DOCTYPE" => {
                self.depth = 1;
                State::Doctype
            }
            start if b"![CDATA[".starts_with(start) || b"!DOCTYPE".starts_with(start) => {
                State::Opening
            }
            [first] if is_name(*first) => State::TagName,
            _ => State::Passive,
        }
    }

    fn pass_section(&mut self, rest: &[u8], mark: u8, needed: usize, run: usize) -> usize {
        let end = memchr(b'>', rest).unwrap_or(rest.len());
        let before = rest.get(..end).unwrap_or_default();
        let marks = before.iter().rev().take(needed).take_while(|byte| **byte == mark).count();
        // Only marks at the very beginning continue those of the last chunk.
        let run = if marks == end { (run + marks).min(needed) } else { marks };
        if end == rest.len() {
            self.state = State::Section { mark, needed, run };
            return end;
        }
        self.state = match (run == needed, self.depth) {
            (true, 0) => State::Text,
            (true, _) => State::Doctype,
            (false, _) => State::Section { mark, needed, run: 0 },
        };
        end + 1
    }

    fn pass_doctype(&mut self, rest: &[u8]) -> usize {
        if let State::DoctypeLiteral(quote) = self.state {
            return self.pass_to(memchr(quote, rest), rest, quote, State::Doctype);
        }
        let is_special = |byte: &u8| matches!(byte, b'<' | b'>' | b'"' | b'\'');
        let Some(at) = rest.iter().position(is_special) else { return rest.len() };
        match rest.get(at) {
            Some(b'<') => self.open(),
            Some(b'>') => {
                self.depth = self.depth.saturating_sub(1);
                self.state = if self.depth == 0 { State::Text } else { State::Doctype };
            }
            Some(quote) => self.state = State::DoctypeLiteral(*quote),
            None => {}
        }
        at + 1
    }

    fn pass_name(&mut self, rest: &[u8]) -> usize {
        let length = rest.iter().position(|byte| !is_name(*byte)).unwrap_or(rest.len());
        let room = NAME_LIMIT.saturating_sub(self.name.len());
        self.name.extend(rest.iter().take(length.min(room)));
        if length == rest.len() {
            return length;
        }
        if self.state == State::AttributeName {
            self.state = State::Equals;
            return length;
        }
        self.element = Element::named(&self.name);
        self.state = State::Tag { spaced: false };
        length
    }

    /// The state after one byte between the names and values of a start tag.
    fn in_tag(&mut self, byte: u8) -> State {
        match (self.state, byte) {
            (State::Tag { .. }, byte) if is_space(byte) => State::Tag { spaced: true },
            (state @ (State::Equals | State::Quote), byte) if is_space(byte) => state,
            (State::Tag { .. }, b'/') => State::Slash,
            (State::Slash, b'>') => State::Text,
            (State::Tag { .. }, b'>') if self.element.has_link_as_text() => {
                self.takes_paths = self.element == Element::Link;
                State::TextSpace
            }
            (State::Tag { .. }, b'>') => State::Text,
            (State::Tag { spaced: true }, byte) if is_name(byte) => {
                self.name.clear();
                State::AttributeName
            }
            (State::Equals, b'=') => State::Quote,
            (State::Quote, b'"' | b'\'') => match self.element.takes_paths_in(&self.name) {
                Some(takes_paths) => {
                    self.takes_paths = takes_paths;
                    State::Link(byte)
                }
                None => State::Value(byte),
            },
            _ => State::Passive,
        }
    }
}

/// Writes a link that was held back. Returns how many links were changed: none or one.
fn release(held: &mut Vec<u8>, found: Match<'_>, output: &mut Vec<u8>) -> u64 {
    let Match::Replace { length, with } = found else {
        output.append(held);
        return 0;
    };
    for byte in with.bytes() {
        match byte {
            b'&' => output.extend_from_slice(b"&amp;"),
            b'<' => output.extend_from_slice(b"&lt;"),
            b'"' => output.extend_from_slice(b"&quot;"),
            b'\'' => output.extend_from_slice(b"&#39;"),
            _ => output.push(byte),
        }
    }
    output.extend_from_slice(held.get(length..).unwrap_or_default());
    held.clear();
    1
}

/// Compares the beginning of a link as it stands in the document, all of it if `is_whole`. The
/// length of what is replaced counts the document's bytes.
///
/// The answer stays the same when more of the link is known, so that it does not depend on how
/// the document is cut into chunks.
fn find_origin<'a>(map: &'a OriginMap, raw: &[u8], takes_paths: bool, is_whole: bool) -> Match<'a> {
    let wanted = map.longest();
    let mut decoded = Vec::with_capacity(wanted);
    // The place in the document of each decoded byte.
    let mut starts = Vec::with_capacity(wanted);
    let mut at = 0;
    while decoded.len() < wanted
        && let Some((byte, length)) = raw.get(at..).and_then(first_character)
    {
        decoded.push(byte);
        starts.push(at);
        at += length;
    }
    match map.find(&decoded, is_whole && at == raw.len()) {
        Match::Replace { length: 0, .. } if !takes_paths => Match::No,
        Match::Replace { length, with } => {
            Match::Replace { length: starts.get(length).copied().unwrap_or(at), with }
        }
        found => found,
    }
}

/// The first byte of a value, and how many bytes it takes in the document. `None` if the value
/// ends, or if a character reference is incomplete or invalid.
///
/// A character beyond ASCII becomes 0xFF, and an entity reference begins with `&`. Neither is in an
/// origin, so that nothing after them matters.
fn first_character(raw: &[u8]) -> Option<(u8, usize)> {
    let body = match raw {
        [b'&', b'#', body @ ..] => body,
        [b'&'] | [] => return None,
        [byte, ..] => return Some((*byte, 1)),
    };
    let digits = body.get(..memchr(b';', body)?)?;
    let length = digits.len() + 3;
    let (digits, radix) = digits.strip_prefix(b"x").map_or((digits, 10), |hex| (hex, 16));
    // The standard library's parser would accept a sign.
    let digits = str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
    let code = u32::from_str_radix(digits, radix).ok()?;
    let character = char::from_u32(code)?;
    Some((u8::try_from(character).ok().filter(u8::is_ascii).unwrap_or(0xff), length))
}

/// Whether a byte is white space in XML 1.0.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Whether a byte may be in a name: it is not white space, a control character or a delimiter.
fn is_name(byte: u8) -> bool {
    byte > b' ' && !matches!(byte, b'"' | b'\'' | b'<' | b'>' | b'=' | b'/' | b'&')
}

#[cfg(test)]
mod tests;
