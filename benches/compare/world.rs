//! The servers of the comparison: a certificate authority, a token endpoint, and an nginx as the
//! upstream, which uses TLS 1.3 and requires the token.

use crate::process::{Process, free_address, wait_for};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tempfile::TempDir;
use tokio_rustls::TlsConnector;

/// A token with the length of SAP's or slightly longer.
const TOKEN_LENGTH: usize = 2000;
const STREAM_LENGTH: usize = 64 << 20;

pub(crate) struct World {
    folder: TempDir,
    pub(crate) token: String,
    pub(crate) issuer: TokenEndpoint,
    /// The upstream's port. It has TLS and the name `localhost`.
    pub(crate) upstream: SocketAddr,
    pub(crate) small: Arc<[u8]>,
    pub(crate) page: Arc<[u8]>,
    pub(crate) stream: Arc<[u8]>,
    nginx: Process,
}

impl World {
    /// Starts the servers. `cores` are those of the upstream.
    pub(crate) fn start(cores: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        certificates(path);
        let token: String =
            std::iter::repeat_with(fastrand::alphanumeric).take(TOKEN_LENGTH).collect();
        let upstream = free_address();
        let small: Arc<[u8]> = vec![b'x'; 1024].into();
        let page: Arc<[u8]> = page(upstream).into_bytes().into();
        // The bytes differ, so that a missing piece is noticed.
        let stream: Arc<[u8]> = (0..STREAM_LENGTH / 8)
            .flat_map(|index| (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
            .collect();
        for folder in ["www/plain", "www/odata"] {
            fs::create_dir_all(path.join(folder)).unwrap();
            fs::write(path.join(folder).join("page.json"), &page).unwrap();
        }
        for folder in ["secrets", "logs"] {
            fs::create_dir(path.join(folder)).unwrap();
        }
        fs::write(path.join("secrets/client_secret"), "secret").unwrap();
        fs::write(path.join("www/plain/small"), &small).unwrap();
        fs::write(path.join("www/plain/stream"), &stream).unwrap();
        let log = path.join("logs/upstream.log");
        let configuration = path.join("upstream.conf");
        let values = [
            ("FOLDER", &*path.to_string_lossy()),
            ("UPSTREAM", &upstream.to_string()),
            ("SINK", &sink().to_string()),
            ("TOKEN", &token),
        ];
        fs::write(&configuration, filled(include_str!("upstream.conf"), &values)).unwrap();
        let nginx = ["nginx", "-c", &configuration.to_string_lossy()];
        let nginx = Process::start(&nginx, cores, &log);
        wait_for(upstream);
        let issuer = TokenEndpoint::start(token.clone());
        Self { folder, token, issuer, upstream, small, page, stream, nginx }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The TLS of callers: they trust the certificate authority.
    pub(crate) fn callers_tls(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(self.folder().join("ca.pem")).unwrap();
        roots.add(authority).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let config = config.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
        TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
    }

    /// The upstream's URL with the name of its certificate.
    pub(crate) fn origin(&self) -> String {
        origin(self.upstream)
    }

    /// The folder of the logs. bearerd does not watch it, unlike those of configurations and
    /// secrets.
    pub(crate) fn logs(&self) -> PathBuf {
        self.folder().join("logs")
    }

    /// Empties the logs: hours of them would fill the disk.
    pub(crate) fn trim_logs(&self) {
        for file in fs::read_dir(self.logs()).unwrap() {
            // All processes append to their files, so that truncation leaves no gap.
            let file = fs::File::options().write(true).open(file.unwrap().path());
            file.unwrap().set_len(0).unwrap();
        }
    }

    /// The CPU seconds that the upstream has used.
    pub(crate) fn upstream_cpu(&self) -> f64 {
        self.nginx.cpu().total()
    }
}

fn origin(upstream: SocketAddr) -> String {
    format!("https://localhost:{}", upstream.port())
}

/// A certificate authority, and the upstream's certificate.
fn certificates(folder: &Path) {
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    // With equal names, the certificate would look self-signed.
    authority.distinguished_name.push(DnType::CommonName, "compare CA");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = authority.self_signed(&key).unwrap();
    fs::write(folder.join("ca.pem"), certificate.pem()).unwrap();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().unwrap();
    let mut server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    server.use_authority_key_identifier_extension = true;
    let certificate = server.signed_by(&key, &issuer).unwrap();
    fs::write(folder.join("server.pem"), certificate.pem()).unwrap();
    fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
}

/// An OData page of about 100 KB with its links.
fn page(upstream: SocketAddr) -> String {
    let origin = origin(upstream);
    let rows: Vec<String> = (0..680)
        .map(|row| {
            format!(
                r#"{{"ID":{row},"Region":"EMEA","Customer":"Customer {row}","Amount":{}.{:02},"Currency":"EUR","PostedAt":"2026-11-23T10:{:02}:00Z","Note":"as ordered"}}"#,
                row * 37,
                row % 100,
                row % 60
            )
        })
        .collect();
    format!(
        r#"{{"@odata.context":"{origin}/odata/$metadata#Sales","value":[{}],"@odata.nextLink":"{origin}/odata/page.json?$skip=680"}}"#,
        rows.join(",")
    )
}

/// A configuration with values for its `@NAME@`s.
pub(crate) fn filled(template: &str, values: &[(&str, &str)]) -> String {
    values
        .iter()
        .fold(template.to_owned(), |text, (name, value)| text.replace(&format!("@{name}@"), value))
}

/// Reads an upload and answers its length.
fn sink() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || swallow(stream.unwrap()));
        }
    });
    address
}

fn swallow(stream: TcpStream) -> std::io::Result<()> {
    let mut stream = BufReader::with_capacity(256 * 1024, stream);
    let length = head(&mut stream)?;
    let mut body = (&mut stream).take(length);
    let count = std::io::copy(&mut body, &mut std::io::sink())?.to_string();
    answer(stream.get_mut(), "text/plain", &count)
}

/// Reads a header and returns the length of the body.
fn head(stream: &mut impl BufRead) -> std::io::Result<u64> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().unwrap();
            }
            None if line.trim_end().is_empty() => return Ok(length),
            _ => {}
        }
    }
}

fn answer(stream: &mut TcpStream, kind: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// Gives every client the token that the upstream requires.
pub(crate) struct TokenEndpoint {
    pub(crate) address: SocketAddr,
    shared: Arc<Issued>,
}

#[derive(Default)]
struct Issued {
    count: AtomicU64,
    delay_ms: AtomicU64,
}

impl TokenEndpoint {
    fn start(token: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Issued::default());
        let issuer_shared = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (token, shared) = (token.clone(), issuer_shared.clone());
                std::thread::spawn(move || issue(stream.unwrap(), &token, &shared));
            }
        });
        Self { address, shared }
    }

    /// Sets the delay of responses.
    pub(crate) fn delay(&self, delay: Duration) {
        self.shared.delay_ms.store(delay.as_millis() as u64, Relaxed);
    }

    /// The number of tokens issued.
    pub(crate) fn issued(&self) -> u64 {
        self.shared.count.load(Relaxed)
    }
}

/// A request `POST /3600` gets a token with a lifetime of 3,600 seconds.
fn issue(stream: TcpStream, token: &str, shared: &Issued) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let lifetime = line.trim_start_matches("POST /").split(' ').next().unwrap_or_default();
    let lifetime: u64 = lifetime.parse().unwrap();
    let length = head(&mut stream)?;
    std::io::copy(&mut (&mut stream).take(length), &mut std::io::sink())?;
    std::thread::sleep(Duration::from_millis(shared.delay_ms.load(Relaxed)));
    shared.count.fetch_add(1, Relaxed);
    let body =
        format!(r#"{{"access_token":"{token}","token_type":"bearer","expires_in":{lifetime}}}"#);
    answer(stream.get_mut(), "application/json", &body)
}
