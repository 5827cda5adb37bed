//! Operation: configuration, commands, logs, metrics, status, limits, and the end of the process.

mod access_log;
mod admin_tls;
mod audit;
mod cert;
mod commands;
mod configuration;
mod connection_floods;
mod doctor;
mod exec;
mod exhaustion;
mod init;
mod lifecycle;
mod memory;
mod mistakes;
pub(crate) mod monitoring;
#[cfg(feature = "otlp")]
mod otlp;
mod reload;
mod sandbox;
mod secrecy;
mod service_manager;
mod status;
mod watched_files;
