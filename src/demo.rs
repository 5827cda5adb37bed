//! The demo tenant: what SAP Datasphere looks like from outside, in one process and without an account.
//!
//! Three listeners, all on loopback unless told otherwise:
//!
//! | listener | speaks | imitates |
//! |---|---|---|
//! | issuer | HTTPS | the token endpoint (XSUAA, which is Cloud Foundry's UAA): `/oauth/token`, `/token_keys` |
//! | tenant | HTTPS | the tenant's API: OData, SCIM 2.0, content, audit export, task chains, spaces |
//! | control | HTTP | nothing of SAP's: faults on demand, key rotation, and what was seen |
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

use axum::Router;
use axum_server::tls_rustls::RustlsConfig;

use ca::CertificateAuthority;
pub use faults::{CsrfRegime, Faults, IssuerFault, NextLinks, TenantFault};
use keys::Keys;
use listener::{Listener, Servers};
pub use seen::{LastRequest, Seen};
use state::{Client, Shared, TenantState};

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
    /// The runtime shut down before the tenant had started.
    #[error("the runtime stopped while the demo tenant was starting")]
    Interrupted,
}

/// Where the demo tenant listens and which OAuth client it knows.
#[derive(Debug, Clone)]
pub struct TenantOptions {
    /// Where the token endpoint listens (HTTPS). Port 0 takes any free port, as for the other two.
    pub issuer: SocketAddr,
    /// Where the tenant's API listens (HTTPS).
    pub tenant: SocketAddr,
    /// Where the control API listens (plain HTTP, open to everyone who can connect: keep it on loopback).
    pub control: SocketAddr,
    /// The only OAuth client. The default has the `|` and `!` that real ones have.
    pub client_id: String,
    /// Its secret. The default has the `$`, `+`, `/` and `=` that break careless encoding.
    pub client_secret: String,
}

impl Default for TenantOptions {
    fn default() -> Self {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            issuer: any_port,
            tenant: any_port,
            control: any_port,
            client_id: "sb-4f0c9a52-demo!b42|client!b7".to_owned(),
            client_secret: "7d3f$aV+/9=demo-only=".to_owned(),
        }
    }
}

/// A running demo tenant. Dropping it stops it too; [`Tenant::stop`] also waits until the ports are free.
#[derive(Debug)]
pub struct Tenant {
    issuer: SocketAddr,
    tenant: SocketAddr,
    control: SocketAddr,
    authority: CertificateAuthority,
    state: Shared,
    servers: Servers,
}

impl Tenant {
    /// Binds the three listeners and serves them on the current tokio runtime.
    ///
    /// # Errors
    ///
    /// [`DemoError::Bind`] when an address is taken; the other kinds only when the machine has no randomness left or
    /// the runtime is going away.
    pub async fn start(options: TenantOptions) -> Result<Self, DemoError> {
        let issuer = Listener::bind(options.issuer)?;
        let tenant = Listener::bind(options.tenant)?;
        let control = Listener::bind(options.control)?;

        let authority = CertificateAuthority::new()?;
        let tls = RustlsConfig::from_config(Arc::new(authority.server_config()?));
        // Finding two primes takes a good part of a second: not on a thread that serves requests.
        let keys =
            tokio::task::spawn_blocking(Keys::new).await.map_err(|_| DemoError::Interrupted)??;
        let state = Arc::new(TenantState::new(
            Client { id: options.client_id, secret: options.client_secret },
            keys,
            format!("https://localhost:{}", issuer.address.port()),
            format!("https://localhost:{}", tenant.address.port()),
        ));

        let addresses = (issuer.address, tenant.address, control.address);
        let mut servers = Servers::default();
        issuer.serve_tls(&mut servers, &tls, issuer::routes(Arc::clone(&state)))?;
        tenant.serve_tls(&mut servers, &tls, api(Arc::clone(&state)))?;
        control.serve_plain(&mut servers, control::routes(Arc::clone(&state), addresses.2))?;

        let (issuer, tenant, control) = addresses;
        Ok(Self { issuer, tenant, control, authority, state, servers })
    }

    /// Where the token endpoint listens.
    #[must_use]
    pub fn issuer_addr(&self) -> SocketAddr {
        self.issuer
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
        format!("{}/oauth/token", self.state.issuer_origin)
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

    /// The secret of the only OAuth client.
    #[must_use]
    pub fn client_secret(&self) -> &str {
        &self.state.client.secret
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
