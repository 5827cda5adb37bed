//! Framing of bodies, and requests in or behind a body.

use super::{
    Row, SECRET, Verdict,
    Verdict::{CutOff, Refused},
    carries, get, row, with,
};

/// Lengths and transfer codings that are contradictory or malformed.
pub(super) fn framing() -> Vec<Row> {
    let chunked = "5\r\nhello\r\n0\r\n\r\n";
    let mut rows: Vec<Row> = [
        ("length, then coding", "Content-Length: 5\r\nTransfer-Encoding: chunked"),
        ("coding, then length", "Transfer-Encoding: chunked\r\nContent-Length: 5"),
        ("coding and a length of zero", "Transfer-Encoding: chunked\r\ncontent-length:0"),
        ("a length behind a bare LF", "X-A: b\nContent-Length: 5\r\nTransfer-Encoding: chunked"),
        ("a length behind a bare CR", "X-A: b\rContent-Length: 5\r\nTransfer-Encoding: chunked"),
        ("a folded coding", "Transfer-Encoding:\r\n chunked"),
        ("a coding with a folded end", "Transfer-Encoding: chunked\r\n , identity"),
        ("a coding folded into another line", "X-A: b\r\n Transfer-Encoding: chunked"),
        ("a coding and more", "Transfer-Encoding: chunked x"),
        ("a quoted coding", "Transfer-Encoding: \"chunked\""),
        ("a coding in single quotes", "Transfer-Encoding: 'chunked'"),
        ("a doubled coding", "Transfer-Encoding: chunked, chunked"),
        ("two codings in two lines", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        ("identity behind chunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
        ("chunked behind identity", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"),
        ("a coding with a parameter", "Transfer-Encoding: chunked;q=1"),
        ("gzip, then chunked", "Transfer-Encoding: gzip, chunked"),
        ("chunked, then gzip", "Transfer-Encoding: chunked, gzip"),
        ("identity alone", "Transfer-Encoding: identity"),
        ("an unknown coding", "Transfer-Encoding: xchunked"),
        ("a coding with a comma behind", "Transfer-Encoding: chunked,"),
        ("a coding with a comma before", "Transfer-Encoding: ,chunked"),
        ("no coding", "Transfer-Encoding:"),
        ("a coding behind a vertical tab", "Transfer-Encoding: \u{b}chunked"),
        ("a coding before a NUL", "Transfer-Encoding: chunked\0"),
        ("a coding in other letters", "Transfer-Encoding: chun\u{212a}ed"),
        ("a coding with a space before the colon", "Transfer-Encoding : chunked"),
        ("a coding with a tab before the colon", "Transfer-Encoding\t: chunked"),
        ("a line without a colon", "Transfer-Encoding chunked"),
        ("two lengths", "Content-Length: 5\r\nContent-Length: 6"),
        ("the same length twice", "Content-Length: 5\r\nContent-Length: 5"),
        ("a list of one length", "Content-Length: 5, 5"),
        ("a list of lengths", "Content-Length: 5, 6"),
        ("a positive length", "Content-Length: +5"),
        ("a negative length", "Content-Length: -5"),
        ("a hexadecimal length", "Content-Length: 0x5"),
        ("a broken length", "Content-Length: 5.0"),
        ("a length in words", "Content-Length: five"),
        ("a length with a space", "Content-Length: 5 0"),
        ("a length with a parameter", "Content-Length: 5;a"),
        ("no length", "Content-Length:"),
        ("a length beyond 64 bits", "Content-Length: 18446744073709551616"),
        ("a length of 30 digits", "Content-Length: 500000000000000000000000000005"),
        ("a length in other digits", "Content-Length: \u{665}"),
        ("a folded length", "Content-Length:\r\n 5"),
        ("a length with a space before the colon", "Content-Length : 5"),
        ("a length behind a vertical tab", "Content-Length: \u{b}5"),
    ]
    .into_iter()
    .map(|(name, headers)| {
        row(name, with("POST /free HTTP/1.1", &format!("{headers}\r\n\r\n{chunked}")), Refused)
    })
    .collect();
    for (name, headers) in [
        ("a coding in capitals", "TRANSFER-ENCODING: CHUNKED"),
        ("a coding in mixed case", "transfer-encoding:cHuNkEd"),
        ("a coding between tabs", "Transfer-Encoding:\tchunked\t "),
        ("a length with `_` beside a coding", "content_length: 3\r\nTransfer-Encoding: chunked"),
        ("a header that begins like a length", "Content-Length-A: 3\r\nTransfer-Encoding: chunked"),
    ] {
        let request = with("POST /free HTTP/1.1", &format!("{headers}\r\n\r\n{chunked}"));
        rows.push(row(name, request, carries("hello")));
    }
    for (name, headers) in [
        ("a length between tabs", "Content-Length:\t5\t "),
        ("a length with a zero before", "Content-Length: 05"),
        ("a coding with `_` beside a length", "Transfer_Encoding: chunked\r\nContent-Length: 5"),
        ("TE is not a coding", "TE: chunked, trailers\r\nContent-Length: 5"),
        ("an unknown expectation", "Expect: all the best\r\nContent-Length: 5"),
        ("an expectation, twice", "Expect: 100-continue\r\nExpect: x\r\nContent-Length: 5"),
        ("an expectation with its body at once", "Expect: 100-continue\r\nContent-Length: 5"),
    ] {
        let request = with("POST /free HTTP/1.1", &format!("{headers}\r\n\r\nhello"));
        rows.push(row(name, request, carries("hello")));
    }
    rows.extend([
        row(
            "a coding of HTTP/1.0",
            with("POST /free HTTP/1.0", &format!("Transfer-Encoding: chunked\r\n\r\n{chunked}")),
            Refused,
        ),
        row(
            "a coding with `_` alone frames nothing",
            with("POST /free HTTP/1.1", &format!("Transfer_Encoding: chunked\r\n\r\n{chunked}")),
            carries(""),
        ),
        row(
            "a length that never comes",
            with("POST /free HTTP/1.1", "Content-Length: 9223372036854775807\r\n\r\nhello"),
            CutOff,
        ),
        row(
            "the greatest length",
            with("POST /free HTTP/1.1", "Content-Length: 18446744073709551615\r\n\r\nhello"),
            CutOff,
        ),
    ]);
    rows
}

/// A second request in the body of the first one, or behind it.
pub(super) fn pipelines() -> Vec<Row> {
    let post =
        |rest: String| with("POST /free HTTP/1.1", &rest).replace("Connection: close\r\n", "");
    let keep = "GET /free HTTP/1.1\r\nHost: {host}\r\n";
    vec![
        row("behind a header", format!("{keep}\r\n{SECRET}"), get()),
        row("behind an expectation", format!("{keep}Expect: 100-continue\r\n\r\n{SECRET}"), get()),
        row(
            "behind a length",
            post(format!("Content-Length: 3\r\n\r\nabc{SECRET}")),
            carries("abc"),
        ),
        row(
            "behind a length of zero",
            post(format!("Content-Length: 0\r\n\r\n{SECRET}")),
            carries(""),
        ),
        row(
            "behind the last chunk",
            post(format!("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n{SECRET}")),
            carries("abc"),
        ),
        row(
            "as the trailers of the last chunk",
            with(
                "POST /free HTTP/1.1",
                &format!("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n{SECRET}"),
            ),
            carries("abc"),
        ),
        row(
            "as a whole body",
            with(
                "POST /free HTTP/1.1",
                "Content-Length: 29\r\n\r\nGET /data/secret HTTP/1.1\r\n\r\n",
            ),
            carries("GET /data/secret HTTP/1.1\r\n\r\n"),
        ),
        row(
            "as one chunk",
            with(
                "POST /free HTTP/1.1",
                "Transfer-Encoding: chunked\r\n\r\n1d\r\nGET /data/secret HTTP/1.1\r\n\r\n\r\n0\r\n\r\n",
            ),
            carries("GET /data/secret HTTP/1.1\r\n\r\n"),
        ),
        row(
            "as the body of a GET",
            with(
                "GET /free HTTP/1.1",
                "Content-Length: 29\r\n\r\nGET /data/secret HTTP/1.1\r\n\r\n",
            ),
            Verdict::Passes(
                b"GET /free HTTP/1.1".to_vec(),
                b"GET /data/secret HTTP/1.1\r\n\r\n".to_vec(),
            ),
        ),
        row(
            "behind a request that is refused",
            post(format!("Content-Length: 3\r\n\r\nabc{SECRET}")).replace("/free", "/none"),
            Refused,
        ),
        row(
            "as the body of a request that is refused",
            post(format!("Content-Length: 46\r\n\r\n{SECRET}")).replace("/free", "/none"),
            Refused,
        ),
        row(
            "behind contradicting framing",
            post(format!(
                "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SECRET}"
            )),
            Refused,
        ),
        row(
            "behind an upgrade to h2c",
            format!(
                "{keep}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n{SECRET}"
            ),
            get(),
        ),
        row(
            "behind an upgrade to a web socket",
            format!(
                "{keep}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA\r\n\r\n{SECRET}"
            ),
            get(),
        ),
        row(
            "behind a request of HTTP/1.0",
            format!("GET /free HTTP/1.0\r\nConnection: keep-alive\r\n\r\n{SECRET}"),
            get(),
        ),
        row(
            "a body that ends early",
            with("POST /free HTTP/1.1", "Content-Length: 10\r\n\r\nabc"),
            CutOff,
        ),
    ]
}
