//! Removes secrets from text, in any encoding.
//!
//! A debugging gateway sends a request's header back as HTML, as JSON, in a query, or in base64. An
//! issuer quotes the secret that it refuses. [`Secrets`] are found raw and in all [`encodings`],
//! also nested in each other. [`Redactor`] removes them from a body that comes in chunks.
//! `SECURITY.md` lists what is not found.
//!
//! Nearly every text holds no secret, and must cost next to nothing. In any encoding, a secret is
//! an unbroken run of few kinds of characters, at least as long as the secret. So only every n-th
//! byte of a text is looked at, and only a run that is long enough is decoded: the longer the
//! secret, the less is read.

mod encodings;
mod escapes;
mod findings;
mod layer;
mod redactor;
mod runs;
mod secrets;
#[cfg(test)]
mod tests;

pub(crate) use redactor::Redactor;
pub(crate) use secrets::Secrets;
