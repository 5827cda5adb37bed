//! `bearerd demo`: a demo tenant and a sidecar in one process.
//!
//! A build without the feature `demo` keeps the command, which then reports how to get the demo.

#[cfg(not(feature = "demo"))]
mod missing;
#[cfg(feature = "demo")]
mod pair;
#[cfg(feature = "demo")]
mod tour;

#[cfg(not(feature = "demo"))]
pub(super) use missing::{ABOUT, DemoOptions, demo};
#[cfg(feature = "demo")]
pub(super) use pair::{ABOUT, DemoOptions, demo};
