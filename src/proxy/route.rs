//! Which route a request takes. Pure: bytes in, a decision out.
//!
//! Paths are compared by whole, percent-decoded segments, and forwarded as they were sent. A path
//! is refused if an upstream could read it as the path of another route: otherwise
//! `/api/v1/datasphere/consumption;x` would pass as REST and arrive as OData. How servers read a
//! path is in `readings`.

mod fold;
mod readings;

use percent_encoding::percent_decode;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The last segment of the path of a batch (OData 4.01 part 1, section 11.7).
pub(super) const BATCH: &str = "$batch";

/// Why a request target is refused. The message is shown to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// `GET http://host/path`, `OPTIONS *`, or no path at all.
    #[error(
        "the request target must be a path that begins with `/`; point the tool at this address as its server, not as its proxy"
    )]
    NotOriginForm,
    /// A byte that RFC 3986 allows in no path, and that servers read in different ways.
    #[error("the path holds a control character, a space, `\\` or `#`; percent-encode it")]
    Character,
    /// `%` without two hexadecimal digits.
    #[error(
        "the path holds `%` without two hexadecimal digits after it; write a literal `%` as `%25`"
    )]
    Escape,
    /// `.` or `..` as a segment, in any encoding. `%252e` is `.` to a server that decodes twice.
    #[error("the path holds `.` or `..` as a segment; send the path it stands for")]
    DotSegment,
    /// `%00`.
    #[error("the path holds an encoded NUL; remove it")]
    Nul,
    /// For some server it is the path of another route.
    #[error(
        "some servers read this path as another route's (it is encoded twice, or holds `;`, `\\`, `%2f`, `//`, or characters that some servers cut off or convert); send it in its plain form"
    )]
    Ambiguous,
    /// A route with `strip_path` would send `//host`.
    #[error(
        "without the part that this route removes, the path begins with `//`, which can be read as a host; send a single `/`"
    )]
    Authority,
    /// A character with more bytes of UTF-8 than necessary: lenient servers read `%c0%ae` as `.`.
    #[error("the path holds a character in an overlong form of UTF-8; use its shortest form")]
    Overlong,
}

/// Finds the route of a path.
#[derive(Debug)]
pub struct Router {
    /// The routes, those with the most segments first, then as configured.
    routes: Vec<Arc<Route>>,
    /// The same routes, found by their segments.
    root: Node,
}

/// The segments of a route, and its position among the configured ones.
#[derive(Debug)]
struct Route {
    segments: Vec<String>,
    index: usize,
}

/// The routes that begin with the same segments, so that a path is compared with few routes.
#[derive(Debug, Default)]
struct Node {
    /// The routes that have no more segments, as configured.
    routes: Vec<Arc<Route>>,
    /// Longer routes by their next segment, as [`search_key`] returns it.
    longer: BTreeMap<Vec<u8>, Self>,
}

impl Router {
    /// A router over these paths. [`Router::find`] returns their positions.
    pub fn new<'a>(paths: impl IntoIterator<Item = &'a str>) -> Self {
        let mut routes: Vec<_> = paths
            .into_iter()
            .enumerate()
            .map(|(index, path)| {
                let segments = path.split('/').skip(1).map(str::to_owned).collect();
                Arc::new(Route { segments, index })
            })
            .collect();
        routes.sort_by_key(|route| std::cmp::Reverse(route.segments.len()));
        let mut root = Node::default();
        for route in &routes {
            let mut node = &mut root;
            for segment in &route.segments {
                node = node.longer.entry(search_key(segment.as_bytes()).into()).or_default();
            }
            node.routes.push(route.clone());
        }
        Self { routes, root }
    }

    /// The position of the route for a request target (path and query as received), or `None` if no
    /// route matches.
    ///
    /// # Errors
    /// The target is malformed, or could be read as that of another route.
    pub fn find(&self, target: &[u8]) -> Result<Option<usize>, TargetError> {
        let path = path_of(target);
        check(path)?;
        let (found, alike) = self.routes_of(path, |segment| unescape(segment));
        if found.is_some() && alike != found {
            return Err(TargetError::Ambiguous);
        }
        if readings::differ(path) {
            for reading in readings::of(path)? {
                let segments: Vec<_> = readings::bare_segments(&reading).collect();
                if segments.iter().any(|segment| is_dot_segment(segment)) {
                    return Err(TargetError::DotSegment);
                }
                let (taken, _) = self.routes_of(&reading, |segment| segment.into());
                if taken != found || found.is_some() && self.route_of_names(&segments) != found {
                    return Err(TargetError::Ambiguous);
                }
            }
        }
        Ok(found)
    }

    /// The route whose segments a path begins with, each decoded by `decode`, and the route that a
    /// server would find that ignores case, or for which `Sales(1)` is in `Sales`.
    fn routes_of<'p>(
        &self,
        path: &'p [u8],
        decode: impl Fn(&'p [u8]) -> Cow<'p, [u8]>,
    ) -> (Option<usize>, Option<usize>) {
        let (mut found, mut alike) = (None, None);
        let mut node = &self.root;
        for (count, segment) in segments(path).enumerate() {
            if node.longer.is_empty() {
                break;
            }
            let Some(longer) = node.longer.get(&*search_key(&decode(segment))) else { break };
            node = longer;
            let begin = || segments(path).take(count + 1).map(&decode);
            let mut alike_here = None;
            for route in &node.routes {
                let is_same = route.is_same(begin());
                if is_same || route.is_alike(begin()) {
                    alike_here = alike_here.or(Some(route.index));
                }
                if is_same {
                    found = Some(route.index);
                    break;
                }
            }
            alike = alike_here.or(alike);
        }
        (found, alike)
    }

    /// The route that a server would find that trims each of these bare segments as far as it can,
    /// and ignores case.
    fn route_of_names(&self, segments: &[Cow<'_, [u8]>]) -> Option<usize> {
        let names = || segments.iter().map(|segment| readings::name(segment));
        let is_route = |route: &&Arc<Route>| {
            let mut given = names().filter(|name| !name.is_empty());
            let wanted = route.segments.iter().map(|segment| readings::name(segment.as_bytes()));
            wanted
                .filter(|name| !name.is_empty())
                .all(|wanted| given.next().is_some_and(|name| name.eq_ignore_ascii_case(wanted)))
        };
        self.routes.iter().find(is_route).map(|route| route.index)
    }
}

impl Route {
    /// Whether these are the segments of this route.
    fn is_same<'p>(&self, given: impl Iterator<Item = Cow<'p, [u8]>>) -> bool {
        given.zip(&self.segments).all(|(given, wanted)| *given == *wanted.as_bytes())
    }

    /// Whether these are the segments of this route for a server that ignores case, or for which
    /// `Sales(1)` is in `Sales`.
    fn is_alike<'p>(&self, given: impl Iterator<Item = Cow<'p, [u8]>>) -> bool {
        given.zip(&self.segments).all(|(given, wanted)| {
            let name = given.get(..wanted.len()).unwrap_or_default();
            name.eq_ignore_ascii_case(wanted.as_bytes())
                && matches!(given.get(wanted.len()), None | Some(b'('))
        })
    }
}

/// What two segments have in common if [`Route::is_alike`] takes one for the other.
fn search_key(segment: &[u8]) -> Cow<'_, [u8]> {
    let name = segment.split(|byte| *byte == b'(').next().unwrap_or_default();
    if name.iter().any(u8::is_ascii_uppercase) {
        name.to_ascii_lowercase().into()
    } else {
        name.into()
    }
}

/// Checks what is refused for any routes.
fn check(path: &[u8]) -> Result<(), TargetError> {
    if path.first() != Some(&b'/') {
        return Err(TargetError::NotOriginForm);
    }
    if path.iter().any(|byte| matches!(byte, 0..=b' ' | 0x7f | b'\\' | b'#')) {
        return Err(TargetError::Character);
    }
    // Most paths hold nothing to decode.
    let is_literal = path.is_ascii() && !path.contains(&b'%');
    for segment in segments(path) {
        if is_literal && segment.first() != Some(&b'.') {
            continue;
        }
        let decoded = decode(segment)?;
        if decoded.contains(&0) {
            return Err(TargetError::Nul);
        }
        if is_overlong(&decoded) {
            return Err(TargetError::Overlong);
        }
        if is_dot_segment(&decoded) {
            return Err(TargetError::DotSegment);
        }
    }
    Ok(())
}

/// Whether a segment is `.` or `..`, also with a parameter: Java servers read `..;x` as `..`.
fn is_dot_segment(segment: &[u8]) -> bool {
    let name = segment.split(|byte| *byte == b';').next();
    matches!(name, Some(b"." | b".."))
}

/// The target without its query.
pub(crate) fn path_of(target: &[u8]) -> &[u8] {
    target.split(|byte| *byte == b'?').next().unwrap_or(target)
}

/// Whether the last segment is this one.
pub(super) fn ends_with(target: &[u8], name: &str) -> bool {
    let last = segments(path_of(target)).last().and_then(|segment| decode(segment).ok());
    last.is_some_and(|segment| *segment == *name.as_bytes())
}

/// Whether every server reads the last segment as this one. A server that decodes before it looks
/// for the query reads `Sales%3f/$query` as `Sales`.
pub(super) fn always_ends_with(target: &[u8], name: &str) -> bool {
    let is_last = |path: &[u8]| {
        let path = &*fold::folded(path);
        let last = path.rsplit(|byte| *byte == b'/').next();
        readings::before_query(path).len() == path.len() && last == Some(name.as_bytes())
    };
    // Most targets end here.
    ends_with(target, name)
        && readings::of(path_of(target))
            .is_ok_and(|readings| readings.iter().all(|path| is_last(path)))
}

/// Whether some server could read the last segment as this one: in another case, encoded twice, or
/// with a slash, a parameter, a query, spaces or dots after it.
pub(super) fn may_end_with(target: &[u8], name: &str) -> bool {
    let is_name = |path: &[u8]| {
        let segments = readings::bare_segments(path);
        segments.filter(|segment| !readings::name(segment).is_empty()).last().is_some_and(
            |segment| {
                let end = segment.iter().rposition(|byte| byte.is_ascii_alphanumeric());
                let plain = segment.get(..end.map_or(0, |end| end + 1)).unwrap_or_default();
                readings::name(plain).eq_ignore_ascii_case(name.as_bytes())
            },
        )
    };
    let is_last = |path: &[u8]| {
        let path = &*fold::folded(path);
        is_name(path) || is_name(readings::before_query(path))
    };
    any_reading(target, is_last)
}

/// Whether some server could read any segment as one that begins like this.
pub(super) fn may_hold(target: &[u8], name: &str) -> bool {
    let begins = |segment: Cow<'_, [u8]>| {
        let start = readings::name(&segment).get(..name.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
    };
    any_reading(target, |path| readings::bare_segments(path).any(begins))
}

fn any_reading(target: &[u8], is_true: impl Fn(&[u8]) -> bool) -> bool {
    // A path with too many readings has no route.
    readings::of(path_of(target)).is_ok_and(|readings| readings.iter().any(|path| is_true(path)))
}

/// The segments of a path that begins with a slash.
fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').skip(1)
}

/// Percent-decodes once, and copies nothing if there is no `%`.
fn decode(segment: &[u8]) -> Result<Cow<'_, [u8]>, TargetError> {
    let mut escapes = segment.split(|byte| *byte == b'%').skip(1);
    if escapes.any(|rest| escaped(rest).is_none()) {
        return Err(TargetError::Escape);
    }
    Ok(unescape(segment))
}

/// Percent-decodes once, and leaves what is not an escape.
fn unescape(segment: &[u8]) -> Cow<'_, [u8]> {
    percent_decode(segment).into()
}

/// The byte for the two digits after a `%`, and the rest.
fn escaped(rest: &[u8]) -> Option<(u8, &[u8])> {
    let ([high, low], rest) = rest.split_first_chunk()?;
    let digit = |byte: u8| char::from(byte).to_digit(16);
    Some((u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?, rest))
}

/// Whether a text holds UTF-8 that is longer than necessary (RFC 3629 section 3).
fn is_overlong(decoded: &[u8]) -> bool {
    let overlong = |pair: &[u8]| {
        matches!(
            pair,
            [0xc0 | 0xc1, 0x80..=0xbf]
                | [0xe0, 0x80..=0x9f]
                | [0xf0, 0x80..=0x8f]
                | [0xf8, 0x80..=0x87]
                | [0xfc, 0x80..=0x83]
        )
    };
    decoded.windows(2).any(overlong)
}

/// The target without its first `count` segments: `/ctm/v2/nodes?x` without one is `/v2/nodes?x`.
pub(crate) fn without_prefix(target: &[u8], count: usize) -> Cow<'_, [u8]> {
    let path_length = path_of(target).len();
    let (path, query) = target.split_at(path_length);
    let skipped: usize = segments(path).take(count).map(|segment| segment.len() + 1).sum();
    match path.get(skipped..) {
        Some(rest) if !rest.is_empty() => target.get(skipped..).unwrap_or(target).into(),
        _ => [b"/", query].concat().into(),
    }
}

/// Whether a target without its first `count` segments begins with `//`, in any reading. Servers
/// that trim a URL ignore spaces between the slashes.
pub(crate) fn leaves_authority(target: &[u8], count: usize) -> bool {
    let rest = without_prefix(target, count);
    any_reading(&rest, |path| {
        let mut segments = readings::bare_segments(path).skip(1);
        path.starts_with(b"/\\")
            || segments.next().is_some_and(|first| first.is_empty()) && segments.next().is_some()
    })
}

#[cfg(test)]
mod tests;
