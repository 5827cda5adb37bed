//! Credentials of OAuth clients: where they are kept, and how they are read.
//!
//! A [`CredentialSource`] is what the configuration says. Reading it returns an [`Identity`], which
//! is complete, or an error.

mod error;
pub mod folder;
pub mod format;
mod identity;
mod proof_source;
mod source;
mod suspicion;

pub use error::CredentialError;
pub use identity::{Identity, Proof, SecretAuth};
pub use proof_source::ProofSource;
pub use source::{CredentialSource, KeyLocation, READ_TIMEOUT};
