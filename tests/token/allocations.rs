//! Allocations on the hot path: none.

use crate::support::one_token::OneToken;
use allocation_counter::measure;
use bearerd::proxy::route::Router;
use bearerd::token::ClientHandle;
use bearerd::token::refresher::{NewSource, Refresher};
use bearerd::token::store::TokenStore;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn reading_the_token_allocates_nothing() {
    let store = Arc::new(TokenStore::new());
    let metrics = bearerd::metrics::Metrics::new().unwrap().client("c");
    let stop = CancellationToken::new();
    let wait = Duration::ZERO;
    let client = ClientHandle { name: "c".into(), store: store.clone(), wait, metrics };
    let refresher = Refresher::new(client, Arc::new(OneToken), NewSource::never(), 0.5);
    let running = tokio::spawn(refresher.run(stop.clone()));
    store.wait(Duration::from_secs(5)).await.unwrap();
    // A thread's first read sets up arc-swap's slots and shares the header's buffer.
    drop(store.usable());
    let allocations = measure(|| {
        for _ in 0..1000 {
            assert!(store.usable().is_some());
        }
    });
    assert_eq!(allocations.count_total, 0);
    stop.cancel();
    running.await.unwrap();
}

#[test]
fn finding_the_route_of_a_plain_path_allocates_nothing() {
    let router = Router::new(["/api/v1/datasphere/consumption", "/api/v1/scim2"]);
    let allocations = measure(|| {
        let target = b"/api/v1/datasphere/consumption/relational/S/V/V?$filter=A%20eq%20'b'";
        assert_eq!(router.find(target), Ok(Some(0)));
    });
    assert_eq!(allocations.count_total, 0);
}
