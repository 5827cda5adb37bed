//! The fuzz targets' corpus before their judge, without a fuzzer: what was found once stays found.

use crate::support::rewriter_laws::{Rewriter, judge};
use bearerd::proxy::links::json::JsonRewriter;
use bearerd::proxy::links::xml::XmlRewriter;
use std::panic::catch_unwind;
use std::path::Path;

fn judge_all<R: Rewriter>(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let input = std::fs::read(&path).unwrap();
        // The judge's own message is printed above this one.
        assert!(catch_unwind(|| judge::<R>(&input)).is_ok(), "{}", path.display());
        count += 1;
    }
    assert!(count > 20, "only {count} files in the corpus");
}

#[test]
fn the_json_rewriter_keeps_the_rules_on_the_corpus() {
    judge_all::<JsonRewriter>("json");
}

#[test]
fn the_xml_rewriter_keeps_the_rules_on_the_corpus() {
    judge_all::<XmlRewriter>("xml");
}
