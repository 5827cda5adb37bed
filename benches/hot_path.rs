//! What every request pays on its way through: its token, its route, its counts.
//!
//! `cargo bench --bench hot_path` measures; `cargo test --benches` only runs each once.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../tests/support/one_token.rs"]
mod one_token;

use bearerd::metrics::Metrics;
use bearerd::proxy::route::Router;
use bearerd::token::refresher::{Offer, Refresher};
use bearerd::token::store::TokenStore;
use criterion::{Criterion, criterion_group, criterion_main};
use one_token::OneToken;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;

/// A store with a token in it, put there by the real refresher.
fn store() -> Arc<TokenStore> {
    let store = Arc::new(TokenStore::new());
    let metrics = Metrics::new().unwrap().client("c");
    let refresher =
        Refresher::new("c".into(), Arc::new(OneToken), Offer::never(), store.clone(), metrics, 0.5);
    let stop = CancellationToken::new();
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let running = tokio::spawn(refresher.run(stop.clone()));
        store.wait(Duration::from_secs(5)).await.unwrap();
        stop.cancel();
        running.await.unwrap();
    });
    store
}

fn token(criterion: &mut Criterion) {
    let store = store();
    criterion.bench_function("token: read the usable one", |bencher| {
        bencher.iter(|| black_box(store.usable()));
    });
}

fn route(criterion: &mut Criterion) {
    let few = ["/api/v1/datasphere/consumption", "/api/v1/dwc", "/api/v1/scim2", "/api/v1/content"];
    let many: Vec<String> = (0..200).map(|index| format!("/tenant-{index}/api/v1")).collect();
    let target = b"/api/v1/datasphere/consumption/relational/SPACE/VIEW/VIEW?$top=500&$skip=1000";
    let router = Router::new(few);
    criterion.bench_function("route: one of 4", |bencher| {
        bencher.iter(|| black_box(router.find(black_box(target))));
    });
    let router = Router::new(many.iter().map(String::as_str).chain(few));
    criterion.bench_function("route: one of 204", |bencher| {
        bencher.iter(|| black_box(router.find(black_box(target))));
    });
}

criterion_group!(hot_path, token, route);
criterion_main!(hot_path);
