//! The command line: output and exit codes.

use crate::support::issuer;
use crate::support::process::{bearerd, output, written};
use crate::support::upstream::{Behaviour, Peer};
use crate::support::{Fixture, eventually, folder_of, process::Process};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn the_reference_and_the_schema_that_ship_are_those_that_are_printed() {
    for (command, file) in [("reference", "reference.yaml"), ("schema", "bearerd.schema.json")] {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(file);
        let shipped = std::fs::read_to_string(shipped).unwrap();
        let printed = output(bearerd().arg(command)).await;
        assert!(printed.status.success());
        let advice = format!("stale: run `bearerd {command} > config/{file}`");
        assert_eq!(text(&printed.stdout), shipped, "{advice}");
    }
}

#[tokio::test]
async fn a_check_explains_and_sends_nothing() {
    let fixture = Fixture::start().await;
    let path = written(fixture.folder.path(), &fixture.configuration());
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
    let key = fixture.path("api_key");
    let access = format!("{{ api_key_file: {} }}", key.display());
    let config = fixture.configuration().key("access", access);
    let path = written(fixture.folder.path(), &config);
    for (content, is_good) in [("key-1\n", true), ("key-1 \n", false), ("key-1\nkey-2\n", false)] {
        std::fs::write(&key, content).unwrap();
        let checked = output(bearerd().args(["check", "--config"]).arg(&path)).await;
        let printed = text(&checked.stderr);
        assert_eq!(checked.status.success(), is_good, "{content:?}: {printed}");
        assert!(is_good || printed.contains("api_key ") && !printed.contains("key-1"), "{printed}");
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
        let printed = text(&failed.stderr);
        for fault in [
            ":1:1: lisen: unknown key `lisen`; did you mean `listen`?",
            ":2:10: workers: `many` is not a number",
            "clients: none is configured",
            "upstreams: none is configured",
        ] {
            assert!(printed.contains(fault), "{fault}: {printed}");
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
    let path = written(fixture.folder.path(), &fixture.configuration());
    for (name, content) in [("secret", ""), ("ca.pem", "no certificate")] {
        let file = fixture.path(name);
        let good = std::fs::read(&file).unwrap();
        std::fs::write(&file, content).unwrap();
        for command in ["check", "run"] {
            let failed = output(bearerd().args([command, "--config"]).arg(&path)).await;
            assert_eq!(failed.status.code(), Some(1), "{command} {name}");
            let printed = text(&failed.stderr);
            assert!(printed.contains(file.to_str().unwrap()), "{printed}");
        }
        std::fs::write(&file, good).unwrap();
    }
}

#[tokio::test]
async fn the_environment_alone_is_enough_and_misspellings_are_reported() {
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
async fn flags_override_the_environment_and_the_environment_overrides_the_file() {
    let fixture = Fixture::start().await;
    let path = written(fixture.folder.path(), &fixture.configuration());
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
async fn every_step_of_the_demos_tour_works() {
    let tour = output(bearerd().args(["demo", "--once"])).await;
    let printed = text(&tour.stdout);
    assert!(tour.status.success(), "{printed}{}", text(&tour.stderr));
    assert_eq!(printed.lines().filter(|line| line.starts_with("ok ")).count(), 10, "{printed}");
}

#[tokio::test]
async fn an_address_in_use_ends_the_process_at_once_with_1() {
    let fixture = Fixture::start().await;
    let taken = fixture.tenant.issuer_addr();
    let path = written(fixture.folder.path(), &fixture.configuration());
    for (flag, key) in [("--listen", "`listen`"), ("--admin-listen", "`admin.listen`")] {
        let mut command = bearerd();
        command.args(["run", flag, &taken.to_string(), "--config"]).arg(&path);
        let failed = output(&mut command).await;
        assert_eq!(failed.status.code(), Some(1));
        let printed = text(&failed.stderr);
        let wanted = format!("cannot listen on {taken}: Address already in use");
        assert!(printed.contains(&wanted) && printed.contains(key), "{printed}");
    }
    assert_eq!(fixture.tenant.seen().token_requests, 0, "it sent no request");
}

#[tokio::test]
async fn a_unix_socket_serves_its_owner_and_is_removed_at_the_end() {
    use std::os::unix::fs::PermissionsExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let fixture = Fixture::start().await;
    let socket = fixture.path("b.sock");
    // The socket of a crashed process.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let listen = format!("[127.0.0.1:0, 'unix:{}']", socket.display());
    let config = fixture.configuration().key("listen", listen);
    let mut process = Process::start(fixture.folder.path(), &config).await;
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
    let listen = format!("[127.0.0.1:0, 'unix:{}']", socket.display());
    let config = fixture.configuration().key("listen", listen);
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut old = Process::start(first.path(), &config).await;
    std::fs::remove_file(&socket).unwrap();
    let mut new = Process::start(second.path(), &config).await;
    old.signal("TERM").await;
    assert_eq!(old.exit_code().await, Some(0));
    assert!(
        tokio::net::UnixStream::connect(&socket).await.is_ok(),
        "the new process's socket stays"
    );
    new.signal("TERM").await;
    assert_eq!(new.exit_code().await, Some(0));
    assert!(!socket.exists());
}

#[tokio::test]
async fn the_check_names_the_addresses_that_callers_cannot_use_as_a_host() {
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
    let printed = text(&checked.stdout);
    assert!(
        printed.contains("127.0.0.2:8080 is not accepted as a host name")
            && !printed.contains("127.0.0.1:8080 is not accepted"),
        "{printed}"
    );
}

/// A token whose claims hold a line of their own and control characters.
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
async fn the_claims_of_a_token_move_no_cursor_and_begin_no_line() {
    let issuer = Peer::start(issuer::token(&deceptive_token(), 3600)).await;
    let location = "location: /x\u{9b}31m\r\n";
    let upstream = Peer::start(issuer::status("302 Found", location, "")).await;
    let folder = tempfile::tempdir().unwrap();
    let config = written(folder.path(), &issuer.configuration(&upstream.url()));
    for arguments in [&["token"][..], &["token", "--json"], &["doctor"], &["doctor", "--json"]] {
        let printed = output(bearerd().args(arguments).arg("--config").arg(&config)).await;
        let printed = text(&printed.stdout) + &text(&printed.stderr);
        assert!(printed.contains("sb-1"), "{printed}");
        let odd = |character: char| {
            let unseen = "\u{202e}\u{200b}\u{feff}\u{ad}\u{2060}\u{e0041}\u{e0101}";
            character != '\n' && character.is_control() || unseen.contains(character)
        };
        assert!(!printed.contains(odd), "{arguments:?}: {printed:?}");
        assert!(!printed.lines().any(|line| line.starts_with("valid     for ever")), "{printed}");
        if arguments.contains(&"--json") {
            let document =
                printed.split_inclusive('\n').take_while(|line| !line.starts_with("Error"));
            let document: String = document.collect();
            let end = document.rfind(['}', ']']).unwrap();
            serde_json::from_str::<serde_json::Value>(&document[..=end]).unwrap();
        }
    }
}

#[tokio::test]
async fn a_command_that_reads_a_secret_leaves_no_core_dump_and_its_memory_is_not_readable() {
    let issuer = Peer::start(Behaviour::Hang).await;
    let folder = tempfile::tempdir().unwrap();
    let config = written(folder.path(), &issuer.configuration("http://127.0.0.1:9"));
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
        // The files of a process that is not dumpable do not belong to its user.
        let own = std::fs::metadata("/proc/self/mem").unwrap().uid();
        let hidden = std::fs::metadata(place.join("mem")).unwrap().uid();
        assert!(own == 0 || hidden != own, "{command}");
        started.kill().await.unwrap();
    }
}

#[tokio::test]
async fn the_demos_files_are_private_to_its_user_whatever_the_umask() {
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

#[tokio::test]
async fn shells_and_man_know_each_command() {
    let folder = tempfile::tempdir().unwrap();
    assert!(output(bearerd().arg("man").arg(folder.path())).await.status.success());
    for command in ["run", "exec", "wait", "check", "token", "doctor", "demo", "reference"] {
        let page = std::fs::read_to_string(folder.path().join(format!("bearerd-{command}.1")));
        assert!(page.unwrap().contains(".TH"), "{command}");
        for shell in ["bash", "zsh", "fish"] {
            let script = text(&output(bearerd().args(["completions", shell])).await.stdout);
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
}

#[tokio::test]
async fn a_version_names_commit_and_features() {
    let printed = text(&output(bearerd().arg("version")).await.stdout);
    let version = concat!("bearerd ", env!("CARGO_PKG_VERSION"), "\ncommit: ");
    assert!(printed.starts_with(version) && printed.contains("\nfeatures: demo"), "{printed}");
}
