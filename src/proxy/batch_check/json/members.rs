//! The members of an object in a JSON batch. Pure.

use super::super::refusal::{BatchRefusal, unreadable};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// The largest number of members in a request, and of headers: a dozen is usual.
const MOST_MEMBERS: usize = 128;

/// The members of an object, in the order of the text.
pub(super) struct Members<'t>(pub(super) Vec<(String, &'t RawValue)>);

impl<'t> Members<'t> {
    /// `None` if the text is not an object, or has more than [`MOST_MEMBERS`].
    pub(super) fn of(text: &'t str) -> Option<Self> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let members = deserializer.deserialize_map(MembersVisitor).ok()?;
        deserializer.end().ok()?;
        Some(members)
    }

    pub(super) fn get(&self, key: &str) -> Option<&'t RawValue> {
        self.0.iter().find(|(given, _)| given == key).map(|(_, value)| *value)
    }

    /// Checks that no key occurs twice, in any case, and that the known keys are in their own case.
    pub(super) fn check(&self, known: &[&str]) -> Result<(), BatchRefusal> {
        for (index, (key, _)) in self.0.iter().enumerate() {
            let is_twice =
                self.0.iter().take(index).any(|(other, _)| other.eq_ignore_ascii_case(key));
            let is_like = |one: &&str| key.eq_ignore_ascii_case(one) && key != *one;
            if is_twice || known.iter().any(is_like) || !is_plain(key) {
                let key = key.escape_default();
                return unreadable(format!("has the key `{key}` twice, or in another case"));
            }
        }
        Ok(())
    }

    pub(super) fn headers(&self) -> Result<HeaderMap, BatchRefusal> {
        self.check(&[])?;
        let mut headers = HeaderMap::with_capacity(self.0.len());
        for (name, raw) in &self.0 {
            let name = HeaderName::from_bytes(name.as_bytes()).ok();
            // Some callers write a version as a number, and `null` for a missing header.
            let is_number = raw.get().starts_with(|first: char| first.is_ascii_digit());
            let value = match raw.get() {
                "null" => continue,
                number if is_number => Some(number.to_owned()),
                text => serde_json::from_str::<String>(text).ok(),
            };
            let value = value.and_then(|value| HeaderValue::try_from(value).ok());
            let (Some(name), Some(value)) = (name, value) else {
                return unreadable("has a malformed header");
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

/// Whether a key is ASCII without spaces and control characters. Some servers trim those, and
/// beyond ASCII servers disagree about upper and lower case.
pub(super) fn is_plain(key: &str) -> bool {
    key.bytes().all(|byte| byte.is_ascii_graphic())
}
