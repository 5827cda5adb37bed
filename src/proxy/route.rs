//! Which route a request takes. Pure: bytes in, a decision out.
//!
//! Paths are compared by whole, percent-decoded segments, and forwarded as they were sent. A path
//! is refused where an upstream could read it as the path of another route: otherwise
//! `/api/v1/datasphere/consumption;x` would pass as REST and arrive as OData. What servers make of
//! a path is in `Readings`.

use std::borrow::Cow;
use std::collections::VecDeque;

/// Ends the path of a batch of requests (OData 4.01 part 1, section 11.7).
pub(super) const BATCH: &str = "$batch";

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
    /// `%00`.
    #[error("the path holds an encoded NUL")]
    Nul,
    /// Decoded again, without `;…`, with `\\` as `/`, or with `//` as `/`, it is the path of another route.
    #[error(
        "the path can be read as one of another route (encoded twice, or by `;`, `\\`, `%2f` or `//`); send it in its plain form"
    )]
    Ambiguous,
    /// `//host` is what a route with `strip_path` would send.
    #[error(
        "without the part that this route cuts, the path begins with `//` and can be read as a host; send one `/`"
    )]
    Authority,
    /// A character in more bytes of UTF-8 than it takes: lenient servers read `%c0%ae` as `.`.
    #[error("the path holds a character in an overlong form of UTF-8")]
    Overlong,
}

/// Finds the route of a path.
#[derive(Debug)]
pub struct Router {
    /// Longest path first, then as configured.
    routes: Vec<(Vec<String>, usize)>,
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
        Self { routes }
    }

    /// The position of the route for a request target (path and query as on the wire), or `None`
    /// when no route matches.
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
        if Readings::differ(path) {
            for reading in Readings::of(path)? {
                if reading.split(|byte| *byte == b'/').any(is_dot_segment) {
                    return Err(TargetError::DotSegment);
                }
                let (taken, alike) = self.routes_of(&reading, |segment| segment.into());
                if taken != found || found.is_some() && alike != found {
                    return Err(TargetError::Ambiguous);
                }
            }
        }
        Ok(found)
    }

    /// The route whose segments a path begins with, each decoded by `decode`, and the one that a server
    /// would take which takes no heed of capitals.
    fn routes_of<'p>(
        &self,
        path: &'p [u8],
        decode: impl Fn(&'p [u8]) -> Cow<'p, [u8]>,
    ) -> (Option<usize>, Option<usize>) {
        let mut alike = None;
        for (route, index) in &self.routes {
            let mut given = segments(path);
            let mut is_same = true;
            let begins = route.iter().all(|wanted| {
                given.next().is_some_and(|segment| {
                    let segment = decode(segment);
                    is_same &= *segment == *wanted.as_bytes();
                    segment.eq_ignore_ascii_case(wanted.as_bytes())
                })
            });
            if begins {
                alike = alike.or(Some(*index));
                if is_same {
                    return (Some(*index), alike);
                }
            }
        }
        (None, alike)
    }
}

/// What is refused whatever the routes are.
fn check(path: &[u8]) -> Result<(), TargetError> {
    if path.first() != Some(&b'/') {
        return Err(TargetError::NotOriginForm);
    }
    if path.iter().any(|byte| matches!(byte, 0..=b' ' | 0x7f | b'\\' | b'#')) {
        return Err(TargetError::Character);
    }
    for segment in segments(path) {
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

/// What a server does to a path.
type Step = fn(&[u8]) -> Vec<u8>;

/// Every path that a server may take another one for.
///
/// Servers decode once or several times, read `%2f` as `/`, cut `;…` off a segment, take `\` for `/` and `//`
/// for `/`: any of these, in any order, at least one decoding among them.
struct Readings;

impl Readings {
    /// A path with more readings than this is encoded more often than any client does.
    const MOST: usize = 64;

    /// Whether a path has more than one reading that matters. Most have not.
    fn differ(path: &[u8]) -> bool {
        let has_separator = path.contains(&b';') || path.windows(2).any(|pair| pair == b"//");
        let mut escapes = path.split(|byte| *byte == b'%').skip(1).filter_map(escaped);
        has_separator || escapes.any(|(byte, _)| matches!(byte, b'%' | b'/' | b'\\' | b';'))
    }

    /// # Errors
    /// There are too many.
    fn of(path: &[u8]) -> Result<Vec<Vec<u8>>, TargetError> {
        let as_sent = Self::closure([path.to_vec()], &[cut_parameters, slashed, joined])?;
        let decoded = as_sent.iter().map(|path| unescape(path).into_owned());
        Self::closure(
            decoded,
            &[|path| unescape(path).into_owned(), cut_parameters, slashed, joined],
        )
    }

    /// The paths, and all that these steps make of them.
    fn closure(
        paths: impl IntoIterator<Item = Vec<u8>>,
        steps: &[Step],
    ) -> Result<Vec<Vec<u8>>, TargetError> {
        let mut known: Vec<Vec<u8>> = Vec::new();
        let mut new: VecDeque<Vec<u8>> = paths.into_iter().collect();
        while let Some(path) = new.pop_front() {
            if known.contains(&path) {
                continue;
            }
            if known.len() == Self::MOST {
                return Err(TargetError::Ambiguous);
            }
            new.extend(steps.iter().map(|step| step(&path)).filter(|next| *next != path));
            known.push(path);
        }
        Ok(known)
    }
}

/// The path as Java servers read it: without `;…` in its segments.
fn cut_parameters(path: &[u8]) -> Vec<u8> {
    let bare = |segment: &[u8]| segment.split(|byte| *byte == b';').next().map(<[u8]>::to_vec);
    let segments: Vec<_> = path.split(|byte| *byte == b'/').filter_map(bare).collect();
    segments.join(&b'/')
}

/// The path as Windows servers read it.
fn slashed(path: &[u8]) -> Vec<u8> {
    path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect()
}

/// The path without its empty segments.
fn joined(path: &[u8]) -> Vec<u8> {
    let mut path = path.to_vec();
    path.dedup_by(|next, last| *next == b'/' && *last == b'/');
    path
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

/// Whether the last segment is this one.
pub(super) fn ends_with(target: &[u8], name: &str) -> bool {
    let last = segments(path_of(target)).last().and_then(|segment| decode(segment).ok());
    last.is_some_and(|segment| *segment == *name.as_bytes())
}

/// Whether a server could take the last segment for this one: in capitals, encoded twice, or with
/// a slash, a parameter, spaces or dots behind it.
pub(super) fn may_end_with(target: &[u8], name: &str) -> bool {
    let is_last = |path: &[u8]| {
        let mut segments = path.split(|byte| matches!(byte, b'/' | b'\\'));
        let last = segments.rfind(|segment| !segment.is_empty());
        last.is_some_and(|segment| {
            let end = segment.iter().rposition(|byte| byte.is_ascii_alphanumeric());
            let plain = segment.get(..end.map_or(0, |end| end + 1)).unwrap_or_default();
            plain.eq_ignore_ascii_case(name.as_bytes())
        })
    };
    any_reading(target, is_last)
}

/// Whether a server could take any segment for one that begins like this.
pub(super) fn may_hold(target: &[u8], name: &str) -> bool {
    let begins = |segment: &[u8]| {
        segment.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
    };
    any_reading(target, |path| path.split(|byte| matches!(byte, b'/' | b'\\')).any(begins))
}

fn any_reading(target: &[u8], is_true: impl Fn(&[u8]) -> bool) -> bool {
    // What has too many readings has no route.
    Readings::of(path_of(target)).is_ok_and(|readings| readings.iter().any(|path| is_true(path)))
}

/// What stands between the slashes of a path that begins with one.
fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').skip(1)
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

/// Whether a target without the `count` first segments begins with `//`, in any reading.
pub(crate) fn leaves_authority(target: &[u8], count: usize) -> bool {
    let rest = without_prefix(target, count);
    any_reading(&rest, |path| matches!(path, [b'/', b'/' | b'\\', ..]))
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
            ("/api/v1/scim2%2fUsers", Ambiguous),
            ("/api%2Fv1/scim2", Ambiguous),
            ("/api/v1/scim2/Users/a%00", Nul),
            ("/api/v1/scim2/Users\\x", Character),
            ("/api/v1/scim2/#x", Character),
            ("/api/v1/scim2/a b", Character),
            ("//api/v1/scim2", Ambiguous),
            ("/api//v1/scim2", Ambiguous),
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
    fn a_narrow_route_cannot_be_passed_by_under_a_wide_one() {
        for target in [
            "/api/v1/datasphere/Consumption/x",
            "/api/v1/datasphere/CONSUMPTION;x",
            "/api/v1/datasphere/%43onsumption",
            "/api/v1/datasphere/consumption;x",
            "/api/v1/datasphere/consumption;x/catalog",
            "/api/v1/datasphere/consumption%3bx/catalog",
            "/api/v1/datasphere/consumption%253Bx/catalog",
            "/api/v1/datasphere/%2563onsumption/catalog",
            "/api/v1/datasphere/%252563onsumption/catalog",
            "/api/v1/datasphere/x%2f/../consumption",
            "/api/v1/datasphere//consumption/catalog",
            "/api/v1/datasphere/;a/consumption/catalog",
            "/api/v1/datasphere/%2fconsumption",
            "/api/v1/datasphere%2fconsumption/x",
            "/api/v1/datasphere%5cconsumption/x",
            "/api/v1/datasphere/%5cconsumption/x",
            "/api/v1/datasphere/%255Cconsumption/x",
            "/api/v1/datasphere/%3bx%2fconsumption/x",
            "/api/v1/datasphere/%253b%252fconsumption",
            "/api/v1/datasphere;/consumption",
            "/api/v1/datasphere/consumption/%252e%252e/x",
            "/api/v1/datasphere/consumption/%25252e%25252e/x",
            "/x;/y",
            "/x%252f",
            "/x/%252525252525252525252525252525252525252525252525252525252525252525252525252525252525252525252525252525252525252525252525252525252525252541",
        ] {
            assert!(
                matches!(find(target), Err(TargetError::Ambiguous | TargetError::DotSegment)),
                "{target}: {:?}",
                find(target)
            );
        }
    }

    #[test]
    fn how_long_another_route_is_does_not_matter() {
        for target in ["/x//y", "/x/a%2fb", "/x/a%5Cb", "/x/a%255Cb;c//d", "/x/%3B;"] {
            assert_eq!(find(target), Ok(Some(3)), "{target}");
        }
    }

    #[test]
    fn what_odata_and_scim_need_is_no_ambiguity() {
        for target in [
            "/api/v1/scim2/Users('CORP%5Cjdoe')",
            "/api/v1/scim2/Users/CORP%5cjdoe",
            "/api/v1/datasphere/consumption/relational/S/V/V(K='a%3Bb;c%2F%2Fd')",
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
        let is_batch = |target: &str| ends_with(target.as_bytes(), "$batch");
        assert!(is_batch("/a/$batch?x") && is_batch("/a/%24batch") && is_batch("/$batch"));
        assert!(!is_batch("/a/x$batch") && !is_batch("/a/$batch/b") && !is_batch("/a?/$batch"));
        let may_be = |target: &str| may_hold(target.as_bytes(), "$batch");
        for target in [
            "/a/$batch?x",
            "/a/%24batch",
            "/a/$BATCH",
            "/a/$batch/",
            "/a/$batch//",
            "/a/$batch;x",
            "/a/%2524batch",
            "/a/x%2f$batch",
            "/a/x%5C$batch",
            "/a/$batch%2f%3b",
            "/a/$batch;/;x",
        ] {
            assert!(may_be(target), "{target}");
        }
        for target in
            ["/a/$batch%20", "/a/$batch.", "/a/$batch()", "/a/$batch/$query", "/a/$batch%3fx"]
        {
            assert!(may_be(target), "{target}");
        }
        assert!(!may_be("/a/x$batch") && !may_be("/a?/$batch"));
        let is_bulk = |target: &str| may_end_with(target.as_bytes(), "Bulk");
        assert!(is_bulk("/a/bulk;x") && is_bulk("/a/Bulk%20/") && is_bulk("/a/Bulk."));
        assert!(!is_bulk("/a/Bulk/x") && !is_bulk("/a/Bulky"));
    }

    #[test]
    fn no_cut_path_is_taken_for_a_host() {
        let leaves = |target: &str| leaves_authority(target.as_bytes(), 1);
        for target in [
            "/ctm//evil",
            "/ctm//evil/x",
            "/ctm/%2fevil",
            "/ctm/%5Cevil",
            "/ctm/%252fevil",
            "/ctm/;x/evil",
            "/ctm/%3b/evil",
            "/ctm/%25252fevil",
        ] {
            assert!(leaves(target), "{target}");
        }
        assert!(!leaves("/ctm/evil//x") && !leaves("/ctm") && !leaves("/ctm/?//x"));
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
                prop_assert!(!decoded.contains(&0));
            }
        }

        #[test]
        fn no_reading_of_an_accepted_path_takes_another_route(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "/", "a", "b", "x", ";", "%3b", "%2f", "%5C", "%25", "5c", "2f", "3b", "%61", "61", "//", ".", "%2e",
            ]), 0..12),
        ) {
            let target = format!("/{}", pieces.concat());
            let router = Router::new(["/a", "/a/b", "/b"]);
            let Ok(found) = router.find(target.as_bytes()) else { return Ok(()) };
            // A server that decodes until nothing changes, and one that mends all on its way.
            let mut path = target.into_bytes();
            for _ in 0..12 {
                path = unescape(&path).into_owned();
            }
            let plain = |path: &[u8]| router.routes_of(path, |segment| segment.into()).0;
            prop_assert_eq!(plain(&path), found);
            prop_assert_eq!(plain(&joined(&cut_parameters(&slashed(&path)))), found);
        }

        #[test]
        fn a_cut_target_is_always_a_path(target in "/[a-c/]{0,8}(\\?[a-c/]{0,4})?", count in 0usize..4) {
            prop_assert!(without_prefix(target.as_bytes(), count).starts_with(b"/"));
        }
    }
}
