//! `bearerd doctor` and `bearerd token`: their reports and advice, and secrets that they do not
//! print.

use crate::support::configuration::Configuration;
use crate::support::process::{bearerd, output};
use crate::support::sidecar::Sidecar;
use crate::support::{Fixture, eventually};
use bearerd::demo::{DemoFaults, IssuerFault, TenantFault};
use serde_json::Value;

/// The configuration of a fixture with two routes.
fn configuration(fixture: &Fixture) -> Configuration {
    fixture
        .configuration()
        .route("/api/v1/datasphere/consumption", "profile", "odata")
        .route("/mine", "profile", "passthrough")
        .route("/mine", "strip_path", true)
}

/// Runs a command with this configuration: exit code, standard output, standard error.
async fn run(
    fixture: &Fixture,
    config: &Configuration,
    arguments: &[&str],
) -> (i32, String, String) {
    let file = fixture.path("doctor.yaml");
    std::fs::write(&file, config.to_string()).unwrap();
    let mut command = bearerd();
    let ended = output(command.args(arguments).arg("--config").arg(&file)).await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(ended.stdout), text(ended.stderr));
    assert!(!out.contains(&fixture.tenant.client_secret()), "no secret: {out}");
    assert!(!err.contains(&fixture.tenant.client_secret()), "no secret: {err}");
    assert!(!err.contains("eyJ"), "no token: {err}");
    (ended.status.code().unwrap(), out, err)
}

/// The line of a check, and the line after it, which may be advice.
fn check<'a>(text: &'a str, subject: &str, check: &str) -> &'a str {
    let about =
        text.split_once(&format!("{subject}\n")).unwrap_or_else(|| panic!("{subject}: {text}")).1;
    let at = about.find(&format!(" {check} ")).unwrap_or_else(|| panic!("{check}: {text}"));
    let line = about[..at].rfind('\n').map_or(0, |line| line + 1);
    let end = about[at..].match_indices('\n').nth(1).map_or(about.len(), |(end, _)| at + end);
    &about[line..end]
}

#[tokio::test]
async fn a_healthy_setup_is_reported_step_by_step() {
    let fixture = Fixture::start().await;
    let config = configuration(&fixture).client("expires_on", "2099-01-01");
    let (code, out, _) = run(&fixture, &config, &["doctor"]).await;
    assert_eq!(code, 0, "{out}");
    let client = |name| check(&out, "client technical-user", name);
    assert!(client("credential").contains("the secret in "), "{out}");
    assert!(client("expiry").contains("days left"), "{out}");
    assert!(client("tls").contains("TLS 1.3, localhost (from bearerd demo CA)"), "{out}");
    assert!(client("token").contains("valid for 12h, client sb-"), "{out}");
    assert!(client("token").contains("scopes approuter-sac-demo"), "{out}");
    assert!(client("clock").contains("the issuer's clock is "), "{out}");
    assert!(check(&out, "upstream datasphere", "tls").starts_with("  ok"), "{out}");
    let odata = check(&out, "route /api/v1/datasphere/consumption", "call");
    assert!(odata.contains("consumption/catalog/spaces: 200 OK"), "{out}");
    assert!(
        check(&out, "route /mine", "call").starts_with("  reached  call        GET /: 404"),
        "{out}"
    );
    let last = out.trim_end().lines().last().unwrap();
    assert!(
        last.starts_with("All ")
            && last.contains("checks passed. Point tools at http://127.0.0.1:"),
        "{last}"
    );
    assert!(!out.contains("eyJ"), "no token: {out}");
    assert_eq!(fixture.tenant.seen().tokens_issued, 1);
    assert_eq!(fixture.tenant.seen().writes_executed, 0);
}

#[tokio::test]
async fn each_default_route_is_read_where_the_tenant_has_something() {
    let fixture = Fixture::start().await;
    let (code, out, _) = run(&fixture, &fixture.configuration(), &["doctor"]).await;
    assert_eq!(code, 0, "{out}");
    for (route, path) in [
        ("/api/v1/datasphere/consumption", "/api/v1/datasphere/consumption/catalog/spaces"),
        ("/api/v1/dwc", "/api/v1/dwc/catalog/spaces"),
        ("/dwaas-core/odata/v4/catalog", "/dwaas-core/odata/v4/catalog/spaces"),
        ("/api/v1/scim2", "/api/v1/scim2/ServiceProviderConfig"),
    ] {
        let call = check(&out, &format!("route {route}"), "call");
        assert!(call.contains(&format!("GET {path}: 200 OK")), "{call}");
    }
}

#[tokio::test]
async fn a_failed_check_comes_with_advice_and_exit_code_1() {
    let fixture = Fixture::start().await;
    let config = configuration(&fixture);
    std::fs::write(fixture.path("other"), "wrong+").unwrap();
    let secret = |path: &str| config.clone().client("client_secret_file", path);
    let issuer = |url: &str| config.clone().client("token_url", url);
    let other = fixture.path("other").display().to_string();
    let misnamed = fixture.tenant.token_url().replace("/oauth/token", "/token");
    for (config, name, problem, advice) in [
        (secret("/no/such/file"), "credential", "/no/such/file", "correct the path"),
        (secret(&other), "token", "401", "a client that has expired"),
        (
            secret(&other).client("client_auth", "basic"),
            "token",
            "Bad credentials",
            "basic-encoded",
        ),
        (
            config.clone().without_client_keys(&["ca_file"]),
            "tls",
            "its authority `bearerd demo CA` is not trusted here",
            "put its certificate into ca_file",
        ),
        (
            issuer("https://acme.authentication.invalid/oauth/token"),
            "dns",
            "acme.authentication.invalid",
            "the subaccount's subdomain",
        ),
        (
            issuer("https://127.0.0.1:1/oauth/token"),
            "tcp",
            "refuses connections",
            "host and port of the URL",
        ),
        (issuer(&misnamed), "token", "404", "must end in /oauth/token"),
    ] {
        let (code, out, err) = run(&fixture, &config, &["doctor"]).await;
        let about = check(&out, "client technical-user", name);
        assert!(about.contains("FAILED") && about.contains(problem), "{problem}: {out}");
        assert!(about.contains(advice), "{advice}: {out}");
        assert!(code == 1 && err.contains("checks failed"), "{err}");
        assert!(out.contains("2 routes were not tried, because there is no token"), "{out}");
        assert!(
            err.contains(&format!("the first one is `{name}` of client technical-user")),
            "{err}"
        );
    }
}

#[tokio::test]
async fn failures_of_the_issuer_and_of_the_api_are_distinguished() {
    let fixture = Fixture::start().await;
    let config = configuration(&fixture);
    let odata = "route /api/v1/datasphere/consumption";
    let token = "client technical-user";
    let good = DemoFaults::default;
    for (faults, subject, name, advice) in [
        (
            DemoFaults { issuer: IssuerFault::Html, ..good() },
            token,
            "token",
            "a login page or a proxy's page",
        ),
        (DemoFaults { issuer: IssuerFault::EmptyToken, ..good() }, token, "token", "has no rights"),
        (DemoFaults { tenant: TenantFault::LoginPage, ..good() }, odata, "call", "as to a browser"),
        (
            DemoFaults { tenant: TenantFault::LoginRedirect, ..good() },
            odata,
            "call",
            "as to a browser",
        ),
        (
            DemoFaults { tenant: TenantFault::RefuseAlways, ..good() },
            odata,
            "call",
            "another tenant",
        ),
        (
            DemoFaults { tenant: TenantFault::InternalError, ..good() },
            odata,
            "call",
            "the API failed",
        ),
    ] {
        fixture.tenant.set_faults(faults);
        let (code, out, _) = run(&fixture, &config, &["doctor"]).await;
        let about = check(&out, subject, name);
        assert!(code == 1 && about.contains(advice), "{advice}: {out}");
    }
}

#[tokio::test]
async fn the_report_is_available_as_json() {
    let fixture = Fixture::start().await;
    let config = configuration(&fixture);
    let (code, out, _) = run(&fixture, &config, &["doctor", "--json"]).await;
    let findings: Value = serde_json::from_str(&out).unwrap();
    let verdicts: Vec<_> =
        findings.as_array().unwrap().iter().map(|finding| &finding["verdict"]).collect();
    assert!(
        code == 0 && verdicts.len() > 8 && verdicts.iter().all(|v| *v == "ok" || *v == "reached"),
        "{out}"
    );

    let (code, out, _) = run(&fixture, &config, &["token", "--json"]).await;
    let token: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &token["lifetime_seconds"]), (0, &Value::from(43_200)));
    assert_eq!(token["client_id"], fixture.tenant.client_id());
}

#[tokio::test]
async fn a_token_is_printed_only_on_request() {
    let fixture = Fixture::start().await;
    let config = fixture.configuration();
    let (code, out, _) = run(&fixture, &config, &["token"]).await;
    assert!(
        code == 0 && out.contains("scopes    approuter-sac-demo") && !out.contains("eyJ"),
        "{out}"
    );
    let (code, raw, _) = run(&fixture, &config, &["token", "--raw"]).await;
    assert!(code == 0 && raw.starts_with("eyJ") && raw.matches('.').count() == 2, "{raw}");
    let (code, _, err) = run(&fixture, &config, &["token", "--client", "nobody"]).await;
    assert!(code == 1 && err.contains("choose one of: technical-user"), "{err}");
    fixture
        .tenant
        .set_faults(DemoFaults { issuer: IssuerFault::RefuseClient, ..DemoFaults::default() });
    let (code, _, err) = run(&fixture, &config, &["token"]).await;
    assert!(code == 1 && err.contains("the issuer refuses the client"), "{err}");
}

#[tokio::test]
async fn a_program_on_the_sidecars_port_is_found_and_a_sidecar_is_not_one() {
    let fixture = Fixture::start().await;
    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = other.local_addr().unwrap();
    let config = configuration(&fixture).key("listen", address);
    let (code, out, _) = run(&fixture, &config, &["doctor"]).await;
    let about = check(&out, "listener", "port");
    assert!(code == 1 && about.contains("another program listens"), "{out}");
    assert!(about.contains("CLI_HTTP_PORT"), "{out}");

    let sidecar = Sidecar::ready(&fixture.configuration()).await;
    let admin = sidecar.admin.strip_prefix("http://").unwrap();
    let config = config.key("admin", format!("{{ listen: \"{admin}\" }}"));
    let (code, out, _) = run(&fixture, &config, &["doctor"]).await;
    let about = check(&out, "listener", "sidecar");
    assert!(code == 0 && about.contains("one is running and ready"), "{out}");

    // The running one has a credential that the issuer refuses; the file is right again.
    std::fs::write(fixture.path("wrong"), "wrong").unwrap();
    let wrong = fixture.path("wrong").display().to_string();
    let refused = Sidecar::start(&fixture.configuration().client("client_secret_file", wrong));
    eventually("refused", async || refused.probe("/readyz").await.1.contains("refuses")).await;
    let admin = refused.admin.strip_prefix("http://").unwrap();
    let config = config.key("admin", format!("{{ listen: \"{admin}\" }}"));
    let (code, out, _) = run(&fixture, &config, &["doctor"]).await;
    let about = check(&out, "listener", "sidecar");
    assert!(code == 1 && about.contains("refuses") && about.contains("systemctl restart"), "{out}");
}

#[tokio::test]
async fn accidents_with_a_secret_are_named_and_not_shown() {
    let fixture = Fixture::start().await;
    let quoted = format!("\"{}\"", fixture.tenant.client_secret());
    std::fs::write(fixture.path("quoted"), &quoted).unwrap();
    let config =
        configuration(&fixture).client("client_secret_file", fixture.path("quoted").display());
    let (code, out, _) = run(&fixture, &config, &["doctor"]).await;
    assert!(
        code == 1
            && out.contains("-> the client secret is in quotes, which are sent, too; remove them"),
        "{out}"
    );
    let (code, out, _) = run(&fixture, &config, &["check"]).await;
    assert!(code == 0 && out.contains("warning: the client secret is in quotes"), "{out}");
}
