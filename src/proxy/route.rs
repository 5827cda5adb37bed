//! Which route a request takes. Pure: bytes in, a decision out.
//!
//! Paths are compared by whole, percent-decoded segments, and forwarded as they were sent. A path
//! that an upstream might read differently from us is refused before any route is looked for:
//! otherwise `/api/v1/scim2/..%2fcontent` would pass as SCIM and arrive as transport.

use std::borrow::Cow;

/// What is wrong with a request target. The message is shown to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// `GET http://host/path`, `OPTIONS *`, or no path at all.
    #[error(
        "the request target must be a path that begins with `/`; point the tool at this address as its server, not as its proxy"
    )]
    NotOriginForm,
    /// A byte that RFC 3986 allows in no path and servers read in different ways.
    #[error("the path holds a control character, a space, `\\` or `#`; percent-encode it")]
    Character,
    /// `%` without two hexadecimal digits.
    #[error("the path holds `%` without two hexadecimal digits behind it")]
    Escape,
    /// `.` or `..` as a segment, however written; `%252e` is `.` to a server that decodes twice.
    #[error("the path holds `.` or `..` as a segment; send the path it stands for")]
    DotSegment,
    /// `%00`, `%5c`, or `%2f` where it would change the route.
    #[error("the path holds an encoded separator or NUL where it would change the route")]
    EncodedSeparator,
    /// A character in more bytes of UTF-8 than it takes: `%c0%ae` is `.` to whoever does not mind.
    #[error("the path holds a character in an overlong form of UTF-8")]
    Overlong,
    /// `//` where it would change the route.
    #[error("the path holds `//` where it would change the route")]
    EmptySegment,
}

/// Finds the route of a path.
#[derive(Debug)]
pub struct Router {
    /// Longest path first, then as configured.
    routes: Vec<(Vec<String>, usize)>,
    /// The length of the longest path, in segments.
    depth: usize,
}

impl Router {
    /// A router over these paths; [`Router::find`] answers with their positions.
    pub fn new<'a>(paths: impl IntoIterator<Item = &'a str>) -> Self {
        let mut routes: Vec<_> = paths
            .into_iter()
            .enumerate()
            .map(|(index, path)| {
                let segments = path.split('/').skip(1).map(str::to_owned).collect();
                (segments, index)
            })
            .collect();
        routes
            .sort_by_key(|(segments, _): &(Vec<String>, usize)| std::cmp::Reverse(segments.len()));
        let depth = routes.first().map_or(0, |(segments, _)| segments.len());
        Self { routes, depth }
    }

    /// The position of the route for a request target (path and query as on the wire), or `None`
    /// when no route matches.
    ///
    /// # Errors
    /// The target is malformed, or could be read in more than one way.
    pub fn find(&self, target: &[u8]) -> Result<Option<usize>, TargetError> {
        let path = path_of(target);
        self.check(path)?;
        Ok(self.routes.iter().find(|(route, _)| begins_with(path, route)).map(|(_, index)| *index))
    }

    fn check(&self, path: &[u8]) -> Result<(), TargetError> {
        if path.first() != Some(&b'/') {
            return Err(TargetError::NotOriginForm);
        }
        if path.iter().any(|byte| matches!(byte, 0..=b' ' | 0x7f | b'\\' | b'#')) {
            return Err(TargetError::Character);
        }
        let mut segments = segments(path).enumerate().peekable();
        while let Some((index, segment)) = segments.next() {
            let may_change_route = index < self.depth;
            let is_last = segments.peek().is_none();
            if segment.is_empty() && may_change_route && !is_last {
                return Err(TargetError::EmptySegment);
            }
            let decoded = decode(segment)?;
            if decoded.iter().any(|byte| matches!(byte, 0 | b'\\'))
                || may_change_route && decoded.contains(&b'/')
            {
                return Err(TargetError::EncodedSeparator);
            }
            if is_overlong(&decoded) {
                return Err(TargetError::Overlong);
            }
            let again = unescape(&decoded);
            if again.split(|byte| matches!(byte, b'/' | b'\\')).any(is_dot_segment) {
                return Err(TargetError::DotSegment);
            }
        }
        Ok(())
    }
}

/// `.` and `..`, also with a parameter behind: Java servers read `..;x` as `..`.
fn is_dot_segment(segment: &[u8]) -> bool {
    let name = segment.split(|byte| *byte == b';').next();
    matches!(name, Some(b"." | b".."))
}

/// The target without its query.
pub(crate) fn path_of(target: &[u8]) -> &[u8] {
    target.split(|byte| *byte == b'?').next().unwrap_or(target)
}

/// Whether the last segment is `$batch`.
pub(super) fn is_batch(target: &[u8]) -> bool {
    let last = segments(path_of(target)).last().and_then(|segment| decode(segment).ok());
    last.is_some_and(|segment| *segment == *b"$batch")
}

/// What stands between the slashes of a path that begins with one.
fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').skip(1)
}

fn begins_with(path: &[u8], route: &[String]) -> bool {
    let mut given = segments(path);
    route.iter().all(|wanted| {
        given
            .next()
            .and_then(|segment| decode(segment).ok())
            .is_some_and(|segment| *segment == *wanted.as_bytes())
    })
}

/// Percent-decodes once. Nothing is copied where there is no `%`.
fn decode(segment: &[u8]) -> Result<Cow<'_, [u8]>, TargetError> {
    let mut escapes = segment.split(|byte| *byte == b'%').skip(1);
    if escapes.any(|behind| escaped(behind).is_none()) {
        return Err(TargetError::Escape);
    }
    Ok(unescape(segment))
}

/// Percent-decodes once and leaves what is no escape.
fn unescape(segment: &[u8]) -> Cow<'_, [u8]> {
    let mut parts = segment.split(|byte| *byte == b'%');
    let first = parts.next().unwrap_or(segment);
    if first.len() == segment.len() {
        return segment.into();
    }
    let mut decoded = first.to_vec();
    for part in parts {
        let (byte, rest) = escaped(part).unwrap_or((b'%', part));
        decoded.push(byte);
        decoded.extend_from_slice(rest);
    }
    decoded.into()
}

/// The byte that the two digits behind a `%` stand for, and what is behind them.
fn escaped(behind: &[u8]) -> Option<(u8, &[u8])> {
    let ([high, low], rest) = behind.split_first_chunk()?;
    let digit = |byte: u8| char::from(byte).to_digit(16);
    Some((u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?, rest))
}

/// Whether UTF-8 that is longer than it need be is in it (RFC 3629 section 3).
fn is_overlong(decoded: &[u8]) -> bool {
    let overlong = |pair: &[u8]| {
        matches!(pair, [0xc0 | 0xc1, 0x80..=0xbf] | [0xe0, 0x80..=0x9f] | [0xf0, 0x80..=0x8f])
    };
    decoded.windows(2).any(overlong)
}

/// The target without the `count` first segments: `/ctm/v2/nodes?x` without one is `/v2/nodes?x`.
pub(crate) fn without_prefix(target: &[u8], count: usize) -> Cow<'_, [u8]> {
    let path_length = path_of(target).len();
    let (path, query) = target.split_at(path_length);
    let skipped: usize = segments(path).take(count).map(|segment| segment.len() + 1).sum();
    match path.get(skipped..) {
        Some(rest) if !rest.is_empty() => target.get(skipped..).unwrap_or(target).into(),
        _ => [b"/", query].concat().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn find(target: &str) -> Result<Option<usize>, TargetError> {
        let paths = ["/api/v1/datasphere", "/api/v1/datasphere/consumption", "/api/v1/scim2", "/x"];
        Router::new(paths).find(target.as_bytes())
    }

    #[test]
    fn the_longest_path_wins_and_segments_are_whole() {
        assert_eq!(find("/api/v1/datasphere/consumption/catalog?$top=1"), Ok(Some(1)));
        assert_eq!(find("/api/v1/datasphere/tasks"), Ok(Some(0)));
        assert_eq!(find("/api/v1/datasphere"), Ok(Some(0)));
        assert_eq!(find("/api/v1/datasphere/"), Ok(Some(0)));
        assert_eq!(find("/api/v1/scim2?filter=a"), Ok(Some(2)));
        assert_eq!(find("/api/v1/scim22"), Ok(None));
        assert_eq!(find("/api/v1"), Ok(None));
        assert_eq!(find("/"), Ok(None));
    }

    #[test]
    fn an_encoded_path_takes_the_route_it_stands_for() {
        assert_eq!(find("/api/v1/datasphere/%63onsumption/x"), Ok(Some(1)));
        assert_eq!(find("/%61pi/v1/scim2/Users"), Ok(Some(2)));
    }

    #[test]
    fn ambiguous_targets_are_refused() {
        use TargetError::*;
        for (target, error) in [
            ("http://evil.example/api/v1/scim2", NotOriginForm),
            ("*", NotOriginForm),
            ("", NotOriginForm),
            ("/api/v1/scim2/../content", DotSegment),
            ("/api/v1/scim2/..", DotSegment),
            ("/api/v1/scim2/./x", DotSegment),
            ("/api/v1/scim2/%2e%2e/content", DotSegment),
            ("/api/v1/scim2/.%2E/content", DotSegment),
            ("/api/v1/scim2/Users/..%2fx", DotSegment),
            ("/api/v1/scim2/Users/x%2f..%2fy", DotSegment),
            ("/api/v1/scim2/..;a=b/content", DotSegment),
            ("/api/v1/scim2/%252e%252E/content", DotSegment),
            ("/api/v1/scim2/x/..%252fcontent%25", DotSegment),
            ("/api/v1/scim2/x/..%255ccontent", DotSegment),
            ("/api/v1/scim2/%c0%ae%c0%ae/content", Overlong),
            ("/api/v1/scim2/x/..%e0%80%afcontent", Overlong),
            ("/api/v1/scim2/x/..%f0%80%80%afcontent", Overlong),
            ("/api/v1/scim2%2fUsers", EncodedSeparator),
            ("/api%2Fv1/scim2", EncodedSeparator),
            ("/api/v1/scim2/Users/a%5cb", EncodedSeparator),
            ("/api/v1/scim2/Users/a%00", EncodedSeparator),
            ("/api/v1/scim2/Users\\x", Character),
            ("/api/v1/scim2/#x", Character),
            ("/api/v1/scim2/a b", Character),
            ("//api/v1/scim2", EmptySegment),
            ("/api//v1/scim2", EmptySegment),
            ("/api/v1/scim2/%zz", Escape),
            ("/api/v1/scim2/%2", Escape),
            ("/api/v1/scim2/%", Escape),
            ("/api/v1/scim2/%%41", Escape),
            ("/api/v1/scim2/%+1", Escape),
        ] {
            assert_eq!(find(target), Err(error), "{target}");
        }
    }

    #[test]
    fn what_odata_and_scim_need_is_no_ambiguity() {
        for target in [
            "/api/v1/datasphere/consumption/catalog/spaces('A%2FB')/assets('C')",
            "/api/v1/datasphere/consumption/relational/S/V/_V(P='x%20y',D=2024-01-01)/Set?$filter=a%20eq%20'..'",
            "/api/v1/datasphere/consumption/relational/S/V/V(K='a/b')?x=/../y",
            "/api/v1/scim2/Users/3f-..-7",
            "/api/v1/datasphere/consumption/x//y",
            "/api/v1/datasphere/consumption/x('100%25')/a%252Fb/%E0%A0%80",
            "/api/v1/scim2/Users/%C3%A4?filter=userName%20eq%20%22a%22",
        ] {
            assert!(matches!(find(target), Ok(Some(_))), "{target}");
        }
    }

    #[test]
    fn a_batch_is_known_however_it_is_written() {
        assert!(is_batch(b"/a/$batch?x") && is_batch(b"/a/%24batch") && is_batch(b"/$batch"));
        assert!(!is_batch(b"/a/x$batch") && !is_batch(b"/a/$batch/b") && !is_batch(b"/a?/$batch"));
    }

    #[test]
    fn a_prefix_is_cut_and_the_rest_stays_byte_for_byte() {
        let cut = |target: &'static str, count| {
            String::from_utf8(without_prefix(target.as_bytes(), count).into_owned()).unwrap()
        };
        assert_eq!(cut("/ctm/v2/nodes?a=/b", 1), "/v2/nodes?a=/b");
        assert_eq!(cut("/ctm?a", 1), "/?a");
        assert_eq!(cut("/ctm", 1), "/");
        assert_eq!(cut("/ctm/", 1), "/");
        assert_eq!(cut("/a/b/c%2Fd", 2), "/c%2Fd");
    }

    proptest! {
        #[test]
        fn no_target_panics_and_no_accepted_path_climbs(target in prop::collection::vec(any::<u8>(), 0..40)) {
            let router = Router::new(["/a", "/a/b"]);
            if router.find(&target).is_ok() {
                let decoded = decode(path_of(&target)).unwrap();
                prop_assert!(!decoded.split(|byte| *byte == b'/').any(|s| s == b".." || s == b"."));
                prop_assert!(!decoded.contains(&0) && !decoded.contains(&b'\\'));
            }
        }

        #[test]
        fn a_cut_target_is_always_a_path(target in "/[a-c/]{0,8}(\\?[a-c/]{0,4})?", count in 0usize..4) {
            prop_assert!(without_prefix(target.as_bytes(), count).starts_with(b"/"));
        }
    }
}
