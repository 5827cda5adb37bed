//! The laws of a link rewriter, which must hold for every input.
//!
//! The fuzz targets include this file, and the test of their corpus uses it. It uses only the
//! public interface of the rewriters, so that it stays the same if they change inside.
//!
//! The first four bytes of an input are chunk sizes, the rest is the document: see [`check`].

use std::sync::{Arc, LazyLock};

use bearerd::proxy::links::json::JsonRewriter;
use bearerd::proxy::links::origin::{Match, OriginMap};
use bearerd::proxy::links::xml::XmlRewriter;
use roxmltree::{Attribute, Document, Node};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Origins and their replacements. The longest on both sides have one length, so that the rewriters
/// look equally far ahead in both directions.
const PAIRS: [(&str, &str); 2] = [
    ("https://acme.example", "http://127.0.0.1:8080/hb"),
    ("https://ctm.example:18443", "http://127.0.0.1:8080/ct"),
];

/// Pairs whose replacements need escapes in JSON and in XML.
const ESCAPED_PAIRS: [(&str, &str); 2] = [
    ("https://acme.example", "http://localhost/\"a\\b"),
    ("https://ctm.example:18443", "http://localhost/a&b<c'"),
];

struct Maps {
    /// From origins to replacements.
    there: Arc<OriginMap>,
    /// From replacements to origins.
    back: Arc<OriginMap>,
    /// From both to origins.
    home: Arc<OriginMap>,
    /// A map with a prefix for absolute paths, which is added at each rewriting.
    prefixed: Arc<OriginMap>,
}

static MAPS: LazyLock<Maps> = LazyLock::new(|| {
    let map = |pairs: &[(&str, &str)], prefix: Option<&str>| {
        let pairs = pairs.iter().map(|&(from, to)| (from.to_owned(), to.to_owned()));
        Arc::new(OriginMap::new(pairs, prefix.map(str::to_owned)))
    };
    let swapped = PAIRS.map(|(origin, replacement)| (replacement, origin));
    let same = PAIRS.map(|(origin, _)| (origin, origin));
    let maps = Maps {
        there: map(&PAIRS, None),
        back: map(&swapped, None),
        home: map(&[same, swapped].concat(), None),
        prefixed: map(&ESCAPED_PAIRS, Some("/ctm")),
    };
    assert_eq!(maps.there.longest(), maps.back.longest());
    maps
});

/// The interface of both rewriters.
pub(crate) trait Rewriter {
    /// The largest number of bytes that may be held back for each byte of an origin: the length of
    /// its longest escape.
    const HELD_PER_BYTE: usize;

    fn new(map: &Arc<OriginMap>) -> Self;
    fn push(&mut self, input: &[u8], output: &mut Vec<u8>);
    fn finish(&mut self, output: &mut Vec<u8>);
    fn rewritten(&self) -> u64;

    /// Checks the meaning of a document that was rewritten with this map.
    fn check_meaning(map: &OriginMap, before: &[u8], after: &[u8]);
}

impl Rewriter for JsonRewriter {
    /// `\u002f`
    const HELD_PER_BYTE: usize = 6;

    fn new(map: &Arc<OriginMap>) -> Self {
        Self::new(Arc::clone(map))
    }

    fn push(&mut self, input: &[u8], output: &mut Vec<u8>) {
        self.push(input, output);
    }

    fn finish(&mut self, output: &mut Vec<u8>) {
        self.finish(output);
    }

    fn rewritten(&self) -> u64 {
        self.rewritten()
    }

    /// Valid JSON stays valid and has the right strings changed. Invalid JSON stays invalid.
    fn check_meaning(map: &OriginMap, before: &[u8], after: &[u8]) {
        let [before, after] = [before, after].map(|json| serde_json::from_slice::<Tree>(json).ok());
        let wanted = before.map(|mut tree| {
            rewrite_tree(map, &mut tree, false, Place::Plain);
            tree
        });
        assert_eq!(after, wanted, "the JSON means something else");
    }
}

impl Rewriter for XmlRewriter {
    /// `&#x002f;`
    const HELD_PER_BYTE: usize = 8;

    fn new(map: &Arc<OriginMap>) -> Self {
        Self::new(Arc::clone(map))
    }

    fn push(&mut self, input: &[u8], output: &mut Vec<u8>) {
        self.push(input, output);
    }

    fn finish(&mut self, output: &mut Vec<u8>) {
        self.finish(output);
    }

    fn rewritten(&self) -> u64 {
        self.rewritten()
    }

    /// Valid XML stays valid and has the right values changed.
    fn check_meaning(map: &OriginMap, before: &[u8], after: &[u8]) {
        let Ok(before) = str::from_utf8(before) else { return };
        // The rewriter does not read references with more leading zeros than necessary.
        if before.contains("000") {
            return;
        }
        // Parsed text does not show where a CDATA section or a reference was.
        let reads_ids = !before.contains("<![CDATA[") && !before.contains("&#");
        let Ok(wanted) = xml_meaning(before, map, reads_ids) else { return };
        let after = str::from_utf8(after).unwrap();
        let meaning = xml_meaning(after, &OriginMap::default(), reads_ids);
        assert_eq!(meaning, Ok(wanted), "the XML means something else");
    }
}

/// Panics if the rewriter breaks a law on this input.
///
/// Each of the first four bytes is a chunk size. The sizes are used in turn. A digit stands for its
/// number, a line feed for 218, so that the document can begin on a line of its own.
pub(crate) fn check<R: Rewriter>(input: &[u8]) {
    let Some((sizes, document)) = input.split_first_chunk::<4>() else { return };
    let [first, second, third, fourth] = sizes.map(|byte| usize::from(byte.wrapping_sub(b'0')));
    // The last size makes four chunks of size zero come to an end.
    let sizes = [first, second, third, fourth, 1];

    for map in [&MAPS.there, &MAPS.prefixed] {
        let (output, count) = at_once::<R>(map, document);
        for sizes in [&sizes[..], &[1]] {
            let (pieces, rewritten) = in_chunks::<R>(map, document, sizes);
            assert_same(&pieces, &output, "chunks make a difference");
            assert_eq!(rewritten, count, "chunks make a difference to the count");
        }
        if count == 0 {
            assert_same(&output, document, "without a link, bytes have changed");
        } else {
            assert_ne!(output, document, "{count} links were changed, and no byte");
        }
        R::check_meaning(map, document, &output);
    }

    let (there, _) = at_once::<R>(&MAPS.there, document);
    let (again, count) = at_once::<R>(&MAPS.there, &there);
    assert_same(&again, &there, "rewriting again makes a difference");
    assert_eq!(count, 0, "a link was rewritten again");
    // An origin with escapes comes back without them, and so it does in this map.
    let (back, _) = at_once::<R>(&MAPS.back, &there);
    let (home, _) = at_once::<R>(&MAPS.home, document);
    assert_same(&back, &home, "more than origins was changed");
}

fn at_once<R: Rewriter>(map: &Arc<OriginMap>, document: &[u8]) -> (Vec<u8>, u64) {
    in_chunks::<R>(map, document, &[document.len().max(1)])
}

/// The output and the number of links, with chunks of these sizes in turn.
fn in_chunks<R: Rewriter>(
    map: &Arc<OriginMap>,
    document: &[u8],
    sizes: &[usize],
) -> (Vec<u8>, u64) {
    let mut rewriter = R::new(map);
    // Each piece is passed on before the next chunk, as in the proxy.
    let (mut output, mut piece) = (Vec::new(), Vec::new());
    let mut rest = document;
    let mut pushes = Vec::new();
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, after) = rest.split_at(rest.len().min(*size));
        rest = after;
        rewriter.push(chunk, &mut piece);
        output.append(&mut piece);
        pushes.push((rest.len(), output.len(), rewriter.rewritten()));
    }
    rewriter.finish(&mut piece);
    output.append(&mut piece);

    let count = rewriter.rewritten();
    let limit = map.longest() * R::HELD_PER_BYTE + 1;
    for (left, given, rewritten) in pushes {
        // Before the first changed link and after the last one, input and output have the same
        // length.
        if rewritten == 0 {
            assert_held(document.len() - left, given, limit);
        }
        if rewritten == count {
            assert_held(output.len() - given, left, limit);
        }
    }
    (output, count)
}

/// Checks that at most `limit` of `more` bytes are held back.
fn assert_held(more: usize, fewer: usize, limit: usize) {
    let held = more.checked_sub(fewer);
    assert!(held.is_some_and(|held| held <= limit), "{more} - {fewer} bytes held of {limit}");
}

#[track_caller]
fn assert_same(left: &[u8], right: &[u8], what: &str) {
    let [left_text, right_text] = [left, right].map(|bytes| bytes.escape_ascii());
    assert!(left == right, "{what}:\n{left_text}\n{right_text}");
}

/// The kind of an object, which decides about some of its keys.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Plain,
    Metadata,
    Operations,
    Operation,
    Listing,
    Deleted,
    Relation,
    References,
    Annotation,
}

/// JSON with its keys in order: the first key of an object can decide its kind.
#[derive(Debug, PartialEq)]
enum Tree {
    Text(String),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
    Other(String),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Other(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Other(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Other(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Other(value.to_string()))
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Other("null".to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Tree, A::Error> {
        let mut object = Vec::new();
        while let Some(member) = members.next_entry()? {
            object.push(member);
        }
        Ok(Tree::Object(object))
    }
}

/// Applies the rules to a JSON value. `is_link` comes from its key. `place` is the kind of the
/// object, or of the objects in the array.
fn rewrite_tree(map: &OriginMap, tree: &mut Tree, is_link: bool, place: Place) {
    match tree {
        Tree::Text(text) if is_link => {
            if let Some(new) = map.rewrite(text) {
                *text = new;
            }
        }
        Tree::List(items) => {
            for item in items {
                let is_link = is_link && matches!(item, Tree::Text(_));
                let keeps = place == Place::Annotation || matches!(item, Tree::Object(_));
                rewrite_tree(map, item, is_link, if keeps { place } else { Place::Plain });
            }
        }
        Tree::Object(members) => rewrite_object(map, members, place),
        _ => {}
    }
}

fn rewrite_object(map: &OriginMap, members: &mut [(String, Tree)], mut place: Place) {
    if let Some((key, Tree::Text(context))) = members.first()
        && place == Place::Plain
        && ["@odata.context", "@context", "odata.metadata"].contains(&key.as_str())
    {
        place = place_of(context);
    }
    for (key, member) in members {
        if matches!(place, Place::Operations | Place::References) {
            if let Some(new) = map.rewrite(key) {
                *key = new;
            }
            let is_operation = place == Place::Operations;
            let inner = if is_operation { Place::Operation } else { Place::Plain };
            rewrite_tree(map, member, false, inner);
        } else {
            let inner = inner_place(key, place, member);
            rewrite_tree(map, member, is_link_key(key, place), inner);
        }
    }
}

/// The kind of an object with this context.
fn place_of(context: &str) -> Place {
    let (url, fragment) = context.split_once('#').unwrap_or((context, ""));
    if context.contains("/$links/") || url.contains("$metadata") && !context.contains('#') {
        Place::Listing
    } else if context.ends_with("/$deletedEntity") {
        Place::Deleted
    } else if fragment.ends_with("/$link")
        || context.ends_with("/$link")
        || context.ends_with("/$deletedLink")
    {
        Place::Relation
    } else {
        Place::Plain
    }
}

/// The kind of an object under this key, or in an array under it.
fn inner_place(key: &str, place: Place, member: &Tree) -> Place {
    let is_object = matches!(member, Tree::Object(_));
    let is_list = matches!(member, Tree::List(_));
    let mark = key.rfind(['@', '#']).map(|at| key.split_at(at));
    match key {
        _ if key.len() > 256 => {
            if place == Place::Annotation {
                place
            } else {
                Place::Plain
            }
        }
        _ if mark.is_some_and(|(_, suffix)| suffix.starts_with('#'))
            && !key.starts_with("odata.")
            && !(key.starts_with("asset") && key.ends_with("Url")) =>
        {
            Place::Operation
        }
        _ if place == Place::Annotation => Place::Annotation,
        "__metadata" | "__mediaresource" if is_object => Place::Metadata,
        "actions" | "functions" if place == Place::Metadata && is_object => Place::Operations,
        "$Reference" if is_object => Place::References,
        "value" if place == Place::Listing && is_list => Place::Listing,
        _ if !is_link_key(key, place) && mark.is_some_and(|(_, suffix)| suffix.contains('.')) => {
            Place::Annotation
        }
        _ => Place::Plain,
    }
}

fn is_link_key(key: &str, place: Place) -> bool {
    const ENDINGS: [&str; 12] = [
        "@nextLink",
        "@context",
        "@deltaLink",
        "@id",
        "@editLink",
        "@readLink",
        "@navigationLink",
        "@associationLink",
        "@mediaReadLink",
        "@mediaEditLink",
        "@bind",
        "@type",
    ];
    let is_link = match key {
        "__next" | "__delta" | "uri" | "associationuri" | "location" | "$ref" => true,
        "documentationUri" | "specUri" | "longtextUrl" | "longtext_url" | "$UrlRef" => true,
        "id" => matches!(place, Place::Metadata | Place::Deleted),
        "edit_media" | "media_src" => place == Place::Metadata,
        "url" => place == Place::Listing,
        "target" => matches!(place, Place::Operation | Place::Relation),
        "source" => place == Place::Relation,
        "href" | "retryLink" => place == Place::Annotation,
        _ => {
            let is_operation = key.rfind('#') > key.rfind('@');
            key.starts_with("odata.")
                || key.starts_with("asset") && key.ends_with("Url")
                || !is_operation
                    && (key.contains("@odata.")
                        || ENDINGS.iter().any(|ending| key.ends_with(ending))
                        || key.ends_with(".longtextUrl") && key.contains('@'))
        }
    };
    is_link && key.len() <= 256
}

/// All nodes with their attributes and texts, after the links are rewritten. The parser takes no
/// DTD, so that there are only XML's own entities.
fn xml_meaning(
    xml: &str,
    map: &OriginMap,
    reads_ids: bool,
) -> Result<Vec<String>, roxmltree::Error> {
    let mut meaning = Vec::new();
    for node in Document::parse(xml)?.descendants() {
        meaning.push(format!("{:?} {:?} {:?}", node.node_type(), node.tag_name(), node.pi()));
        for attribute in node.attributes() {
            let takes_paths = is_link_attribute(xml, &node, &attribute);
            let new = takes_paths.and_then(|_| map.rewrite(attribute.value()));
            let is_path =
                attribute.value().starts_with('/') && !attribute.value().starts_with("//");
            let new = new.filter(|_| takes_paths == Some(true) || !is_path);
            let value = new.unwrap_or_else(|| attribute.value().to_owned());
            meaning.push(format!("{:?} {} {value}", attribute.namespace(), attribute.name()));
        }
        let Some(text) = node.text().filter(|_| !node.is_element()) else { continue };
        let is_first_text = node.is_text() && node.prev_sibling().is_none();
        let takes_paths = node.parent().and_then(|parent| has_link_as_text(xml, &parent));
        if !is_first_text || takes_paths.is_none() {
            meaning.push(text.to_owned());
        } else if reads_ids {
            let link = text.trim_start_matches([' ', '\t', '\r', '\n']);
            meaning.push(match map.find(link.as_bytes(), node.next_sibling().is_none()) {
                Match::Replace { length, with } if length > 0 || takes_paths == Some(true) => {
                    let (space, _) = text.split_at(text.len() - link.len());
                    format!("{space}{with}{}", &link[length..])
                }
                _ => text.to_owned(),
            });
        }
    }
    Ok(meaning)
}

/// A name as it is written, with its prefix.
fn written(xml: &str, range: std::ops::Range<usize>) -> &str {
    let ends = [' ', '\t', '\r', '\n', '/', '>', '='];
    xml[range].trim_start_matches('<').split(ends).next().unwrap_or_default()
}

/// Whether an element's text is a link, and if so, whether an absolute path is one there.
fn has_link_as_text(xml: &str, element: &Node<'_, '_>) -> Option<bool> {
    match written(xml, element.range()) {
        "id" | "atom:id" | "a:id" | "String" | "edm:String" => Some(false),
        "uri" | "next" | "icon" | "logo" | "atom:uri" | "a:uri" => Some(true),
        _ => None,
    }
}

/// Whether an attribute is a link, and if so, whether an absolute path is one there.
fn is_link_attribute(
    xml: &str,
    element: &Node<'_, '_>,
    attribute: &Attribute<'_, '_>,
) -> Option<bool> {
    let name = written(xml, attribute.range());
    let element = written(xml, element.range());
    let element = element.split_once(':').map_or(element, |(_, local)| local);
    let is_link = match (element, name) {
        (_, "String") => return Some(false),
        (_, "xml:base" | "href" | "src" | "Uri" | "Url" | "UrlRef") => true,
        (_, "m:context" | "metadata:context") => true,
        ("ref", "id") | ("deleted-entry", "ref") => true,
        ("action" | "function", "metadata" | "target") => true,
        ("link" | "deleted-link", "source" | "target") => true,
        _ => false,
    };
    is_link.then_some(true)
}
