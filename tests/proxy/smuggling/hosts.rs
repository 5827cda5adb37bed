//! The `Host` header.

use super::{Row, Verdict::Refused, get, row};

/// Values of the `Host` header.
pub(super) fn hosts() -> Vec<Row> {
    let one = |lines: &str| format!("GET /free HTTP/1.1\r\nConnection: close\r\n{lines}\r\n");
    let mut rows: Vec<Row> = [
        ("none", ""),
        ("two", "Host: {host}\r\nHost: evil\r\n"),
        ("the same one twice", "Host: {host}\r\nhost: {host}\r\n"),
        ("empty", "Host:\r\n"),
        ("a list", "Host: {host}, evil\r\n"),
        ("a list with the other first", "Host: evil, {host}\r\n"),
        ("another one", "Host: evil\r\n"),
        ("a longer one", "Host: {host}.evil\r\n"),
        ("another one with the sidecar's port", "Host: evil:{host}\r\n"),
        ("userinfo", "Host: {host}@evil\r\n"),
        ("userinfo before the sidecar's address", "Host: evil@{host}\r\n"),
        ("a port in letters", "Host: 127.0.0.1:http\r\n"),
        ("two ports", "Host: {host}:80\r\n"),
        ("a negative port", "Host: 127.0.0.1:-1\r\n"),
        ("a dot behind", "Host: 127.0.0.1.\r\n"),
        ("brackets", "Host: [127.0.0.1]\r\n"),
        ("a path", "Host: {host}/free\r\n"),
        ("a fragment", "Host: {host}#evil\r\n"),
        ("a query", "Host: 127.0.0.1?evil:80\r\n"),
        ("a backslash", "Host: 127.0.0.1\\evil:80\r\n"),
        ("an escape", "Host: 127.0.0.1%2eevil\r\n"),
        ("a space in it", "Host: 127.0.0.1 evil:80\r\n"),
        ("a scheme", "Host: http://{host}\r\n"),
        ("other letters", "Host: 127.0.0.\u{661}\r\n"),
        ("folded", "Host:\r\n {host}\r\n"),
        ("a space before the colon", "Host : {host}\r\n"),
    ]
    .into_iter()
    .map(|(name, lines)| row(format!("host: {name}"), one(lines), Refused))
    .collect();
    rows.extend([
        row("host: in capitals", one("HOST:{host}\r\n"), get()),
        row("host: without a port", one("Host: 127.0.0.1\r\n"), get()),
        row("host: with an empty port", one("Host: 127.0.0.1:\r\n"), get()),
        row("host: HTTP/1.0 needs none", "GET /free HTTP/1.0\r\n\r\n", get()),
        row(
            "host: two of HTTP/1.0",
            "GET /free HTTP/1.0\r\nHost: {host}\r\nHost: evil\r\n\r\n",
            Refused,
        ),
    ]);
    rows
}
