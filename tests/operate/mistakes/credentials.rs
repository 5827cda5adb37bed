//! Mistakes with ids, secrets and credential files.

use super::{Comparison, Edit, World, set};
use crate::support::process::bearerd;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

fn with_secret(world: &World, good: &str, change: impl FnOnce(String) -> Vec<u8>) -> String {
    let secret = change(world.fixture.tenant.client_secret());
    set(good, "client_secret_file", &world.write("other", secret))
}

fn with_file(world: &World, content: &str) -> String {
    let file = world.write("credentials", content);
    let good = world.good();
    let at = good.find("    token_url").unwrap();
    let end = good.find("    ca_file").unwrap();
    format!("{}    credentials: {file}\n{}", &good[..at], &good[end..])
}

const CHECKED: [(&str, Edit, &str); 26] = [
    (
        "line break behind the secret",
        |world, good| with_secret(world, good, |secret| format!("{secret}\r\n\n").into()),
        "",
    ),
    (
        "byte-order mark before the secret",
        |world, good| with_secret(world, good, |secret| format!("\u{feff}{secret}").into()),
        "",
    ),
    (
        "space behind the secret",
        |world, good| with_secret(world, good, |secret| format!("{secret} ").into()),
        "warning: the client secret begins or ends with a space or a line break; remove it",
    ),
    (
        "secret in quotes",
        |world, good| with_secret(world, good, |secret| format!("'{secret}'").into()),
        "warning: the client secret is in quotes, which are sent, too; remove them",
    ),
    (
        "name before the secret",
        |world, good| with_secret(world, good, |secret| format!("client_secret={secret}").into()),
        "warning: the client secret begins with `client_secret` or similar; keep only the secret itself",
    ),
    (
        "base64 of the secret",
        |world, good| with_secret(world, good, |secret| STANDARD.encode(secret).into()),
        "warning: the client secret looks like base64 of the secret; decode it (`base64 -d`)",
    ),
    (
        "secret in UTF-16",
        |world, good| {
            with_secret(world, good, |secret| {
                [
                    &[0xff, 0xfe][..],
                    &secret.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>(),
                ]
                .concat()
            })
        },
        "",
    ),
    (
        "secret in Latin-1",
        |world, good| with_secret(world, good, |_| b"s\xfccret".to_vec()),
        "the configuration is well-formed, but cannot be used: client technical-user: DIR/other is not UTF-8 text; save it as UTF-8",
    ),
    (
        "empty secret",
        |world, good| with_secret(world, good, |_| b"\n".to_vec()),
        "the configuration is well-formed, but cannot be used: client technical-user: DIR/other is empty; write the secret into it",
    ),
    (
        "secret of two lines",
        |world, good| with_secret(world, good, |_| b"first\nsecond".to_vec()),
        "warning: the client secret has several lines; keep only the line with the value",
    ),
    (
        "zero-width space in the id",
        |world, good| {
            set(good, "client_id", &format!("{}\u{200b}", world.fixture.tenant.client_id()))
        },
        "warning: the client id holds an invisible character; type it, or copy it again",
    ),
    (
        "id from an address bar",
        |world, good| {
            set(
                good,
                "client_id",
                &world.fixture.tenant.client_id().replace('!', "%21").replace('|', "%7C"),
            )
        },
        "warning: the client id is percent-encoded; write ! instead of %21, and | instead of %7C",
    ),
    (
        "no secret file",
        |_, good| set(good, "client_secret_file", "/no/such/file"),
        "the configuration is well-formed, but cannot be used: client technical-user: cannot read /no/such/file: it does not exist; correct the path, or create it",
    ),
    (
        "folder instead of the secret file",
        |world, good| {
            set(good, "client_secret_file", &world.fixture.folder.path().display().to_string())
        },
        "the configuration is well-formed, but cannot be used: client technical-user: DIR is a folder; give the path of a file in it",
    ),
    (
        "Google's service account",
        |world, _| {
            with_file(
                world,
                r#"{"type":"service_account","project_id":"p","private_key_id":"1","private_key":"x","client_email":"a@b","client_id":"1","auth_uri":"https://a","token_uri":"https://b"}"#,
            )
        },
        "the configuration is well-formed, but cannot be used: client technical-user: DIR/credentials: it is the key of a Google service account, not SAP's; take the client ID, the secret and the token URL from System > Administration > App Integration",
    ),
    (
        "HANA's key",
        |world, _| {
            with_file(world, r#"{"host":"h","port":"443","user":"U","password":"p","schema":"S"}"#)
        },
        "the configuration is well-formed, but cannot be used: client technical-user: DIR/credentials: it is the key of a database (host, user, password), not of an OAuth client; take the client ID, the secret and the token URL from System > Administration > App Integration",
    ),
    (
        "netrc",
        |world, _| with_file(world, "machine acme.example login me password s3cret-of-me\n"),
        "the configuration is well-formed, but cannot be used: client technical-user: DIR/credentials: it is a .netrc file with a person's password, not the key of an OAuth client; take the client ID, the secret and the token URL from System > Administration > App Integration",
    ),
    (
        "certificate",
        |world, _| {
            with_file(world, "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
        },
        "the configuration is well-formed, but cannot be used: client technical-user: DIR/credentials: it is a certificate (PEM), not a client id with its secret and token URL; correct the path, or use certificate_file and private_key_file with client_auth mtls",
    ),
    (
        "private key",
        |world, _| {
            with_file(world, "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n")
        },
        "the configuration is well-formed, but cannot be used: client technical-user: DIR/credentials: it is a private key (PEM), not a client id with its secret and token URL; correct the path, or use private_key_file with client_auth mtls or private-key-jwt",
    ),
    (
        "secret alone",
        |world, _| with_file(world, &world.fixture.tenant.client_secret()),
        "the configuration is well-formed, but cannot be used: client technical-user: DIR/credentials: it is a single value; if it is the secret, use client_secret_file, with client_id and token_url",
    ),
    (
        "empty file",
        |world, _| with_file(world, ""),
        "the configuration is well-formed, but cannot be used: client technical-user: DIR/credentials: it is empty; write the client id, the secret and the token URL into it",
    ),
    (
        "access token",
        |world, _| with_file(world, "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln"),
        "the configuration is well-formed, but cannot be used: client technical-user: DIR/credentials: it is an access token, which expires; use the OAuth client itself",
    ),
    (
        "destination with a password",
        |world, _| {
            with_file(
                world,
                r#"{"Name":"D","Type":"HTTP","URL":"https://a.example","Authentication":"BasicAuthentication","User":"u","Password":"p","ProxyType":"Internet"}"#,
            )
        },
        "the configuration is well-formed, but cannot be used: client technical-user: DIR/credentials: destination: the file has Authentication BasicAuthentication; bearerd supports only OAuth2ClientCredentials, which needs no user",
    ),
    (
        "half of a JSON document",
        |world, _| with_file(world, r#"{"clientid":"sb-1","clientsecret":"s"}"#),
        "the configuration is well-formed, but cannot be used: client technical-user: DIR/credentials: client id, secret and token URL: the file has no token_url",
    ),
    (
        "broken JSON",
        |world, _| with_file(world, "{\"clientid\":\"sb-1\",\n\"clientsecret\" \"s\"}"),
        "the configuration is well-formed, but cannot be used: client technical-user: DIR/credentials: it is not valid JSON: expected `:` at line 2, column 16; correct it, or copy the key again",
    ),
    (
        "client for people",
        |world, _| {
            with_file(
                world,
                "OAuth Client ID: sb-1\nAuthorization URL: https://a.example/oauth/authorize\nToken URL: https://a.example/oauth/token\n",
            )
        },
        "the configuration is well-formed, but cannot be used: client technical-user: DIR/credentials: client id, secret and token URL: the file has a client for people who log in, or for SAML, which has no secret; create an OAuth client with the purpose Technical User (System > Administration > App Integration) and use its client ID, secret and token URL",
    ),
];

#[tokio::test]
async fn each_accident_with_a_credential_has_its_message() {
    let world = World::start().await;
    let mut comparison = Comparison::default();
    for (mistake, edit, expected) in CHECKED {
        comparison.compare(mistake, expected, &world.check(&edit(&world, &world.good())).await);
    }
    comparison.end();
}

#[tokio::test]
async fn a_line_break_behind_the_secret_in_a_variable_does_no_harm() {
    let world = World::start().await;
    let yaml: String = world
        .good()
        .lines()
        .filter(|line| !line.contains("client_secret"))
        .fold(String::new(), |all, line| all + line + "\n");
    let secret = format!("{}\n", world.fixture.tenant.client_secret());
    let mut command = bearerd();
    let ended = world.run(command.env("BEARERD_CLIENT_SECRET", secret), &["token"], &yaml).await;
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[tokio::test]
async fn a_folder_without_credentials_has_its_message() {
    let world = World::start().await;
    let folder = world.write_folder("empty");
    let good = with_file(&world, "");
    let yaml = set(&good, "credentials", &folder);
    let mut comparison = Comparison::default();
    comparison.compare("empty folder", "the configuration is well-formed, but cannot be used: client technical-user: DIR/empty: it holds no OAuth client in a known format; give client id, secret and token URL as three lines, or a service key (docs/credentials.md has all formats)", &world.check(&yaml).await);
    comparison.end();
}
