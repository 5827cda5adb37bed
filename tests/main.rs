//! One integration binary, by subject: the sidecar as a whole, against real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

mod architecture;
mod demo;
mod interop;
mod operate;
mod proxy;
mod ship;
mod token;
