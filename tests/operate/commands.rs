//! The command line as a user types it: output, exit codes, files that ship.

use crate::support::issuer;
use crate::support::process::{bearerd, output, written};
use crate::support::tls::Authority;
use crate::support::upstream::{Behaviour, Peer};
use crate::support::{Fixture, eventually, process::Process};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

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

/// What a deployment's memory limit is in MiB: the last number of a file that is one of memory.
fn memory_limit(file: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(file).unwrap();
    let of_line = |line: &str| {
        let (key, value) = line.trim().split_once([':', '='])?;
        let is_limit = ["memory", "mem_limit", "MemoryMax"].contains(&key);
        let digits = value.trim().trim_end_matches(|unit: char| !unit.is_ascii_digit());
        digits.parse().ok().filter(|_| is_limit)
    };
    text.lines().filter_map(of_line).next_back()
}

#[test]
fn every_memory_limit_in_deploy_fits_the_requests_at_once() {
    const EIGHT: u64 = 64;
    const IDLE: u64 = 16;
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let components = [
        "kubernetes/components/sidecar/workload.yaml",
        "kubernetes/components/sidecar/cronjob.yaml",
        "kubernetes/components/plain-sidecar/workload.yaml",
    ];
    let pairs: [(&str, &[&str]); 6] = [
        ("kubernetes/base", &components),
        ("kubernetes/overlays/unix-socket", &components),
        ("kubernetes/overlays/btp-service-operator", &components),
        ("compose/bearerd", &["compose/compose.yaml"]),
        ("cloudfoundry/bearerd", &["cloudfoundry/manifest.yml"]),
        ("systemd", &["systemd/bearerd.service"]),
    ];
    let mut limited: Vec<_> = files(&deploy)
        .into_iter()
        .filter(|file| file.extension().is_some_and(|kind| kind != "json"))
        .filter(|file| memory_limit(file).is_some())
        .collect();
    let mut configured = files_named("bearerd.yaml", &deploy);
    for (folder, files) in pairs {
        let config = deploy.join(folder).join("bearerd.yaml");
        let text = std::fs::read_to_string(&config).unwrap();
        let line = text.lines().find_map(|line| line.trim().strip_prefix("requests: "));
        let requests: u64 =
            line.unwrap_or_else(|| panic!("{config:?} has no limit")).parse().unwrap();
        for file in files.iter().map(|file| deploy.join(file)) {
            let limit = memory_limit(&file).unwrap();
            assert!(
                limit >= EIGHT + (requests - 8) + IDLE,
                "{file:?}: {limit}, {config:?}: {requests}"
            );
            limited.retain(|other| *other != file);
        }
        configured.retain(|other| *other != config);
    }
    assert!(limited.is_empty(), "nobody compares {limited:?}");
    configured.retain(|file| !file.starts_with(deploy.join("image")));
    assert!(configured.is_empty(), "nobody compares {configured:?}");
}

fn files_named(name: &str, folder: &Path) -> Vec<PathBuf> {
    let mut files = files(folder);
    files.retain(|path| path.file_name().is_some_and(|file| file == name));
    files
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
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
async fn a_check_refuses_a_local_key_that_no_caller_can_send() {
    let fixture = Fixture::start().await;
    let (path, key) = (fixture.path("bearerd.yaml"), fixture.path("api_key"));
    let access = format!("access: {{ api_key_file: {} }}\n", key.display());
    std::fs::write(&path, fixture.config("", "") + &access).unwrap();
    for (content, is_good) in [("key-1\n", true), ("key-1 \n", false), ("key-1\nkey-2\n", false)] {
        std::fs::write(&key, content).unwrap();
        let checked = output(bearerd().args(["check", "--config"]).arg(&path)).await;
        let told = text(&checked.stderr);
        assert_eq!(checked.status.success(), is_good, "{content:?}: {told}");
        assert!(is_good || told.contains("api_key ") && !told.contains("key-1"), "{told}");
    }
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

/// A token that says more than it should: a line of its own, and what clears the screen.
fn deceptive_token() -> String {
    let claims = serde_json::json!({
        "cid": "sb-1",
        "iss": "https://issuer.example\nvalid     for ever\u{1b}[2J\u{9b}31m",
        "aud": ["\u{202e}x\u{200b}\u{feff}"],
        "zid": "a\u{ad}\u{2060}\u{e0041}\u{e0101}b",
        "scope": ["a\r", "b"],
    });
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

#[tokio::test]
async fn what_a_token_says_moves_no_cursor_and_begins_no_line() {
    let issuer = Peer::start(issuer::token(&deceptive_token(), 3600)).await;
    let location = "location: /x\u{9b}31m\r\n";
    let upstream = Peer::start(issuer::status("302 Found", location, "")).await;
    let folder = tempfile::tempdir().unwrap();
    let config = written(folder.path(), &issuer.config(&upstream.url(), "", ""));
    for arguments in [&["token"][..], &["token", "--json"], &["doctor"], &["doctor", "--json"]] {
        let told = output(bearerd().args(arguments).arg("--config").arg(&config)).await;
        let told = text(&told.stdout) + &text(&told.stderr);
        assert!(told.contains("sb-1"), "{told}");
        let odd = |character: char| {
            let unseen = "\u{202e}\u{200b}\u{feff}\u{ad}\u{2060}\u{e0041}\u{e0101}";
            character != '\n' && character.is_control() || unseen.contains(character)
        };
        assert!(!told.contains(odd), "{arguments:?}: {told:?}");
        assert!(!told.lines().any(|line| line.starts_with("valid     for ever")), "{told}");
        if arguments.contains(&"--json") {
            let document = told.split_inclusive('\n').take_while(|line| !line.starts_with("Error"));
            let document: String = document.collect();
            let end = document.rfind(['}', ']']).unwrap();
            serde_json::from_str::<serde_json::Value>(&document[..=end]).unwrap();
        }
    }
}

#[tokio::test]
async fn a_command_that_reads_a_secret_leaves_no_core_and_shows_nobody_its_memory() {
    let issuer = Peer::start(Behaviour::Hang).await;
    let folder = tempfile::tempdir().unwrap();
    let config = written(folder.path(), &issuer.config("http://127.0.0.1:9", "", ""));
    for (count, command) in ["token", "doctor"].into_iter().enumerate() {
        let mut started = bearerd()
            .arg(command)
            .arg("--config")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("asked", async || issuer.seen().len() > count).await;
        let place = Path::new("/proc").join(started.id().unwrap().to_string());
        let limits = std::fs::read_to_string(place.join("limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(
            core.split_whitespace().collect::<Vec<_>>()[4..6],
            ["0", "0"],
            "{command}: {core}"
        );
        // Of a process that is not dumpable, these are not its user's.
        let own = std::fs::metadata("/proc/self/mem").unwrap().uid();
        let hidden = std::fs::metadata(place.join("mem")).unwrap().uid();
        assert!(own == 0 || hidden != own, "{command}");
        started.kill().await.unwrap();
    }
}

#[tokio::test]
async fn the_demos_files_are_its_users_alone_whatever_the_umask_says() {
    let folder = tempfile::tempdir().unwrap();
    let run = format!(
        "umask 0; exec '{}' demo --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0",
        env!("CARGO_BIN_EXE_bearerd")
    );
    let mut demo = tokio::process::Command::new("sh");
    demo.args(["-c", &run]).env("TMPDIR", folder.path()).kill_on_drop(true);
    let mut demo = demo.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let files = || -> Vec<PathBuf> {
        let inside = |folder: PathBuf| std::fs::read_dir(folder).into_iter().flatten();
        let all = inside(folder.path().to_owned()).flat_map(|entry| inside(entry.unwrap().path()));
        all.map(|entry| entry.unwrap().path()).collect()
    };
    eventually("written", async || files().len() == 3).await;
    for file in files() {
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700), "{file:?}");
    }
    demo.kill().await.unwrap();
}
