//! Certificate authorities, and TLS upstreams with any version, certificate or client
//! authentication.

use super::process::{bearerd, output};
use super::upstream::read_request;
use super::{accepting, http_builder};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::task::AbortOnDropHandle;

/// What makes a certificate differ from the usual one.
type Change = fn(&mut CertificateParams);

/// A certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
    der: CertificateDer<'static>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// An authority that ended at the beginning of a year.
    pub(crate) fn ended(year: i32) -> Self {
        Self::with(|params| {
            params.distinguished_name.push(DnType::CommonName, "Old Authority");
            params.not_after = date_time_ymd(year, 1, 1);
        })
    }

    fn with(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        change(&mut params);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Self { issuer: Issuer::new(params, key), pem, der }
    }

    /// Signs a certificate, changed like this, and returns it with its key.
    fn signed(&self, change: impl FnOnce(&mut CertificateParams)) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        // With the authority's own name, it would count as self-signed.
        params.distinguished_name.push(DnType::CommonName, "localhost");
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// A server's TLS configuration with a certificate that this authority signed.
    pub(crate) fn server(&self) -> ServerConfig {
        self.server_of(rustls::ALL_VERSIONS, None, |_| {})
    }

    /// A server's TLS configuration for these versions. If `callers` is given, clients need a
    /// certificate of that authority. `change` alters the server's certificate.
    pub(crate) fn server_of(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        callers: Option<&Self>,
        change: impl FnOnce(&mut CertificateParams),
    ) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_protocol_versions(versions).unwrap();
        let builder = match callers {
            Some(callers) => {
                let mut roots = RootCertStore::empty();
                roots.add(callers.der.clone()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
                builder.with_client_cert_verifier(verifier.unwrap())
            }
            None => builder.with_no_client_auth(),
        };
        let (certificate, key) = self.signed(change);
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        builder.with_single_cert(vec![certificate.der().clone()], key).unwrap()
    }

    /// Writes the authority's certificate as `ca.pem` and returns its path.
    pub(crate) fn write_pem(&self, folder: &Path) -> String {
        let path = folder.join("ca.pem");
        std::fs::write(&path, &self.pem).unwrap();
        path.display().to_string()
    }

    /// The `tls` of a listener with a new certificate of this authority, in files of this folder.
    pub(crate) fn listener(&self, folder: &Path, more: &str) -> String {
        let (chain, key) = (folder.join("listener.crt"), folder.join("listener.key"));
        self.write_certificate(&chain, &key);
        settings(&chain, &key, more)
    }

    /// An HTTP client that trusts this authority.
    pub(crate) fn http(&self) -> reqwest::Client {
        http_builder().add_root_certificate(self.certificate()).build().unwrap()
    }

    fn certificate(&self) -> reqwest::Certificate {
        reqwest::Certificate::from_pem(self.pem.as_bytes()).unwrap()
    }

    /// A client that trusts this authority. `change` alters its certificate, which `of` signs.
    pub(crate) fn connector(&self, of: Option<(&Self, Change)>) -> TlsConnector {
        self.connector_with(of.map(|(authority, change)| authority.signed(change)))
    }

    /// A client that trusts this authority, with a certificate of `of` for these names.
    pub(crate) fn connector_named(&self, of: Option<(&Self, Vec<SanType>)>) -> TlsConnector {
        self.connector_with(
            of.map(|(authority, names)| {
                authority.signed(|params| params.subject_alt_names = names)
            }),
        )
    }

    fn connector_with(&self, own: Option<(rcgen::Certificate, KeyPair)>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .unwrap()
            .with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
                builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
            }
        };
        TlsConnector::from(Arc::new(config))
    }

    /// A client that trusts the authority of this PEM text.
    pub(crate) fn connector_of(pem: &str) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder().with_root_certificates(roots);
        TlsConnector::from(Arc::new(builder.with_no_client_auth()))
    }

    /// Writes a certificate for a server or a client, and its key.
    pub(crate) fn write_certificate(&self, chain: &Path, key: &Path) {
        let (certificate, its_key) = self.signed(|params| {
            params.subject_alt_names.push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
        });
        std::fs::write(chain, certificate.pem()).unwrap();
        std::fs::write(key, its_key.serialize_pem()).unwrap();
    }
}

/// The `tls` of a listener with these files and more settings.
fn settings(chain: &Path, key: &Path, more: &str) -> String {
    let (chain, key) = (chain.display(), key.display());
    format!("{{ certificate_file: {chain}, private_key_file: {key}{more} }}")
}

/// The `tls` of a listener with the files that `bearerd cert` makes in this folder.
pub(crate) fn made_in(folder: &Path) -> String {
    settings(&folder.join("tls.crt"), &folder.join("tls.key"), "")
}

/// Runs `bearerd cert` with a configuration.
pub(crate) async fn make_certificate(config: &Path, folder: &Path) {
    let mut command = bearerd();
    command.args(["cert", "--config"]).arg(config).arg("--folder").arg(folder);
    let made = output(&mut command).await;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// The authority of the listeners of this run, and the folder of their certificate.
static LISTENERS: LazyLock<(Authority, TempDir)> =
    LazyLock::new(|| (Authority::new(), tempfile::tempdir().unwrap()));
/// Ports of listeners with a certificate of [`LISTENERS`].
static PORTS: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Whether listeners have TLS, unless a test gives them settings of its own. `make test` runs the
/// tests of rights, refusals and secrets both ways.
pub(crate) fn over_tls() -> bool {
    std::env::var_os("OVER_TLS").is_some()
}

/// `listen` of a sidecar.
pub(crate) fn listen() -> String {
    static TLS: LazyLock<String> = LazyLock::new(|| LISTENERS.0.listener(LISTENERS.1.path(), ""));
    match over_tls() {
        true => format!("{{ address: 127.0.0.1:0, tls: {} }}", *TLS),
        false => "127.0.0.1:0".to_owned(),
    }
}

/// The scheme of a listener at this address, whose configuration is this text. Clients of the tests
/// speak TLS to it from now on.
pub(crate) fn scheme(address: SocketAddr, yaml: &str) -> &'static str {
    let has_tls = over_tls() && yaml.contains(&listen());
    let mut ports = PORTS.lock().unwrap();
    match has_tls {
        true => ports.insert(address.port()),
        false => ports.remove(&address.port()),
    };
    if has_tls { "https" } else { "http" }
}

/// The certificate of the authority, for clients that are to trust the listeners of this run.
pub(crate) fn listeners_authority() -> reqwest::Certificate {
    LISTENERS.0.certificate()
}

/// A connection of a caller.
pub(crate) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Connects to a `host:port`, with TLS if it is a listener of this run that has it.
pub(crate) async fn connect(host: &str) -> Box<dyn Connection> {
    let stream = TcpStream::connect(host).await.unwrap();
    if !PORTS.lock().unwrap().contains(&stream.peer_addr().unwrap().port()) {
        return Box::new(stream);
    }
    let name = ServerName::try_from("localhost").unwrap();
    Box::new(LISTENERS.0.connector(None).connect(name, stream).await.unwrap())
}

pub(crate) struct TlsUpstream {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl TlsUpstream {
    /// Starts a server that answers 200 to every request. See [`Authority::server_of`].
    pub(crate) async fn start(
        authority: &Authority,
        versions: &[&'static SupportedProtocolVersion],
        callers: Option<&Authority>,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        Self::serving(authority.server_of(versions, callers, change)).await
    }

    /// Starts a server with a self-signed certificate. Returns the certificate as PEM.
    pub(crate) async fn self_signed() -> (Self, String) {
        Self::self_signed_with(|_| {}).await
    }

    /// Starts a server with a self-signed certificate that is changed like this.
    pub(crate) async fn self_signed_with(
        change: impl FnOnce(&mut CertificateParams),
    ) -> (Self, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        // With the authority's own name, it would count as self-signed.
        params.distinguished_name.push(DnType::CommonName, "localhost");
        change(&mut params);
        let certificate = params.self_signed(&key).unwrap();
        let pem = certificate.pem();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(rustls::ALL_VERSIONS).unwrap();
        let config = builder.with_no_client_auth();
        let config = config.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        (Self::serving(config).await, pem)
    }

    async fn serving(config: ServerConfig) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = requests.clone();
        let task = accepting(listener, move |stream| {
            let (acceptor, counted) = (acceptor.clone(), counted.clone());
            async move { serve(stream, &acceptor, &counted).await }
        });
        Self { address, requests, _task: task }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// The number of requests received.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn serve(stream: TcpStream, acceptor: &TlsAcceptor, counted: &AtomicUsize) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    answer_all(stream, counted).await;
}

/// Answers 200 to every HTTP/1.1 request of a connection.
pub(crate) async fn answer_all(mut stream: TlsStream<TcpStream>, counted: &AtomicUsize) {
    while read_request(&mut stream).await.is_some() {
        counted.fetch_add(1, Ordering::SeqCst);
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";
        if stream.write_all(answer).await.is_err() {
            return;
        }
    }
}
