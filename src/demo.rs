//! The demo tenant: an imitation of SAP Datasphere in one process, which needs no account.
//!
//! It has four listeners, on loopback unless configured otherwise:
//!
//! | listener | protocol | imitates |
//! |---|---|---|
//! | issuer | HTTPS | XSUAA, Cloud Foundry's UAA: `/oauth/token`, `/token_keys` |
//! | certificate issuer | HTTPS, mutual TLS | the issuer's other host, `….authentication.cert.…` |
//! | tenant | HTTPS | the API: OData, SCIM 2.0, content, audit export, task chains, spaces |
//! | control | HTTP | nothing: faults on demand, rotation of keys and secrets, counters |
//!
//! To learn what SAP does, read in this order: `issuer` (how a client gets a token), `keys` (how
//! the token is signed), `bearer` and `login` (what happens without a valid token), `csrf` (which
//! other token a write needs), then one file for each API family. The data are invented and
//! deterministic. Nothing is written to disk. Every start makes a new certificate authority and a
//! new signing key.

mod answer;
mod audit;
mod bearer;
mod ca;
mod cli;
mod content;
mod control;
mod csrf;
mod error;
mod faults;
mod issuer;
mod jwt;
mod keys;
mod listener;
mod login;
mod odata;
mod refusal;
mod registered_client;
mod rest;
mod scim;
mod seen;
mod state;
mod time;

pub use error::DemoError;
pub use faults::{CatalogBase, CsrfRegime, DemoFaults, IssuerFault, NextLinks, TenantFault};
pub use seen::{LastRequest, Seen};

use crate::blocking;
use axum::Router;
use axum_server::tls_rustls::RustlsConfig;
use ca::CertificateAuthority;
use keys::{GENERATION_TIMEOUT, SigningKeys};
use listener::{BoundSocket, Servers};
use registered_client::RegisteredClient;
use state::{Shared, TenantState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Addresses and OAuth client of a demo tenant.
#[derive(Debug, Clone)]
pub struct TenantOptions {
    /// Address of the token endpoint (HTTPS). Here and below, port 0 means any free port.
    pub issuer: SocketAddr,
    /// Address of the token endpoint for client certificates (HTTPS).
    pub cert_issuer: SocketAddr,
    /// Address of the tenant's API (HTTPS).
    pub tenant: SocketAddr,
    /// Address of the control API (plain HTTP). It has no authentication: keep it on loopback.
    pub control: SocketAddr,
    /// Id of the only OAuth client. The default has `|` and `!`, as real ones have.
    pub client_id: String,
    /// The client's first secret. The default has `$`, `+`, `/` and `=`, which break careless
    /// encoding.
    pub client_secret: String,
    /// Whether the tenant's API offers HTTP/2.
    pub http2: bool,
}

impl Default for TenantOptions {
    fn default() -> Self {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            issuer: any_port,
            cert_issuer: any_port,
            tenant: any_port,
            control: any_port,
            client_id: "sb-4f0c9a52-demo!b42|client!b7".to_owned(),
            client_secret: "7d3f$aV+/9=demo-only=".to_owned(),
            http2: false,
        }
    }
}

/// A running demo tenant. Dropping it stops it. [`Tenant::stop`] also waits until the ports are
/// free.
#[derive(Debug)]
pub struct Tenant {
    issuer: SocketAddr,
    cert_issuer: SocketAddr,
    tenant: SocketAddr,
    control: SocketAddr,
    authority: CertificateAuthority,
    state: Shared,
    servers: Servers,
}

impl Tenant {
    /// Binds the four listeners and serves them on the current tokio runtime.
    ///
    /// # Errors
    ///
    /// [`DemoError::Bind`] if an address is in use. The other errors mean that the operating system
    /// gave no random numbers, or that the runtime is shutting down.
    pub async fn start(options: TenantOptions) -> Result<Self, DemoError> {
        let issuer = BoundSocket::bind(options.issuer)?;
        let cert_issuer = BoundSocket::bind(options.cert_issuer)?;
        let tenant = BoundSocket::bind(options.tenant)?;
        let control = BoundSocket::bind(options.control)?;

        let authority = CertificateAuthority::new()?;
        let tls = RustlsConfig::from_config(Arc::new(authority.server_config(options.http2)?));
        let mutual_tls = RustlsConfig::from_config(Arc::new(authority.mutual_config()?));
        // Generating a key takes most of a second, which would block the thread that serves
        // requests.
        let keys = blocking::within(GENERATION_TIMEOUT, SigningKeys::new)
            .await
            .map_err(|_| DemoError::Interrupted)??;
        let state = Arc::new(TenantState::new(
            RegisteredClient::new(options.client_id, options.client_secret),
            keys,
            format!("https://localhost:{}", issuer.address.port()),
            format!("https://localhost:{}", tenant.address.port()),
        ));

        let addresses = (issuer.address, cert_issuer.address, tenant.address, control.address);
        let mut servers = Servers::default();
        issuer.serve_tls(&mut servers, &tls, issuer::routes(Arc::clone(&state)))?;
        let cert_routes = issuer::certificate_routes(Arc::clone(&state));
        cert_issuer.serve_tls(&mut servers, &mutual_tls, cert_routes)?;
        tenant.serve_tls(&mut servers, &tls, api(Arc::clone(&state)))?;
        control.serve_plain(&mut servers, control::routes(Arc::clone(&state), addresses.3))?;

        let (issuer, cert_issuer, tenant, control) = addresses;
        Ok(Self { issuer, cert_issuer, tenant, control, authority, state, servers })
    }

    /// Address of the token endpoint.
    #[must_use]
    pub fn issuer_addr(&self) -> SocketAddr {
        self.issuer
    }

    /// Address of the token endpoint for client certificates.
    #[must_use]
    pub fn cert_issuer_addr(&self) -> SocketAddr {
        self.cert_issuer
    }

    /// Address of the tenant's API.
    #[must_use]
    pub fn tenant_addr(&self) -> SocketAddr {
        self.tenant
    }

    /// Address of the control API.
    #[must_use]
    pub fn control_addr(&self) -> SocketAddr {
        self.control
    }

    /// The token URL, as *App Integration* shows it to an administrator:
    /// `https://localhost:PORT/oauth/token`.
    #[must_use]
    pub fn token_url(&self) -> String {
        self.state.token_url()
    }

    /// The `certurl` of a service key: `https://localhost:PORT`. Its `/oauth/token` accepts client
    /// certificates only.
    #[must_use]
    pub fn cert_url(&self) -> String {
        format!("https://localhost:{}", self.cert_issuer.port())
    }

    /// The tenant's own URL: `https://localhost:PORT`, without a trailing slash.
    #[must_use]
    pub fn url(&self) -> String {
        self.state.tenant_origin.clone()
    }

    /// The URL of the control API: `http://127.0.0.1:PORT`, without a trailing slash.
    #[must_use]
    pub fn control_url(&self) -> String {
        format!("http://{}", self.control)
    }

    /// The id of the only OAuth client.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.state.client.id
    }

    /// The current secret of the only OAuth client. It is the newest one.
    #[must_use]
    pub fn client_secret(&self) -> String {
        self.state.client.secret()
    }

    /// Makes a new secret the current one, and returns it. The older ones stay valid.
    pub fn rotate_client_secret(&self) -> String {
        self.state.client.rotate_secret()
    }

    /// Removes all secrets but the current one. Tokens that were issued for them stay valid.
    pub fn retire_old_client_secrets(&self) {
        self.state.client.retire_old_secrets();
    }

    /// Registers a public key of the client, which verifies signed assertions (`private_key_jwt`,
    /// RFC 7523). The key is RSA (for RS256) or P-256 (for ES256), as `-----BEGIN PUBLIC KEY-----`.
    /// Keys that are registered already stay valid.
    ///
    /// # Errors
    ///
    /// [`DemoError::ClientKey`] if the key has another type or format.
    pub fn register_client_key(&self, public_key_pem: &str) -> Result<(), DemoError> {
        self.state.client.register_key(public_key_pem)
    }

    /// Issues a certificate for the OAuth client, to be used at [`Tenant::cert_url`]. Returns the
    /// chain and the private key, both in PEM. The certificate is valid from now on for `valid`,
    /// rounded to seconds and at most a century. If `valid` is zero, it has already expired.
    ///
    /// # Errors
    ///
    /// [`DemoError::Certificate`] if the operating system gave no random numbers.
    pub fn issue_client_certificate(&self, valid: Duration) -> Result<(String, String), DemoError> {
        let issued = self.authority.issue_client(self.client_id(), valid)?;
        Ok((issued.chain_pem, issued.key_pem))
    }

    /// The certificate of the certificate authority, in PEM. Clients of the issuer and of the
    /// tenant must trust it.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        self.authority.pem()
    }

    /// Issues a certificate for another test server. Returns the chain and the private key, both in
    /// PEM. `name` is a DNS name or an IP address.
    ///
    /// # Errors
    ///
    /// [`DemoError::Certificate`] if a certificate cannot have this `name`.
    pub fn issue_certificate(&self, name: &str) -> Result<(String, String), DemoError> {
        let issued = self.authority.issue(&[name])?;
        Ok((issued.chain_pem, issued.key_pem))
    }

    /// The current faults.
    #[must_use]
    pub fn faults(&self) -> DemoFaults {
        self.state.faults()
    }

    /// Replaces the faults for requests that arrive from now on. A request that hangs continues to
    /// hang.
    pub fn set_faults(&self, faults: DemoFaults) {
        self.state.set_faults(faults);
    }

    /// The counters since the start, and the last request.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.state.seen()
    }

    /// Replaces the signing key. From now on, all tokens issued so far are refused, although they
    /// have not expired. Blocks for most of a second. If no new key can be made, the old one stays.
    pub fn rotate_keys(&self) {
        let _old_key_stays_on_error = self.state.keys.rotate();
    }

    /// Closes the listeners and all connections, even with requests in progress.
    pub async fn stop(mut self) {
        self.servers.shut_down();
        self.servers.wait().await;
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        self.servers.shut_down();
    }
}

/// The routes of the tenant's API. Every request passes the same check, even for unknown paths.
fn api(state: Shared) -> Router {
    let routes = Router::new()
        .merge(odata::routes(Arc::clone(&state)))
        .merge(scim::routes(Arc::clone(&state)))
        .merge(content::routes(Arc::clone(&state)))
        .merge(audit::routes())
        .merge(rest::routes(Arc::clone(&state)))
        .merge(cli::routes(Arc::clone(&state)))
        .merge(csrf::routes())
        .fallback(answer::no_such_path)
        .method_not_allowed_fallback(answer::method_not_allowed);
    bearer::guard(routes, state)
}
