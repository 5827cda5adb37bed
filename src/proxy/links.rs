//! Keeping callers inside: the tenant's absolute URLs in its answers become the sidecar's.
//!
//! A caller that follows a link of the tenant's leaves the sidecar, gets a login page, and has lost
//! its data after the first page. What is rewritten is a closed list: headers here, and in bodies only
//! what [`json`] and [`xml`] know to be links. Business data stays byte for byte.

pub(super) mod answer;
mod batch;
mod door;
mod format;
mod head;
mod header;
mod inflate;
pub mod json;
mod multipart;
pub mod origin;
mod parts;
mod value;
pub mod xml;

use super::guard::Guard;
use super::route;
use crate::config::{Config, ListenAddress, ListenerId, Route};
use crate::profile::Links;
use arc_swap::ArcSwapOption;
use batch::{Back, BatchRewriter};
use door::{Door, Doorman};
use format::Format;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, RANGE,
    TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use json::JsonRewriter;
use origin::OriginMap;
use pingora::http::{RequestHeader, ResponseHeader};
use std::sync::Arc;
use url::Url;

pub(crate) use answer::BodyRewriter;
pub(super) use format::Rewriter;
pub(super) use header::restored_tags;

/// Headers that tell of bytes which are not what they were, once links are changed.
pub(super) const DIGESTS: [&str; 4] = ["content-md5", "digest", "content-digest", "repr-digest"];

/// What is rewritten on a route, for callers of one listener, and to what.
pub(super) struct Plan {
    bodies: Links,
    /// The upstreams' origins, each with where it is found here.
    targets: Vec<(Url, Door, String)>,
    /// The route's path, where it is cut from requests.
    prefix: Option<String>,
    /// The route's upstream.
    upstream: Url,
    /// Where requests to each path here go, the longest path first.
    ours: Vec<(Door, String, String)>,
    /// Who tells which origins are ours.
    doorman: Doorman,
    /// The maps for the latest `Host`; callers rarely use two.
    latest: ArcSwapOption<Maps>,
}

/// What becomes of URLs for callers that reach us at one origin.
struct Maps {
    host: HeaderValue,
    /// In answers: the upstreams' become ours.
    outward: Arc<OriginMap>,
    /// In requests: ours become the route's upstream's.
    back: Back,
}

impl Plan {
    /// The plan of a route, for callers of `listener`. `None` where links are off.
    pub(super) fn new(
        config: &Config,
        route: &Route,
        listener: ListenerId,
        guard: &Arc<Guard>,
        addresses: &[ListenAddress],
    ) -> Option<Self> {
        if !route.links {
            return None;
        }
        // The route's own upstream comes first: of two at one origin, its links stay with its client.
        let (own_first, others): (Vec<_>, Vec<_>) =
            config.upstreams.iter().enumerate().partition(|(index, _)| *index == route.upstream.0);
        let upstreams = own_first.into_iter().chain(others);
        let targets = upstreams.filter_map(|(index, upstream)| {
            // Another upstream is reached by a route of its own; one on this listener that cuts nothing is best.
            let leads_there = |other: &&Route| other.upstream.0 == index;
            let doors = config.routes.iter().filter(leads_there);
            let doors =
                doors.filter_map(|other| Some((Door::to(other, listener, addresses)?, other)));
            let (door, best) = if route.upstream.0 == index {
                (Door::Here, route)
            } else {
                doors.min_by_key(|(door, other)| (*door != Door::Here, other.strip_path))?
            };
            Some((upstream.origin.clone(), door, cut_path(best)))
        });
        let upstream = config.upstreams.get(route.upstream.0)?;
        let theirs = config.routes.iter().filter_map(|route| {
            let upstream = config.upstreams.get(route.upstream.0)?;
            let path = if route.strip_path { "" } else { &route.path };
            let origin = upstream.origin.origin().ascii_serialization();
            let door = Door::to(route, listener, addresses)?;
            Some((door, route.path.clone(), format!("{origin}{path}")))
        });
        let mut ours: Vec<_> = theirs.collect();
        ours.sort_by_key(|(_, path, _)| std::cmp::Reverse(path.len()));
        Some(Self {
            bodies: route.profile.links,
            targets: targets.collect(),
            prefix: route.strip_path.then(|| route.path.clone()),
            upstream: upstream.origin.clone(),
            ours,
            doorman: Doorman::new(route, listener, guard, addresses),
            latest: ArcSwapOption::empty(),
        })
    }

    /// The maps for a request: our origin is what its caller used, if that can be us.
    fn maps(&self, request: &HeaderMap) -> Arc<Maps> {
        let host = request.get(HOST).cloned().unwrap_or_else(|| HeaderValue::from_static(""));
        if let Some(latest) = self.latest.load_full().filter(|latest| latest.host == host) {
            return latest;
        }
        let own = self.doorman.own(&host);
        let pairs = self.targets.iter().filter_map(|(origin, door, path)| {
            let theirs = origin.origin().ascii_serialization();
            Some((theirs, format!("{}{path}", self.doorman.origin(*door, &own)?)))
        });
        let maps = Arc::new(Maps {
            host,
            outward: Arc::new(OriginMap::new(pairs, self.prefix.clone())),
            back: self.back(&own),
        });
        self.latest.store(Some(maps.clone()));
        maps
    }

    /// What becomes of our URLs in requests, if `own` is our origin.
    fn back(&self, own: &str) -> Back {
        let theirs = self.upstream.origin().ascii_serialization();
        let authority = |origin: &str| {
            origin.split_once("://").map(|(_, authority)| authority.to_owned()).unwrap_or_default()
        };
        let host = (authority(own), authority(&theirs));
        // Absolute paths lose what the route cuts.
        let paths = self.prefix.iter().map(|prefix| (prefix.clone(), String::new()));
        let ours = self.ours.iter().filter_map(|(door, path, theirs)| {
            Some((format!("{}{path}", self.doorman.origin(*door, own)?), theirs.clone()))
        });
        let urls = paths.chain(ours).chain([(own.to_owned(), theirs)]);
        Back { urls: Arc::new(OriginMap::new(urls, None)), host }
    }

    /// Who rewrites the body of this request, if it can hold a URL of ours.
    pub(super) fn request_rewriter(&self, request: &RequestHeader) -> Option<Rewriter> {
        if self.bodies == Links::Off || request.headers.contains_key(CONTENT_ENCODING) {
            return None;
        }
        let content_type = request.headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let is_batch = route::ends_with(request.raw_path(), route::BATCH);
        let back = &self.maps(&request.headers).back;
        if is_batch && let Some(batch) = BatchRewriter::new(content_type, back.clone()) {
            return Some(Rewriter::Batch(Box::new(batch)));
        }
        let format = Format::named(content_type).filter(|format| format.is_in(self.bodies))?;
        if is_batch && format == Format::Json {
            let batch = JsonRewriter::of_batch(back.urls.clone());
            return Some(Rewriter::Json(Box::new(batch)));
        }
        Some(Rewriter::new(Some(format), &back.urls))
    }

    /// Gives the upstream its own URLs and entity tags back, and asks for what can be rewritten:
    /// gzip, which saves the wide area. `caller` is the request as it came.
    pub(super) fn prepare(
        &self,
        caller: &RequestHeader,
        request: &mut RequestHeader,
    ) -> pingora::Result<()> {
        header::restore(request);
        if header::points_back(request) {
            header::point_back(request, &self.maps(&caller.headers).back.urls);
        }
        // A range is of the bytes as they are; it passes both ways.
        if self.bodies != Links::Off && !request.headers.contains_key(RANGE) {
            request.insert_header(ACCEPT_ENCODING, "gzip")?;
        }
        Ok(())
    }

    /// Rewrites the header of an answer. Returns how many links were changed there, and what is to
    /// be done to the body.
    pub(super) fn answer(
        &self,
        request: &RequestHeader,
        response: &mut ResponseHeader,
    ) -> pingora::Result<(u64, Option<BodyRewriter>)> {
        let map = self.maps(&request.headers).outward.clone();
        let count = header::rewrite(response, &map);
        let coding = Coding::of(&response.headers);
        let (is_gzip, is_readable) = (coding == Coding::Gzip, coding != Coding::Other);
        let is_batch = route::ends_with(request.raw_path(), route::BATCH);
        let rewriter = Rewriter::of_answer(&response.headers, is_batch, self.bodies, &map);
        let rewriter = if is_readable { rewriter } else { Rewriter::None };
        // The caller did not ask for the compression, if we did: it gets a plain body.
        let must_decode = is_gzip && !accepts_gzip(&request.headers);
        let changes = !rewriter.is_none() || must_decode;
        let passes = self.bodies == Links::Off
            || response.headers.get(CONTENT_LENGTH).is_some_and(|length| length == "0")
            || matches!(
                response.status,
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::PARTIAL_CONTENT
            );
        // A 304 or a HEAD answer about a changed body carries the tag of that body.
        let is_of_ours = response.status == StatusCode::NOT_MODIFIED
            && header::asks_about_ours(&request.headers);
        if (passes || !changes) && !is_of_ours {
            return Ok((count, None));
        }
        if is_gzip {
            response.remove_header(&CONTENT_ENCODING);
        }
        // What tells of bytes and their number is not true any more.
        response.remove_header(&CONTENT_LENGTH);
        response.remove_header(&ACCEPT_RANGES);
        for name in DIGESTS {
            response.remove_header(name);
        }
        if passes || request.method == Method::HEAD {
            header::weaken(response);
            return Ok((count, None));
        }
        response.set_version(Version::HTTP_11);
        response.insert_header(TRANSFER_ENCODING, "chunked")?;
        header::weaken(response);
        Ok((count, Some(BodyRewriter::new(is_gzip, rewriter, map.growth()))))
    }
}

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Plain,
    Gzip,
    Other,
}

impl Coding {
    fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all(CONTENT_ENCODING).iter();
        let codings = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        codings.fold(Self::Plain, |coding, name| {
            // `x-gzip` is an old name of it (RFC 9110 section 8.4.1.3).
            match (coding, &*name.trim_ascii().to_ascii_lowercase()) {
                (coding, b"" | b"identity") => coding,
                (Self::Plain, b"gzip" | b"x-gzip") => Self::Gzip,
                _ => Self::Other,
            }
        })
    }
}

/// What stands before a path here that the upstream does not have.
fn cut_path(route: &Route) -> String {
    if route.strip_path { route.path.clone() } else { String::new() }
}

fn accepts_gzip(request: &HeaderMap) -> bool {
    let mut accepts_any = false;
    for value in request.get_all(ACCEPT_ENCODING) {
        let text = value.to_str().unwrap_or_default().to_ascii_lowercase();
        for coding in text.split(',') {
            let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
            let weight = weight.trim().strip_prefix("q=").unwrap_or("1");
            let is_accepted = weight.contains(|digit: char| ('1'..='9').contains(&digit));
            match name.trim() {
                "gzip" | "x-gzip" => return is_accepted,
                "*" => accepts_any = is_accepted,
                _ => {}
            }
        }
    }
    accepts_any
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_that_refuses_gzip_does_not_accept_it() {
        let accepts = |text: &'static str| {
            let value = HeaderValue::from_static(text);
            accepts_gzip(&HeaderMap::from_iter([(ACCEPT_ENCODING, value)]))
        };
        assert!(accepts("gzip") && accepts("br, GZIP;q=0.5") && accepts("*"));
        assert!(!accepts("gzip;q=0, *") && accepts("identity, *;q=0.1, br;q=0"));
        assert!(!accepts("br") && !accepts("gzip;q=0") && !accepts("identity"));
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    #[test]
    fn gzip_is_known_by_each_of_its_names_and_only_by_itself() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
            }
            Coding::of(&headers)
        };
        for gzip in [&["gzip"][..], &["X-GZip"], &["identity, gzip"], &["", "x-gzip "]] {
            assert_eq!(of(gzip), Coding::Gzip, "{gzip:?}");
        }
        assert!([&[][..], &[""], &["identity"]].iter().all(|plain| of(plain) == Coding::Plain));
        for other in [&["br"][..], &["gzip, gzip"], &["gzip", "x-gzip"], &["gzip, br"], &["x gzip"]]
        {
            assert_eq!(of(other), Coding::Other, "{other:?}");
        }
    }
}
