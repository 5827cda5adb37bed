//! Mistakes in the configuration file, its place, and its variables.

use super::{Comparison, Edit, World, set};
use crate::support::process::{bearerd, output, starting};
use tokio::net::TcpListener;
use tokio::process::Command;

/// What `bearerd check` says.
const CHECKED: [(&str, Edit, &str); 33] = [
    (
        "tenant's URL with a path",
        |world, good| set(good, "url", &format!("{}/api", world.fixture.tenant.url())),
        "DIR/bearerd.yaml:11:10: upstreams.datasphere.url: has a path; write https://TENANT alone; only the paths of APIs belong in `routes`",
    ),
    (
        "tenant's URL of a browser",
        |world, good| {
            set(good, "url", &format!("{}/dwaas-ui/index.html#/home", world.fixture.tenant.url()))
        },
        "DIR/bearerd.yaml:11:10: upstreams.datasphere.url: has a path; write https://TENANT alone; only the paths of APIs belong in `routes`",
    ),
    (
        "tenant's URL without a scheme",
        |_, good| set(good, "url", "acme.eu10.hcs.cloud.sap"),
        "DIR/bearerd.yaml:11:10: upstreams.datasphere.url: is not a URL: it has no scheme; write https:// before the host",
    ),
    (
        "token URL without a scheme",
        |_, good| set(good, "token_url", "acme.authentication.eu10.hana.ondemand.com/oauth/token"),
        "DIR/bearerd.yaml:5:16: clients.technical-user.token_url: is not a URL: it has no scheme; write https:// before the host",
    ),
    (
        "tenant in clear text",
        |_, good| set(good, "url", "http://acme.eu10.hcs.cloud.sap"),
        "DIR/bearerd.yaml:11:10: upstreams.datasphere.url: is http://, which would send a credential in cleartext; use https://, or set `allow_cleartext: true` beside it",
    ),
    (
        "issuer in clear text",
        |_, good| {
            set(good, "token_url", "http://acme.authentication.eu10.hana.ondemand.com/oauth/token")
        },
        "DIR/bearerd.yaml:5:16: clients.technical-user.token_url: is http://, which would send a credential in cleartext; use https://, or set `allow_cleartext: true` beside it",
    ),
    (
        "token URL without its path",
        |_, good| set(good, "token_url", "https://acme.authentication.eu10.hana.ondemand.com"),
        "warning: the token URL has no path; add /oauth/token to it",
    ),
    (
        "token URL of the login",
        |_, good| {
            set(
                good,
                "token_url",
                "https://acme.authentication.eu10.hana.ondemand.com/oauth/authorize",
            )
        },
        "warning: the token URL is the one for logins; write /oauth/token instead of /oauth/authorize",
    ),
    (
        "token URL with its path twice",
        |_, good| {
            set(
                good,
                "token_url",
                "https://acme.authentication.eu10.hana.ondemand.com/oauth/token/oauth/token",
            )
        },
        "warning: the token URL has /oauth/token twice, as one of SAP's pages prints it; keep the first one",
    ),
    (
        "tab",
        |_, good| good.replace("    url:", "\turl:"),
        "DIR/bearerd.yaml:11:1: not valid YAML: there is a tab before the key; indent with spaces",
    ),
    (
        "tab that is not the first",
        |_, good| good.replace("    client_id:", "  \tclient_id:"),
        "DIR/bearerd.yaml:6:3: not valid YAML: there is a tab before the key; indent with spaces",
    ),
    (
        "key twice",
        |_, good| format!("{good}    url: https://a.example\n"),
        "DIR/bearerd.yaml:13:5: not valid YAML: `url` is given twice (first on line 11); keep one of them",
    ),
    (
        "misspelt key",
        |_, good| good.replace("client_secret_file", "client_secrect_file"),
        "DIR/bearerd.yaml:5:5: clients.technical-user.client_secret_file: missing; give client_secret_file, or client_secret\nDIR/bearerd.yaml:7:5: clients.technical-user.client_secrect_file: unknown key `client_secrect_file`; did you mean `client_secret_file`?",
    ),
    (
        "indentation",
        |_, good| good.replace("    client_id:", "     client_id:"),
        "DIR/bearerd.yaml:6:15: not valid YAML: this line begins with 5 spaces, the line before it with 4; indent the keys of a mapping alike",
    ),
    (
        "indentation too small",
        |_, good| good.replace("    client_id:", "   client_id:"),
        "DIR/bearerd.yaml:6:4: not valid YAML: this line begins with 3 spaces, the line before it with 4; indent the keys of a mapping alike",
    ),
    (
        "no space behind a colon",
        |_, good| good.replace("client_id: ", "client_id:"),
        "DIR/bearerd.yaml:6:5: not valid YAML: there is no space after the colon of a key; write `key: value`",
    ),
    (
        "Windows path in double quotes",
        |_, good| set(good, "client_secret_file", r#""C:\Users\me\secret.txt""#),
        "DIR/bearerd.yaml:7:25: not valid YAML: in double quotes, a backslash begins an escape; use single quotes",
    ),
    (
        "Windows path",
        |_, good| set(good, "client_secret_file", r"C:\Users\me\secret.txt"),
        "the configuration is well-formed, but cannot be used: client technical-user: cannot read C:\\Users\\me\\secret.txt: bearerd runs on Linux; write the path as Linux sees it (WSL: /mnt/c/...)",
    ),
    (
        "home folder",
        |_, good| set(good, "client_secret_file", "~/secret"),
        "the configuration is well-formed, but cannot be used: client technical-user: cannot read ~/secret: `~` is not expanded here; write the whole path",
    ),
    (
        "comment in a secret",
        |_, good| good.replace("client_secret_file: ", "client_secret: abc #"),
        "warning: DIR/bearerd.yaml:7:20: clients.technical-user.client_secret: YAML takes the text from ` #` on for a comment; if it is a part of the secret, put the secret in single quotes",
    ),
    (
        "open reference in a secret",
        |_, good| good.replace("client_secret_file: ", "client_secret: ab${ef #"),
        "DIR/bearerd.yaml:7:20: clients.technical-user.client_secret: `${` is not closed by `}`; write `$${` for a literal `${`",
    ),
    (
        "bracket in a secret",
        |_, good| good.replace("client_secret_file: ", "client_secret: ab]{c: #"),
        "DIR/bearerd.yaml:7:25: not valid YAML: YAML misreads a value with `: `, `[`, `{` or `#` in it; put the whole value in single quotes",
    ),
    (
        "secret that YAML reads as an alias",
        |_, good| good.replace("client_secret_file: ", "client_secret: *abc #"),
        "DIR/bearerd.yaml:7:20: not valid YAML: a value cannot begin with `*` unless it is quoted; put it in single quotes",
    ),
    (
        "secret that begins with an at sign",
        |_, good| good.replace("client_secret_file: ", "client_secret: @abc #"),
        "DIR/bearerd.yaml:7:20: not valid YAML: a value cannot begin with `@` unless it is quoted; put it in single quotes",
    ),
    (
        "secret that begins with a percent sign",
        |_, good| good.replace("client_secret_file: ", "client_secret: %abc #"),
        "DIR/bearerd.yaml:7:20: not valid YAML: a value cannot begin with `%` unless it is quoted; put it in single quotes",
    ),
    (
        "secret that begins with a quote",
        |_, good| good.replace("client_secret_file: ", "client_secret: 'abc #"),
        "DIR/bearerd.yaml:7:20: not valid YAML: the quote is not closed; close it, or put the whole value in the other kind of quotes",
    ),
    (
        "port alone",
        |_, good| good.replace("listen: 127.0.0.1:0\nadmin", "listen: 8080\nadmin"),
        "DIR/bearerd.yaml:1:9: listen: `8080` is not an IP address and port, for example 127.0.0.1:8080",
    ),
    (
        "name as the address",
        |_, good| good.replace("listen: 127.0.0.1:0\nadmin", "listen: localhost:8080\nadmin"),
        "DIR/bearerd.yaml:1:9: listen: `localhost:8080` is not an IP address and port, for example 127.0.0.1:8080",
    ),
    (
        "duration without a unit",
        |_, good| format!("{good}shutdown: {{ grace: 25 }}\n"),
        "DIR/bearerd.yaml:13:20: shutdown.grace: `25` is not a duration with a unit, for example 300ms, 5s or 2m",
    ),
    (
        "profile in other letters",
        |_, good| format!("{good}routes:\n  - {{ path: /a, profile: Odata }}\n"),
        "DIR/bearerd.yaml:14:26: routes[0].profile: unknown profile `Odata`; did you mean `odata`?",
    ),
    (
        "profile in capitals",
        |_, good| format!("{good}routes:\n  - {{ path: /a, profile: SCIM }}\n"),
        "DIR/bearerd.yaml:14:26: routes[0].profile: unknown profile `SCIM`; did you mean `scim`?",
    ),
    (
        "one address for callers and probes",
        |_, good| good.replace("127.0.0.1:0", "127.0.0.1:18080"),
        "DIR/bearerd.yaml:2:18: admin.listen: 127.0.0.1:18080 is in `listen` already; give probes an address of their own",
    ),
    (
        "socket in a folder that is missing",
        |_, good| {
            good.replace(
                "listen: 127.0.0.1:0\nadmin",
                "listen: unix:/no/such/folder/bearerd.sock\nadmin",
            )
        },
        "",
    ),
];

#[tokio::test]
async fn each_mistake_in_the_file_has_its_message() {
    let world = World::start().await;
    let mut comparison = Comparison::default();
    for (mistake, edit, expected) in CHECKED {
        comparison.compare(mistake, expected, &world.check(&edit(&world, &world.good())).await);
    }
    comparison.end();
}

/// A command that obeys the modes of files even if root runs it.
fn without_privileges() -> Command {
    let plain = bearerd();
    if !rustix::process::geteuid().is_root() {
        return plain;
    }
    let mut command = starting("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(plain.as_std().get_program());
    command
}

#[tokio::test]
async fn files_that_cannot_be_read_have_their_message() {
    let mut world = World::start().await;
    world.call(format!("user {}", rustix::process::geteuid().as_raw()), "USER");
    let owner = rustix::process::geteuid().as_raw();
    world.call(format!("owner {owner}"), "OWNER");
    let secret = world.write_unreadable("closed");
    let mut comparison = Comparison::default();
    let yaml = set(&world.good(), "client_secret_file", &secret);
    let ended = world.run(&mut without_privileges(), &["check"], &yaml).await;
    let message = String::from_utf8(ended.stderr).unwrap();
    comparison.compare("secret", "the configuration is well-formed, but cannot be used: client technical-user: cannot read DIR/closed: USER may not read it (mode 0000, OWNER); give USER the right to read it", &world.named(&message));
    for (mistake, file, expected) in [
        (
            "configuration of another user",
            secret,
            "cannot read DIR/closed: USER may not read it (mode 0000, OWNER); give USER the right to read it",
        ),
        (
            "configuration that is missing",
            "/no/such/bearerd.yaml".to_owned(),
            "cannot read /no/such/bearerd.yaml: it does not exist; correct the path, or create it",
        ),
        (
            "configuration in Latin-1",
            world.write("latin", b"listen: \xfc"),
            "cannot read DIR/latin: it is not UTF-8 text; save it as UTF-8",
        ),
        (
            "folder as the configuration",
            world.write_folder("folder"),
            "cannot read DIR/folder: it is not a regular file; give the path of a file",
        ),
    ] {
        let ended = output(without_privileges().args(["check", "--config", &file])).await;
        let message = String::from_utf8(ended.stderr).unwrap();
        comparison.compare(mistake, expected, &world.named(&message));
    }
    comparison.end();
}

#[tokio::test]
async fn without_a_file_the_variables_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut comparison = Comparison::default();
    for (mistake, variables, expected) in [
        (
            "nothing",
            &[][..],
            "configuration: no configuration file is read, only the environment; give a file with --config, or set the variables that are missing\nconfiguration: clients: none is configured; add one to a file given with --config, or set BEARERD_TOKEN_URL, BEARERD_CLIENT_ID and BEARERD_CLIENT_SECRET_FILE\nconfiguration: upstreams: none is configured; add one to a file given with --config, or set BEARERD_UPSTREAM_URL",
        ),
        (
            "id alone",
            &[("BEARERD_CLIENT_ID", "sb-1")],
            "configuration: no configuration file is read, only the environment; give a file with --config, or set the variables that are missing\nconfiguration: upstreams: none is configured; add one to a file given with --config, or set BEARERD_UPSTREAM_URL\nconfiguration: clients.technical-user.token_url: missing; set BEARERD_TOKEN_URL\nconfiguration: clients.technical-user.client_secret_file: missing; set BEARERD_CLIENT_SECRET_FILE",
        ),
        (
            "misspelt",
            &[("BEARERD_TOKENURL", "https://a.example/oauth/token")],
            "warning: environment variable BEARERD_TOKENURL is set, but bearerd does not know it; correct its name, or remove it\nconfiguration: no configuration file is read, only the environment; give a file with --config, or set the variables that are missing\nconfiguration: clients: none is configured; add one to a file given with --config, or set BEARERD_TOKEN_URL, BEARERD_CLIENT_ID and BEARERD_CLIENT_SECRET_FILE\nconfiguration: upstreams: none is configured; add one to a file given with --config, or set BEARERD_UPSTREAM_URL",
        ),
    ] {
        let mut command = bearerd();
        command.arg("check").envs(variables.iter().copied()).current_dir(folder.path());
        let ended = output(&mut command).await;
        let message = String::from_utf8(ended.stderr).unwrap();
        comparison.compare(mistake, expected, message.trim());
    }
    comparison.end();
}

#[tokio::test]
async fn addresses_that_cannot_be_bound_have_their_message() {
    let mut world = World::start().await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    world.call(&address, "TAKEN");
    let mut comparison = Comparison::default();
    for (mistake, from, to, expected) in [
        (
            "port in use",
            "listen: 127.0.0.1:0\nadmin",
            format!("listen: {address}\nadmin"),
            "cannot listen on TAKEN: Address already in use (os error 98); set `listen` to another address, or stop the process that uses this one",
        ),
        (
            "port of probes in use",
            "{ listen: 127.0.0.1:0 }",
            format!("{{ listen: {address} }}"),
            "cannot listen on TAKEN: Address already in use (os error 98); set `admin.listen` to another address, or stop the process that uses this one",
        ),
        (
            "address of another machine",
            "{ listen: 127.0.0.1:0 }",
            "{ listen: 192.0.2.1:8081 }".to_owned(),
            "cannot listen on 192.0.2.1:8081: Cannot assign requested address (os error 99); check that the address belongs to this machine",
        ),
        (
            "socket in a missing folder",
            "listen: 127.0.0.1:0\nadmin",
            "listen: unix:/no/such/b.sock\nadmin".to_owned(),
            "cannot listen on unix:/no/such/b.sock: No such file or directory (os error 2); make the socket's folder first",
        ),
    ] {
        let yaml = world.good().replace(from, &to);
        let ended = world.run(&mut bearerd(), &["run", "--log-level", "error"], &yaml).await;
        let message = String::from_utf8(ended.stderr).unwrap();
        comparison.compare(mistake, expected, &world.named(&message));
    }
    let mut demo = bearerd();
    let ended = output(demo.args(["demo", "--listen", &address])).await;
    let message = String::from_utf8(ended.stderr).unwrap();
    comparison.compare("port of the demo in use", "cannot listen on TAKEN: Address already in use (os error 98); choose other addresses with --listen and --admin-listen", &world.named(&message));
    comparison.end();
}
