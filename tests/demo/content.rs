//! Content transport: uploads, jobs and packages.

use super::setup::{Demo, header, json_of, text};
use futures_util::{StreamExt, stream};
use reqwest::{Method, StatusCode};

#[tokio::test]
async fn an_upload_of_20_mb_is_streamed_and_its_job_completes() {
    let demo = Demo::start().await;
    let chunks: Vec<Vec<u8>> = (0..320_u32).map(|n| vec![(n % 251) as u8; 65_536]).collect();
    let mut expected = crc32fast::Hasher::new();
    chunks.iter().for_each(|chunk| expected.update(chunk));
    let body =
        reqwest::Body::wrap_stream(stream::iter(chunks.into_iter().map(Ok::<_, std::io::Error>)));
    let response =
        demo.api(Method::POST, "/api/v1/content/jobs").await.body(body).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    let location = header(&response, "location");
    let job = json_of(response).await;
    assert_eq!(location, format!("/api/v1/content/jobs/{}", text(&job["id"])));
    assert_eq!(job["bytes"], 20 * 1024 * 1024);
    assert_eq!(job["checksum"], format!("{:08x}", expected.finalize()));

    for (status, word) in
        [(StatusCode::ACCEPTED, "RUNNING"), (StatusCode::OK, "DONE"), (StatusCode::OK, "DONE")]
    {
        let response = demo.get(&location).await;
        assert_eq!(response.status(), status);
        assert_eq!(json_of(response).await["status"], word);
    }
    assert_eq!(demo.get("/api/v1/content/jobs/other").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(demo.tenant.seen().writes_executed, 1);
}

#[tokio::test]
async fn a_refused_upload_gets_a_response_and_not_a_reset() {
    let demo = Demo::start().await;
    let chunks =
        stream::iter(std::iter::repeat_n(vec![0_u8; 65_536], 320)).map(Ok::<_, std::io::Error>);
    let request =
        demo.raw(Method::POST, "/api/v1/content/jobs").body(reqwest::Body::wrap_stream(chunks));
    let response = request.bearer_auth("dummy").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(demo.tenant.seen().writes_executed, 0);
}

#[tokio::test]
async fn a_package_has_the_requested_length_and_the_documented_bytes() {
    let demo = Demo::start().await;
    let length = 5 * 65_536 + 7;
    let response = demo.get(&format!("/api/v1/content/packages/any?bytes={length}")).await;
    assert_eq!(response.content_length(), Some(length));
    let mut offset = 0;
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        for byte in chunk.unwrap() {
            assert_eq!(u64::from(byte), offset % 65_536 % 251);
            offset += 1;
        }
    }
    assert_eq!(offset, length);
    let too_large = demo.get("/api/v1/content/packages/any?bytes=2147483649").await;
    assert_eq!(too_large.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_package_can_be_deleted() {
    let demo = Demo::start().await;
    let response = demo.api(Method::DELETE, "/api/v1/content/any").await.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert_eq!(demo.tenant.seen().writes_executed, 1);
}
