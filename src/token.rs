//! Access tokens: where they come from, when they are refreshed, and the current one of each
//! client.
//!
//! For each client, the [`refresher`] requests a token from a [`TokenSource`] when its [`schedule`]
//! says so, and publishes it to the [`store`], from which the proxy reads. When the client's
//! credential changes, the [`rotation`] offers the refresher a new source. [`client_state`] holds
//! what probes and the status page report. Nothing here knows of requests.

mod access_token;
pub mod advice;
pub mod answer;
pub mod claims;
pub mod client_expiry;
pub mod client_state;
mod error;
mod handle;
mod issued;
pub mod oauth;
pub mod rate_limit;
pub mod refresher;
pub mod retry;
pub mod rotation;
pub mod schedule;
mod source;
pub mod store;

pub use access_token::Token;
pub use error::{InvalidAnswer, REFUSED, TokenError};
pub use handle::ClientHandle;
pub use source::TokenSource;
