//! `bearerd exec` and `bearerd wait`.

use crate::support::process::{Process, bearerd, output, signal, starting, written};
use crate::support::{DEADLINE, Fixture, eventually, http};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::timeout;

const SALES: &str = "/api/v1/datasphere/consumption/relational/DEMO/SALES/SALES?$top=1";

/// A tool for the shell, which runs with a sidecar for this configuration file.
fn running(config: &Path, options: &[&str], script: &str) -> Command {
    let mut command = bearerd();
    command.args(["exec", "--config"]).arg(config).args(options);
    command.args(["--", "/bin/sh", "-c", script]).current_dir(config.parent().unwrap());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A tool that has started and waits for the file `go`.
struct WaitingTool {
    child: Child,
    folder: PathBuf,
    url: String,
}

impl WaitingTool {
    /// Starts it with these options of `bearerd exec`.
    async fn start(config: &Path, name: &str, options: &[&str]) -> Self {
        let script = format!(
            "echo \"$BEARERD_USER:$BEARERD_PASSWORD\" > {name}.credential; trap 'exit 9' TERM
            echo \"$BEARERD_URL\" > {name}.new; mv {name}.new {name}.url
            for _ in $(seq 1200); do [ -e {name}.go ] && exit 7; [ -e {name}.url ] || break; sleep 0.05; done; exit 8"
        );
        let mut command = running(config, options, &script);
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        let folder = config.parent().unwrap().to_owned();
        let file = folder.join(format!("{name}.url"));
        eventually("started", async || file.exists()).await;
        let url = std::fs::read_to_string(file).unwrap().trim().to_owned();
        Self { child, folder, url }
    }

    async fn rows(&self) -> reqwest::Result<u16> {
        let answer = http().get(format!("{}{SALES}", self.url)).send().await?;
        Ok(answer.status().as_u16())
    }

    fn let_go(&self, name: &str) {
        std::fs::write(self.folder.join(format!("{name}.go")), "").unwrap();
    }

    async fn end(self) -> Output {
        timeout(DEADLINE, self.child.wait_with_output()).await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn tools_run_at_the_same_time_with_a_sidecar_each_that_ends_with_them() {
    let fixture = Fixture::start().await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = taken.local_addr().unwrap();
    let config = written(fixture.folder.path(), &fixture.configuration().key("listen", listen));
    let one = WaitingTool::start(&config, "one", &[]).await;
    let two = WaitingTool::start(&config, "two", &[]).await;
    assert_ne!(one.url, two.url);
    assert_eq!((one.rows().await.unwrap(), two.rows().await.unwrap()), (200, 200));
    one.let_go("one");
    let url = one.url.clone();
    let ended = one.end().await;
    assert_eq!(ended.status.code(), Some(7), "{}", text(&ended.stderr));
    assert_eq!(text(&ended.stderr), "", "only warnings are written");
    assert!(http().get(format!("{url}{SALES}")).send().await.unwrap_err().is_connect());
    assert_eq!(two.rows().await.unwrap(), 200);
    two.let_go("two");
    assert_eq!(two.end().await.status.code(), Some(7));
}

#[tokio::test]
async fn the_tool_gets_the_url_and_no_secret() {
    let fixture = Fixture::start().await;
    let config = fixture
        .configuration()
        .without_client_keys(&["client_secret_file"])
        .client("client_secret", "\"${SECRET_OF_MINE}\"")
        .client("ca_file", "\"${HOME}/ca.pem\"");
    let config = written(fixture.folder.path(), &config);
    let secret = fixture.tenant.client_secret();
    let hidden =
        ["SECRET_OF_MINE", "BEARERD_X", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "LISTEN_FDS"];
    let home = fixture.folder.path().to_str().unwrap();
    // With the first, the configuration refers to a variable that it does not use.
    for more in ["BEARERD_CLIENT_SECRET", "BEARERD_Y"] {
        let options = ["--env", "SERVICE={url}/api"];
        let mut command = running(&config, &options, "env; echo limits $(ulimit -c) $(ulimit -n)");
        command.envs(hidden.map(|name| (name, secret.as_str()))).env(more, &secret);
        command.env("no_proxy", "intranet").env("HOME", home).env("BEARERD_LOG", "error");
        let ran = output(&mut command).await;
        let (printed, errors) = (text(&ran.stdout), text(&ran.stderr));
        assert!(ran.status.success(), "{errors}");
        let value = |name: &str| {
            let of = |line: &str| line.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
            printed.lines().find_map(of)
        };
        let url = value("BEARERD_URL").unwrap();
        assert_eq!(value("SERVICE"), Some(format!("{url}/api")));
        for name in ["no_proxy", "NO_PROXY"] {
            assert_eq!(value(name).as_deref(), Some("intranet,127.0.0.1,localhost"));
        }
        assert_eq!(value("HOME").as_deref(), Some(home));
        for name in hidden.iter().chain(&["BEARERD_LOG", more]) {
            assert_eq!(value(name), None);
        }
        assert!(!printed.contains(&secret) && !errors.contains(&secret), "{printed}{errors}");
        let mut shell = starting("/bin/sh");
        let limits = output(shell.args(["-c", "echo limits $(ulimit -c) $(ulimit -n)"]));
        assert!(printed.ends_with(&text(&limits.await.stdout)), "{printed}");
    }
}

#[tokio::test]
async fn each_address_keeps_its_ip_and_has_a_url() {
    let fixture = Fixture::start().await;
    let config = fixture.configuration().key("listen", "[127.0.0.1:8080, 127.0.0.2:8080]");
    let config = written(fixture.folder.path(), &config);
    let options = ["--env", "OTHER={url_2}/x"];
    let script = "echo $BEARERD_URL $BEARERD_URL_2 $OTHER $no_proxy";
    let ran = output(&mut running(&config, &options, script)).await;
    let printed = text(&ran.stdout);
    let [one, two, other, exempt] = printed.split_whitespace().collect::<Vec<_>>()[..] else {
        panic!("{printed}{}", text(&ran.stderr));
    };
    assert!(one.starts_with("http://127.0.0.1:") && two.starts_with("http://127.0.0.2:"));
    assert!(!printed.contains(":8080"), "{printed}");
    assert_eq!(other, format!("{two}/x"));
    assert_eq!(exempt, "127.0.0.1,localhost,127.0.0.2");
}

#[tokio::test]
async fn exit_codes_and_signals_are_the_tools() {
    let fixture = Fixture::start().await;
    let config = written(fixture.folder.path(), &fixture.configuration());
    for (script, code) in
        [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill -TERM $$", 143)]
    {
        let ran = output(&mut running(&config, &[], script)).await;
        assert_eq!(ran.status.code(), Some(code), "{script}: {}", text(&ran.stderr));
    }
    let tool = WaitingTool::start(&config, "signalled", &[]).await;
    signal(tool.child.id().unwrap(), "TERM").await;
    assert_eq!(tool.end().await.status.code(), Some(9));
    let bare = fixture.path("bare");
    std::fs::write(&bare, "exit 0\n").unwrap();
    std::fs::set_permissions(&bare, Permissions::from_mode(0o755)).unwrap();
    let bare = bare.to_str().unwrap();
    let advice = "a script needs `#!/bin/sh` as its first line";
    for (program, code, part) in
        [("/nowhere/tool", 127, ""), ("/etc/hostname", 126, ""), (bare, 126, advice)]
    {
        let mut command = bearerd();
        command.args(["exec", "--config"]).arg(&config).args(["--", program]);
        let ran = output(&mut command).await;
        assert_eq!(ran.status.code(), Some(code));
        let errors = text(&ran.stderr);
        assert!(errors.contains(&format!("cannot start {program}: ")), "{errors}");
        assert!(errors.contains(part), "{errors}");
    }
}

/// The sidecar of this `bearerd exec`.
fn sidecar_of(exec: u32) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{exec}/task/{exec}/children")).unwrap();
    let is_sidecar = |pid: &u32| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline"));
        line.is_ok_and(|line| line.contains("--for-exec"))
    };
    children.split_whitespace().map(|pid| pid.parse().unwrap()).find(is_sidecar).unwrap()
}

#[tokio::test]
async fn signals_to_every_process_are_for_the_tool() {
    let fixture = Fixture::start().await;
    let config = written(fixture.folder.path(), &fixture.configuration());
    let tool = WaitingTool::start(&config, "group", &[]).await;
    let sidecar = sidecar_of(tool.child.id().unwrap());
    for name in ["TERM", "INT", "HUP"] {
        signal(sidecar, name).await;
    }
    // The signals arrive before a connection that is opened after them.
    for _ in 0..3 {
        assert_eq!(tool.rows().await.unwrap(), 200);
    }
    tool.let_go("group");
    assert_eq!(tool.end().await.status.code(), Some(7));
}

#[tokio::test]
async fn a_signal_that_is_ignored_stays_ignored() {
    let fixture = Fixture::start().await;
    let config = written(fixture.folder.path(), &fixture.configuration());
    let mut command = starting("/bin/sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_bearerd")]);
    command.args(["exec", "--config"]).arg(&config);
    command.args(["--", "/bin/sh", "-c", "kill -HUP $PPID; kill -HUP $$; exit 5"]);
    let ran = output(&mut command).await;
    assert_eq!(ran.status.code(), Some(5), "{}", text(&ran.stderr));
}

#[tokio::test]
async fn a_sidecar_ends_when_its_parent_is_killed() {
    let fixture = Fixture::start().await;
    let config = written(fixture.folder.path(), &fixture.configuration());
    let tool = WaitingTool::start(&config, "orphan", &[]).await;
    let url = format!("{}{SALES}", tool.url);
    assert_eq!(tool.rows().await.unwrap(), 200);
    signal(tool.child.id().unwrap(), "KILL").await;
    eventually("gone", async || {
        http().get(&url).send().await.is_err_and(|error| error.is_connect())
    })
    .await;
    tool.let_go("orphan");
}

#[tokio::test]
async fn a_tool_is_not_run_without_a_token() {
    let fixture = Fixture::start().await;
    std::fs::write(fixture.path("secret"), "wrong").unwrap();
    let config = written(fixture.folder.path(), &fixture.configuration());
    // It does not wait for the timeout, because the issuer refuses the client.
    let ran = output(&mut running(&config, &["--timeout", "1h"], "touch ran")).await;
    let errors = text(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{errors}");
    let reason = "there is no token, so the tool was not started: not ready, pending: token of technical-user: ";
    assert!(errors.contains(reason), "{errors}");
    std::fs::write(&config, "lisen: 127.0.0.1:1\n").unwrap();
    let ran = output(&mut running(&config, &[], "touch ran")).await;
    assert_eq!(ran.status.code(), Some(64));
    assert!(text(&ran.stderr).contains("did you mean `listen`?"));
    assert!(!fixture.path("ran").exists());
}

#[tokio::test]
async fn a_credential_is_made_for_one_run() {
    let fixture = Fixture::start().await;
    let config = written(fixture.folder.path(), &fixture.configuration());
    let tool = WaitingTool::start(&config, "alone", &["--credential", "--log-file", "log"]).await;
    assert!(tool.url.starts_with("http://exec:"), "{}", tool.url);
    assert_eq!(tool.rows().await.unwrap(), 200);
    let (_, address) = tool.url.split_once('@').unwrap();
    let answer = http().get(format!("http://{address}{SALES}")).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    let password = tool.url.split([':', '@']).nth(2).unwrap().to_owned();
    let variables = std::fs::read_to_string(fixture.path("alone.credential")).unwrap();
    assert_eq!(variables.trim(), format!("exec:{password}"));
    tool.let_go("alone");
    assert_eq!(tool.end().await.status.code(), Some(7));
    let log = std::fs::read_to_string(fixture.path("log")).unwrap();
    assert!(log.contains("bearerd is starting.") && !log.contains(&password), "{log}");

    std::fs::write(fixture.path("key"), "local").unwrap();
    let access = format!("{{ api_key_file: {} }}", fixture.path("key").display());
    let config = written(fixture.folder.path(), &fixture.configuration().key("access", access));
    let ran = output(&mut running(&config, &["--credential"], "touch ran")).await;
    assert!(text(&ran.stderr).contains("leave out --credential"), "{}", text(&ran.stderr));
    assert!(!fixture.path("ran").exists());
}

#[tokio::test]
async fn wait_ends_when_the_sidecar_is_ready() {
    let fixture = Fixture::start().await;
    let config = written(fixture.folder.path(), &fixture.configuration());
    let wait = async |admin: &str, limit: &str| {
        let mut command = bearerd();
        command.args(["wait", "--config"]).arg(&config);
        output(command.args(["--admin-listen", admin, "--timeout", limit])).await
    };
    let endless = wait("127.0.0.1:9", "99999999999999999999s").await;
    assert_eq!(endless.status.code(), Some(64));
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let failed = wait(&free, "300ms").await;
    let errors = text(&failed.stderr);
    assert_eq!(failed.status.code(), Some(1), "{errors}");
    let reason = format!("the sidecar was not ready within 300ms: nothing answers at {free}; ");
    assert!(errors.contains(&reason), "{errors}");

    let process = Process::start(fixture.folder.path(), &fixture.configuration()).await;
    let admin = process.admin.strip_prefix("http://").unwrap();
    let ready = wait(admin, "20s").await;
    assert!(ready.status.success(), "{}", text(&ready.stderr));
    process.logged("Ready. Tools connect to http://127.0.0.1:").await;
    // The port for callers answers, but not as the admin listener does.
    let wrong = wait(process.host(), "300ms").await;
    let errors = text(&wrong.stderr);
    assert_eq!(wrong.status.code(), Some(1), "{errors}");
    assert!(errors.contains("another program answers at") && errors.contains("404"), "{errors}");
}
