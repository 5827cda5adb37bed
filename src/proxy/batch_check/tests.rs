use super::part_request::CheckPart;
use super::*;
use proptest::prelude::*;
use std::cell::RefCell;

const MIXED: &str = "multipart/mixed; boundary=b";
const JSON: &str = "application/json";
/// A header of a part, and what comes before its request.
const PART: &str = "Content-Type: application/http\nContent-Transfer-Encoding: binary\n\n";

fn kind(content_type: &str) -> BatchKind {
    if content_type.contains("scim") { BatchKind::Scim } else { BatchKind::OData }
}

/// The result, what is sent of a batch, and the parts that were judged. Parts whose target holds
/// `forbidden` are refused.
fn check(
    content_type: &str,
    body: &str,
    sizes: &[usize],
) -> (Result<(), BatchRefusal>, String, Vec<String>) {
    let judged = RefCell::new(Vec::new());
    let check: CheckPart<'_> = &|part| {
        judged.borrow_mut().push(format!("{} {}", part.method, part.target));
        if part.target.contains("forbidden") {
            return Err(BatchRefusal::Forbidden("no".to_owned()));
        }
        Ok(())
    };
    let mut output = Vec::new();
    let mut run = || {
        let mut reader = BatchReader::of_batch(
            &HeaderValue::from_str(content_type).unwrap(),
            kind(content_type),
        )?;
        let mut rest = body.as_bytes();
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, after) = rest.split_at(rest.len().min(*size));
            reader.push(chunk, check, &mut output)?;
            rest = after;
        }
        reader.finish(check, &mut output)
    };
    let result = run();
    (result, String::from_utf8(output).unwrap(), judged.into_inner())
}

/// The outcome, whatever the chunks are.
fn outcome(content_type: &str, body: &str) -> Result<(String, Vec<String>), BatchRefusal> {
    let (result, output, judged) = check(content_type, body, &[usize::MAX]);
    let (single, single_output, single_judged) = check(content_type, body, &[1]);
    assert_eq!(result.is_ok(), single.is_ok(), "in single bytes: {body}\n{result:?}\n{single:?}");
    if result.is_ok() {
        assert_eq!((&output, &judged), (&single_output, &single_judged), "in single bytes");
    }
    result.map(|()| (output, judged))
}

fn crlf(text: &str) -> String {
    text.replace('\n', "\r\n")
}

/// So many members of an object.
fn many(count: usize) -> String {
    (0..count).map(|index| format!(r#""k{index}":"""#)).collect::<Vec<_>>().join(",")
}

/// A multipart of these parts, each with its own header.
fn multipart(parts: &[&str]) -> String {
    crlf(&format!("--b\n{}\n--b--\n", parts.join("\n--b\n")))
}

fn read(target: &str) -> String {
    format!("{PART}GET {target} HTTP/1.1\nAccept: application/json\n\n")
}

fn change_set(boundary: &str, requests: &[&str]) -> String {
    let parts: Vec<_> =
        requests.iter().map(|request| format!("--{boundary}\n{PART}{request}\n")).collect();
    format!(
        "Content-Type: multipart/mixed; boundary={boundary}\n\n{}--{boundary}--\n",
        parts.concat()
    )
}

#[test]
fn sound_batches_pass_but_for_their_lengths_and_each_part_is_judged() {
    let write =
        "POST Orders HTTP/1.1\nContent-Type: application/json\nContent-Length: 9\n\n{\"a\": 1}\n";
    let set = change_set("changes", &[write, "DELETE Orders(1) HTTP/1.1\n\n"]);
    let with_length = read("A").replace("\n\nGET", "\nContent-Length: 44\n\nGET");
    let folded = set.replace("mixed; boundary", "mixed;\n boundary");
    for (body, parts) in [
        (
            multipart(&[&read("Orders"), &read("/x?$filter=a eq 'b'")]),
            vec!["GET Orders", "GET /x?$filter=a eq 'b'"],
        ),
        (multipart(&[&set, &read("A")]), vec!["POST Orders", "DELETE Orders(1)", "GET A"]),
        (multipart(&[&folded]), vec!["POST Orders", "DELETE Orders(1)"]),
        (multipart(&[&with_length]), vec!["GET A"]),
        (multipart(&[&read("A")]).replace("\r\n", "\n"), vec!["GET A"]),
        (multipart(&[&read("A")]).trim_end().to_owned(), vec!["GET A"]),
        // An empty line too many, or too few.
        (multipart(&[&format!("{PART}\nGET A HTTP/1.1\n\n\n")]), vec!["GET A"]),
        (multipart(&[&format!("{PART}GET A HTTP/1.1\n")]), vec!["GET A"]),
        (multipart(&[&format!("{PART}GET A HTTP/1.1\nAccept: */*\n\n")]), vec!["GET A"]),
        (multipart(&[]).replace("--b\r\n\r\n", ""), vec![]),
        (
            multipart(&[&format!("{PART}PUT A HTTP/1.1\n\n{}", "x-\n-a--\n".repeat(20_000))]),
            vec!["PUT A"],
        ),
    ] {
        let is_kept = |line: &&str| !line.starts_with("Content-Length:");
        let sent: String = body.split_inclusive('\n').filter(is_kept).collect();
        let parts = parts.into_iter().map(str::to_owned).collect();
        assert_eq!(outcome(MIXED, &body), Ok((sent, parts)));
    }
    let quoted = "multipart/mixed; charset=utf-8;boundary=\"b\"; x=y";
    assert!(outcome(quoted, &multipart(&[&read("A")])).is_ok());
    let named = multipart(&[&read("A")]).replace("--b", "--batch_boundary");
    assert!(outcome("multipart/mixed; boundary=batch_boundary", &named).is_ok());
}

#[test]
fn what_is_around_a_batch_does_not_go_on() {
    let whole = multipart(&[&read("A")]);
    let other = format!("--c\r\n{}", crlf(&read("forbidden")));
    // UI5 says behind a batch which group of its requests it was.
    for (before, behind) in [("", "Group ID: $auto\r\n"), (other.as_str(), other.as_str())] {
        let (sent, judged) = outcome(MIXED, &format!("{before}\r\n{whole}{behind}")).unwrap();
        assert_eq!((sent, judged), (whole.clone(), vec!["GET A".to_owned()]));
    }
    // Neither do the bytes of it that come with a header's end.
    let cut_short = multipart(&[&format!("{PART}GET A HTTP/1.1")]);
    let (sent, _) = outcome(MIXED, &format!("{cut_short}x\ry\n")).unwrap();
    assert_eq!(sent, cut_short);
    let again = format!("{whole}--b\r\n{}", crlf(&read("forbidden")));
    assert_eq!(outcome(MIXED, &again).unwrap().0, whole);
}

#[test]
fn what_a_caller_must_not_say_is_taken_out_of_a_part() {
    let part = format!(
        "{}GET A HTTP/1.1\nAuthorization: evil\nX-Forwarded-Host: evil\nx_original-url: /evil\nAccept: */*\n\n",
        PART.replace("\n\n", "\nContent-Length: 99\n\n")
    );
    let (sent, _) = outcome(MIXED, &multipart(&[&part])).unwrap();
    let rest = format!("{PART}GET A HTTP/1.1\nAccept: */*\n\n");
    assert_eq!(sent, multipart(&[&rest]), "its length, which is not true any more, goes too");

    let body = r#"{"requests":[{"id":"1","headers":{"Authorization":"evil","If-Match":"W/\"x~bearerd\"","a":"b"},"method":"get","url":"A"}]}"#;
    let (sent, judged) = outcome(JSON, body).unwrap();
    let headers = r#"{"a":"b","if-match":"\"x\""}"#;
    let rest =
        format!(r#"{{"requests":[{{"id":"1","headers":{headers},"method":"get","url":"A"}}]}}"#);
    assert_eq!((sent, judged), (rest, vec!["GET A".to_owned()]));
}

#[test]
fn nothing_of_a_forbidden_part_leaves() {
    for sizes in [&[1][..], &[7], &[usize::MAX]] {
        let parts = [&read("A"), &read("forbidden"), &read("C")];
        let (result, sent, _) = check(MIXED, &multipart(&parts.map(String::as_str)), sizes);
        assert_eq!(result, Err(BatchRefusal::Forbidden("no".to_owned())));
        assert!(sent.contains("GET A ") && !sent.contains("forbidden") && !sent.contains("--b--"));

        let body = r#"{"requests":[{"method":"GET","url":"A"},{"body":{},"url":"forbidden","method":"GET"},{}]}"#;
        let (result, sent, _) = check(JSON, body, sizes);
        assert_eq!(result, Err(BatchRefusal::Forbidden("no".to_owned())));
        assert_eq!(sent, r#"{"requests":[{"method":"GET","url":"A"},"#);
    }
}

#[test]
fn a_multipart_that_can_be_read_in_two_ways_is_refused() {
    let whole = multipart(&[&read("A"), &read("B")]);
    let set = |boundary: &str| change_set(boundary, &["DELETE A HTTP/1.1\n\n"]);
    let nested = format!("Content-Type: multipart/mixed; boundary=c\n\n--c\n{}--c--\n", set("d"));
    let part = |header: &str, request: &str| {
        multipart(&[&format!("Content-Type: application/http\n{header}\n{request}")])
    };
    let write = |headers: &str, body: &str| part("", &format!("PUT A HTTP/1.1\n{headers}\n{body}"));
    let mut bodies = vec![
        ("no end", whole.replace("--b--", "--c--")),
        ("cut", whole[..whole.len() / 2].to_owned()),
        ("empty", String::new()),
        ("a request in a read's body", part("", "GET A HTTP/1.1\n\nDELETE B HTTP/1.1\n\n")),
        ("a body of a read", part("", "GET A HTTP/1.1\n\nx\n")),
        ("a request in a body", write("", "{}\n\nDELETE B HTTP/1.1\n")),
        (
            "a request without a version in a body",
            write("", "a\n\nDELETE /B\nConnection: keep-alive\n"),
        ),
        ("a length in a body", write("", "DELETE content-length: 5\n/B HTTP/1.1\n")),
        ("a method in a part's own header", part("X-HTTP-Method: DELETE\n", "GET A HTTP/1.1\n\n")),
        ("a path in a part's own header", part("X-Original-URL: /x\n", "GET A HTTP/1.1\n\n")),
        ("a request in a body's line", write("", "a DELETE /B HTTP/1.1\n")),
        ("a request in a header's value", write("X-A: b DELETE /B HTTP/1.1\n", "a\n")),
        ("a request in a query", part("", "GET A?x=DELETE /B HTTP/1.1\n\n")),
        ("a Transfer-Encoding in a body", write("", "a Transfer-Encoding: chunked\n")),
        ("an id that is a word of OData's", part("Content-ID: Query\n", "GET A HTTP/1.1\n\n")),
        ("an id within", part("", "GET A HTTP/1.1\nContent-ID: query\n\n")),
        ("a body's character set", write("Content-Type: a/b; charset=ISO-2022-JP\n", "a\n")),
        ("a type in a body", write("", "a\nContent-Type: a/b\nb\n")),
        ("a request in escapes", write("", "[\"a\\r\\nDELETE /B HTTP/1.1\"]\n")),
        ("another length", write("X-Content-Length: 0\n", "a\n")),
        ("a length in a header", write("X: content-length: 5\n", "a\n")),
        ("a boundary in a header's name", write("--c: x\n", "a\n")),
        ("a line end of JavaScript's", write("X: \u{2028}DELETE B HTTP/1.1\n", "a\n")),
        ("a boundary of nobody's in a body", write("", "--x\nContent-Type: application/http\n")),
        (
            "another character set",
            multipart(&["Content-Type: application/http; charset=utf-16\n\nGET A HTTP/1.1\n\n"]),
        ),
        ("a space behind a boundary", whole.replacen("--b\r\n", "--b \r\n", 1)),
        ("a tab behind the last", whole.replace("--b--", "--b--\t")),
        ("a boundary within a line", whole.replace("GET B", "GET B--b")),
        ("a boundary behind a space", whole.replace("\r\n--b\r\nC", "\r\n --b\r\nC")),
        ("a boundary with more behind", write("", "x\n--bc\ny\n")),
        ("a boundary behind a bare CR", write("", "x\r--b\ny\n").replace("\r\r\n", "\r")),
        ("a boundary behind a bare LF", whole.replacen("\r\n--b", "\n--b", 1)),
        ("a boundary before a bare LF", whole.replacen("--b\r\nC", "--b\nC", 1)),
        ("a bare LF in a header", whole.replacen("binary\r\n", "binary\n", 1)),
        ("a bare CR in a header", whole.replacen("binary", "bin\rary", 1)),
        ("other line ends", whole.replace("\r\n", "\n").replacen("HTTP/1.1\n", "HTTP/1.1\r\n", 1)),
        ("an open change set", multipart(&[&set("c").replace("--c--", "--d--")])),
        ("a change set in a change set", multipart(&[&nested])),
        ("a boundary like another", multipart(&[&set("bc")])),
        ("a boundary around another", multipart(&[&set("x--b")])),
        ("no boundary", multipart(&[&set("c").replace("; boundary=c", "")])),
        ("two boundaries", multipart(&[&set("c").replace("boundary=c", "boundary=c; boundary=d")])),
        ("an odd boundary", multipart(&[&set("c").replace("boundary=c", "boundary*=c")])),
        ("an escaped boundary", multipart(&[&set("c").replace("boundary=c", "boundary=\"\\c\"")])),
        ("no type", multipart(&["\nGET A HTTP/1.1\n\n"])),
        ("another type", multipart(&["Content-Type: text/plain\n\nGET A HTTP/1.1\n\n"])),
        ("two types", part("Content-Type: text/plain\n", "GET A HTTP/1.1\n\n")),
        ("base64", part("Content-Transfer-Encoding: base64\n", "R0VUIEEgSFRUUC8xLjENCg0K\n")),
        (
            "quoted-printable",
            part("Content-Transfer-Encoding: quoted-printable\n", "GET A HTTP/1.1\n\n"),
        ),
        ("compressed", part("Content-Encoding: gzip\n", "GET A HTTP/1.1\n\n")),
        ("a length too long", part("Content-Length: 100\n", "GET A HTTP/1.1\n\n")),
        ("a length too short", part("Content-Length: 5\n", "GET A HTTP/1.1\n\n")),
        ("a length in words", part("Content-Length: +5\n", "GET A HTTP/1.1\n\n")),
        ("two lengths", part("Content-Length: 18\nContent-Length: 5\n", "GET A HTTP/1.1\n\n")),
        ("a body too short", write("Content-Length: 3\n", "abcdef\n")),
        ("a body too long", write("Content-Length: 30\n", "abcdef\n")),
        ("two lengths of a body", write("Content-Length: 6\nContent-Length: 3\n", "abcdef\n")),
        ("chunks", write("Transfer-Encoding: chunked\n", "3\nabc\n0\n\n")),
        ("two hosts", write("Host: a\nHost: b\n", "")),
        ("a folded header", write("X-A: b\n c\n", "")),
        ("a space before the colon", write("X-HTTP-Method : DELETE\n", "")),
        ("no colon", write("nonsense\n", "")),
        ("HTTP/0.9", part("", "GET A\n\n")),
        ("HTTP/2", part("", "GET A HTTP/2\n\n")),
        ("a space in a path", part("", "GET A HTTP/1.1 B HTTP/1.1\n\n")),
        ("no method", part("", " A HTTP/1.1\n\n")),
        ("a tab", part("", "GET\tA HTTP/1.1\n\n")),
        ("no request", part("", "\n")),
        ("a folded length", part("Content-Length:\n 5\n", "GET A HTTP/1.1\n\n")),
        ("a header too long", write(&format!("X: {}\n", "x".repeat(70_000)), "")),
        ("too many headers", write(&"X: y\n".repeat(200), "")),
    ];
    let set_with_length = set("c").replacen("\n\n", "\nContent-Length: 3\n\n", 1);
    bodies.push(("a change set's length", multipart(&[&set_with_length])));
    for (name, body) in bodies {
        let result = outcome(MIXED, &body);
        assert!(matches!(result, Err(BatchRefusal::Unreadable(_))), "{name}: {result:?}\n{body}");
    }
    for content_type in [
        "multipart/mixed",
        "multipart/mixed; xboundary=c; boundary=b",
        "multipart/mixed; x=\"; boundary=c; \"; boundary=b",
        "multipart/mixed; boundary=b,c",
        "multipart/mixed; boundary=b=c",
        "multipart/mixed; charset=utf-16; boundary=b",
        "multipart/mixed; boundary=",
        "multipart/mixed; boundary=b; boundary=c",
        "multipart/mixed; boundary=\"b",
        "multipart/mixed; boundary=\"b\"c",
        "multipart/mixed; boundary=b c",
        "multipart/related; boundary=b",
        "text/plain",
        "application/http",
    ] {
        assert!(outcome(content_type, &whole).is_err(), "{content_type}");
    }
}

#[test]
fn sound_json_passes_byte_for_byte_and_each_request_is_judged() {
    for (content_type, body, parts) in [
        (JSON, r#"{"requests":[]}"#, vec![]),
        (
            JSON,
            r#"{"requests":[{"id":1,"method":"GET","url":"A","headers":{"OData-Version":4.0,"x":null}}]}"#,
            vec!["GET A"],
        ),
        (
            "application/json;odata.metadata=minimal;charset=UTF-8",
            "\n{ \"@odata.context\" : [1, {}] ,\n \"requests\" : [ {\"id\":\"1\",\"method\":\"GET\",\"url\":\"A,[\\\"{\"} ,\n{\"url\":\"B\",\"method\":\"PoSt\",\"body\":{\"method\":1,\"url\":[{}],\"url\":2},\"headers\":{}} ] , \"x\" : \"}\" } \n",
            vec!["GET A,[\"{", "POST B"],
        ),
        (
            "application/scim+json",
            r#"{"schemas":["x"],"Operations":[{"method":"POST","path":"/Users","bulkId":"q","data":{"a":[]}}]}"#,
            vec!["POST /Users"],
        ),
    ] {
        let parts: Vec<_> = parts.into_iter().map(str::to_owned).collect();
        assert_eq!(outcome(content_type, body), Ok((body.to_owned(), parts)), "{body}");
    }
}

#[test]
fn json_that_can_be_read_in_two_ways_is_refused() {
    let request = |text: &str| format!(r#"{{"requests":[{text}]}}"#);
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    for body in [
        String::new(),
        "[]".to_owned(),
        "{}".to_owned(),
        r#"{"requests":{}}"#.to_owned(),
        r#"{"requests":"x"}"#.to_owned(),
        r#"{"Requests":[]}"#.to_owned(),
        r#"{"requests":[],"requests":[{"method":"DELETE","url":"A"}]}"#.to_owned(),
        r#"{"requests":[],"REQUESTS":[{"method":"DELETE","url":"A"}]}"#.to_owned(),
        r#"{"requests":[],"\u0072equests":[{"method":"DELETE","url":"A"}]}"#.to_owned(),
        r#"{"requests":[],"a":1,"A":2}"#.to_owned(),
        r#"{"requests":[]"#.to_owned(),
        r#"{"requests":[]}}"#.to_owned(),
        r#"{"requests":[]}{"requests":[]}"#.to_owned(),
        r#"{"requests":[],}"#.to_owned(),
        r#"{"requests":[] x}"#.to_owned(),
        r#"{"requests" [ ]}"#.to_owned(),
        r#"{"requests":[}]"#.to_owned(),
        "\u{feff}{\"requests\":[]}".to_owned(),
        "// x\n{\"requests\":[]}".to_owned(),
        r#"{"requests":[],"requeſts":[]}"#.to_owned(),
        "{\"requests\":[\u{c}]}".to_owned(),
        request(r#"{"method":"GET","url":"A","headerſ":{}}"#),
        request("1"),
        request("{},"),
        request(","),
        request("{}"),
        request(r#"{"method":"GET"}"#),
        request(r#"{"url":"A"}"#),
        request(r#"{"method":"GET","url":"A","url":"B"}"#),
        request(r#"{"method":"GET","url":"A","Url":"B"}"#),
        request(r#"{"method":"GET","url":"A","\u0075rl":"B"}"#),
        request(r#"{"method":"GET","URL":"A"}"#),
        request(r#"{"method":"GET","Method":"DELETE","url":"A"}"#),
        request(r#"{"method":"GET","url":"A","id":1,"ID":2}"#),
        request(r#"{"method":1,"url":"A"}"#),
        request(r#"{"method":"GET","url":["A"]}"#),
        request(r#"{"method":"G T","url":"A"}"#),
        request(r#"{"method":"GET","url":"A","headers":[]}"#),
        request(r#"{"method":"GET","url":"A","headers":{"a":[1]}}"#),
        request(r#"{"method":"GET","url":"A","headers":{"a":true}}"#),
        request(r#"{"id":"","method":"GET","url":"A"}"#),
        request(r#"{"id":["q"],"method":"GET","url":"A"}"#),
        request(r#"{"id":"Q","method":"GET","url":"A"}"#),
        request(r#"{"id":"query","method":"GET","url":"A"}"#),
        request(r#"{"id":"1","ID":"2","method":"GET","url":"A"}"#),
        request(r#"{"Id":"query","method":"GET","url":"A"}"#),
        request(r#"{"method":"GET","url":"A","headers":{"a":"b","A":"c"}}"#),
        request(r#"{"method":"GET","url":"A","headers":{"a":"b\n"}}"#),
        request(r#"{"method":"GET","url":"A","Headers":{}}"#),
        request(r#"{"method":"GET","url":"A" /* x */}"#),
        request(r#"{'method':'GET','url':'A'}"#),
        request(r#"{"method":"GET","url":"A","body":01}"#),
        request(r#"{"method":"GET","url":"A\ud800"}"#),
        request(r#"{"method":"GET","url":"A","url\u0000":"B"}"#),
        request(r#"{"method":"GET","url":"A","method ":"DELETE"}"#),
        request(&format!(r#"{{"method":"GET","url":"A","headers":{{{}}}}}"#, many(20_000))),
        request(&format!(r#"{{"method":"GET","url":"A",{}}}"#, many(20_000))),
        format!(r#"{{{},"requests":[]}}"#, many(20_000)),
        format!(r#"{{"{}":1,"requests":[]}}"#, "x".repeat(100_000)),
        request(&format!(r#"{{"method":"GET","url":"A","body":{deep}}}"#)),
        request(&format!(r#"{{"method":"GET","url":"A","body":"{}"}}"#, "x".repeat(300_000))),
    ] {
        let result = outcome(JSON, &body);
        let shown: String = body.chars().take(200).collect();
        assert!(matches!(result, Err(BatchRefusal::Unreadable(_))), "{shown}: {result:?}");
    }
    for content_type in [
        "application/json; charset=utf-16",
        "application/json;charset=latin1",
        "application/scim+xml",
    ] {
        assert!(outcome(content_type, r#"{"requests":[]}"#).is_err(), "{content_type}");
    }
}

proptest! {
    #[test]
    fn chunks_make_no_difference(
        parts in prop::collection::vec(prop::sample::select(vec![
            "GET A HTTP/1.1\n\n", "GET forbidden HTTP/1.1\n\n", "PUT A HTTP/1.1\nContent-Length: 3\n\nabc\n",
            "PUT B HTTP/1.1\n\n-\n--\n--a\n", "PUT C HTTP/1.1\n\n--b\n",
        ]), 0..4),
        sizes in prop::collection::vec(1_usize..40, 1..6),
    ) {
        let parts: Vec<_> = parts.iter().map(|request| format!("{PART}{request}")).collect();
        let parts: Vec<_> = parts.iter().map(String::as_str).collect();
        let body = multipart(&parts);
        let (whole, output, judged) = check(MIXED, &body, &[usize::MAX]);
        let (result, other, other_judged) = check(MIXED, &body, &sizes);
        prop_assert_eq!(result.is_ok(), whole.is_ok());
        if whole.is_ok() {
            prop_assert_eq!((other, other_judged), (output, judged));
        } else {
            prop_assert!(!other.contains("forbidden"));
        }
    }

    #[test]
    fn no_bytes_panic_and_nothing_is_added(bytes in "[-b\r\n{}\\[\\]\":,a ]{0,80}", size in 1_usize..9) {
        for content_type in [MIXED, JSON] {
            let (_, sent, _) = check(content_type, &bytes, &[size]);
            prop_assert!(bytes.starts_with(&sent));
        }
    }
}
