//! Rules of the configuration, by the messages that a user reads.

use bearerd::config::{self, Config, Faults, Flags};
use bearerd::credential::{CredentialSource, ProofSource, SecretAuth};
use bearerd::environment::Environment;
use proptest::prelude::*;
use std::time::Duration;

const MINIMAL: &str = "
clients:
  technical-user: { token_url: 'https://i.example/oauth/token', client_id: id, client_secret: s3cret }
upstreams:
  datasphere: { url: 'https://t.example' }
";

fn parse(text: &str) -> Result<Config, Faults> {
    config::parse("b.yaml", text, &Environment::default(), &Flags::default()).resolve()
}

/// The faults, one a line.
fn faults(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn the_defaults_are_those_of_the_reference() {
    let config = parse(MINIMAL).unwrap();
    assert_eq!(config.listen[0].to_string(), "127.0.0.1:8080");
    assert_eq!(config.admin.address.to_string(), "127.0.0.1:8081");
    assert_eq!(config.workers, 1);
    let client = &config.clients[0];
    let CredentialSource::Parts { proof, .. } = &client.source else {
        panic!("{:?}", client.source)
    };
    assert!(matches!(proof, ProofSource::Secret(SecretAuth::Post, _)));
    assert_eq!((client.refresh_at, client.wait), (0.5, Duration::from_secs(5)));
    let times = config.upstreams[0].timeouts;
    let seconds = [times.connect, times.read, times.write, times.idle].map(|time| time.as_secs());
    assert_eq!(seconds, [5, 300, 60, 50]);
    assert_eq!(config.shutdown.grace, Duration::from_secs(25));
    let paths: Vec<_> = config.routes.iter().map(|route| route.path.as_str()).collect();
    assert!(paths.contains(&"/api/v1/scim2") && paths.contains(&"/dwaas-core"), "{paths:?}");
    assert!(!paths.contains(&"/v2"), "cloud-transport has no default route");
}

#[test]
fn keys_without_effect_are_refused() {
    let text = faults(
        "clients:
  a: { token_url: http://127.0.0.1:9/token, client_id: id, client_secret: s3cret, min_tls: 1.3 }
upstreams:
  u: { url: http://127.0.0.1:9, http2: true }
routes:
  - { path: /a, profile: scim, methods: [POST], retry: { attempts: 2 } }
",
    );
    let expected = [
        "b.yaml:2:92: clients.a.min_tls: is for https",
        "upstreams.u.http2: is for https",
        "routes[0].retry: is for GET and HEAD",
    ];
    for part in expected {
        assert!(text.contains(part), "{part}\n---\n{text}");
    }
    assert_eq!(text.lines().count(), expected.len(), "{text}");
    assert!(
        parse(&MINIMAL.replace("'https://t.example'", "'http://127.0.0.1:9', http2: false"))
            .is_ok()
    );
}

#[test]
fn all_faults_are_reported_at_once_with_line_column_path_and_advice() {
    let text = faults(
        "listen: 0.0.0.0:8080
clients:
  a:
    token_url: http://i.example/token
    clientid: id
    wait: 5
    refresh_at: 2
upstreams:
  u: { url: https://t.example/api, client: b, timeouts: { connect: never } }
routes:
  - { path: scim, profile: skim, methods: [GET, BREW] }
log: { level: loud }
",
    );
    let expected = [
        "b.yaml:1:9: listen: 0.0.0.0:8080 is not a loopback address",
        "b.yaml:4:16: clients.a.token_url: is http://",
        "b.yaml:5:5: clients.a.clientid: unknown key `clientid`; did you mean `client_id`?",
        "b.yaml:6:11: clients.a.wait: `5` is not a duration with a unit",
        "b.yaml:7:17: clients.a.refresh_at: `2` is not a fraction",
        "upstreams.u.url: has a path",
        "upstreams.u.client: unknown client `b`; known: a",
        "upstreams.u.timeouts.connect: `never` is not a duration",
        "routes[0].path: `scim` must begin with `/`",
        "routes[0].profile: unknown profile `skim`; did you mean `scim`?",
        "routes[0].methods: unknown method `BREW`",
        "log.level: unknown level `loud`",
        "clients.a.client_id: missing",
        "clients.a.client_secret_file: missing",
    ];
    for part in expected {
        assert!(text.contains(part), "{part}\n---\n{text}");
    }
    let lines: Vec<u32> = text
        .lines()
        .filter_map(|line| line.strip_prefix("b.yaml:")?.split(':').next()?.parse().ok())
        .collect();
    assert!(lines.is_sorted(), "in the order of the text: {text}");
}

#[test]
fn tls_of_a_listener_never_vanishes_in_silence() {
    let with = |listener: &str| format!("listen: [{listener}]\n{MINIMAL}");
    for (listener, fault) in [
        ("{ address: 127.0.0.1:8443, tls: }", "listen[0].tls: is empty"),
        (
            "{ address: 127.0.0.1:8443, tls: { certificate_file: /c, private_key_file: /k, client_ca_file: } }",
            "listen[0].tls.client_ca_file: is empty",
        ),
        (
            "{ address: unix:/b.sock, tls: { certificate_file: /c, private_key_file: /k } }",
            "listen[0].tls: is for TCP",
        ),
    ] {
        let faults = faults(&with(listener));
        assert!(faults.contains(fault), "{fault}: {faults}");
    }
    let tls =
        with("{ address: 127.0.0.1:8443, tls: { certificate_file: /c, private_key_file: /k } }");
    let flags = Flags { listen: Some("127.0.0.1:9443".to_owned()), ..Flags::default() };
    let parsed = config::parse("b.yaml", &tls, &Environment::default(), &flags);
    let faults = parsed.resolve().unwrap_err().to_string();
    assert!(faults.contains("would replace a listener with `tls`"), "{faults}");
}

#[test]
fn an_invalid_proxy_or_tls_setting_is_reported_without_its_password() {
    let client = |keys: &str| MINIMAL.replace("client_id: id", &format!("client_id: id, {keys}"));
    let upstream = |keys: &str| {
        MINIMAL.replace("'https://t.example'", &format!("'https://t.example', {keys}"))
    };
    for keys in ["proxy: 'http://u:s3cret@p:1'", "proxy: off", "min_tls: 1.3"] {
        parse(&client(keys)).unwrap();
        parse(&upstream(keys)).unwrap();
    }
    for (text, fault) in [
        (client("proxy: 'https://u:s3cret@p:1'"), "proxy: asks for TLS to the proxy itself"),
        (upstream("proxy: 'socks5://u:s3cret@p:1'"), "proxy: has the scheme `socks5`"),
        (upstream("proxy: ''"), "proxy: is not a URL"),
        (
            client("proxy_credentials_file: /p"),
            "proxy_credentials_file: has no effect without a proxy",
        ),
        (client("proxy: off, proxy_credentials_file: /p"), "has no effect without a proxy"),
        (
            client("proxy: 'http://u:s3cret@p:1', proxy_credentials_file: /p"),
            "the proxy's URL holds a user name or password; keep",
        ),
        (
            upstream("proxy: 'http://p:1'").replace("'https://t.example'", "'http://127.0.0.1:1'"),
            "proxy: would see the cleartext",
        ),
        (upstream("min_tls: 1.1"), "min_tls: `1.1` is not 1.2 or 1.3"),
        (upstream("certificate_file: /c"), "private_key_file: missing; certificate_file needs it"),
        (upstream("private_key_file: /k"), "certificate_file: missing; private_key_file needs it"),
    ] {
        let faults = faults(&text);
        assert!(faults.contains(fault), "{fault}: {faults}");
        assert!(!faults.contains("s3cret"), "{faults}");
    }
}

#[test]
fn an_invalid_forward_proxy_of_the_environment_is_reported_by_its_variable() {
    let parsed = |name, value| {
        let environment = Environment::from_iter([("HTTPS_PROXY", "p:1"), (name, value)]);
        config::parse("b.yaml", MINIMAL, &environment, &Flags::default()).resolve()
    };
    let text = parsed("HTTPS_PROXY", "https://u:s3cret@p:1").unwrap_err().to_string();
    assert!(text.contains("HTTPS_PROXY") && !text.contains("s3cret"), "{text}");
    parsed("NO_PROXY", "a:b").expect("invalid entries are skipped");
}

#[test]
fn a_comment_may_have_any_number_of_lines() {
    let comment = "# commented out\n".repeat(2_000);
    for text in [
        format!("{comment}{MINIMAL}"),
        format!("{MINIMAL}{comment}limits: {{ requests: 7 }}\n"),
        MINIMAL.replace("upstreams:\n", &format!("upstreams:\n{comment}")),
    ] {
        parse(&text).unwrap();
    }
}

#[test]
fn other_machines_have_access_only_with_a_local_credential() {
    let with = |access: &str| format!("{MINIMAL}listen: 0.0.0.0:8080\naccess: {access}\n");
    let basic = "basic: { username: tool, password_file: /p }";
    for right in [
        format!("{{ allow_remote: true, {basic} }}"),
        "{ allow_remote: true, api_key_file: /k, hosts: [sidecar.example] }".to_owned(),
    ] {
        parse(&with(&right)).unwrap();
    }
    for (wrong, fault) in [
        ("{ allow_remote: true }".to_owned(), "access.allow_remote: needs a local credential"),
        (format!("{{ {basic} }}"), "is not a loopback address"),
        ("{ basic: { username: a } }".to_owned(), "access.basic.password_file: missing"),
        ("{ basic: { username: 'a:b', password_file: /p } }".to_owned(), "holds a colon"),
        (
            "{ hosts: ['localhost:8080'] }".to_owned(),
            "access.hosts[0]: `localhost:8080` is not a host",
        ),
        ("{ uids: [root] }".to_owned(), "access.uids[0]: `root` is not a user id"),
        ("{ allow_remot: true }".to_owned(), "did you mean `allow_remote`?"),
    ] {
        let faults = faults(&with(&wrong));
        assert!(faults.contains(fault), "{fault}: {faults}");
    }
    assert!(faults(&format!("{MINIMAL}limits: {{ requests: 0 }}\n")).contains("from 1 to 1000000"));
}

#[test]
fn what_is_given_without_a_value_is_not_taken_for_left_out() {
    for (wrong, fault) in [
        ("access: { api_key_file: }", "access.api_key_file: is empty; give a value"),
        ("admin: { tls: }", "admin.tls: is empty; give a value, or remove the key"),
        ("admin: { tls: { certificate_file: /c } }", "admin.tls.private_key_file: missing"),
        (
            "admin: { tls: { certificate_file: /c, private_key_file: /k, client_ca_file: /a } }",
            "unknown key `client_ca_file`",
        ),
    ] {
        let faults = faults(&format!("{MINIMAL}{wrong}\n"));
        assert!(faults.contains(fault), "{wrong}: {faults}");
    }
    // Earlier versions of the reference had it like this.
    let old = parse(&format!("{MINIMAL}access: {{ basic: }}\n")).unwrap();
    assert_eq!(old.access.basic, None);
    let warnings: Vec<_> = old.warnings.iter().map(ToString::to_string).collect();
    assert!(warnings.concat().contains("access.basic: is empty, so no user name"), "{warnings:?}");
}

#[test]
fn a_caller_has_a_credential_of_its_own_and_something_that_it_may_do() {
    const LISTEN: &str = "listen: ['unix:/s', { address: '127.0.0.1:1', tls: { certificate_file: /c, private_key_file: /k, client_ca_file: /a } }]\n";
    let with = |callers: &str| format!("{MINIMAL}{LISTEN}callers: {callers}\n");
    for right in [
        "{ a: { api_key_file: /a }, b: { api_key_file: /b, methods: GET, routes: /api/v1/scim2 } }",
        "{ a: { uids: [1, 2], limits: { requests: 1, rate: 5000/h } }, b: { uids: 3 } }",
        "{ a: { certificate: { san_uri: 'urn:a' } }, b: { certificate: { san_dns: a.example } } }",
        "{ a: { basic: { username: a, password_file: /p }, client: technical-user } }",
    ] {
        parse(&with(right)).unwrap();
    }
    // Other machines may connect where everyone needs a credential.
    let remote = "listen: 0.0.0.0:8080\naccess: { allow_remote: true }\n";
    parse(&format!("{MINIMAL}{remote}callers: {{ a: {{ api_key_file: /a }} }}\n")).unwrap();
    for (wrong, fault) in [
        ("", "callers: is empty; add a caller, or remove the key"),
        ("{}", "callers: is empty; add a caller, or remove the key"),
        (
            "{ a: }",
            "callers.a: has no credential; give it api_key_file, basic, uids or certificate",
        ),
        ("{ a: { routes: /api/v1/scim2 } }", "callers.a: has no credential"),
        ("{ a: { api_key_file: } }", "callers.a.api_key_file: is empty; give a value"),
        ("{ a: { api_key_file: /a, routes: } }", "callers.a.routes: is empty; give a value"),
        ("{ a: { api_key_file: /a, routes: [] } }", "callers.a.routes: the list is empty"),
        ("{ a: { api_key_file: /a, methods: [] } }", "callers.a.methods: the list is empty"),
        ("{ a: { api_key_file: /a, methods: [get] } }", "unknown method `get`; known: GET"),
        (
            "{ a: { api_key_file: /a, routes: /api/v1/scim3 } }",
            "callers.a.routes: unknown route `/api/v1/scim3`; did you mean",
        ),
        (
            "{ a: { api_key_file: /a, routes: /api/v1/csrf, methods: DELETE } }",
            "callers.a: may use no route: none allows these methods",
        ),
        ("{ a: { api_key_file: /a, client: other } }", "unknown client `other`"),
        ("{ a: { api_key_file: /a, client: } }", "callers.a.client: is empty; give a value"),
        ("{ a: { uids: [] } }", "callers.a.uids: the list is empty"),
        (
            "{ a: { api_key_file: /a, limits: { requests: 1, rate: } } }",
            "callers.a.limits.rate: is empty; give a value",
        ),
        (
            "{ a: { certificate: { san_uri: u, listen: 'unix:/s' } } }",
            "callers.a.certificate.listen: has no tls.client_ca_file",
        ),
        ("{ a: { api_key_file: /a, limits: {} } }", "callers.a.limits: needs requests or rate"),
        (
            "{ a: { api_key_file: /a, limits: { rate: 20 } } }",
            "`20` is not a number (1 to 1000000)",
        ),
        ("{ a: { api_key_file: /a, limits: { rate: 0/s } } }", "`0/s` is not a number"),
        ("{ a: { api_key_file: /a, limits: { rate: 1/d } } }", "requests per s, min or h"),
        ("{ a: { basic: { username: 'a:b', password_file: /p } } }", "holds a colon"),
        ("{ a: { basic: { username: a } } }", "callers.a.basic.password_file: missing"),
        ("{ a: { certificate: {} } }", "callers.a.certificate: needs san_uri or san_dns"),
        (
            "{ a: { certificate: { san_uri: u, san_dns: d } } }",
            "callers.a.certificate: has san_uri and san_dns; remove one of them",
        ),
        ("{ a: { certificate: { san_dns: '*.example' } } }", "holds `*`; give the name"),
        ("{ unnamed: { api_key_file: /a } }", "`unnamed` is the caller of `access`"),
        ("{ 'a b': { api_key_file: /a } }", "a name has 1 to 64 letters"),
        ("{ a: { uids: 1 }, b: { uids: [2, 1] } }", "callers.b.uids: user id 1 is also that of"),
        (
            "{ a: { certificate: { san_dns: A.b } }, b: { certificate: { san_dns: a.B } } }",
            "callers.b.certificate: DNS name a.b is also that of caller a",
        ),
        (
            "{ a: { basic: { username: x, password_file: /p } }, b: { basic: { username: x, password_file: /q } } }",
            "callers.b.basic: user name x is also that of caller a",
        ),
    ] {
        let faults = faults(&with(wrong));
        assert!(faults.contains(fault), "{wrong}: {fault}: {faults}");
    }
    // Two tenants.
    let two = |callers: &str| {
        let upstreams = "upstreams: { a: { url: 'https://a.example', listen: '127.0.0.1:1' }, b: { url: 'https://b.example', listen: '127.0.0.2:1' } }";
        let clients = "clients: { c: { token_url: 'https://i.example/oauth/token', client_id: id, client_secret: s3cret } }";
        format!(
            "listen: ['127.0.0.1:1', '127.0.0.2:1']\n{clients}\n{upstreams}\ncallers: {callers}\n"
        )
    };
    let path = faults(&two("{ a: { api_key_file: /a, routes: /api/v1/scim2 } }"));
    let both = "is served on several listeners; write `127.0.0.1:1/api/v1/scim2` or `127.0.0.2:1/api/v1/scim2`";
    assert!(path.contains(both), "{path}");
    let crossing = faults(&two("{ a: { api_key_file: /a, client: c } }"));
    assert!(
        crossing.contains("callers.a.client: would be used for several upstreams"),
        "{crossing}"
    );
    let right = "{ a: { api_key_file: /a, routes: '127.0.0.2:1/api/v1/scim2', client: c } }";
    let config = parse(&two(right)).unwrap();
    let usable = config.routes.iter().filter(|route| config.callers[0].may_use(*route));
    assert_eq!(
        usable.map(|route| config.name_of(route)).collect::<Vec<_>>(),
        ["127.0.0.2:1/api/v1/scim2"]
    );
    // Two authorities.
    let tls = |address: &str, ca: &str| {
        format!(
            "{{ address: '{address}', tls: {{ certificate_file: /c, private_key_file: /k, client_ca_file: {ca} }} }}"
        )
    };
    let signed = |more: &str| {
        let listen =
            format!("listen: [{}, {}]", tls("127.0.0.1:1", "/a"), tls("127.0.0.1:2", "/b"));
        format!("{MINIMAL}{listen}\ncallers: {{ a: {{ certificate: {{ san_uri: u{more} }} }} }}\n")
    };
    let missing = "callers.a.certificate.listen: missing; listeners have different client_ca_files";
    assert!(faults(&signed("")).contains(missing));
    parse(&signed(", listen: '127.0.0.1:2'")).unwrap();
    let plain = |callers: &str| faults(&format!("{MINIMAL}callers: {callers}\n"));
    let socket = "callers.a.uids: needs a Unix socket in `listen`";
    assert!(plain("{ a: { uids: 1 } }").contains(socket));
    let authority = "callers.a.certificate: needs a listener with tls.client_ca_file";
    assert!(plain("{ a: { certificate: { san_uri: u } } }").contains(authority));
}

#[test]
fn the_credentials_of_a_client_must_fit_together() {
    let client = |fields: &str| {
        format!(
            "clients: {{ c: {{ {fields} }} }}\nupstreams: {{ u: {{ url: 'https://t.example' }} }}\n"
        )
    };
    let parts = "token_url: 'https://i.example/oauth/token', client_id: id";
    for (fields, wanted) in [
        (format!("{parts}, client_auth: mtsl"), "unknown method `mtsl`; did you mean `mtls`?"),
        (format!("{parts}, client_auth: mtls"), "c.certificate_file: missing; client_auth mtls"),
        (
            format!("{parts}, client_auth: mtls, certificate_file: /c"),
            "c.private_key_file: missing; client_auth mtls",
        ),
        (
            format!("{parts}, client_auth: private-key-jwt"),
            "c.private_key_file: missing; client_auth private-key-jwt",
        ),
        (
            format!("{parts}, client_secret: s, client_secret_next_file: /n"),
            "c.client_secret_next_file: needs client_secret_file",
        ),
        (
            "credentials: /k, client_id: id, key_id: k".to_owned(),
            "c.client_id: both credentials and client_id are given",
        ),
        ("credentials: /k, client_auth: mtls".to_owned(), "c.client_auth: leave it out"),
        ("credentials: 'env:NO_SUCH'".to_owned(), "variable NO_SUCH is not set"),
        ("client_secret: s".to_owned(), "c.token_url: missing; give it, or `credentials`"),
        ("credentials: /k, binding: { nmae: x }".to_owned(), "did you mean `name`?"),
    ] {
        let text = faults(&client(&fields));
        assert!(text.contains(wanted), "{fields}\n{text}");
    }
    for fields in [
        format!("{parts}, client_auth: mtls, certificate_file: /c, private_key_file: /k"),
        format!("{parts}, client_auth: private-key-jwt, private_key_file: /k, key_id: one"),
        format!("{parts}, client_secret_file: /s, client_secret_next_file: /n"),
        "credentials: /k, client_auth: basic, binding: { label: xsuaa }".to_owned(),
    ] {
        parse(&client(&fields)).unwrap();
    }
}

#[test]
fn content_instead_of_a_path_is_refused_and_not_shown() {
    for content in ["'{\"clientsecret\":\"canary-8\"}'", "\"-----BEGIN\\ncanary-8\""] {
        for key in ["credentials", "client_secret_file"] {
            let text =
                faults(&MINIMAL.replace("client_secret: s3cret", &format!("{key}: {content}")));
            assert!(
                text.contains("looks like file content") && !text.contains("canary-8"),
                "{text}"
            );
        }
    }
    let config = parse(&MINIMAL.replace("client_secret: s3cret", "client_secret_file: canary-8"));
    let error = config.unwrap().clients[0].source.read().unwrap_err().to_string();
    assert!(error.contains("not shown") && !error.contains("canary-8"), "{error}");
}

#[test]
fn a_faults_text_never_holds_a_secret() {
    let environment = Environment::from([("CANARY", "canary-7")]);
    let text = "
clients:
  a: { token_url: '${CANARY}', client_id: '', client_secret: canary-7, client_secret_file: x, wait: '${CANARY}' }
upstreams: { u: { url: 'https://u:canary-7@t.example' } }
";
    let text = config::parse("b.yaml", text, &environment, &Flags::default())
        .resolve()
        .unwrap_err()
        .to_string();
    let without_wait: String = text.lines().filter(|line| !line.contains(".wait:")).collect();
    assert!(!without_wait.contains("canary-7"), "{text}");
    assert!(text.contains("both client_secret and client_secret_file"), "{text}");
}

#[test]
fn references_to_the_environment_are_replaced_in_values_only() {
    let environment = Environment::from([("TENANT", "acme"), ("KEY", "listen")]);
    let text = MINIMAL.replace("https://t.example", "https://${TENANT}.example:${PORT:-444}");
    let config = config::parse("b.yaml", &text, &environment, &Flags::default()).resolve().unwrap();
    assert_eq!(config.upstreams[0].origin.as_str(), "https://acme.example:444/");
    let text = faults(&MINIMAL.replace("https://t.example", "https://${TENANT}.example"));
    assert!(
        text.contains(
            "b.yaml:5:22: upstreams.datasphere.url: environment variable TENANT is not set"
        ),
        "{text}"
    );
    assert!(faults(&format!("{MINIMAL}${{KEY}}: 127.0.0.1:1\n")).contains("unknown key `${KEY}`"));
}

#[test]
fn variables_override_the_only_client_and_upstream_and_nothing_ambiguous() {
    let environment = Environment::from([
        ("BEARERD_CLIENT_ID", "other"),
        ("BEARERD_CLIENT_SECRET_FILE", "/s"),
        ("BEARERD_UPSTREAM_URL", "https://other.example"),
        ("BEARERD_LOG", "debug"),
    ]);
    let config =
        config::parse("b.yaml", MINIMAL, &environment, &Flags::default()).resolve().unwrap();
    let source = &config.clients[0].source;
    assert!(matches!(source, CredentialSource::Parts { client_id, .. } if client_id == "other"));
    assert_eq!(source.paths(), [std::path::Path::new("/s")]);
    assert_eq!(config.upstreams[0].origin.host_str(), Some("other.example"));

    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key.json");
    let fixture = include_str!("../../src/credential/format/fixtures/key-tms.json");
    std::fs::write(&key, fixture).unwrap();
    let environment_with_key = Environment::from([("BEARERD_CREDENTIALS", key.to_str().unwrap())]);
    let alone = config::parse("", "", &environment_with_key, &Flags::default()).resolve().unwrap();
    assert!(
        fixture.contains(alone.upstreams[0].origin.host_str().unwrap()),
        "the key names the API"
    );
    let replaced =
        config::parse("b.yaml", MINIMAL, &environment_with_key, &Flags::default()).resolve();
    let identity = replaced.unwrap().clients[0].source.read().unwrap();
    assert_ne!(
        identity.token_url.host_str(),
        Some("i.example"),
        "the old client's issuer gets no secret of another"
    );

    let two = MINIMAL.replace("upstreams:", "upstreams:\n  second: { url: 'https://s.example' }");
    let text = config::parse("b.yaml", &two, &environment, &Flags::default())
        .resolve()
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("environment BEARERD_UPSTREAM_URL: url: several are configured"),
        "{text}"
    );
    assert!(text.contains("routes: missing; with several upstreams"), "{text}");
}

#[test]
fn an_upstream_without_a_url_takes_it_from_the_key_of_its_client_or_has_a_fault() {
    let tms = include_str!("../../src/credential/format/fixtures/key-tms.json");
    let cleartext = tms.replace("\"uri\": \"https://", "\"uri\": \"http://");
    assert_ne!(tms, cleartext);
    let plain = include_str!("../../src/credential/format/fixtures/plain.json");
    let environment =
        Environment::from([("TMS", tms), ("CLEARTEXT", &cleartext), ("PLAIN", plain)]);
    let resolve = |key: &str, keys: &str| {
        let text = format!(
            "clients:\n  c: {{ credentials: env:{key} }}\nupstreams:\n  u: {{ {keys} }}\nworkers: none\n"
        );
        config::parse("b.yaml", &text, &environment, &Flags::default()).resolve()
    };
    let faults_of = |key: &str, keys: &str| resolve(key, keys).unwrap_err().to_string();
    let of_key = faults_of("TMS", "");
    assert!(!of_key.contains("upstreams"), "{of_key}");
    assert!(of_key.contains("workers"), "{of_key}");
    let without = faults_of("PLAIN", "");
    assert!(without.contains("b.yaml:4:6: upstreams.u.url: missing; set it to"), "{without}");
    assert!(without.contains("the key in the variable PLAIN does not name one"), "{without}");
    assert!(without.contains("workers"), "all faults at once: {without}");
    let cleartext = faults_of("CLEARTEXT", "allow_cleartext: true, min_tls: 1.3");
    assert!(cleartext.contains("upstreams.u.min_tls: is for https"), "{cleartext}");
    assert!(!faults_of("TMS", "min_tls: 1.3").contains("min_tls"));
}

#[test]
fn routes_must_name_their_client_if_there_are_several() {
    let two = MINIMAL.replace(
        "clients:",
        "clients:\n  second: { token_url: 'https://i.example/t', client_id: i, client_secret: s }",
    );
    assert!(faults(&two).contains("several clients are configured"));
    let named = two.replace("'https://t.example'", "'https://t.example', client: second");
    assert_eq!(parse(&named).unwrap().routes[0].client.name, "second");
    let route = "routes: [{ path: /a, profile: odata, client: technical-user }, { path: /b, profile: rest }]";
    let config = parse(&format!("{named}{route}\n")).unwrap();
    let names: Vec<_> = config.routes.iter().map(|route| &route.client.name).collect();
    assert_eq!(names, ["technical-user", "second"]);
}

#[test]
fn ambiguous_routes_are_refused() {
    let faults_of = |routes: &str| faults(&format!("{MINIMAL}routes: {routes}\n"));
    assert!(faults_of("[]").contains("the list is empty"));
    assert!(
        faults_of("[{ path: /a, profile: odata }, { path: /a/, profile: rest }]")
            .contains("routed already")
    );
    for path in ["/", "''", "/a//b", "/a/../b", "/a%2fb", "'/a b'", "/a?b"] {
        assert!(
            faults_of(&format!("[{{ path: {path}, profile: odata }}]")).contains("routes[0].path"),
            "{path}"
        );
    }
    let widened = faults_of("[{ path: /a, profile: odata, methods: [GET, DELETE] }]");
    assert!(
        widened.contains("must be some of the profile's methods: GET, HEAD, POST"),
        "{widened}"
    );
    let header = faults_of("[{ path: /a, profile: odata, headers: { Authorization: x } }]");
    assert!(header.contains("is set by bearerd itself"), "{header}");
}

#[test]
fn routes_belong_to_the_listeners_that_the_configuration_names() {
    let two = "listen: [127.0.0.1:8080, unix:/run/b.sock]\n";
    let of = |text: &str| -> Vec<Vec<usize>> {
        let config = parse(text).unwrap_or_else(|faults| panic!("{faults}"));
        let numbers = |route: &config::Route| route.listen.iter().map(|id| id.0).collect();
        config.routes.iter().map(numbers).collect()
    };
    let routes = "routes:
  - { path: /a, profile: rest, listen: unix:/run/b.sock }
  - { path: /a, profile: scim, listen: 127.0.0.1:8080 }
  - { path: /b, profile: rest, listen: [unix:/run/b.sock, 127.0.0.1:8080] }
";
    assert_eq!(of(&format!("{two}{MINIMAL}{routes}")), [vec![1], vec![0], vec![0, 1]]);
    let of_upstream =
        MINIMAL.replace("'https://t.example'", "'https://t.example', listen: 127.0.0.1:8080");
    let routes = "routes: [{ path: /a, profile: rest }, { path: /b, profile: rest, listen: unix:/run/b.sock }]\n";
    assert_eq!(of(&format!("{two}{of_upstream}{routes}")), [[0], [1]]);

    let faults_of = |routes: &str| faults(&format!("{two}{MINIMAL}routes: [{routes}]\n"));
    let other = faults_of("{ path: /a, profile: rest, listen: 127.0.0.1:9090 }");
    assert!(
        other.contains("routes[0].listen: 127.0.0.1:9090 is not in `listen`, which has 127.0.0.1:8080, unix:/run/b.sock"),
        "{other}"
    );
    let overlapping = faults_of(
        "{ path: /a, profile: rest }, { path: /a, profile: scim, listen: 127.0.0.1:8080 }",
    );
    assert!(overlapping.contains("`/a` is routed already"), "{overlapping}");
    let unused = faults_of("{ path: /a, profile: rest, listen: 127.0.0.1:8080 }");
    assert!(unused.contains("no route is served on unix:/run/b.sock"), "{unused}");
    assert!(faults_of("{ path: /a, profile: rest, listen: [] }").contains("the list is empty"));
}

#[test]
fn several_upstreams_with_listeners_of_their_own_need_no_routes() {
    let two = |first: &str, second: &str| {
        format!(
            "listen: [127.0.0.1:8080, 127.0.0.2:8080, 127.0.0.3:8080]
clients:
  c: {{ token_url: 'https://i.example/t', client_id: i, client_secret: s }}
upstreams:
  one: {{ url: 'https://one.example', listen: {first} }}
  two: {{ url: 'https://two.example', listen: {second} }}
"
        )
    };
    let config = parse(&two("127.0.0.2:8080", "[127.0.0.1:8080, 127.0.0.3:8080]")).unwrap();
    for route in &config.routes {
        let listen: Vec<_> = route.listen.iter().map(|id| id.0).collect();
        assert_eq!(listen, if route.upstream.name == "one" { vec![1] } else { vec![0, 2] });
    }
    let scim: Vec<_> = config.routes.iter().filter(|route| route.path == "/api/v1/scim2").collect();
    let names: Vec<_> = scim.into_iter().map(|route| config.name_of(route)).collect();
    assert_eq!(names, ["127.0.0.2:8080/api/v1/scim2", "127.0.0.1:8080/api/v1/scim2"]);
    let shared =
        faults(&two("[127.0.0.1:8080, 127.0.0.2:8080]", "[127.0.0.2:8080, 127.0.0.3:8080]"));
    assert!(shared.contains("or give each upstream a `listen` of its own"), "{shared}");
}

proptest! {
    #[test]
    fn no_text_panics(text in "[a-z:{}\\[\\] \n\"'$&*|>-]{0,80}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_value_in_a_known_place_panics(value in "\\PC{0,20}") {
        let quoted = value.replace('\'', "''");
        for place in ["'https://t.example'", "client_id: id", "s3cret"] {
            let key = place.split(':').next().filter(|_| place.contains(": ")).map_or(String::new(), |key| format!("{key}: "));
            let _ = parse(&MINIMAL.replace(place, &format!("{key}'{quoted}'")));
        }
    }
}
