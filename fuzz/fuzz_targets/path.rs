//! The matcher of request paths: an accepted path has the same route for every way in which a
//! server reads it.
#![no_main]

use bearerd::proxy::route::Router;
use libfuzzer_sys::fuzz_target;
use percent_encoding::percent_decode;
use url::Url;

const ROUTES: [&str; 5] = ["/a", "/a/b", "/api/v1/scim2", "/api/v1/content", "/b"];

/// The route of a path by a simple search: the longest one whose segments are the first of the
/// path.
fn plain(path: &[u8]) -> Option<usize> {
    let given: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let begins = |route: &&str| {
        let wanted: Vec<&[u8]> = route.as_bytes().split(|byte| *byte == b'/').collect();
        given.starts_with(&wanted)
    };
    ROUTES
        .into_iter()
        .enumerate()
        .filter(|(_, route)| begins(&route))
        .max_by_key(|(_, route)| route.len())
        .map(|(index, _)| index)
}

fuzz_target!(|target: &[u8]| {
    let Ok(found) = Router::new(ROUTES).find(target) else {
        return;
    };
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    // Decoded at once, with separators.
    let decoded: Vec<u8> = percent_decode(path).collect();
    assert_eq!(plain(&decoded), found, "decoded");
    // With dots resolved, as a URL parser does.
    let text = String::from_utf8_lossy(path);
    if let Ok(url) = Url::parse(&format!("http://host{text}")) {
        let resolved: Vec<u8> = percent_decode(url.path().as_bytes()).collect();
        assert_eq!(plain(&resolved), found, "resolved");
    }
    // With parameters cut off, as Java servers do.
    let bare: Vec<Vec<u8>> = decoded
        .split(|byte| *byte == b'/')
        .map(|segment| segment.split(|byte| *byte == b';').next().unwrap_or_default().to_vec())
        .collect();
    let has_dots = bare.iter().any(|segment| segment == b"." || segment == b"..");
    assert!(!has_dots, "a dot segment for some server");
    assert_eq!(plain(&bare.join(&b'/')), found, "without parameters");
    if found.is_none() {
        // No request is sent.
        return;
    }
    // Without parts that servers cut: a query, and blanks and dots at the edges of names.
    let text = String::from_utf8_lossy(&decoded).to_lowercase();
    let text = text.split(['?', '#', '\0']).next().unwrap_or_default();
    let names = text.split('/').map(|name| name.trim_matches([' ', '.', '\t']));
    let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    assert_eq!(plain(format!("/{}", names.join("/")).as_bytes()), found, "trimmed");
});
