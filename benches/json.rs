//! Speed of link rewriting in an OData page of 20 MB.
#![allow(missing_docs)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bearerd::proxy::links::json::JsonRewriter;
use bearerd::proxy::links::origin::OriginMap;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const ORIGIN: &str = "https://acme.eu10.hcs.cloud.sap";
const SIZE: usize = 20_000_000;

fn pick<'a>(words: &[&'a str], index: u64) -> &'a str {
    words.get(index as usize).copied().unwrap_or_default()
}

/// A page of rows with ten columns. `links` adds two links to each row.
fn page(links: bool) -> String {
    let mut seed = 42_u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut page = format!(r#"{{"@odata.context":"{ORIGIN}/api/v1/$metadata#Orders","value":["#);
    for row in 0.. {
        if page.len() >= SIZE {
            break;
        }
        if row > 0 {
            page.push(',');
        }
        page.push('{');
        if links {
            let _ = write!(
                page,
                r#""@odata.id":"{ORIGIN}/api/v1/Orders({row})","Items@odata.navigationLink":"{ORIGIN}/api/v1/Orders({row})/Items","#
            );
        }
        let customer = "Customer of some length".get(..random(20) as usize + 3).unwrap_or_default();
        let city = pick(&["Walldorf", "Rot", "Sankt Leon-Rot", "Heidelberg"], random(4));
        let _ = write!(
            page,
            r#""OrderID":"{:010}","Customer":"{customer}","Country":"DE","City":"{city}","Amount":{}.{:02},"Quantity":{},"Currency":"EUR","OrderDate":"2024-{:02}-{:02}","Status":"{}","IsOpen":{}}}"#,
            row,
            random(100_000),
            random(100),
            random(1000),
            random(12) + 1,
            random(28) + 1,
            pick(&["NEW", "IN_PROCESS", "DONE"], random(3)),
            random(2) == 0,
        );
    }
    let _ = write!(page, r#"],"@odata.nextLink":"{ORIGIN}/api/v1/Orders?$skiptoken=20000"}}"#);
    page
}

/// A page of the same size that consists of short links with escaped slashes, which are decoded
/// byte by byte.
fn escaped_links() -> String {
    let link = format!(r#"{{"uri":"{}\/a"}},"#, ORIGIN.replace('/', r"\/"));
    format!(r#"{{"value":[{}0]}}"#, link.repeat(SIZE / link.len()))
}

fn benches(criterion: &mut Criterion) {
    let pair = (ORIGIN.to_owned(), "http://127.0.0.1:8080".to_owned());
    let map = Arc::new(OriginMap::new([pair], None));
    let mut group = criterion.benchmark_group("json");
    group
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .sample_size(20);
    for (name, page) in [
        ("one link", page(false)),
        ("two links a row", page(true)),
        ("only escaped links", escaped_links()),
    ] {
        group.throughput(Throughput::Bytes(page.len() as u64));
        for size in [64 * 1024, usize::MAX] {
            let mut output = Vec::with_capacity(page.len() + 1024);
            let id = format!(
                "{name}, {}",
                if size == usize::MAX { "one push" } else { "64 KiB pushes" }
            );
            group.bench_function(id, |bencher| {
                bencher.iter(|| {
                    output.clear();
                    let mut rewriter = JsonRewriter::new(Arc::clone(&map));
                    for chunk in page.as_bytes().chunks(size) {
                        rewriter.push(black_box(chunk), &mut output);
                        if size != usize::MAX {
                            // A proxy passes each chunk on.
                            black_box(&output);
                            output.clear();
                        }
                    }
                    rewriter.finish(&mut output);
                    black_box(rewriter.rewritten())
                });
            });
        }
    }
    group.finish();
}

criterion_group!(group, benches);
criterion_main!(group);
