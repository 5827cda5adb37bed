//! Mistakes about the issuer and the tenant: their addresses, their TLS, their clocks.

use super::{Comparison, Edit, World, set};
use crate::support::eventually;
use crate::support::sidecar::Sidecar;
use crate::support::tls::{Authority, TlsUpstream};
use rcgen::{CertificateParams, SanType, date_time_ymd};

/// What `bearerd token` and `bearerd doctor` say of the issuer.
const ISSUER: [(&str, Edit, &str, &str); 9] = [
    (
        "wrong secret",
        |world, good| set(good, "client_secret_file", &world.write("other", "wrong")),
        "no token for client technical-user: the issuer refuses the client (401 Unauthorized, unauthorized: Bad credentials); check client_id and secret; a client that has expired (three months after its creation, unless set otherwise) gets a new secret when it is activated again (asked https://ISSUER/oauth/token as ID, with the secret in DIR/other, in the form body; `bearerd doctor` tries each step)",
        "client technical-user: token: the issuer refuses the client (401 Unauthorized, unauthorized: Bad credentials) -> check client_id and secret; a client that has expired (three months after its creation, unless set otherwise) gets a new secret when it is activated again\nroutes of technical-user: call: 13 routes were not tried, because there is no token",
    ),
    (
        "token URL without its path",
        |world, good| {
            set(good, "token_url", &world.fixture.tenant.token_url().replace("/oauth/token", ""))
        },
        "no token for client technical-user: the server of token_url answered 404 Not Found: it is no token endpoint; the token URL has no path; add /oauth/token to it (asked https://ISSUER/ as ID, with the secret in DIR/secret, in the form body; `bearerd doctor` tries each step)",
        "client technical-user: credential: the token URL has no path -> add /oauth/token to it\nclient technical-user: token: the server of token_url answered 404 Not Found: it is no token endpoint -> the token URL has no path; add /oauth/token to it\nroutes of technical-user: call: 13 routes were not tried, because there is no token",
    ),
    (
        "token URL of the login",
        |world, good| {
            set(
                good,
                "token_url",
                &world.fixture.tenant.token_url().replace("/token", "/authorize"),
            )
        },
        "no token for client technical-user: the server of token_url answered 405 Method Not Allowed: it is no token endpoint; the token URL is the one for logins; write /oauth/token instead of /oauth/authorize (asked https://ISSUER/oauth/authorize as ID, with the secret in DIR/secret, in the form body; `bearerd doctor` tries each step)",
        "client technical-user: credential: the token URL is the one for logins -> write /oauth/token instead of /oauth/authorize\nclient technical-user: token: the server of token_url answered 405 Method Not Allowed: it is no token endpoint -> the token URL is the one for logins; write /oauth/token instead of /oauth/authorize\nroutes of technical-user: call: 13 routes were not tried, because there is no token",
    ),
    (
        "token URL with its path twice",
        |world, good| {
            set(good, "token_url", &format!("{}/oauth/token", world.fixture.tenant.token_url()))
        },
        "no token for client technical-user: the server of token_url answered 404 Not Found: it is no token endpoint; the token URL has /oauth/token twice, as one of SAP's pages prints it; keep the first one (asked https://ISSUER/oauth/token/oauth/token as ID, with the secret in DIR/secret, in the form body; `bearerd doctor` tries each step)",
        "client technical-user: credential: the token URL has /oauth/token twice, as one of SAP's pages prints it -> keep the first one\nclient technical-user: token: the server of token_url answered 404 Not Found: it is no token endpoint -> the token URL has /oauth/token twice, as one of SAP's pages prints it; keep the first one\nroutes of technical-user: call: 13 routes were not tried, because there is no token",
    ),
    (
        "http:// to the issuer's TLS port",
        |world, good| {
            set(good, "token_url", &world.fixture.tenant.token_url().replace("https", "http"))
        },
        "no token for client technical-user: the token endpoint did not answer in HTTP; if its port speaks TLS, write https:// in the URL (asked http://ISSUER/oauth/token as ID, with the secret in DIR/secret, in the form body; `bearerd doctor` tries each step)",
        "client technical-user: tls: ISSUER speaks TLS, but token_url begins with http:// -> write https:// in token_url\nroutes of technical-user: call: 13 routes were not tried, because there is no token",
    ),
    (
        "https:// to an issuer without TLS",
        |world, good| {
            set(good, "token_url", &world.fixture.tenant.control_url().replace("http", "https"))
        },
        "no token for client technical-user: the token endpoint does not speak TLS on this port; check host and port of the URL; if this server has no TLS, write http:// in the URL, and set allow_cleartext: true unless it is on this machine (asked https://CONTROL/ as ID, with the secret in DIR/secret, in the form body; `bearerd doctor` tries each step)",
        "client technical-user: credential: the token URL has no path -> add /oauth/token to it\nclient technical-user: tls: CONTROL does not speak TLS on this port -> check host and port of the URL; if this server has no TLS, write http:// in the URL, and set allow_cleartext: true unless it is on this machine\nroutes of technical-user: call: 13 routes were not tried, because there is no token",
    ),
    (
        "unknown issuer",
        |_, good| set(good, "token_url", "https://acme.authentication.invalid/oauth/token"),
        "no token for client technical-user: the token endpoint has no address: its host name is unknown; the first part of the host name must be the subaccount's subdomain; copy token_url from the tenant's App Integration page (asked https://acme.authentication.invalid/oauth/token as ID, with the secret in DIR/secret, in the form body; `bearerd doctor` tries each step)",
        "client technical-user: dns: acme.authentication.invalid has no address: its host name is unknown -> the first part of the host name must be the subaccount's subdomain; copy token_url from the tenant's App Integration page\nroutes of technical-user: call: 13 routes were not tried, because there is no token",
    ),
    (
        "issuer's port is closed",
        |_, good| set(good, "token_url", "https://127.0.0.1:1/oauth/token"),
        "no token for client technical-user: the token endpoint refuses connections; check host and port of the URL, and whether the server runs (asked https://127.0.0.1:1/oauth/token as ID, with the secret in DIR/secret, in the form body; `bearerd doctor` tries each step)",
        "client technical-user: tcp: 127.0.0.1:1 refuses connections -> check host and port of the URL, and whether the server runs\nroutes of technical-user: call: 13 routes were not tried, because there is no token",
    ),
    (
        "authority of the issuer is missing",
        |_, good| good.replacen("    ca_file", "    # ca_file", 1),
        "no token for client technical-user: the token endpoint has a certificate that is not trusted: its authority `bearerd demo CA` is not trusted here; if the authority is your company's (its proxy may inspect TLS), put its certificate into ca_file; if it is a public one, the server's operator has to add the intermediate certificate (asked https://ISSUER/oauth/token as ID, with the secret in DIR/secret, in the form body; `bearerd doctor` tries each step)",
        "client technical-user: tls: ISSUER has a certificate that is not trusted: its authority `bearerd demo CA` is not trusted here -> if the authority is your company's (its proxy may inspect TLS), put its certificate into ca_file; if it is a public one, the server's operator has to add the intermediate certificate\nroutes of technical-user: call: 13 routes were not tried, because there is no token",
    ),
];

/// What `bearerd doctor` and the answer to a caller say of the tenant.
const TENANT: [(&str, Edit, &str, &str); 5] = [
    (
        "http:// to the tenant's TLS port",
        |world, good| set(good, "url", &world.fixture.tenant.url().replace("https", "http")),
        "upstream datasphere: tls: TENANT speaks TLS, but url begins with http:// -> write https:// in url\nroutes to datasphere: call: 13 routes were not tried, because there is no connection",
        "502 TENANT (TENANT) did not answer in HTTP; if its port speaks TLS, write https:// in the URL",
    ),
    (
        "https:// to a tenant without TLS",
        |world, good| {
            set(good, "url", &world.fixture.tenant.control_url().replace("http", "https"))
        },
        "upstream datasphere: tls: CONTROL does not speak TLS on this port -> check host and port of the URL; if this server has no TLS, write http:// in the URL, and set allow_cleartext: true unless it is on this machine\nroutes to datasphere: call: 13 routes were not tried, because there is no connection",
        "502 CONTROL does not speak TLS on this port; check host and port of the URL; if this server has no TLS, write http:// in the URL, and set allow_cleartext: true unless it is on this machine",
    ),
    (
        "unknown tenant",
        |_, good| set(good, "url", "https://acme.eu10.hcs.invalid"),
        "upstream datasphere: dns: acme.eu10.hcs.invalid has no address: its host name is unknown -> check the spelling of the host name in the URL\nroutes to datasphere: call: 13 routes were not tried, because there is no connection",
        "502 acme.eu10.hcs.invalid has no address: its host name is unknown; check the spelling of the host name in the URL",
    ),
    (
        "tenant's port is closed",
        |_, good| set(good, "url", "https://127.0.0.1:1"),
        "upstream datasphere: tcp: 127.0.0.1:1 refuses connections -> check host and port of the URL, and whether the server runs\nroutes to datasphere: call: 13 routes were not tried, because there is no connection",
        "502 127.0.0.1:1 refuses connections; check host and port of the URL, and whether the server runs",
    ),
    (
        "authority of the tenant is missing",
        |_, good| without_ca(good),
        "upstream datasphere: tls: TENANT has a certificate that is not trusted: its authority `bearerd demo CA` is not trusted here -> if the authority is your company's (its proxy may inspect TLS), put its certificate into ca_file; if it is a public one, the server's operator has to add the intermediate certificate\nroutes to datasphere: call: 13 routes were not tried, because there is no connection",
        "502 TENANT (TENANT) has a certificate that is not trusted: its authority is not trusted here (`bearerd doctor` names it); if the authority is your company's (its proxy may inspect TLS), put its certificate into ca_file; if it is a public one, the server's operator has to add the intermediate certificate",
    ),
];

fn without_ca(good: &str) -> String {
    good[..good.rfind("    ca_file").unwrap()].to_owned()
}

#[tokio::test]
async fn each_mistake_about_the_issuer_has_its_message() {
    let world = World::start().await;
    let mut comparison = Comparison::default();
    for (mistake, edit, token, doctor) in ISSUER {
        let yaml = edit(&world, &world.good());
        comparison.compare(mistake, token, &world.token(&yaml).await);
        comparison.compare(mistake, doctor, &world.doctor(&yaml).await);
    }
    comparison.end();
}

#[tokio::test]
async fn each_mistake_about_the_tenant_has_its_message() {
    let world = World::start().await;
    let mut comparison = Comparison::default();
    for (mistake, edit, doctor, call) in TENANT {
        let yaml = edit(&world, &world.good());
        comparison.compare(mistake, doctor, &world.doctor(&yaml).await);
        comparison.compare(mistake, call, &world.called(&yaml).await);
    }
    comparison.end();
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_named_with_dates_and_names() {
    let mut world = World::start().await;
    let mut comparison = Comparison::default();
    let authority = Authority::new();
    let private = world.write("private.pem", &authority.pem);
    type Change = fn(&mut CertificateParams);
    let cases: [(&str, Change, &str, &str); 3] = [
        (
            "expired",
            |params| {
                params.not_before = date_time_ymd(2024, 1, 1);
                params.not_after = date_time_ymd(2025, 1, 31);
            },
            "upstream datasphere: tls: SERVER has a certificate that is not trusted: it was valid until 2025-01-31T00:00:00Z, and this machine's clock says NOW -> correct this machine's clock if it is wrong; otherwise the server's operator has to renew the certificate\nroutes to datasphere: call: 13 routes were not tried, because there is no connection",
            "502 SERVER (SERVER) has a certificate that is not trusted: it was valid until 2025-01-31T00:00:00Z, and this machine's clock says NOW; correct this machine's clock if it is wrong; otherwise the server's operator has to renew the certificate",
        ),
        (
            "not valid yet",
            |params| params.not_before = date_time_ymd(2099, 1, 1),
            "upstream datasphere: tls: SERVER has a certificate that is not trusted: it is valid from 2099-01-01T00:00:00Z, and this machine's clock says NOW -> correct this machine's clock if it is wrong; otherwise the server's operator has to replace the certificate\nroutes to datasphere: call: 13 routes were not tried, because there is no connection",
            "502 SERVER (SERVER) has a certificate that is not trusted: it is valid from 2099-01-01T00:00:00Z, and this machine's clock says NOW; correct this machine's clock if it is wrong; otherwise the server's operator has to replace the certificate",
        ),
        (
            "of another name",
            |params| {
                params.subject_alt_names =
                    vec![SanType::DnsName("other.example".try_into().unwrap())];
            },
            "upstream datasphere: tls: SERVER has a certificate that is not trusted: it is for other.example, not for localhost -> the certificate does not name the URL's host; check the URL\nroutes to datasphere: call: 13 routes were not tried, because there is no connection",
            "502 SERVER (SERVER) has a certificate that is not trusted: it is for other.example, not for localhost; the certificate does not name the URL's host; check the URL",
        ),
    ];
    for (mistake, change, doctor, call) in cases {
        let upstream = TlsUpstream::start(&authority, rustls::ALL_VERSIONS, None, change).await;
        let url = upstream.url();
        world.call(url.replace("https://", ""), "SERVER");
        world.call(url.replace("https://localhost", "127.0.0.1"), "SERVER");
        let yaml = without_ca(&set(&world.good(), "url", &url));
        let yaml = format!("{yaml}    ca_file: {private}\n");
        comparison.compare(mistake, doctor, &world.doctor(&yaml).await);
        comparison.compare(mistake, call, &world.called(&yaml).await);
    }
    comparison.end();
}

#[tokio::test]
async fn a_token_of_another_tenant_and_an_old_authority_are_reported() {
    let mut world = World::start().await;
    let other = World::start().await;
    let mut comparison = Comparison::default();
    // The issuer is the other tenant's.
    let yaml = set(&world.good(), "token_url", &other.fixture.tenant.token_url());
    let secret = world.write("other", other.fixture.tenant.client_secret());
    let both = format!("{}{}", world.fixture.tenant.ca_pem(), other.fixture.tenant.ca_pem());
    let both = world.write("both.pem", both);
    let yaml = set(&set(&yaml, "client_secret_file", &secret), "ca_file", &both);
    let yaml =
        format!("{yaml}routes: [{{ path: /api/v1/datasphere/consumption, profile: odata }}]\n");
    comparison.compare("two tenants", "route /api/v1/datasphere/consumption: call: GET /api/v1/datasphere/consumption/catalog/spaces: 401 Unauthorized in N ms -> the token may belong to another tenant or subaccount than the URL; check that token_url and url belong together", &world.doctor(&yaml).await);
    let sidecar = Sidecar::ready(&yaml).await;
    for _ in 0..3 {
        assert_eq!(sidecar.get("/api/v1/datasphere/consumption/x").await.status(), 401);
    }
    eventually("a complaint", async || sidecar.probe("/readyz").await.1.contains("401")).await;
    let ready = sidecar.probe("/readyz").await;
    assert_eq!(ready.0, 200);
    comparison.compare("two tenants, at work", "ready, degraded: requests to datasphere: 3 of 3 requests in the last 5 minutes failed (401 from the tenant); do token_url and url belong to the same tenant? `bearerd doctor` shows the token's zone", &world.named(&ready.1));

    let (authority, old) = (Authority::new(), Authority::ended(2024));
    let upstream = TlsUpstream::start(&authority, rustls::ALL_VERSIONS, None, |_| {}).await;
    let file = world.write("old.pem", format!("{}{}", authority.pem, old.pem));
    world.call(upstream.url(), "SERVER");
    let yaml = without_ca(&set(&world.good(), "url", &upstream.url()));
    let yaml =
        format!("{yaml}    ca_file: {file}\nroutes: [{{ path: /x, profile: passthrough }}]\n");
    comparison.compare("old authority", "authorities: ca_file: `CN=Old Authority` in DIR/old.pem ended on 2024-01-01 -> add the authority's new certificate", &world.doctor(&yaml).await);
    comparison.end();
}

impl World {
    /// The answer to a caller of a sidecar with this configuration.
    async fn called(&self, yaml: &str) -> String {
        let sidecar = Sidecar::ready(yaml).await;
        let answer = sidecar.get("/api/v1/datasphere/consumption/x").await;
        let status = answer.status().as_u16();
        let problem: serde_json::Value = answer.json().await.unwrap();
        self.named(&format!("{status} {}", problem["detail"].as_str().unwrap()))
    }
}
