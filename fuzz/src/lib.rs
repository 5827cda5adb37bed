//! Of bearerd only what is fuzzed, under its names there.
//!
//! All of it would take ten minutes to compile for the fuzzer, this takes one; and what the fuzzer
//! sees of its progress is theirs. It holds as long as they use nothing else of the crate.

#[path = "../../src/credential"]
pub mod credential {
    pub mod format;
}

#[path = "../../src/proxy"]
pub mod proxy {
    pub mod links {
        pub mod json;
        pub mod origin;
        pub mod xml;
    }
    pub mod route;
}

#[path = "../../src/secret.rs"]
pub mod secret;
