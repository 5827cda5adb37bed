//! The demo tenant: what SAP Datasphere looks like from outside, in one process and without an account.
//!
//! Four listeners, all on loopback unless told otherwise:
//!
//! | listener | speaks | imitates |
//! |---|---|---|
//! | issuer | HTTPS | the token endpoint (XSUAA, which is Cloud Foundry's UAA): `/oauth/token`, `/token_keys` |
//! | certificate issuer | HTTPS with client certificates | the same issuer's other host, `….authentication.cert.…`: `/oauth/token` |
//! | tenant | HTTPS | the tenant's API: OData, SCIM 2.0, content, audit export, task chains, spaces |
//! | control | HTTP | nothing of SAP's: faults on demand, rotation of keys and secrets, and what was seen |
//!
//! To learn what SAP does, read in this order: `issuer` (how a client gets a token), `keys` (what is in it),
//! `bearer` and `login` (what happens when it is bad), `csrf` (what writes need besides), then one file for each API
//! family. The data are made up and deterministic; nothing is kept on disk; every start makes a new certificate
//! authority and a new signing key.

mod answer;
mod audit;
mod bearer;
mod ca;
mod cli;
mod client;
mod content;
mod control;
mod csrf;
mod faults;
mod issuer;
mod keys;
mod listener;
mod login;
mod odata;
mod rest;
mod scim;
mod seen;
mod state;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::tls_rustls::RustlsConfig;

use crate::blocking;
use ca::CertificateAuthority;
use client::Client;
pub use faults::{CatalogBase, CsrfRegime, Faults, IssuerFault, NextLinks, TenantFault};
use keys::Keys;
use listener::{Listener, Servers};
pub use seen::{LastRequest, Seen};
use state::{Shared, TenantState};

/// How long making a key may take: seconds without optimisation, on a busy machine longer.
const KEY_TIME: Duration = Duration::from_secs(60);

/// Why the demo tenant could not start, or could not make a certificate.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// An address is taken, or is not this machine's.
    #[error(
        "cannot listen on {address}: {reason}; choose another address, or port 0 for any free port"
    )]
    Bind {
        /// The address as it was asked for.
        address: SocketAddr,
        /// What the operating system said.
        reason: io::Error,
    },
    /// A certificate could not be made: most likely the name is not a DNS name or an IP address.
    #[error("cannot make a certificate for {name}: {reason}")]
    Certificate {
        /// The name that the certificate should have been for.
        name: String,
        /// What the certificate library said.
        reason: rcgen::Error,
    },
    /// TLS refused our own certificate or settings.
    #[error("cannot set up TLS: {0}")]
    Tls(rustls::Error),
    /// No RSA key could be made: the operating system gave no random numbers.
    #[error("cannot make a signing key: {0}")]
    SigningKey(rsa::Error),
    /// The public key of the OAuth client can't verify anything here.
    #[error(
        "the client's public key is neither RSA nor P-256 in PEM (`-----BEGIN PUBLIC KEY-----`)"
    )]
    ClientKey,
    /// The runtime shut down before the tenant had started.
    #[error("the runtime stopped while the demo tenant was starting")]
    Interrupted,
}

/// Where the demo tenant listens and which OAuth client it knows.
#[derive(Debug, Clone)]
pub struct TenantOptions {
    /// Where the token endpoint listens (HTTPS). Port 0 takes any free port, as for the others.
    pub issuer: SocketAddr,
    /// Where the token endpoint for client certificates listens (HTTPS).
    pub cert_issuer: SocketAddr,
    /// Where the tenant's API listens (HTTPS).
    pub tenant: SocketAddr,
    /// Where the control API listens (plain HTTP, open to everyone who can connect: keep it on loopback).
    pub control: SocketAddr,
    /// The only OAuth client. The default has the `|` and `!` that real ones have.
    pub client_id: String,
    /// Its first secret. The default has the `$`, `+`, `/` and `=` that break careless encoding.
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

/// A running demo tenant. Dropping it stops it too; [`Tenant::stop`] also waits until the ports are free.
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
    /// [`DemoError::Bind`] when an address is taken; the other kinds only when the machine has no randomness left or
    /// the runtime is going away.
    pub async fn start(options: TenantOptions) -> Result<Self, DemoError> {
        let issuer = Listener::bind(options.issuer)?;
        let cert_issuer = Listener::bind(options.cert_issuer)?;
        let tenant = Listener::bind(options.tenant)?;
        let control = Listener::bind(options.control)?;

        let authority = CertificateAuthority::new()?;
        let tls = RustlsConfig::from_config(Arc::new(authority.server_config(options.http2)?));
        let mutual_tls = RustlsConfig::from_config(Arc::new(authority.mutual_config()?));
        // Finding two primes takes a good part of a second: not on a thread that serves requests.
        let keys =
            blocking::within(KEY_TIME, Keys::new).await.map_err(|_| DemoError::Interrupted)??;
        let state = Arc::new(TenantState::new(
            Client::new(options.client_id, options.client_secret),
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

    /// Where the token endpoint listens.
    #[must_use]
    pub fn issuer_addr(&self) -> SocketAddr {
        self.issuer
    }

    /// Where the token endpoint for client certificates listens.
    #[must_use]
    pub fn cert_issuer_addr(&self) -> SocketAddr {
        self.cert_issuer
    }

    /// Where the tenant's API listens.
    #[must_use]
    pub fn tenant_addr(&self) -> SocketAddr {
        self.tenant
    }

    /// Where the control API listens.
    #[must_use]
    pub fn control_addr(&self) -> SocketAddr {
        self.control
    }

    /// The token URL, as the administrator would read it in *App Integration*: `https://localhost:PORT/oauth/token`.
    #[must_use]
    pub fn token_url(&self) -> String {
        self.state.token_url()
    }

    /// The `certurl` of a service key: `https://localhost:PORT`. With `/oauth/token` it gives tokens to who shows a
    /// client certificate, and to nobody else.
    #[must_use]
    pub fn cert_url(&self) -> String {
        format!("https://localhost:{}", self.cert_issuer.port())
    }

    /// The tenant's own address: `https://localhost:PORT`, without a trailing slash.
    #[must_use]
    pub fn url(&self) -> String {
        self.state.tenant_origin.clone()
    }

    /// The control API's address: `http://127.0.0.1:PORT`, without a trailing slash.
    #[must_use]
    pub fn control_url(&self) -> String {
        format!("http://{}", self.control)
    }

    /// The id of the only OAuth client.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.state.client.id
    }

    /// The current secret of the only OAuth client: the newest.
    #[must_use]
    pub fn client_secret(&self) -> String {
        self.state.client.secret()
    }

    /// Makes a new secret and returns it. It is the current one from now on; the older ones stay valid.
    pub fn rotate_client_secret(&self) -> String {
        self.state.client.rotate_secret()
    }

    /// Refuses every secret but the current one from now on. Tokens that were got with them stay valid.
    pub fn retire_old_client_secrets(&self) {
        self.state.client.retire_old_secrets();
    }

    /// Lets the client prove itself with assertions signed by this key's other half (`private_key_jwt`, RFC 7523).
    /// `public_key_pem` is RSA (for RS256) or P-256 (for ES256), as `-----BEGIN PUBLIC KEY-----`. Keys registered
    /// before stay valid.
    ///
    /// # Errors
    ///
    /// [`DemoError::ClientKey`] when it is something else.
    pub fn register_client_key(&self, public_key_pem: &str) -> Result<(), DemoError> {
        self.state.client.register_key(public_key_pem)
    }

    /// Issues a certificate for the OAuth client, to be shown at [`Tenant::cert_url`]: the chain and the private key,
    /// both PEM. It is valid for this long from now, rounded to seconds and at most a century; zero makes one that has
    /// expired.
    ///
    /// # Errors
    ///
    /// [`DemoError::Certificate`] when the machine has no randomness left.
    pub fn issue_client_certificate(&self, valid: Duration) -> Result<(String, String), DemoError> {
        let issued = self.authority.issue_client(self.client_id(), valid)?;
        Ok((issued.chain_pem, issued.key_pem))
    }

    /// The certificate authority's certificate, PEM: what a client must trust to talk to the issuer and the tenant.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        self.authority.pem()
    }

    /// Issues a server certificate for another test server: the chain and the private key, both PEM. `name` is a DNS
    /// name or an IP address.
    ///
    /// # Errors
    ///
    /// [`DemoError::Certificate`] when `name` can't stand in a certificate.
    pub fn issue_certificate(&self, name: &str) -> Result<(String, String), DemoError> {
        let issued = self.authority.issue(&[name])?;
        Ok((issued.chain_pem, issued.key_pem))
    }

    /// The faults in force.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.state.faults()
    }

    /// Replaces the faults; requests that arrive from now on see them. A request that hangs already goes on hanging.
    pub fn set_faults(&self, faults: Faults) {
        self.state.set_faults(faults);
    }

    /// What was seen since the start.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.state.seen()
    }

    /// Replaces the signing key: every token issued so far is refused from now on, though it has not expired. Blocks
    /// for a good part of a second. Should the machine be unable to make a key, the old one stays.
    pub fn rotate_keys(&self) {
        let _kept_the_old_one = self.state.keys.rotate();
    }

    /// Stops listening and closes every connection, also those with a request in progress.
    pub async fn stop(mut self) {
        self.servers.shut_down();
        self.servers.ended().await;
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        self.servers.shut_down();
    }
}

/// The tenant's API: every path behind the same check of the bearer token, unknown ones too.
fn api(state: Shared) -> Router {
    Router::new()
        .merge(odata::routes())
        .merge(scim::routes())
        .merge(content::routes())
        .merge(audit::routes())
        .merge(rest::routes())
        .merge(cli::routes())
        .merge(csrf::routes())
        .fallback(answer::no_such_path)
        .method_not_allowed_fallback(answer::method_not_allowed)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&state), bearer::front_door))
        .with_state(state)
}
