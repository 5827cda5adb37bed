//! The requests inside of a batch, each judged as if it had been sent alone.
//!
//! A batch is one POST to the upstream and many requests behind it. Without this check a read-only
//! route would let a change set through, and any route would let a request through to every path
//! of the tenant. Each part has to take the batch's own route, with a method that this route
//! allows. What can't be read, or could be read in two ways, refuses the whole batch: nothing of a
//! part leaves before the part is judged, and a refused batch never gets its end.
//!
//! Batches are those of OData (`$batch`, multipart or JSON) and SCIM (`Bulk`, RFC 7644 section
//! 3.7).

mod json;
mod lines;
mod multipart;
mod reader;
mod suspect;
mod target;

use super::RouteHandle;
use super::guard::Guard;
use super::headers::all_methods;
use super::respond::Problem;
use super::route::{self, BATCH, path_of};
use super::table::Table;
use crate::config::ListenerId;
use crate::error::ErrorKind;
use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderValue};
use memchr::memmem;
use pingora::http::RequestHeader;
use reader::{BULK, Judge, Kind, Media, Part, Reader, Refusal, unreadable};
use std::sync::Arc;
use suspect::SuspectReader;
use target::{Origins, Reference};

/// Checks one batch while it streams.
pub(super) struct BatchCheck {
    scope: Arc<Scope>,
    reader: Reader,
}

/// What parts are compared with: the batch's own request, and the routes at its time.
struct Scope {
    table: Arc<Table>,
    listener: ListenerId,
    route: Arc<RouteHandle>,
    origins: Origins,
    /// The batch's target, up to the slash before its last segment.
    base: Vec<u8>,
    /// The type of a batch, or why it can't be read.
    content_type: Result<HeaderValue, Refusal>,
    kind: Kind,
    /// Whether path, profile or type say that it is a batch; else its body does.
    is_certain: bool,
}

impl BatchCheck {
    /// The check of a request that takes `route`. `None` if it is no batch, or the route lets batches
    /// through unread.
    ///
    /// # Errors
    /// The answer to a batch that can't be read at all.
    pub(super) fn of(
        request: &RequestHeader,
        table: &Arc<Table>,
        listener: ListenerId,
        route: &Arc<RouteHandle>,
    ) -> Result<Option<Box<Self>>, Problem> {
        let target = request.raw_path();
        // Most requests end here. Of the others a method in a header may make what it is not.
        if !announces_body(&request.headers) {
            return Ok(None);
        }
        let Some(kind) = Kind::of(target) else { return Ok(None) };
        if route.config.unchecked_batches {
            return Ok(None);
        }
        let names_scim = |media: &HeaderValue| {
            memmem::find(&media.as_bytes().to_ascii_lowercase(), b"scim+json").is_some()
        };
        let is_certain = kind == Kind::OData
            || route.config.profile.bulk
            || request.headers.get_all(CONTENT_TYPE).iter().any(names_scim);
        check_coding(&request.headers).map_err(|why| problem(None, why))?;
        let name = match kind {
            Kind::OData => BATCH,
            Kind::Scim => BULK,
        };
        // What relative targets are relative to has to be clear.
        let content_type = if route::always_ends_with(target, name) {
            content_type(&request.headers)
        } else {
            unreadable(format!("has a path that does not end in `/{name}` for every server"))
        };
        let path = path_of(target);
        let end = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let scope = Arc::new(Scope {
            table: table.clone(),
            listener,
            route: route.clone(),
            origins: Origins {
                own: request.headers.get(HOST).cloned(),
                upstream: route.upstream.host_header.clone(),
            },
            base: path.get(..end).unwrap_or_default().to_vec(),
            content_type,
            kind,
            is_certain,
        });
        let reader = scope.reader().map_err(|why| problem(None, why))?;
        Ok(Some(Box::new(Self { scope, reader })))
    }

    /// Begins anew, for another attempt.
    pub(super) fn restart(&mut self) {
        // It was read once.
        if let Ok(reader) = self.scope.reader() {
            self.reader = reader;
        }
    }

    /// Whether only the body says if it is a batch. It passes byte for byte then.
    pub(super) fn keeps_length(&self) -> bool {
        !self.scope.is_certain
    }

    /// Takes the next bytes, and appends to `output` what is judged.
    ///
    /// # Errors
    /// The answer to a batch that is refused. Nothing more may be sent of it.
    pub(super) fn push(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), Problem> {
        let scope = &self.scope;
        let judge: Judge<'_> = &|part| scope.judge(part);
        let result = self.reader.push(input, judge, output);
        result.map_err(|why| problem(Some(self.reader.parts()), why))
    }

    /// Ends the batch: appends the rest to `output`.
    ///
    /// # Errors
    /// The answer to a batch that is refused.
    pub(super) fn finish(&mut self, output: &mut Vec<u8>) -> Result<(), Problem> {
        let scope = &self.scope;
        let judge: Judge<'_> = &|part| scope.judge(part);
        let result = self.reader.finish(judge, output);
        result.map_err(|why| problem(Some(self.reader.parts()), why))
    }
}

impl Scope {
    fn reader(&self) -> Result<Reader, Refusal> {
        let content_type = self.content_type.clone();
        let strict = content_type.and_then(|content_type| Reader::new(&content_type, self.kind));
        if self.is_certain { strict } else { Ok(Reader::Suspect(SuspectReader::new(strict))) }
    }

    fn judge(&self, part: &Part<'_>) -> Result<(), Refusal> {
        let forbidden = |why: String| {
            let target: String = part.target.chars().take(200).collect();
            let target = target.escape_default();
            Err(Refusal::Forbidden(format!("({} {target}) {why}", part.method)))
        };
        let guard: &Guard = &self.table.guard;
        let is_odd = |one: char| one.is_control() || matches!(one, '#' | '\u{2028}' | '\u{2029}');
        // Spaces beyond ASCII, and what is not seen at all, are trimmed by some.
        let is_shown = |first: char| first.is_ascii_graphic() || first.is_alphanumeric();
        let begins_oddly = part.target.starts_with(|first: char| !is_shown(first));
        if begins_oddly || part.target.contains(is_odd) {
            return forbidden("has a target that is none".to_owned());
        }
        let reference = Reference { base: &self.base, is_below_base: self.kind == Kind::Scim };
        let paths = match self.origins.resolve(part.target, &reference, guard) {
            Ok(path) => self.as_sent_here(path),
            Err(why) => return forbidden(why.to_owned()),
        };
        if let Some(host) = part.headers.get(HOST)
            && !self.origins.know(host.as_bytes(), guard)
        {
            return forbidden("has the Host of another server".to_owned());
        }
        // A server may take a path of SCIM for an absolute one.
        let is_absolute = self.kind == Kind::Scim && part.target.starts_with('/');
        if is_absolute
            && let Ok(route) = self.table.find(self.listener, part.target.as_bytes())
            && !Arc::ptr_eq(&route, &self.route)
        {
            return forbidden(format!("can be read as a path of another route, {}", route.name));
        }
        for path in paths {
            match Kind::of(&path) {
                // An entity may be called like it.
                Some(Kind::Scim)
                    if all_methods(&part.method, part.headers, |method| method.is_safe()) => {}
                Some(_) => return forbidden("is a batch itself".to_owned()),
                None => {}
            }
            match self.table.find(self.listener, &path) {
                Ok(route) if Arc::ptr_eq(&route, &self.route) => {}
                Ok(route) => return forbidden(format!("takes another route, {}", route.name)),
                Err(problem) => return forbidden(format!("may not be sent: {}", problem.detail)),
            }
            let is_read = !part.refers() && self.route.reads_by_post(&path);
            let allowed = self.route.allows_as(is_read, &part.method, part.headers, &path);
            if let Err(problem) = allowed {
                return forbidden(format!("may not be sent: {}", problem.detail));
            }
        }
        Ok(())
    }

    /// The paths on this listener that lead to what the upstream makes of a path. With `strip_path`,
    /// callers may or may not know of the part that is cut.
    fn as_sent_here(&self, path: Vec<u8>) -> Vec<Vec<u8>> {
        let mut paths = vec![path];
        paths.extend(paths.first().and_then(|path| self.below_base(path)));
        if self.route.cut > 0 {
            let prefix = self.route.config.path.as_bytes();
            let is_below = |path: &Vec<u8>| {
                path.strip_prefix(prefix).is_some_and(|rest| rest.first() == Some(&b'/'))
            };
            let whole = paths.iter().map(|path| [prefix, path].concat());
            paths = whole.chain(paths.iter().filter(|path| is_below(path)).cloned()).collect();
        }
        paths
    }

    /// The path below the batch's service for a server that cuts the service's path off without looking for a
    /// slash behind it: `/svcOrders` is `/svc/Orders` to Olingo.
    fn below_base(&self, path: &[u8]) -> Option<Vec<u8>> {
        let bases =
            [self.base.as_slice().into(), route::without_prefix(&self.base, self.route.cut)];
        bases.iter().find_map(|base| {
            let rest = path.strip_prefix(base.strip_suffix(b"/")?)?;
            let is_glued = !matches!(rest.first(), None | Some(b'/' | b'?'));
            is_glued.then(|| [base, rest].concat())
        })
    }
}

/// Whether a request says that it has a body.
fn announces_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0")
}

/// What is compressed can't be read.
fn check_coding(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return unreadable("is compressed");
    }
    Ok(())
}

/// The one type of a batch.
fn content_type(headers: &HeaderMap) -> Result<HeaderValue, Refusal> {
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

/// The answer to a refused batch.
fn problem(part: Option<usize>, refusal: Refusal) -> Problem {
    let subject = match part {
        Some(number) if number > 0 => format!("part {number} of the batch"),
        _ => "the batch".to_owned(),
    };
    match refusal {
        Refusal::Forbidden(why) => Problem::new(
            ErrorKind::BatchRefused,
            format!("{subject} {why}; the batch was not sent, or not to its end"),
        ),
        Refusal::Unreadable(why) => Problem::new(
            ErrorKind::BadRequest,
            format!(
                "{subject} {why}, so that it can't be checked; send it in a plain form, or let batches of this route through unread with `unchecked_batches: on`"
            ),
        ),
    }
}

#[cfg(test)]
mod tests;
