//! The caller's connection as pingora reads and writes it.
//!
//! The connection knows the phase of its request: what the caller still has to send. A caller that
//! takes too long is answered and disconnected, because pingora's own timeouts start anew with
//! every byte. Answers that pingora sends by itself, without calling a hook, are replaced by
//! bearerd's own and counted.

mod activity;
mod body_pacing;
mod caller_timeout;
mod connection;
mod disconnect;
mod load;
mod partial_header;
mod phase;
mod pingora_traits;
mod read;
mod request_line;
mod response_framing;
mod response_rewrite;
mod socket;
#[cfg(test)]
mod tests;
mod write;
mod write_stall;

pub(crate) use activity::Activity;
pub(crate) use connection::Downstream;
pub(crate) use disconnect::{ensure_connected, unless_disconnected};
pub(crate) use load::{Load, RequestInFlight};
pub(crate) use response_framing::ResponseFraming;
pub(crate) use response_rewrite::ResponseRewrite;
pub(crate) use socket::Socket;
pub(super) use write_stall::WRITE_TIMEOUT;
