//! The XML rewriter before the judge.
#![no_main]

#[path = "../../tests/support/judge.rs"]
mod judge;

use bearerd::proxy::links::xml::XmlRewriter;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| judge::judge::<XmlRewriter>(input));
