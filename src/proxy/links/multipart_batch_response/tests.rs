use super::*;
use crate::proxy::links::held_part::{LARGEST_CHANGED, LARGEST_PART};
use crate::proxy::links::multipart::tests::run;
use proptest::prelude::*;

const MULTIPART: &str = "multipart/mixed; boundary=batch_1";
const THEIRS: &str = "https://acme.example";
const OURS: &str = "http://localhost:8080/ctm";

fn map() -> Arc<OriginMap> {
    Arc::new(OriginMap::new([(THEIRS.to_owned(), OURS.to_owned())], Some("/ctm".to_owned())))
}

fn rewrite_of(kind: &str, formats: Links, input: &str, sizes: &[usize]) -> (String, u64) {
    run(BatchResponseRewriter::of_response(kind, formats, &map()).unwrap(), input, sizes)
}

fn rewrite(input: &str, sizes: &[usize]) -> (String, u64) {
    rewrite_of(MULTIPART, Links::JsonAndXml, input, sizes)
}

#[track_caller]
fn check(given: &str, wanted: &str) {
    for sizes in [&[usize::MAX][..], &[1], &[1000, 1]] {
        assert_eq!(rewrite(given, sizes).0, wanted, "{sizes:?}");
    }
}

/// A batch of these parts, each an answer under the header of a part.
fn batch(parts: &[String]) -> String {
    let parts: Vec<_> = parts.iter().map(|part| part.replace('\n', "\r\n")).collect();
    format!("preamble\r\n--batch_1\r\n{}\r\n--batch_1--\r\n", parts.join("\r\n--batch_1\r\n"))
}

/// A part with an answer that was created at this origin; the lengths are those of both.
fn created(origin: &str, tag: &str) -> String {
    let body = format!(r#"{{"@odata.id":"{origin}/O(1)","Note":"{THEIRS}/data"}}"#);
    let answer = format!(
        "HTTP/1.1 201 Created\nContent-Type: application/json;odata.metadata=minimal\nLocation: {origin}/O(1)\nOData-EntityId: {origin}/O(1)\nETag: {tag}\nLink: <{origin}/O?p=2>; rel=\"next\"\nX-Other: {THEIRS}/\nContent-Length: {}\n\n{body}",
        body.len()
    );
    let length = answer.replace('\n', "\r\n").len();
    format!("Content-Type: application/http\nContent-Length: {length}\nContent-ID: 1\n\n{answer}")
}

fn atom(origin: &str) -> String {
    format!(
        "Content-Type: application/http\n\nHTTP/1.1 200 OK\nContent-Type: application/atom+xml\n\n<feed xml:base=\"{origin}/\"/>"
    )
}

#[test]
fn the_headers_and_bodies_of_answers_become_ours_and_their_lengths_follow() {
    let given = batch(&[created(THEIRS, "\"v1\""), atom(THEIRS), created(THEIRS, "W/\"v2\"")]);
    let ours = [created(OURS, "W/\"v1~bearerd\""), atom(OURS), created(OURS, "W/\"v2\"")];
    check(&given, &batch(&ours));
    assert_eq!(rewrite(&given, &[usize::MAX]).1, 9);
    // Where XML passes, its part does.
    let in_json = rewrite_of(MULTIPART, Links::Json, &given, &[usize::MAX]).0;
    assert_eq!(in_json, batch(&[ours[0].clone(), atom(THEIRS), ours[2].clone()]));
}

#[test]
fn change_sets_are_looked_into_and_lose_their_length() {
    let set = |length: &str, origin: &str| {
        format!(
            "Content-Type: multipart/mixed; boundary=\"batch_1_set\"\n{length}\n--batch_1_set\n{}\n--batch_1_set--\n",
            created(origin, "W/\"v\"")
        )
    };
    check(
        &batch(&[set("Content-Length: 1000\n", THEIRS), atom(THEIRS)]),
        &batch(&[set("", OURS), atom(OURS)]),
    );
}

#[test]
fn an_answer_to_one_that_waited_is_rewritten_with_all_that_is_in_it() {
    let kind = "Application/HTTP; msgtype=response";
    for formats in [Links::Json, Links::JsonAndXml] {
        let answer = |origin: &str, tag: &str| {
            let part = created(origin, tag).replace('\n', "\r\n");
            part.split_once("\r\n\r\n").unwrap().1.to_owned()
        };
        let (given, wanted) = (answer(THEIRS, "\"v\""), answer(OURS, "W/\"v~bearerd\""));
        for size in [1, 100, usize::MAX] {
            assert_eq!(rewrite_of(kind, formats, &given, &[size]).0, wanted);
        }
        // A batch may have waited, too.
        let batch = |origin: &str| {
            let parts = batch(&[created(origin, "W/\"v\"")]);
            format!("HTTP/1.1 200 OK\r\nContent-Type: {MULTIPART}\r\n\r\n{parts}")
        };
        for size in [1, 100, usize::MAX] {
            assert_eq!(rewrite_of(kind, formats, &batch(THEIRS), &[size]).0, batch(OURS));
        }
    }
}

/// A part too large to be held, with links in front and behind, and its lengths.
fn large(origin: &str, lengths: [&str; 2], tag: &str, filler: &str) -> String {
    let [part, answer] = lengths;
    format!(
        "Content-Type: application/http\n{part}\nHTTP/1.1 200 OK\n{answer}Content-Type: application/json\nETag: {tag}\nContent-Location: {origin}/O\n\n{{\"@odata.context\":\"{origin}/$metadata#O\",\"value\":[\"{filler}\"],\"@odata.nextLink\":\"{origin}/O?p=2\"}}"
    )
}

#[test]
fn a_part_too_large_to_hold_is_rewritten_while_it_streams_and_loses_its_lengths() {
    let lengths = ["Content-Length: 999999\n", "Content-Length: 888888\n"];
    for filler in ["x".repeat(LARGEST_PART * 3), "a line\n--batch_\n".repeat(LARGEST_PART / 8)] {
        let given = batch(&[large(THEIRS, lengths, "\"v\"", &filler), atom(THEIRS)]);
        let wanted = batch(&[large(OURS, ["", ""], "W/\"v~bearerd\"", &filler), atom(OURS)]);
        for size in [usize::MAX, 1000, 70_001] {
            let (output, count) = rewrite(&given, &[size]);
            assert!(output == wanted && count == 4, "{size}: {count}");
        }
    }
}

/// An answer of this many links, and how long it is with its header.
fn of_links(link: &str, count: usize, length: impl Fn(usize) -> String) -> (String, usize) {
    let body = format!("{{\"@odata.nextLink\":[{}0]}}", format!("\"{link}\",").repeat(count));
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{}\r\n{body}",
        length(body.len())
    );
    let count = answer.len();
    (answer, count)
}

#[test]
fn a_part_that_becomes_too_large_to_hold_streams_and_loses_its_lengths() {
    let map = Arc::new(OriginMap::new([], Some(format!("/{}", "p".repeat(61)))));
    let ours = map.rewrite("/").unwrap();
    let length = |length: usize| format!("Content-Length: {length}\r\n");
    let held = LARGEST_CHANGED / (ours.len() + 3) - 20;
    for (links, is_held) in [(held, true), (held + 40, false), (LARGEST_PART / 4 - 100, false)] {
        for nested in [0, 1, 2] {
            let batch = |link: &str, has_lengths: bool| {
                let lengths = |count| if has_lengths { length(count) } else { String::new() };
                let (mut answer, mut count) = of_links(link, links, lengths);
                for _ in 0..nested {
                    answer = format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: application/http\r\n{}\r\n{answer}",
                        lengths(count)
                    );
                    count = answer.len();
                }
                let header = lengths(count);
                format!(
                    "--batch_1\r\nContent-Type: application/http\r\n{header}\r\n{answer}\r\n--batch_1--\r\n"
                )
            };
            let (given, wanted) = (batch("/", true), batch(&ours, is_held));
            for size in [usize::MAX, 1000, 7] {
                let rewriter =
                    BatchResponseRewriter::of_response(MULTIPART, Links::Json, &map).unwrap();
                let (output, count) = run(rewriter, &given, &[size]);
                assert!(output == wanted, "{links} {nested} {size}: {}", output.len());
                assert_eq!(count, links as u64);
            }
        }
    }
}

#[test]
fn a_large_part_of_another_kind_keeps_the_length_of_its_body() {
    let part = |origin: &str, length: &str| {
        format!(
            "Content-Type: application/http\n{length}\nHTTP/1.1 200 OK\nContent-Type: text/csv\nContent-Length: 200000\nETag: \"v\"\nContent-Location: {origin}/O\n\n{}",
            "y".repeat(200_000)
        )
    };
    let given = batch(&[part(THEIRS, "Content-Length: 200100\n")]);
    let wanted = batch(&[part(OURS, "")]);
    for size in [usize::MAX, 1000] {
        assert!(rewrite(&given, &[size]).0 == wanted);
    }
}

#[test]
fn what_is_not_understood_passes() {
    let given = batch(&[
        format!("Content-Type: text/plain\n\nLocation: {THEIRS}/\n"),
        format!("\nLocation: {THEIRS}/\n"),
        format!(
            "Content-Type: application/http\n\nHTTP/1.1 200 OK\nContent-Type: application/json\nContent-Encoding: gzip\nETag: \"v\"\n\n{{\"@id\":\"{THEIRS}/\"}}"
        ),
        format!(
            "Content-Type: application/http\n\nHTTP/1.1 204 No Content\nETag: \"v\"\nX: {THEIRS}/\n\n"
        ),
        format!(
            "Content-Type: application/http\n\nHTTP/1.1 200 OK\nX: {}",
            "x".repeat(LARGEST_PART * 2)
        ),
    ]);
    check(&given, &given);
    let other = given.replace("batch_1", "batch_2");
    check(&other, &other);
    let foreign = batch(&[atom(OURS).replace("/>", "/>\n--batch_1\n")])
        .replace("\r\n--batch_1\r\n\r\n", "\n--batch_1\n\r\n");
    check(&foreign, &foreign);
    for kind in ["application/json", "multipart/mixed", "multipart/form-data; boundary=b", ""] {
        assert!(BatchResponseRewriter::of_response(kind, Links::Json, &map()).is_none(), "{kind}");
    }
}

#[test]
fn an_answer_that_breaks_off_is_passed_as_far_as_it_came() {
    let given = batch(&[created(THEIRS, "\"v\""), atom(THEIRS)]);
    for end in 0..given.len() {
        let whole = rewrite(&given[..end], &[usize::MAX]);
        assert_eq!(rewrite(&given[..end], &[1]), whole);
        assert!(whole.0.len() + 64 > end, "{end}");
    }
}

fn piece() -> impl Strategy<Value = String> {
    let pieces = [
        "--batch_1\r\n",
        "--batch_1--\r\n",
        "--set\n",
        "Content-Type: multipart/mixed; boundary=set\r\n",
        "Content-Type: application/http\r\n\r\n",
        "HTTP/1.1 200 OK\r\n",
        "Content-Type: application/json\r\n\r\n{\"@odata.id\":\"https://acme.example/a\"}\r\n",
        "Content-Type: application/xml\r\n",
        "Location: https://acme.example/a\r\n",
        "ETag: \"v\"\r\n",
        "Content-Length: 12\r\n",
        "\r\n",
    ];
    prop_oneof![
        9 => prop::sample::select(pieces.to_vec()).prop_map(str::to_owned),
        1 => "[a-z:é \r\n-]{0,40}",
        1 => (100_usize..70_000).prop_map(|length| "y".repeat(length)),
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
        for kind in [MULTIPART, "application/http"] {
            let whole = rewrite_of(kind, Links::JsonAndXml, &input, &[usize::MAX]);
            prop_assert_eq!(rewrite_of(kind, Links::JsonAndXml, &input, &sizes), whole);
        }
    }
}
