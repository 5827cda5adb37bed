//! HTTP client for bearerd's own requests, set up in one place: tokens from issuers, CSRF tokens
//! from upstreams, traces to a collector.

mod body;
mod client;
mod error;
mod send_error;
mod tls;
mod tunnelled;
mod user_agent;

pub(crate) use body::{BodyError, bounded_body};
pub(crate) use client::{HttpClient, HttpClientOptions};
pub use error::HttpClientError;
pub(crate) use send_error::SendError;
pub use send_error::TunnelRefusal;
pub use tls::set_up_tls;
pub(crate) use tls::{client_config, parse_certificate, versions};
