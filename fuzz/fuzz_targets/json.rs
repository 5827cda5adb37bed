//! The JSON link rewriter, checked against its laws.
#![no_main]

#[path = "../../tests/support/rewriter_laws.rs"]
mod rewriter_laws;

use bearerd::proxy::links::json::JsonRewriter;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| rewriter_laws::check::<JsonRewriter>(input));
