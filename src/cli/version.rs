//! `bearerd version`: what this binary is.

use super::print;

/// The commit, if the build was given one.
const COMMIT: Option<&str> = option_env!("BEARERD_COMMIT");

pub(super) fn version() -> anyhow::Result<()> {
    let features = [("demo", cfg!(feature = "demo")), ("otlp", cfg!(feature = "otlp"))];
    let features: Vec<_> =
        features.into_iter().filter(|(_, is_on)| *is_on).map(|(name, _)| name).collect();
    let features = if features.is_empty() { "none".into() } else { features.join(", ") };
    print(&format!(
        "bearerd {}\ncommit: {}\nfeatures: {features}\n",
        env!("CARGO_PKG_VERSION"),
        COMMIT.unwrap_or("unknown"),
    ))
}
