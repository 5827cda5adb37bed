//! Real peers, in processes of their own. They need packages that `make test` installs first.

mod browser;
mod cap;
mod cli;
mod deploy;
mod forward_proxy;
mod http2;
mod night;
mod page;
mod promtool;
mod pyodata;
mod server;
