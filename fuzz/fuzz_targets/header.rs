//! The header stripper: for every header, the upstream gets the sidecar's token and no header that
//! steers it.
#![no_main]

use bearerd::header_upstream;
use libfuzzer_sys::fuzz_target;
use pingora::http::RequestHeader;

/// Names that must not arrive in any spelling, also with `_` for `-`.
const GONE: [&str; 6] = [
    "proxy-authorization",
    "x-approuter-authorization",
    "forwarded",
    "x-original-url",
    "x-rewrite-url",
    "x-forwarded",
];
/// Headers that arrive once, with the sidecar's values.
const SET: [(&str, &str); 3] = [
    ("authorization", "Bearer injected"),
    ("host", "tenant.example"),
    ("x-sap-sac-custom-auth", "true"),
];

fuzz_target!(|input: &[u8]| {
    let Ok(mut request) = RequestHeader::build("GET", b"/", None) else {
        return;
    };
    for line in input.split(|byte| *byte == b'\n').take(100) {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let name = String::from_utf8_lossy(name).into_owned();
        // Invalid headers are skipped.
        let _ = request.append_header(name, value.get(1..).unwrap_or_default());
    }
    header_upstream(&mut request);
    for (name, value) in &request.headers {
        let plain = name.as_str().replace('_', "-");
        assert!(!GONE.contains(&plain.as_str()), "{name}");
        assert!(!plain.starts_with("x-forwarded-"), "{name}");
        if let Some((known, wanted)) = SET.iter().find(|(known, _)| *known == plain) {
            assert_eq!((name.as_str(), value.as_bytes()), (*known, wanted.as_bytes()));
        }
        let is_framing = plain == "content-length" || plain == "transfer-encoding";
        assert!(!is_framing || !name.as_str().contains('_'), "{name}");
    }
    for (known, _) in SET {
        assert_eq!(request.headers.get_all(known).iter().count(), 1, "{known}");
    }
});
