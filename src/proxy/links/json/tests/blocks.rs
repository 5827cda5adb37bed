//! Where the borders of blocks and chunks fall.

use super::*;

/// How chunks can fall onto the blocks that are scanned at once.
const SIZES: [usize; 9] = [1, 2, 3, 63, 64, 65, 127, 128, usize::MAX];

fn assert_rewritten(input: &str, wanted: &str) {
    let map = map(None);
    for size in SIZES {
        let (output, _) = rewrite(&map, input.as_bytes(), &[size]);
        assert_eq!(String::from_utf8(output).unwrap(), wanted, "{size}");
    }
}

#[test]
fn a_link_is_found_wherever_it_lies_in_a_block() {
    let assert = |written: &str| {
        let wanted = written
            .replace(r"https:\/\/acme.example", "http://127.0.0.1:8080")
            .replace(ORIGIN, "http://127.0.0.1:8080");
        assert_rewritten(written, &wanted);
    };
    for length in 0..200 {
        let (text, space) = ("x".repeat(length), " ".repeat(length));
        assert(&format!(r#"{{"a":"{text}","uri":"{ORIGIN}/a"}}"#));
        assert(&format!(r#"{{"a":"{text}","uri":"https:\/\/acme.example\/a"}}"#));
        assert(&format!(r#"{{"{text}@id":"{ORIGIN}/a","b":"{text}"}}"#));
        assert(&format!(r#"{space}{{"a":[0],"uri":["","{ORIGIN}/a"]}}"#));
        assert(&format!(r#"{{"uri"{space}:{space}"{ORIGIN}/a"{space},{space}"@id":"{ORIGIN}"}}"#));
        assert(&format!(r#"{{"__metadata":{space}{{"id":"{ORIGIN}/a"}},"a":{{}}}}"#));
    }
}

#[test]
fn runs_of_backslashes_decide_where_a_string_ends() {
    let document = |slashes: usize, length: usize, origin: &str| {
        let (run, text) = (r"\".repeat(slashes), "x".repeat(length));
        format!(r#"{{"a":"{text}{run}","uri":"{origin}/a","b":"{run}"}}"#)
    };
    for slashes in 0..140 {
        for length in [0, 1, 57, 58] {
            // After an odd number the quote is escaped, and the link outside strings: malformed.
            let origin = if slashes % 2 == 0 { "http://127.0.0.1:8080" } else { ORIGIN };
            assert_rewritten(
                &document(slashes, length, ORIGIN),
                &document(slashes, length, origin),
            );
        }
        // What looks like a link is the contents of a string, or its key has more in it.
        let run = r"\\".repeat(slashes);
        let data = format!(r#"{{"a":"{run}\",\"uri\":\"{ORIGIN}/\"","{run}\"uri":"{ORIGIN}/"}}"#);
        assert_rewritten(&data, &data);
    }
}

#[test]
fn no_two_cuts_make_a_difference() {
    let map = map(Some("/ctm"));
    for input in [
        r#"{"uri":"https://acme.example/a","$ref":["/a","https://acme.example"]}"#,
        r#"{"__metadata":{"id":"\/a","uri":{"id":"/"}},"\u0075ri" : "/\\\"" }"#,
        r#"{"uri":"https://acme.example" "https://acme.example","id":"a"}"#,
        r#"{"uri":"uri":"/a","uri"::"/a","uri" 1:"/a":"/a","uri","/a"}"#,
        r#"{"a":"uri":"/a",:"/a","uri":,"/a",1:"uri":"/":"/a"}"#,
        r#"{"uri":"/","uri":"https:x":"/a":"/a","uri":["/":"/a"]"uri":"/"}"#,
        r#"["uri":"/a",{"/":"/a"},{"uri":"\q":"/a","ur\i":"/a","\u00":"/"}"#,
        r#"{"a\\":"\\","@id":"/\\","\"@id":"/\"","uri":"/"}\"{"uri":"/"}"#,
        r#"{"uri":"\u00\"/","uri" \"uri":"/a","uri":"/"}"#,
        r#"{"uri":["\"/a","\"https://acme.example/"],"a":"\"uri":"/a","uri":"/"}"#,
        r#"{"a":"/",\\"uri":"/a","uri":"/a"}"#,
    ] {
        let whole = rewrite(&map, input.as_bytes(), &[usize::MAX]);
        for (first, second) in (1..4900).map(|cuts| (cuts / 70 + 1, cuts % 70 + 1)) {
            let cut = rewrite(&map, input.as_bytes(), &[first, second, usize::MAX]);
            assert_eq!(cut, whole, "{input} {first} {second}");
        }
    }
}
