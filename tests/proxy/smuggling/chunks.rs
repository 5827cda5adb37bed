//! Chunked bodies.

use super::{Row, Verdict::CutOff, carries, row, with};

/// Malformed chunks, and valid ones in unusual forms.
pub(super) fn chunks() -> Vec<Row> {
    let chunked = |body: &str| {
        with("POST /free HTTP/1.1", &format!("Transfer-Encoding: chunked\r\n\r\n{body}"))
    };
    let cut = [
        ("a size before a bare LF", "3\nabc\r\n0\r\n\r\n"),
        ("data before a bare LF", "3\r\nabc\n0\r\n\r\n"),
        ("data before a bare CR", "3\r\nabc\r0\r\n\r\n"),
        ("a size with a prefix", "0x3\r\nabc\r\n0\r\n\r\n"),
        ("a negative size", "-3\r\nabc\r\n0\r\n\r\n"),
        ("a positive size", "+3\r\nabc\r\n0\r\n\r\n"),
        ("a size behind a space", " 3\r\nabc\r\n0\r\n\r\n"),
        ("a size with a space in it", "3 3\r\nabc\r\n0\r\n\r\n"),
        ("a size that is none", "xyz\r\nabc\r\n0\r\n\r\n"),
        ("a size beyond 64 bits", "10000000000000003\r\nabc\r\n0\r\n\r\n"),
        ("the greatest size", "ffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
        ("a size that wraps with its end", "fffffffffffffffe\r\nabc\r\n0\r\n\r\n"),
        ("a size that is too small", "2\r\nabc\r\n0\r\n\r\n"),
        ("a size that is too large", "4\r\nabc\r\n0\r\n\r\n"),
        ("a bare CR in an extension", "3;a\rb\r\nabc\r\n0\r\n\r\n"),
        ("no end of data", "3\r\nabc0\r\n\r\n"),
        ("no last chunk", "3\r\nabc\r\n"),
        ("no empty line at the end", "3\r\nabc\r\n0\r\n"),
        ("half an empty line at the end", "3\r\nabc\r\n0\r\n\r"),
        ("a bare LF at the end", "3\r\nabc\r\n0\r\n\n"),
        ("a trailer before a bare LF", "3\r\nabc\r\n0\r\nX-A: b\n\r\n"),
        ("an endless extension", &format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(100_000))),
        ("endless trailers", &format!("3\r\nabc\r\n0\r\nX-A: {}\r\n\r\n", "x".repeat(100_000))),
    ]
    .map(|(name, body)| row(name, chunked(body), CutOff));
    let pass = [
        ("an extension", "3;evil=1\r\nabc\r\n0;evil\r\n\r\n"),
        ("zeros before a size", "0000000003\r\nabc\r\n000\r\n\r\n"),
        ("a trailer with a credential", "3\r\nabc\r\n0\r\nAuthorization: Bearer evil\r\n\r\n"),
        ("a trailer with a length", "3\r\nabc\r\n0\r\nContent-Length: 9\r\n\r\n"),
        ("a trailer with a coding", "3\r\nabc\r\n0\r\nTransfer-Encoding: evil\r\n\r\n"),
        ("a trailer with a host", "3\r\nabc\r\n0\r\nHost: evil\r\nX-Evil: evil\r\n\r\n"),
    ]
    .map(|(name, body)| row(name, chunked(body), carries("abc")));
    let announced = with(
        "POST /free HTTP/1.1",
        "Trailer: Authorization\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nAuthorization: evil\r\n\r\n",
    );
    let capitals = chunked("A\r\n0123456789\r\n0\r\n\r\n");
    let capitals = row("a size in capitals", capitals, carries("0123456789"));
    let announced = row("an announced trailer", announced, carries(""));
    cut.into_iter().chain(pass).chain([announced, capitals]).collect()
}
