//! Links in headers: `Location`, `Content-Location`, `Link`, the domain of cookies, and the entity tags
//! of bodies whose bytes change. Pure.

use super::origin::OriginMap;
use http::header::{
    CONTENT_LOCATION, ETAG, IF_MATCH, IF_NONE_MATCH, LINK, LOCATION, REFERER, SET_COOKIE,
};
use http::{HeaderName, HeaderValue};
use pingora::http::{RequestHeader, ResponseHeader};

const DESTINATION: HeaderName = HeaderName::from_static("destination");
/// Ends the opaque part of an entity tag that bearerd made weak, so that it can be made strong again.
const MARK: &str = "~bearerd\"";

/// Rewrites the links of an answer's header. Returns how many were changed.
pub(super) fn rewrite(response: &mut ResponseHeader, map: &OriginMap, upstream: &str) -> u64 {
    let mut count = 0;
    for name in [LOCATION, CONTENT_LOCATION] {
        count += replace(response, &name, |url| map.rewrite(url));
    }
    count += replace(response, &LINK, |links| rewrite_link(links, map));
    replace(response, &SET_COOKIE, |cookie| without_domain(cookie, upstream));
    count
}

/// Replaces each value of a header for which there is another. Returns how many were.
fn replace(
    response: &mut ResponseHeader,
    name: &HeaderName,
    change: impl Fn(&str) -> Option<String>,
) -> u64 {
    let values: Vec<HeaderValue> = response.headers.get_all(name).iter().cloned().collect();
    let changed: Vec<Option<HeaderValue>> = values
        .iter()
        .map(|value| HeaderValue::try_from(change(value.to_str().ok()?)?).ok())
        .collect();
    let count = changed.iter().flatten().count();
    if count == 0 {
        return 0;
    }
    response.remove_header(name);
    for (value, changed) in values.into_iter().zip(changed) {
        // A name and value that were there before, or were checked above.
        let _ = response.append_header(name, changed.unwrap_or(value));
    }
    u64::try_from(count).unwrap_or_default()
}

/// `<URL>; rel="next", <URL>; rel="prev"` (RFC 8288 section 3).
fn rewrite_link(links: &str, map: &OriginMap) -> Option<String> {
    let mut rewritten = String::with_capacity(links.len());
    let mut rest = links;
    let mut changed = false;
    while let Some((before, after)) = rest.split_once('<') {
        let (url, behind) = after.split_once('>')?;
        rewritten.push_str(before);
        rewritten.push('<');
        match map.rewrite(url) {
            Some(ours) => {
                changed = true;
                rewritten.push_str(&ours);
            }
            None => rewritten.push_str(url),
        }
        rewritten.push('>');
        rest = behind;
    }
    rewritten.push_str(rest);
    changed.then_some(rewritten)
}

/// A cookie for the tenant's domain would never come back to the sidecar: without a domain it does.
fn without_domain(cookie: &str, upstream: &str) -> Option<String> {
    let is_tenants = |attribute: &str| {
        let Some((name, domain)) = attribute.split_once('=') else {
            return false;
        };
        let domain = domain.trim().trim_start_matches('.').to_ascii_lowercase();
        let covers = upstream == domain || upstream.ends_with(&format!(".{domain}"));
        name.trim().eq_ignore_ascii_case("domain") && !domain.is_empty() && covers
    };
    // The first pair is the cookie itself, whatever its name.
    let is_kept = |(index, attribute): &(usize, &str)| *index == 0 || !is_tenants(attribute);
    let kept: Vec<&str> =
        cookie.split(';').enumerate().filter(is_kept).map(|(_, attribute)| attribute).collect();
    (kept.len() < cookie.split(';').count()).then(|| kept.join(";"))
}

/// Makes the entity tag of a body weak whose bytes are changed (RFC 9110 section 8.8.1).
pub(super) fn weaken(response: &mut ResponseHeader) {
    replace(response, &ETAG, |tag| {
        let strong = tag.strip_prefix('"')?.strip_suffix('"')?;
        Some(format!("W/\"{strong}{MARK}"))
    });
}

/// Request headers that hold a URL: WebDAV's `Destination`, and the `Referer` that some front doors check.
const POINTERS: [HeaderName; 2] = [DESTINATION, REFERER];

/// Whether a request has one of them; few do.
pub(super) fn points_back(request: &RequestHeader) -> bool {
    POINTERS.iter().any(|name| request.headers.contains_key(name))
}

/// Makes the sidecar's URLs in a request's headers the upstream's.
pub(super) fn point_back(request: &mut RequestHeader, map: &OriginMap) {
    for name in POINTERS {
        let theirs =
            |value: &HeaderValue| HeaderValue::try_from(map.rewrite(value.to_str().ok()?)?).ok();
        if let Some(value) = request.headers.get(&name).and_then(theirs) {
            // A name that was there before, and a value that was checked.
            let _ = request.insert_header(name, value);
        }
    }
}

/// Gives the upstream its own entity tags back.
pub(super) fn restore(request: &mut RequestHeader) {
    for name in [IF_MATCH, IF_NONE_MATCH] {
        let values = request.headers.get_all(&name).iter();
        let texts: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
        let text = texts.join(", ");
        if !text.contains(MARK) {
            continue;
        }
        if let Ok(value) = HeaderValue::try_from(strengthened(&text)) {
            // A name that was there before.
            let _ = request.insert_header(name, value);
        }
    }
}

fn strengthened(tags: &str) -> String {
    let tag = |tag: &str| {
        let (lead, tag) = tag.split_at(tag.len() - tag.trim_start().len());
        match tag.trim_end().strip_suffix(MARK).and_then(|tag| tag.strip_prefix("W/")) {
            Some(strong) => format!("{lead}{strong}\""),
            None => format!("{lead}{tag}"),
        }
    };
    // A comma inside quotes belongs to the tag.
    let mut is_quoted = false;
    let between = |character: char| {
        is_quoted ^= character == '"';
        character == ',' && !is_quoted
    };
    tags.split(between).map(tag).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> OriginMap {
        let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        OriginMap::new([pair("https://acme.example", "http://localhost:8080")], None)
    }

    fn rewritten(name: &'static str, value: &'static str) -> (String, u64) {
        let mut response = ResponseHeader::build(200, None).unwrap();
        response.insert_header(name, value).unwrap();
        let count = rewrite(&mut response, &map(), "acme.example");
        (response.headers[name].to_str().unwrap().to_owned(), count)
    }

    #[test]
    fn locations_become_ours_and_others_stay() {
        let ours = ("http://localhost:8080/a?b=https://acme.example".to_owned(), 1);
        assert_eq!(rewritten("location", "https://acme.example/a?b=https://acme.example"), ours);
        assert_eq!(rewritten("content-location", "https://acme.example").1, 1);
        for other in ["https://elsewhere.example/a", "/a", "https://acme.example.evil/"] {
            assert_eq!(rewritten("location", other), (other.to_owned(), 0));
        }
    }

    #[test]
    fn each_target_of_a_link_header_is_looked_at() {
        let links =
            "<https://acme.example/2>; rel=\"next\", </1>; rel=prev, <https://acme.example>";
        let ours =
            "<http://localhost:8080/2>; rel=\"next\", </1>; rel=prev, <http://localhost:8080>";
        assert_eq!(rewritten("link", links), (ours.to_owned(), 1));
        for broken in ["<https://acme.example/2", "no target"] {
            assert_eq!(rewritten("link", broken), (broken.to_owned(), 0));
        }
    }

    #[test]
    fn a_cookie_of_the_tenants_domain_comes_back_to_us() {
        let cookie = |value| rewritten("set-cookie", value).0;
        assert_eq!(cookie("a=b; Domain=acme.example; Path=/"), "a=b; Path=/");
        assert_eq!(cookie("a=b; domain=.example; Path=/"), "a=b; Path=/");
        assert_eq!(cookie("a=b; Domain=other.example"), "a=b; Domain=other.example");
        assert_eq!(cookie("domain=acme.example; Path=/x"), "domain=acme.example; Path=/x");
    }

    #[test]
    fn an_entity_tag_goes_out_weak_and_comes_back_as_it_was() {
        let mut response = ResponseHeader::build(200, None).unwrap();
        response.insert_header(ETAG, "\"v1\"").unwrap();
        weaken(&mut response);
        let weak = response.headers[ETAG].clone();
        assert!(weak.to_str().unwrap().starts_with("W/"));
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        let both = format!("W/\"own\", {}", weak.to_str().unwrap());
        request.insert_header(IF_NONE_MATCH, both).unwrap();
        request.insert_header(IF_MATCH, weak).unwrap();
        restore(&mut request);
        assert_eq!(request.headers[IF_MATCH], "\"v1\"");
        assert_eq!(request.headers[IF_NONE_MATCH], "W/\"own\", \"v1\"");
        for tags in ["W/\"a, W/b~bearerd\"", "W/\"a,b~bearerd\", W/\"c\""] {
            let strong = strengthened(tags);
            assert!(strong.starts_with("\"a,") && !strong.contains("bearerd"), "{strong}");
        }
        let mut weak_already = ResponseHeader::build(200, None).unwrap();
        weak_already.insert_header(ETAG, "W/\"v1\"").unwrap();
        weaken(&mut weak_already);
        assert_eq!(weak_already.headers[ETAG], "W/\"v1\"");
    }
}
