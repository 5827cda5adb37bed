//! Of pingora only the types of headers and errors, so that the fuzzer need not compile the rest.

pub use pingora_error::Result;
pub use pingora_http as http;
