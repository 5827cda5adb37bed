//! Why a reload leaves the configuration in force as it is.

use crate::app::error::AppError;
use crate::blocking::BlockingError;
use crate::config::ConfigError;
use crate::metrics::labels::ConfigReload;
use crate::trust::TrustError;

/// A refused reload.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReloadError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    App(#[from] AppError),
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error("changing {0} needs a restart; restart bearerd, or revert the change")]
    NeedsRestart(&'static str),
    #[error(
        "the new configuration asks callers for no credential any more; complete it, or restart bearerd if that is wanted"
    )]
    OpensDoor,
    #[error("client {client} gets no token ({why}); bearerd will try again")]
    NoToken { client: String, why: String },
    #[error("cannot read the configuration or its files now: {0}")]
    NotRead(#[from] BlockingError),
}

impl ReloadError {
    pub(super) const fn outcome(&self) -> ConfigReload {
        match self {
            Self::Config(_) | Self::App(_) | Self::Trust(_) | Self::NotRead(_) => {
                ConfigReload::Invalid
            }
            Self::NeedsRestart(_) | Self::OpensDoor => ConfigReload::NeedsRestart,
            Self::NoToken { .. } => ConfigReload::NoToken,
        }
    }

    /// Whether the reload may succeed later although the file stays as it is: another file may
    /// still be missing.
    pub(super) const fn may_pass(&self) -> bool {
        matches!(self, Self::App(_) | Self::Trust(_) | Self::NoToken { .. } | Self::NotRead(_))
    }
}
