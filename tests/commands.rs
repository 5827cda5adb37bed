//! The command line as a user types it: output, exit codes, files that ship.

use crate::support::process::{bearerd, output};
use crate::support::tls::Authority;
use crate::support::{Fixture, process::Process};
use std::path::{Path, PathBuf};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Whether `bearerd check` takes this example. The secrets are where it says on a user's machine, not on
/// this one.
async fn passes_the_check(example: &Path, places: &[(&str, &Path)], variables: &[(&str, &str)]) {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("bearerd.yaml");
    let mut here = std::fs::read_to_string(example).unwrap();
    for (there, place) in places {
        here = here.replace(there, place.to_str().unwrap());
    }
    std::fs::write(&copy, here).unwrap();
    let mut command = bearerd();
    command.envs(variables.iter().copied()).args(["check", "--config"]).arg(&copy);
    let checked = output(&mut command).await;
    assert!(checked.status.success(), "{example:?}: {}", text(&checked.stderr));
    assert_eq!(text(&checked.stderr), "", "{example:?}");
    assert!(text(&checked.stdout).contains("The configuration is valid."));
}

#[tokio::test]
async fn every_shipped_configuration_passes_the_check() {
    let secrets = folder_of(&[
        ("client_secret", "s3cret"),
        ("dev_client_secret", "s3cret"),
        ("test_client_secret", "s3cret"),
        ("prod_client_secret", "s3cret"),
        ("proxy_credentials", "user:s3cret"),
        ("ca.pem", &Authority::new().pem),
    ]);
    let ca = secrets.path().join("ca.pem");
    let places = [("/run/secrets", secrets.path()), ("/etc/ssl/private-ca.pem", &ca)];
    let mut checked = 0;
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("config")).unwrap() {
        let path = entry.unwrap().path();
        passes_the_check(&path, &places, &[("CLIENT_SECRET", "s3cret")]).await;
        checked += 1;
    }
    assert!(checked >= 3, "{checked}");
}

/// A folder with a file for each of these.
fn folder_of(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

#[tokio::test]
async fn every_configuration_in_deploy_passes_the_check_with_the_credentials_of_its_platform() {
    let token_url = "https://acme.authentication.eu10.hana.ondemand.com/oauth/token";
    let id = "sb-1f2e!b42|client!b7";
    let plain =
        folder_of(&[("client_id", id), ("client_secret", "s3cret"), ("token_url", token_url)]);
    // As SAP BTP service operator writes a binding of Cloud Transport Management.
    let uaa = r#"{"clientid":"sb-77c1!b99|transport!b3","clientsecret":"s3cret","url":"https://build.authentication.eu10.hana.ondemand.com"}"#;
    let metadata = r#"{"metaDataProperties":[{"name":"type","format":"text"},{"name":"plan","format":"text"},{"name":"tags","format":"json"}],"credentialProperties":[{"name":"uaa","format":"json"},{"name":"uri","format":"text"}]}"#;
    let binding = folder_of(&[
        (".metadata", metadata),
        ("type", "transport"),
        ("plan", "standard"),
        ("tags", "[]"),
        ("uaa", uaa),
        ("uri", "https://transport-service-app-backend.ts.cfapps.eu10.hana.ondemand.com"),
    ]);
    let services = format!(
        r#"{{"user-provided":[{{"label":"user-provided","name":"bearerd-credentials","tags":[],"credentials":{{"client_id":"{id}","client_secret":"s3cret","token_url":"{token_url}"}}}}]}}"#
    );
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let mounted = "/run/secrets/bearerd";
    let of_folder = [(mounted, plain.path())];
    let of_binding = [(mounted, binding.path())];
    let systemd = [("CREDENTIALS_DIRECTORY", plain.path().to_str().unwrap())];
    let cloud_foundry = [("VCAP_SERVICES", services.as_str())];
    let plain_sidecar = [("LAME_DUCK", "10s"), ("GRACE", "15s")];
    let examples: [(&str, &[_], &[_]); 7] = [
        ("kubernetes/base", &of_folder, &[]),
        ("kubernetes/base", &of_folder, &plain_sidecar),
        ("kubernetes/overlays/unix-socket", &of_folder, &[]),
        ("kubernetes/overlays/btp-service-operator", &of_binding, &[]),
        ("compose/bearerd", &of_folder, &[]),
        ("cloudfoundry/bearerd", &[], &cloud_foundry),
        ("systemd", &[], &systemd),
    ];
    let mut shipped = files_named("bearerd.yaml", &deploy);
    for (example, places, variables) in examples {
        let path = deploy.join(example).join("bearerd.yaml");
        passes_the_check(&path, places, variables).await;
        shipped.retain(|file| *file != path);
    }
    // The image's own is checked with the image.
    shipped.retain(|file| !file.starts_with(deploy.join("image")));
    assert!(shipped.is_empty(), "nobody checks {shipped:?}");
}

fn files_named(name: &str, folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { files_named(name, &path) } else { vec![path] })
        .filter(|path| path.file_name().is_some_and(|file| file == name))
        .collect()
}

#[tokio::test]
async fn the_reference_that_ships_is_the_one_that_is_printed() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/reference.yaml");
    let shipped = std::fs::read_to_string(shipped).unwrap();
    let printed = output(bearerd().arg("reference")).await;
    assert!(printed.status.success());
    let advice = "stale: run `bearerd reference > config/reference.yaml`";
    assert_eq!(text(&printed.stdout), shipped, "{advice}");
}

#[tokio::test]
async fn a_check_explains_and_sends_nothing() {
    let fixture = Fixture::start().await;
    let path = fixture.path("bearerd.yaml");
    std::fs::write(&path, fixture.config("", "")).unwrap();
    let checked = output(bearerd().args(["check", "--config"]).arg(&path)).await;
    let explained = text(&checked.stdout);
    for part in
        ["technical-user", fixture.tenant.client_id(), "/api/v1/scim2", "GET, HEAD, POST", "$batch"]
    {
        assert!(explained.contains(part), "{part}: {explained}");
    }
    assert!(!explained.contains(&fixture.tenant.client_secret()));
    assert_eq!(fixture.tenant.seen().token_requests, 0);
}

#[tokio::test]
async fn a_wrong_configuration_ends_with_64_and_all_its_faults() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bearerd.yaml");
    std::fs::write(&path, "lisen: 127.0.0.1:1\nworkers: many\nclients: {}\n").unwrap();
    for command in ["check", "run"] {
        let failed = output(bearerd().args([command, "--config"]).arg(&path)).await;
        assert_eq!(failed.status.code(), Some(64), "{command}");
        let told = text(&failed.stderr);
        for fault in [
            ":1:1: lisen: unknown key `lisen`; did you mean `listen`?",
            ":2:10: workers: `many` is not a number",
            "clients: none is configured",
            "upstreams: none is configured",
        ] {
            assert!(told.contains(fault), "{fault}: {told}");
        }
    }
    let failed = output(bearerd().args(["run", "--config", "/nowhere/b.yaml"])).await;
    assert_eq!(failed.status.code(), Some(64));
    assert!(text(&failed.stderr).contains("/nowhere/b.yaml"));
    assert_eq!(output(bearerd().arg("brew")).await.status.code(), Some(64));
    assert_eq!(output(bearerd().arg("--version")).await.status.code(), Some(0));
}

#[tokio::test]
async fn a_missing_secret_or_certificate_ends_with_1_and_its_path() {
    let fixture = Fixture::start().await;
    let path = fixture.path("bearerd.yaml");
    std::fs::write(&path, fixture.config("", "")).unwrap();
    for (name, content) in [("secret", ""), ("ca.pem", "no certificate")] {
        let file = fixture.path(name);
        let good = std::fs::read(&file).unwrap();
        std::fs::write(&file, content).unwrap();
        for command in ["check", "run"] {
            let failed = output(bearerd().args([command, "--config"]).arg(&path)).await;
            assert_eq!(failed.status.code(), Some(1), "{command} {name}");
            let told = text(&failed.stderr);
            assert!(told.contains(file.to_str().unwrap()), "{told}");
        }
        std::fs::write(&file, good).unwrap();
    }
}

#[tokio::test]
async fn the_environment_alone_is_enough_and_misspellings_are_told() {
    let fixture = Fixture::start().await;
    let mut command = bearerd();
    command
        .arg("check")
        .env("BEARERD_UPSTREAM_URL", fixture.tenant.url())
        .env("BEARERD_TOKEN_URL", fixture.tenant.token_url())
        .env("BEARERD_CLIENT_ID", fixture.tenant.client_id())
        .env("BEARERD_CLIENT_SECRET", "pa${ss}w$rd")
        .env("BEARERD_CA_FILE", fixture.path("ca.pem"))
        .env("BEARERD_LISTNE", "127.0.0.1:1");
    let checked = output(&mut command).await;
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    assert!(text(&checked.stderr).contains("BEARERD_LISTNE is set, but"));
    assert!(text(&checked.stdout).contains(fixture.tenant.client_id()));
}

#[tokio::test]
async fn flags_win_over_the_environment_and_that_over_the_file() {
    let fixture = Fixture::start().await;
    let path = fixture.path("bearerd.yaml");
    std::fs::write(&path, fixture.config("", "")).unwrap();
    let listens = async |environment: Option<&str>, flag: Option<&str>| {
        let mut command = bearerd();
        command.args(["check", "--config"]).arg(&path);
        command.envs(environment.map(|value| ("BEARERD_LISTEN", value)));
        command.args(flag.map(|value| format!("--listen={value}")));
        text(&output(&mut command).await.stdout).lines().next().unwrap().to_owned()
    };
    assert!(listens(None, None).await.contains("127.0.0.1:0"));
    assert!(listens(Some("127.0.0.1:1111"), None).await.contains("127.0.0.1:1111"));
    let both = listens(Some("127.0.0.1:1111"), Some("127.0.0.1:2222")).await;
    assert!(both.contains("127.0.0.1:2222"), "{both}");
}

#[tokio::test]
async fn the_tour_of_the_demo_holds() {
    let tour = output(bearerd().args(["demo", "--once"])).await;
    let told = text(&tour.stdout);
    assert!(tour.status.success(), "{told}{}", text(&tour.stderr));
    assert_eq!(told.lines().filter(|line| line.starts_with("ok ")).count(), 10, "{told}");
}

#[tokio::test]
async fn an_address_in_use_ends_the_process_at_once_with_1() {
    let fixture = Fixture::start().await;
    let taken = fixture.tenant.issuer_addr();
    let path = fixture.path("bearerd.yaml");
    std::fs::write(&path, fixture.config("", "")).unwrap();
    for (flag, key) in [("--listen", "`listen`"), ("--admin-listen", "`admin.listen`")] {
        let mut command = bearerd();
        command.args(["run", flag, &taken.to_string(), "--config"]).arg(&path);
        let failed = output(&mut command).await;
        assert_eq!(failed.status.code(), Some(1));
        let told = text(&failed.stderr);
        let wanted = format!("cannot listen on {taken}: Address already in use");
        assert!(told.contains(&wanted) && told.contains(key), "{told}");
    }
    assert_eq!(fixture.tenant.seen().token_requests, 0, "nothing was begun");
}

#[tokio::test]
async fn a_unix_socket_serves_its_owner_and_is_removed_at_the_end() {
    use std::os::unix::fs::PermissionsExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let fixture = Fixture::start().await;
    let socket = fixture.path("b.sock");
    // A socket that a crashed process left behind.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let listen = format!("listen: [127.0.0.1:0, 'unix:{}']", socket.display());
    let config = fixture.config("", "").replace("listen: 127.0.0.1:0\n", &format!("{listen}\n"));
    let mut process = Process::start(fixture.folder.path(), &config, &[]).await;
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
    let request = "GET /api/v1/datasphere/consumption/catalog/spaces HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    process.signal("TERM").await;
    assert_eq!(process.exit_code().await, Some(0));
    assert!(!socket.exists());
}

#[tokio::test]
async fn an_ending_process_leaves_its_successors_socket_alone() {
    let fixture = Fixture::start().await;
    let socket = fixture.path("b.sock");
    let listen = format!("listen: [127.0.0.1:0, 'unix:{}']\n", socket.display());
    let config = fixture.config("", "").replace("listen: 127.0.0.1:0\n", &listen);
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut old = Process::start(first.path(), &config, &[]).await;
    std::fs::remove_file(&socket).unwrap();
    let mut new = Process::start(second.path(), &config, &[]).await;
    old.signal("TERM").await;
    assert_eq!(old.exit_code().await, Some(0));
    assert!(tokio::net::UnixStream::connect(&socket).await.is_ok(), "it is the new one's");
    new.signal("TERM").await;
    assert_eq!(new.exit_code().await, Some(0));
    assert!(!socket.exists());
}

#[tokio::test]
async fn the_check_tells_which_address_callers_cannot_use_as_a_name() {
    let folder = folder_of(&[(
        "b.yaml",
        "listen: [127.0.0.1:8080, 127.0.0.2:8080]
clients:
  c: { token_url: 'https://i.example/oauth/token', client_id: id, client_secret: s3cret }
upstreams:
  u: { url: 'https://t.example' }
",
    )]);
    let checked =
        output(bearerd().args(["check", "--config"]).arg(folder.path().join("b.yaml"))).await;
    let told = text(&checked.stdout);
    assert!(
        told.contains("Not by 127.0.0.2:8080,") && !told.contains("Not by 127.0.0.1"),
        "{told}"
    );
}
