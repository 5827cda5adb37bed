//! Connections to the listeners of a world, which are kept as long as both sides want.

use super::world::{CertificateName, PLAIN, WITH_TLS, World};
use crate::proxy::callers::written;
use crate::support::raw_client::RawClient;
use crate::support::sidecar::Sidecar;
use crate::support::tls::Authority;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;
use rustls::pki_types::ServerName;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// The listener of a connection, and what the client shows there.
#[derive(Clone, Debug)]
pub(super) enum Way {
    Plain,
    /// TLS at one of two listeners, maybe with a certificate of its authority that has the names of
    /// these callers.
    Tls {
        listener: usize,
        certificate: Option<Vec<Index>>,
    },
    Unix,
}

pub(super) fn ways() -> impl Strategy<Value = Way> {
    let names = prop_oneof![6 => vec(any::<Index>(), 1), 2 => vec(any::<Index>(), 0..3)];
    let tls = (0..2_usize, option::weighted(0.8, names));
    prop_oneof![
        2 => Just(Way::Plain),
        3 => tls.prop_map(|(listener, certificate)| Way::Tls { listener, certificate }),
        1 => Just(Way::Unix),
    ]
}

impl Way {
    /// The names in the certificate that it shows, which are those of callers or of nobody.
    pub(super) fn names(&self, world: &World) -> Vec<CertificateName> {
        let Self::Tls { listener, certificate: Some(shown) } = self else { return Vec::new() };
        let callers = &world.callers;
        let name = |caller: &Index| callers[caller.index(callers.len())].name.at(*listener);
        shown.iter().map(name).collect()
    }
}

/// The authorities of listeners and of callers.
pub(super) struct Authorities {
    listeners: Authority,
    /// Those that the listeners with TLS trust.
    callers: [Authority; 2],
    /// The listeners with TLS, as in the configuration.
    with_tls: String,
    _folder: TempDir,
}

impl Authorities {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (listeners, callers) = (Authority::new(), [Authority::new(), Authority::new()]);
        let with_tls = WITH_TLS.iter().zip(&callers).enumerate();
        let with_tls = with_tls.map(|(index, (address, authority))| {
            let ca = written(folder.path(), &format!("ca-{index}"), &authority.pem);
            let more = format!(", client_ca_file: {ca}, client_certificate: optional");
            let tls = listeners.listener(folder.path(), &more);
            format!("{{ address: \"{address}\", tls: {tls} }}")
        });
        let with_tls = with_tls.collect::<Vec<_>>().join(", ");
        Self { listeners, callers, with_tls, _folder: folder }
    }

    /// The listeners of a sidecar, with a Unix socket in this folder.
    pub(super) fn listen(&self, folder: &Path) -> String {
        format!("[{PLAIN}, {}, \"unix:{}\"]", self.with_tls, socket(folder).display())
    }

    fn connector(&self, way: &Way, world: &World) -> Option<TlsConnector> {
        let Way::Tls { listener, certificate } = way else { return None };
        let names = way.names(world).into_iter().map(CertificateName::san);
        let names = certificate.as_ref().map(|_| names.collect());
        let of = names.map(|names| (&self.callers[*listener], names));
        Some(self.listeners.connector_named(of))
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("socket")
}

/// A connection that is opened when it is needed.
pub(super) struct Connection {
    pub(super) way: Way,
    connector: Option<TlsConnector>,
    client: Option<RawClient>,
}

impl Connection {
    pub(super) fn new(way: Way, world: &World, authorities: &Authorities) -> Self {
        let connector = authorities.connector(&way, world);
        Self { way, connector, client: None }
    }

    /// Sends a request and returns the header and the body of the answer.
    pub(super) async fn exchange(
        &mut self,
        request: &str,
        is_head: bool,
        sidecar: &Sidecar,
        folder: &Path,
    ) -> (String, String) {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => self.open(sidecar, folder).await,
        };
        client.send(request).await;
        let head = client.head().await;
        let body = if is_head { String::new() } else { client.body(&head).await };
        if !head.to_ascii_lowercase().contains("connection: close") {
            self.client = Some(client);
        }
        (head, body)
    }

    async fn open(&self, sidecar: &Sidecar, folder: &Path) -> RawClient {
        let tcp = async |listener: usize| {
            let host = sidecar.urls[listener].strip_prefix("http://").unwrap();
            let stream = TcpStream::connect(host).await.unwrap();
            // Otherwise the first request waits until the end of the handshake is acknowledged.
            stream.set_nodelay(true).unwrap();
            stream
        };
        match (&self.way, &self.connector) {
            (Way::Tls { listener, .. }, Some(connector)) => {
                let name = ServerName::try_from("localhost").unwrap();
                let stream = connector.connect(name, tcp(1 + listener).await).await;
                RawClient::over(stream.unwrap())
            }
            (Way::Unix, _) => RawClient::over(UnixStream::connect(socket(folder)).await.unwrap()),
            _ => RawClient::over(tcp(0).await),
        }
    }
}
