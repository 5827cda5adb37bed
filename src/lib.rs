//! bearerd: a token-injecting sidecar for SAP Datasphere.
//!
//! An application without OAuth speaks plain HTTP to the sidecar. The sidecar adds a current access
//! token and forwards the request over TLS. This crate is the binary's library, for its tests and
//! benches. `docs/architecture.md` shows how a token, a request, a configuration value and an
//! answer's body pass through it.
//!
//! # The floor plan
//!
//! A room is a top-level module. It imports only rooms below it, and no two files import each
//! other. `tests/architecture.rs` enforces both.
//!
//! ```text
//! cli             command line: arguments, subcommands, exit codes
//! doctor          tries everything once and gives advice
//! demo            demo tenant: issuer and APIs in one process (feature `demo`)
//! probe           asks a running sidecar whether it is ready
//! app             builds, binds, runs, reloads and ends the whole
//! admin           admin listener: probes, metrics, status page
//! server          listeners, connections, workers
//! status          state for people: /status and the page
//! readiness       alive, ready, degraded, and why
//! proxy           request path: pingora's hooks and their decisions
//! otlp            spans for a collector of traces
//! token           issuers, refresh schedule, current token of each client
//! audit           audit log: who did what
//! traffic         what became of the last requests, and why some failed
//! metrics         metric families and their closed label sets
//! listener_tls    TLS of listeners
//! http_client     HTTP client for issuers, CSRF tokens, traces and doctor
//! no_answer       why a server does not answer, in words
//! watch           notices files that change
//! trust           trust anchors
//! telemetry       log lines on standard error
//! service_manager what systemd is sent about the state of the process
//! shutdown        signals: end, or reload
//! sandbox         what the process gives up before it serves
//! resolver        name lookups
//! config          file, environment and flags, parsed and checked
//! credential      service keys, secrets, certificates, assertions
//! forward_proxy   which proxy leads to a server, and the tunnel through it
//! private_authority private authority for listeners (feature `cert`)
//! caller_secret   keys and passwords of callers, and their digests
//! secret_file     files with a secret, or a certificate and its key
//! secret          secret that is wiped, and never printed
//! pem             PEM as files hold it
//! files           regular and small files
//! trace_context   W3C Trace Context
//! throttle        one log line a minute about a fault that lasts
//! text            text encodings
//! retry_after     Retry-After
//! redact          removes secrets from text, in any encoding
//! readable        text of others without control characters
//! profile         API families of the tenant
//! keepalive       timeouts for connections whose packets vanish
//! journal         last events
//! error           kinds of local answers
//! environment     process environment
//! endpoint        URLs of servers
//! drain           end of the process, as requests see it
//! clock           machine's clocks
//! blocking        threads for work that blocks
//! ```
//!
//! A configuration becomes a client's credential, then a token, then a request's header:
//! [`config`], [`credential`], [`token`], [`proxy`].
//!
//! - A request never calls the token endpoint. It reads the current token without a lock. It waits
//!   for a bounded time, only if there is no usable token, if the upstream refused it, or if it
//!   expires too soon for an upload. Without a token it is answered 503.
//! - One refresher per client fetches its tokens, so at most one token request is in flight.
//! - [`token`] imports nothing of [`proxy`]. From [`token`], [`proxy`] uses only `TokenStore` and
//!   `ClientHandle`, which contains a store.
//! - Some things are done in one place only: HTTP clients in [`http_client`], pingora's peers in
//!   [`proxy::upstream`] and server settings in [`server`], reading the environment in
//!   [`environment`], tunnels through a forward proxy in [`forward_proxy`], blocking work in
//!   [`blocking`], name lookups in `resolver`.
//! - [`otlp`] makes spans for a trace collector. A build without the feature `otlp` makes none.
//! - [`app`] puts the sidecar together. Tests start it on port 0.

pub mod admin;
pub mod app;
pub mod audit;
pub mod blocking;
pub mod caller_secret;
pub mod clock;
pub mod config;
pub mod credential;
#[cfg(feature = "demo")]
pub mod demo;
pub mod doctor;
pub mod drain;
pub mod endpoint;
pub mod environment;
pub mod error;
pub mod files;
pub mod forward_proxy;
pub mod http_client;
pub mod journal;
mod keepalive;
pub mod listener_tls;
pub mod metrics;
pub mod no_answer;
pub mod otlp;
pub mod pem;
#[cfg(feature = "cert")]
pub mod private_authority;
pub mod probe;
pub mod profile;
pub mod proxy;
pub mod readable;
pub mod readiness;
mod redact;
mod resolver;
mod retry_after;
pub mod sandbox;
pub mod secret;
pub mod secret_file;
pub mod server;
mod service_manager;
pub mod shutdown;
pub mod status;
pub mod telemetry;
pub mod text;
mod throttle;
pub mod token;
mod trace_context;
pub mod traffic;
pub mod trust;
pub mod watch;
