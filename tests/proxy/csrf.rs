//! CSRF tokens that the sidecar fetches for its callers, under both of the tenant's regimes.

use crate::support::issuer;
use crate::support::raw_client::RawClient;
use crate::support::scene::{DemoScene, Scene};
use crate::support::sidecar::Sidecar;
use crate::support::upstream::{Behaviour, Peer};
use crate::support::{DEADLINE, Fixture, USERS, eventually, http};
use bearerd::demo::{CsrfRegime, DemoFaults, Seen};
use futures_util::future::join_all;
use reqwest::StatusCode;

async fn demo(faults: DemoFaults) -> (Fixture, Sidecar) {
    let scene = DemoScene::with(faults).await;
    (scene.fixture, scene.sidecar)
}

/// Creates a user with this name without a CSRF token.
async fn create(http: &reqwest::Client, sidecar: &Sidecar, name: &str) -> reqwest::Response {
    let user = format!(r#"{{"userName":"{name}"}}"#);
    http.post(format!("{}{USERS}", sidecar.url)).body(user).send().await.unwrap()
}

fn counts(seen: &Seen) -> (u64, u64, u64) {
    (seen.csrf_fetches, seen.csrf_refused, seen.writes_executed)
}

#[tokio::test]
async fn writes_work_in_both_regimes_with_one_fetch() {
    for csrf in [CsrfRegime::Stateless, CsrfRegime::Session] {
        let (fixture, sidecar) = demo(DemoFaults { csrf, ..DemoFaults::default() }).await;
        let http = http();
        for number in 0..3 {
            let answer = create(&http, &sidecar, &format!("U{number}")).await;
            assert_eq!(answer.status(), 201);
            assert!(!answer.headers().contains_key("x-csrf-token"));
            assert!(!answer.headers().contains_key("set-cookie"));
        }
        assert_eq!(counts(&fixture.tenant.seen()), (1, 0, 3));
        let fetched = r#"bearerd_csrf_fetches_total{outcome="fetched",upstream="datasphere"}"#;
        assert_eq!(sidecar.metric(fetched).await, 1.0);
    }
}

#[tokio::test]
async fn a_tenant_that_wants_no_token_is_asked_once() {
    let (fixture, sidecar) =
        demo(DemoFaults { csrf: CsrfRegime::Off, ..DemoFaults::default() }).await;
    for number in 0..3 {
        assert_eq!(create(&http(), &sidecar, &format!("U{number}")).await.status(), 201);
    }
    assert_eq!(fixture.tenant.seen().tenant_requests, 4);
}

#[tokio::test]
async fn reads_cost_no_fetch_and_the_token_header_stays_inside() {
    let (fixture, sidecar) = demo(DemoFaults::default()).await;
    assert_eq!(sidecar.get(USERS).await.status(), 200);
    assert_eq!(fixture.tenant.seen().csrf_fetches, 0);
}

#[tokio::test]
async fn a_caller_with_a_csrf_token_of_its_own_is_left_alone() {
    let session = DemoFaults { csrf: CsrfRegime::Session, ..DemoFaults::default() };
    let (fixture, sidecar) = demo(session).await;
    let fetch = http().get(format!("{}/api/v1/csrf", sidecar.url)).header("x-csrf-token", "Fetch");
    let fetched = fetch.send().await.unwrap();
    let token = fetched.headers()["x-csrf-token"].clone();
    let cookies = fetched.headers().get_all("set-cookie").iter();
    let cookies: Vec<_> =
        cookies.map(|cookie| cookie.to_str().unwrap().split(';').next().unwrap()).collect();
    assert_eq!(cookies.len(), 2, "it gets the session's cookies");
    let write = async |token: &str, cookies: &str| {
        let request = http().post(format!("{}{USERS}", sidecar.url)).body(r#"{"userName":"A"}"#);
        request.header("x-csrf-token", token).header("cookie", cookies).send().await.unwrap()
    };
    assert_eq!(write(token.to_str().unwrap(), &cookies.join("; ")).await.status(), 201);
    let refused = write("stale", &cookies.join("; ")).await;
    assert_eq!(refused.status(), 403);
    assert_eq!(refused.headers()["x-csrf-token"], "Required", "it needs to see that");
    assert_eq!(counts(&fixture.tenant.seen()), (1, 1, 1));
}

#[tokio::test]
async fn a_token_that_is_not_accepted_any_more_is_fetched_anew_once() {
    let (fixture, sidecar) = demo(DemoFaults::default()).await;
    assert_eq!(create(&http(), &sidecar, "A").await.status(), 201);
    fixture.tenant.set_faults(DemoFaults { csrf_reject_next: 1, ..DemoFaults::default() });
    assert_eq!(create(&http(), &sidecar, "B").await.status(), 201);
    assert_eq!(counts(&fixture.tenant.seen()), (2, 1, 2));
    fixture.tenant.set_faults(DemoFaults { csrf_reject_next: 2, ..DemoFaults::default() });
    assert_eq!(create(&http(), &sidecar, "C").await.status(), 403, "at most one replay");
    assert_eq!(create(&http(), &sidecar, "C").await.status(), 201, "the next one works");
    assert_eq!(fixture.tenant.seen().writes_executed, 3);
}

#[tokio::test]
async fn a_write_that_cannot_be_sent_again_gets_the_refusal_and_the_next_one_a_token() {
    let (fixture, sidecar) =
        demo(DemoFaults { csrf_reject_next: 1, ..DemoFaults::default() }).await;
    let upload = async || {
        let request = http().post(format!("{}/api/v1/content/jobs", sidecar.url));
        request.body(vec![7; 100_000]).send().await.unwrap()
    };
    assert_eq!(upload().await.status(), 403);
    assert_eq!(upload().await.status(), 202);
    assert_eq!(fixture.tenant.seen().writes_executed, 1);
}

#[tokio::test]
async fn a_csrf_token_goes_with_its_access_token() {
    let (fixture, sidecar) = demo(DemoFaults { token_lifetime: 4, ..DemoFaults::default() }).await;
    assert_eq!(create(&http(), &sidecar, "A").await.status(), 201);
    eventually("refreshed", async || sidecar.metric("bearerd_token_generation").await >= 2.0).await;
    assert_eq!(create(&http(), &sidecar, "B").await.status(), 201);
    let (fetches, refused, writes) = counts(&fixture.tenant.seen());
    assert_eq!((fetches, refused, writes), (2, 0, 2));
}

#[tokio::test]
async fn two_hundred_writes_at_a_key_rotation_are_executed_once_each() {
    for csrf in [CsrfRegime::Stateless, CsrfRegime::Session] {
        let (fixture, sidecar) = demo(DemoFaults { csrf, ..DemoFaults::default() }).await;
        let http = http();
        assert_eq!(create(&http, &sidecar, "FIRST").await.status(), 201);
        fixture.tenant.rotate_keys();
        let writes = (0..200).map(|number| {
            let (http, sidecar) = (&http, &sidecar);
            async move { create(http, sidecar, &format!("U{number}")).await.status() }
        });
        let statuses = join_all(writes).await;
        assert!(statuses.iter().all(|status| *status == StatusCode::CREATED), "{statuses:?}");
        let seen = fixture.tenant.seen();
        assert_eq!(seen.writes_executed, 201);
        assert_eq!(seen.token_requests, 2, "one at start, one for all of them");
        assert!((2..=3).contains(&seen.csrf_fetches), "{}", seen.csrf_fetches);
    }
}

#[tokio::test]
async fn a_fetch_that_fails_lets_the_write_go_out_without() {
    let Scene { sidecar, upstream, .. } = &Scene::start().await;
    upstream.always("/api/v1/csrf", issuer::status("500 Trouble", "", "no"));
    let write =
        async || http().post(format!("{}/users/x", sidecar.url)).body("b").send().await.unwrap();
    for _ in 0..3 {
        assert_eq!(write().await.text().await.unwrap(), "fine");
    }
    let seen = upstream.seen();
    let fetches = seen.iter().filter(|seen| seen.line().contains("csrf")).count();
    assert_eq!((seen.len(), fetches), (4, 1), "it is not tried again at once");
    assert!(seen.iter().skip(1).all(|seen| seen.header("x-csrf-token").is_empty()));
    let refused = r#"bearerd_csrf_fetches_total{outcome="refused",upstream="u"}"#;
    assert_eq!(sidecar.metric(refused).await, 1.0);
}

/// A write to a route with managed CSRF.
async fn write(sidecar: &Sidecar) -> StatusCode {
    let request = http().post(format!("{}/users/x", sidecar.url)).body("b");
    request.send().await.unwrap().status()
}

/// The method and the CSRF token of each request that an upstream received.
fn order(upstream: &Peer) -> Vec<String> {
    let seen = upstream.seen();
    let shown = seen.iter().map(|seen| {
        let method = seen.line().split(' ').next().unwrap().to_owned();
        format!("{method} {}", seen.header("x-csrf-token").join(","))
    });
    shown.collect()
}

fn required() -> Behaviour {
    issuer::status("403 Forbidden", "x-csrf-token: Required\r\n", "")
}

fn csrf_token(token: &str) -> Behaviour {
    issuer::status("200 OK", &format!("x-csrf-token: {token}\r\n"), "")
}

#[tokio::test]
async fn after_a_fetch_that_failed_the_first_refusal_brings_a_token() {
    let Scene { sidecar, upstream, .. } = &Scene::start().await;
    let trouble = || issuer::status("503 Away", "", "");
    upstream.script([trouble(), required(), csrf_token("a"), Behaviour::ok("")]);
    assert_eq!(write(sidecar).await, 200);
    assert_eq!(order(upstream), ["GET fetch", "POST ", "GET fetch", "POST a"]);
    assert_eq!(write(sidecar).await, 200);
    assert_eq!(order(upstream)[4..], ["POST a"]);
}

#[tokio::test]
async fn while_fetches_fail_a_refusal_is_passed_on_and_the_write_is_not_sent_again() {
    let issuer = issuer::steady().await;
    let upstream = Peer::start(required()).await;
    upstream.always("/api/v1/csrf", issuer::status("503 Away", "", ""));
    let sidecar = Sidecar::ready(&issuer.configuration(&upstream.url())).await;
    assert_eq!(write(&sidecar).await, 403);
    assert_eq!(order(&upstream), ["GET fetch", "POST ", "GET fetch"]);
}

#[tokio::test]
async fn a_fetch_that_is_answered_with_an_error_and_a_token_counts() {
    for status in ["400 Bad", "403 Forbidden", "404 Not Found", "405 Not Allowed", "501 No"] {
        let issuer = issuer::steady().await;
        let upstream = Peer::start(Behaviour::ok("fine")).await;
        let answer = "x-csrf-token: abc\r\nset-cookie: s=1; Path=/; Secure\r\n";
        upstream.always("/api/v1/csrf", issuer::status(status, answer, "no"));
        let sidecar = Sidecar::ready(&issuer.configuration(&upstream.url())).await;
        for _ in 0..2 {
            assert_eq!(write(&sidecar).await, 200);
        }
        assert_eq!(order(&upstream), ["GET fetch", "POST abc", "POST abc"], "{status}");
        assert_eq!(upstream.seen()[1].header("cookie"), ["s=1"]);
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_sent_again_goes_out_with_a_session_that_was_just_asked_for() {
    for is_chunked in [false, true] {
        let (fixture, sidecar) = demo(DemoFaults::default()).await;
        assert_eq!(create(&http(), &sidecar, "A").await.status(), 201);
        // Tokens without a session are not accepted from now on.
        let session = DemoFaults { csrf: CsrfRegime::Session, ..DemoFaults::default() };
        fixture.tenant.set_faults(session);
        let chunks = std::iter::repeat_with(|| Ok::<_, std::io::Error>(vec![7; 10_000])).take(10);
        let body = match is_chunked {
            false => vec![7; 100_000].into(),
            true => reqwest::Body::wrap_stream(futures_util::stream::iter(chunks)),
        };
        let request = http().post(format!("{}/api/v1/content/jobs", sidecar.url)).body(body);
        assert_eq!(request.send().await.unwrap().status(), 202);
        assert_eq!(counts(&fixture.tenant.seen()), (2, 0, 2));
    }
}

#[tokio::test]
async fn a_session_is_checked_with_its_cookies_and_before_the_caller_gets_100_continue() {
    let Scene { sidecar, upstream, .. } = &Scene::start().await;
    let first = "x-csrf-token: a\r\nset-cookie: s=1; Path=/\r\nset-cookie: i=1\r\n";
    let next = "x-csrf-token: b\r\nset-cookie: s=2; Path=/\r\n";
    upstream.script([
        issuer::status("200 OK", first, ""),
        Behaviour::ok("small"),
        issuer::status("200 OK", next, ""),
    ]);
    assert_eq!(write(sidecar).await, 200);
    let mut caller = RawClient::connect(sidecar.host()).await;
    let head = format!("POST /users/x HTTP/1.1\r\nHost: {}\r\n", sidecar.host());
    caller.send(&format!("{head}Expect: 100-continue\r\nContent-Length: 70000\r\n\r\n")).await;
    eventually("the fetch", async || upstream.seen().len() == 3).await;
    caller.send(&"x".repeat(70_000)).await;
    assert!(caller.head().await.starts_with("HTTP/1.1 200"));
    assert_eq!(order(upstream), ["GET fetch", "POST a", "GET fetch", "POST b"]);
    let cookies: Vec<_> =
        upstream.seen().iter().map(|seen| seen.header("cookie").join("; ")).collect();
    assert_eq!(cookies, ["", "s=1; i=1", "s=1; i=1", "i=1; s=2"]);
}

#[tokio::test]
async fn a_session_whose_cookies_are_refused_is_replaced_by_a_new_one() {
    let Scene { sidecar, upstream, .. } = &Scene::start().await;
    let first = "x-csrf-token: a\r\nset-cookie: s=1\r\n";
    upstream.script([
        issuer::status("200 OK", first, ""),
        Behaviour::ok("small"),
        issuer::status("401 No", "", ""),
        csrf_token("b"),
    ]);
    assert_eq!(write(sidecar).await, 200);
    let upload = http().put(format!("{}/users/x", sidecar.url)).body(vec![7; 70_000]);
    assert_eq!(upload.send().await.unwrap().status(), 200);
    assert_eq!(order(upstream)[1..], ["POST a", "GET fetch", "GET fetch", "PUT b"]);
    assert_eq!(upstream.seen()[3].header("cookie"), [""; 0]);
}

#[tokio::test]
async fn a_batch_of_reads_that_is_refused_for_want_of_a_token_gets_one() {
    let Scene { sidecar, upstream, .. } = &Scene::start().await;
    upstream.script([required(), csrf_token("a")]);
    let part = "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n";
    let batch = format!("--b\r\n{part}GET Orders HTTP/1.1\r\n\r\n\r\n--b--\r\n");
    for _ in 0..2 {
        let request = http().post(format!("{}/data/$batch", sidecar.url)).body(batch.clone());
        let answer = request.header("content-type", "multipart/mixed; boundary=b").send().await;
        assert_eq!(answer.unwrap().text().await.unwrap(), "fine");
    }
    let expected = ["POST ", "GET fetch", "POST a", "POST a"];
    assert_eq!(order(upstream), expected, "once it has asked, a token is sent");
    upstream.script([issuer::status("200 OK", "set-cookie: a=b\r\n", "")]);
    let read = sidecar.get("/data/Orders").await;
    assert_eq!(read.headers()["set-cookie"], "a=b", "a read's cookies are its caller's");
    assert_eq!(order(upstream)[4..], ["GET "]);
}

/// A client with a cookie jar and a URL with a name: jars treat loopback addresses differently.
fn jar(sidecar: &Sidecar) -> (reqwest::Client, String) {
    let address: std::net::SocketAddr = sidecar.host().parse().unwrap();
    let jar = reqwest::Client::builder().no_proxy().cookie_store(true);
    let jar = jar.resolve("sidecar.test", address).timeout(DEADLINE).build().unwrap();
    (jar, format!("http://sidecar.test:{}", address.port()))
}

/// A value of `access` with the name that jars use.
const NAMED: &str = "{ hosts: [sidecar.test, 127.0.0.1] }";

#[tokio::test]
async fn a_caller_with_a_cookie_jar_keeps_a_csrf_session_over_plain_http() {
    let fixture = Fixture::start().await;
    fixture.tenant.set_faults(DemoFaults { csrf: CsrfRegime::Session, ..DemoFaults::default() });
    let sidecar = Sidecar::ready(&fixture.configuration().key("access", NAMED)).await;
    let (jar, url) = jar(&sidecar);
    let fetch = jar.get(format!("{url}/api/v1/csrf")).header("x-csrf-token", "fetch");
    let token = fetch.send().await.unwrap().headers()["x-csrf-token"].clone();
    for name in ["A", "B"] {
        let request = jar.post(format!("{url}{USERS}")).header("x-csrf-token", &token);
        let user = format!(r#"{{"userName":"{name}"}}"#);
        assert_eq!(request.body(user).send().await.unwrap().status(), 201);
    }
    assert_eq!(counts(&fixture.tenant.seen()), (1, 0, 2));
}

#[tokio::test]
async fn the_sidecars_session_replaces_the_callers_if_the_sidecar_sends_a_token() {
    let (fixture, sidecar) =
        demo(DemoFaults { csrf: CsrfRegime::Session, ..DemoFaults::default() }).await;
    for number in 0..2 {
        let request = http().post(format!("{}{USERS}", sidecar.url));
        let request = request.header("cookie", "JSESSIONID=of-a-read; a=b");
        let user = format!(r#"{{"userName":"U{number}"}}"#);
        assert_eq!(request.body(user).send().await.unwrap().status(), 201);
    }
    assert_eq!(counts(&fixture.tenant.seen()), (1, 0, 2));
}

#[tokio::test]
async fn a_jar_gives_each_cookie_back_as_the_upstream_named_it() {
    let issuer = issuer::steady().await;
    let upstream = Peer::start(Behaviour::ok("fine")).await;
    let config = issuer.configuration(&upstream.url()).key("access", NAMED);
    let config = config.route("/free", "links", "off").route("/free", "strip_path", true);
    let sidecar = Sidecar::ready(&config).await;
    let (jar, url) = jar(&sidecar);
    let cookies: String = [
        "__Host-a=1; Path=/; Secure; HttpOnly; SameSite=None; Partitioned",
        "__secure-b=2; Path=/; SECURE",
        "c=3; Domain=127.0.0.1; Path=/; Secure",
        "bearerd.d=4",
        "e=5; Path=/in; Secure",
    ]
    .map(|cookie| format!("set-cookie: {cookie}\r\n"))
    .concat();
    upstream.script([issuer::status("200 OK", &cookies, "")]);
    for _ in 0..2 {
        jar.get(format!("{url}/free/in/x")).send().await.unwrap();
    }
    let seen = upstream.seen();
    assert!(seen[0].header("cookie").is_empty());
    let [cookies] = seen[1].header("cookie")[..] else { panic!("{}", seen[1].head) };
    let mut cookies: Vec<_> = cookies.split("; ").collect();
    cookies.sort_unstable();
    assert_eq!(cookies, ["__Host-a=1", "__secure-b=2", "bearerd.d=4", "c=3", "e=5"]);
}

#[tokio::test]
async fn a_login_page_is_no_answer_to_a_fetch() {
    let Scene { sidecar, upstream, .. } = &Scene::start().await;
    let login = "content-type: text/html\r\nset-cookie: locationAfterLogin=x\r\n";
    upstream.always("/api/v1/csrf", issuer::status("200 OK", login, "<html>"));
    http().post(format!("{}/users/x", sidecar.url)).body("b").send().await.unwrap();
    assert!(upstream.seen()[1].header("cookie").is_empty());
    let refused = r#"bearerd_csrf_fetches_total{outcome="refused",upstream="u"}"#;
    assert_eq!(sidecar.metric(refused).await, 1.0);
}

#[tokio::test]
async fn the_fetch_is_what_sap_asks_for() {
    let issuer = issuer::steady().await;
    let upstream = Peer::start(Behaviour::ok("fine")).await;
    let answer = "x-csrf-token: abc\r\nset-cookie: s=1; Path=/\r\n";
    upstream.always("/my/csrf", issuer::status("200 OK", answer, ""));
    let config = issuer.configuration(&upstream.url()).upstream("csrf", "{ fetch_path: /my/csrf }");
    let sidecar = Sidecar::ready(&config).await;
    let request = http().post(format!("{}/users/x", sidecar.url)).header("cookie", "own=1");
    request.body("b").send().await.unwrap();
    let seen = upstream.seen();
    assert_eq!(seen[0].line(), "GET /my/csrf HTTP/1.1");
    assert_eq!(seen[0].header("authorization"), ["Bearer steady-token"]);
    assert_eq!(seen[0].header("x-csrf-token"), ["fetch"]);
    assert_eq!(seen[0].header("x-sap-sac-custom-auth"), ["true"]);
    assert_eq!(seen[1].header("x-csrf-token"), ["abc"]);
    assert_eq!(seen[1].header("cookie"), ["own=1; s=1"]);
}

#[tokio::test]
async fn it_can_be_switched_off() {
    let issuer = issuer::steady().await;
    let upstream = Peer::start(Behaviour::ok("fine")).await;
    let config = issuer.configuration(&upstream.url());
    let config = config.upstream("csrf", "{ managed: false }");
    let sidecar = Sidecar::ready(&config).await;
    upstream.script([issuer::status("200 OK", "set-cookie: a=b\r\n", "")]);
    let answer = http().post(format!("{}/users/x", sidecar.url)).send().await.unwrap();
    assert_eq!(answer.headers()["set-cookie"], "a=b", "cookies pass where nothing is managed");
    assert_eq!(upstream.seen().len(), 1);
}
