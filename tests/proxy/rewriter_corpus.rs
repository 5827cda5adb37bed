//! The corpus of the fuzz targets, checked against the rewriters' laws without a fuzzer.

use crate::support::rewriter_laws::{Rewriter, check};
use bearerd::proxy::links::json::JsonRewriter;
use bearerd::proxy::links::xml::XmlRewriter;
use std::panic::catch_unwind;
use std::path::Path;

fn check_all<R: Rewriter>(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let input = std::fs::read(&path).unwrap();
        // The failed check has printed its own message before.
        assert!(catch_unwind(|| check::<R>(&input)).is_ok(), "{}", path.display());
        count += 1;
    }
    assert!(count > 20, "only {count} files in the corpus");
}

#[test]
fn the_json_rewriter_keeps_the_rules_on_the_corpus() {
    check_all::<JsonRewriter>("json");
}

#[test]
fn the_xml_rewriter_keeps_the_rules_on_the_corpus() {
    check_all::<XmlRewriter>("xml");
}
