//! Runs of the bytes that a secret or an encoding of it consists of.

use super::layer::Layer;
use std::ops::Range;

/// Whether a byte can stand in a token, or in an encoding of one.
pub(super) const fn is_plain(byte: u8) -> bool {
    matches!(
        byte,
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'='
            | b'%' | b'&' | b'#' | b';' | b'\\'
    )
}

pub(super) const fn is_base64(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'+' | b'/')
}

/// The next run of these bytes with at least this length. Only every `length`-th byte is looked at
/// until a run can begin, so that most of the text is skipped.
fn next_run_of(
    text: &[u8],
    from: usize,
    length: usize,
    is_in: impl Fn(u8) -> bool,
) -> Option<Range<usize>> {
    let mut start = from;
    loop {
        let window = text.get(start..start + length)?;
        match window.iter().rposition(|byte| !is_in(*byte)) {
            Some(other) => start += other + 1,
            None => {
                let rest = text.get(start + length..).unwrap_or_default();
                let more = rest.iter().position(|byte| !is_in(*byte)).unwrap_or(rest.len());
                return Some(start..start + length + more);
            }
        }
    }
}

/// The next run of plain bytes with at least this length.
pub(super) fn next_run(text: &[u8], from: usize, length: usize) -> Option<Range<usize>> {
    next_run_of(text, from, length, is_plain)
}

/// The length of the run of plain bytes at the beginning.
pub(super) fn first_run(text: &[u8]) -> usize {
    text.iter().position(|byte| !is_plain(*byte)).unwrap_or(text.len())
}

/// The start of the last `length` bytes of a text, or a little before: not within backslashes,
/// since one may escape the next.
pub(super) fn end_of(text: &[u8], length: usize) -> usize {
    let before = text.get(..text.len().saturating_sub(length)).unwrap_or_default();
    before.iter().rposition(|byte| *byte != b'\\').map_or(0, |other| other + 1)
}

/// The start of the run at the end of a text.
fn last_run_of(text: &[u8], is_in: impl Fn(u8) -> bool) -> usize {
    text.iter().rposition(|byte| !is_in(*byte)).map_or(0, |other| other + 1)
}

/// Calls `see` with each run of plain bytes that has at least the length `least`. In a text that
/// may continue, the run at the end only needs the length `open`.
pub(super) fn plain_runs(
    layer: &Layer<'_>,
    least: usize,
    open: usize,
    see: &mut dyn FnMut(Layer<'_>),
) {
    runs_of(layer, least, open, is_plain, see);
}

/// Calls `see` with the runs of the bytes that are `is_in`, as [`plain_runs`] does.
pub(super) fn runs_of(
    layer: &Layer<'_>,
    least: usize,
    open: usize,
    is_in: impl Fn(u8) -> bool + Copy,
    see: &mut dyn FnMut(Layer<'_>),
) {
    let text = layer.text;
    let mut from = 0;
    while let Some(run) = next_run_of(text, from, least, is_in) {
        from = run.end;
        let is_open = layer.is_open && run.end == text.len();
        see(layer.part(run, is_open));
    }
    if layer.is_open && from < text.len() {
        let last = last_run_of(text, is_in);
        if (open..least).contains(&(text.len() - last)) {
            see(layer.part(last..text.len(), true));
        }
    }
}
