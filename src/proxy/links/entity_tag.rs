//! Entity tags of bodies whose bytes change: weak for the caller, strong again for the upstream.
//! Pure.

/// The end of the opaque part of an entity tag that bearerd made weak, so that it can be made
/// strong again.
pub(super) const MARK: &str = "~bearerd\"";

/// The weak form of a strong entity tag, for a body whose bytes are changed (RFC 9110 section
/// 8.8.1).
pub(super) fn weakened(tag: &str) -> Option<String> {
    let strong = tag.trim().strip_prefix('"')?.strip_suffix('"')?;
    Some(format!("W/\"{strong}{MARK}"))
}

/// Entity tags as the upstream sent them.
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
