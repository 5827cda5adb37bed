//! The status page in a real browser. `make screenshots` keeps some of what it shows in
//! `docs/status`.

use super::browser::headless;
use crate::support::process::output;
use crate::support::sidecar::Sidecar;
use crate::support::upstream::{Behaviour, Peer};
use crate::support::{Fixture, SALES, eventually, issuer};
use bearerd::demo::{DemoFaults, IssuerFault, TenantFault};
use serde::Deserialize;
use std::path::Path;
use std::time::{Duration, SystemTime};
use tokio::process::Command;

const SCRIPT: &str = include_str!("../../src/admin/page.js");
const STYLE: &str = include_str!("../../src/admin/page.css");
/// The looks: name, window size, and whether the theme is dark.
const LOOKS: [(&str, &str, bool); 3] =
    [("light", "900,860", false), ("dark", "900,860", true), ("phone", "500,900", true)];

/// The pictures that the documentation shows.
const KEPT: [&str; 5] =
    ["starting-light", "ready-light", "degraded-dark", "rejected-phone", "failing-light"];

/// Draws the page of a sidecar in each look, before its script has done anything. Returns the
/// page's document.
async fn draw(sidecar: &Sidecar, name: &str, folder: &Path) -> String {
    for (look, size, is_dark) in LOOKS {
        let file = folder.join(format!("{name}-{look}.png"));
        let size = format!("--window-size={size}");
        let screenshot = format!("--screenshot={}", file.display());
        let mut arguments = vec!["--hide-scrollbars", &size, &screenshot];
        if is_dark {
            arguments.push("--force-dark-mode");
        }
        let complaints = headless(&sidecar.admin, &arguments).await.complaints;
        assert_eq!(complaints, "", "of {name} in {look}");
        let picture = std::fs::read(&file).unwrap();
        assert!(picture.starts_with(b"\x89PNG"), "{name} in {look}");
        let drawn = format!("{name}-{look}");
        if let Some(kept) = std::env::var_os("SCREENSHOTS")
            && KEPT.contains(&drawn.as_str())
        {
            std::fs::write(Path::new(&kept).join(format!("{name}.png")), picture).unwrap();
        }
    }
    check_accessibility(&sidecar.admin, name).await;
    headless(&sidecar.admin, &["--dump-dom"]).await.output
}

/// Lets axe-core look at the page, in three widths and both colour schemes.
async fn check_accessibility(url: &str, name: &str) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/axe");
    let mut command = Command::new("node");
    let profile = tempfile::tempdir().unwrap();
    command.arg("axe.js").arg(url).arg(profile.path()).current_dir(tests);
    if let Some(folder) = std::env::var_os("LOOKS") {
        command.arg(Path::new(&folder).join(name));
    }
    let ended = output(&mut command).await;
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let looks: Vec<Look> = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(looks.len(), 6, "{looks:?}");
    for look in looks {
        // A page without content would break no rule.
        assert!(look.passes > 15 && look.violations.is_empty(), "{name}: {look:?}");
        assert!(look.overflow <= 0, "{name} is wider than the window: {look:?}");
    }
}

/// What axe-core finds in one look.
#[derive(Debug, Deserialize)]
struct Look {
    #[expect(dead_code, reason = "for messages")]
    width: u32,
    #[expect(dead_code, reason = "for messages")]
    scheme: String,
    /// Rules that the page keeps.
    passes: u32,
    /// How much the page is wider than the window.
    overflow: i32,
    /// Rules that the page breaks.
    violations: Vec<String>,
}

async fn in_state(sidecar: &Sidecar, state: &str) {
    eventually(state, async || sidecar.probe("/status").await.1.contains(state)).await;
}

#[tokio::test]
#[ignore = "needs Chromium; make test installs it and runs this"]
async fn every_state_is_drawn_without_a_console_message() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let fixture = Fixture::start().await;
    let end = SystemTime::now() + Duration::from_secs(88 * 86_400);
    let end = humantime::format_rfc3339_seconds(end).to_string();
    let config = fixture
        .configuration()
        .client("expires_on", &end[..10])
        .client("refresh_at", 0.2)
        .client("wait", "100ms");
    let faults = |issuer| DemoFaults { issuer, token_lifetime: 60, ..DemoFaults::default() };

    fixture.tenant.set_faults(faults(IssuerFault::Hang));
    let sidecar = Sidecar::start(&config);
    in_state(&sidecar, "waiting").await;
    assert!(draw(&sidecar, "starting", folder).await.contains("waiting for its first token"));

    fixture.tenant.set_faults(faults(IssuerFault::RefuseClient));
    let sidecar = Sidecar::start(&config);
    in_state(&sidecar, "rejected").await;
    let page = draw(&sidecar, "rejected", folder).await;
    assert!(page.contains("refused by the issuer") && page.contains("check client_id and secret"));

    fixture.tenant.set_faults(faults(IssuerFault::None));
    let sidecar = Sidecar::ready(&config).await;
    assert!(draw(&sidecar, "ready", folder).await.contains("Token expires"));

    fixture.tenant.set_faults(faults(IssuerFault::Unavailable));
    in_state(&sidecar, "degraded").await;
    assert!(draw(&sidecar, "degraded", folder).await.contains("requests work for now"));

    let broken = DemoFaults { tenant: TenantFault::InternalError, ..faults(IssuerFault::None) };
    fixture.tenant.set_faults(faults(IssuerFault::None));
    let sidecar = Sidecar::ready(&config).await;
    for (faults, count) in [(faults(IssuerFault::None), 4), (broken, 12)] {
        fixture.tenant.set_faults(faults);
        for _ in 0..count {
            sidecar.get(SALES).await;
        }
    }
    in_state(&sidecar, "12 of 16 requests").await;
    check_accessibility(&format!("{}/runbook", sidecar.admin), "runbook").await;
    assert!(draw(&sidecar, "failing", folder).await.contains("Correlation id for SAP's support"));
}

#[tokio::test]
#[ignore = "needs Chromium; make test installs it and runs this"]
async fn the_page_renews_itself() {
    let issuer = issuer::steady().await;
    let silent = Peer::start(Behaviour::Hang).await;
    let starting = Sidecar::start(&silent.configuration("http://127.0.0.1:9"));
    let ready = Sidecar::ready(&issuer.configuration("http://127.0.0.1:9")).await;

    let file = |kind: &str, body: &str| {
        issuer::status("200 OK", &format!("content-type: {kind}\r\n"), body)
    };
    let server = Peer::start(file("text/html", &ready.probe("/").await.1)).await;
    server.always("/page.js", file("text/javascript", SCRIPT));
    server.always("/page.css", file("text/css", STYLE));
    server.script([file("text/html", &starting.probe("/").await.1)]);
    // Virtual time advances while the page is idle.
    let later = headless(&server.url(), &["--virtual-time-budget=20000", "--dump-dom"]).await;
    assert!(later.output.contains("fine") && !later.output.contains("waiting for its first token"));
    assert!(later.output.contains("<title>bearerd: ready</title>"), "{}", later.output);
}
