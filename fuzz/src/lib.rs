//! The parts of bearerd that are fuzzed, under their names there.
//!
//! The whole crate would take ten minutes to compile for the fuzzer, instead of two, and its
//! coverage would count as the fuzzer's progress. The parts must not use the rest of the crate.

// The left-out parts of the crate would use these items.
#![allow(dead_code, unused_imports)]

#[path = "../../src"]
mod source {
    pub mod blocking;
    pub mod config;
    pub mod credential;
    pub mod endpoint;
    pub mod environment;
    pub mod files;
    pub mod forward_proxy;
    pub mod pem;
    pub mod profile;
    pub mod proxy {
        pub mod batch_check {
            mod json;
            mod kind;
            mod media_type;
            mod multipart;
            mod part_request;
            mod possible_bulk;
            mod reader;
            mod refusal;
            mod smuggling;

            use http::HeaderValue;
            use kind::BatchKind;
            use part_request::{CheckPart, PartRequest};
            use reader::BatchReader;
            use refusal::BatchRefusal;
            use std::cell::RefCell;

            /// The kind of batch that a body is read as.
            #[derive(Clone, Copy, Debug)]
            pub enum Form {
                Multipart,
                Json,
                Scim,
                /// A body that may be a batch of SCIM.
                PossibleBulk,
            }

            /// The outcome of reading a body.
            #[derive(Debug, PartialEq, Eq)]
            pub struct Outcome {
                /// Why it was refused, if it was.
                pub refusal: Option<String>,
                /// What would have been sent.
                pub sent: Vec<u8>,
                /// The requests that were checked.
                pub parts: Vec<String>,
            }

            /// Reads a body in these chunks. Requests whose method or target holds `no` are
            /// refused.
            pub fn read<'c>(form: Form, chunks: impl IntoIterator<Item = &'c [u8]>) -> Outcome {
                let parts = RefCell::new(Vec::new());
                let check: CheckPart<'_> = &|part: &PartRequest<'_>| {
                    let text = format!("{} {}", part.method, part.target);
                    let is_refused = text.contains("no");
                    parts.borrow_mut().push(text);
                    match is_refused {
                        true => Err(BatchRefusal::Forbidden("no".to_owned())),
                        false => Ok(()),
                    }
                };
                let (media, kind) = match form {
                    Form::Multipart => ("multipart/mixed; boundary=b", BatchKind::OData),
                    Form::Json => ("application/json", BatchKind::OData),
                    Form::Scim | Form::PossibleBulk => ("application/json", BatchKind::Scim),
                };
                let media = HeaderValue::from_static(media);
                let mut sent = Vec::new();
                let run = || {
                    let mut reader = match form {
                        Form::PossibleBulk => BatchReader::of_possible_bulk(Ok(media)),
                        _ => BatchReader::of_batch(&media, kind)?,
                    };
                    for chunk in chunks {
                        reader.push(chunk, check, &mut sent)?;
                    }
                    reader.finish(check, &mut sent)
                };
                let refusal = run().err().map(|why| format!("{why:?}"));
                Outcome { refusal, sent, parts: parts.into_inner() }
            }
        }
        pub mod injected_headers;
        pub mod links {
            mod entity_tag;
            mod header;
            mod header_kind;
            mod header_value;
            pub mod json;
            pub mod origin;
            pub mod xml;

            pub(crate) use header::restored_tags;
        }
        pub mod method_override;
        pub mod route;
        pub mod stripped_headers;
    }
    pub mod redact;
    pub mod secret;
    pub mod secret_file;
    pub mod text;
    pub mod trace_context;
}

pub use source::{
    blocking, config, credential, endpoint, environment, files, forward_proxy, pem, profile, proxy,
    redact, secret, secret_file, text, trace_context,
};

/// The header of the request to the upstream, for this request's header.
pub fn header_upstream(request: &mut pingora::http::RequestHeader) {
    let value = http::HeaderValue::from_static;
    proxy::stripped_headers::strip(request, proxy::stripped_headers::StripAlso::default());
    let injection = proxy::injected_headers::Injection {
        authorization: &value("Bearer injected"),
        host: &value("tenant.example"),
        custom_auth: true,
        extra: &[],
    };
    // The sidecar's own names and values are always valid.
    let _ = proxy::injected_headers::inject(request, &injection);
}
