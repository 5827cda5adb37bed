//! Of bearerd only what is fuzzed, under its names there.
//!
//! All of it would take ten minutes to compile for the fuzzer, this takes two; and what the fuzzer
//! sees of its progress is theirs. It holds as long as they use nothing else of the crate.

// What the parts of the crate that are left out would use is unused here.
#![allow(dead_code, unused_imports)]

#[path = "../../src"]
mod source {
    pub mod config;
    pub mod credential;
    pub mod files;
    pub mod proxy {
        pub mod headers;
        pub mod links {
            pub mod json;
            pub mod origin;
            mod value;
            pub mod xml;
        }
        pub mod profile;
        pub mod route;
    }
    pub mod secret;
}

pub use source::{config, credential, files, proxy, secret};

/// What a request's header becomes on its way to the upstream.
pub fn header_upstream(request: &mut pingora::http::RequestHeader) {
    let ours = http::HeaderValue::from_static;
    proxy::headers::strip(request);
    let injection = proxy::headers::Injection {
        authorization: &ours("Bearer ours"),
        host: &ours("tenant.example"),
        custom_auth: true,
        extra: &[],
    };
    // Names and values of our own are always taken.
    let _ = proxy::headers::inject(request, &injection);
}
