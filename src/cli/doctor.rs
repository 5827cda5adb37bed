//! `bearerd doctor`: prints the findings as text or JSON.

use super::{File, print, warn_of_unknown};
use anyhow::bail;
use bearerd::config::{Config, Flags, ListenerId};
use bearerd::doctor::{Finding, Verdict, examine};
use bearerd::environment::Environment;
use bearerd::http_client;
use bearerd::readable::one_line;
use clap::Args;
use std::fmt::Write;
use std::path::PathBuf;
use tokio::runtime::Builder;

#[derive(Args)]
pub(super) struct DoctorOptions {
    #[command(flatten)]
    pub(super) file: File,
    /// Print one JSON document instead of text.
    #[arg(long)]
    json: bool,
}

impl DoctorOptions {
    /// `bearerd doctor --config FILE`.
    pub(super) fn of_file(file: PathBuf) -> Self {
        Self { file: File { config: Some(file) }, json: false }
    }
}

pub(super) fn doctor(options: &DoctorOptions, environment: &Environment) -> anyhow::Result<()> {
    warn_of_unknown(environment);
    let config = options.file.load(environment, &Flags::default())?;
    http_client::set_up_tls();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let findings = runtime.block_on(examine(&config));
    runtime.shutdown_background();
    if options.json {
        print(&(serde_json::to_string_pretty(&findings)? + "\n"))?;
    } else {
        print(&text(&findings)?)?;
        print(&success(&findings, &config))?;
    }
    let failed = findings.iter().filter(|finding| finding.verdict == Verdict::Failed).count();
    let first = findings.iter().find(|finding| finding.verdict == Verdict::Failed);
    if let Some(first) = first {
        let (all, check, subject) = (findings.len(), first.check, &first.subject);
        bail!("{failed} of {all} checks failed; the first one is `{check}` of {subject}");
    }
    Ok(())
}

/// The last line if nothing failed.
fn success(findings: &[Finding], config: &Config) -> String {
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let first = config.listen.first();
    let address = first.map_or_else(String::new, |first| config.url_of(ListenerId(0), first));
    match (count(Verdict::Failed), count(Verdict::Warning)) {
        (0, 0) => format!("\nAll {} checks passed. Point tools at {address}.\n", findings.len()),
        (0, warnings) => {
            format!("\nNo check failed; {warnings} with a warning. Point tools at {address}.\n")
        }
        _ => String::new(),
    }
}

fn text(findings: &[Finding]) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let mut subject = "";
    for finding in findings {
        if finding.subject != subject {
            subject = &finding.subject;
            writeln!(text, "{subject}")?;
        }
        let verdict = match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Reached => "reached",
            Verdict::Warning => "warning",
            Verdict::Failed => "FAILED",
        };
        writeln!(text, "  {verdict:8} {:11} {}", finding.check, one_line(&finding.detail))?;
        if let Some(advice) = &finding.advice {
            writeln!(text, "  {:20} -> {}", "", one_line(advice))?;
        }
    }
    Ok(text)
}
