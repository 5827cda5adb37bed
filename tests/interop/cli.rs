//! SAP's `datasphere` command line, with the sidecar as its host and a dummy token.

use crate::support::network::Network;
use crate::support::process::{Process, output};
use crate::support::sidecar::Sidecar;
use crate::support::tls::{Authority, made_in, make_certificate};
use crate::support::{Fixture, accepting, eventually};
use rcgen::SanType;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;

/// The command line with a home folder of its own.
struct Cli<'a> {
    home: TempDir,
    host: &'a str,
    /// The authority that it trusts besides those that it knows.
    authority: Option<PathBuf>,
}

impl<'a> Cli<'a> {
    /// Loads the discovery document, from which the command line makes its commands.
    async fn start(host: &'a str, authority: Option<PathBuf>) -> Self {
        let cli = Self { home: tempfile::tempdir().unwrap(), host, authority };
        cli.run(&["config", "cache", "init"]).await;
        cli
    }

    /// Runs a command and returns what it printed.
    async fn run(&self, arguments: &[&str]) -> String {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/cli");
        let mut command = Command::new(folder.join("node_modules/.bin/datasphere"));
        command
            .args(arguments)
            .args(["--host", self.host, "--access-token", "dummy"])
            .envs(self.authority.iter().map(|file| ("NODE_EXTRA_CA_CERTS", file)))
            .env("HOME", self.home.path())
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let ended = output(&mut command).await;
        let printed = String::from_utf8(ended.stdout).unwrap();
        assert!(ended.status.success(), "{arguments:?}: {printed}");
        printed
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = self.home.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

#[tokio::test]
#[ignore = "needs the Node packages of tests/interop/cli; make test installs them and runs this"]
async fn the_datasphere_cli_reads_and_writes_and_survives_a_stale_token() {
    let fixture = Fixture::start().await;
    let sidecar = Sidecar::ready(&fixture.configuration()).await;
    let cli = Cli::start(&sidecar.url, None).await;

    let listed = cli.run(&["spaces", "list", "--no-pretty"]).await;
    assert_eq!(listed.trim(), r#"["DEMO"]"#);

    let space = r#"{"MY_SPACE":{"spaceDefinition":{"version":"1.0.4","label":"Mine"}}}"#;
    let file = cli.file("space.json", space);
    let created = cli.run(&["spaces", "create", "--file-path", &file]).await;
    assert!(created.contains("spaces read --space MY_SPACE"), "{created}");

    // The token goes stale between two commands.
    fixture.tenant.rotate_keys();
    let read = cli.run(&["spaces", "read", "--space", "MY_SPACE"]).await;
    assert!(read.contains("MY_SPACE") && read.contains("Mine"), "{read}");
    assert_eq!(fixture.tenant.seen().token_requests, 2);

    let file = cli.file("space.json", &space.replace("Mine", "Yours"));
    cli.run(&["spaces", "update", "--space", "MY_SPACE", "--file-path", &file]).await;
    let read = cli.run(&["spaces", "read", "--space", "MY_SPACE"]).await;
    assert!(read.contains("Yours"), "{read}");
    assert_eq!(fixture.tenant.seen().writes_executed, 2);

    let healed = r#"outcome="healed",reason="unauthorized"}"#;
    let series = format!(r#"bearerd_token_heals_total{{client="technical-user",{healed}"#);
    eventually("healed", async || sidecar.metric(&series).await >= 1.0).await;
}

const NAME: &str = "interop::cli::the_datasphere_cli_works_with_the_tenants_own_url";
const TENANT: &str = "acme.eu10.hcs.example";

#[tokio::test]
#[ignore = "needs the Node packages of tests/interop/cli; make test installs them and runs this"]
async fn the_datasphere_cli_works_with_the_tenants_own_url() {
    let Some(network) = Network::for_test(NAME).await else { return };
    let fixture = Fixture::start().await;
    let folder = fixture.folder.path();
    network.name(folder, &format!("127.0.0.1 localhost {TENANT}\n")).await;
    // The demo tenant under that name: its own certificate is for localhost.
    let authority = Authority::new();
    let server = authority.server_of(rustls::ALL_VERSIONS, None, |params| {
        params.subject_alt_names = vec![SanType::DnsName(TENANT.try_into().unwrap())];
    });
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let own = fixture.tenant.url().replace("https://", "").replace("localhost", "127.0.0.1");
    let connector = Authority::connector_of(fixture.tenant.ca_pem());
    let listener = TcpListener::bind("127.0.0.2:443").await.unwrap();
    let _tenant = accepting(listener, move |stream| {
        let (acceptor, connector, own) = (acceptor.clone(), connector.clone(), own.clone());
        async move {
            let Ok(mut outside) = acceptor.accept(stream).await else { return };
            let inside = TcpStream::connect(own).await.unwrap();
            let name = "localhost".try_into().unwrap();
            let mut inside = connector.connect(name, inside).await.unwrap();
            // Either side may end it.
            let _ = copy_bidirectional(&mut outside, &mut inside).await;
        }
    });
    let (url, of_tenant) = (format!("https://{TENANT}"), tempfile::tempdir().unwrap());
    let tls = made_in(&folder.join("tls"));
    let config = fixture
        .configuration()
        .upstream("url", &url)
        .upstream("ca_file", authority.write_pem(of_tenant.path()))
        .upstream("connect_to", "127.0.0.2")
        .key("listen", format!("{{ address: 127.0.0.1:443, tls: {tls} }}"))
        .key("access", format!("{{ hosts: [{TENANT}] }}"));
    let file = folder.join("bearerd.yaml");
    std::fs::write(&file, config.to_string()).unwrap();
    make_certificate(&file, &folder.join("tls")).await;
    let process = Process::start_with_file(folder, &file).await;
    process.wait_until_ready().await;

    let cli = Cli::start(&url, Some(folder.join("tls/ca.pem"))).await;
    assert_eq!(cli.run(&["spaces", "list", "--no-pretty"]).await.trim(), r#"["DEMO"]"#);
    let space = r#"{"MY_SPACE":{"spaceDefinition":{"version":"1.0.4","label":"Mine"}}}"#;
    let file = cli.file("space.json", space);
    cli.run(&["spaces", "create", "--file-path", &file]).await;
    let read = cli.run(&["spaces", "read", "--space", "MY_SPACE"]).await;
    assert!(read.contains("Mine"), "{read}");
    assert_eq!(fixture.tenant.seen().writes_executed, 1);
}
