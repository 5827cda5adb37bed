//! A batch in JSON (OData JSON Format 4.01 section 19, RFC 7644 section 3.7), read strictly while it
//! streams. Pure.
//!
//! Each request is held until its end, since its keys come in any order. A key that is there twice,
//! or in other capitals, means one thing to one server and another to the next.

use super::reader::check_id;
use super::{Judge, Kind, Part, Refusal, unreadable};
use crate::proxy::headers::is_stripped;
use crate::proxy::links::restored_tags;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Deserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// The most bytes of one request with its body, and of what is around the requests.
const LONGEST: usize = 256 * 1024;
/// The most members of a request, and the most headers: there are a dozen.
const MOST_MEMBERS: usize = 128;
/// The most keys around the requests, and the longest: there are two.
const MOST_KEYS: usize = 32;
const LONGEST_KEY: usize = 256;
/// The most objects and arrays within each other: what serde_json reads.
const DEEPEST: usize = 127;

/// Reads one batch.
#[derive(Debug)]
pub(super) struct JsonReader {
    /// The key of the list of requests.
    list: &'static str,
    /// The key of a request's target.
    target: &'static str,
    place: Place,
    /// What is not in the output yet.
    held: Vec<u8>,
    /// How many bytes of it were looked at.
    seen: usize,
    depth: usize,
    is_string: bool,
    is_escaped: bool,
    /// Whether all that was looked at and not passed is white, and whether it was before the last byte.
    is_blank: bool,
    was_blank: bool,
    /// The keys around the list, in lower case.
    keys: Vec<String>,
    parts: usize,
}

/// Where the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Start,
    /// In a member of the batch's object; whether one has to come.
    Member(bool),
    /// Behind the list, in the batch's object.
    Listed,
    /// In a request; whether one has to come.
    Request(bool),
    End,
}

impl JsonReader {
    pub(super) const fn new(kind: Kind) -> Self {
        let (list, target) = match kind {
            Kind::OData => ("requests", "url"),
            Kind::Scim => ("Operations", "path"),
        };
        Self {
            list,
            target,
            place: Place::Start,
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
        judge: Judge<'_>,
        output: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        self.held.extend_from_slice(input);
        while let Some(byte) = self.held.get(self.seen).copied() {
            self.seen += 1;
            self.was_blank = self.is_blank;
            self.is_blank &= is_white(byte);
            if self.is_string {
                self.is_string = byte != b'"' || self.is_escaped;
                self.is_escaped = byte == b'\\' && !self.is_escaped;
            } else {
                self.structure(byte, judge, output)?;
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

    pub(super) fn finish(&self) -> Result<(), Refusal> {
        if self.place == Place::End { Ok(()) } else { unreadable("has no end") }
    }

    /// A byte outside of strings.
    fn structure(
        &mut self,
        byte: u8,
        judge: Judge<'_>,
        output: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        match byte {
            b'"' => self.is_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                let Some(depth) = self.depth.checked_sub(1) else {
                    return unreadable("is no JSON");
                };
                self.depth = depth;
            }
            _ => {}
        }
        if self.depth > DEEPEST {
            return unreadable("is nested too deep");
        }
        match (self.place, byte, self.depth) {
            (_, byte, _) if is_white(byte) => {}
            (Place::Start, b'{', 1) => {
                self.place = Place::Member(false);
                self.pass(output);
            }
            (Place::Start | Place::End, _, _) => return unreadable("is no JSON object"),
            (Place::Member(_), b'[', 2) if self.begins_list()? => {
                self.place = Place::Request(false);
                self.pass(output);
            }
            (Place::Member(_), b',', 1) => {
                self.member(1)?;
                self.place = Place::Member(true);
                self.pass(output);
            }
            (Place::Listed, b',', 1) if self.is_alone() => {
                self.place = Place::Member(true);
                self.pass(output);
            }
            (Place::Member(is_due), b'}', 0) => {
                if is_due || !self.is_alone() {
                    self.member(1)?;
                }
                self.end(output)?;
            }
            (Place::Listed, b'}', 0) if self.is_alone() => self.end(output)?,
            (Place::Listed, ..) => return unreadable("is no JSON"),
            (Place::Request(_), b',', 2) => {
                self.request(judge, output)?;
                self.place = Place::Request(true);
            }
            (Place::Request(is_due), b']' | b'}', 1) => {
                if byte == b'}' {
                    return unreadable("is no JSON");
                }
                if is_due || !self.is_alone() {
                    self.request(judge, output)?;
                } else {
                    self.pass(output);
                }
                self.place = Place::Listed;
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the last byte stands alone.
    const fn is_alone(&self) -> bool {
        self.was_blank
    }

    /// The object is over.
    fn end(&mut self, output: &mut Vec<u8>) -> Result<(), Refusal> {
        if !self.keys.iter().any(|key| key.eq_ignore_ascii_case(self.list)) {
            return unreadable(format!("has no `{}`", self.list));
        }
        self.place = Place::End;
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

    /// Whether the array that opens here is the list of requests.
    fn begins_list(&mut self) -> Result<bool, Refusal> {
        let member = self.held.get(..self.seen.saturating_sub(1)).unwrap_or_default();
        let Some(key) = member.trim_ascii_end().strip_suffix(b":") else {
            return unreadable("is no JSON");
        };
        let Ok(key) = serde_json::from_slice::<String>(key) else {
            return unreadable("is no JSON");
        };
        let is_list = key == self.list;
        if is_list {
            self.note(key)?;
        }
        Ok(is_list)
    }

    /// A member around the list is over, but for so many bytes.
    fn member(&mut self, behind: usize) -> Result<(), Refusal> {
        let end = self.seen.saturating_sub(behind);
        let member = self.held.get(..end).unwrap_or_default();
        let text = [b"{", member, b"}"].concat();
        let text = str::from_utf8(&text).ok();
        let members = text.and_then(Members::of).filter(|members| members.0.len() == 1);
        let Some((key, _)) = members.and_then(|mut members| members.0.pop()) else {
            return unreadable("is no JSON");
        };
        if key.eq_ignore_ascii_case(self.list) {
            return unreadable(format!("has a `{key}` that is no list of requests"));
        }
        self.note(key)
    }

    fn note(&mut self, key: String) -> Result<(), Refusal> {
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

    /// A request is over, but for the byte behind it.
    fn request(&mut self, judge: Judge<'_>, output: &mut Vec<u8>) -> Result<(), Refusal> {
        self.parts += 1;
        let end = self.seen.saturating_sub(1);
        let text = self.held.get(..end).and_then(|text| str::from_utf8(text).ok());
        let Some((text, members)) = text.and_then(|text| Some((text, Members::of(text)?))) else {
            return unreadable("is no JSON object, or one of more than 128 keys");
        };
        members.check(&["method", self.target, "headers", "id"])?;
        let text_of = |key: &str| {
            let value =
                members.get(key).and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
            value.ok_or_else(|| Refusal::Unreadable(format!("has no `{key}` that is a string")))
        };
        // In any case, says section 19.1.
        let method = text_of("method")?.to_ascii_uppercase();
        let Ok(method) = Method::from_bytes(method.as_bytes()) else {
            return unreadable("has a method that is none");
        };
        let target = text_of(self.target)?;
        if let Some(id) = members.get("id") {
            match serde_json::from_str::<serde_json::Value>(id.get()) {
                Ok(serde_json::Value::String(id)) => check_id(&id)?,
                Ok(serde_json::Value::Number(_) | serde_json::Value::Null) => {}
                _ => return unreadable("has an `id` that is no string"),
            }
        }
        let given = members.get("headers").filter(|raw| raw.get() != "null");
        let given = given.map(|raw| {
            let lines = Members::of(raw.get()).ok_or_else(|| {
                Refusal::Unreadable("has headers that are no object, or more than 128".to_owned())
            })?;
            Ok((raw.get(), lines.headers()?))
        });
        let given = given.transpose()?;
        let none = HeaderMap::new();
        let headers = given.as_ref().map_or(&none, |(_, headers)| headers);
        judge(&Part { method, target: &target, headers })?;
        match given.and_then(|(raw, headers)| Some((raw, changed(headers)?))) {
            Some((raw, new)) => {
                // The text of a member is a part of the text of all.
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

/// JSON's white space, which is less than ASCII's.
const fn is_white(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// A key without spaces and control characters, which some servers cut, and within ASCII: beyond it there
/// are more capitals than servers agree about.
fn is_plain(key: &str) -> bool {
    key.bytes().all(|byte| byte.is_ascii_graphic())
}

/// What goes upstream for the headers of a request, if that is something else.
fn changed(headers: HeaderMap) -> Option<String> {
    let mut is_changed = false;
    let mut kept = serde_json::Map::new();
    for (name, value) in &headers {
        if is_stripped(name) {
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

/// The members of an object, as they stand there.
struct Members<'t>(Vec<(String, &'t RawValue)>);

impl<'t> Members<'t> {
    /// `None`: the text is no object.
    fn of(text: &'t str) -> Option<Self> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let members = deserializer.deserialize_map(MembersVisitor).ok()?;
        deserializer.end().ok()?;
        Some(members)
    }

    fn get(&self, key: &str) -> Option<&'t RawValue> {
        self.0.iter().find(|(given, _)| given == key).map(|(_, value)| *value)
    }

    /// Whether no key is there twice, in whatever capitals, and the known ones are in theirs.
    fn check(&self, known: &[&str]) -> Result<(), Refusal> {
        for (index, (key, _)) in self.0.iter().enumerate() {
            let is_twice =
                self.0.iter().take(index).any(|(other, _)| other.eq_ignore_ascii_case(key));
            let is_like = |one: &&str| key.eq_ignore_ascii_case(one) && key != *one;
            if is_twice || known.iter().any(is_like) || !is_plain(key) {
                let key = key.escape_default();
                return unreadable(format!("has the key `{key}` twice, or in other capitals"));
            }
        }
        Ok(())
    }

    fn headers(&self) -> Result<HeaderMap, Refusal> {
        self.check(&[])?;
        let mut headers = HeaderMap::with_capacity(self.0.len());
        for (name, raw) in &self.0 {
            let name = HeaderName::from_bytes(name.as_bytes()).ok();
            // Some clients write a version as a number, and `null` for a header that is not there.
            let is_number = raw.get().starts_with(|first: char| first.is_ascii_digit());
            let value = match raw.get() {
                "null" => continue,
                number if is_number => Some(number.to_owned()),
                text => serde_json::from_str::<String>(text).ok(),
            };
            let value = value.and_then(|value| HeaderValue::try_from(value).ok());
            let (Some(name), Some(value)) = (name, value) else {
                return unreadable("has a header that is none");
            };
            headers.insert(name, value);
        }
        Ok(headers)
    }
}

struct MembersVisitor;

impl<'t> Visitor<'t> for MembersVisitor {
    type Value = Members<'t>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<Members<'t>, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            if members.len() == MOST_MEMBERS {
                return Err(A::Error::custom("too many members"));
            }
            members.push(member);
        }
        Ok(Members(members))
    }
}
