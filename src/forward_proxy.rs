//! Forward proxies: choice of the proxy for a server, and the CONNECT request for a tunnel (RFC
//! 9110 section 9.3.6).
//!
//! TLS passes through the tunnel end to end. A proxy sees the server's name, and never a token.

mod choice;
mod proxy;
mod tunnel;

pub use choice::ProxyChoice;
pub use proxy::ForwardProxy;
pub(crate) use tunnel::{Destination, TunnelError};
