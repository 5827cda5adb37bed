//! `bearerd doctor`: prints the findings as text or JSON.

use super::{File, print, warn_of_unknown};
use anyhow::bail;
use bearerd::config::Flags;
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
    }
    let failed = findings.iter().filter(|finding| finding.verdict == Verdict::Failed).count();
    if failed > 0 {
        bail!("{failed} of {} checks failed", findings.len());
    }
    Ok(())
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
