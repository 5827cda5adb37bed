//! SAP's protection against cross-site request forgery, managed for callers that do not support it.
//!
//! A write needs an `x-csrf-token` that was fetched before with the same access token, and on some
//! tenants the cookies of that fetch, too. bearerd fetches one for each access token, keeps it, and
//! sends it with the writes of callers that send none.

mod backoff;
mod header;
mod tokens;

pub(super) use backoff::Need;
pub(super) use header::{inject, is_managed_by_caller, strip};
pub(super) use tokens::{CsrfSession, CsrfTokens};
