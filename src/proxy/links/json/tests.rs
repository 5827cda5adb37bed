use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::context::ValueContext;
use super::keys::is_context;
use super::*;

mod blocks;

const ORIGIN: &str = "https://acme.example";

fn map(prefix: Option<&str>) -> Arc<OriginMap> {
    let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    let pairs = [
        pair(ORIGIN, "http://127.0.0.1:8080"),
        pair("https://ctm.example:8443", "http://\"side\\car\u{1}"),
    ];
    Arc::new(OriginMap::new(pairs, prefix.map(str::to_owned)))
}

/// The output in one piece; `sizes` are those of the chunks, over and over.
fn rewrite(map: &Arc<OriginMap>, input: &[u8], sizes: &[usize]) -> (Vec<u8>, u64) {
    let mut rewriter = JsonRewriter::new(Arc::clone(map));
    let mut output = Vec::new();
    let mut rest = input;
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, after) = rest.split_at(rest.len().min(*size));
        rewriter.push(chunk, &mut output);
        assert_bounded(&rewriter);
        rest = after;
    }
    rewriter.finish(&mut output);
    (output, rewriter.rewritten())
}

fn assert_bounded(rewriter: &JsonRewriter) {
    assert!(rewriter.held.len() <= rewriter.window * 6, "{} held", rewriter.held.len());
    assert!(
        rewriter.decoder.text().len() <= LONGEST_KEY + 3,
        "{} decoded",
        rewriter.decoder.text().len()
    );
    assert!(rewriter.parents.len() <= DEEPEST);
}

fn text(map: &Arc<OriginMap>, input: &str) -> String {
    let (whole, count) = rewrite(map, input.as_bytes(), &[usize::MAX]);
    assert_eq!(rewrite(map, input.as_bytes(), &[1]), (whole.clone(), count), "{input}");
    String::from_utf8(whole).unwrap()
}

#[test]
fn links_under_link_keys_change() {
    let map = map(None);
    for key in [
        "@odata.nextLink",
        "Customer@odata.navigationLink",
        "@odata.context",
        "@odata.id",
        "@odata.mediaReadLink",
        "@nextLink",
        "@context",
        "@deltaLink",
        "@id",
        "@editLink",
        "@readLink",
        "Items@nextLink",
        "a@b@id",
        "@navigationLink",
        "Items@associationLink",
        "Photo@mediaReadLink",
        "@mediaEditLink",
        "Customer@bind",
        "@type",
        "odata.metadata",
        "odata.nextLink",
        "odata.editLink",
        "Items@odata.navigationLinkUrl",
        "__next",
        "__delta",
        "associationuri",
        "documentationUri",
        "specUri",
        "longtextUrl",
        "@Common.longtextUrl",
        "$UrlRef",
        "uri",
        "assetRelationalDataUrl",
        "assetUrl",
        "location",
        "$ref",
        r"\u0040odata.nextLink",
        r"ur\u0069",
        r"\u0024ref",
        r"é\u00e9@id",
    ] {
        for (value, rest) in [
            ("https://acme.example/a?b=https://acme.example/", "/a?b=https://acme.example/"),
            ("https://acme.example", ""),
            ("HTTPS://Acme.Example?x", "?x"),
            (r"https:\/\/acme.example\/a", r"\/a"),
            (r"\u0068ttps:\u002F\u002facme.example\u002fa\n", r"\u002fa\n"),
            ("https://acme.example/\u{e9}", "/\u{e9}"),
            (r"https://acme.example#\ud83d\ude00", r"#\ud83d\ude00"),
            (r"https://acme.exampl\u0065", ""),
        ] {
            let document = |value: &str| format!("{{ \"{key}\" :\t\"{value}\" , \"x\":1}}\r\n");
            assert_eq!(
                text(&map, &document(value)),
                document(&format!("http://127.0.0.1:8080{rest}"))
            );
        }
    }
}

#[test]
fn structure_distinguishes_links_from_data() {
    let map = map(Some("/ctm"));
    // `<U>` is the origin, `<R>` its replacement.
    for (input, wanted) in [
        (
            r#"{"a@odata.bind":["<U>/1", "<U>/2",3,"x"],"b":"<U>/"}"#,
            r#"{"a@odata.bind":["<R>/1", "<R>/2",3,"x"],"b":"<U>/"}"#,
        ),
        (
            r#"{"uri":[["<U>/"],{"b":"<U>/"},"<U>/"],"c":["<U>/"]}"#,
            r#"{"uri":[["<U>/"],{"b":"<U>/"},"<R>/"],"c":["<U>/"]}"#,
        ),
        (r#"{"uri":{"a":"<U>/"},"b":"<U>"}"#, r#"{"uri":{"a":"<U>/"},"b":"<U>"}"#),
        (
            r#"{"__metadata":{"id":"<U>/","a":"<U>/","media_src":"<U>/","edit_media":"<U>/"},"id":"<U>/"}"#,
            r#"{"__metadata":{"id":"<R>/","a":"<U>/","media_src":"<R>/","edit_media":"<R>/"},"id":"<U>/"}"#,
        ),
        (
            r#"{"__metadata":{"a":{"id":"<U>/"},"id":"<U>/"}}"#,
            r#"{"__metadata":{"a":{"id":"<U>/"},"id":"<R>/"}}"#,
        ),
        (
            r#"{"__metadata":[{"id":"<U>/"}],"media_src":"<U>/"}"#,
            r#"{"__metadata":[{"id":"<U>/"}],"media_src":"<U>/"}"#,
        ),
        (r#"{"\u005f_metadata" : {"id":"<U>/"}}"#, r#"{"\u005f_metadata" : {"id":"<R>/"}}"#),
        (r#"{"a":{"__deferred":{"uri":"<U>/x"}}}"#, r#"{"a":{"__deferred":{"uri":"<R>/x"}}}"#),
        (
            r#"{"@id":"/a","uri":"//a","__next":"/","$ref":"\/a","location":"a"}"#,
            r#"{"@id":"/ctm/a","uri":"//a","__next":"/ctm/","$ref":"/ctm\/a","location":"a"}"#,
        ),
        (
            r#"{"@id":"https://ctm.example:8443/a"}"#,
            r#"{"@id":"http://\u0022side\u005ccar\u0001/a"}"#,
        ),
        ("\u{feff}{\"uri\":\"<U>/\"}", "\u{feff}{\"uri\":\"<R>/\"}"),
        (
            "{\"uri\"\n:\n\"<U>/\"}\n{\"uri\":\"<U>/\"}",
            "{\"uri\"\n:\n\"<R>/\"}\n{\"uri\":\"<R>/\"}",
        ),
        (
            r#"[{"uri":1},"<U>/",{"uri":null,"a":"<U>/"}]"#,
            r#"[{"uri":1},"<U>/",{"uri":null,"a":"<U>/"}]"#,
        ),
        (
            r#"{"a":"\"","uri":"<U>/","b":"\\","@id":"<U>/"}"#,
            r#"{"a":"\"","uri":"<R>/","b":"\\","@id":"<R>/"}"#,
        ),
        (
            r#"{"a":["uri","<U>/"],"b":"uri","c":"<U>/"}"#,
            r#"{"a":["uri","<U>/"],"b":"uri","c":"<U>/"}"#,
        ),
    ] {
        let [input, wanted] = [input, wanted]
            .map(|text| text.replace("<U>", ORIGIN).replace("<R>", "http://127.0.0.1:8080"));
        assert_eq!(text(&map, &input), wanted);
    }
}

/// `<U>` is the origin where it stays, `<L>` where it does not.
#[track_caller]
fn check(pattern: &str) {
    let input = pattern.replace("<L>", ORIGIN).replace("<U>", ORIGIN);
    let wanted = pattern.replace("<L>", "http://127.0.0.1:8080").replace("<U>", ORIGIN);
    assert_eq!(text(&map(None), &input), wanted);
}

#[test]
fn what_an_object_is_decides_which_of_its_keys_are_links() {
    for pattern in [
        // OData V2 and V3, verbose.
        r#"{"__metadata":{"properties":{"Items":{"associationuri":"<L>/$links/Items"}}},"properties":{"id":"<U>/"}}"#,
        r#"{"Photo":{"__mediaresource":{"edit_media":"<L>/p","media_src":"<L>/p","content_type":"<U>"}},"media_src":"<U>/"}"#,
        r#"{"__metadata":{"actions":{"<L>/$metadata#C.Ship":[{"title":"<U>/","target":"<L>/Ship"}]},"functions":{"<L>/x":{"target":"<L>/"}}},"target":"<U>/"}"#,
        r#"{"actions":{"<U>/x":[{"target":"<U>/"}]},"__metadata":{"actions":["<U>/"]}}"#,
        // Operations of V3, V4 and 4.01, with overloads, of a property.
        r##"{"#Model.Ship":{"title":"<U>/","target":"<L>/Ship"},"Items#Model.Ship":[{"target":"<L>/Ship"},[{"target":"<U>/"}]],"target":"<U>/"}"##,
        // Service documents, and references of V3.
        r#"{"@odata.context":"<L>/$metadata","value":[{"name":"A","url":"<L>/A"},{"url":"<L>/B"}],"x":[{"url":"<U>/"}]}"#,
        r#"{"@context":"$metadata","value":[{"url":"<L>/A","kind":"ServiceDocument"}]}"#,
        r#"{"odata.metadata":"<L>/$metadata#O/$links/Items","url":"<L>/Items(1)"}"#,
        r#"{"odata.metadata":"<L>/$metadata#O/$links/Items","value":[{"url":"<L>/Items(1)"}]}"#,
        r#"{"@odata.context":"<L>/$metadata#Pages","value":[{"url":"<U>/A"}],"url":"<U>/"}"#,
        r#"{"@odata.context":"<L>/$metadata#Pages/$entity","url":"<U>/"}"#,
        r#"{"value":[{"url":"<U>/A"}],"@odata.context":"<L>/$metadata","url":"<U>/"}"#,
        "{ \n\t\"@odata.context\" :\r \"$metadata\",\"url\":\"<L>/\"}",
        r#"{"\u0040odata.conte\u0078t":"\u0024metadata","url":"<L>/"}"#,
        r#"{"@odata.etag":"","@odata.context":"$metadata","url":"<U>/"}"#,
        r#"{"@odata.count":1,"url":"<U>/","odata":"$metadata"}"#,
        r#"{"@odata.context":"$metadata" "url":"<L>/"}"#,
        r#"{"@odata.context" "$metadata","url":"<U>/"}"#,
        r#"[{"@context":"$metadata"},{"url":"<U>/"},{"@context":{"@context":"$metadata","url":"<L>/"},"url":"<U>/"}]"#,
        r#"{"@context":"https://json-ld.org/contexts/x","url":"<U>/"}"#,
        // Deltas of OData 4.0.
        r##"{"@odata.context":"#Orders/$deletedEntity","id":"<L>/Orders(1)","source":"<U>/"}"##,
        r#"{"value":[{"@odata.context":"<L>/$metadata#Orders/$deletedEntity","reason":"deleted","id":"<L>/Orders(1)"},{"id":"<U>/"}]}"#,
        r##"{"@odata.context":"#Orders/$link","source":"<L>/O(1)","relationship":"I","target":"<L>/I(1)","id":"<U>/"}"##,
        r##"{"@context":"#Orders/$deletedLink","source":"<L>/O(1)","target":"<L>/I(1)"}"##,
        r#"{"@odata.context":"https:\/\/acme.exampl/$metadata#Orders\/$deletedEntity","id":"<L>/Orders(1)"}"#,
        r##"{"@odata.context":"#Orders/$deletedEntityX","id":"<U>/"}"##,
        r##"{"@odata.context":["#Orders/$deletedEntity"],"id":"<U>/"}"##,
        // A schema as JSON, and annotations.
        r#"{"$Reference":{"<L>/Core.json":{"$Include":[{"$Namespace":"<U>/"}]}},"<U>/x":{}}"#,
        r#"{"S":{"@Core.Links":[{"rel":"<U>/","href":"<L>/help"}],"$UrlRef":"<L>/x","href":"<U>/"}}"#,
        r#"{"error":{"@Core.ResourceException":{"info":{"x":[[{"retryLink":"<L>/"}]]}},"href":"<U>/"}}"#,
        r#"{"error":{"details":[{"target":"<U>/","@com.sap.vocabularies.Common.v1.longtextUrl":"<L>/t"}]}}"#,
    ] {
        check(pattern);
    }
}

#[test]
fn a_context_is_read_to_its_end_however_long_it_is() {
    for length in (0..700).step_by(7) {
        let list = "x".repeat(length);
        check(&format!(
            r#"{{"@odata.context":"<L>/$metadata#O({list})/$deletedEntity","id":"<L>/O(1)"}}"#
        ));
        check(&format!(r##"{{"@odata.context":"#O/$deletedEntity({list})","id":"<U>/O(1)"}}"##));
    }
}

#[test]
fn everything_else_stays() {
    let map = map(None);
    let unchanged = |input: &str| assert_eq!(text(&map, input), input);
    for key in [
        "URI",
        "uri ",
        "url",
        "curl",
        "Urls",
        "tokenUrl",
        "assetUrls",
        "Url",
        "id",
        "media_src",
        "edit_media",
        "odata",
        "odatametadata",
        "@odata",
        "nextLink",
        "target",
        "source",
        "href",
        "retryLink",
        "#Model.Ship",
        "_next",
        "__deltas",
        "associationUri",
        "profileUrl",
        "@nextLinks",
        "@id.x",
        "__nextx",
        "ref",
        "Location",
        r"uri\u0000",
        r"ur\i",
        r"\u00zzuri",
        "",
    ] {
        unchanged(&format!(r#"{{"{key}":"{ORIGIN}/","b":["{ORIGIN}/"]}}"#));
    }
    for value in [
        "",
        "see https://acme.example/",
        " https://acme.example/",
        "https://acme.example.evil/",
        "https://acme.example:444/",
        "https://acme.example:4433/",
        "https://acme.exampl",
        "https://acme.example@evil",
        "https://user@acme.example/",
        "/a",
        r"https:\\acme.example",
        r"\x68ttps://acme.example/",
        r"\u00g8ttps://acme.example/",
        r"https://acme.example\n/",
        r"https://acme.example\u00e9/",
        r"\ud83d\ude00https://acme.example/",
    ] {
        unchanged(&format!(r#"{{"uri":"{value}","@id":["{value}"]}}"#));
    }
    for malformed in [
        r#""https://acme.example/""#,
        r#"["https://acme.example/"]"#,
        r#"{"uri":"https://acme.example"#,
        r#"{"uri":"https:\"#,
        r#"{"uri":"\u00"#,
        r#"{"uri"#,
        r#"{"uri\"#,
        r#"{"uri]:"https://acme.example/"}"#,
        r#"{"a":1]{"uri":"https://acme.example/"}"#,
        r#"}{"uri":"https://acme.example/"}"#,
        "nul",
        "-",
        "\"",
        "\\",
        "{{{{",
    ] {
        unchanged(malformed);
    }
    // Both a quote that ends a string in the middle of an escape and what follows are seen.
    assert_eq!(
        text(&map, r#"{"uri":"\u00","@id":"https://acme.example/"}"#),
        r#"{"uri":"\u00","@id":"http://127.0.0.1:8080/"}"#
    );
}

#[test]
fn long_keys_and_deep_documents_end_the_rewriting() {
    let map = map(None);
    let changes = |input: &str| text(&map, input) != input;
    let keyed = |key: &str| changes(&format!(r#"{{"{key}":"{ORIGIN}/"}}"#));
    assert!(keyed(&format!("{}@id", "k".repeat(253))));
    assert!(!keyed(&format!("{}@id", "k".repeat(254))));
    assert!(keyed(&format!(r"{}k\u0040id", r"\u00e9".repeat(126))));
    assert!(!keyed(&format!(r"{}\u0040id", r"\u00e9".repeat(127))));
    assert!(keyed(&format!(r"{}k\u0040id", r"\ud83d\ude00".repeat(63))));
    assert!(!keyed(&format!(r"{}kk\u0040id", r"\ud83d\ude00".repeat(63))));
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
        changes(&format!(r#"{open}{{"uri":"{ORIGIN}/"}}{close}"#))
    };
    assert!(nested(DEEPEST));
    assert!(!nested(DEEPEST + 1));
}

#[test]
fn an_origin_that_begins_another_does_not_depend_on_chunks() {
    let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    let pairs = [pair("https://a/b", "B"), pair("https://a", "A")];
    let map = Arc::new(OriginMap::new(pairs, None));
    assert_eq!(text(&map, r#"{"uri":"https://a/b/c"}"#), r#"{"uri":"B/c"}"#);
    assert_eq!(text(&map, r#"{"uri":"https://a/c"}"#), r#"{"uri":"A/c"}"#);
}

/// The same on a parsed document; what keys mean is the same.
fn reference(map: &OriginMap, value: &mut Value, container: Frame, role: Role) {
    match value {
        Value::String(text) => {
            let is_link = container == Frame::Links || role == Role::Link;
            if let Some(new) = map.rewrite(text).filter(|_| is_link) {
                *text = new;
            }
        }
        Value::Array(items) => {
            let inner = container.inner(false, role);
            items.iter_mut().for_each(|item| reference(map, item, inner, Role::Plain));
        }
        Value::Object(members) => {
            let mut inner = container.inner(true, role);
            let given = std::mem::take(members);
            for (index, (mut key, mut member)) in given.into_iter().enumerate() {
                if index == 0
                    && is_context(key.as_bytes())
                    && inner == Frame::Object
                    && let Value::String(text) = &member
                {
                    let mut context = ValueContext::default();
                    context.read(text.as_bytes());
                    inner = context.frame().unwrap_or(inner);
                }
                let role = role_of(key.as_bytes(), inner);
                if let Some(new) = map.rewrite(&key).filter(|_| inner.has_urls_as_keys()) {
                    key = new;
                }
                reference(map, &mut member, inner, role);
                members.insert(key, member);
            }
        }
        _ => {}
    }
}

/// Writes a document with whitespace and escapes as `choices` say.
fn write(value: &Value, choices: &mut dyn Iterator<Item = u8>, output: &mut String) {
    let mut choice = || choices.next().unwrap_or_default();
    let space = |choice: u8| ["", "", "", " ", "\n  ", "\t", "\r\n"][usize::from(choice) % 7];
    output.push_str(space(choice()));
    match value {
        Value::String(text) => write_string(text, choices, output),
        Value::Array(items) => {
            output.push('[');
            for (index, item) in items.iter().enumerate() {
                output.push_str(if index > 0 { "," } else { "" });
                write(item, choices, output);
            }
            output.push(']');
        }
        Value::Object(members) => {
            output.push('{');
            for (index, (key, member)) in members.iter().enumerate() {
                output.push_str(if index > 0 { "," } else { "" });
                output.push_str(space(choices.next().unwrap_or_default()));
                write_string(key, choices, output);
                output.push_str(space(choices.next().unwrap_or_default()));
                output.push(':');
                write(member, choices, output);
            }
            output.push('}');
        }
        other => write!(output, "{other}").unwrap(),
    }
    output.push_str(space(choices.next().unwrap_or_default()));
}

fn write_string(text: &str, choices: &mut dyn Iterator<Item = u8>, output: &mut String) {
    output.push('"');
    let escapes_much = choices.next().unwrap_or_default() < 64;
    for character in text.chars() {
        let choice = choices.next().unwrap_or_default();
        match character {
            '/' if choice < 64 => output.push_str("\\/"),
            _ if character < ' ' || escapes_much && choice > 128 => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let digits =
                        if choice < 200 { format!("{unit:04x}") } else { format!("{unit:04X}") };
                    write!(output, "\\u{digits}").unwrap();
                }
            }
            '"' | '\\' => write!(output, "\\{character}").unwrap(),
            _ => output.push(character),
        }
    }
    output.push('"');
}

fn any_key() -> impl Strategy<Value = String> {
    let known = [
        "@odata.nextLink",
        "C@odata.navigationLink",
        "@nextLink",
        "Items@id",
        "__next",
        "__deferred",
        "uri",
        "__metadata",
        "__metadata",
        "id",
        "edit_media",
        "media_src",
        "assetDataUrl",
        "dataUrl",
        "location",
        "$ref",
        "value",
        "url",
        "",
        "@odata.context",
        "@odata.context",
        "odata.metadata",
        "actions",
        "target",
        "source",
        "#Model.Ship",
        "@Core.Links",
        "href",
        "$Reference",
        "https://acme.example/x",
    ];
    prop_oneof![
        4 => prop::sample::select(known.to_vec()).prop_map(str::to_owned),
        1 => "[a-c@.é\"\\\\😀\n]{0,6}",
        1 => "[\\\\]{0,70}\"?(uri|@id)",
        1 => "x{50,70}(@id)?",
        1 => (240_usize..260).prop_map(|length| format!("{}@id", "k".repeat(length))),
    ]
}

fn any_text() -> impl Strategy<Value = String> {
    let starts = [
        "https://acme.example",
        "HTTPS://acme.EXAMPLE",
        "https://ctm.example:8443",
        "https://acme.example.evil",
        "https://acme.exam",
        "see https://acme.example",
        "http://acme.example.:443",
        "https://acme.example:8",
        "https://acme.example/$metadata",
        "$metadata",
        "#A/$deletedEntity",
        "https://acme.example/$metadata#A/$link",
        "https://acme.example/$metadata#A/$links/",
        "-",
        "/",
        "//",
        "",
    ];
    let rest = prop_oneof![
        Just(String::new()),
        "[/?#][a-z/\"\\\\é😀\n]{0,40}",
        ".{0,8}",
        "/?[\\\\]{0,70}\"{0,2}",
        "/?x{40,70}\"?[{}\\[\\]:,]{0,4}",
    ];
    (prop::sample::select(starts.to_vec()), rest).prop_map(|(start, rest)| format!("{start}{rest}"))
}

fn any_document(
    key: impl Strategy<Value = String> + Clone + 'static,
) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        2 => any::<i64>().prop_map(Value::from),
        6 => any_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            3 => prop::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// A document as it may be written.
fn any_json(
    key: impl Strategy<Value = String> + Clone + 'static,
) -> impl Strategy<Value = (Value, String)> {
    (any_document(key), prop::collection::vec(any::<u8>(), 1..200)).prop_map(|(value, choices)| {
        let mut text = String::new();
        write(&value, &mut choices.iter().copied().cycle(), &mut text);
        (value, text)
    })
}

fn any_sizes() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        Just(vec![1]),
        prop::sample::select(vec![63, 64, 65, 128]).prop_map(|size| vec![size]),
        prop::collection::vec(1_usize..40, 1..20),
        prop::collection::vec(1_usize..200, 1..20),
        Just(vec![usize::MAX]),
    ]
}

/// Bytes from which the grammar's pieces come together, well formed or not.
fn any_pieces() -> impl Strategy<Value = Vec<u8>> {
    let pieces = [
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\"",
        "\\",
        "\\u",
        "00",
        "\\u0068",
        "uri",
        "\"uri\"",
        "\"uri\":",
        "__metadata",
        "id",
        "@odata.",
        "\"https://acme.example/\"",
        "https://acme.example",
        "ttps://acme.example/",
        "/",
        " ",
        "1",
        "{\"uri\":\"https:",
        "{\"__metadata\":{\"id\":",
        "é",
        "\"/\"",
        "\"@context\":",
        "\"$metadata\"",
        "#x/$link",
        "\"target\":",
        "\"$Reference\":{",
    ];
    let piece = prop_oneof![
        30 => prop::sample::select(pieces.to_vec()).prop_map(str::to_owned),
        // Runs as long as a block, or nearly so.
        1 => (prop::sample::select(vec!["\\", " ", "x", ":"]), 55_usize..70)
            .prop_map(|(byte, length)| byte.repeat(length)),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat().into_bytes())
}

fn prefixes() -> impl Strategy<Value = Option<&'static str>> {
    prop::sample::select(vec![None, Some("/ctm")])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn it_agrees_with_the_reference((mut value, text) in any_json(any_key().boxed()), sizes in any_sizes(), prefix in prefixes()) {
        let map = map(prefix);
        let (output, count) = rewrite(&map, text.as_bytes(), &sizes);
        let before = value.clone();
        reference(&map, &mut value, Frame::Root, Role::Plain);
        prop_assert_eq!(count == 0, before == value);
        prop_assert_eq!(serde_json::from_slice::<Value>(&output).unwrap(), value, "{}", text);
    }

    #[test]
    fn without_link_keys_nothing_changes((_, text) in any_json("[a-fé_]{0,6}".boxed()), sizes in any_sizes(), prefix in prefixes()) {
        let (output, count) = rewrite(&map(prefix), text.as_bytes(), &sizes);
        prop_assert_eq!((String::from_utf8(output).unwrap(), count), (text, 0));
    }

    #[test]
    fn chunks_make_no_difference((_, text) in any_json(any_key().boxed()), pieces in any_pieces(), cut in any::<prop::sample::Index>(), sizes in any_sizes(), prefix in prefixes()) {
        let map = map(prefix);
        let cut = &text.as_bytes()[..cut.index(text.len() + 1)];
        for input in [text.as_bytes(), &pieces, cut] {
            prop_assert_eq!(rewrite(&map, input, &sizes), rewrite(&map, input, &[usize::MAX]), "{}", String::from_utf8_lossy(input));
        }
    }

    #[test]
    fn bytes_without_an_origin_stay(bytes in prop::collection::vec(any::<u8>(), 0..300), pieces in any_pieces(), sizes in any_sizes()) {
        let pieces = String::from_utf8(pieces).unwrap().replace("example", "sample").into_bytes();
        for input in [&bytes, &pieces] {
            prop_assert_eq!(&rewrite(&map(None), input, &sizes).0, input);
        }
    }

    #[test]
    fn what_is_held_back_is_bounded(escaped in 0_usize..60, key in 0_usize..5000, sizes in any_sizes()) {
        // Links in the longest way of writing, cut off at any place, and a key without end.
        let written = |text: &str| text.bytes().fold(String::new(), |all, byte| format!("{all}\\u{byte:04x}"));
        let value = written(&"https://acme.example/".repeat(3)[..escaped]);
        for input in [format!("{{\"uri\":\"{value}"), format!("{{\"{}", written(&"k".repeat(key)))] {
            let map = map(Some("/ctm"));
            let mut rewriter = JsonRewriter::new(Arc::clone(&map));
            let (mut output, mut read) = (Vec::new(), 0);
            for chunk in input.as_bytes().chunks(sizes[0]) {
                rewriter.push(chunk, &mut output);
                read += chunk.len();
                assert_bounded(&rewriter);
                if rewriter.rewritten() == 0 {
                    prop_assert_eq!(read - output.len(), rewriter.held.len());
                }
            }
        }
    }
}

#[test]
fn in_a_batch_the_url_of_each_request_is_a_link_and_no_other() {
    let map = map(None);
    let batch = |origin: &str| {
        format!(
            r#"{{"url":"{ORIGIN}/","requests":[{{"id":"1","url":"{origin}/a","body":{{"url":"{ORIGIN}/"}}}},
            {{"url":"{origin}/b","x":[{{"url":"{ORIGIN}/"}}]}}],"more":{{"requests":[{{"url":"{ORIGIN}/"}}]}}}}"#
        )
    };
    let given = batch(ORIGIN);
    for size in [1, 7, 64, usize::MAX] {
        let mut rewriter = JsonRewriter::for_batch_request(Arc::clone(&map));
        let mut output = Vec::new();
        given.as_bytes().chunks(size).for_each(|chunk| rewriter.push(chunk, &mut output));
        rewriter.finish(&mut output);
        assert_eq!(String::from_utf8(output).unwrap(), batch("http://127.0.0.1:8080"));
    }
    assert_eq!(text(&map, &given), given, "in any other document it is data");
}

/// A batch's answer rewritten, in chunks of any size.
fn answer(input: &str) -> String {
    let map = map(Some("/ctm"));
    let in_chunks = |size: usize| {
        let mut rewriter = JsonRewriter::for_batch_response(Arc::clone(&map));
        let mut output = Vec::new();
        input.as_bytes().chunks(size).for_each(|chunk| rewriter.push(chunk, &mut output));
        rewriter.finish(&mut output);
        (String::from_utf8(output).unwrap(), rewriter.rewritten())
    };
    let whole = in_chunks(usize::MAX);
    for size in [1, 2, 7, 64] {
        assert_eq!(in_chunks(size), whole, "{size}");
    }
    whole.0
}

#[test]
fn in_a_batchs_answer_the_headers_are_like_real_ones() {
    let document = |location: &str, link: &str, tag: &str, message: &str| {
        format!(
            r#"{{"responses":[{{"id":"1","status":201,"headers":{{"Location":"{location}/O(1)","odata-entityid":"{location}/O(1)","content-location" : "{location}/O(1)","link":"{link}","ETag":"{tag}","sap-messages":"{message}","x":"{ORIGIN}/","content-type":"application/json"}},"body":{{"@id":"{location}/O(1)","headers":{{"etag":"\"v\"","link":"<{ORIGIN}/>"}}}}}},{{"headers":{{"etag":"W/\"v\"","location":"/O(2)"}}}}],"headers":{{"etag":"\"v\""}}}}"#
        )
    };
    let given = document(
        ORIGIN,
        r#"<https://acme.example/2>; rel=\"next\""#,
        r#"\"v,1\""#,
        r#"[{\"longtextUrl\":\"https:\/\/acme.example/t\"}]"#,
    );
    let wanted = document(
        "http://127.0.0.1:8080",
        r"<http://127.0.0.1:8080/2>; rel=\u0022next\u0022",
        r"W/\u0022v,1~bearerd\u0022",
        r"[{\u0022longtextUrl\u0022:\u0022http://127.0.0.1:8080/t\u0022}]",
    );
    assert_eq!(answer(&given), wanted.replace(r#":"/O(2)"#, r#":"/ctm/O(2)"#));
    let elsewhere = r#"{"responses":[{"headers":{"etag":"\"v\""}}]}"#;
    assert_eq!(text(&map(None), elsewhere), elsewhere, "this is the answer to no batch");
}

#[test]
fn a_header_in_a_batch_that_can_not_be_read_stays() {
    for value in [
        r#"\"v"#.to_owned(),
        r#"\"v\" "#.to_owned() + "\u{e9}",
        "<https://acme.example/2".to_owned(),
        format!(r#"\"{}\""#, "v".repeat(LONGEST_HEADER)),
    ] {
        let document =
            format!(r#"{{"responses":[{{"headers":{{"etag":"{value}","link":"{value}"}}}}]}}"#);
        assert_eq!(answer(&document), document);
    }
}
