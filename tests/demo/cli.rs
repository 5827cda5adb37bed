//! The paths of SAP's own command line.

use super::setup::{DEMO_SPACE, Demo, SPACES, X_CSRF_TOKEN, header, json_of};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

#[tokio::test]
async fn discovery_describes_commands_and_requires_a_csrf_token_for_writes() {
    let demo = Demo::start().await;
    let document = json_of(demo.get("/dwaas-core/api/v1/discovery").await).await;
    let commands = [
        (SPACES, "get", "spaces list", false),
        (SPACES, "post", "spaces create", true),
        ("/dwaas-core/api/v1/spaces/{space}", "get", "spaces read", false),
        ("/dwaas-core/api/v1/spaces/{space}", "put", "spaces update", true),
    ];
    let paths = document["paths"].as_object().unwrap();
    let count: usize = paths.values().map(|path| path.as_object().unwrap().len()).sum();
    assert_eq!(count, commands.len());
    for (path, method, command, writes) in commands {
        let operation = &paths[path][method];
        assert_eq!(operation["operationId"], command);
        let csrf = json!({ "$ref": "#/components/parameters/csrf" });
        let none = Vec::new();
        let parameters = operation["parameters"].as_array().unwrap_or(&none);
        assert_eq!(parameters.contains(&csrf), writes, "{command}");
    }
    assert_eq!(document["components"]["parameters"]["csrf"]["name"], X_CSRF_TOKEN);
}

#[tokio::test]
async fn a_space_is_created_replaced_listed_and_read() {
    let demo = Demo::start().await;
    let mine = |label: &str| json!({ "MINE": { "spaceDefinition": { "label": label } } });
    for (label, status) in [("new", StatusCode::CREATED), ("newer", StatusCode::OK)] {
        let request = demo.api(Method::POST, SPACES).await.json(&mine(label));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(header(&response, "location"), format!("{SPACES}/MINE"));
        let space = demo.get(&header(&response, "location")).await;
        assert_eq!(json_of(space).await, mine(label));
    }
    assert_eq!(json_of(demo.get(SPACES).await).await, json!(["DEMO", "MINE"]));

    let put = demo.api(Method::PUT, &format!("{SPACES}/MINE")).await.json(&mine("newest"));
    assert_eq!(json_of(put.send().await.unwrap()).await, mine("newest"));
    assert_eq!(json_of(demo.get(&format!("{SPACES}/MINE")).await).await, mine("newest"));
    assert_eq!(demo.tenant.seen().writes_executed, 3);
}

#[tokio::test]
async fn a_body_that_is_not_a_space_is_refused() {
    let demo = Demo::start().await;
    let send = async |method: Method, path: &str, body: Value| {
        demo.api(method, path).await.json(&body).send().await.unwrap().status()
    };
    let two = json!({ "ONE": {}, "TWO": {} });
    for body in [json!({}), two, json!({ "MINE": 1 }), json!({ "a/b": {} }), json!([])] {
        assert_eq!(send(Method::POST, SPACES, body).await, StatusCode::BAD_REQUEST);
    }
    let other = json!({ "OTHER": {} });
    let put = send(Method::PUT, DEMO_SPACE, other.clone()).await;
    assert_eq!(put, StatusCode::BAD_REQUEST);
    let put = send(Method::PUT, &format!("{SPACES}/OTHER"), other).await;
    assert_eq!(put, StatusCode::NOT_FOUND);
    assert_eq!(demo.get(&format!("{SPACES}/OTHER")).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(json_of(demo.get(SPACES).await).await, json!(["DEMO"]));
    assert_eq!(demo.tenant.seen().writes_executed, 0);
}
