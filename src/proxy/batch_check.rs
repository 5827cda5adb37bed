//! Checks the requests inside of a batch, each as if it had been sent alone.
//!
//! A batch is one POST to the upstream that carries many requests. Without this check a read-only
//! route would let a change set through, and any route would let a request through to every path of
//! the tenant. Each part has to take the batch's own route, with a method that this route allows. A
//! batch that can't be read, or can be read in two ways, is refused as a whole: no byte of a part
//! is sent before the part is checked, and a refused batch is never sent to its end.
//!
//! Batches are those of OData (`$batch`, multipart or JSON) and SCIM (`Bulk`, RFC 7644 section
//! 3.7). Their URLs are rewritten in [`super::links`].

mod json;
mod kind;
mod media_type;
mod multipart;
mod part_request;
mod part_rules;
mod possible_bulk;
mod reader;
mod refusal;
mod smuggling;
mod target;

use super::loggable;
use super::method_override::all_methods;
use super::problem::Problem;
use super::route::{self, path_of};
use super::route_handle::RouteHandle;
use super::table::Table;
use crate::audit::record::Part;
use crate::config::{CallerId, ListenerId};
use crate::error::ErrorKind;
use crate::readable;
use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderValue, Method};
use kind::BatchKind;
use memchr::memmem;
use part_request::PartRequest;
use part_rules::PartRules;
use pingora::http::RequestHeader;
use reader::BatchReader;
use refusal::{BatchRefusal, unreadable};
use std::cell::RefCell;
use std::sync::Arc;
use target::Origins;

/// Checks one batch while it streams.
pub(super) struct BatchCheck {
    rules: PartRules,
    /// The type of the batch, or why the batch can't be read.
    content_type: Result<HeaderValue, BatchRefusal>,
    /// Whether path, profile or type say that it is a batch. Otherwise only its body shows it.
    is_declared: bool,
    /// Whether every server of the route takes it for a batch.
    does_only_its_parts: bool,
    reader: BatchReader,
    /// The parts that change something.
    writes: WritingParts,
}

/// The parts of a batch that change something. Another attempt sends the first ones again, which
/// are not reported twice.
#[derive(Default)]
struct WritingParts {
    /// Their number in this attempt.
    count: usize,
    /// How many were reported.
    reported: usize,
    /// Those that are to be reported.
    new: Vec<Part>,
}

impl WritingParts {
    fn add(&mut self, part: &PartRequest<'_>) {
        self.count += 1;
        if self.count > self.reported {
            let target = part.target.split('?').next().unwrap_or_default();
            self.new.push(Part {
                method: part.method.to_string(),
                overrides: loggable::overrides(part.headers),
                target: readable::one_line(target).into_owned(),
            });
        }
    }
}

impl BatchCheck {
    /// The check of a request that takes `route`. `None` if the request is not a batch, or if the
    /// route forwards batches unchecked.
    ///
    /// # Errors
    /// The answer to a batch that can't be read at all.
    pub(super) fn of(
        request: &RequestHeader,
        table: &Arc<Table>,
        listener: ListenerId,
        caller: Option<CallerId>,
        route: &Arc<RouteHandle>,
    ) -> Result<Option<Box<Self>>, Problem> {
        let target = request.raw_path();
        // Most requests end here. A request without a body has no parts, whatever method it names.
        if !announces_body(&request.headers) {
            return Ok(None);
        }
        let Some(kind) = BatchKind::of(target) else { return Ok(None) };
        if route.config.unchecked_batches {
            return Ok(None);
        }
        let names_scim = |media: &HeaderValue| {
            memmem::find(&media.as_bytes().to_ascii_lowercase(), b"scim+json").is_some()
        };
        let is_declared = kind == BatchKind::OData
            || route.config.profile.bulk
            || request.headers.get_all(CONTENT_TYPE).iter().any(names_scim);
        let is_post =
            all_methods(&request.method, &request.headers, |method| *method == Method::POST);
        let does_only_its_parts = is_post && kind.is_of(route.config.profile);
        check_coding(&request.headers).map_err(|why| problem(None, why))?;
        let name = kind.last_segment();
        // The base of relative targets has to be clear.
        let content_type = if route::always_ends_with(target, name) {
            content_type(&request.headers)
        } else {
            unreadable(format!("has a path that does not end in `/{name}` for every server"))
        };
        let path = path_of(target);
        let end = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let rules = PartRules {
            table: table.clone(),
            listener,
            caller,
            route: route.clone(),
            origins: Origins {
                own: request.headers.get(HOST).cloned(),
                upstream: route.upstream.host_header.clone(),
            },
            base: path.get(..end).unwrap_or_default().to_vec(),
            kind,
        };
        let reader = reader(&content_type, kind, is_declared).map_err(|why| problem(None, why))?;
        let writes = WritingParts::default();
        Ok(Some(Box::new(Self {
            rules,
            content_type,
            is_declared,
            does_only_its_parts,
            reader,
            writes,
        })))
    }

    /// Starts over, for another attempt.
    pub(super) fn restart(&mut self) {
        self.writes.count = 0;
        self.writes.new.clear();
        // A type that was read once can be read again.
        if let Ok(reader) = reader(&self.content_type, self.rules.kind, self.is_declared) {
            self.reader = reader;
        }
    }

    /// Whether only the body shows that it is a batch. It is then forwarded byte for byte.
    pub(super) const fn keeps_length(&self) -> bool {
        !self.is_declared
    }

    /// Takes the next bytes, and appends to `output` what is checked.
    ///
    /// # Errors
    /// The answer to a batch that is refused. Nothing more of it may be sent.
    pub(super) fn push(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), Problem> {
        let (rules, writes) = (&self.rules, RefCell::new(&mut self.writes));
        let check = |part: &PartRequest<'_>| check(rules, part, &writes);
        let result = self.reader.push(input, &check, output);
        result.map_err(|why| problem(Some(self.reader.parts()), why))
    }

    /// Ends the batch: appends the rest to `output`.
    ///
    /// # Errors
    /// The answer to a batch that is refused.
    pub(super) fn finish(&mut self, output: &mut Vec<u8>) -> Result<(), Problem> {
        let (rules, writes) = (&self.rules, RefCell::new(&mut self.writes));
        let check = |part: &PartRequest<'_>| check(rules, part, &writes);
        let result = self.reader.finish(&check, output);
        result.map_err(|why| problem(Some(self.reader.parts()), why))
    }

    /// The parts that change something and were not reported yet.
    pub(super) fn new_writes(&self) -> &[Part] {
        &self.writes.new
    }

    /// Records that these parts were reported.
    pub(super) fn confirm_writes(&mut self) {
        self.writes.reported += self.writes.new.len();
        self.writes.new.clear();
    }

    /// Whether the request does nothing but what its parts do.
    pub(super) const fn does_only_its_parts(&self) -> bool {
        self.does_only_its_parts
    }
}

/// Checks a part, and notes it if it changes something.
fn check(
    rules: &PartRules,
    part: &PartRequest<'_>,
    writes: &RefCell<&mut WritingParts>,
) -> Result<(), BatchRefusal> {
    if rules.check_part(part)? {
        writes.borrow_mut().add(part);
    }
    Ok(())
}

fn reader(
    content_type: &Result<HeaderValue, BatchRefusal>,
    kind: BatchKind,
    is_declared: bool,
) -> Result<BatchReader, BatchRefusal> {
    let content_type = content_type.clone();
    if is_declared {
        BatchReader::of_batch(&content_type?, kind)
    } else {
        Ok(BatchReader::of_possible_bulk(content_type))
    }
}

/// Whether a request announces a body.
fn announces_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0")
}

/// Checks that the batch is not compressed: it could not be read.
fn check_coding(headers: &HeaderMap) -> Result<(), BatchRefusal> {
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return unreadable("is compressed");
    }
    Ok(())
}

/// The only `Content-Type` of a batch.
fn content_type(headers: &HeaderMap) -> Result<HeaderValue, BatchRefusal> {
    let mut nominated = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii));
    if nominated.any(|name| name.eq_ignore_ascii_case(CONTENT_TYPE.as_str().as_bytes())) {
        return unreadable("names its Content-Type in Connection");
    }
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    match (types.next(), types.next()) {
        (Some(one), None) => Ok(one.clone()),
        (None, _) => unreadable("has no Content-Type"),
        (Some(_), Some(_)) => unreadable("has two Content-Types"),
    }
}

/// The answer to a refused batch. `part` is the number of the part that was being read.
fn problem(part: Option<usize>, refusal: BatchRefusal) -> Problem {
    let subject = match part {
        Some(number) if number > 0 => format!("part {number} of the batch"),
        _ => "the batch".to_owned(),
    };
    match refusal {
        BatchRefusal::Forbidden(why) => Problem::new(
            ErrorKind::BatchRefused,
            format!("{subject} {why}; bearerd did not send the batch, or stopped before its end"),
        ),
        BatchRefusal::Unreadable(why) => Problem::new(
            ErrorKind::BadRequest,
            format!(
                "{subject} {why}, so bearerd can't check it; send the batch in a plain form, or set `unchecked_batches: on` on the route to forward its batches unchecked (not those of a caller with `routes` or `methods`)"
            ),
        ),
    }
}

#[cfg(test)]
mod tests;
