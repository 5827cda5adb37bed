//! The paths that a server may read a path as. Pure.
//!
//! Servers decode once or several times, also `%u0041`. They read `%2f`, `\` or `／` as `/`, and
//! `//` as `/`. They cut `;…` off a segment. They may do this in any order, with at least one
//! decoding. Then they cut off a segment what follows `?`, `#`, a NUL or the `:$` of Windows'
//! streams, trim spaces, `+` and dots, drop control characters, and read characters beyond ASCII as
//! ASCII ([`folded`]).
//!
//! Not covered are endings like `.json` that a server cuts off, and the short names of Windows.

use super::fold::folded;
use super::{TargetError, escaped, unescape};
use std::borrow::Cow;
use std::collections::VecDeque;

/// One step of reading a path.
type Step = fn(&[u8]) -> Vec<u8>;

/// The largest number of readings. A path with more is encoded more often than any caller does.
const MOST: usize = 64;

/// Whether a path has more than one reading that matters. Most paths have one.
pub(super) fn differ(path: &[u8]) -> bool {
    let mut rest = path;
    let mut last = 0;
    while let Some((first, mut behind)) = rest.split_first() {
        // Most bytes of most paths.
        if first.is_ascii_alphanumeric() {
            (last, rest) = (*first, behind);
            continue;
        }
        let (mut byte, mut is_escaped) = (*first, false);
        if byte == b'%'
            && let Some((one, after)) = escaped(behind)
        {
            (byte, is_escaped, behind) = (one, true, after);
        }
        let is_odd = match byte {
            b'/' => is_escaped || last == b'/' || is_trimmed(last),
            b'$' => last == b':',
            0..0x20 | b'%' | b'\\' | b';' | b'?' | b'#' | 0x7f.. => true,
            _ => last == b'/' && is_trimmed(byte),
        };
        if is_odd {
            return true;
        }
        (last, rest) = (byte, behind);
    }
    is_trimmed(last)
}

/// The readings of a path.
///
/// # Errors
/// There are too many.
pub(super) fn of(path: &[u8]) -> Result<Vec<Vec<u8>>, TargetError> {
    if !differ(path) {
        return Ok(vec![unescape(path).into_owned()]);
    }
    let as_sent = closure([path.to_vec()], &[cut_parameters, slashed, joined])?;
    let decoded = as_sent.iter().map(|path| unescape(path).into_owned());
    let unescaped: Step = |path| unescape(path).into_owned();
    closure(
        decoded,
        &[unescaped, unescaped_units, cut_parameters, slashed, joined, folded_separators],
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
        if known.len() == MOST {
            return Err(TargetError::Ambiguous);
        }
        new.extend(steps.iter().map(|step| step(&path)).filter(|next| *next != path));
        known.push(path);
    }
    Ok(known)
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

/// The path as old servers read it, which know `%u0041`.
fn unescaped_units(path: &[u8]) -> Vec<u8> {
    let mut parts = path.split(|byte| *byte == b'%');
    let mut read = parts.next().unwrap_or_default().to_vec();
    for part in parts {
        let unit = match part {
            [b'u' | b'U', digits @ ..] => digits.split_first_chunk::<4>(),
            _ => None,
        };
        let unit = unit.and_then(|(digits, rest)| {
            let digits = digits.iter().map(|digit| char::from(*digit).to_digit(16));
            let code = digits.reduce(|code, digit| Some(code? * 16 + digit?))??;
            Some((char::from_u32(code)?, rest))
        });
        match unit {
            Some((one, rest)) => {
                read.extend_from_slice(one.encode_utf8(&mut [0; 4]).as_bytes());
                read.extend_from_slice(rest);
            }
            None => {
                read.push(b'%');
                read.extend_from_slice(part);
            }
        }
    }
    read
}

/// The path with ASCII for characters beyond it, if one of them becomes a separator or an escape.
/// Otherwise only the names of segments change.
fn folded_separators(path: &[u8]) -> Vec<u8> {
    let count =
        |path: &[u8]| path.iter().filter(|byte| matches!(byte, b'/' | b'\\' | b';' | b'%')).count();
    let new = folded(path);
    if count(&new) == count(path) { path.to_vec() } else { new.into_owned() }
}

/// The segments of a reading, without what servers cut off or ignore, but with their dots.
pub(super) fn bare_segments(reading: &[u8]) -> impl Iterator<Item = Cow<'_, [u8]>> {
    reading.split(|byte| *byte == b'/').map(|segment| {
        let is_plain = |byte: &u8| !matches!(byte, 0..=b' ' | b'+' | b'#' | b'$' | b'?' | 0x7f..);
        if segment.iter().all(is_plain) {
            return segment.into();
        }
        let text = folded(segment);
        let text = before_query(&text);
        let text = before_stream(text);
        let text: Vec<u8> = text.iter().filter(|byte| !byte.is_ascii_control()).copied().collect();
        trimmed(&text, |byte| matches!(byte, b' ' | b'+')).to_vec().into()
    })
}

/// The name that a server may read a bare segment as.
pub(super) fn name(segment: &[u8]) -> &[u8] {
    trimmed(segment, is_trimmed)
}

/// The text before the query, for a server that looks for it after decoding.
pub(super) fn before_query(reading: &[u8]) -> &[u8] {
    reading.split(|byte| matches!(byte, 0 | b'?' | b'#')).next().unwrap_or(reading)
}

/// The text before `:$` or `::$`, which name a file's stream.
fn before_stream(text: &[u8]) -> &[u8] {
    match text.windows(2).position(|pair| pair == b":$") {
        Some(end) => {
            let text = text.get(..end).unwrap_or(text);
            text.strip_suffix(b":").unwrap_or(text)
        }
        None => text,
    }
}

/// Whether servers trim this byte from a name.
const fn is_trimmed(byte: u8) -> bool {
    matches!(byte, b' ' | b'.' | b'+')
}

fn trimmed(text: &[u8], is_cut: impl Fn(u8) -> bool) -> &[u8] {
    let start = text.iter().position(|byte| !is_cut(*byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !is_cut(*byte)).map_or(start, |last| last + 1);
    text.get(start..end).unwrap_or_default()
}
