//! What becomes of the values of headers, wherever these stand: in a message's header, in a part of a
//! batch, or in a batch's JSON. Pure.

use super::json::JsonRewriter;
use super::origin::OriginMap;
use std::sync::Arc;

/// By so much the values of one header may grow: a value that would take more stays as it is. Hundreds of links fit.
pub(super) const MOST_GROWN: usize = 16 * 1024;
/// So much of a value is rewritten at once, before it is looked at what came of it.
const PIECE: usize = 1024;

/// Ends the opaque part of an entity tag that bearerd made weak, so that it can be made strong again.
pub(super) const MARK: &str = "~bearerd\"";

/// What a header of an answer holds.
///
/// The more a caller depends on it, the earlier it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A URL.
    Url,
    /// URLs in angle brackets, with parameters (RFC 8288 section 3).
    Links,
    /// JSON with URLs in it: the messages of SAP's OData services.
    Messages,
    /// An entity tag of a body whose bytes may change.
    Tag,
}

/// The headers of answers that hold what a caller has to come back with to the sidecar.
pub(super) const HEADERS: [(&str, Kind); 9] = [
    ("location", Kind::Url),
    ("content-location", Kind::Url),
    // OData 4.01 part 1, section 8.3.4; some leave the prefix out.
    ("odata-entityid", Kind::Url),
    ("entityid", Kind::Url),
    // The same of OData V3.
    ("dataserviceid", Kind::Url),
    ("link", Kind::Links),
    ("sap-message", Kind::Messages),
    ("sap-messages", Kind::Messages),
    ("etag", Kind::Tag),
];

impl Kind {
    /// What the header of this name holds, if it is one of them.
    pub(super) fn of(name: &[u8]) -> Option<Self> {
        let known = HEADERS.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
        known.map(|(_, kind)| *kind)
    }

    /// What a value that may change can begin with, besides what a URL can and an escape.
    pub(super) fn first_bytes() -> impl Iterator<Item = u8> {
        b"<[{".iter().copied()
    }

    /// The value as it goes to the caller, if it changes. It may grow into this room, of which it takes what it needs.
    pub(super) fn rewritten(
        self,
        value: &str,
        map: &Arc<OriginMap>,
        room: &mut usize,
    ) -> Option<String> {
        let most = value.len() + *room;
        let changed = match self {
            Self::Url => map.rewrite(value),
            Self::Links => links(value, map, most),
            Self::Messages => messages(value, map, most),
            Self::Tag => weakened(value),
        };
        let changed = changed.filter(|changed| changed.len() <= most)?;
        *room = (most - changed.len()).min(*room);
        Some(changed)
    }
}

/// `<URL>; rel="next"; anchor="URL", <URL>; rel="prev"`, unless it becomes longer than this.
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

/// A strong entity tag as that of a body whose bytes are changed (RFC 9110 section 8.8.1).
pub(super) fn weakened(tag: &str) -> Option<String> {
    let strong = tag.trim().strip_prefix('"')?.strip_suffix('"')?;
    Some(format!("W/\"{strong}{MARK}"))
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
