//! Links: a link of the tenant that a caller follows leads through the sidecar.

mod compression;
mod responses;
mod tables;

use crate::support::configuration::Configuration;
use crate::support::issuer;
use crate::support::scene::{DemoScene, Scene, unchanged};
use crate::support::sidecar::Sidecar;
use crate::support::upstream::{Behaviour, Peer};
use crate::support::{eventually, http};
use bearerd::demo::{DemoFaults, NextLinks};
use responses::{gzip, json};
use serde_json::Value;
use std::collections::BTreeSet;
use url::Url;

const DIGESTS: [&str; 4] = ["content-md5", "digest", "content-digest", "repr-digest"];
const CONSUMPTION: &str = "/api/v1/datasphere/consumption";

/// A sidecar before an upstream whose responses are scripted.
async fn scripted() -> Scene {
    Scene::before(Peer::start(Behaviour::ok("")).await, unchanged).await
}

/// Follows a URL as a simple tool does: wherever it leads, without credentials.
async fn follow(url: &str) -> Value {
    let answer = http().get(url).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{url}");
    answer.json().await.unwrap()
}

#[tokio::test]
async fn next_links_are_followed_to_the_last_row_in_each_of_their_forms() {
    for next_links in [NextLinks::Absolute, NextLinks::AbsolutePath, NextLinks::Relative] {
        let DemoScene { fixture, sidecar } = &DemoScene::start().await;
        fixture.tenant.set_faults(DemoFaults { next_links, ..DemoFaults::default() });
        let start = format!("{}{CONSUMPTION}/relational/DEMO/SALES/SALES", sidecar.url);
        let mut next = Some(Url::parse(&start).unwrap());
        let (mut ids, mut rows, mut pages) = (BTreeSet::new(), 0, 0);
        while let Some(url) = next {
            assert!(url.as_str().starts_with(&sidecar.url), "{url}");
            let page = follow(url.as_str()).await;
            assert!(page["@odata.context"].as_str().unwrap().starts_with(&sidecar.url));
            for row in page["value"].as_array().unwrap() {
                ids.insert(row["ID"].as_i64().unwrap());
                rows += 1;
            }
            pages += 1;
            next = page["@odata.nextLink"].as_str().map(|link| url.join(link).unwrap());
        }
        assert_eq!((ids.len(), rows), (2500, 2500), "{next_links:?}");
        assert!(pages > 1);
        let series = format!(r#"bearerd_links_rewritten_total{{route="{CONSUMPTION}"}}"#);
        let next_ones = if next_links == NextLinks::Absolute { pages - 1 } else { 0 };
        let links = f64::from(pages + next_ones);
        eventually("counted", async || sidecar.metric(&series).await == links).await;
        let seen = fixture.tenant.seen().last_request.unwrap();
        let compressed = ("accept-encoding".to_owned(), "gzip".to_owned());
        assert!(seen.headers.contains(&compressed), "the upstream compresses");
    }
}

#[tokio::test]
async fn the_catalogs_urls_lead_to_the_rows() {
    let DemoScene { sidecar, .. } = &DemoScene::start().await;
    let assets = follow(&format!("{}{CONSUMPTION}/catalog/assets", sidecar.url)).await;
    let url = assets["value"][0]["assetRelationalDataUrl"].as_str().unwrap().to_owned();
    assert!(url.starts_with(&sidecar.url), "{url}");
    assert!(!follow(&url).await["value"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn a_created_user_is_read_at_its_location() {
    let DemoScene { sidecar, .. } = &DemoScene::start().await;
    let request = http().post(format!("{}/api/v1/scim2/Users", sidecar.url));
    let created = request.body(r#"{"userName":"ADA"}"#).send().await.unwrap();
    assert_eq!(created.status(), 201);
    let location = created.headers()["location"].to_str().unwrap().to_owned();
    assert!(location.starts_with(&sidecar.url), "{location}");
    assert_eq!(follow(&location).await["userName"], "ADA");
}

#[tokio::test]
async fn each_form_of_next_link_is_what_its_caller_needs_compressed_or_not() {
    let Scene { sidecar, upstream, .. } = &scripted().await;
    let (tenant, expected) = (upstream.url(), sidecar.url.clone());
    for (sent, expected) in [
        (format!("{tenant}/data/x?$skip=1"), format!("{expected}/data/x?$skip=1")),
        ("/data/x?$skip=1".to_owned(), "/data/x?$skip=1".to_owned()),
        ("x?$skip=1".to_owned(), "x?$skip=1".to_owned()),
    ] {
        let page = |link: &str| {
            format!(
                r#"{{ "value": [{{"Home":"{tenant}/business"}}] , "@odata.nextLink" : "{link}" }}"#
            )
        };
        upstream.script([
            json("", &page(&sent)),
            gzip("application/json;odata.metadata=full", &page(&sent)),
        ]);
        for _ in 0..2 {
            let answer = sidecar.get("/data/x").await;
            assert!(!answer.headers().contains_key("content-encoding"));
            assert_eq!(answer.text().await.unwrap(), page(&expected), "byte for byte otherwise");
        }
    }
    assert!(upstream.seen().iter().all(|seen| seen.header("accept-encoding") == ["gzip"]));
}

#[tokio::test]
async fn xml_is_rewritten_for_odata() {
    let Scene { sidecar, upstream, .. } = &scripted().await;
    let (tenant, expected) = (upstream.url(), sidecar.url.clone());
    let feed = |origin: &str| {
        format!(
            "<?xml version=\"1.0\"?><feed xml:base=\"{origin}/data/\"><id>{origin}/data/x</id>\
             <link rel='next' href='{origin}/data/x?p=2'/><title>{tenant}/x</title></feed>"
        )
    };
    let xml = "content-type: application/atom+xml;type=feed\r\n";
    upstream.script([issuer::status("200 OK", xml, &feed(&tenant))]);
    assert_eq!(sidecar.get("/data/x").await.text().await.unwrap(), feed(&expected));
}

#[tokio::test]
async fn other_bodies_and_routes_with_links_off_pass_byte_for_byte() {
    let issuer = issuer::steady().await;
    let upstream = Peer::start(Behaviour::ok("")).await;
    let config = issuer.configuration(&upstream.url());
    let config = config.route("/plain", "profile", "odata").route("/plain", "links", "off");
    let sidecar = Sidecar::ready(&config).await;
    let link = format!(r#"{{"@odata.nextLink":"{}/data/x"}}"#, upstream.url());
    for path in ["/plain/x", "/free/x"] {
        upstream.script([json("", &link)]);
        let request = http().get(format!("{}{path}", sidecar.url)).header("accept-encoding", "br");
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["content-length"], link.len().to_string());
        assert_eq!(answer.text().await.unwrap(), link, "{path}");
    }
    assert!(upstream.seen().iter().all(|seen| seen.header("accept-encoding") == ["br"]));
    let csv = issuer::status("200 OK", "content-type: text/csv\r\netag: \"v\"\r\n", &link);
    upstream.script([csv]);
    let answer = sidecar.get("/data/x").await;
    assert_eq!(answer.headers()["etag"], "\"v\"");
    assert_eq!(answer.text().await.unwrap(), link);
}

#[tokio::test]
async fn ranges_and_answers_without_a_body_pass() {
    let Scene { sidecar, upstream, .. } = &scripted().await;
    let link = format!(r#"{{"@odata.nextLink":"{}/data/x"}}"#, upstream.url());
    upstream.script([issuer::status(
        "206 Partial Content",
        "content-type: application/json\r\n",
        &link,
    )]);
    let request = http().get(format!("{}/data/x", sidecar.url)).header("range", "bytes=0-99");
    assert_eq!(request.send().await.unwrap().text().await.unwrap(), link);
    assert!(upstream.seen()[0].header("accept-encoding").is_empty());
    upstream.script([Behaviour::Answer(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 77\r\ncontent-md5: x\r\ndigest: md5=x\r\ncontent-digest: md5=:x:\r\nrepr-digest: md5=:x:\r\netag: \"v1\"\r\n\r\n"
            .into(),
    )]);
    let head = http().head(format!("{}/data/x", sidecar.url)).send().await.unwrap();
    assert!(!head.headers().contains_key("content-length"), "a GET would have none either");
    for name in DIGESTS {
        assert!(!head.headers().contains_key(name), "{name}: of bytes that a GET changes");
    }
    let tag = head.headers()["etag"].clone();
    assert!(tag.to_str().unwrap().starts_with("W/"), "the tag of the GET");
    for (tag, answered) in [(tag.to_str().unwrap(), tag.to_str().unwrap()), ("\"v1\"", "\"v1\"")] {
        upstream.script([Behaviour::Answer(
            "HTTP/1.1 304 Not Modified\r\netag: \"v1\"\r\ncontent-md5: x\r\n\r\n".into(),
        )]);
        let request = http().get(format!("{}/data/x", sidecar.url)).header("if-none-match", tag);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["etag"], answered);
        assert_eq!(answer.headers().contains_key("content-md5"), answered == "\"v1\"");
    }
    upstream.script([Behaviour::Answer("HTTP/1.1 204 No Content\r\n\r\n".into())]);
    assert_eq!(sidecar.get("/data/x").await.status(), 204);
    // The GET would pass this body unchanged, or inflate it.
    for (coding, accepted, is_changed) in
        [("br", "br", false), ("gzip", "gzip", false), ("gzip", "br", true)]
    {
        upstream.script([Behaviour::Answer(format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/csv\r\ncontent-encoding: {coding}\r\ncontent-length: 77\r\ncontent-md5: x\r\netag: \"v1\"\r\n\r\n"
        ))]);
        let request = http().head(format!("{}/data/x", sidecar.url));
        let head = request.header("accept-encoding", accepted).send().await.unwrap();
        for name in ["content-encoding", "content-length", "content-md5"] {
            assert_eq!(
                head.headers().contains_key(name),
                !is_changed,
                "{coding} {accepted}: {name}"
            );
        }
        assert_eq!(head.headers()["etag"] == "\"v1\"", !is_changed);
    }
}

#[tokio::test]
async fn an_entity_tag_survives_the_way_out_and_back() {
    let Scene { sidecar, upstream, .. } = &scripted().await;
    upstream.script([json("etag: \"v1\"\r\n", "{}")]);
    let tag = sidecar.get("/users/x").await.headers()["etag"].clone();
    assert!(tag.to_str().unwrap().starts_with("W/"), "the bytes may have changed");
    let request = http().put(format!("{}/users/x", sidecar.url)).header("if-match", tag);
    request.body("{}").send().await.unwrap();
    assert_eq!(upstream.seen().last().unwrap().header("if-match"), ["\"v1\""]);
}

#[tokio::test]
async fn a_stripped_path_comes_back_and_another_upstream_is_reached_by_its_route() {
    let issuer = issuer::steady().await;
    let (tenant, transports) =
        (Peer::start(Behaviour::ok("")).await, Peer::start(Behaviour::ok("")).await);
    let config = Configuration::new()
        .add_client("c")
        .client("token_url", format!("\"{}\"", issuer.url()))
        .client("client_id", "i")
        .client("client_secret", "s")
        .add_upstream("tenant")
        .upstream("url", tenant.url())
        .add_upstream("transports")
        .upstream("url", transports.url())
        .route("/data", "profile", "odata")
        .route("/data", "upstream", "tenant")
        .route("/ctm", "profile", "cloud-transport")
        .route("/ctm", "upstream", "transports")
        .route("/ctm", "strip_path", true);
    let sidecar = Sidecar::ready(&config).await;
    let location = async |peer: &Peer, path: &str, sent: &str| {
        peer.script([issuer::status("302 Found", &format!("location: {sent}\r\n"), "")]);
        let answer = sidecar.get(path).await;
        answer.headers()["location"].to_str().unwrap().replace(&sidecar.url, "US")
    };
    let far = format!("{}/v2/nodes", transports.url());
    assert_eq!(location(&transports, "/ctm/v2/x", &far).await, "US/ctm/v2/nodes");
    assert_eq!(location(&transports, "/ctm/v2/x", "/v2/nodes").await, "/ctm/v2/nodes");
    assert_eq!(location(&tenant, "/data/x", &far).await, "US/ctm/v2/nodes");
    assert_eq!(location(&tenant, "/data/x", "/data/y").await, "/data/y");
    let unknown = "https://elsewhere.example/x";
    assert_eq!(location(&tenant, "/data/x", unknown).await, unknown);
    let body = format!(r#"{{"@odata.id":"{far}","a@odata.navigationLink":"/v2/nodes"}}"#);
    transports.script([json("", &body)]);
    let text = sidecar.get("/ctm/v2/x").await.text().await.unwrap();
    let expected = r#"{"@odata.id":"US/ctm/v2/nodes","a@odata.navigationLink":"/ctm/v2/nodes"}"#;
    assert_eq!(text.replace(&sidecar.url, "US"), expected);
}

#[tokio::test]
async fn the_urls_that_a_service_behind_tls_termination_gives_itself_lead_through_the_sidecar() {
    let Scene { sidecar, upstream, .. } = &scripted().await;
    let port = upstream.address.port();
    for (sent, is_rewritten) in [
        (format!("https://127.0.0.1:{port}/data/x"), true),
        (format!("HTTP://127.0.0.1.:{port}/data/x"), true),
        (format!("//127.0.0.1:{port}/data/x"), true),
        ("http://127.0.0.1/data/x".to_owned(), false),
        ("https://127.0.0.1:443/data/x".to_owned(), false),
        (format!("http://u@127.0.0.1:{port}/data/x"), false),
    ] {
        upstream.script([json(
            &format!("location: {sent}\r\n"),
            &format!(r#"{{"@odata.nextLink":"{sent}"}}"#),
        )]);
        let answer = sidecar.get("/data/x").await;
        let expected = if is_rewritten { format!("{}/data/x", sidecar.url) } else { sent };
        assert_eq!(answer.headers()["location"], expected);
        assert_eq!(answer.json::<Value>().await.unwrap()["@odata.nextLink"], expected);
    }
}

#[tokio::test]
async fn the_sidecars_origin_is_the_one_that_the_caller_used() {
    let Scene { sidecar, upstream, .. } = &scripted().await;
    let port = sidecar.host().rsplit(':').next().unwrap();
    let link = format!(r#"{{"@odata.nextLink":"{}/data/x"}}"#, upstream.url());
    for (host, expected) in [
        (format!("localhost:{port}"), format!("http://localhost:{port}/data/x")),
        (format!("LocalHost:{port}"), format!("http://LocalHost:{port}/data/x")),
    ] {
        upstream.script([json("", &link)]);
        let request = http().get(format!("{}/data/x", sidecar.url)).header("host", host);
        let page: Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(page["@odata.nextLink"], expected);
    }
}

#[tokio::test]
async fn the_sidecars_urls_in_a_requests_headers_become_the_tenants() {
    let Scene { sidecar, upstream, .. } = &scripted().await;
    let expected = |path: &str| format!("{}{path}", sidecar.url);
    let send = async |path: &str, url: String| {
        let request = http().get(expected(path)).header("destination", &url);
        // A referer of another origin is refused: see the guard.
        let is_rewritten = url.starts_with(&sidecar.url);
        let request = if is_rewritten { request.header("referer", &url) } else { request };
        assert_eq!(request.send().await.unwrap().status(), 200);
        let seen = upstream.seen().pop().unwrap();
        if is_rewritten {
            assert_eq!(seen.header("destination"), seen.header("referer"));
        }
        seen.header("destination")[0].replace(&upstream.url(), "TENANT")
    };
    assert_eq!(send("/data/x", expected("/data/y?z")).await, "TENANT/data/y?z");
    assert_eq!(send("/users/x", expected("/users/Users/1")).await, "TENANT/Users/1");
    assert_eq!(
        send("/data/x", expected("/users/Users/1")).await,
        "TENANT/Users/1",
        "by its own route"
    );
    assert_eq!(send("/users/x", expected("/data/y")).await, "TENANT/data/y");
    assert_eq!(send("/users/x", "/users".to_owned()).await, "/");
    let other = "http://elsewhere.example/x";
    http().get(expected("/data/x")).header("destination", other).send().await.unwrap();
    assert_eq!(upstream.seen().pop().unwrap().header("destination"), [other]);
}

#[tokio::test]
async fn the_links_in_a_batchs_response_are_rewritten_in_both_forms() {
    let Scene { sidecar, upstream, .. } = &scripted().await;
    let (tenant, expected) = (upstream.url(), sidecar.url.clone());
    let part = |origin: &str| {
        format!(
            "--b\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 201 Created\r\nLocation: {origin}/data/1\r\nContent-Type: application/json\r\n\r\n{{\"@odata.id\":\"{origin}/data/1\"}}\r\n--b--\r\n"
        )
    };
    let json_batch = |origin: &str, tag: &str| {
        format!(
            r#"{{"responses":[{{"id":"1","status":201,"headers":{{"location":"{origin}/data/1","etag":"{tag}"}},"body":{{"@odata.id":"{origin}/data/1"}}}}]}}"#
        )
    };
    let kind = "content-type: multipart/mixed; boundary=b\r\n";
    let multipart = issuer::status("200 OK", kind, &part(&tenant));
    let compressed = gzip("multipart/mixed; boundary=b", &part(&tenant));
    upstream.script([multipart, compressed, json("", &json_batch(&tenant, r#"\"v\""#))]);
    let request = || http().post(format!("{expected}/data/$batch")).body(r#"{"requests":[]}"#);
    let post = async || request().header("content-type", "application/json").send().await.unwrap();
    for _ in 0..2 {
        assert_eq!(post().await.text().await.unwrap(), part(&expected));
    }
    let tag = r"W/\u0022v~bearerd\u0022";
    assert_eq!(post().await.text().await.unwrap(), json_batch(&expected, tag));
}

#[tokio::test]
async fn a_link_to_an_origin_of_two_upstreams_stays_with_its_own_client() {
    let issuer = issuer::steady().await;
    let upstream = Peer::start(Behaviour::ok("")).await;
    let tenant = upstream.url();
    let mut config = Configuration::new();
    for name in ["admin", "user"] {
        config = config
            .add_client(name)
            .client("token_url", format!("\"{}\"", issuer.url()))
            .client("client_id", "i")
            .client("client_secret", "s");
    }
    let config = config
        .add_upstream("big")
        .upstream("url", &tenant)
        .upstream("client", "admin")
        .add_upstream("small")
        .upstream("url", &tenant)
        .upstream("client", "user")
        .route("/adm", "profile", "odata")
        .route("/adm", "upstream", "big")
        .route("/adm", "strip_path", true)
        .route("/ro", "profile", "odata")
        .route("/ro", "upstream", "small");
    let sidecar = Sidecar::ready(&config).await;
    upstream.script([issuer::status("302 Found", &format!("location: {tenant}/ro/2\r\n"), "")]);
    let answer = sidecar.get("/ro/1").await;
    assert_eq!(answer.headers()["location"], format!("{}/ro/2", sidecar.url));
}
