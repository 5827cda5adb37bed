//! Users by SCIM.

use super::setup::{Demo, USERS, header, json_of, text};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

#[tokio::test]
async fn a_user_is_created_read_changed_and_deleted() {
    let demo = Demo::start().await;
    let new =
        json!({ "userName": "tech.user", "password": "once", "name": { "familyName": "User" } });
    let response = demo.api(Method::POST, USERS).await.json(&new).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(header(&response, "content-type"), "application/scim+json");
    let location = header(&response, "location");
    let user = json_of(response).await;
    let path = text(&user["meta"]["location"]);
    assert_eq!(location, format!("{}{path}", demo.tenant.url()));
    assert_eq!(path, format!("{USERS}/{}", text(&user["id"])));
    assert_eq!((&user["active"], user.get("password")), (&json!(true), None));
    assert_eq!(json_of(demo.get(&path).await).await, user);

    let found =
        json_of(demo.get(&format!("{USERS}?filter=userName%20eq%20%22TECH.USER%22")).await).await;
    assert_eq!((&found["totalResults"], &found["Resources"][0]), (&json!(1), &user));

    let patch = json!({ "Operations": [
        { "op": "replace", "path": "active", "value": false },
        { "op": "Add", "value": { "displayName": "Tech" } },
    ] });
    let patched =
        json_of(demo.api(Method::PATCH, &path).await.json(&patch).send().await.unwrap()).await;
    assert_eq!((&patched["active"], &patched["displayName"]), (&json!(false), &json!("Tech")));
    assert_eq!(patched["name"]["familyName"], "User");

    let put = json!({ "userName": "tech.user", "active": true });
    let replaced =
        json_of(demo.api(Method::PUT, &path).await.json(&put).send().await.unwrap()).await;
    assert_eq!((&replaced["id"], replaced.get("name")), (&user["id"], None));

    let deleted = demo.api(Method::DELETE, &path).await.send().await.unwrap();
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
    let gone = demo.get(&path).await;
    assert_eq!(gone.status(), StatusCode::NOT_FOUND);
    assert_eq!(
        json_of(gone).await["schemas"],
        json!(["urn:ietf:params:scim:api:messages:2.0:Error"])
    );
    assert_eq!(demo.tenant.seen().writes_executed, 4);
}

#[tokio::test]
async fn a_list_is_paged_in_the_order_of_creation() {
    let demo = Demo::start().await;
    for number in 1..=3 {
        let new = json!({ "userName": format!("user{number}") });
        demo.api(Method::POST, USERS).await.json(&new).send().await.unwrap();
    }
    let page = json_of(demo.get(&format!("{USERS}?startIndex=2&count=1")).await).await;
    assert_eq!((&page["totalResults"], &page["startIndex"]), (&json!(3), &json!(2)));
    assert_eq!(page["Resources"].as_array().unwrap().len(), 1);
    assert_eq!(page["Resources"][0]["userName"], "user2");
}

#[tokio::test]
async fn errors_have_the_format_of_scim() {
    let demo = Demo::start().await;
    let post =
        async |body: Value| demo.api(Method::POST, USERS).await.json(&body).send().await.unwrap();
    let user = json_of(post(json!({ "userName": "one" })).await).await;
    let path = text(&user["meta"]["location"]);

    let twice = post(json!({ "userName": "ONE" })).await;
    assert_eq!(twice.status(), StatusCode::CONFLICT);
    assert_eq!(json_of(twice).await["scimType"], "uniqueness");
    let nameless = post(json!({ "displayName": "nobody" })).await;
    assert_eq!(json_of(nameless).await["scimType"], "invalidValue");
    let filter = demo.get(&format!("{USERS}?filter=active%20eq%20true")).await;
    assert_eq!(json_of(filter).await["scimType"], "invalidFilter");
    let patch = json!({ "Operations": [{ "op": "replace", "path": "id", "value": "other" }] });
    let refused = demo.api(Method::PATCH, &path).await.json(&patch).send().await.unwrap();
    assert_eq!(json_of(refused).await["scimType"], "mutability");
    let broken = demo.api(Method::PATCH, &path).await.body("{").send().await.unwrap();
    assert_eq!(broken.status(), StatusCode::BAD_REQUEST);
    assert_eq!(demo.tenant.seen().writes_executed, 1);
}

#[tokio::test]
async fn a_bearer_token_alone_is_not_enough() {
    let demo = Demo::start().await;
    let config = "/api/v1/scim2/ServiceProviderConfig";
    for path in
        [USERS, config, "/api/v1/content/jobs/1", "/api/v1/audit/activities/exportActivities"]
    {
        let request = demo.raw(Method::GET, path).bearer_auth(demo.token().await);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::UNAUTHORIZED, "{path}");
    }
    assert_eq!((demo.tenant.seen().accepted, demo.tenant.seen().refused), (0, 4));
    assert_eq!(json_of(demo.get(config).await).await["patch"]["supported"], true);
}
