//! The way to a server.

use super::value::TlsVersion;
use crate::forward_proxy::{ForwardProxy, ProxyChoice};
use std::path::{Path, PathBuf};

/// TLS and forward proxy on the way to a server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transport {
    /// File of additional trust anchors, PEM.
    pub ca_file: Option<PathBuf>,
    /// The lowest version of TLS.
    pub min_tls: TlsVersion,
    /// The forward proxy, if there is one.
    pub proxy: ProxyChoice,
    /// Names and addresses to connect to, instead of the URL's host. TLS is verified for that host.
    pub connect_to: Vec<String>,
}

impl Transport {
    /// Files whose content decides how the server is reached.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        let credentials = self.proxy.proxy().and_then(ForwardProxy::credentials_file);
        self.ca_file.as_deref().into_iter().chain(credentials)
    }
}
