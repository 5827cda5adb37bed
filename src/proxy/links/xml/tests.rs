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
        r#"<edmx:Reference Url="[@]/$metadata"/><Annotation Term="Core.LongDescription" UrlRef="[@]/help"/>"#,
        r#"<PropertyValue Property="href" String="[@]/x"/><Property Name="A" DefaultValue="@/"/>"#,
        r#"<feed m:context="[@]/$metadata#O"><entry metadata:context='[@]/$metadata#I' d:context="@/" context="@/"/></feed>"#,
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
fn some_elements_have_links_where_others_do_not() {
    let elements = [
        ("ref", "id"),
        ("m:ref", "id"),
        ("m:action", "metadata"),
        ("metadata:function", "target"),
        ("m:link", "source"),
        ("metadata:deleted-link", "target"),
        ("at:deleted-entry", "ref"),
    ];
    for (element, attribute) in elements {
        check(None, &format!("<{element} a='@/' {attribute}='[@]/' xx='@/'/>"));
        check(None, &format!("<{element}x {attribute}='@/'/><x:{attribute} {attribute}='@/'/>"));
        check(None, &format!("<{element}><a {attribute}='@/'/></{element}>"));
    }
    let long = "n".repeat(NAME_LIMIT);
    check(None, &format!("<{}:refx id='@/'/>", &long[..NAME_LIMIT - 4]));
    for text in ["uri", "next", "icon", "logo", "atom:uri", "String", "edm:String"] {
        check(
            None,
            &format!("<{text}> [@]/a</{text}><{text}s>@/</{text}s><d:{text}>@/</d:{text}>"),
        );
    }
    // A constant may be anything that begins with a slash, and an `id` is a name.
    let prefix = Some(PREFIX);
    check_pair(prefix, "<uri>/a</uri><m:ref id='/a'/>", "<uri>/ctm/a</uri><m:ref id='/ctm/a'/>", 2);
    for same in ["<String>/a</String>", "<A String='/a'/>", "<a:id>/a</a:id>"] {
        check_pair(prefix, same, same, 0);
    }
}

#[test]
fn links_are_rewritten_in_the_text_of_id_elements_only() {
    for pattern in [
        "<id>[@]/a</id><atom:id\n>[@]</atom:id><a:id>[@]</a:id><d:id>@/</d:id>",
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
        // A final dot, and the colon before no port.
        for end in ["", ".", ":", ".:"].into_iter().take(if index == 0 { 4 } else { 1 }) {
            let from = format!("{from}{end}");
            let Some(after) = text.strip_prefix(&from) else { continue };
            if after.is_empty() || after.starts_with(['/', '?', '#']) {
                let ours = [PAIRS[0].1, ESCAPED][index];
                return Some(format!("{ours}{}", characters[from.len() - 1].1));
            }
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
    (select(vec!["", "", "", " ", "\n"]), start, next).prop_map(|(a, b, c)| format!("{a}{b}{c}"))
}

fn space() -> impl Strategy<Value = &'static str> {
    select(vec!["", "", " ", "\n\t"])
}

/// A start tag without its end.
fn tag(origin: &'static str) -> impl Strategy<Value = String> {
    let names = vec!["xml:base", "href", "src", "Uri", "xhref", "data-src", "id", "uri", "a:href"];
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
        // What is replaced by itself leaves the input, but for references, upper case, and what
        // else a host may be written with.
        let soup = String::from_utf8_lossy(&soup).to_ascii_lowercase();
        let mut soup = soup.replace("&#", "&");
        for end in [format!("{OURS}."), format!("{OURS}:")] {
            while soup.contains(&end) {
                soup = soup.replace(&end, OURS);
            }
        }
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
