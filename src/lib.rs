//! bearerd: a token-injecting sidecar for SAP Datasphere.
//!
//! An application that knows nothing of OAuth talks plain HTTP to the sidecar; the sidecar adds a
//! current access token and passes the request on over TLS. This crate is the binary's library: it
//! exists for its tests and benches.
//!
//! # The map
//!
//! ```text
//!   file, env        credential            token              request             observed
//!   ─────────▶ config ─────────▶ token ─────────▶ token::store ─────────▶ proxy ─────────▶ metrics ──▶ admin
//!   once, parsed      watched         refresher       one atomic load       hooks, pure       closed       probes
//!                     tried first     owns fetching                         decisions         labels
//! ```
//!
//! - A request never calls the token endpoint and takes no lock: it reads the store. Without a
//!   usable token it waits on the store, for a bounded time; then it is answered 503.
//! - One refresher a client owns fetching, so there is never more than one token request under way.
//! - [`token`] knows nothing of [`proxy`]; [`proxy`] sees of tokens only the store.
//! - Each of these is done in one file: setting up the library that asks issuers in [`http_client`],
//!   pingora's peers in [`proxy::upstream`], its server settings in [`server`], reading the environment
//!   in [`config::Environment`], asking a proxy for a tunnel in [`forward_proxy`], work that blocks in
//!   [`blocking`], looking up names in `resolver`.
//! - Spans for a collector of traces are made in [`otlp`], unless the feature of that name is left out.
//! - [`app`] is the only file that knows every part; tests start the same object on port 0.

pub mod admin;
pub mod app;
pub mod blocking;
mod clock;
pub mod config;
pub mod credential;
pub mod demo;
pub mod doctor;
pub mod drain;
pub mod error;
pub mod files;
pub mod forward_proxy;
pub mod http_client;
pub mod journal;
pub mod metrics;
pub mod otlp;
pub mod pem;
mod place;
pub mod profile;
pub mod proxy;
pub mod readable;
pub mod readiness;
mod redact;
mod resolver;
mod retry_after;
pub mod sandbox;
pub mod secret;
pub mod server;
pub mod shutdown;
mod silence;
pub mod status;
pub mod telemetry;
pub mod text;
pub mod token;
mod trace_context;
pub mod trust;
pub mod watch;
