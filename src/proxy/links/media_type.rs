//! Media types of bodies that hold HTTP messages. Pure.

/// The longest boundary that RFC 2046 section 5.1.1 allows.
pub(super) const LONGEST_BOUNDARY: usize = 70;

/// Whether this is the media type of an HTTP message.
pub(super) fn is_http(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/http")
}

/// The delimiter (`--boundary`) of a multipart, from its `Content-Type`.
pub(super) fn delimiter(content_type: &str) -> Option<Vec<u8>> {
    // A semicolon inside quotes belongs to its value.
    let mut is_quoted = false;
    let mut parameters = content_type.split(|character| {
        is_quoted ^= character == '"';
        character == ';' && !is_quoted
    });
    if !parameters.next()?.trim().eq_ignore_ascii_case("multipart/mixed") {
        return None;
    }
    let boundary = parameters.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"'))
    })?;
    let is_sound = !boundary.is_empty() && boundary.len() <= LONGEST_BOUNDARY;
    is_sound.then(|| format!("--{boundary}").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boundary_is_what_the_type_of_a_multipart_names() {
        for (content_type, wanted) in [
            ("multipart/mixed; boundary=batch_1", Some("--batch_1")),
            ("Multipart/Mixed; Charset=x; Boundary=\"a b\"", Some("--a b")),
            ("multipart/mixed; x=\"; boundary=no\"; boundary=batch_1", Some("--batch_1")),
            ("application/json", None),
            ("multipart/mixed", None),
            ("multipart/mixed; boundary=", None),
        ] {
            let wanted = wanted.map(|delimiter| delimiter.as_bytes().to_vec());
            assert_eq!(delimiter(content_type), wanted, "{content_type}");
        }
    }
}
