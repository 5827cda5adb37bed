//! Interoperability with real servers and clients. They need packages that `make test` installs
//! first.

mod browser;
mod cap;
mod cli;
mod debian_server;
mod deploy;
mod forward_proxy;
mod gateway;
mod http2;
mod prometheus;
mod promtool;
mod pyodata;
mod status_page;
mod tools;
