//! Callers with names: each does what the configuration allows it, and nobody else does anything.

use crate::support::configuration::Configuration;
use crate::support::process::{Process, bearerd, output};
use crate::support::scene::{DemoScene, Scene};
use crate::support::tls::Authority;
use crate::support::upstream::{Behaviour, Peer};
use crate::support::{DEADLINE, SALES, eventually, http, http_builder, issuer};
use futures_util::future::join_all;
use rcgen::{CertificateParams, SanType};
use reqwest::{Client, Method, RequestBuilder};
use rustls::pki_types::ServerName;
use serde_json::Value;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

mod matrix;

/// The key of a caller.
fn key(name: &str) -> String {
    format!("{name}-is-a-key-of-at-least-32-characters")
}

/// The password of a caller.
fn password(name: &str) -> String {
    format!("{name}:password:long")
}

/// Writes a file and returns its path.
fn written(folder: &Path, name: &str, text: impl AsRef<[u8]>) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// A second client `d`, whose token is `second-token`.
fn with_second_client(config: Configuration, issuer: &Peer) -> Configuration {
    issuer.always("/second/oauth/token", issuer::token("second-token", 3600));
    config
        .upstream("client", "c")
        .add_client("d")
        .client("token_url", format!("\"{}/second/oauth/token\"", issuer.url()))
        .client("client_id", "second")
        .client("client_secret", "s3cret")
}

/// A sidecar with three callers: `etl` reads `/data`, `identity` does all on `/users` with another
/// client, and `job` does all everywhere.
struct CallersScene {
    scene: Scene,
    _folder: TempDir,
}

impl CallersScene {
    async fn start() -> Self {
        Self::with("").await
    }

    /// Starts it with more callers.
    async fn with(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: String| written(folder.path(), name, text);
        let callers = format!(
            "
  etl: {{ api_key_file: {}, routes: [/data], methods: [GET, HEAD] }}
  identity: {{ basic: {{ username: iam, password_file: {} }}, routes: /users, client: d }}
  job: {{ api_key_file: {} }}{more}",
            file("etl", key("etl")),
            file("identity", password("identity")),
            file("job", key("job") + "\n" + &key("next")),
        );
        let (issuer, upstream) = (issuer::steady().await, Peer::start(Behaviour::ok("fine")).await);
        let config = with_second_client(issuer.configuration(&upstream.url()), &issuer);
        let config = config.key("callers", callers);
        let scene = Scene::between(issuer, upstream, |_| config).await;
        Self { scene, _folder: folder }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        http().request(method, format!("{}{path}", self.scene.sidecar.url))
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    async fn requests_of(&self, caller: &str) -> f64 {
        let (_, metrics) = self.scene.sidecar.probe("/metrics").await;
        let begin = format!("bearerd_caller_requests_total{{caller=\"{caller}\"");
        let series = metrics.lines().filter(|line| line.starts_with(&begin));
        series.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }
}

/// The status of an answer, and its kind if it is bearerd's own.
async fn answered(request: RequestBuilder) -> (u16, String) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let problem: Value = answer.json().await.unwrap_or_default();
    (status, problem["kind"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn each_caller_does_what_it_may_and_nobody_else_does_anything() {
    let callers = CallersScene::start().await;
    let etl = |request: RequestBuilder| request.header("x-api-key", key("etl"));
    let iam = |request: RequestBuilder| request.basic_auth("iam", Some(password("identity")));
    let job = |request: RequestBuilder| request.header("x-api-key", key("job"));
    let fine = (200, String::new());
    let refused = |status: u16, kind: &str| (status, kind.to_owned());
    let token = || callers.scene.upstream.seen().pop().unwrap().header("authorization").join(",");

    assert_eq!(answered(etl(callers.get("/data/x"))).await, fine);
    assert_eq!(token(), "Bearer steady-token");
    assert_eq!(answered(iam(callers.request(Method::DELETE, "/users/x"))).await, fine);
    assert_eq!(token(), "Bearer second-token");
    assert_eq!(answered(job(callers.request(Method::PUT, "/free"))).await, fine);
    assert_eq!(token(), "Bearer steady-token");
    assert_eq!(answered(callers.get("/free").header("x-api-key", key("next"))).await, fine);

    let before = callers.scene.upstream.seen().len();
    let not_allowed = refused(403, "caller_not_allowed");
    assert_eq!(answered(etl(callers.get("/free"))).await, not_allowed);
    assert_eq!(answered(iam(callers.get("/data/x"))).await, not_allowed);
    let post = || callers.request(Method::POST, "/data/$batch");
    assert_eq!(answered(etl(post())).await, refused(405, "method_not_allowed"));
    assert_eq!(answered(callers.get("/free")).await, refused(401, "access_denied"));
    assert_eq!(answered(callers.get("/nowhere")).await, refused(401, "access_denied"));
    let wrong = callers.get("/free").header("x-api-key", key("other"));
    assert_eq!(answered(wrong).await, refused(401, "access_denied"));
    let two = etl(callers.get("/data/x")).basic_auth("iam", Some(password("identity")));
    assert_eq!(answered(two).await, not_allowed);
    assert_eq!(callers.scene.upstream.seen().len(), before, "none of them was sent");

    let detail = etl(callers.get("/free")).send().await.unwrap().text().await.unwrap();
    assert!(detail.contains("its routes are /data;"), "only its own: {detail}");
    for seen in callers.scene.upstream.seen() {
        assert!(seen.header("x-api-key").is_empty(), "{}", seen.head);
    }
    for (caller, requests) in [("etl", 4.0), ("identity", 2.0), ("job", 2.0)] {
        eventually(caller, async || callers.requests_of(caller).await == requests).await;
    }
    let (_, status) = callers.scene.sidecar.probe("/status").await;
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["callers"][0]["name"], "etl");
    assert_eq!(status["callers"][0]["requests"]["good"], 1);
    let (_, page) = callers.scene.sidecar.probe("/").await;
    assert!(page.contains("<code>identity</code>"), "{page}");
}

#[tokio::test]
async fn a_batch_of_a_caller_has_the_rights_of_the_caller() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| written(folder.path(), name, key(name));
    let callers = format!(
        "
  reads: {{ api_key_file: {}, methods: [GET, POST] }}
  writes: {{ api_key_file: {} }}
  narrow: {{ api_key_file: {}, routes: [/loose] }}
  scim: {{ api_key_file: {}, routes: [/users] }}
  scim-deletes: {{ api_key_file: {}, routes: [/users], methods: [POST, DELETE] }}",
        file("reads"),
        file("writes"),
        file("narrow"),
        file("scim"),
        file("scim-deletes"),
    );
    let scene = Scene::with(|config| {
        config.key("callers", callers).route("/loose", "profile", "transport").route(
            "/loose",
            "unchecked_batches",
            true,
        )
    })
    .await;
    let bulk = |caller: &str, path: &str, part: &str| {
        let operation = format!(r#"{{"Operations":[{{"method":"{part}","path":"/Users/1"}}]}}"#);
        let request = http().post(format!("{}{path}", scene.sidecar.url)).body(operation);
        answered(
            request
                .header("x-api-key", key(caller))
                .header("content-type", "application/scim+json"),
        )
    };
    assert_eq!(bulk("writes", "/users/Bulk", "DELETE").await.0, 200);
    let refused = (403, "batch_refused".to_owned());
    assert_eq!(bulk("reads", "/users/Bulk", "DELETE").await, refused);
    assert_eq!(bulk("reads", "/users/Bulk", "GET").await.0, 200);
    // A path that a server may read as one of a route that the caller may not use.
    let absolute = async |caller: &str| {
        let operation = r#"{"Operations":[{"method":"DELETE","path":"/loose/x"}]}"#;
        let request = http().post(format!("{}/users/Bulk", scene.sidecar.url)).body(operation);
        let request = request.header("content-type", "application/scim+json");
        answered(request.header("x-api-key", key(caller))).await
    };
    for caller in ["writes", "scim", "scim-deletes"] {
        assert_eq!(absolute(caller).await, refused, "{caller}");
    }
    // A batch that nobody checks would leave the caller's routes.
    assert_eq!(bulk("writes", "/loose/Bulk", "DELETE").await.0, 200);
    assert_eq!(bulk("reads", "/loose/Bulk", "DELETE").await, refused);
    let batch = http().post(format!("{}/loose/$batch", scene.sidecar.url));
    let batch = batch.header("content-type", "application/json");
    let batch = batch.body(r#"{"requests":[{"id":"1","method":"GET","url":"/users/1"}]}"#);
    let narrow = |batch: RequestBuilder| answered(batch.header("x-api-key", key("narrow")));
    assert_eq!(narrow(batch.try_clone().unwrap()).await, refused);
    assert_eq!(answered(batch.header("x-api-key", key("writes"))).await.0, 200);
}

#[tokio::test]
async fn a_caller_beyond_its_limits_waits_and_takes_nothing_from_others() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let more = format!(
        "
  slow: {{ api_key_file: {}, limits: {{ requests: 2 }} }}
  rare: {{ api_key_file: {}, limits: {{ rate: 3/h }} }}",
        written(folder, "slow", key("slow")),
        written(folder, "rare", key("rare")),
    );
    let callers = CallersScene::with(&more).await;
    let of = |caller: &str| callers.get("/free").header("x-api-key", key(caller));
    let statuses = join_all((0..5).map(|_| answered(of("rare")))).await;
    let limited = (429, "caller_limited".to_owned());
    assert_eq!(statuses.iter().filter(|status| **status == limited).count(), 2, "{statuses:?}");
    let answer = of("rare").send().await.unwrap();
    let wait: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1_000..=1_200).contains(&wait), "{wait}");
    let detail = answer.text().await.unwrap();
    assert!(
        detail.contains(
            "caller rare has reached its limit of 3/h requests (`callers.rare.limits.rate`)"
        ),
        "{detail}"
    );

    // The upstream answers late.
    callers.scene.upstream.always("/free/held", Behaviour::Hang);
    let held = || tokio::spawn(callers.get("/free/held").header("x-api-key", key("slow")).send());
    let holding = [held(), held()];
    eventually("both are held", async || {
        let seen = callers.scene.upstream.seen();
        seen.iter().filter(|seen| seen.line().contains("held")).count() == 2
    })
    .await;
    assert_eq!(answered(of("slow")).await, limited);
    assert_eq!(answered(of("job")).await.0, 200);
    holding.iter().for_each(tokio::task::JoinHandle::abort);
    eventually("room again", async || answered(of("slow")).await.0 == 200).await;
}

#[tokio::test]
async fn keys_change_under_load_without_a_lost_request_and_a_shared_one_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| written(folder.path(), name, key(name));
    let callers = format!(
        "{{ etl: {{ api_key_file: {} }}, job: {{ api_key_file: {} }} }}",
        file("etl"),
        file("job")
    );
    let scene = Scene::process(|config| config.key("callers", callers)).await;
    let status = async |client: &Client, key: &str| {
        let request = client.get(format!("{}/free", scene.sidecar.url)).header("x-api-key", key);
        request.send().await.unwrap().status().as_u16()
    };
    let keys: Vec<_> = (0..20).map(|index| key(&format!("generation-{index}"))).collect();
    let (current, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    // The key that each task uses: the old one goes only when none uses it any more.
    let used: Vec<_> = (0..4).map(|_| AtomicUsize::new(0)).collect();
    let put = |text: &str| {
        let new = folder.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, folder.path().join("etl")).unwrap();
    };
    put(&keys[0]);
    eventually("the first", async || status(&http(), &keys[0]).await == 200).await;
    let load = async |used: &AtomicUsize| {
        let client = http();
        let mut sent = 0;
        while !stop.load(Ordering::Relaxed) {
            used.store(current.load(Ordering::SeqCst), Ordering::SeqCst);
            let key = &keys[used.load(Ordering::SeqCst)];
            assert_eq!(status(&client, key).await, 200, "{key}");
            sent += 1;
        }
        sent
    };
    let rotate = async || {
        for pair in keys.windows(2) {
            // The new key beside the old one, then the tools, then the old one goes.
            put(&format!("{}\n{}", pair[0], pair[1]));
            eventually("taken", async || status(&http(), &pair[1]).await == 200).await;
            let now = current.fetch_add(1, Ordering::SeqCst) + 1;
            eventually("the tools have the new one", async || {
                used.iter().all(|used| used.load(Ordering::SeqCst) == now)
            })
            .await;
        }
        stop.store(true, Ordering::Relaxed);
    };
    let loads = join_all(used.iter().map(load));
    let (sent, ()) = tokio::join!(loads, rotate());
    assert!(sent.iter().all(|sent| *sent > 0), "{sent:?}");
    let last = keys.last().unwrap();
    put(last);
    eventually("the old one is gone", async || status(&http(), &keys[18]).await == 403).await;

    // Another caller's key: neither caller is taken for the other.
    put(&key("job"));
    let complaint = "callers.etl and callers.job have the same key";
    eventually("refused", async || scene.sidecar.probe("/readyz").await.1.contains(complaint))
        .await;
    assert_eq!(status(&http(), last).await, 200, "the last good one stays");
    for (bad, why) in [
        ("short", "fewer than 32 characters"),
        ("sha256:1234", "64 hexadecimal digits"),
        (&*format!("{0}\n{0}\n{0}", keys[0]), "more than two lines"),
    ] {
        put(bad);
        eventually(why, async || scene.sidecar.probe("/readyz").await.1.contains(why)).await;
        assert_eq!(status(&http(), last).await, 200);
    }
    let short = folder.path().join("short");
    std::fs::write(&short, "x\n").unwrap();
    let short = std::fs::File::open(short).unwrap();
    let ended = output(bearerd().args(["key", "--digest"]).stdin(short)).await;
    let error = String::from_utf8(ended.stderr).unwrap();
    assert!(error.contains("standard input holds a key of fewer than 32"), "{error}");
    // A digest lets the key itself stay with the tool.
    let digest =
        output(bearerd().args(["key", "--digest"]).stdin(std::fs::File::open(file("k")).unwrap()))
            .await;
    put(&String::from_utf8(digest.stdout).unwrap());
    eventually("by digest", async || status(&http(), &key("k")).await == 200).await;
    assert_eq!(scene.sidecar.probe("/readyz").await.1, "ready\n");
    assert!(!scene.sidecar.log().contains("-a-key-of-"), "no key in the log");
}

#[tokio::test]
async fn a_caller_is_known_by_its_certificate_and_by_its_user_id() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let ca = authority.write_pem(folder.path());
    let more = format!(", client_ca_file: {ca}, client_certificate: optional");
    let tls = authority.listener(folder.path(), &more);
    let socket = folder.path().join("bearerd.sock");
    let uid = rustix::process::getuid().as_raw();
    let callers = format!(
        "
  partner: {{ certificate: {{ san_uri: \"spiffe://corp/partner\" }} }}
  host: {{ certificate: {{ san_dns: Host.Corp }} }}
  nightly: {{ uids: [{uid}] }}
  etl: {{ api_key_file: {} }}",
        written(folder.path(), "etl", key("etl"))
    );
    let listen = format!("[{{ address: 127.0.0.1:0, tls: {tls} }}, \"unix:{}\"]", socket.display());
    let scene =
        DemoScene::process(|config| config.key("listen", listen).key("callers", callers)).await;
    let request = |headers: &str| {
        format!("GET {SALES} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n")
    };
    let with = |name: Option<fn(&mut CertificateParams)>| {
        authority.connector(name.map(|change| (&authority, change)))
    };
    let over_tls = async |certificate, headers: &str| {
        let stream = TcpStream::connect(scene.sidecar.host()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = with(certificate).connect(name, stream).await.unwrap();
        stream.write_all(request(headers).as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("in time");
        String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap().to_owned()
    };
    let uri: fn(&mut CertificateParams) = |params| {
        params.subject_alt_names = vec![SanType::URI("spiffe://corp/partner".try_into().unwrap())];
    };
    let dns: fn(&mut CertificateParams) = |params| {
        params.subject_alt_names = vec![SanType::DnsName("HOST.corp".try_into().unwrap())];
    };
    let both: fn(&mut CertificateParams) = |params| {
        params.subject_alt_names = vec![
            SanType::URI("spiffe://corp/partner".try_into().unwrap()),
            SanType::DnsName("host.corp".try_into().unwrap()),
        ];
    };
    let last: fn(&mut CertificateParams) = |params| {
        let name = |index| SanType::DnsName(format!("host-{index}.corp").try_into().unwrap());
        params.subject_alt_names = (1..=64).map(name).collect();
        params.subject_alt_names.push(SanType::DnsName("host.corp".try_into().unwrap()));
    };
    let other: fn(&mut CertificateParams) = |params| {
        params.subject_alt_names =
            vec![SanType::URI("spiffe://corp/partner/x".try_into().unwrap())];
    };
    let etl = format!("X-Api-Key: {}\r\n", key("etl"));
    assert_eq!(over_tls(Some(uri), "").await, "200");
    assert_eq!(over_tls(Some(dns), "").await, "200");
    // Without a user name or password there is no challenge, so it is a 403.
    assert_eq!(over_tls(Some(other), "").await, "403");
    assert_eq!(over_tls(None, "").await, "403");
    assert_eq!(over_tls(Some(last), "").await, "403", "the 65th name");
    assert_eq!(over_tls(None, &etl).await, "200");
    assert_eq!(over_tls(Some(both), "").await, "403", "two callers");
    assert_eq!(over_tls(Some(uri), &etl).await, "403", "two callers");

    let mut stream = UnixStream::connect(&socket).await.unwrap();
    stream.write_all(request("").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for (caller, requests) in [("partner", 1.0), ("host", 1.0), ("nightly", 1.0), ("etl", 1.0)] {
        let series = format!(
            "bearerd_caller_requests_total{{caller=\"{caller}\",code_class=\"2xx\",outcome=\"forwarded\"}}"
        );
        eventually(caller, async || scene.sidecar.metric(&series).await == requests).await;
    }
    scene.sidecar.logged("\"caller\":\"nightly\"").await;
}

#[tokio::test]
async fn a_reload_changes_rights_on_kept_connections_and_forgets_no_limit() {
    let folder = tempfile::tempdir().unwrap();
    let (etl, uses) = (written(folder.path(), "etl", key("etl")), Duration::from_secs(60));
    let caller = |routes: &str| {
        format!("{{ etl: {{ api_key_file: {etl}, routes: {routes}, limits: {{ rate: 4/h }} }} }}")
    };
    let (issuer, upstream) = (issuer::steady().await, Peer::start(Behaviour::ok("fine")).await);
    let config = |routes: &str| {
        let config = issuer.configuration(&upstream.url()).key("callers", caller(routes));
        written(folder.path(), "bearerd.yaml", config.to_string())
    };
    let process = Process::start_with_file(folder.path(), Path::new(&config("[/data]"))).await;
    process.wait_until_ready().await;
    let client = http_builder().pool_idle_timeout(uses).build().unwrap();
    let status = async |path: &str| {
        let request = client.get(format!("{}{path}", process.url));
        request.header("x-api-key", key("etl")).send().await.unwrap().status().as_u16()
    };
    assert_eq!((status("/data").await, status("/free").await), (200, 403));
    config("[/free]");
    // Refused requests are not counted.
    eventually("the new rights", async || status("/free").await == 200).await;
    assert_eq!(status("/data").await, 403);
    for expected in [200, 200, 429] {
        assert_eq!(status("/free").await, expected);
    }
    // A file that is half written is noticed, and opens no door.
    let half = format!("{{ etl: {{ api_key_file: {etl} }} }}");
    let half = issuer.configuration(&upstream.url()).key("callers", half);
    written(folder.path(), "bearerd.yaml", half.to_string());
    process.logged("Caller etl has no `routes` any more, so it may use all of them.").await;
    let open = issuer.configuration(&upstream.url()).to_string();
    written(folder.path(), "bearerd.yaml", open);
    process.logged("asks callers for no credential any more").await;
    let stranger = http_builder().build().unwrap().get(format!("{}/free", process.url));
    assert_eq!(stranger.send().await.unwrap().status(), 403);
}

#[tokio::test]
async fn check_prints_who_may_do_what_and_refuses_two_callers_with_one_key() {
    let folder = tempfile::tempdir().unwrap();
    let (etl, other) =
        (written(folder.path(), "etl", key("etl")), written(folder.path(), "other", key("other")));
    let pass = written(folder.path(), "password", "a-local-password");
    let upstream = Peer::start(Behaviour::ok("")).await;
    let check = async |callers: String| {
        let access = format!("{{ basic: {{ username: tool, password_file: {pass} }} }}");
        let config = issuer::steady().await.configuration(&upstream.url());
        let config = config.key("callers", callers).key("access", access);
        let file = written(folder.path(), "bearerd.yaml", config.to_string());
        let ended = output(bearerd().args(["check", "--config", &file])).await;
        (
            ended.status.success(),
            String::from_utf8(ended.stdout).unwrap() + &String::from_utf8(ended.stderr).unwrap(),
        )
    };
    let (is_valid, text) = check(format!(
        "{{ etl: {{ api_key_file: {etl}, routes: [/data], methods: [GET, HEAD], limits: {{ requests: 8, rate: 600/min }} }}, job: {{ api_key_file: {other} }} }}"
    ))
    .await;
    assert!(is_valid, "{text}");
    for line in [
        "Callers (requests of anyone else are refused):",
        "  etl, by API key; at most 8 requests at once, 600/min requests\n    /data   as c: GET, HEAD, and POST on …/$query\n  job, by API key\n",
        "    /users  as c: GET, HEAD, POST, PUT, PATCH, DELETE\n",
        "  the caller of access, by HTTP Basic as tool\n    all routes, as above\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let (is_valid, text) =
        check(format!("{{ one: {{ api_key_file: {etl} }}, two: {{ api_key_file: {etl} }} }}"))
            .await;
    assert!(!is_valid && text.contains("callers.one and callers.two have the same key"), "{text}");
}
