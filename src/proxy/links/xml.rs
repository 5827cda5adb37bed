//! Rewrites the upstreams' links in XML (Atom feeds and `$metadata`) while it streams through.
//!
//! The tokenizer knows as much of XML 1.0 as it takes to tell start tags and their attributes from
//! comments, CDATA sections, processing instructions and the DOCTYPE. It does not check
//! well-formedness; where it no longer understands the markup, it passes the rest on as it is.

use std::sync::Arc;

use memchr::{memchr, memchr2};

use super::origin::{Match, OriginMap};

/// The attributes that hold links. XML names are case-sensitive.
const LINK_ATTRIBUTES: [&[u8]; 4] = [b"xml:base", b"href", b"src", b"Uri"];

/// What ends the text of an element.
const TEXT_END: u8 = b'<';

/// The most bytes of a name that are kept. A name this long or longer is none of ours.
const NAME_LIMIT: usize = 64;

/// The bytes held back for each byte of an origin: room for a character reference (`&#x002f;`).
const REFERENCE_LENGTH: usize = 8;

/// Rewrites the upstreams' links in an XML document that arrives in chunks of any size.
///
/// Links are the values of the attributes `xml:base`, `href`, `src` and `Uri`, and the text of
/// the elements `id` and `atom:id`. Everything else passes byte for byte.
#[derive(Clone, Debug)]
pub struct XmlRewriter {
    map: Arc<OriginMap>,
    state: State,
    /// The name being read, at most [`NAME_LIMIT`] bytes of it; already written to the output.
    name: Vec<u8>,
    /// The beginning of a link that is not decided yet; not yet written to the output.
    held: Vec<u8>,
    /// Whether the current start tag is that of an `id` element.
    is_id: bool,
    /// How many `<` of a DOCTYPE are open; 0 outside of it.
    depth: usize,
    rewritten: u64,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Character data.
    Text,
    /// What follows a `<`, as long as it is not clear what that opens.
    Opening,
    /// A comment, CDATA section or processing instruction. It ends at a `>` after `needed` times
    /// `mark`, of which the last `run` bytes were such marks.
    Section { mark: u8, needed: usize, run: usize },
    /// A DOCTYPE, outside of its literals.
    Doctype,
    /// A literal in a DOCTYPE, up to this quote.
    DoctypeLiteral(u8),
    /// An end tag.
    EndTag,
    /// The name of a start tag.
    TagName,
    /// Between the attributes of a start tag. Without white space, no attribute may follow.
    Tag { spaced: bool },
    /// After the `/` of an empty-element tag.
    Slash,
    /// The name of an attribute.
    AttributeName,
    /// Before the `=` of an attribute.
    Equals,
    /// Before the opening quote of an attribute's value.
    Quote,
    /// An attribute's value up to this quote, of which nothing is held back.
    Value(u8),
    /// The white space after the start tag of an `id` element.
    IdSpace,
    /// The beginning of a link, held back until it is decided. The link ends at this quote, or at
    /// [`TEXT_END`] in an `id` element.
    Link(u8),
    /// After a `<` (not yet written) that followed an undecided link in an `id` element.
    IdClose,
    /// The markup is malformed, or the document is over: everything passes.
    Passive,
}

impl XmlRewriter {
    /// A rewriter for one document.
    pub fn new(map: Arc<OriginMap>) -> Self {
        let (name, held) = (Vec::with_capacity(NAME_LIMIT), Vec::new());
        Self { map, state: State::Text, name, held, is_id: false, depth: 0, rewritten: 0 }
    }

    /// Takes the next chunk of the document and appends to `output` what is decided by now.
    pub fn push(&mut self, input: &[u8], output: &mut Vec<u8>) {
        // What lies between `copied` and `at` passes as it is, and is copied in one go.
        let (mut copied, mut at) = (0, 0);
        while let Some(rest) = input.get(at..).filter(|rest| !rest.is_empty()) {
            match self.state {
                State::Link(end) => {
                    output.extend_from_slice(input.get(copied..at).unwrap_or_default());
                    at += self.take_link(end, rest, output);
                    copied = at;
                }
                State::IdClose => {
                    // Before a comment or CDATA section the text would go on behind it.
                    let is_whole = rest.first() == Some(&b'/');
                    let found = judge(&self.map, &self.held, TEXT_END, is_whole);
                    self.rewritten += release(&mut self.held, found, output);
                    output.push(b'<');
                    self.open();
                }
                _ => at += self.pass(rest),
            }
        }
        output.extend_from_slice(input.get(copied..at).unwrap_or_default());
    }

    /// Appends to `output` what is held back, as it came: the document is over.
    pub fn finish(&mut self, output: &mut Vec<u8>) {
        output.append(&mut self.held);
        if self.state == State::IdClose {
            output.push(b'<');
        }
        self.state = State::Passive;
    }

    /// How many links have been changed.
    pub fn rewritten(&self) -> u64 {
        self.rewritten
    }

    /// Reads the beginning of a link, and tells how much of `rest` that took.
    fn take_link(&mut self, end: u8, rest: &[u8], output: &mut Vec<u8>) -> usize {
        let limit = self.map.longest() * REFERENCE_LENGTH;
        let room = limit.saturating_sub(self.held.len());
        let window = rest.get(..room).unwrap_or(rest);
        // No `<` can be in a value: what follows one is not looked at here.
        let stop = memchr2(end, b'<', window);
        let taken = stop.unwrap_or(window.len());
        self.held.extend_from_slice(window.get(..taken).unwrap_or_default());

        let is_whole = end != TEXT_END && window.get(taken) == Some(&end);
        let found = judge(&self.map, &self.held, end, is_whole);
        if found == Match::NeedsMore {
            if stop.is_some() && end == TEXT_END {
                self.state = State::IdClose;
                return taken + 1;
            }
            if stop.is_none() && self.held.len() < limit {
                return taken;
            }
        }
        self.rewritten += release(&mut self.held, found, output);
        self.state = if end == TEXT_END { State::Text } else { State::Value(end) };
        taken
    }

    /// Reads what passes as it is, and tells how much of `rest` that took.
    ///
    /// It takes at least one byte or changes the state, so that `push` comes to an end.
    fn pass(&mut self, rest: &[u8]) -> usize {
        let Some(&first) = rest.first() else { return 0 };
        match self.state {
            State::Text => match memchr(b'<', rest) {
                Some(at) => {
                    self.open();
                    at + 1
                }
                None => rest.len(),
            },
            State::Opening => {
                self.state = self.opened(first);
                1
            }
            State::Section { mark, needed, run } => self.pass_section(rest, mark, needed, run),
            State::Doctype | State::DoctypeLiteral(_) => self.pass_doctype(rest),
            State::EndTag => self.pass_to(memchr2(b'>', b'<', rest), rest, b'>', State::Text),
            State::Value(quote) => {
                let end = memchr2(quote, b'<', rest);
                self.pass_to(end, rest, quote, State::Tag { spaced: false })
            }
            State::IdSpace => {
                let space = rest.iter().position(|byte| !is_space(*byte)).unwrap_or(rest.len());
                self.state = match rest.get(space) {
                    None => State::IdSpace,
                    Some(b'<') => State::Text,
                    Some(_) => State::Link(TEXT_END),
                };
                space
            }
            State::TagName | State::AttributeName => self.pass_name(rest),
            State::Tag { .. } | State::Slash | State::Equals | State::Quote => {
                self.state = self.in_tag(first);
                // The first byte of a name is read with the rest of it.
                usize::from(self.state != State::AttributeName)
            }
            State::Passive | State::Link(_) | State::IdClose => rest.len(),
        }
    }

    /// Passes up to and with `end`, where `wanted` leads to `next`; another byte there is an error.
    fn pass_to(&mut self, end: Option<usize>, rest: &[u8], wanted: u8, next: State) -> usize {
        let Some(end) = end else { return rest.len() };
        self.state = if rest.get(end) == Some(&wanted) { next } else { State::Passive };
        end + 1
    }

    /// Starts to read what a `<` opens.
    fn open(&mut self) {
        self.name.clear();
        self.state = State::Opening;
    }

    /// What a `<` has opened, judged with one more byte.
    fn opened(&mut self, byte: u8) -> State {
        self.name.push(byte);
        let is_inside_doctype = self.depth > 0;
        match self.name.as_slice() {
            b"?" => State::Section { mark: b'?', needed: 1, run: 0 },
            b"!--" => State::Section { mark: b'-', needed: 2, run: 0 },
            b"!" | b"!-" => State::Opening,
            [b'!', _] if is_inside_doctype && byte.is_ascii_alphabetic() => {
                self.depth = self.depth.saturating_add(1);
                State::Doctype
            }
            _ if is_inside_doctype => State::Passive,
            b"/" => State::EndTag,
            b"![CDATA[" => State::Section { mark: b']', needed: 2, run: 0 },
            b"!DOCTYPE" => {
                self.depth = 1;
                State::Doctype
            }
            start if b"![CDATA[".starts_with(start) || b"!DOCTYPE".starts_with(start) => {
                State::Opening
            }
            [first] if is_name(*first) => State::TagName,
            _ => State::Passive,
        }
    }

    fn pass_section(&mut self, rest: &[u8], mark: u8, needed: usize, run: usize) -> usize {
        let end = memchr(b'>', rest).unwrap_or(rest.len());
        let before = rest.get(..end).unwrap_or_default();
        let marks = before.iter().rev().take(needed).take_while(|byte| **byte == mark).count();
        // Only marks at the very beginning continue those of the chunk before.
        let run = if marks == end { (run + marks).min(needed) } else { marks };
        if end == rest.len() {
            self.state = State::Section { mark, needed, run };
            return end;
        }
        self.state = match (run == needed, self.depth) {
            (true, 0) => State::Text,
            (true, _) => State::Doctype,
            (false, _) => State::Section { mark, needed, run: 0 },
        };
        end + 1
    }

    fn pass_doctype(&mut self, rest: &[u8]) -> usize {
        if let State::DoctypeLiteral(quote) = self.state {
            return self.pass_to(memchr(quote, rest), rest, quote, State::Doctype);
        }
        let is_special = |byte: &u8| matches!(byte, b'<' | b'>' | b'"' | b'\'');
        let Some(at) = rest.iter().position(is_special) else { return rest.len() };
        match rest.get(at) {
            Some(b'<') => self.open(),
            Some(b'>') => {
                self.depth = self.depth.saturating_sub(1);
                self.state = if self.depth == 0 { State::Text } else { State::Doctype };
            }
            Some(quote) => self.state = State::DoctypeLiteral(*quote),
            None => {}
        }
        at + 1
    }

    fn pass_name(&mut self, rest: &[u8]) -> usize {
        let length = rest.iter().position(|byte| !is_name(*byte)).unwrap_or(rest.len());
        let room = NAME_LIMIT.saturating_sub(self.name.len());
        self.name.extend(rest.iter().take(length.min(room)));
        if length == rest.len() {
            return length;
        }
        if self.state == State::AttributeName {
            self.state = State::Equals;
            return length;
        }
        // With another prefix it is a property of the caller's data, such as `d:id`.
        self.is_id = matches!(self.name.as_slice(), b"id" | b"atom:id");
        self.state = State::Tag { spaced: false };
        length
    }

    /// The state after one byte between the names and values of a start tag.
    fn in_tag(&mut self, byte: u8) -> State {
        match (self.state, byte) {
            (State::Tag { .. }, byte) if is_space(byte) => State::Tag { spaced: true },
            (state @ (State::Equals | State::Quote), byte) if is_space(byte) => state,
            (State::Tag { .. }, b'/') => State::Slash,
            (State::Slash, b'>') => State::Text,
            (State::Tag { .. }, b'>') if self.is_id => State::IdSpace,
            (State::Tag { .. }, b'>') => State::Text,
            (State::Tag { spaced: true }, byte) if is_name(byte) => {
                self.name.clear();
                State::AttributeName
            }
            (State::Equals, b'=') => State::Quote,
            (State::Quote, b'"' | b'\'') if LINK_ATTRIBUTES.contains(&self.name.as_slice()) => {
                State::Link(byte)
            }
            (State::Quote, b'"' | b'\'') => State::Value(byte),
            _ => State::Passive,
        }
    }
}

/// Writes out a link that was held back, and tells how many links that changed: none or one.
fn release(held: &mut Vec<u8>, found: Match<'_>, output: &mut Vec<u8>) -> u64 {
    let Match::Replace { length, with } = found else {
        output.append(held);
        return 0;
    };
    for byte in with.bytes() {
        match byte {
            b'&' => output.extend_from_slice(b"&amp;"),
            b'<' => output.extend_from_slice(b"&lt;"),
            b'"' => output.extend_from_slice(b"&quot;"),
            b'\'' => output.extend_from_slice(b"&#39;"),
            _ => output.push(byte),
        }
    }
    output.extend_from_slice(held.get(length..).unwrap_or_default());
    held.clear();
    1
}

/// Judges the beginning of a link as it stands in the document, up to `end` if `is_whole`. The
/// length of what is replaced counts the document's bytes.
///
/// The answer stays the same when more of the link is known, so that it does not depend on how
/// the document is cut into chunks.
fn judge<'a>(map: &'a OriginMap, raw: &[u8], end: u8, is_whole: bool) -> Match<'a> {
    let wanted = map.longest();
    let mut decoded = Vec::with_capacity(wanted);
    // Where each decoded byte begins in the document.
    let mut starts = Vec::with_capacity(wanted);
    let mut at = 0;
    while decoded.len() < wanted
        && let Some((byte, length)) = raw.get(at..).and_then(first_character)
    {
        decoded.push(byte);
        starts.push(at);
        at += length;
    }
    match map.find(&decoded, is_whole && at == raw.len()) {
        // An absolute path is a link in attributes only: the text of an `id` is a name.
        Match::Replace { length: 0, .. } if end == TEXT_END => Match::No,
        Match::Replace { length, with } => {
            Match::Replace { length: starts.get(length).copied().unwrap_or(at), with }
        }
        found => found,
    }
}

/// The first byte of a value and how many bytes it takes in the document; `None` where the value
/// ends, or where a character reference is not complete or not one.
///
/// A character beyond ASCII becomes 0xFF, and an entity reference begins with `&`. Neither is in
/// an origin, so that nothing after them matters.
fn first_character(raw: &[u8]) -> Option<(u8, usize)> {
    let body = match raw {
        [b'&', b'#', body @ ..] => body,
        [b'&'] | [] => return None,
        [byte, ..] => return Some((*byte, 1)),
    };
    let digits = body.get(..memchr(b';', body)?)?;
    let length = digits.len() + 3;
    let (digits, radix) = digits.strip_prefix(b"x").map_or((digits, 10), |hex| (hex, 16));
    // The standard library's parser would take a sign.
    let digits = str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
    let code = u32::from_str_radix(digits, radix).ok()?;
    let character = char::from_u32(code)?;
    Some((u8::try_from(character).ok().filter(u8::is_ascii).unwrap_or(0xff), length))
}

/// White space as XML 1.0 has it.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Whether a byte may be in a name: all that is not white space, a control or a delimiter.
fn is_name(byte: u8) -> bool {
    byte > b' ' && !matches!(byte, b'"' | b'\'' | b'<' | b'>' | b'=' | b'/' | b'&')
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    const PAIRS: [(&str, &str); 2] = [
        ("https://acme.example", "http://127.0.0.1:8080"),
        ("https://ctm.example:8443", "http://127.0.0.1:8080/a&b<\"'"),
    ];
    const ESCAPED: &str = "http://127.0.0.1:8080/a&amp;b&lt;&quot;&#39;";
    const PREFIX: &str = "/ctm";
    /// An origin for documents, and one that is not in the map.
    const OURS: &str = PAIRS[0].0;
    const OTHER: &str = "https://acme.exampla";

    fn map(prefix: Option<&str>) -> Arc<OriginMap> {
        let pairs = PAIRS.map(|(from, to)| (from.to_owned(), to.to_owned()));
        Arc::new(OriginMap::new(pairs, prefix.map(str::to_owned)))
    }

    /// The document rewritten in chunks of these sizes, over and over, and the count of links.
    fn in_chunks(map: &Arc<OriginMap>, document: &[u8], sizes: &[usize]) -> (Vec<u8>, u64) {
        let mut rewriter = XmlRewriter::new(Arc::clone(map));
        let (mut output, mut rest) = (Vec::new(), document);
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, after) = rest.split_at((*size).min(rest.len()));
            rewriter.push(chunk, &mut output);
            rest = after;
        }
        rewriter.finish(&mut output);
        (output, rewriter.rewritten())
    }

    fn at_once(map: &Arc<OriginMap>, document: &[u8]) -> (Vec<u8>, u64) {
        in_chunks(map, document, &[document.len().max(1)])
    }

    /// `@` stands for an origin that is to be kept, `[@]` for one that is to be replaced.
    #[track_caller]
    fn check(prefix: Option<&str>, pattern: &str) {
        let input = pattern.replace("[@]", PAIRS[0].0).replace('@', PAIRS[0].0);
        let output = pattern.replace("[@]", PAIRS[0].1).replace('@', PAIRS[0].0);
        check_pair(prefix, &input, &output, pattern.matches("[@]").count());
    }

    #[track_caller]
    fn check_pair(prefix: Option<&str>, input: &str, wanted: &str, count: usize) {
        for size in [1, 2, 7, input.len().max(1)] {
            let (output, rewritten) = in_chunks(&map(prefix), input.as_bytes(), &[size]);
            assert_eq!(String::from_utf8_lossy(&output), wanted, "chunks of {size}");
            assert_eq!(rewritten, count as u64, "{input}");
        }
    }

    #[test]
    fn links_are_rewritten_in_link_attributes_only() {
        for pattern in [
            r#"<feed xml:base="[@]/a/"/>"#,
            r#"<link rel="self" href="[@]/a?b=1&amp;c=2" title="x"/>"#,
            r#"<content src='[@]'></content>"#,
            r#"<edmx:Reference Uri="[@]/$metadata"><a/></edmx:Reference>"#,
            "<a\n\thref \r\n=\t'[@]#x'\n>",
            r#"<a href="[@]" src='[@]/' xml:base="[@]?x" Uri="[@]/y">"#,
            r#"<a title="it's > that" href="[@]/it's>"/>"#,
            r#"<a title='say "href="@/"' href='[@]/"x"'/>"#,
            r#"<a xhref="@/" data-src="@/" hrefs="@/" uri="@/" HREF="@/" base="@/" x:href="@/" Src="@/" xml:Base="@/"/>"#,
            r#"<a href=" @/" src="x@/" Uri="?u=@/"/>"#,
            r#"<a href="@.evil/" src="@:444/" Uri="@@evil/" xml:base="https://acme.exampl"/>"#,
            r#"<href a="@/"><src>@/</src></href>"#,
            r#"</a href="@/">"#,
            r#"<a title="ü€😀" href="[@]/ü€😀">ü @/ €</a>"#,
            "\u{feff}<?xml version=\"1.0\"?><a href='[@]/'/>",
            r#"<a href=""/><a href="[@]/"/>"#,
            r#"<ü:é href="[@]/"/>"#,
        ] {
            check(None, pattern);
        }
        let long = "n".repeat(NAME_LIMIT * 2);
        check(None, &format!("<{long}:idx {long}href='@/' href='[@]/'>@/</{long}><id>[@]/</id>"));
    }

    #[test]
    fn links_are_rewritten_in_the_text_of_id_elements_only() {
        for pattern in [
            "<id>[@]/a</id><atom:id\n>[@]</atom:id><d:id>@/</d:id>",
            "<id> \r\n\t[@]/a b\n</id>",
            "<id a='>' href='[@]/'>[@]/</id>",
            "<id/>@/<id />@/<ids>@/</ids><xid>@/</xid><ID>@/</ID><:id>@/</:id><id.x>@/</id.x>",
            "<a>@/<id>urn:x</id>@/</a>",
            "<id></id>@/<id>\n</id>@/",
            "<id><b>@/</b>@/</id>@/",
            "<id><!-- @/ -->@/</id><id>@<!-- x -->.evil</id><id>@<![CDATA[.evil]]></id>",
            "<id><![CDATA[@/]]></id>",
            "<id>@.evil/</id><id>@:444</id><id>x @/</id><id>&#10;@/</id>",
            "<id>@",
            "<id>@<",
        ] {
            check(None, pattern);
        }
    }

    #[test]
    fn absolute_paths_get_the_prefix_in_attributes_only() {
        let prefix = Some(PREFIX);
        check_pair(prefix, "<a href='/v2' src='/'/>", "<a href='/ctm/v2' src='/ctm/'/>", 2);
        check_pair(prefix, "<a Uri='&#47;&amp;x'/>", "<a Uri='/ctm&#47;&amp;x'/>", 1);
        check_pair(prefix, "<a Uri='/&#x1F600;'/>", "<a Uri='/ctm/&#x1F600;'/>", 1);
        for same in ["<id>/v2</id>", "<id>/</id>", "<a href='//x'/>", "<a href='/&#47;x'/>"] {
            check_pair(prefix, same, same, 0);
        }
        check(prefix, "<id>[@]/v2</id><a href='[@]/v2'/>");
    }

    #[test]
    fn nothing_is_rewritten_where_there_is_no_markup() {
        for inert in [
            "<!-- <a href='@/'> -> --x> - -->",
            "<!-->' <a href='@/'/> ---->",
            "<![CDATA[<a href='@/'/> ]] > ]><a href='@/'/>]]]>",
            "<?xml-stylesheet href='@/'?>",
            "<?p > <a href='@/'> ? >??>",
            "<!DOCTYPE a SYSTEM 'href=\"@/\">'>",
            "<!DOCTYPE a [<!ENTITY b 'x'><!ENTITY c \"<a href='@/'>\">]>",
            "<!DOCTYPE a [ <!ENTITY b \"<id>@/</id>]>\"> <!-- it's > <a href='@/'/> --> <?p '> ?> ] >",
        ] {
            check(None, &format!("{inert}<a href='[@]/'>{inert}</a><id>[@]/</id>"));
        }
    }

    #[test]
    fn character_references_at_the_beginning_are_understood() {
        let wanted = "<a href='http://127.0.0.1:8080/x'/>";
        for origin in [
            "https:&#x2f;&#47;acme.example",
            "&#x48;ttps://acme.exampl&#101;",
            "https:&#x002F;/acme&#0046;example",
        ] {
            check_pair(None, &format!("<a href='{origin}/x'/>"), wanted, 1);
        }
        let all = PAIRS[0].0.chars().map(|byte| format!("&#x{:04x};", u32::from(byte)));
        check_pair(None, &format!("<a href='{}/x'/>", all.collect::<String>()), wanted, 1);
        let slash = "<a href='https://acme.example&#47;&#x41;&amp;'/>";
        check_pair(None, slash, "<a href='http://127.0.0.1:8080&#47;&#x41;&amp;'/>", 1);
        for kept in [
            "&#x26;",
            "&amp;",
            "&",
            "&#",
            "&#;",
            "&#x;",
            "&#+47;",
            "&#x+2f;",
            "&#X2f;",
            "&#xD800;",
            "&#99999999999;",
            "&#x12f;",
            "&#47",
            "&slash;",
        ] {
            check(None, &format!("<a href='@{kept}' src=\"[@]/\"/><id>@{kept}</id>"));
        }
        check(None, &format!("<a href='https:&#{}47;/acme.example/'/>", "0".repeat(500)));
    }

    #[test]
    fn the_replacement_is_escaped() {
        let from = "<a href='https://ctm.example:8443/x'/><id>https://ctm.example:8443</id>";
        check_pair(None, from, &format!("<a href='{ESCAPED}/x'/><id>{ESCAPED}</id>"), 2);
    }

    #[test]
    fn what_follows_malformed_markup_passes() {
        for start in [
            "a < b",
            "<>",
            "<<",
            "<=",
            "<\0",
            "<a <",
            "<a b='<'",
            "<a href='[@]/<'",
            "<a href='@<'",
            "<a b=c",
            "<a b c='d'",
            "<a =",
            "<a/ ",
            "<a b='c'd='e'",
            "<a b'c'",
            "<!x",
            "<!doctype",
            "<![CDAT[",
            "</a <",
            "<!DOCTYPE a [<![",
            "<!DOCTYPE a [<b",
            "<a /b",
        ] {
            check(None, &format!("<x href='[@]/'/>{start} href='@/' /><a href='@/'/>"));
        }
        for end in [
            "<a href='@",
            "<a href='",
            "<a href=",
            "<",
            "<a",
            "<!",
            "<!-",
            "<![CDATA[]]",
            "<id> ",
            "<?",
        ] {
            check(None, end);
        }
    }

    #[test]
    fn after_the_end_everything_passes() {
        let (mut rewriter, mut output) = (XmlRewriter::new(map(None)), Vec::new());
        rewriter.push(b"<a href='https://acme.", &mut output);
        rewriter.finish(&mut output);
        rewriter.push(b"example/'/>", &mut output);
        rewriter.finish(&mut output);
        assert_eq!(output, b"<a href='https://acme.example/'/>");
    }

    /// What the reference implementation makes of a well-formed document: tokens by searching the
    /// whole text, values decoded in full.
    fn reference(document: &str, prefix: Option<&str>) -> (String, u64) {
        let (mut output, mut count, mut rest) = (String::new(), 0, document);
        while !rest.is_empty() {
            let through = |end: &str| rest.find(end).map_or(rest.len(), |at| at + end.len());
            let length = if rest.starts_with("<!--") {
                7 + rest.get(4..).and_then(|rest| rest.find("-->")).unwrap()
            } else if rest.starts_with("<![CDATA[") {
                through("]]>")
            } else if rest.starts_with("<?") {
                through("?>")
            } else if rest.starts_with("<!DOCTYPE") {
                through(" ]>")
            } else if rest.starts_with("</") {
                through(">")
            } else if rest.starts_with('<') {
                0
            } else {
                rest.find('<').unwrap_or(rest.len())
            };
            output.push_str(&rest[..length]);
            rest = &rest[length..];
            if length > 0 {
                continue;
            }
            // A start tag: pieces between quotes are, in turn, markup and values.
            let tag = rest;
            let mut markup_end;
            let markup = loop {
                markup_end = rest.find(['"', '\'', '>']).unwrap();
                let markup = &rest[..markup_end];
                output.push_str(&rest[..=markup_end]);
                let quote = &rest[markup_end..=markup_end];
                rest = &rest[markup_end + 1..];
                if quote == ">" {
                    break markup;
                }
                let (value, after) = rest.split_once(quote).unwrap();
                let name = markup.trim_end().trim_end_matches('=').split_whitespace().last();
                let is_link = ["xml:base", "href", "src", "Uri"].contains(&name.unwrap());
                let new = is_link.then(|| reference_value(value, prefix)).flatten();
                count += u64::from(new.is_some());
                output.push_str(new.as_deref().unwrap_or(value));
                output.push_str(quote);
                rest = after;
            };
            let name = tag[1..].split([' ', '\t', '\n', '/', '>']).next().unwrap();
            if ["id", "atom:id"].contains(&name) && !markup.ends_with('/') {
                let text = &rest[..rest.find('<').unwrap_or(rest.len())];
                let value = text.trim_start_matches([' ', '\t', '\n']);
                output.push_str(&text[..text.len() - value.len()]);
                let after = &rest[text.len()..];
                // With more text behind a comment or CDATA section, it is not whole.
                let probe =
                    if after.starts_with("</") { value.to_owned() } else { format!("{value}é") };
                let new = reference_value(&probe, None);
                count += u64::from(new.is_some());
                match new {
                    Some(new) => output.push_str(&new[..new.len() - (probe.len() - value.len())]),
                    None => output.push_str(value),
                }
                rest = after;
            }
        }
        (output, count)
    }

    fn reference_value(value: &str, prefix: Option<&str>) -> Option<String> {
        // Each character with what follows it in the document.
        let (mut characters, mut rest) = (Vec::new(), value);
        while let Some(first) = rest.chars().next() {
            let entity = rest.split_once(';').filter(|_| first == '&');
            let (character, after) = match entity {
                Some(("&amp", after)) => ('&', after),
                Some((number, after)) => {
                    let code = match number.strip_prefix("&#x") {
                        Some(hex) => u32::from_str_radix(hex, 16),
                        None => number[2..].parse(),
                    };
                    (char::from_u32(code.unwrap()).unwrap(), after)
                }
                None => (first, &rest[first.len_utf8()..]),
            };
            characters.push((character, after));
            rest = after;
        }
        let text = characters.iter().map(|pair| pair.0.to_ascii_lowercase()).collect::<String>();
        for (index, (from, _)) in PAIRS.into_iter().enumerate() {
            let Some(after) = text.strip_prefix(from) else { continue };
            if after.is_empty() || after.starts_with(['/', '?', '#']) {
                return Some(format!(
                    "{}{}",
                    [PAIRS[0].1, ESCAPED][index],
                    characters[from.len() - 1].1
                ));
            }
        }
        let prefix = prefix.filter(|_| text.starts_with('/') && !text.starts_with("//"))?;
        Some(format!("{prefix}{value}"))
    }

    /// Values of attributes and texts, some of them links to this origin.
    fn value(origin: &'static str) -> impl Strategy<Value = String> {
        let start = select(vec![
            origin.to_owned(),
            origin.to_owned(),
            origin.to_ascii_uppercase(),
            origin.replace('/', "&#x2f;"),
            origin.chars().map(|byte| format!("&#{};", u32::from(byte))).collect(),
            origin[..origin.len() - 1].to_owned(),
            if origin == OURS { PAIRS[1].0 } else { "/v2" }.to_owned(),
            String::new(),
            "é".to_owned(),
            "x>".to_owned(),
        ]);
        let next = "[/?# .:]?(&amp;|&#47;|&#x20ac;|&#x1F600;|é|x|>|/){0,3}";
        (select(vec!["", "", "", " ", "\n"]), start, next)
            .prop_map(|(a, b, c)| format!("{a}{b}{c}"))
    }

    fn space() -> impl Strategy<Value = &'static str> {
        select(vec!["", "", " ", "\n\t"])
    }

    /// A start tag without its end.
    fn tag(origin: &'static str) -> impl Strategy<Value = String> {
        let names =
            vec!["xml:base", "href", "src", "Uri", "xhref", "data-src", "id", "uri", "a:href"];
        let attribute = (select(names), space(), space(), any::<bool>(), value(origin), space());
        let attribute = attribute.prop_map(|(name, before, after, is_double, value, space)| {
            let (quote, other) = if is_double { ('"', "'") } else { ('\'', "\"") };
            let inside = if space.is_empty() { "" } else { other };
            format!(" {space}{name}{before}={after}{quote}{value}{inside}{quote}")
        });
        let element = select(vec!["id", "atom:id", "entry", "m:ids", "xid", "id", "link"]);
        (element, vec(attribute, 0..4), space())
            .prop_map(|(name, attributes, space)| format!("<{name}{}{space}", attributes.concat()))
    }

    /// A piece of a well-formed document, as long as elements need not match.
    fn piece(origin: &'static str) -> impl Strategy<Value = String> {
        let inert = select(vec![
            ("<!--", "-->"),
            ("<!-->", "-->"),
            ("<![CDATA[", "]]>"),
            ("<?p ", "?>"),
            ("<!DOCTYPE a [ <!ENTITY b \"", "]'>\"> <!-- it's --> <?p '?> ]>"),
        ]);
        let inert = (inert, tag(origin), value(origin)).prop_map(|((start, end), tag, value)| {
            // A literal of the DOCTYPE ends at its first quote.
            let tag = if start.starts_with("<!D") { tag.replace('"', "'") } else { tag };
            format!("{start}{tag}>{value}</a>{end}")
        });
        prop_oneof![
            3 => (tag(origin), value(origin)).prop_map(|(tag, text)| format!("{tag}>{text}</id>")),
            1 => tag(origin).prop_map(|tag| format!("{tag}>")),
            1 => tag(origin).prop_map(|tag| format!("{tag}/>")),
            1 => value(origin),
            1 => Just("</id>".to_owned()),
            1 => inert,
        ]
    }

    fn document(origin: &'static str) -> impl Strategy<Value = String> {
        vec(piece(origin), 0..8).prop_map(|pieces| pieces.concat())
    }

    /// Well-formed and malformed fragments in any order.
    fn soup(origin: &'static str) -> impl Strategy<Value = Vec<u8>> {
        let fragments = vec![
            "<",
            ">",
            "\"",
            "'",
            "=",
            "/",
            "&",
            "&#",
            "&#x2f;",
            ";",
            "]]>",
            "-->",
            "?>",
            "<!",
            "<!--",
            "<![CDATA[",
            "<?",
            "<!DOCTYPE a",
            "[",
            "<id>",
            "</",
            "<a ",
            " href",
            " src=\"",
            " Uri='",
            " ",
            "\u{feff}",
            "id",
            ":",
            "-",
            "]",
            "?",
            origin,
            origin,
            origin,
            "https://",
            ".",
        ];
        let part = prop_oneof![
            6 => select(fragments).prop_map(|text| text.as_bytes().to_vec()),
            2 => piece(origin).prop_map(String::into_bytes),
            1 => vec(any::<u8>(), 0..4),
        ];
        vec(part, 0..40).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn chunks_make_no_difference(
            soup in soup(OURS), sizes in vec(1_usize..40, 1..6), prefix in any::<bool>(),
        ) {
            let map = map(prefix.then_some(PREFIX));
            let whole = at_once(&map, &soup);
            prop_assert_eq!(&in_chunks(&map, &soup, &sizes), &whole);
            prop_assert_eq!(&in_chunks(&map, &soup, &[1]), &whole);
        }

        #[test]
        fn documents_without_an_origin_stay_as_they_are(
            document in document(OTHER), sizes in vec(1_usize..40, 1..6),
        ) {
            let (output, rewritten) = in_chunks(&map(None), document.as_bytes(), &sizes);
            prop_assert_eq!(String::from_utf8(output).unwrap(), document);
            prop_assert_eq!(rewritten, 0);
        }

        #[test]
        fn any_bytes_pass_unharmed(
            soup in soup(OTHER), bytes in vec(any::<u8>(), 0..200), sizes in vec(1_usize..40, 1..6),
        ) {
            for input in [&soup, &bytes] {
                prop_assert_eq!(&in_chunks(&map(None), input, &sizes).0, input);
            }
        }

        #[test]
        fn nothing_but_the_origin_is_changed(soup in soup(OURS), sizes in vec(1_usize..40, 1..6)) {
            // What is replaced by itself leaves the input, but for references and upper case.
            let soup = String::from_utf8_lossy(&soup).to_ascii_lowercase().replace("&#", "&");
            let same = OriginMap::new([(OURS.to_owned(), OURS.to_owned())], None);
            let (output, _) = in_chunks(&Arc::new(same), soup.as_bytes(), &sizes);
            prop_assert_eq!(String::from_utf8(output).unwrap(), soup);
        }

        #[test]
        fn documents_come_out_as_the_reference_has_them(
            document in document(OURS), sizes in vec(1_usize..40, 1..6), prefix in any::<bool>(),
        ) {
            let prefix = prefix.then_some(PREFIX);
            let (output, rewritten) = in_chunks(&map(prefix), document.as_bytes(), &sizes);
            prop_assert_eq!((String::from_utf8(output).unwrap(), rewritten), reference(&document, prefix));
        }

        #[test]
        fn what_is_held_back_is_bounded(soup in soup(OURS), zeros in 0_usize..2000) {
            let map = map(None);
            let limit = map.longest() * REFERENCE_LENGTH;
            let document = [b"<a href='&#".to_vec(), vec![b'0'; zeros], soup].concat();
            let document = [vec![b'<'; 1], vec![b'n'; zeros], b" ".to_vec(), vec![b'a'; zeros], b"='0'>".to_vec(), document].concat();
            let document = [document.as_slice(), b"<id>", &vec![b' '; zeros], &document].concat();
            for size in [1, 13, document.len()] {
                let mut rewriter = XmlRewriter::new(Arc::clone(&map));
                let (mut output, mut input) = (Vec::new(), 0);
                for chunk in document.chunks(size) {
                    rewriter.push(chunk, &mut output);
                    input += chunk.len();
                    prop_assert!(rewriter.name.len() <= NAME_LIMIT);
                    prop_assert!(rewriter.held.len() <= limit);
                    prop_assert!(rewriter.held.capacity() <= limit * 2);
                    // A replacement is at most that much shorter than what it replaces.
                    let lost = rewriter.rewritten() as usize * limit;
                    prop_assert!(output.len() + limit + 1 + lost >= input);
                }
            }
        }
    }
}
