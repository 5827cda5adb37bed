//! Links in headers: `Location`, `Content-Location`, `Link`, and the entity tags of bodies whose bytes
//! change. Pure.

use super::origin::OriginMap;
use http::header::{CONTENT_LOCATION, ETAG, IF_MATCH, IF_NONE_MATCH, LINK, LOCATION, REFERER};
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::{RequestHeader, ResponseHeader};

const DESTINATION: HeaderName = HeaderName::from_static("destination");
/// Ends the opaque part of an entity tag that bearerd made weak, so that it can be made strong again.
const MARK: &str = "~bearerd\"";

/// Rewrites the links of an answer's header. Returns how many were changed.
pub(super) fn rewrite(response: &mut ResponseHeader, map: &OriginMap) -> u64 {
    let mut count = 0;
    for name in [LOCATION, CONTENT_LOCATION] {
        count += replace(response, &name, |url| map.rewrite(url));
    }
    count += replace(response, &LINK, |links| rewrite_link(links, map));
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

/// `<URL>; rel="next"; anchor="URL", <URL>; rel="prev"` (RFC 8288 section 3).
fn rewrite_link(links: &str, map: &OriginMap) -> Option<String> {
    let mut rewritten = String::with_capacity(links.len());
    let mut rest = links;
    let mut changed = false;
    while let Some(at) = rest.find(['<', '"']) {
        let (before, opened) = rest.split_at(at);
        let is_target = opened.starts_with('<');
        let (inner, behind) = if is_target {
            opened.strip_prefix('<')?.split_once('>')?
        } else {
            split_quoted(opened.strip_prefix('"')?)?
        };
        let name = before.trim_end().strip_suffix('=').unwrap_or_default().trim_end();
        let is_anchor = name.to_ascii_lowercase().ends_with("anchor");
        let ours = if is_target || is_anchor { map.rewrite(inner) } else { None };
        changed |= ours.is_some();
        rewritten.push_str(before);
        rewritten.push(if is_target { '<' } else { '"' });
        rewritten.push_str(ours.as_deref().unwrap_or(inner));
        rewritten.push(if is_target { '>' } else { '"' });
        rest = behind;
    }
    rewritten.push_str(rest);
    changed.then_some(rewritten)
}

/// What a quoted string holds, and what follows its closing quote.
fn split_quoted(text: &str) -> Option<(&str, &str)> {
    let mut is_escaped = false;
    let end = text.find(|character| {
        let ends = character == '"' && !is_escaped;
        is_escaped = character == '\\' && !is_escaped;
        ends
    })?;
    Some((text.get(..end)?, text.get(end + 1..)?))
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

/// Whether a request asks about a body whose bytes were changed here.
pub(super) fn asks_about_ours(request: &HeaderMap) -> bool {
    let mut tags = request.get_all(IF_NONE_MATCH).iter().chain(request.get_all(IF_MATCH));
    tags.any(|value| value.to_str().is_ok_and(|tags| tags.contains(MARK)))
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

/// Entity tags as the upstream gave them.
pub(super) fn strengthened(tags: &str) -> String {
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
        let count = rewrite(&mut response, &map());
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
        let quoted =
            "</1>; title=\"a \\\"<https://acme.example/>\"; Anchor = \"https://acme.example/\"";
        let anchor = quoted.replace("\"https://acme.example/\"", "\"http://localhost:8080/\"");
        assert_eq!(rewritten("link", quoted), (anchor, 1));
        for broken in
            ["<https://acme.example/2", "no target", "</1>; title=\"<https://acme.example/>"]
        {
            assert_eq!(rewritten("link", broken), (broken.to_owned(), 0));
        }
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
