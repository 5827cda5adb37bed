//! One integration binary: the sidecar as a whole, against real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

mod access_log;
mod admin;
mod allocations;
mod architecture;
mod batches;
mod busy;
mod clocks;
mod commands;
mod configuration;
mod container;
mod corpus;
mod crowding;
mod csrf;
mod demo;
mod diagnosis;
mod documents;
mod faults;
mod files;
mod fleet;
mod forward_proxy;
mod guard;
mod heal;
mod http2;
mod interop;
mod issuers;
mod kept;
mod lifecycle;
mod links;
mod local_answers;
mod memory;
mod monitoring;
mod names;
#[cfg(feature = "otlp")]
mod otlp;
mod paths;
mod redaction;
mod reload;
mod requests;
mod rotation;
mod sandbox;
mod scarcity;
mod secrecy;
mod smuggling;
mod status;
mod tenants;
mod tls;
mod token_life;
mod uploads;
