//! The values of headers with links: in a message's own header, in a part of a batch, or in a
//! batch's JSON. Pure.

use super::entity_tag::weakened;
use super::header_kind::HeaderKind;
use super::json::JsonRewriter;
use super::origin::OriginMap;
use std::sync::Arc;

/// How much the values of one header may grow: hundreds of links fit. A value that would grow more
/// stays as it is.
pub(super) const MOST_GROWN: usize = 16 * 1024;
/// How many bytes of a value are rewritten before the growth is checked.
const PIECE: usize = 1024;

/// The value for the caller, if it changes. It may grow by `room`, which is reduced by its growth.
pub(super) fn rewrite(
    kind: HeaderKind,
    value: &str,
    map: &Arc<OriginMap>,
    room: &mut usize,
) -> Option<String> {
    let most = value.len() + *room;
    let changed = match kind {
        HeaderKind::Url => map.rewrite(value),
        HeaderKind::Links => links(value, map, most),
        HeaderKind::Messages => messages(value, map, most),
        HeaderKind::Tag => weakened(value),
    };
    let changed = changed.filter(|changed| changed.len() <= most)?;
    *room = (most - changed.len()).min(*room);
    Some(changed)
}

impl JsonRewriter {
    /// A rewriter for the response to a batch. The headers of each response in it are changed like
    /// real ones.
    pub fn for_batch_response(map: Arc<OriginMap>) -> Self {
        Self::with_header_values(map, |kind, value, map| {
            rewrite(kind, value, map, &mut { MOST_GROWN })
        })
    }
}

/// Rewrites `<URL>; rel="next"; anchor="URL", <URL>; rel="prev"`. `None` if nothing changes, or if
/// it becomes longer than `most`.
fn links(value: &str, map: &OriginMap, most: usize) -> Option<String> {
    let mut rewritten = String::with_capacity(value.len());
    let mut rest = value;
    let mut changed = false;
    while let Some(at) = rest.find(['<', '"']) {
        if rewritten.len() > most {
            return None;
        }
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

/// Splits a text after the closing quote of a quoted string.
fn split_quoted(text: &str) -> Option<(&str, &str)> {
    let mut is_escaped = false;
    let end = text.find(|character| {
        let ends = character == '"' && !is_escaped;
        is_escaped = character == '\\' && !is_escaped;
        ends
    })?;
    Some((text.get(..end)?, text.get(end + 1..)?))
}

fn messages(value: &str, map: &Arc<OriginMap>, most: usize) -> Option<String> {
    let mut rewriter = JsonRewriter::new(map.clone());
    let mut output = Vec::with_capacity(value.len() + 64);
    for piece in value.as_bytes().chunks(PIECE) {
        rewriter.push(piece, &mut output);
        if output.len() > most {
            return None;
        }
    }
    rewriter.finish(&mut output);
    if rewriter.rewritten() == 0 {
        return None;
    }
    String::from_utf8(output).ok()
}
