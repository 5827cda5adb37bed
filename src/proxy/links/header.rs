//! Links in headers, and the entity tags of bodies whose bytes change. Pure.

use super::entity_tag::{MARK, strengthened, weakened};
use super::header_kind::HeaderKind;
use super::header_value::{self, MOST_GROWN};
use super::origin::OriginMap;
use http::header::{CONTENT_LOCATION, ETAG, IF_MATCH, IF_NONE_MATCH, LINK, ORIGIN, REFERER};
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::{RequestHeader, ResponseHeader};
use std::sync::Arc;

/// Headers that describe the exact bytes of a body. They are removed if the body's links change.
pub(crate) const DIGESTS: [&str; 4] = ["content-md5", "digest", "content-digest", "repr-digest"];

const DESTINATION: HeaderName = HeaderName::from_static("destination");
const ODATA_ENTITYID: HeaderName = HeaderName::from_static("odata-entityid");

/// Rewrites the links in a response's header. Returns how many were changed.
pub(super) fn rewrite_response(response: &mut ResponseHeader, map: &Arc<OriginMap>) -> u64 {
    let linked = response.headers.keys().filter_map(|name| {
        let kind =
            HeaderKind::of(name.as_str().as_bytes()).filter(|kind| *kind != HeaderKind::Tag)?;
        Some((name.clone(), kind))
    });
    let mut linked: Vec<_> = linked.collect();
    linked.sort_by_key(|(_, kind)| *kind);
    let (mut count, mut room) = (0, MOST_GROWN);
    for (name, kind) in linked {
        count +=
            replace(response, &name, |value| header_value::rewrite(kind, value, map, &mut room));
    }
    count
}

/// Replaces the values of a header that change. Returns how many did.
fn replace(
    response: &mut ResponseHeader,
    name: &HeaderName,
    mut change: impl FnMut(&str) -> Option<String>,
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
        // The name and the values are valid: they were there before, or were checked above.
        let _ = response.append_header(name, changed.unwrap_or(value));
    }
    u64::try_from(count).unwrap_or_default()
}

/// Makes the entity tag weak, for a body whose bytes are changed (RFC 9110 section 8.8.1).
pub(super) fn weaken_tag(response: &mut ResponseHeader) {
    replace(response, &ETAG, weakened);
}

/// Request headers that hold URLs: `Destination` of WebDAV, `Referer` and `Origin`, which some
/// gateways compare with the host, and headers that a caller may send back as it got them.
const POINTERS: [(HeaderName, HeaderKind); 6] = [
    (DESTINATION, HeaderKind::Url),
    (REFERER, HeaderKind::Url),
    (ORIGIN, HeaderKind::Url),
    (CONTENT_LOCATION, HeaderKind::Url),
    (ODATA_ENTITYID, HeaderKind::Url),
    (LINK, HeaderKind::Links),
];

/// Whether a request has one of these headers. Few do.
pub(super) fn has_urls(request: &RequestHeader) -> bool {
    request.headers.keys().any(|name| POINTERS.iter().any(|(pointer, _)| pointer == name))
}

/// Replaces the sidecar's URLs in a request's header by the upstream's.
pub(super) fn rewrite_request(request: &mut RequestHeader, map: &Arc<OriginMap>) {
    let mut room = MOST_GROWN;
    for (name, kind) in POINTERS {
        let theirs = |value: &HeaderValue| {
            HeaderValue::try_from(header_value::rewrite(
                kind,
                value.to_str().ok()?,
                map,
                &mut room,
            )?)
            .ok()
        };
        if let Some(value) = request.headers.get(&name).and_then(theirs) {
            // The name is valid since it was there before, and the value was checked.
            let _ = request.insert_header(name, value);
        }
    }
}

/// Whether a request asks about a body whose bytes bearerd changed.
pub(super) fn asks_about_rewritten(request: &HeaderMap) -> bool {
    let mut tags = request.get_all(IF_NONE_MATCH).iter().chain(request.get_all(IF_MATCH));
    tags.any(|value| value.to_str().is_ok_and(|tags| tags.contains(MARK)))
}

/// Restores the upstream's own entity tags.
pub(super) fn restore_tags(request: &mut RequestHeader) {
    for name in [IF_MATCH, IF_NONE_MATCH] {
        let values = request.headers.get_all(&name).iter();
        let texts: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
        let text = texts.join(", ");
        if !text.contains(MARK) {
            continue;
        }
        if let Ok(value) = HeaderValue::try_from(strengthened(&text)) {
            // The name is valid since it was there before.
            let _ = request.insert_header(name, value);
        }
    }
}

/// The value of a request's header with the upstream's own entity tags, if it holds weakened ones.
pub(crate) fn restored_tags(name: &HeaderName, value: &str) -> Option<String> {
    let has_tags = *name == IF_MATCH || *name == IF_NONE_MATCH;
    (has_tags && value.contains(MARK)).then(|| strengthened(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> Arc<OriginMap> {
        let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        Arc::new(OriginMap::new([pair("https://acme.example", "http://localhost:8080")], None))
    }

    fn rewritten(name: &'static str, value: &'static str) -> (String, u64) {
        let mut response = ResponseHeader::build(200, None).unwrap();
        response.insert_header(name, value).unwrap();
        let count = rewrite_response(&mut response, &map());
        (response.headers[name].to_str().unwrap().to_owned(), count)
    }

    #[test]
    fn locations_become_ours_and_others_stay() {
        let ours = ("http://localhost:8080/a?b=https://acme.example".to_owned(), 1);
        for name in [
            "location",
            "content-location",
            "odata-entityid",
            "OData-EntityID",
            "entityid",
            "dataserviceid",
        ] {
            let theirs = "https://acme.example/a?b=https://acme.example";
            assert_eq!(rewritten(name, theirs), ours, "{name}");
            assert_eq!(rewritten(name, "http://acme.example.:443").1, 1);
        }
        for name in ["x-location", "origin", "preference-applied", "asyncresult"] {
            assert_eq!(rewritten(name, "https://acme.example/a").1, 0, "{name}");
        }
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
    fn the_messages_of_saps_services_are_json() {
        let messages = r#"[{"code":"A/1","message":"https://acme.example/","longtextUrl":"https://acme.example/t"}]"#;
        let ours =
            messages.replace("Url\":\"https://acme.example", "Url\":\"http://localhost:8080");
        assert_eq!(rewritten("sap-messages", messages), (ours, 1));
        let one = r#"{"code":"A/1","longtext_url":"https://acme.example/t"}"#;
        assert_eq!(rewritten("sap-message", one).1, 1);
    }

    #[test]
    fn a_value_that_would_grow_too_much_stays_as_it_is_and_leaves_room_for_others() {
        let prefix = "/a/path/that/is/cut".to_owned();
        let map = Arc::new(OriginMap::new([], Some(prefix.clone())));
        let ours = |value: &str| value.replace("</>", &format!("<{prefix}/>"));
        let links = "</>,".repeat(MOST_GROWN / prefix.len());
        let messages = format!("{{\"longtextUrl\":[{}1]}}", "\"/\",".repeat(MOST_GROWN));
        for (other, is_changed) in [("", true), ("</>", false)] {
            let mut response = ResponseHeader::build(200, None).unwrap();
            response.append_header("sap-messages", &messages).unwrap();
            response.append_header("link", links.repeat(2)).unwrap();
            response.append_header("link", format!("{links}{other}")).unwrap();
            response.append_header("location", "/x").unwrap();
            let count = rewrite_response(&mut response, &map);
            assert_eq!(response.headers["location"], format!("{prefix}/x"));
            assert_eq!(response.headers["sap-messages"], messages);
            let values: Vec<_> = response.headers.get_all("link").iter().collect();
            assert_eq!(values[0], &links.repeat(2));
            // The location took some of the room.
            assert_eq!(values[1], &format!("{links}{other}"), "{is_changed}");
            assert_eq!(count, 1);
            response.remove_header("location");
            response.insert_header("link", format!("{links}{other}")).unwrap();
            assert_eq!(rewrite_response(&mut response, &map), u64::from(is_changed));
            let wanted = if is_changed { ours(&links) } else { format!("{links}{other}") };
            assert_eq!(response.headers["link"], wanted);
        }
    }

    #[test]
    fn an_entity_tag_goes_out_weak_and_comes_back_as_it_was() {
        let mut response = ResponseHeader::build(200, None).unwrap();
        response.insert_header(ETAG, "\"v1\"").unwrap();
        weaken_tag(&mut response);
        let weak = response.headers[ETAG].clone();
        assert!(weak.to_str().unwrap().starts_with("W/"));
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        let both = format!("W/\"own\", {}", weak.to_str().unwrap());
        request.insert_header(IF_NONE_MATCH, both).unwrap();
        request.insert_header(IF_MATCH, weak).unwrap();
        restore_tags(&mut request);
        assert_eq!(request.headers[IF_MATCH], "\"v1\"");
        assert_eq!(request.headers[IF_NONE_MATCH], "W/\"own\", \"v1\"");
        for tags in ["W/\"a, W/b~bearerd\"", "W/\"a,b~bearerd\", W/\"c\""] {
            let strong = strengthened(tags);
            assert!(strong.starts_with("\"a,") && !strong.contains("bearerd"), "{strong}");
        }
        let mut weak_already = ResponseHeader::build(200, None).unwrap();
        weak_already.insert_header(ETAG, "W/\"v1\"").unwrap();
        weaken_tag(&mut weak_already);
        assert_eq!(weak_already.headers[ETAG], "W/\"v1\"");
    }
}
