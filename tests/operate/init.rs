//! `bearerd init`.

use crate::support::process::{bearerd, output, starting};
use crate::support::{DEADLINE, Fixture, folder_of};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::time::timeout;

const TOKEN_URL: &str = "https://acme.authentication.eu10.hana.ondemand.com/oauth/token";
const ID: &str = "sb-1f2e!b42|client!b7";
const TENANT: &str = "https://acme.eu10.hcs.cloud.sap";

/// Runs `bearerd init` in a folder with these lines as answers.
async fn init(folder: &Path, answers: &[&str]) -> Output {
    let mut command = bearerd();
    command.arg("init").arg("--config").arg(folder.join("bearerd.yaml")).current_dir(folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines: String = answers.iter().map(|answer| format!("{answer}\n")).collect();
    // It may have ended before it has read all of them.
    let _ = child.stdin.take().unwrap().write_all(lines.as_bytes()).await;
    timeout(DEADLINE, child.wait_with_output()).await.expect("it ends").unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What `bearerd check` says of the configuration in a folder.
async fn checked(folder: &Path) -> String {
    let checked =
        output(bearerd().args(["check", "--config"]).arg(folder.join("bearerd.yaml"))).await;
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    text(&checked.stdout)
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn it_writes_a_configuration_and_a_secret_that_only_the_user_reads() {
    let folder = tempfile::tempdir().unwrap();
    let ended = init(folder.path(), &["", TOKEN_URL, ID, " s3cret$1 ", TENANT, ""]).await;
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    let secret = folder.path().join("client_secret");
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "s3cret$1");
    assert_eq!((mode(&secret), mode(&folder.path().join("bearerd.yaml"))), (0o600, 0o644));
    let meaning = checked(folder.path()).await;
    for part in [TOKEN_URL, ID, TENANT, secret.canonicalize().unwrap().to_str().unwrap()] {
        assert!(meaning.contains(part), "{part}: {meaning}");
    }
    let said = text(&ended.stderr);
    assert!(!said.contains("s3cret"), "{said}");
    assert!(said.contains("bearerd doctor --config") && said.contains("bearerd run --config"));
}

#[tokio::test]
async fn a_wrong_answer_is_asked_again_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let answers = [
        "/no/such/key.json",
        "",
        "http://acme.example/oauth/token",
        TENANT,
        "acme.authentication.eu10.hana.ondemand.com",
        "an id",
        TENANT,
        ID,
        "",
        "s3cret",
        "",
        TOKEN_URL,
        "https://acme.eu10.hcs.cloud.sap/dwaas-ui/index.html#/home",
        "",
    ];
    let ended = init(folder.path(), &answers).await;
    let said = text(&ended.stderr);
    assert!(ended.status.success(), "{said}");
    for reason in [
        "No such file",
        "is http://",
        "is the tenant's URL",
        "holds a space",
        "is a URL; copy the ID",
        "A value is needed",
        "is the issuer's URL",
    ] {
        assert!(said.contains(reason), "{reason}: {said}");
    }
    let meaning = checked(folder.path()).await;
    assert!(meaning.contains(TOKEN_URL) && meaning.contains(TENANT), "{meaning}");
}

#[tokio::test]
async fn a_service_key_that_names_the_tenant_is_enough() {
    let key = format!(
        r#"{{"uaa":{{"clientid":"{ID}","clientsecret":"s3cret","url":"https://acme.authentication.eu10.hana.ondemand.com"}},"uri":"{TENANT}"}}"#
    );
    let folder = folder_of(&[("key.json", &key)]);
    let ended = init(folder.path(), &["key.json", "", ""]).await;
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    assert!(!folder.path().join("client_secret").exists());
    let meaning = checked(folder.path()).await;
    assert!(meaning.contains(ID) && meaning.contains(TENANT), "{meaning}");
}

#[tokio::test]
async fn credentials_that_cannot_be_used_change_nothing() {
    let no_url =
        format!(r#"{{"clientid":"{ID}","clientsecret":"s3cret","url":"https://a.example"}}"#);
    let folder = folder_of(&[("broken.json", "{"), ("empty", ""), ("no_url.json", &no_url)]);
    for (file, reason) in [("broken.json", "JSON"), ("empty", "empty"), ("no_url.json", "url")] {
        let ended = init(folder.path(), &[file, "", ""]).await;
        let said = text(&ended.stderr);
        assert!(!ended.status.success() && said.contains("nothing was written"), "{file}: {said}");
        assert!(said.contains(reason), "{file}: {said}");
        assert!(!folder.path().join("bearerd.yaml").exists(), "{file}");
    }
}

#[tokio::test]
async fn it_replaces_files_only_after_a_yes() {
    let folder = folder_of(&[("bearerd.yaml", "mine"), ("client_secret", "old")]);
    let path = |name: &str| folder.path().join(name);
    std::fs::set_permissions(path("client_secret"), Permissions::from_mode(0o640)).unwrap();
    for answers in [&["n"][..], &[""], &["y"], &["y", "", TOKEN_URL]] {
        let ended = init(folder.path(), answers).await;
        assert_eq!(ended.status.code(), Some(1), "{answers:?}");
        assert!(text(&ended.stderr).contains("nothing was written"), "{answers:?}");
        assert_eq!(std::fs::read_to_string(path("bearerd.yaml")).unwrap(), "mine");
        assert_eq!(std::fs::read_to_string(path("client_secret")).unwrap(), "old");
    }
    let ended = init(folder.path(), &["y", "", TOKEN_URL, ID, "new", TENANT, ""]).await;
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    assert_eq!(std::fs::read_to_string(path("client_secret")).unwrap(), "new");
    // The operator's choice of who reads it stays, and so does the old content.
    assert_eq!(mode(&path("client_secret")), 0o640);
    assert_eq!(std::fs::read_to_string(path("client_secret.bak")).unwrap(), "old");
    assert_eq!(std::fs::read_to_string(path("bearerd.yaml.bak")).unwrap(), "mine");
    let names = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(names, 4, "no part of a file remains");
}

#[tokio::test]
async fn the_sample_of_the_packages_is_replaced_without_a_question() {
    let sample = include_str!("../../deploy/systemd/bearerd.yaml");
    let folder = folder_of(&[("bearerd.yaml", sample)]);
    let ended = init(folder.path(), &["", TOKEN_URL, ID, "s3cret", TENANT, ""]).await;
    assert!(ended.status.success(), "{}", text(&ended.stderr));
}

/// A person at a terminal, which `script` makes.
struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    screen: ChildStdout,
    shown: String,
}

impl Terminal {
    fn start(command: &str) -> Self {
        let mut script = starting("script");
        script.args(["--quiet", "--return", "--command", command, "/dev/null"]);
        script.env("PATH", "/usr/bin:/bin").env("TERM", "dumb");
        script.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = script.spawn().unwrap();
        let (keyboard, screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, keyboard, screen, shown: String::new() }
    }

    /// Waits for a question, and types the answer.
    async fn answer(&mut self, question: &str, answer: &str) {
        let before = self.shown.len();
        while !self.shown[before..].contains(question) {
            let mut buffer = [0; 4096];
            let read = timeout(DEADLINE, self.screen.read(&mut buffer)).await;
            let length = read.unwrap_or_else(|_| panic!("{question}: {}", self.shown)).unwrap();
            assert!(length > 0, "{question}: {}", self.shown);
            self.shown.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        self.keyboard.write_all(format!("{answer}\n").as_bytes()).await.unwrap();
    }

    /// All that was shown, and the exit code.
    async fn end(mut self) -> (String, Option<i32>) {
        let mut rest = Vec::new();
        timeout(DEADLINE, self.screen.read_to_end(&mut rest)).await.expect("it ends").unwrap();
        self.shown.push_str(&String::from_utf8_lossy(&rest));
        let status = timeout(DEADLINE, self.child.wait()).await.expect("it ends").unwrap();
        (self.shown, status.code())
    }
}

#[tokio::test]
async fn at_a_terminal_the_secret_is_not_shown_and_doctor_tries_the_values() {
    let fixture = Fixture::start().await;
    let ca = fixture.path("ca.pem");
    let config = fixture.path("new/bearerd.yaml");
    let command = format!("{} init --config {}", env!("CARGO_BIN_EXE_bearerd"), config.display());
    let secret = fixture.tenant.client_secret();
    let mut terminal = Terminal::start(&command);
    terminal.answer("service key", "").await;
    terminal.answer("Token URL", &fixture.tenant.token_url()).await;
    terminal.answer("Client ID", fixture.tenant.client_id()).await;
    // An arrow key is refused; then a line, and a character of several bytes, are corrected.
    terminal.answer("Client secret", "x\u{1b}[A").await;
    terminal.answer("Client secret", &format!("wrong\u{15}{secret}é\u{7f}")).await;
    terminal.answer("Tenant URL", &fixture.tenant.url()).await;
    terminal.answer("certificate authority", ca.to_str().unwrap()).await;
    terminal.answer("bearerd doctor", "").await;
    let (shown, code) = terminal.end().await;
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("the token was accepted"), "{shown}");
    assert!(shown.contains(fixture.tenant.client_id()), "what is typed is shown: {shown}");
    assert!(!shown.contains(&secret), "{shown}");
}

#[tokio::test]
async fn an_interruption_at_the_secret_leaves_the_terminal_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("bearerd.yaml");
    let bearerd = env!("CARGO_BIN_EXE_bearerd");
    let command = format!("{bearerd} init --config {}; stty -a", config.display());
    let mut terminal = Terminal::start(&command);
    terminal.answer("service key", "").await;
    terminal.answer("Token URL", TOKEN_URL).await;
    terminal.answer("Client ID", ID).await;
    terminal.answer("Client secret", "\u{3}").await;
    let (shown, _) = terminal.end().await;
    assert!(shown.contains("interrupted; nothing was written"), "{shown}");
    for mode in [" echo ", " icanon ", " isig "] {
        let settings = shown.replace(['\r', '\n', ';'], " ");
        assert!(settings.contains(mode), "{mode}: {shown}");
    }
    assert!(!config.exists());
}
