//! Task chains.

use super::setup::{Demo, RUN, json_of};
use reqwest::{Method, StatusCode};
use serde_json::json;

#[tokio::test]
async fn every_call_starts_another_run_of_a_task_chain() {
    let demo = Demo::start().await;
    for log_id in 1..=2 {
        let response = demo.api(Method::POST, RUN).await.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        assert_eq!(json_of(response).await, json!({ "logId": log_id }));
        assert_eq!(demo.tenant.seen().writes_executed, log_id);
    }
    let log =
        async |log_id: u64| demo.get(&format!("/api/v1/datasphere/tasks/logs/DEMO/{log_id}")).await;
    assert_eq!(json_of(log(2).await).await["status"], "COMPLETED");
    assert_eq!(log(0).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(log(3).await.status(), StatusCode::NOT_FOUND);
}
