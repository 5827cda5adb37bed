//! A batch in JSON (OData JSON Format 4.01 section 19, RFC 7644 section 3.7), read strictly while
//! it streams. Pure.
//!
//! Each request is held until its end, since its keys come in any order. Servers differ in how they
//! read a key that occurs twice, or in another case.

mod members;

use super::kind::BatchKind;
use super::part_request::{CheckPart, PartRequest, check_id};
use super::refusal::{BatchRefusal, unreadable};
use crate::proxy::links::restored_tags;
use crate::proxy::stripped_headers::is_stripped_from_parts;
use http::{HeaderMap, Method};
use members::{Members, is_plain};

/// The largest number of bytes of one request with its body, and of the text around the requests.
const LONGEST: usize = 256 * 1024;
/// The largest number of keys around the requests, and the longest key: two keys are usual.
const MOST_KEYS: usize = 32;
const LONGEST_KEY: usize = 256;
/// The deepest nesting of objects and arrays: the limit of `serde_json`.
const DEEPEST: usize = 127;

/// Reads one batch.
#[derive(Debug)]
pub(super) struct JsonReader {
    /// The key of the list of requests.
    list: &'static str,
    /// The key of a request's target.
    target: &'static str,
    position: Position,
    /// The bytes that are not in the output yet.
    held: Vec<u8>,
    /// How many bytes of `held` were looked at.
    seen: usize,
    depth: usize,
    is_string: bool,
    is_escaped: bool,
    /// Whether all bytes that were looked at and not passed are white space, and whether they were
    /// before the last byte.
    is_blank: bool,
    was_blank: bool,
    /// The keys around the list, in lower case.
    keys: Vec<String>,
    parts: usize,
}

/// Where the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    Start,
    /// In a member of the batch's object, and whether one has to follow.
    Member(bool),
    /// After the list, in the batch's object.
    Listed,
    /// In a request, and whether one has to follow.
    Request(bool),
    End,
}

impl JsonReader {
    pub(super) const fn new(kind: BatchKind) -> Self {
        let (list, target) = match kind {
            BatchKind::OData => ("requests", "url"),
            BatchKind::Scim => ("Operations", "path"),
        };
        Self {
            list,
            target,
            position: Position::Start,
            held: Vec::new(),
            seen: 0,
            depth: 0,
            is_string: false,
            is_escaped: false,
            is_blank: true,
            was_blank: true,
            keys: Vec::new(),
            parts: 0,
        }
    }

    pub(super) const fn parts(&self) -> usize {
        self.parts
    }

    pub(super) fn push(
        &mut self,
        input: &[u8],
        check: CheckPart<'_>,
        output: &mut Vec<u8>,
    ) -> Result<(), BatchRefusal> {
        self.held.extend_from_slice(input);
        while let Some(byte) = self.held.get(self.seen).copied() {
            self.seen += 1;
            self.was_blank = self.is_blank;
            self.is_blank &= is_white(byte);
            if self.is_string {
                self.is_string = byte != b'"' || self.is_escaped;
                self.is_escaped = byte == b'\\' && !self.is_escaped;
            } else {
                self.structure(byte, check, output)?;
            }
            if self.seen > LONGEST {
                return unreadable("has more than 256 KiB");
            }
        }
        if self.is_blank {
            self.pass(output);
        }
        Ok(())
    }

    pub(super) fn finish(&self) -> Result<(), BatchRefusal> {
        if self.position == Position::End { Ok(()) } else { unreadable("does not end") }
    }

    /// Takes a byte outside of strings.
    fn structure(
        &mut self,
        byte: u8,
        check: CheckPart<'_>,
        output: &mut Vec<u8>,
    ) -> Result<(), BatchRefusal> {
        match byte {
            b'"' => self.is_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                let Some(depth) = self.depth.checked_sub(1) else {
                    return unreadable("is not JSON");
                };
                self.depth = depth;
            }
            _ => {}
        }
        if self.depth > DEEPEST {
            return unreadable("is nested too deep");
        }
        match (self.position, byte, self.depth) {
            (_, byte, _) if is_white(byte) => {}
            (Position::Start, b'{', 1) => {
                self.position = Position::Member(false);
                self.pass(output);
            }
            (Position::Start | Position::End, _, _) => return unreadable("is not a JSON object"),
            (Position::Member(_), b'[', 2) if self.enter_list_if_named()? => {
                self.position = Position::Request(false);
                self.pass(output);
            }
            (Position::Member(_), b',', 1) => {
                self.member(1)?;
                self.position = Position::Member(true);
                self.pass(output);
            }
            (Position::Listed, b',', 1) if self.is_alone() => {
                self.position = Position::Member(true);
                self.pass(output);
            }
            (Position::Member(is_due), b'}', 0) => {
                if is_due || !self.is_alone() {
                    self.member(1)?;
                }
                self.end(output)?;
            }
            (Position::Listed, b'}', 0) if self.is_alone() => self.end(output)?,
            (Position::Listed, ..) => return unreadable("is not JSON"),
            (Position::Request(_), b',', 2) => {
                self.request(check, output)?;
                self.position = Position::Request(true);
            }
            (Position::Request(is_due), b']' | b'}', 1) => {
                if byte == b'}' {
                    return unreadable("is not JSON");
                }
                if is_due || !self.is_alone() {
                    self.request(check, output)?;
                } else {
                    self.pass(output);
                }
                self.position = Position::Listed;
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether only white space comes before the last byte.
    const fn is_alone(&self) -> bool {
        self.was_blank
    }

    /// Ends the object.
    fn end(&mut self, output: &mut Vec<u8>) -> Result<(), BatchRefusal> {
        if !self.keys.iter().any(|key| key.eq_ignore_ascii_case(self.list)) {
            return unreadable(format!("has no `{}`", self.list));
        }
        self.position = Position::End;
        self.pass(output);
        Ok(())
    }

    /// Appends to the output what was looked at.
    fn pass(&mut self, output: &mut Vec<u8>) {
        output.extend(self.held.drain(..self.seen));
        self.seen = 0;
        self.is_blank = true;
        self.was_blank = true;
    }

    /// Enters the array that opens here if its name is that of the list of requests. Returns
    /// whether it was entered.
    fn enter_list_if_named(&mut self) -> Result<bool, BatchRefusal> {
        let member = self.held.get(..self.seen.saturating_sub(1)).unwrap_or_default();
        let Some(key) = member.trim_ascii_end().strip_suffix(b":") else {
            return unreadable("is not JSON");
        };
        let Ok(key) = serde_json::from_slice::<String>(key) else {
            return unreadable("is not JSON");
        };
        let is_list = key == self.list;
        if is_list {
            self.note(key)?;
        }
        Ok(is_list)
    }

    /// Takes a member around the list, which ends this many bytes ago.
    fn member(&mut self, behind: usize) -> Result<(), BatchRefusal> {
        let end = self.seen.saturating_sub(behind);
        let member = self.held.get(..end).unwrap_or_default();
        let text = [b"{", member, b"}"].concat();
        let text = str::from_utf8(&text).ok();
        let members = text.and_then(Members::of).filter(|members| members.0.len() == 1);
        let Some((key, _)) = members.and_then(|mut members| members.0.pop()) else {
            return unreadable("is not JSON");
        };
        if key.eq_ignore_ascii_case(self.list) {
            return unreadable(format!("has a `{key}` that is not a list of requests"));
        }
        self.note(key)
    }

    fn note(&mut self, key: String) -> Result<(), BatchRefusal> {
        let key = key.to_ascii_lowercase();
        if self.keys.len() == MOST_KEYS || key.len() > LONGEST_KEY {
            return unreadable("has too many keys around its requests, or too long ones");
        }
        if self.keys.contains(&key) || !is_plain(&key) {
            return unreadable(format!("has the key `{key}` twice, or one that is not plain"));
        }
        self.keys.push(key);
        Ok(())
    }

    /// Takes a request, which ends before the last byte.
    fn request(&mut self, check: CheckPart<'_>, output: &mut Vec<u8>) -> Result<(), BatchRefusal> {
        self.parts += 1;
        let end = self.seen.saturating_sub(1);
        let text = self.held.get(..end).and_then(|text| str::from_utf8(text).ok());
        let Some((text, members)) = text.and_then(|text| Some((text, Members::of(text)?))) else {
            return unreadable("is not a JSON object, or has more than 128 keys");
        };
        members.check(&["method", self.target, "headers", "id"])?;
        let text_of = |key: &str| {
            let value =
                members.get(key).and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
            value
                .ok_or_else(|| BatchRefusal::Unreadable(format!("has no `{key}` that is a string")))
        };
        // In upper or lower case (section 19.1).
        let method = text_of("method")?.to_ascii_uppercase();
        let Ok(method) = Method::from_bytes(method.as_bytes()) else {
            return unreadable("has a malformed method");
        };
        let target = text_of(self.target)?;
        if let Some(id) = members.get("id") {
            match serde_json::from_str::<serde_json::Value>(id.get()) {
                Ok(serde_json::Value::String(id)) => check_id(&id)?,
                Ok(serde_json::Value::Number(_) | serde_json::Value::Null) => {}
                _ => return unreadable("has an `id` that is not a string"),
            }
        }
        let given = members.get("headers").filter(|raw| raw.get() != "null");
        let given = given.map(|raw| {
            let lines = Members::of(raw.get()).ok_or_else(|| {
                BatchRefusal::Unreadable(
                    "has headers that are not an object, or more than 128".to_owned(),
                )
            })?;
            Ok((raw.get(), lines.headers()?))
        });
        let given = given.transpose()?;
        let none = HeaderMap::new();
        let headers = given.as_ref().map_or(&none, |(_, headers)| headers);
        check(&PartRequest { method, target: &target, headers })?;
        match given.and_then(|(raw, headers)| Some((raw, changed(headers)?))) {
            Some((raw, new)) => {
                // The member's text is a slice of the request's text.
                let at = raw.as_ptr() as usize - text.as_ptr() as usize;
                output.extend_from_slice(text.get(..at).unwrap_or_default().as_bytes());
                output.extend_from_slice(new.as_bytes());
                output.extend_from_slice(text.get(at + raw.len()..).unwrap_or_default().as_bytes());
                self.held.drain(..end);
                self.seen -= end;
                self.pass(output);
            }
            None => self.pass(output),
        }
        Ok(())
    }
}

/// Whether a byte is white space in JSON, which has less than ASCII.
const fn is_white(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// The headers that go upstream, if they differ from those of the request.
fn changed(headers: HeaderMap) -> Option<String> {
    let mut is_changed = false;
    let mut kept = serde_json::Map::new();
    for (name, value) in &headers {
        if is_stripped_from_parts(name) {
            is_changed = true;
            continue;
        }
        let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
        let restored = restored_tags(name, &text);
        is_changed |= restored.is_some();
        kept.insert(name.as_str().to_owned(), restored.unwrap_or(text).into());
    }
    is_changed.then(|| serde_json::Value::Object(kept).to_string())
}
