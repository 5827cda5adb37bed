use super::*;
use crate::proxy::links::held_part::LARGEST_PART;
use crate::proxy::links::multipart::tests::run;
use proptest::prelude::*;

const BATCH: &str = "multipart/mixed; boundary=batch_1";

fn urls() -> RequestUrls {
    let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    let pairs = [pair("/ctm", ""), pair("http://localhost:8080/ctm", "https://acme.example")];
    RequestUrls {
        urls: Arc::new(OriginMap::new(pairs, None)),
        host: ("localhost:8080".to_owned(), "acme.example".to_owned()),
    }
}

fn rewrite(input: &str, sizes: &[usize]) -> (String, u64) {
    run(BatchRequestRewriter::new(BATCH, urls()).unwrap(), input, sizes)
}

fn whole(input: &str) -> (String, u64) {
    let whole = rewrite(input, &[usize::MAX]);
    assert_eq!(rewrite(input, &[1]), whole, "in single bytes");
    whole
}

/// A batch of these parts, each a request under the header of a part.
fn batch(parts: &[&str]) -> String {
    let parts: Vec<_> = parts.iter().map(|part| part.replace('\n', "\r\n")).collect();
    format!("preamble\r\n--batch_1\r\n{}\r\n--batch_1--\r\n", parts.join("\r\n--batch_1\r\n"))
}

const READ: &str = "Content-Type: application/http\nContent-Transfer-Encoding: binary\n\nGET <U>/Orders(1)?$filter=a HTTP/1.1\nAccept: application/json\n\n";
const REFERENCED: &str = "Content-Type: application/http\nContent-ID: 1\n\nDELETE /ctm/Orders(1) HTTP/1.1\nHost: <H>\n\n";

fn ours(text: &str) -> String {
    text.replace("<U>", "http://localhost:8080/ctm").replace("<H>", "localhost:8080")
}

fn theirs(text: &str) -> String {
    text.replace("<U>", "https://acme.example").replace("<H>", "acme.example").replace("/ctm/", "/")
}

#[test]
fn request_lines_and_hosts_become_the_upstreams() {
    let given = batch(&[READ, REFERENCED]);
    assert_eq!(whole(&ours(&given)), (theirs(&given), 3));
}

#[test]
fn a_body_and_its_lengths_follow() {
    let part = |url: &str, length: usize, part_length: usize| {
        let body =
            format!(r#"{{"Customer@odata.bind":"{url}/Customers(1)","Note":"{}"}}"#, ours("<U>/x"));
        let request = format!(
            "POST Orders HTTP/1.1\nContent-Type: application/json;odata.metadata=minimal\nContent-Length: {length}\n\n{body}"
        );
        format!("Content-Type: application/http\nContent-Length: {part_length}\n\n{request}\n")
    };
    let (before, after) = (ours("<U>"), theirs("<U>"));
    let shorter = before.len() - after.len();
    let given = batch(&[&part(&before, 200, 400)]);
    assert_eq!(whole(&given), (batch(&[&part(&after, 200 - shorter, 400 - shorter)]), 1));
}

#[test]
fn change_sets_are_looked_into_and_lose_their_length() {
    let set = |length: &str, request: &str| {
        format!(
            "Content-Type: multipart/mixed;\n boundary=\"batch_1_set\"\n{length}\n--batch_1_set\n{request}\n--batch_1_set--\n"
        )
    };
    let given = batch(&[&set("Content-Length: 1000\n", READ), READ]);
    let wanted = batch(&[&set("", READ), READ]);
    assert_eq!(whole(&ours(&given)), (theirs(&wanted), 2));
}

#[test]
fn what_servers_forgive_is_forgiven_here() {
    let part = |url: &str, tag: &str| {
        format!(
            "Content-Type: application/http\n\n\nPATCH {url}/Orders(1) HTTP/1.1\nIf-Match: {tag}\nSlug: \u{fffd}\n\n"
        )
    };
    let given = batch(&[&part(&ours("<U>"), "W/\"v1~bearerd\", W/\"v2\"")]);
    let wanted = batch(&[&part(&theirs("<U>"), "\"v1\", W/\"v2\"")]);
    let bytes = |text: &str| {
        let replacement = "\u{fffd}".as_bytes();
        let at = text.as_bytes().windows(3).position(|three| three == replacement).unwrap();
        [&text.as_bytes()[..at], b"\xE9", &text.as_bytes()[at + 3..]].concat()
    };
    let mut rewriter = BatchRequestRewriter::new(BATCH, urls()).unwrap();
    let mut output = Vec::new();
    rewriter.push(&bytes(&given), &mut output);
    rewriter.finish(&mut output);
    assert_eq!(String::from_utf8_lossy(&output), String::from_utf8_lossy(&bytes(&wanted)));
    assert_eq!(rewriter.rewritten(), 2);
}

#[test]
fn a_line_that_ends_otherwise_is_no_delimiter() {
    let given = ours(&batch(&[
        "Content-Type: application/http\n\nPUT Media(1) HTTP/1.1\nContent-Length: 9\n\nTEXT\n",
    ]));
    let text = "--batch_1\nContent-Type: application/http\n\nGET <U>/x HTTP/1.1\n\n";
    let given = given.replace("TEXT", &ours(text));
    assert_eq!(whole(&given), (given.clone(), 0));
}

#[test]
fn what_is_not_understood_passes() {
    let given = ours(&batch(&[
        "Content-Type: text/plain\n\nGET <U>/Orders HTTP/1.1\n",
        "\nGET <U>/Orders HTTP/1.1\n",
        "Content-Type: application/http\n\nnonsense <U>/\n",
        "Content-Type: application/http\n\nGET Orders HTTP/1.1\nX-Url: <U>/\n\n<U>/\n",
    ]));
    assert_eq!(whole(&given), (given.clone(), 0));
    let other_boundary = given.replace("batch_1", "batch_2");
    assert_eq!(whole(&other_boundary), (other_boundary.clone(), 0));
}

#[test]
fn a_part_too_large_to_be_held_is_rewritten_and_loses_its_lengths() {
    for filler in ["x".repeat(LARGEST_PART * 3), "a line\n".repeat(LARGEST_PART / 2)] {
        let part = format!(
            "Content-Type: application/http\nContent-Length: 999999\n\nPUT <U>/Orders(1) HTTP/1.1\nContent-Type: application/json\nContent-Length: 7\n\n{{\"a\":\"{filler}\",\"@odata.id\":\"<U>/Orders\"}}\n"
        );
        let given = batch(&[&part, READ]);
        let (output, count) = rewrite(&ours(&given), &[usize::MAX]);
        assert_eq!(rewrite(&ours(&given), &[1000]), (output.clone(), count));
        let wanted = theirs(&given).replace("Content-Length: 999999\r\n", "");
        assert!(output == wanted.replace("Content-Length: 7\r\n", "") && count == 3, "{count}");
    }
}

#[test]
fn a_batch_that_breaks_off_is_passed_as_far_as_it_came() {
    let given = ours(&batch(&[READ, READ]));
    for end in 0..given.len() {
        let cut = &given[..end];
        let (output, count) = whole(cut);
        assert!(count <= 2 && output.len() + 64 > cut.len(), "{end}: {output}");
    }
}

#[test]
fn a_part_without_urls_keeps_all_but_its_length_if_it_is_too_large_to_be_held() {
    let part = format!("--batch_1\r\n{LENGTH}Content-Type: application/http\r\n\r\n-\n\n");
    let fits = part.clone() + &"y".repeat(LARGEST_PART - part.len());
    assert_eq!(whole(&fits), (fits.clone(), 0));
    let large = part + &"y".repeat(LARGEST_PART);
    assert_eq!(whole(&large), (large.replace(LENGTH, ""), 0));
}

/// A length that is wrong for every part.
const LENGTH: &str = "Content-Length: 12\r\n";

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("--batch_1\r\n".to_owned()),
        Just("--batch_1--\r\n".to_owned()),
        Just("--set\n".to_owned()),
        Just("Content-Type: multipart/mixed; boundary=set\r\n".to_owned()),
        Just("Content-Type: application/http\r\n\r\n".to_owned()),
        Just("Content-Type: application/json\r\n\r\n{\"@odata.id\":\"http://localhost:8080/ctm/a\"}\r\n".to_owned()),
        Just("GET http://localhost:8080/ctm/a HTTP/1.1\r\n".to_owned()),
        Just("Host: localhost:8080\r\n".to_owned()),
        Just(LENGTH.to_owned()),
        Just("\r\n".to_owned()),
        "[a-z:é \r\n-]{0,40}",
        (100_usize..70_000).prop_map(|length| "y".repeat(length)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn chunks_make_no_difference(
        pieces in prop::collection::vec(piece(), 0..14),
        sizes in prop::collection::vec(1_usize..300, 1..5),
    ) {
        let input = pieces.concat();
        let (output, count) = rewrite(&input, &[usize::MAX]);
        prop_assert_eq!(rewrite(&input, &sizes), (output.clone(), count));
        if count == 0 && !input.contains("multipart") {
            // A part that is too large to be held loses its length.
            let is_held = input.len() <= LARGEST_PART;
            let text = |text: String| if is_held { text } else { text.replace(LENGTH, "") };
            prop_assert_eq!(text(output), text(input));
        }
    }
}
