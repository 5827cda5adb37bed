//! The header of a message inside a body: split off, read and changed line by line. Pure.

/// Splits a message into the empty lines before it, which servers skip (RFC 9112 section 2.2), its
/// header with the empty line, and its body.
pub(super) fn split_message(message: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let skipped = message.len() - message.trim_ascii_start().len();
    let (lead, message) = message.split_at(skipped);
    let (head, body) = split_head(message);
    (lead, head, body)
}

/// Splits after the first empty line.
fn split_head(bytes: &[u8]) -> (&[u8], &[u8]) {
    let mut length = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        length += line.len();
        if line.trim_ascii_end().is_empty() {
            break;
        }
    }
    bytes.split_at(length.min(bytes.len()))
}

/// Splits off the line end of the last line, which belongs to the next delimiter (RFC 2046 section
/// 5.1.1).
pub(super) fn split_end(body: &[u8]) -> (&[u8], &[u8]) {
    let end = [&b"\r\n"[..], b"\n"].into_iter().find(|end| body.ends_with(end)).unwrap_or_default();
    body.split_at(body.len() - end.len())
}

/// The name of the header on a line, in lower case. Empty for the empty line and for a continuation
/// line.
pub(super) fn name_of(line: &[u8]) -> String {
    let colon = line.iter().position(|byte| *byte == b':').unwrap_or_default();
    String::from_utf8_lossy(line.get(..colon).unwrap_or_default()).to_ascii_lowercase()
}

/// The value of a header, with its continuation lines.
pub(super) fn value_of(head: &[u8], name: &str) -> Option<String> {
    let mut value: Option<String> = None;
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        let text = String::from_utf8_lossy(line);
        match &mut value {
            Some(value) if text.starts_with([' ', '\t']) => value.push_str(text.trim_end()),
            Some(_) => break,
            None if name_of(line) == name => {
                value = text.split_once(':').map(|(_, value)| value.trim().to_owned());
            }
            None => {}
        }
    }
    value
}

/// A `Content-Length` line, changed by as much as the length changed. Callers differ in what they
/// count, so that the difference is added.
fn lengthened(line: &[u8], before: usize, after: usize) -> Option<Vec<u8>> {
    let (_, value) = str::from_utf8(line).ok()?.split_once(':')?;
    let length = (value.trim().parse::<usize>().ok()? + after).checked_sub(before)?;
    with_value(line, &length.to_string())
}

/// A header's line with another value.
pub(super) fn with_value(line: &[u8], value: &str) -> Option<Vec<u8>> {
    let text = str::from_utf8(line).ok()?;
    let (name, _) = text.split_once(':')?;
    let end = text.get(text.trim_end_matches(['\r', '\n']).len()..)?;
    Some(format!("{name}: {value}{end}").into_bytes())
}

/// A header without `Content-Length`.
pub(super) fn without_length(header: &[u8]) -> Vec<u8> {
    let lines = header.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| name_of(line) != "content-length").flatten().copied().collect()
}

/// A header whose `Content-Length` counts bytes that grew from `before` to `after`.
pub(super) fn with_length(header: &[u8], before: usize, after: usize) -> Vec<u8> {
    let mut changed = Vec::with_capacity(header.len() + 8);
    for line in header.split_inclusive(|byte| *byte == b'\n') {
        let is_length = name_of(line) == "content-length";
        let new_line = is_length.then(|| lengthened(line, before, after)).flatten();
        changed.extend(new_line.unwrap_or_else(|| line.to_vec()));
    }
    changed
}
