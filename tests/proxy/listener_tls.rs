//! TLS on a listener: requests, links, certificates that change, and callers' certificates.

use crate::support::configuration::Configuration;
use crate::support::process::{Process, output, starting};
use crate::support::raw_client::exchange;
use crate::support::scene::DemoScene;
use crate::support::tls::Authority;
use crate::support::{DEADLINE, SALES, eventually};
use rcgen::{CertificateParams, date_time_ymd};
use rustls::pki_types::ServerName;
use serde_json::Value;
use std::io::ErrorKind::WouldBlock;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A process whose listener has TLS, before a demo tenant.
struct TlsScene {
    scene: DemoScene<Process>,
    authority: Authority,
    folder: TempDir,
}

impl TlsScene {
    async fn start() -> Self {
        Self::with(Authority::new(), "", |config| config).await
    }

    /// Starts it with more settings of `tls`, and a changed configuration.
    async fn with(
        authority: Authority,
        more: &str,
        change: impl FnOnce(Configuration) -> Configuration,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tls = authority.listener(folder.path(), more);
        let listen = format!("{{ address: 127.0.0.1:0, tls: {tls} }}");
        let scene = DemoScene::process(|config| change(config.key("listen", listen))).await;
        Self { scene, authority, folder }
    }

    fn host(&self) -> &str {
        self.scene.sidecar.host()
    }

    /// `https://localhost:PORT`
    fn url(&self) -> String {
        self.scene.sidecar.url.replace("http://127.0.0.1", "https://localhost")
    }

    async fn connect(&self, connector: &TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.host()).await?;
        connector.connect(ServerName::try_from("localhost").unwrap(), stream).await
    }

    /// The status of a request by this client, or nothing if it is not let in.
    async fn status(&self, connector: &TlsConnector) -> Option<String> {
        let mut stream = self.connect(connector).await.ok()?;
        let request =
            format!("GET {SALES} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        let read = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("in time");
        read.ok()?;
        Some(String::from_utf8_lossy(&answer).split(' ').nth(1)?.to_owned())
    }
}

#[tokio::test]
async fn requests_over_tls_are_served_and_their_links_say_https() {
    let tls = TlsScene::start().await;
    let client = tls.authority.http();
    let sales = SALES.split('?').next().unwrap();
    let page: Value =
        client.get(format!("{}{sales}", tls.url())).send().await.unwrap().json().await.unwrap();
    let next = page["@odata.nextLink"].as_str().unwrap();
    assert!(next.starts_with(&format!("{}/api/", tls.url())), "{next}");
    assert_eq!(client.get(next).send().await.unwrap().status(), 200);
    let created = client
        .post(format!("{}/api/v1/scim2/Users", tls.url()))
        .header("content-type", "application/scim+json")
        .body(r#"{"userName":"ADA"}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(created.status(), 201);
    let place = created.headers()["location"].to_str().unwrap();
    assert!(place.starts_with(&tls.url()), "{place}");
    // A page of its own origin may send requests, another scheme's may not.
    let from = async |origin: String| {
        let request = client.get(format!("{}{SALES}", tls.url())).header("origin", origin);
        request.send().await.unwrap().status()
    };
    assert_eq!(from(tls.url()).await, 200);
    assert_eq!(from(tls.url().replace("https", "http")).await, 403);
    // A tool that does not trust the authority is helped by the log.
    let stranger = Authority::new().connector(None);
    assert!(tls.connect(&stranger).await.is_err());
    tls.scene.sidecar.logged("let the tool trust its authority").await;
}

#[tokio::test]
async fn a_caller_without_tls_gets_an_answer_that_it_can_read() {
    let tls = TlsScene::start().await;
    let answer = exchange(tls.host(), "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("write https:// in the tool's URL"), "{answer}");
    tls.scene.sidecar.logged("A caller spoke no TLS to a port with TLS").await;
    let (_, status) = tls.scene.sidecar.probe("/status").await;
    assert!(status.contains("tls_not_spoken"), "{status}");
}

#[tokio::test]
async fn a_changed_certificate_is_used_for_new_connections_and_ends_no_old_one() {
    let tls = TlsScene::start().await;
    let connector = tls.authority.connector(None);
    let mut old = tls.connect(&connector).await.unwrap();
    let shown = |stream: &TlsStream<TcpStream>| {
        stream.get_ref().1.peer_certificates().unwrap()[0].as_ref().to_vec()
    };
    let first = shown(&old);
    let (chain, key) =
        (tls.folder.path().join("listener.crt"), tls.folder.path().join("listener.key"));
    tls.authority.write_certificate(&chain, &key);
    eventually("the new certificate", async || {
        shown(&tls.connect(&connector).await.unwrap()) != first
    })
    .await;
    old.write_all(b"GET /api/v1/csrf HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    old.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    // What can't be used changes nothing, and is reported.
    std::fs::write(&chain, "no certificate").unwrap();
    eventually("reported", async || {
        tls.scene.sidecar.probe("/readyz").await.1.contains("certificate of 127.0.0.1:")
    })
    .await;
    assert_eq!(tls.status(&connector).await.as_deref(), Some("200"));
    tls.authority.write_certificate(&chain, &key);
    eventually("ready", async || tls.scene.sidecar.probe("/readyz").await.1 == "ready\n").await;
}

#[tokio::test]
async fn a_callers_certificate_is_required_where_it_is_configured() {
    let callers = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let ca = callers.write_pem(folder.path());
    let tls =
        TlsScene::with(Authority::new(), &format!(", client_ca_file: {ca}"), |config| config).await;
    let expired: fn(&mut CertificateParams) = |params| params.not_after = date_time_ymd(2024, 1, 1);
    let good: fn(&mut CertificateParams) = |_| {};
    let stranger = Authority::new();
    let with = |of| tls.authority.connector(Some(of));
    assert_eq!(tls.status(&with((&callers, good))).await.as_deref(), Some("200"));
    assert_eq!(tls.status(&tls.authority.connector(None)).await, None);
    assert_eq!(tls.status(&with((&callers, expired))).await, None);
    assert_eq!(tls.status(&with((&stranger, good))).await, None);
    // To the callers these three look the same. The log names the reason.
    for why in [
        "the caller has no certificate, and client_ca_file requires one",
        "it was valid until 2024-01-01",
        "another authority of the same name",
    ] {
        tls.scene.sidecar.logged(why).await;
    }
    assert!(!tls.scene.sidecar.log().contains("ApplicationVerificationFailure"));

    // A session is never resumed: each connection has its certificate verified.
    let connector = with((&callers, good));
    for _ in 0..2 {
        let mut stream = tls.connect(&connector).await.unwrap();
        let request =
            format!("GET {SALES} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
        let kind = stream.get_ref().1.handshake_kind();
        assert_eq!(kind, Some(rustls::HandshakeKind::Full));
    }

    let optional = format!(", client_ca_file: {ca}, client_certificate: optional");
    let tls = TlsScene::with(Authority::new(), &optional, |config| config).await;
    let with = |of| tls.authority.connector(Some(of));
    assert_eq!(tls.status(&tls.authority.connector(None)).await.as_deref(), Some("200"));
    assert_eq!(tls.status(&with((&callers, good))).await.as_deref(), Some("200"));
    assert_eq!(tls.status(&with((&stranger, good))).await, None);
}

#[tokio::test]
async fn openssl_gets_no_old_version_and_no_weak_cipher() {
    let handshake = async |host: &str, options: &[&str]| {
        let mut command = starting("openssl");
        command.env("PATH", "/usr/bin:/bin");
        let ended = output(command.args(["s_client", "-connect", host]).args(options)).await;
        ended.status.success()
    };
    let tls = TlsScene::start().await;
    let openssl = async |options: &[&str]| handshake(tls.host(), options).await;
    assert!(openssl(&["-tls1_2"]).await && openssl(&["-tls1_3"]).await);
    for refused in [
        &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"][..],
        &["-tls1", "-cipher", "ALL:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "AES128-SHA"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"],
        &["-tls1_2", "-cipher", "AES128-GCM-SHA256"],
        &["-alpn", "h2"],
    ] {
        assert!(!openssl(refused).await, "{refused:?}");
    }
    assert!(openssl(&["-alpn", "h2,http/1.1"]).await);

    let newest = TlsScene::with(Authority::new(), ", min_tls: 1.3", |config| config).await;
    assert!(handshake(newest.host(), &["-tls1_3"]).await);
    assert!(!handshake(newest.host(), &["-tls1_2"]).await);
}

#[tokio::test]
async fn a_removed_authority_ends_the_connections_that_began_before() {
    let (stays, goes) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let ca = stays.write_pem(folder.path());
    std::fs::write(&ca, stays.pem.clone() + &goes.pem).unwrap();
    let more = format!(", client_ca_file: {ca}");
    let tls = TlsScene::with(Authority::new(), &more, |config| config).await;
    let good: fn(&mut CertificateParams) = |_| {};
    let with = |of| tls.authority.connector(Some((of, good)));
    let mut idle = tls.connect(&with(&goes)).await.unwrap();
    let mut busy = tls.connect(&with(&stays)).await.unwrap();
    let post =
        "POST /api/v1/content/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nab";
    busy.write_all(post.as_bytes()).await.unwrap();
    let in_flight = async || tls.scene.sidecar.metric("bearerd_requests_in_flight").await == 1.0;
    eventually("the request is in flight", in_flight).await;
    // A new authority ends nothing, a removed one does.
    let new = Authority::new();
    std::fs::write(&ca, stays.pem.clone() + &goes.pem + &new.pem).unwrap();
    eventually("the new one", async || tls.status(&with(&new)).await.is_some()).await;
    idle.write_all(b"GET /api/v1/csrf HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    idle.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    std::fs::write(&ca, stays.pem.clone() + &new.pem).unwrap();
    let ended = timeout(DEADLINE, idle.read_to_end(&mut Vec::new())).await;
    assert!(ended.is_ok(), "the idle connection ends");
    assert_eq!(tls.status(&with(&goes)).await, None);
    busy.write_all(b"cd").await.unwrap();
    let mut answer = Vec::new();
    // Ends without TLS's own goodbye, which is an error after the whole answer.
    let _ = timeout(DEADLINE, busy.read_to_end(&mut answer)).await.expect("closed");
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_given_up_and_locks_nobody_out() {
    let tls = TlsScene::start().await;
    let mut slow = Vec::new();
    for begin in [&b"\x16"[..], b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03", b""] {
        let mut stream = TcpStream::connect(tls.host()).await.unwrap();
        stream.write_all(begin).await.unwrap();
        slow.push(stream);
    }
    let connector = tls.authority.connector(None);
    assert_eq!(tls.status(&connector).await.as_deref(), Some("200"), "beside them");
    // More than TLS allows in a record.
    let mut large = TcpStream::connect(tls.host()).await.unwrap();
    large.write_all(b"\x16\x03\x01\xff\xff").await.unwrap();
    let _ = large.write_all(&vec![0; 1 << 20]).await;
    slow.push(large);
    for mut stream in slow {
        let ended = timeout(DEADLINE, stream.read_to_end(&mut Vec::new())).await;
        assert!(ended.is_ok(), "closed in time");
    }
}

#[tokio::test]
async fn a_handshake_beyond_the_limit_replaces_the_oldest() {
    let tls = TlsScene::start().await;
    let mut begun = Vec::new();
    for _ in 0..=256 {
        let mut stream = TcpStream::connect(tls.host()).await.unwrap();
        stream.write_all(b"\x16\x03\x01").await.unwrap();
        begun.push(stream);
    }
    tls.scene.sidecar.logged("too many callers begin one at once").await;
    let mut buffer = [0];
    let closed = timeout(DEADLINE, begun[0].read(&mut buffer)).await.expect("closed in time");
    assert!(closed.is_err() || closed.unwrap() == 0, "the oldest one is closed");
    let is_open = begun[1].try_read(&mut buffer).is_err_and(|it| it.kind() == WouldBlock);
    assert!(is_open, "the second one waits");
    assert_eq!(tls.status(&tls.authority.connector(None)).await.as_deref(), Some("200"));
}

#[tokio::test]
async fn many_requests_share_a_connection_and_large_bodies_pass() {
    let tls = TlsScene::start().await;
    let client = tls.authority.http();
    let body = vec![b'x'; 3 << 20];
    for _ in 0..3 {
        let sent = client.post(format!("{}/api/v1/content/jobs", tls.url())).body(body.clone());
        assert_eq!(sent.send().await.unwrap().status(), 202);
        let read = client.get(format!("{}{SALES}", tls.url())).send().await.unwrap();
        assert!(read.text().await.unwrap().contains("\"value\""));
    }
}
