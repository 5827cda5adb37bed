//! Header lines, and the headers that `Connection` names.

use super::{Row, Verdict::Refused, carries, get, row, with};

/// Header lines that servers parse in different ways.
pub(super) fn lines() -> Vec<Row> {
    let mut rows: Vec<Row> = [
        ("a space before the colon", "X-A : b"),
        ("a space in a name", "X A: b"),
        ("no name", ": b"),
        ("no colon", "X-A"),
        ("brackets in a name", "X(A): b"),
        ("a NUL in a name", "X\0A: b"),
        ("a name in other letters", "X-\u{c4}: b"),
        ("a NUL in a value", "X-A: b\0c"),
        ("a bare CR in a value", "X-A: b\rc"),
        ("a bare CR at the end of a value", "X-A: b\r\r"),
        ("a control character in a value", "X-A: b\u{7f}"),
        ("a folded value", "X-A: b\r\n c"),
        ("a folded value behind a tab", "X-A: b\r\n\tc"),
        ("a header that is folded away", "X-A: b\r\n Authorization: Bearer evil"),
    ]
    .into_iter()
    .map(|(name, line)| row(name, with("GET /free HTTP/1.1", &format!("{line}\r\n\r\n")), Refused))
    .collect();
    rows.extend(
        [
            "Authorization: Basic evil",
            "AUTHORIZATION: evil\r\nauthorization: evil",
            "Proxy-Authorization: evil",
            "proxy_authorization: evil",
            "X-Approuter-Authorization: evil",
            "x_approuter_authorization: evil",
            "Forwarded: host=evil",
            "X-Forwarded-Host: evil\r\nX-Forwarded-Proto: evil",
            "x_forwarded_host: evil",
            "X-Original-URL: /evil",
            "x_rewrite_url: /evil",
            "Content_Length: 3",
            "transfer_encoding: chunked",
            "TE: trailers, evil",
            "Trailer: evil",
            "Keep-Alive: evil",
            "Proxy-Connection: evil",
            "HTTP2-Settings: evil",
            "Upgrade: h2c",
            "Upgrade: evil/1",
        ]
        .map(|line| {
            row(
                format!("{line:?} goes"),
                with("GET /free HTTP/1.1", &format!("{line}\r\n\r\n")),
                get(),
            )
        }),
    );
    rows.extend([
        row(
            "a space before the first header",
            " GET /free HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n",
            Refused,
        ),
        row(
            "a first header that is folded",
            "GET /free HTTP/1.1\r\n X-A: b\r\nHost: {host}\r\nConnection: close\r\n\r\n",
            Refused,
        ),
        row(
            "lines that end in a bare LF",
            "GET /free HTTP/1.1\nHost: {host}\nConnection: close\n\n",
            get(),
        ),
        row(
            "a value that is not ASCII",
            [with("GET /free HTTP/1.1", "X-A: ").as_bytes(), b"\xe4\xff\r\n\r\n"].concat(),
            get(),
        ),
        row(
            "300 lines",
            with("GET /free HTTP/1.1", &format!("{}\r\n", "X-A: b\r\n".repeat(300))),
            Refused,
        ),
        row(
            "a value of 70 kB",
            with("GET /free HTTP/1.1", &format!("X-A: {}\r\n\r\n", "b".repeat(70_000))),
            Refused,
        ),
    ]);
    rows
}

/// Headers that `Connection` names. They are for the sidecar and are not forwarded.
pub(super) fn nominations() -> Vec<Row> {
    let post = |connection: &str, rest: &str| {
        format!(
            "POST /free HTTP/1.1\r\nHost: {{host}}\r\nConnection: close, {connection}\r\n{rest}"
        )
    };
    let mut rows: Vec<Row> =
        ["host", "Host", "x-forwarded-for", "\"authorization\"", ":authority", "a b"]
            .map(|name| row(format!("nominates {name}"), post(name, "\r\n"), Refused))
            .into();
    let length = "Content-Length: 5\r\n\r\nhello";
    let chunked = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    for (name, rest) in [
        ("authorization", length),
        ("authorization", "Authorization: evil\r\nContent-Length: 5\r\n\r\nhello"),
        ("content-length", length),
        ("Content-Length, Transfer-Encoding", chunked),
        ("transfer-encoding", chunked),
        ("x-a", "X-A: evil\r\nContent-Length: 5\r\n\r\nhello"),
        ("keep-alive, te, upgrade", "TE: evil\r\nUpgrade: evil\r\nContent-Length: 5\r\n\r\nhello"),
    ] {
        rows.push(row(format!("nominates {name}"), post(name, rest), carries("hello")));
    }
    rows
}
