//! A collector of traces with a protobuf reader of its own, so that an error in the writer's
//! library is not hidden by the same error in the reader.

use super::issuer;
use super::upstream::{Peer, Seen};
use std::collections::BTreeMap;

/// The value of a protobuf field.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    fn number(&self) -> u64 {
        let Self::Number(number) = self else { panic!("a number") };
        *number
    }

    fn bytes(&self) -> &'a [u8] {
        let Self::Bytes(bytes) = self else { panic!("bytes") };
        bytes
    }

    fn text(&self) -> String {
        String::from_utf8(self.bytes().to_vec()).unwrap()
    }

    fn hex(&self) -> String {
        self.bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn varint(rest: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let byte = rest[0];
        *rest = &rest[1..];
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    number
}

fn fields(mut rest: &[u8]) -> Vec<(u64, Value<'_>)> {
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let key = varint(&mut rest);
        let length = match key & 7 {
            0 => {
                fields.push((key >> 3, Value::Number(varint(&mut rest))));
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut rest)).unwrap(),
            5 => 4,
            other => panic!("wire type {other}"),
        };
        let (bytes, after) = rest.split_at(length);
        fields.push((key >> 3, Value::Bytes(bytes)));
        rest = after;
    }
    fields
}

/// The messages in the fields with this number.
fn messages<'a>(message: &'a [u8], number: u64) -> Vec<&'a [u8]> {
    let of = |(given, value): (u64, Value<'a>)| (given == number).then(|| value.bytes());
    fields(message).into_iter().filter_map(of).collect()
}

/// The attributes in the fields with this number, as text.
fn attributes(message: &[u8], number: u64) -> BTreeMap<String, String> {
    let pair = |pair: &[u8]| {
        let [key, value] = [1, 2].map(|number| messages(pair, number)[0]);
        let value = match fields(value).remove(0) {
            (1, text) => text.text(),
            (3, number) => number.number().to_string(),
            (other, _) => panic!("a value of type {other}"),
        };
        (String::from_utf8(key.to_vec()).unwrap(), value)
    };
    messages(message, number).into_iter().map(pair).collect()
}

/// The parts of a span that tests check (opentelemetry/proto/trace/v1/trace.proto).
#[derive(Clone, Debug, Default)]
pub(crate) struct Span {
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) state: String,
    pub(crate) name: String,
    pub(crate) kind: u64,
    pub(crate) attributes: BTreeMap<String, String>,
    /// Whether its status is an error.
    pub(crate) failed: bool,
    pub(crate) resource: BTreeMap<String, String>,
}

impl Span {
    fn read(message: &[u8], resource: &BTreeMap<String, String>) -> Self {
        let attributes = attributes(message, 9);
        let mut span = Self { attributes, resource: resource.clone(), ..Self::default() };
        for (number, value) in fields(message) {
            match number {
                1 => span.trace = value.hex(),
                2 => span.id = value.hex(),
                3 => span.state = value.text(),
                4 => span.parent = value.hex(),
                5 => span.name = value.text(),
                6 => span.kind = value.number(),
                15 => {
                    let code = fields(value.bytes()).into_iter().find(|(number, _)| *number == 3);
                    span.failed = code.is_some_and(|(_, code)| code.number() == 2);
                }
                _ => {}
            }
        }
        span
    }

    /// The value of an attribute, or an empty text.
    pub(crate) fn attribute(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }

    /// The `traceparent` header that belongs to this span.
    pub(crate) fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.trace, self.id)
    }
}

/// The spans of a request to the collector.
fn spans(request: &Seen) -> Vec<Span> {
    let mut spans = Vec::new();
    for of_resource in messages(&request.body, 1) {
        let resource = attributes(messages(of_resource, 1)[0], 1);
        for of_scope in messages(of_resource, 2) {
            spans.extend(messages(of_scope, 2).into_iter().map(|span| Span::read(span, &resource)));
        }
    }
    spans
}

pub(crate) struct Collector(pub(crate) Peer);

impl Collector {
    /// Starts a collector that accepts everything.
    pub(crate) async fn start() -> Self {
        Self(Peer::start(issuer::status("200 OK", "", "")).await)
    }

    /// All spans so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.0.seen().iter().flat_map(spans).collect()
    }
}
