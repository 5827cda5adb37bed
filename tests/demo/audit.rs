//! The export of the audit log.

use super::setup::{Demo, header};
use reqwest::{Method, StatusCode};

#[tokio::test]
async fn the_export_is_csv_in_as_many_pages_as_the_header_says() {
    let demo = Demo::start().await;
    let mut rows = Vec::new();
    for page in 1..=3 {
        let path = format!(
            "/api/v1/audit/activities/exportActivities?pageIndex={page}&sortKey=Timestamp&sortDescending=false"
        );
        let response = demo.api(Method::POST, &path).await.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert!(header(&response, "content-type").starts_with("text/csv"));
        assert_eq!(header(&response, "epm-page-count"), "3");
        rows.extend(response.text().await.unwrap().lines().skip(1).map(ToOwned::to_owned));
    }
    assert_eq!(rows.len(), 150);
    assert!(rows.is_sorted());
    assert_eq!(demo.tenant.seen().writes_executed, 0);
}

#[tokio::test]
async fn a_get_that_accepts_only_json_gets_406() {
    let demo = Demo::start().await;
    let get = async |accept: &str| {
        let path = "/api/v1/audit/activities/exportActivities";
        demo.api(Method::GET, path).await.header("accept", accept).send().await.unwrap().status()
    };
    assert_eq!(get("application/json").await, StatusCode::NOT_ACCEPTABLE);
    assert_eq!(get("application/json, */*;q=0.1").await, StatusCode::OK);
}
