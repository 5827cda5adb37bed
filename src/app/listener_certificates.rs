//! Certificates of listeners with TLS, read again when their files change.

use super::control::{Control, FILES_TIMEOUT};
use super::error::AppError;
use crate::blocking;
use crate::config::{Config, ListenAddress, ListenerId, TlsSettings};
use crate::listener_tls::ListenerTls;
use crate::metrics::Metrics;
use crate::metrics::labels::ConfigReload;
use crate::watch::Watch;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use tracing::{info, warn};

/// TLS of the listeners that have it.
#[derive(Clone)]
pub(super) struct ListenerCertificates {
    /// Listeners of callers.
    pub(super) callers: BTreeMap<ListenerId, Arc<ListenerTls>>,
    /// The listener of probes.
    pub(super) admin: Option<Arc<ListenerTls>>,
}

impl ListenerCertificates {
    /// TLS of every listener, by its address.
    pub(super) fn by_address(
        &self,
        addresses: &[ListenAddress],
        admin: SocketAddr,
    ) -> Vec<(String, Arc<ListenerTls>)> {
        let of_callers = self.callers.iter();
        let of_callers =
            of_callers.filter_map(|(id, tls)| Some((addresses.get(id.0)?.to_string(), tls)));
        let of_admin = self.admin.iter().map(|tls| (admin.to_string(), tls));
        of_callers.chain(of_admin).map(|(address, tls)| (address, tls.clone())).collect()
    }

    /// Triggers a look at all files.
    pub(super) fn look(&self) {
        self.callers.values().chain(&self.admin).for_each(|tls| tls.look());
    }
}

/// Reads the certificates of all listeners. Those from `before` stay, because a change of these
/// settings needs a restart.
///
/// # Errors
/// A file can't be read or used.
pub(super) fn prepare(
    config: &Config,
    before: Option<&ListenerCertificates>,
) -> Result<ListenerCertificates, AppError> {
    if let Some(before) = before {
        return Ok(before.clone());
    }
    let read = |key: &'static str, settings: &TlsSettings| {
        let tls = ListenerTls::new(settings).map(Arc::new);
        tls.map_err(|source| AppError::ListenerTls { key, source })
    };
    let of_callers =
        |(listener, settings): (&ListenerId, _)| Ok((*listener, read("listen", settings)?));
    let callers = config.tls.iter().map(of_callers).collect::<Result<_, AppError>>()?;
    let admin = config.admin.tls.as_ref().map(|tls| read("admin", tls)).transpose()?;
    Ok(ListenerCertificates { callers, admin })
}

/// Watches the files of one listener, and never ends.
pub(super) async fn renew(address: String, tls: Arc<ListenerTls>, metrics: Metrics) {
    let watch = Watch::new(tls.settings().files());
    let mut reported: Option<String> = None;
    // Kept across the rounds: dropped in the middle, it would lose the change that it waits for.
    let mut changed = pin!(watch.changed());
    loop {
        tokio::select! {
            () = &mut changed => changed.set(watch.changed()),
            () = tls.look_wanted() => {}
        }
        let renewing = tls.clone();
        let renewed = match blocking::within(FILES_TIMEOUT, move || renewing.renew()).await {
            Ok(renewed) => renewed.map_err(|error| error.to_string()),
            Err(error) => Err(format!("cannot read its files now: {error}")),
        };
        if let Ok(true) = renewed {
            info!("The new certificate of {address} is in use.");
            let detail = format!("the certificate of {address} was replaced");
            metrics.record_config_reload(ConfigReload::Success, detail);
        }
        if matches!(renewed, Ok(false)) && reported.is_some() {
            let detail = format!("the files of {address} are as before");
            metrics.record_config_reload(ConfigReload::Unchanged, detail);
        }
        let complaint = renewed.err();
        tls.set_complaint(complaint.clone());
        if let Some(why) = complaint.as_ref().filter(|_| complaint != reported) {
            warn!("Keeping the certificate of {address} in use: {why}.");
            metrics.record_config_reload(ConfigReload::Invalid, format!("{address}: {why}"));
        }
        reported = complaint;
    }
}

/// Starts to watch the files of all listeners.
pub(super) fn start(
    listeners: &[(String, Arc<ListenerTls>)],
    metrics: &Metrics,
    control: &Control,
) {
    for (address, tls) in listeners {
        control.spawn(renew(address.clone(), tls.clone(), metrics.clone()));
    }
}
