//! `bearerd cert`: a certificate for the listener, from a private authority.
//!
//! A build without the feature `cert` keeps the command, which then reports how to get it.

#[cfg(feature = "cert")]
mod files;
#[cfg(not(feature = "cert"))]
mod missing;

#[cfg(feature = "cert")]
pub(super) use files::{CertOptions, cert};
#[cfg(not(feature = "cert"))]
pub(super) use missing::{CertOptions, cert};
