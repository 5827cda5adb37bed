//! Token responses, certificates, files and proxies that break a rule but are unambiguous.

use crate::support::configuration::Configuration;
use crate::support::forward_proxy::ForwardProxy;
use crate::support::process::{Process, bearerd, output, written};
use crate::support::sidecar::Sidecar;
use crate::support::tls::{Authority, TlsUpstream};
use crate::support::upstream::{Behaviour, Peer, read_request};
use crate::support::{Fixture, SALES, accepting, eventually, http};
use flate2::Compression;
use flate2::read::GzEncoder;
use std::io::Read;
use std::process::Stdio;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

const TOKEN: &str = r#"{"access_token":"raw-token","token_type":"bearer","expires_in":3600}"#;

/// How a connection ends after an answer.
#[derive(Clone, Copy)]
enum Ending {
    /// With TLS's `close_notify`.
    CloseNotify,
    /// By TCP alone.
    Tcp,
    /// The connection stays open.
    Never,
}

/// An issuer with TLS that answers every request with the same bytes.
struct RawIssuer {
    url: String,
    folder: TempDir,
    _task: AbortOnDropHandle<()>,
}

impl RawIssuer {
    async fn start(answer: Vec<u8>, ending: Ending) -> Self {
        let authority = Authority::new();
        let acceptor = TlsAcceptor::from(Arc::new(authority.server()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let folder = tempfile::tempdir().unwrap();
        authority.write_pem(folder.path());
        let task = accepting(listener, move |stream| {
            let (acceptor, answer) = (acceptor.clone(), answer.clone());
            async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                if read_request(&mut stream).await.is_none() {
                    return;
                }
                let _ = stream.write_all(&answer).await;
                let _ = stream.flush().await;
                match ending {
                    Ending::CloseNotify => drop(stream.shutdown().await),
                    Ending::Tcp => {}
                    Ending::Never => std::future::pending().await,
                }
            }
        });
        Self { url, folder, _task: task }
    }

    /// A configuration with this issuer.
    fn config(&self, upstream: &Peer) -> Configuration {
        upstream
            .configuration(&upstream.url())
            .client("token_url", format!("\"{}/oauth/token\"", self.url))
            .client("ca_file", self.folder.path().join("ca.pem").display())
    }
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {head}\r\n\r\n").as_bytes(), body].concat()
}

fn with_length(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    answer(&format!("{status}\r\n{headers}content-length: {}", body.len()), body)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut compressed = Vec::new();
    GzEncoder::new(bytes, Compression::default()).read_to_end(&mut compressed).unwrap();
    compressed
}

#[tokio::test]
async fn a_token_is_accepted_in_every_form_of_response() {
    let upstream = Peer::start(Behaviour::ok("fine")).await;
    let marked = format!("\u{feff}{TOKEN}");
    let utf16: Vec<u8> = marked.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let closed = "200 OK\r\nconnection: close";
    let chunk = format!("{:x}\r\n{TOKEN}\r\n", TOKEN.len());
    for (what, bytes, ending) in [
        (
            "gzip",
            with_length("200 OK", "content-encoding: gzip\r\n", &gzip(TOKEN.as_bytes())),
            Ending::CloseNotify,
        ),
        (
            "x-gzip without a length",
            answer(&format!("{closed}\r\ncontent-encoding: x-gzip"), &gzip(TOKEN.as_bytes())),
            Ending::Tcp,
        ),
        (
            "gzip without a header",
            with_length("200 OK", "", &gzip(TOKEN.as_bytes())),
            Ending::CloseNotify,
        ),
        ("a byte order mark", with_length("200 OK", "", marked.as_bytes()), Ending::CloseNotify),
        ("UTF-16", with_length("200 OK", "", &utf16), Ending::CloseNotify),
        ("201", with_length("201 Created", "", TOKEN.as_bytes()), Ending::CloseNotify),
        (
            "203",
            with_length("203 Non-Authoritative Information", "", TOKEN.as_bytes()),
            Ending::CloseNotify,
        ),
        (
            "BearerToken",
            with_length("200 OK", "", TOKEN.replace("bearer", "BearerToken").as_bytes()),
            Ending::CloseNotify,
        ),
        ("no close_notify, a length", with_length("200 OK", "", TOKEN.as_bytes()), Ending::Tcp),
        ("no close_notify, no length", answer(closed, TOKEN.as_bytes()), Ending::Tcp),
        ("close_notify, no length", answer(closed, TOKEN.as_bytes()), Ending::CloseNotify),
        (
            "no last chunk",
            answer("200 OK\r\ntransfer-encoding: chunked", chunk.as_bytes()),
            Ending::Tcp,
        ),
        ("no end", answer(closed, TOKEN.as_bytes()), Ending::Never),
        ("HTTP/1.0", [b"HTTP/1.0 200 OK\r\n\r\n", TOKEN.as_bytes()].concat(), Ending::Tcp),
    ] {
        let issuer = RawIssuer::start(bytes, ending).await;
        let sidecar = Sidecar::start(&issuer.config(&upstream));
        let is_ready = async || {
            let (status, text) = sidecar.probe("/readyz").await;
            assert!(!text.contains("issuer") && !text.contains("endpoint"), "{what}: {text}");
            status == 200
        };
        eventually(what, is_ready).await;
        assert_eq!(sidecar.get("/free").await.status(), 200, "{what}");
        let sent = upstream.seen().pop().unwrap();
        assert_eq!(sent.header("authorization"), ["Bearer raw-token"], "{what}");
    }
}

#[tokio::test]
async fn a_response_that_was_cut_off_gives_no_token() {
    let upstream = Peer::start(Behaviour::ok("fine")).await;
    let cut = &TOKEN.as_bytes()[..TOKEN.len() - 1];
    for (bytes, outcome) in [
        (answer("200 OK\r\nconnection: close", cut), "connect_error"),
        (with_length("200 OK", "content-encoding: br\r\n", b"\x0b\x02\x80"), "invalid_answer"),
        (with_length("201 Created", "", b"<html>"), "not_an_issuer"),
    ] {
        let issuer = RawIssuer::start(bytes, Ending::Tcp).await;
        let sidecar = Sidecar::start(&issuer.config(&upstream));
        let series = format!(r#"bearerd_token_requests_total{{client="c",outcome="{outcome}"}}"#);
        eventually(outcome, async || sidecar.metric(&series).await >= 1.0).await;
    }
}

#[tokio::test]
async fn a_compressed_refusal_is_reported_with_the_issuers_message() {
    let upstream = Peer::start(Behaviour::ok("fine")).await;
    let words = br#"{"error":"invalid_client","error_description":"no such client"}"#;
    let body = gzip(words);
    let refusal = with_length("401 Unauthorized", "content-encoding: gzip\r\n", &body);
    let issuer = RawIssuer::start(refusal, Ending::Tcp).await;
    let sidecar = Sidecar::start(&issuer.config(&upstream));
    eventually("reported", async || sidecar.probe("/readyz").await.1.contains("no such client"))
        .await;
}

/// A text in the encodings of common editors.
fn encodings(text: &str) -> [Vec<u8>; 3] {
    let marked = format!("\u{feff}{text}\r\n");
    let utf16 = |unit: fn(u16) -> [u8; 2]| marked.encode_utf16().flat_map(unit).collect();
    [marked.clone().into(), utf16(u16::to_le_bytes), utf16(u16::to_be_bytes)]
}

#[tokio::test]
async fn every_file_of_a_secret_is_read_in_every_encoding() {
    let fixture = Fixture::start().await;
    let secret = fixture.tenant.client_secret();
    let key = format!(
        r#"{{"client_id":"{}","client_secret":"{secret}","token_url":"{}"}}"#,
        fixture.tenant.client_id(),
        fixture.tenant.token_url()
    );
    let ca = std::fs::read_to_string(fixture.path("ca.pem")).unwrap();
    let proxy = ForwardProxy::start().await;
    let (password, api_key, proxied) = ("p\u{e4}ssword", "api-key", "tool:open sesame");
    for index in 0..3 {
        let write = |name: &str, text: &str| {
            std::fs::write(fixture.path(name), &encodings(text)[index]).unwrap();
            fixture.path(name).display().to_string()
        };
        write("ca.pem", &ca);
        write("secret", &secret);
        let proxy_file = write("proxy", proxied);
        let access = format!(
            "{{ basic: {{ username: u, password_file: {} }}, api_key_file: {} }}",
            write("password", password),
            write("api-key", api_key)
        );
        let parts = fixture
            .configuration()
            .key("access", access)
            .client("proxy", format!("\"http://{}\"", proxy.address))
            .client("proxy_credentials_file", proxy_file);
        let whole = parts
            .clone()
            .without_client_keys(&["client_id", "token_url", "client_secret_file"])
            .client("credentials", write("key.json", &key));
        for config in [parts, whole] {
            let sidecar = Sidecar::ready(&config).await;
            let url = format!("{}{SALES}", sidecar.url);
            let by_password = http().get(&url).basic_auth("u", Some(password));
            assert_eq!(by_password.send().await.unwrap().status(), 200, "{index}");
            let by_key = http().get(&url).header("x-api-key", api_key);
            assert_eq!(by_key.send().await.unwrap().status(), 200, "{index}");
        }
    }
    let expected = Some("Basic dG9vbDpvcGVuIHNlc2FtZQ==".to_owned());
    assert!(proxy.asked().len() >= 6);
    assert!(
        proxy.asked().iter().all(|asked| asked.authorization == expected),
        "{:?}",
        proxy.asked()
    );
    // The configuration file, and the next secret.
    std::fs::write(fixture.path("secret"), "wrong").unwrap();
    std::fs::write(fixture.path("next"), &encodings(&secret)[1]).unwrap();
    let config = fixture.path("utf16.yaml");
    let next = fixture.path("next");
    let yaml = fixture.configuration().client("client_secret_next_file", next.display());
    std::fs::write(&config, &encodings(&yaml.to_string())[1]).unwrap();
    let process = Process::start_with_file(fixture.folder.path(), &config).await;
    process.wait_until_ready().await;
}

#[tokio::test]
async fn pem_is_read_with_every_separator_between_its_sections() {
    let fixture = Fixture::start().await;
    let ca = std::fs::read_to_string(fixture.path("ca.pem")).unwrap();
    let other = Authority::new().pem;
    let joined = format!("{}{}", other.trim_end(), ca.trim_end());
    for text in [
        joined.clone(),
        joined.replace('\n', "\r\n"),
        joined.replace('\n', "\\n"),
        format!("\u{feff}Certificates of the house\n{joined} and so on"),
    ] {
        std::fs::write(fixture.path("ca.pem"), &text).unwrap();
        let sidecar = Sidecar::ready(&fixture.configuration()).await;
        assert_eq!(sidecar.get(SALES).await.status(), 200, "{text:?}");
    }
}

#[tokio::test]
async fn the_systems_anchors_are_read_without_a_separator_between_them() {
    let fixture = Fixture::start().await;
    let ca = fixture.tenant.ca_pem();
    let joined = format!("{}{}", Authority::new().pem.trim_end(), ca.trim_end());
    std::fs::write(fixture.path("system.pem"), joined).unwrap();
    let config = fixture.configuration();
    let config = config.without_client_keys(&["ca_file"]).without_upstream_key("ca_file");
    let anchors = fixture.path("system.pem").display().to_string();
    let environment = [("SSL_CERT_FILE", anchors.as_str())];
    let process = Process::start_in(fixture.folder.path(), &config, &environment).await;
    let ask = async || http().get(format!("{}{SALES}", process.url)).send().await.unwrap().status();
    eventually("served", async || ask().await == 200).await;
}

#[tokio::test]
async fn a_server_certificate_that_is_an_authoritys_is_reported() {
    let (upstream, pem) = TlsUpstream::self_signed_with(|params| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    })
    .await;
    let fixture = Fixture::start().await;
    std::fs::write(fixture.path("own.pem"), &pem).unwrap();
    let own = fixture.path("own.pem").display().to_string();
    let config = fixture.configuration();
    let changed = config.clone().upstream("url", upstream.url()).upstream("ca_file", &own);
    let sidecar = Sidecar::ready(&changed).await;
    let text = sidecar.get(SALES).await.text().await.unwrap();
    assert!(text.contains("basicConstraints=critical,CA:FALSE"), "{text}");
    // The same for an issuer, in `bearerd token` and in the doctor.
    let token_url = format!("{}/oauth/token", upstream.url());
    let changed = config.client("token_url", token_url).client("ca_file", own);
    let config = written(fixture.folder.path(), &changed);
    for command in ["token", "doctor"] {
        let ended = output(bearerd().args([command, "--config"]).arg(&config)).await;
        let text = String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap();
        assert!(text.contains("an authority's (CA:TRUE)"), "{command}: {text}");
        assert!(text.contains("basicConstraints=critical,CA:FALSE"), "{command}: {text}");
    }
}

#[tokio::test]
async fn a_tunnel_is_open_after_any_status_of_success() {
    for greeting in [
        "HTTP/1.1 201 Created\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.0 299 \r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ] {
        let (fixture, proxy) = (Fixture::start().await, ForwardProxy::start().await);
        proxy.greet(greeting);
        let proxy_url = format!("\"http://{}\"", proxy.address);
        // Only the proxy resolves this name.
        let renamed = |url: String| url.replace("https://localhost:", "https://acme.test:");
        let config = fixture
            .configuration()
            .client("token_url", renamed(fixture.tenant.token_url()))
            .client("proxy", &proxy_url)
            .upstream("url", renamed(fixture.tenant.url()))
            .upstream("proxy", &proxy_url);
        let sidecar = Sidecar::ready(&config).await;
        assert_eq!(sidecar.get(SALES).await.status(), 200, "{greeting:?}");
        let user = http().post(format!("{}/api/v1/scim2/Users", sidecar.url));
        let user = user.header("content-type", "application/json").body(r#"{"userName":"ANNA"}"#);
        assert_eq!(user.send().await.unwrap().status(), 201, "{greeting:?}");
    }
}

#[tokio::test]
async fn an_invalid_entry_of_no_proxy_is_skipped() {
    let (fixture, proxy) = (Fixture::start().await, ForwardProxy::start().await);
    let folder = tempfile::tempdir().unwrap();
    let address = proxy.address.to_string();
    let environment =
        [("HTTPS_PROXY", address.as_str()), ("NO_PROXY", "10.*,acme.test,<local>,*.x:y")];
    let config = fixture.configuration();
    let process = Process::start_in(folder.path(), &config, &environment).await;
    process.wait_until_ready().await;
    let log = process.log();
    for entry in ["10.*", "<local>", "*.x:y"] {
        let warned = log.lines().any(|line| {
            line.contains("NO_PROXY") && line.contains(entry) && line.contains("skipped")
        });
        assert!(warned, "{entry}: {log}");
    }
}

/// A command that becomes bearerd with these folders empty.
fn without(folders: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    let hide: String =
        folders.iter().map(|folder| format!("mount -t tmpfs none {folder} && ")).collect();
    command
        .env_clear()
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
        .arg(format!(r#"{hide}exec "$0" "$@""#))
        .arg(env!("CARGO_BIN_EXE_bearerd"));
    command
}

#[tokio::test]
async fn without_proc_and_etc_ssl_requests_are_served_and_nothing_panics() {
    let fixture = Fixture::start().await;
    for folders in [&["/proc"][..], &["/etc/ssl"], &["/proc", "/etc/ssl", "/usr/share"]] {
        let yaml = fixture.configuration().key("sandbox", "on");
        let process = Process::start_by(without(folders), fixture.folder.path(), &yaml).await;
        let config = fixture.path("bearerd.yaml");
        process.wait_until_ready().await;
        let answer = http().get(format!("{}{SALES}", process.url)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{folders:?}");
        for path in ["/metrics", "/livez", "/", "/status"] {
            let answer = http().get(format!("{}{path}", process.admin)).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{folders:?} {path}");
        }
        process.signal("HUP").await;
        eventually("reloaded", async || process.log().contains("has not changed")).await;
        assert!(!process.log().contains("panic"), "{folders:?}: {}", process.log());
        for command in ["check", "token", "doctor"] {
            let ended = output(without(folders).args([command, "--config"]).arg(&config)).await;
            let text = String::from_utf8(ended.stderr).unwrap();
            assert_eq!(ended.status.code(), Some(0), "{command} {folders:?}: {text}");
        }
    }
}

#[tokio::test]
async fn without_proc_a_broken_anchor_of_the_system_is_reported() {
    let fixture = Fixture::start().await;
    let anchors = fixture.path("system.pem");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(&anchors, format!("{broken}{}", fixture.tenant.ca_pem())).unwrap();
    let config = written(fixture.folder.path(), &fixture.configuration());
    let mut command = without(&["/proc"]);
    command.env("SSL_CERT_FILE", &anchors).args(["run", "--config"]).arg(&config);
    let ended = output(&mut command).await;
    let text = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{text}");
    assert!(text.contains("there is no /proc") && !text.contains("panic"), "{text}");
    // Without any trust anchor, the message says so.
    let config = fixture.configuration();
    let config = config.without_client_keys(&["ca_file"]).without_upstream_key("ca_file");
    let config = written(fixture.folder.path(), &config);
    let mut command = without(&["/proc", "/etc/ssl"]);
    let ended = output(command.args(["run", "--config"]).arg(&config)).await;
    let text = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{text}");
    assert!(text.contains("no trust anchors, and there is no ca_file"), "{text}");
}
