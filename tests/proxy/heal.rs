//! Healing: a token that is refused before its end is replaced, and the request is sent again once.

use crate::support::issuer::{self, token};
use crate::support::scene::Scene;
use crate::support::sidecar::Sidecar;
use crate::support::upstream::{Behaviour, Peer};
use crate::support::{Fixture, SALES, eventually, http};
use bearerd::demo::{DemoFaults, TenantFault};
use futures_util::future::join_all;
use std::time::SystemTime;

const LOGIN_PAGE: &str =
    "<html><script>location='https://acme.example/oauth/authorize?x'</script></html>";

/// A scene with an issuer whose tokens are `token-1`, `token-2` and so on. CSRF is switched off: it
/// has tests of its own.
async fn numbered() -> Scene {
    let issuer = issuer::steady().await;
    issuer.script((1..=9).map(|number| token(&format!("token-{number}"), 3600)));
    let upstream = Peer::start(Behaviour::ok("fine")).await;
    Scene::between(issuer, upstream, |config| {
        config.client("wait", "2s").upstream("csrf", "{ managed: false }")
    })
    .await
}

fn answer(status: &str, headers: &str, body: &str) -> Behaviour {
    issuer::status(status, headers, body)
}

fn unauthorized() -> Behaviour {
    answer("401 Unauthorized", "www-authenticate: Bearer\r\n", "no")
}

fn html(body: &str) -> Behaviour {
    answer("200 OK", "content-type: text/html;charset=utf-8\r\n", body)
}

/// The tokens of the requests that an upstream received.
fn tokens(upstream: &Peer) -> Vec<String> {
    let seen = upstream.seen();
    seen.iter().map(|seen| seen.header("authorization")[0].replace("Bearer ", "")).collect()
}

/// Waits until this many heals with this outcome are counted, which is after the response.
async fn healed(sidecar: &Sidecar, reason: &str, outcome: &str, count: f64) {
    let labels = format!(r#"{{client="c",outcome="{outcome}",reason="{reason}"}}"#);
    let series = format!("bearerd_token_heals_total{labels}");
    eventually(&series, async || sidecar.metric(&series).await == count).await;
}

#[tokio::test]
async fn a_request_with_a_refused_token_is_sent_again_with_a_new_one() {
    for (refusal, reason) in [
        (unauthorized(), "unauthorized"),
        (answer("403 Forbidden", "", "no"), "forbidden"),
        (
            answer("302 Found", "location: https://a.authentication.eu10.example/x\r\n", ""),
            "login_redirect",
        ),
        (answer("302 Found", "location: /oauth/authorize?x\r\n", ""), "login_redirect"),
        (html(LOGIN_PAGE), "login_page"),
        (
            answer(
                "200 OK",
                "content-type: text/html\r\nset-cookie: locationAfterLogin=x\r\n",
                "<html>",
            ),
            "login_page",
        ),
    ] {
        let Scene { sidecar, upstream, issuer, .. } = &numbered().await;
        upstream.script([refusal]);
        let answer = sidecar.get("/free").await;
        assert_eq!(answer.status(), 200, "{reason}");
        assert_eq!(answer.text().await.unwrap(), "fine", "{reason}");
        assert_eq!(tokens(upstream), ["token-1", "token-2"], "{reason}");
        assert_eq!(issuer.seen().len(), 2, "{reason}");
        healed(sidecar, reason, "healed", 1.0).await;
    }
}

#[tokio::test]
async fn requests_refused_at_once_cause_one_token_request() {
    let fixture = Fixture::start().await;
    let sidecar = Sidecar::ready(&fixture.configuration()).await;
    let http = http();
    fixture.tenant.rotate_keys();
    let requests = (0..100).map(|_| http.get(format!("{}{SALES}", sidecar.url)).send());
    for answer in join_all(requests).await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert_eq!(fixture.tenant.seen().token_requests, 2, "the first one and one more");
    assert_eq!(fixture.tenant.seen().accepted, 100);
}

#[tokio::test]
async fn a_body_that_is_held_is_sent_again_whole() {
    let Scene { sidecar, upstream, .. } = &numbered().await;
    upstream.script([unauthorized()]);
    let body = "x".repeat(64 * 1024);
    let answer = http()
        .post(format!("{}/users/Users", sidecar.url))
        .body(body.clone())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let seen = upstream.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|seen| seen.body == body.as_bytes()), "both whole");
}

#[tokio::test]
async fn a_request_that_cannot_be_sent_again_gets_the_refusal_and_the_next_one_a_new_token() {
    let Scene { sidecar, upstream, .. } = &numbered().await;
    upstream.script([unauthorized()]);
    let body = "x".repeat(64 * 1024 + 1);
    let answer =
        http().post(format!("{}/users/Users", sidecar.url)).body(body).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    assert_eq!(answer.headers()["www-authenticate"], "Bearer", "as it came");
    eventually("refreshed", async || sidecar.metric("bearerd_token_generation").await == 2.0).await;
    assert_eq!(sidecar.get("/free").await.status(), 200);
    assert_eq!(tokens(upstream), ["token-1", "token-2"]);
    healed(sidecar, "unauthorized", "not_replayable", 1.0).await;
}

#[tokio::test]
async fn a_post_on_an_undocumented_api_is_never_sent_twice() {
    let Scene { sidecar, upstream, .. } = &numbered().await;
    upstream.script([unauthorized()]);
    let answer = http().post(format!("{}/free", sidecar.url)).body("run").send().await.unwrap();
    assert_eq!(answer.status(), 401);
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn a_fresh_token_that_is_refused_too_stops_healing_for_half_a_minute() {
    let Scene { sidecar, upstream, issuer, .. } = &numbered().await;
    upstream.script(std::iter::repeat_with(unauthorized).take(40));
    let answer = sidecar.get("/free").await;
    assert_eq!(answer.status(), 401);
    assert_eq!(answer.text().await.unwrap(), "no", "the upstream's own answer");
    healed(sidecar, "unauthorized", "refused_again", 1.0).await;
    for _ in 0..20 {
        assert_eq!(sidecar.get("/free").await.status(), 401);
    }
    assert_eq!(issuer.seen().len(), 2, "no more requests to the issuer");
    assert_eq!(upstream.seen().len(), 22, "and no replays");
    healed(sidecar, "unauthorized", "no_token", 20.0).await;
}

#[tokio::test]
async fn tokens_that_are_revoked_one_after_the_other_are_healed_each() {
    let fixture = Fixture::start().await;
    let sidecar = Sidecar::ready(&fixture.configuration()).await;
    for token_requests in 2..6 {
        fixture.tenant.rotate_keys();
        assert_eq!(sidecar.get(SALES).await.status(), 200);
        assert_eq!(fixture.tenant.seen().token_requests, token_requests);
    }
}

#[tokio::test]
async fn a_path_that_always_says_401_keeps_no_other_route_from_healing() {
    for method in ["GET", "POST"] {
        let Scene { sidecar, upstream, issuer, .. } = &numbered().await;
        upstream.always("/free/bad", unauthorized());
        assert_eq!(sidecar.get("/data/x").await.status(), 200);
        for _ in 0..10 {
            let url = format!("{}/free/bad", sidecar.url);
            let request = http().request(method.parse().unwrap(), url);
            assert_eq!(request.send().await.unwrap().status(), 401);
            // A POST is not sent again on this route. The next one has the newer token.
            let renewed = async || sidecar.metric("bearerd_token_generation").await == 2.0;
            eventually("the newer token", renewed).await;
        }
        assert_eq!(issuer.seen().len(), 2, "{method}");
        upstream.script([unauthorized()]);
        assert_eq!(sidecar.get("/data/x").await.status(), 200, "{method}");
        assert_eq!(issuer.seen().len(), 3, "{method}");
    }
}

#[tokio::test]
async fn routes_that_never_worked_leave_token_requests_for_those_that_did() {
    let issuer = issuer::steady().await;
    let upstream = Peer::start(Behaviour::ok("fine")).await;
    upstream.always("/bad", unauthorized());
    let config = issuer.configuration(&upstream.url()).client("wait", "60s");
    let config = (0..25).fold(config, |config, number| {
        config.route(&format!("/bad{number}"), "profile", "passthrough")
    });
    let sidecar = Sidecar::ready(&config).await;
    assert_eq!(sidecar.get("/data/x").await.status(), 200);
    for number in 0..25 {
        let answer = sidecar.get(&format!("/bad{number}")).await;
        assert_eq!(answer.status(), 401, "no request waits for a token that will not come");
    }
    assert_eq!(issuer.seen().len(), 10);
    upstream.script([unauthorized()]);
    assert_eq!(sidecar.get("/data/x").await.status(), 200);
    assert_eq!(issuer.seen().len(), 11);
}

#[tokio::test]
async fn a_missing_permission_costs_one_token_request_and_no_more() {
    let Scene { sidecar, upstream, issuer, .. } = &numbered().await;
    upstream.script(std::iter::repeat_with(|| answer("403 Forbidden", "", "no")).take(40));
    for _ in 0..10 {
        assert_eq!(sidecar.get("/free").await.status(), 403);
    }
    assert_eq!(issuer.seen().len(), 2);
}

#[tokio::test]
async fn a_403_about_csrf_does_not_refuse_the_token() {
    let Scene { sidecar, upstream, issuer, .. } = &numbered().await;
    upstream.script([answer("403 Forbidden", "X-CSRF-Token: Required\r\n", "no")]);
    let answer = sidecar.get("/free").await;
    assert_eq!(answer.status(), 403);
    assert_eq!((issuer.seen().len(), upstream.seen().len()), (1, 1));
}

#[tokio::test]
async fn while_the_issuer_is_down_the_refusal_passes_through() {
    let issuer = Peer::start(issuer::status("503 Away", "", "")).await;
    issuer.script([token("token-1", 3600)]);
    let upstream = Peer::start(Behaviour::ok("fine")).await;
    upstream.script([unauthorized()]);
    let sidecar =
        Sidecar::ready(&issuer.configuration(&upstream.url()).client("wait", "300ms")).await;
    assert_eq!(sidecar.get("/free").await.status(), 401);
    assert_eq!(sidecar.get("/free").await.status(), 200, "the token may still be good for others");
}

#[tokio::test]
async fn a_login_page_that_stays_is_reported_and_never_passed_on() {
    let Scene { sidecar, upstream, .. } = &numbered().await;
    upstream.script(std::iter::repeat_with(|| html(LOGIN_PAGE)).take(2));
    upstream.script(
        std::iter::repeat_with(|| answer("302 Found", "location: /oauth/authorize\r\n", ""))
            .take(1),
    );
    for _ in 0..2 {
        let answer = sidecar.get("/free").await;
        assert_eq!(answer.status(), 502);
        let text = answer.text().await.unwrap();
        assert!(
            text.contains(r#""kind":"login_page""#) && !text.contains("oauth/authorize"),
            "{text}"
        );
    }
    assert_eq!(upstream.seen().len(), 3);
}

#[tokio::test]
async fn a_login_page_is_recognized_when_its_body_comes_later_and_in_pieces() {
    let Scene { sidecar, upstream, .. } = &numbered().await;
    let header = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\r\n",
        LOGIN_PAGE.len()
    );
    let (first, rest) = LOGIN_PAGE.split_at(30);
    upstream.script([Behaviour::InPieces(vec![header, first.into(), rest.into()])]);
    let answer = sidecar.get("/free").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.text().await.unwrap(), "fine");
    assert_eq!(tokens(upstream), ["token-1", "token-2"]);
}

#[tokio::test]
async fn html_that_is_no_login_page_passes_whole() {
    let Scene { sidecar, upstream, issuer, .. } = &numbered().await;
    let page = format!("<html>{}</html>", "A report. ".repeat(2000));
    for body in [page.as_str(), "<html>short</html>"] {
        let before = upstream.seen().len();
        upstream.script([html(body), html(body)]);
        let answer = sidecar.get("/free").await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-length"], body.len().to_string());
        assert_eq!(answer.text().await.unwrap(), body);
        assert_eq!(upstream.seen().len(), before + 2, "checked, then passed on");
    }
    upstream.script([html("")]);
    assert_eq!(sidecar.get("/free").await.text().await.unwrap(), "", "there is nothing to check");
    let chunked = |body: &str| {
        let head =
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ntransfer-encoding: chunked\r\n\r\n";
        Behaviour::Answer(format!("{head}{body}0\r\n\r\n"))
    };
    for (body, text) in [("", ""), ("3\r\nabc\r\n", "abc")] {
        upstream.script([chunked(body), chunked(body)]);
        assert_eq!(sidecar.get("/free").await.text().await.unwrap(), text);
    }
    assert_eq!(issuer.seen().len(), 1, "no token was refreshed for it");
}

#[tokio::test]
async fn a_login_page_is_recognized_whatever_its_caller_accepts_and_whatever_its_type() {
    let java = "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2";
    for (accept, status, content_type) in [
        (java, "200 OK", "text/html"),
        ("text/html", "200 OK", "text/html;charset=utf-8"),
        ("application/xhtml+xml", "200 OK", "application/xhtml+xml"),
        ("text/html", "203 Changed", "text/html"),
    ] {
        let Scene { sidecar, upstream, .. } = &numbered().await;
        upstream.script([answer(status, &format!("content-type: {content_type}\r\n"), LOGIN_PAGE)]);
        let request = http().get(format!("{}/free", sidecar.url)).header("accept", accept);
        assert_eq!(request.send().await.unwrap().text().await.unwrap(), "fine", "{accept}");
        assert_eq!(tokens(upstream), ["token-1", "token-2"]);
        healed(sidecar, "login_page", "healed", 1.0).await;
    }
}

#[tokio::test]
async fn a_route_that_serves_html_passes_pages_as_they_come() {
    let (issuer, upstream) = (issuer::steady().await, Peer::start(html(LOGIN_PAGE)).await);
    let config = issuer.configuration(&upstream.url()).route("/free", "html", "on");
    let sidecar = Sidecar::ready(&config).await;
    assert_eq!(sidecar.get("/free").await.text().await.unwrap(), LOGIN_PAGE);
    assert_eq!(upstream.seen().len(), 1);
    assert_eq!(sidecar.get("/data").await.status(), 502, "other routes do not");
}

#[tokio::test]
async fn a_login_page_that_may_be_an_answer_goes_out_as_a_part_at_most() {
    let untyped = || answer("200 OK", "", LOGIN_PAGE);
    let late = || {
        let length = LOGIN_PAGE.len();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        Behaviour::InPieces(vec![head, LOGIN_PAGE.into()])
    };
    let large = "x".repeat(70_000);
    for (method, path, body, page) in [
        ("POST", "/free", "b", html(LOGIN_PAGE)),
        ("POST", "/users", "b", html(LOGIN_PAGE)),
        ("POST", "/users", "b", untyped()),
        ("GET", "/free", "", untyped()),
        ("GET", "/free", "", late()),
        ("GET", "/free", &large, html(LOGIN_PAGE)),
    ] {
        let Scene { sidecar, upstream, .. } = &numbered().await;
        upstream.script([page]);
        let request = http().request(method.parse().unwrap(), format!("{}{path}", sidecar.url));
        let answer = request.body(body.to_owned()).send().await.unwrap();
        if let Ok(text) = answer.text().await {
            assert!(text == "fine" || text.contains(r#""kind":"login_page""#), "{method}: {text}");
        }
        let renewed = async || sidecar.metric("bearerd_token_generation").await == 2.0;
        eventually("a new token", renewed).await;
        assert_eq!(sidecar.get("/free").await.text().await.unwrap(), "fine");
        assert_eq!(tokens(upstream).last().unwrap(), "token-2", "{method} {path}");
    }
}

#[tokio::test]
async fn a_compressed_page_is_requested_again_uncompressed_before_it_is_checked() {
    let Scene { sidecar, upstream, .. } = &numbered().await;
    let gzip = "content-type: text/html\r\ncontent-encoding: gzip\r\n";
    upstream.script([answer("200 OK", gzip, "\u{1}\u{2}"), html(LOGIN_PAGE)]);
    let request = http().get(format!("{}/free", sidecar.url)).header("accept-encoding", "gzip");
    assert_eq!(request.send().await.unwrap().text().await.unwrap(), "fine");
    let seen = upstream.seen();
    let asked: Vec<_> = seen.iter().map(|seen| seen.header("accept-encoding")).collect();
    assert_eq!(asked, [vec!["gzip"], vec![], vec!["gzip"]]);
    // A page that is still compressed can't be checked, and passes.
    upstream.script(std::iter::repeat_with(|| answer("200 OK", gzip, "\u{1}\u{2}")).take(2));
    let request = http().get(format!("{}/free", sidecar.url)).header("accept-encoding", "gzip");
    assert_eq!(request.send().await.unwrap().text().await.unwrap(), "\u{1}\u{2}");
}

#[tokio::test]
async fn an_upload_that_could_not_be_sent_again_gets_a_token_that_lasts() {
    let issuer = Peer::start(token("token-2", 3600)).await;
    issuer.script([token("token-1", 10)]);
    let upstream = Peer::start(Behaviour::ok("fine")).await;
    let config =
        issuer.configuration(&upstream.url()).client("refresh_at", 0.9).client("wait", "2s");
    let sidecar = Sidecar::ready(&config).await;
    let upload = async |size: usize| {
        let request = http().put(format!("{}/free", sidecar.url)).body("x".repeat(size));
        assert_eq!(request.send().await.unwrap().status(), 200);
    };
    upload(100_000).await;
    eventually("past the half of its life", async || {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        now.as_secs_f64() - sidecar.metric("bearerd_token_issued_timestamp_seconds").await > 5.0
    })
    .await;
    upload(10).await;
    upload(100_000).await;
    assert_eq!(tokens(&upstream), ["token-1", "token-1", "token-2"]);
}

#[tokio::test]
async fn a_token_whose_scopes_are_out_of_date_is_replaced() {
    let fixture = Fixture::start().await;
    let sidecar = Sidecar::ready(&fixture.configuration()).await;
    assert_eq!(sidecar.get(SALES).await.status(), 200);
    fixture
        .tenant
        .set_faults(DemoFaults { tenant: TenantFault::ScopesChanged, ..DemoFaults::default() });
    assert_eq!(sidecar.get(SALES).await.status(), 200);
    assert_eq!(fixture.tenant.seen().token_requests, 2);
}

#[tokio::test]
async fn the_tenants_login_page_is_healed_whenever_its_body_comes() {
    for login_page_delay_ms in [0, 100] {
        let fixture = Fixture::start().await;
        let sidecar = Sidecar::ready(&fixture.configuration().client("wait", "1s")).await;
        let tenant = TenantFault::LoginPage;
        fixture.tenant.set_faults(DemoFaults {
            tenant,
            login_page_delay_ms,
            ..DemoFaults::default()
        });
        let answer = sidecar.get(SALES).await;
        assert_eq!(answer.status(), 502, "the page stays, so it is reported");
        assert!(answer.text().await.unwrap().contains(r#""kind":"login_page""#));
        assert_eq!(fixture.tenant.seen().token_requests, 2, "after a heal");
        fixture.tenant.set_faults(DemoFaults::default());
        assert_eq!(sidecar.get(SALES).await.status(), 200);
    }
}

#[tokio::test]
async fn a_page_that_comes_slowly_is_passed_on_after_a_while() {
    let Scene { sidecar, upstream, .. } = &numbered().await;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 200\r\n\r\n";
    let trickle = (0..200).map(|_| "x".to_owned());
    upstream.script([Behaviour::InPieces(std::iter::once(head.into()).chain(trickle).collect())]);
    upstream.script([html("<html>whole</html>")]);
    assert_eq!(sidecar.get("/free").await.text().await.unwrap(), "<html>whole</html>");
}

#[tokio::test]
async fn a_page_in_response_to_a_large_body_is_not_checked() {
    let Scene { sidecar, upstream, .. } = &numbered().await;
    upstream.script([html("<html>x</html>")]);
    let request = http().get(format!("{}/free", sidecar.url)).body("x".repeat(70_000));
    assert_eq!(request.send().await.unwrap().text().await.unwrap(), "<html>x</html>");
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn an_empty_page_leaves_the_connection_in_order() {
    let Scene { sidecar, upstream, .. } = &numbered().await;
    upstream.script([Behaviour::Answer(
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 00\r\n\r\n".into(),
    )]);
    let http = http();
    for expected in ["", "fine"] {
        let answer = http.get(format!("{}/free", sidecar.url)).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_replay_without_a_response_is_counted_as_unanswered() {
    let Scene { sidecar, upstream, .. } = &numbered().await;
    upstream.script([unauthorized(), Behaviour::AnswerAndClose(String::new())]);
    let put = http().put(format!("{}/free", sidecar.url)).body("x").send().await.unwrap();
    assert_eq!(put.status(), 502);
    healed(sidecar, "unauthorized", "unanswered", 1.0).await;
}

#[tokio::test]
async fn a_denied_permission_does_not_wait_for_an_issuer_in_trouble() {
    let issuer = Peer::start(issuer::status("503 Away", "", "")).await;
    issuer.script([token("token-1", 10)]);
    let upstream = Peer::start(answer("403 Forbidden", "", "no")).await;
    let config =
        issuer.configuration(&upstream.url()).client("refresh_at", 0.1).client("wait", "60s");
    let sidecar = Sidecar::ready(&config).await;
    eventually("degraded", async || sidecar.probe("/readyz").await.1.contains("degraded")).await;
    // The test's client gives up before the minute that a wait would take.
    assert_eq!(sidecar.get("/free").await.status(), 403);
}
