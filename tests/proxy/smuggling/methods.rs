//! Request lines, and methods in headers.

use super::{Row, Verdict::Refused, get, passes, row, with};

/// Request lines: methods, forms of the target, versions.
pub(super) fn request_lines() -> Vec<Row> {
    let mut rows: Vec<Row> = [
        "GET http://{host}/free HTTP/1.1",
        "GET HTTP://{host}/free HTTP/1.1",
        "GET https://{host}/free HTTP/1.1",
        "GET http://evil/free HTTP/1.1",
        "GET http://{host}@evil/free HTTP/1.1",
        "GET http:/free HTTP/1.1",
        "GET http:///free HTTP/1.1",
        "GET ftp://{host}/free HTTP/1.1",
        "GET //{host}/free HTTP/1.1",
        "GET {host} HTTP/1.1",
        "GET 127.0.0.1 HTTP/1.1",
        "GET * HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "OPTIONS /free HTTP/1.1",
        "GET free HTTP/1.1",
        "GET ?/free HTTP/1.1",
        "GET @evil/free HTTP/1.1",
        "GET \\free HTTP/1.1",
        "CONNECT {host} HTTP/1.1",
        "CONNECT evil:443 HTTP/1.1",
        "CONNECT /free HTTP/1.1",
        "TRACE /free HTTP/1.1",
        "TRACK /free HTTP/1.1",
        "get /free HTTP/1.1",
        "Get /free HTTP/1.1",
        "G\0ET /free HTTP/1.1",
        "GET: /free HTTP/1.1",
        "GET /free",
        "GET /free ",
        "GET /free HTTP",
        "GET /free HTTP/0.9",
        "GET /free HTTP/1",
        "GET /free HTTP/1.2",
        "GET /free HTTP/1.10",
        "GET /free HTTP/01.1",
        "GET /free HTTP/2.0",
        "GET /free HTTP/2",
        "GET /free HTTP/9.9",
        "GET /free http/1.1",
        "GET /free HTTP/1.1 ",
        "GET /free HTTP/1.1\r",
        "GET /free HTTP/1.1\0",
        "GET /free XHTTP/1.1",
        "GET  /free HTTP/1.1",
        "GET /free HTTP/1.1 HTTP/1.1",
        "GET /free/x HTTP/1.1 HTTP/1.1",
        "GET\t/free\tHTTP/1.1",
        "GET /free/\nx HTTP/1.1",
        "GET HTTP/1.1",
        "GET  HTTP/1.1",
        "PRI * HTTP/2.0",
        "\u{1}\u{2}\u{3}",
    ]
    .into_iter()
    .map(|line| row(format!("{line:?}"), with(line, "\r\n"), Refused))
    .collect();
    rows.extend([
        row("an empty line before", format!("\r\n{}", with("GET /free HTTP/1.1", "\r\n")), get()),
        row("HTTP/1.0", with("GET /free HTTP/1.0", "\r\n"), get()),
        row("HEAD", with("HEAD /free HTTP/1.1", "\r\n"), passes("HEAD /free HTTP/1.1")),
    ]);
    for (name, bytes) in [
        ("HTTP/0.9", "GET /free\r\n"),
        ("a header without its end", "GET /free HTTP/1.1\r\nHost: {host}\r\n"),
        ("the beginning of TLS", "\u{16}\u{3}\u{1}\0\u{5}hello"),
    ] {
        rows.push(Row { half_closes: true, ..row(name, bytes, Refused) });
    }
    rows
}

/// Methods in headers, and paths of batches and queries, on a route that only reads.
pub(super) fn methods() -> Vec<Row> {
    let batch =
        |line: &str, headers: &str| with(line, &format!("{headers}Content-Length: 0\r\n\r\n"));
    let post = "POST /data/$batch HTTP/1.1";
    let mut rows: Vec<Row> = [
        "X-HTTP-Method: DELETE\r\n",
        "X-HTTP-Method: delete\r\n",
        "X-HTTP-Method: MERGE\r\n",
        "X-HTTP-Method:\r\n",
        "X-HTTP-Method: GET, DELETE\r\n",
        "X-HTTP-Method: GET\r\nX-HTTP-Method: DELETE\r\n",
        "X-HTTP-Method: GET\r\nX-HTTP-Method-Override: DELETE\r\n",
        "X-HTTP-Method-Override: PUT\r\n",
        "X-Method-Override: PATCH\r\n",
        "X_HTTP_Method: DELETE\r\n",
        "x_http-method_override: DELETE\r\n",
    ]
    .map(|headers| row(format!("{headers:?}"), batch(post, headers), Refused))
    .into();
    for line in [
        "DELETE /data/x HTTP/1.1",
        "POST /data/x HTTP/1.1",
        "POST /data/x?/$batch HTTP/1.1",
        "POST /data/x%2f$batch HTTP/1.1",
        "POST /data/x/y%2f$batch HTTP/1.1",
        "POST /data/$batch/ HTTP/1.1",
        "POST /data/$batch;a HTTP/1.1",
        "POST /data/$batch%3Fa HTTP/1.1",
        "POST /data/$BATCH HTTP/1.1",
        "POST /data/x%3f/$batch HTTP/1.1",
        "POST /data/x%3f/$query HTTP/1.1",
        "POST /data/x%253f/$query HTTP/1.1",
        "POST /data/x%23/$query HTTP/1.1",
        "POST /data/x%2500/$query HTTP/1.1",
        "POST /data/x%EF%BC%9F/$query HTTP/1.1",
        "POST /data/x%3f/.search HTTP/1.1",
        "POST /data/$query%20 HTTP/1.1",
        "POST /data/$query. HTTP/1.1",
        "POST /data/$batch#a HTTP/1.1",
        "POST /data/x#/$batch HTTP/1.1",
        "PATCH /deep/er/x HTTP/1.1",
    ] {
        rows.push(row(line, batch(line, ""), Refused));
    }
    let tunnelled = with("GET /data/x HTTP/1.1", "X-HTTP-Method: DELETE\r\n\r\n");
    rows.push(row("a GET that would be a DELETE", tunnelled, Refused));
    rows.push(row("a batch", batch(post, ""), passes(post)));
    rows.push(row("a batch that says so", batch(post, "X-HTTP-Method: POST\r\n"), passes(post)));
    let query = "POST /data/x('a%20%C3%BC.')/$query HTTP/1.1";
    rows.push(row("a query", batch(query, ""), passes(query)));
    let encoded = "POST /data/%24batch?a HTTP/1.1";
    rows.push(row("an encoded batch", batch(encoded, ""), passes(encoded)));
    rows
}
