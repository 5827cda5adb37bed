//! Requests and responses: what is forwarded, rewritten, retried and refused.

mod backpressure;
mod batches;
mod callers;
mod csrf;
pub(crate) mod dead_paths;
mod dns;
mod faults;
mod forward_proxy;
mod guard;
mod heal;
mod http2;
mod links;
mod listener_tls;
mod local_answers;
mod redaction;
mod refused_callers;
mod request_bodies;
mod requests;
mod rewriter_corpus;
mod smuggling;
mod stale_connections;
mod tenant_name;
mod tenants;
mod tls;
mod uploads;
mod write_replays;
