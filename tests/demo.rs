//! The demo tenant over real TLS, as a client sees it.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bearerd::demo::{DemoError, Faults, IssuerFault, Tenant, TenantFault, TenantOptions};
use reqwest::header::{AUTHORIZATION, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use rsa::pkcs1v15::{Signature, VerifyingKey};
use rsa::signature::Verifier;
use serde_json::{Value, json};

const SALES: &str = "/api/v1/datasphere/consumption/relational/DEMO/SALES";
const USERS: &str = "/api/v1/scim2/Users";

/// A tenant and a client that trusts it.
struct World {
    tenant: Tenant,
    http: Client,
}

impl World {
    async fn start() -> Self {
        let tenant = Tenant::start(TenantOptions::default()).await.unwrap();
        Self { http: client(&tenant), tenant }
    }

    async fn with(faults: Faults) -> Self {
        let world = Self::start().await;
        world.tenant.set_faults(faults);
        world
    }

    /// A token request with the credentials in the form.
    async fn ask(&self) -> Response {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", self.tenant.client_id()),
            ("client_secret", self.tenant.client_secret()),
        ];
        self.http.post(self.tenant.token_url()).form(&form).send().await.unwrap()
    }

    async fn token(&self) -> String {
        text(&json_of(self.ask().await).await["access_token"])
    }

    /// A request to the tenant's API with a token and the header that some of its APIs want.
    async fn api(&self, method: Method, path: &str) -> RequestBuilder {
        self.raw(method, path)
            .bearer_auth(self.token().await)
            .header("x-sap-sac-custom-auth", "true")
    }

    async fn get(&self, path: &str) -> Response {
        self.api(Method::GET, path).await.send().await.unwrap()
    }

    fn raw(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.tenant.url()))
    }

    fn control(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.tenant.control_url()))
    }
}

fn client(tenant: &Tenant) -> Client {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ca = reqwest::Certificate::from_pem(tenant.ca_pem().as_bytes()).unwrap();
    Client::builder()
        .tls_certs_only([ca])
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(60))
        .build()
        .unwrap()
}

async fn json_of(response: Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn header(response: &Response, name: &str) -> String {
    response.headers()[name].to_str().unwrap().to_owned()
}

fn claims(token: &str) -> (Value, Value) {
    let part = |index| URL_SAFE_NO_PAD.decode(token.split('.').nth(index).unwrap()).unwrap();
    (serde_json::from_slice(&part(0)).unwrap(), serde_json::from_slice(&part(1)).unwrap())
}

fn encode(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}

mod issuer {
    use super::*;

    #[tokio::test]
    async fn gives_a_token_to_credentials_in_the_form() {
        let world = World::start().await;
        let response = world.ask().await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(header(&response, "cache-control"), "no-store");
        let answer = json_of(response).await;
        assert_eq!(answer["token_type"], "bearer");
        assert_eq!(answer["expires_in"], 43_200);
        assert_eq!(answer.get("refresh_token"), None);

        let (head, payload) = claims(&text(&answer["access_token"]));
        assert_eq!(head["jku"], world.tenant.token_url().replace("/oauth/token", "/token_keys"));
        assert_eq!(payload["iss"], world.tenant.token_url());
        assert_eq!(payload["jti"], answer["jti"]);
        assert_eq!(payload["sub"], world.tenant.client_id());
        assert_eq!(payload["exp"].as_u64().unwrap() - payload["iat"].as_u64().unwrap(), 43_200);
        assert_eq!(payload["scope"].as_array().unwrap().len(), 3);
    }

    #[tokio::test]
    async fn gives_a_token_to_credentials_in_the_query() {
        let world = World::start().await;
        let (id, secret) = (encode(world.tenant.client_id()), encode(world.tenant.client_secret()));
        let url = format!(
            "{}?grant_type=client_credentials&client_id={id}&client_secret={secret}",
            world.tenant.token_url()
        );
        assert_eq!(world.http.get(&url).send().await.unwrap().status(), StatusCode::OK);
        assert_eq!(world.http.post(&url).send().await.unwrap().status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn gives_a_token_to_raw_basic_with_the_grant_in_the_form() {
        let world = World::start().await;
        let request = world
            .http
            .post(world.tenant.token_url())
            .header(AUTHORIZATION, basic(world.tenant.client_id(), world.tenant.client_secret()))
            .form(&[("grant_type", "client_credentials"), ("response_type", " token")]);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn gives_a_token_to_raw_basic_with_the_grant_in_the_query_and_an_odd_body() {
        let world = World::start().await;
        let request = world
            .http
            .post(format!(
                "{}/?grant_type=client_credentials&response_type=token",
                world.tenant.token_url()
            ))
            .header(AUTHORIZATION, basic(world.tenant.client_id(), world.tenant.client_secret()))
            .body("grant_type=password&username=left&password=over");
        assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn decodes_basic_only_when_told_that_it_is_encoded() {
        let world = World::start().await;
        let (id, secret) = (world.tenant.client_id(), world.tenant.client_secret());
        let request = |authorization: String| {
            let request =
                world.http.post(world.tenant.token_url()).header(AUTHORIZATION, authorization);
            request.form(&[("grant_type", "client_credentials")])
        };
        let encoded = || request(basic(&encode(id), &encode(secret)));
        let told = ("X-CF-ENCODED-CREDENTIALS", "true");
        assert_eq!(encoded().header(told.0, told.1).send().await.unwrap().status(), StatusCode::OK);
        assert_eq!(encoded().send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
        // The secret has a plus sign, which decoding turns into a space.
        let raw = request(basic(id, secret)).header(told.0, told.1);
        assert_eq!(raw.send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    }

    #[tokio::test]
    async fn refuses_a_wrong_secret_in_uaa_s_words() {
        let world = World::start().await;
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", world.tenant.client_id()),
            ("client_secret", "wrong"),
        ];
        let response = world.http.post(world.tenant.token_url()).form(&form).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert!(header(&response, "www-authenticate").starts_with("Basic realm="));
        assert_eq!(
            json_of(response).await,
            json!({ "error": "unauthorized", "error_description": "Bad credentials" })
        );
        assert_eq!(world.tenant.seen().tokens_issued, 0);
        assert_eq!(world.tenant.seen().token_requests, 1);
    }

    #[tokio::test]
    async fn refuses_what_it_does_not_understand() {
        let world = World::start().await;
        let refused = async |parameters: &[(&str, &str)]| {
            let authorization = basic(world.tenant.client_id(), world.tenant.client_secret());
            let request =
                world.http.post(world.tenant.token_url()).header(AUTHORIZATION, authorization);
            let response = request.form(parameters).send().await.unwrap();
            assert_eq!(response.status(), StatusCode::BAD_REQUEST);
            text(&json_of(response).await["error"])
        };
        assert_eq!(refused(&[]).await, "invalid_request");
        assert_eq!(refused(&[("grant_type", "password")]).await, "unsupported_grant_type");
        assert_eq!(
            refused(&[("grant_type", "client_credentials"), ("scope", "all")]).await,
            "invalid_scope"
        );
    }

    #[tokio::test]
    async fn narrows_the_scope_when_asked() {
        let world = World::start().await;
        let authorization = basic(world.tenant.client_id(), world.tenant.client_secret());
        let request =
            world.http.post(world.tenant.token_url()).header(AUTHORIZATION, authorization);
        let form = [("grant_type", "client_credentials"), ("scope", "uaa.resource")];
        let answer = json_of(request.form(&form).send().await.unwrap()).await;
        assert_eq!(answer["scope"], "uaa.resource");
        assert_eq!(claims(&text(&answer["access_token"])).1["scope"], json!(["uaa.resource"]));
    }

    #[tokio::test]
    async fn signs_tokens_that_its_published_key_verifies() {
        let world = World::start().await;
        let token = world.token().await;
        let url = world.tenant.token_url().replace("/oauth/token", "/token_keys");
        let jwk = json_of(world.http.get(url).send().await.unwrap()).await["keys"][0].clone();
        assert_eq!(jwk["kid"], claims(&token).0["kid"]);
        let number = |name: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
            rsa::BoxedUint::from_be_slice_vartime(&bytes)
        };
        let key = rsa::PublicKey::new(number("n"), number("e")).unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature =
            Signature::try_from(URL_SAFE_NO_PAD.decode(signature).unwrap().as_slice()).unwrap();
        VerifyingKey::<rsa::sha2::Sha256>::new(key).verify(signed.as_bytes(), &signature).unwrap();
    }
}

mod bearer {
    use super::*;

    #[tokio::test]
    async fn a_request_with_a_good_token_gets_in_and_is_noted() {
        let world = World::start().await;
        let path = format!("{SALES}/SALES?$top=1&$select=ID,Region");
        let response = world.get(&path).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert!(!header(&response, "x-correlationid").is_empty());
        assert!(!header(&response, "x-vcap-request-id").is_empty());

        let seen = world.tenant.seen();
        assert_eq!((seen.tenant_requests, seen.accepted, seen.refused), (1, 1, 0));
        let last = seen.last_request.unwrap();
        assert_eq!((last.method.as_str(), last.path_and_query), ("GET", path));
        assert!(last.headers.contains(&("authorization".to_owned(), "[redacted]".to_owned())));
        assert!(last.headers.contains(&("x-sap-sac-custom-auth".to_owned(), "true".to_owned())));
    }

    #[tokio::test]
    async fn the_callers_correlation_id_is_kept() {
        let world = World::start().await;
        let request = world.raw(Method::GET, "/").header("x-correlationid", "mine");
        assert_eq!(header(&request.send().await.unwrap(), "x-correlationid"), "mine");
    }

    #[tokio::test]
    async fn a_request_without_a_good_token_is_refused() {
        let world = World::start().await;
        let good = world.token().await;
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let first = if signature.starts_with('A') { "B" } else { "A" };
        let tampered = format!("{signed}.{first}{}", &signature[1..]);
        world.tenant.set_faults(Faults { token_lifetime: 0, ..Faults::default() });
        let expired = world.token().await;

        for authorization in [
            None,
            Some("Bearer dummy".to_owned()),
            Some(basic("a", "b")),
            Some(format!("Bearer {tampered}")),
            Some(format!("Bearer {expired}")),
        ] {
            let mut request = world.raw(Method::GET, &format!("{SALES}/SALES"));
            if let Some(value) = &authorization {
                request = request.header(AUTHORIZATION, value);
            }
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{authorization:?}");
            assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer");
            assert_eq!(json_of(response).await["error"], "unauthorized");
        }
        assert_eq!(world.tenant.seen().refused, 5);
    }

    #[tokio::test]
    async fn two_authorization_headers_are_a_bad_request() {
        let world = World::start().await;
        let token = world.token().await;
        let request = world.raw(Method::GET, SALES).bearer_auth(&token).bearer_auth(&token);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::BAD_REQUEST);
    }

    #[tokio::test]
    async fn a_key_rotation_ends_the_tokens_issued_so_far() {
        let world = World::start().await;
        let old = world.token().await;
        let status = async |token: &str| {
            world.raw(Method::GET, SALES).bearer_auth(token).send().await.unwrap().status()
        };
        assert_eq!(status(&old).await, StatusCode::OK);
        world.tenant.rotate_keys();
        assert_eq!(status(&old).await, StatusCode::UNAUTHORIZED);
        assert_eq!(status(&world.token().await).await, StatusCode::OK);
    }

    #[tokio::test]
    async fn unknown_paths_and_methods_answer_in_json() {
        let world = World::start().await;
        let response = world.get("/api/v1/nothing").await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(json_of(response).await["error"], "not_found");
        let response = world.api(Method::DELETE, SALES).await.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(json_of(response).await["error"], "method_not_allowed");
    }
}

mod odata {
    use super::*;

    #[tokio::test]
    async fn the_catalog_leads_to_the_data_by_absolute_urls() {
        let world = World::start().await;
        let spaces =
            json_of(world.get("/api/v1/datasphere/consumption/catalog/spaces").await).await;
        assert_eq!(spaces["value"][0]["name"], "DEMO");
        let assets =
            json_of(world.get("/api/v1/datasphere/consumption/catalog/assets").await).await;
        let one = "/api/v1/datasphere/consumption/catalog/spaces('DEMO')/assets('SALES')";
        let asset = json_of(world.get(one).await).await;
        assert_eq!(assets["value"][0], asset);
        assert_eq!(json_of(world.get(&one.replace('\'', "%27")).await).await, asset);

        let tenant = world.tenant.url();
        let data = text(&asset["assetRelationalDataUrl"]);
        assert_eq!(world.get(data.strip_prefix(&tenant).unwrap()).await.status(), StatusCode::OK);
        let metadata = text(&asset["assetRelationalMetadataUrl"]);
        assert_eq!(
            world.get(metadata.strip_prefix(&tenant).unwrap()).await.status(),
            StatusCode::OK
        );
    }

    #[tokio::test]
    async fn metadata_is_xml_and_nothing_else() {
        let world = World::start().await;
        let metadata = format!("{SALES}/$metadata");
        let response = world.get(&metadata).await;
        assert_eq!(header(&response, "content-type"), "application/xml");
        assert!(response.text().await.unwrap().contains("<edmx:Edmx"));
        let insists = world.api(Method::GET, &metadata).await.header("accept", "application/json");
        assert_eq!(insists.send().await.unwrap().status(), StatusCode::NOT_ACCEPTABLE);
    }

    #[tokio::test]
    async fn next_links_lead_through_all_rows_and_keep_the_other_options() {
        let world = World::start().await;
        for base in [SALES, "/api/v1/dwc/consumption/relational/DEMO/SALES"] {
            let mut next =
                Some(format!("{}{base}/SALES?$count=true&$select=ID", world.tenant.url()));
            let mut ids = Vec::new();
            let mut pages = 0;
            while let Some(url) = next {
                let page =
                    json_of(world.get(url.strip_prefix(&world.tenant.url()).unwrap()).await).await;
                let context = format!("{}{base}/$metadata#SALES(ID)", world.tenant.url());
                assert_eq!(page["@odata.context"], context);
                assert_eq!(page["@odata.count"], 2_500);
                ids.extend(
                    page["value"].as_array().unwrap().iter().map(|row| row["ID"].as_u64().unwrap()),
                );
                next = page.get("@odata.nextLink").map(text);
                pages += 1;
            }
            assert_eq!(pages, 5);
            assert!(ids.iter().copied().eq(1..=2_500));
        }
    }

    #[tokio::test]
    async fn links_follow_the_host_header() {
        let world = World::start().await;
        let request = world
            .api(Method::GET, &format!("{SALES}/SALES"))
            .await
            .header("host", "acme.example:8443");
        let page = json_of(request.send().await.unwrap()).await;
        assert_eq!(
            page["@odata.nextLink"],
            format!("https://acme.example:8443{SALES}/SALES?$skip=500")
        );
    }

    #[tokio::test]
    async fn top_and_skip_cut_a_window_that_may_span_pages() {
        let world = World::start().await;
        let page = json_of(world.get(&format!("{SALES}/SALES?$skip=10&$top=3")).await).await;
        let ids: Vec<u64> = page["value"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["ID"].as_u64().unwrap())
            .collect();
        assert_eq!(ids, [11, 12, 13]);
        assert_eq!(page.get("@odata.nextLink"), None);

        let page = json_of(world.get(&format!("{SALES}/SALES?$top=600")).await).await;
        let next = text(&page["@odata.nextLink"]);
        assert!(next.ends_with("/SALES?$top=100&$skip=500"), "{next}");
        let rest = json_of(world.get(next.strip_prefix(&world.tenant.url()).unwrap()).await).await;
        assert_eq!(rest["value"].as_array().unwrap().len(), 100);
        assert_eq!(rest.get("@odata.nextLink"), None);
    }

    #[tokio::test]
    async fn a_filter_by_equality_works_and_others_say_that_they_do_not() {
        let world = World::start().await;
        let ask = async |options: &str| world.get(&format!("{SALES}/SALES?{options}")).await;

        let page = json_of(ask("$filter=Region%20eq%20'EMEA'&$count=true&$top=5").await).await;
        assert_eq!(page["@odata.count"], 625);
        assert!(page["value"].as_array().unwrap().iter().all(|row| row["Region"] == "EMEA"));
        let page = json_of(ask("$filter=ID%20eq%207").await).await;
        let row = json!({ "ID": 7, "Region": "MEE", "Product": "Lamp", "Amount": 554.33, "Day": "2025-01-08" });
        assert_eq!(page["value"], json!([row]));

        for (options, status) in [
            ("$filter=Region+eq+'EMEA'", StatusCode::BAD_REQUEST),
            ("$filter=Colour%20eq%20'red'", StatusCode::BAD_REQUEST),
            ("$filter=ID%20gt%207", StatusCode::NOT_IMPLEMENTED),
            ("$filter=Region%20eq%20'EMEA'%20or%20ID%20eq%207", StatusCode::NOT_IMPLEMENTED),
            ("$orderby=ID", StatusCode::NOT_IMPLEMENTED),
            ("$select=Colour", StatusCode::BAD_REQUEST),
            ("$top=many", StatusCode::BAD_REQUEST),
        ] {
            let response = ask(options).await;
            assert_eq!(response.status(), status, "{options}");
            assert_eq!(json_of(response).await["error"]["code"], status.as_str());
        }
    }
}

mod scim {
    use super::*;

    #[tokio::test]
    async fn a_user_lives_from_post_to_delete() {
        let world = World::start().await;
        let new = json!({ "userName": "tech.user", "password": "once", "name": { "familyName": "User" } });
        let response = world.api(Method::POST, USERS).await.json(&new).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::CREATED);
        assert_eq!(header(&response, "content-type"), "application/scim+json");
        let location = header(&response, "location");
        let user = json_of(response).await;
        let path = text(&user["meta"]["location"]);
        assert_eq!(location, format!("{}{path}", world.tenant.url()));
        assert_eq!(path, format!("{USERS}/{}", text(&user["id"])));
        assert_eq!((&user["active"], user.get("password")), (&json!(true), None));
        assert_eq!(json_of(world.get(&path).await).await, user);

        let found =
            json_of(world.get(&format!("{USERS}?filter=userName%20eq%20%22TECH.USER%22")).await)
                .await;
        assert_eq!((&found["totalResults"], &found["Resources"][0]), (&json!(1), &user));

        let patch = json!({ "Operations": [
            { "op": "replace", "path": "active", "value": false },
            { "op": "Add", "value": { "displayName": "Tech" } },
        ] });
        let patched =
            json_of(world.api(Method::PATCH, &path).await.json(&patch).send().await.unwrap()).await;
        assert_eq!((&patched["active"], &patched["displayName"]), (&json!(false), &json!("Tech")));
        assert_eq!(patched["name"]["familyName"], "User");

        let put = json!({ "userName": "tech.user", "active": true });
        let replaced =
            json_of(world.api(Method::PUT, &path).await.json(&put).send().await.unwrap()).await;
        assert_eq!((&replaced["id"], replaced.get("name")), (&user["id"], None));

        let deleted = world.api(Method::DELETE, &path).await.send().await.unwrap();
        assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
        let gone = world.get(&path).await;
        assert_eq!(gone.status(), StatusCode::NOT_FOUND);
        assert_eq!(
            json_of(gone).await["schemas"],
            json!(["urn:ietf:params:scim:api:messages:2.0:Error"])
        );
        assert_eq!(world.tenant.seen().writes_executed, 4);
    }

    #[tokio::test]
    async fn a_list_is_paged_in_the_order_of_creation() {
        let world = World::start().await;
        for number in 1..=3 {
            let new = json!({ "userName": format!("user{number}") });
            world.api(Method::POST, USERS).await.json(&new).send().await.unwrap();
        }
        let page = json_of(world.get(&format!("{USERS}?startIndex=2&count=1")).await).await;
        assert_eq!((&page["totalResults"], &page["startIndex"]), (&json!(3), &json!(2)));
        assert_eq!(page["Resources"].as_array().unwrap().len(), 1);
        assert_eq!(page["Resources"][0]["userName"], "user2");
    }

    #[tokio::test]
    async fn faults_come_as_scim_errors() {
        let world = World::start().await;
        let post = async |body: Value| {
            world.api(Method::POST, USERS).await.json(&body).send().await.unwrap()
        };
        let user = json_of(post(json!({ "userName": "one" })).await).await;
        let path = text(&user["meta"]["location"]);

        let twice = post(json!({ "userName": "ONE" })).await;
        assert_eq!(twice.status(), StatusCode::CONFLICT);
        assert_eq!(json_of(twice).await["scimType"], "uniqueness");
        let nameless = post(json!({ "displayName": "nobody" })).await;
        assert_eq!(json_of(nameless).await["scimType"], "invalidValue");
        let filter = world.get(&format!("{USERS}?filter=active%20eq%20true")).await;
        assert_eq!(json_of(filter).await["scimType"], "invalidFilter");
        let patch = json!({ "Operations": [{ "op": "replace", "path": "id", "value": "other" }] });
        let refused = world.api(Method::PATCH, &path).await.json(&patch).send().await.unwrap();
        assert_eq!(json_of(refused).await["scimType"], "mutability");
        let broken = world.api(Method::PATCH, &path).await.body("{").send().await.unwrap();
        assert_eq!(broken.status(), StatusCode::BAD_REQUEST);
        assert_eq!(world.tenant.seen().writes_executed, 1);
    }

    #[tokio::test]
    async fn a_bearer_token_alone_is_not_enough() {
        let world = World::start().await;
        let config = "/api/v1/scim2/ServiceProviderConfig";
        for path in
            [USERS, config, "/api/v1/content/jobs/1", "/api/v1/audit/activities/exportActivities"]
        {
            let request = world.raw(Method::GET, path).bearer_auth(world.token().await);
            assert_eq!(request.send().await.unwrap().status(), StatusCode::UNAUTHORIZED, "{path}");
        }
        assert_eq!(json_of(world.get(config).await).await["patch"]["supported"], true);
    }
}

mod content {
    use super::*;
    use futures_util::{StreamExt, stream};

    #[tokio::test]
    async fn an_upload_of_20_mb_is_taken_as_a_stream_and_its_job_ends() {
        let world = World::start().await;
        let chunks: Vec<Vec<u8>> = (0..320_u32).map(|n| vec![(n % 251) as u8; 65_536]).collect();
        let mut expected = crc32fast::Hasher::new();
        chunks.iter().for_each(|chunk| expected.update(chunk));
        let body = reqwest::Body::wrap_stream(stream::iter(
            chunks.into_iter().map(Ok::<_, std::io::Error>),
        ));
        let response =
            world.api(Method::POST, "/api/v1/content/jobs").await.body(body).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        let location = header(&response, "location");
        let job = json_of(response).await;
        assert_eq!(location, format!("/api/v1/content/jobs/{}", text(&job["id"])));
        assert_eq!(job["bytes"], 20 * 1024 * 1024);
        assert_eq!(job["checksum"], format!("{:08x}", expected.finalize()));

        for (status, word) in
            [(StatusCode::ACCEPTED, "RUNNING"), (StatusCode::OK, "DONE"), (StatusCode::OK, "DONE")]
        {
            let response = world.get(&location).await;
            assert_eq!(response.status(), status);
            assert_eq!(json_of(response).await["status"], word);
        }
        assert_eq!(world.get("/api/v1/content/jobs/other").await.status(), StatusCode::NOT_FOUND);
        assert_eq!(world.tenant.seen().writes_executed, 1);
    }

    #[tokio::test]
    async fn a_refused_upload_gets_its_answer_and_not_a_reset() {
        let world = World::start().await;
        let chunks =
            stream::iter(std::iter::repeat_n(vec![0_u8; 65_536], 320)).map(Ok::<_, std::io::Error>);
        let request = world
            .raw(Method::POST, "/api/v1/content/jobs")
            .body(reqwest::Body::wrap_stream(chunks));
        let response = request.bearer_auth("dummy").send().await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(world.tenant.seen().writes_executed, 0);
    }

    #[tokio::test]
    async fn a_package_has_the_length_and_the_bytes_that_were_promised() {
        let world = World::start().await;
        let length = 5 * 65_536 + 7;
        let response = world.get(&format!("/api/v1/content/packages/any?bytes={length}")).await;
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
        let too_large = world.get("/api/v1/content/packages/any?bytes=2147483649").await;
        assert_eq!(too_large.status(), StatusCode::BAD_REQUEST);
    }

    #[tokio::test]
    async fn a_package_can_be_deleted() {
        let world = World::start().await;
        let response = world.api(Method::DELETE, "/api/v1/content/any").await.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        assert_eq!(world.tenant.seen().writes_executed, 1);
    }
}

mod audit {
    use super::*;

    #[tokio::test]
    async fn the_export_is_csv_in_as_many_pages_as_the_header_says() {
        let world = World::start().await;
        let mut rows = Vec::new();
        for page in 1..=3 {
            let path = format!(
                "/api/v1/audit/activities/exportActivities?pageIndex={page}&sortKey=Timestamp&sortDescending=false"
            );
            let response = world.api(Method::POST, &path).await.send().await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            assert!(header(&response, "content-type").starts_with("text/csv"));
            assert_eq!(header(&response, "epm-page-count"), "3");
            rows.extend(response.text().await.unwrap().lines().skip(1).map(ToOwned::to_owned));
        }
        assert_eq!(rows.len(), 150);
        assert!(rows.is_sorted());
        assert_eq!(world.tenant.seen().writes_executed, 0);
    }

    #[tokio::test]
    async fn a_get_that_insists_on_json_is_not_acceptable() {
        let world = World::start().await;
        let get = async |accept: &str| {
            let path = "/api/v1/audit/activities/exportActivities";
            world
                .api(Method::GET, path)
                .await
                .header("accept", accept)
                .send()
                .await
                .unwrap()
                .status()
        };
        assert_eq!(get("application/json").await, StatusCode::NOT_ACCEPTABLE);
        assert_eq!(get("application/json, */*;q=0.1").await, StatusCode::OK);
    }
}

mod faults {
    use super::*;

    fn issuer(issuer: IssuerFault) -> Faults {
        Faults { issuer, ..Faults::default() }
    }

    fn tenant_fault(tenant: TenantFault) -> Faults {
        Faults { tenant, ..Faults::default() }
    }

    #[tokio::test]
    async fn the_issuer_can_be_busy_with_or_without_a_hint() {
        for (fault, status) in [
            (IssuerFault::TooManyRequests, StatusCode::TOO_MANY_REQUESTS),
            (IssuerFault::Unavailable, StatusCode::SERVICE_UNAVAILABLE),
        ] {
            let world = World::with(issuer(fault)).await;
            let response = world.ask().await;
            assert_eq!((response.status(), response.headers().get(RETRY_AFTER)), (status, None));
            let date = "Wed, 21 Oct 2065 07:28:00 GMT";
            world
                .tenant
                .set_faults(Faults { issuer_retry_after: Some(date.to_owned()), ..issuer(fault) });
            let response = world.ask().await;
            assert_eq!(response.headers().get(RETRY_AFTER), Some(&HeaderValue::from_static(date)));
        }
    }

    #[tokio::test]
    async fn the_issuer_can_fail_in_other_ways() {
        let world = World::with(issuer(IssuerFault::InternalError)).await;
        assert_eq!(world.ask().await.status(), StatusCode::INTERNAL_SERVER_ERROR);
        world.tenant.set_faults(issuer(IssuerFault::RefuseClient));
        assert_eq!(world.ask().await.status(), StatusCode::UNAUTHORIZED);
        world.tenant.set_faults(issuer(IssuerFault::Html));
        let response = world.ask().await;
        assert_eq!(response.status(), StatusCode::OK);
        assert!(header(&response, "content-type").starts_with("text/html"));
        world.tenant.set_faults(issuer(IssuerFault::EmptyToken));
        let response = world.ask().await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(json_of(response).await["access_token"], "");
        assert_eq!(world.tenant.seen().tokens_issued, 0);
        world.tenant.set_faults(Faults {
            issuer_delay_ms: 1,
            token_lifetime: 60,
            ..Faults::default()
        });
        assert_eq!(json_of(world.ask().await).await["expires_in"], 60);
    }

    #[tokio::test]
    async fn a_hanging_issuer_hangs_until_the_tenant_stops() {
        let World { tenant, http } = World::with(issuer(IssuerFault::Hang)).await;
        let request = http.post(tenant.token_url()).send();
        let stop = async {
            while tenant.seen().token_requests == 0 {
                tokio::task::yield_now().await;
            }
            tenant.stop().await;
        };
        let (answer, ()) = tokio::join!(request, stop);
        assert!(!answer.unwrap_err().is_timeout());
    }

    #[tokio::test]
    async fn a_hanging_tenant_hangs_until_it_stops() {
        let World { tenant, http } = World::with(tenant_fault(TenantFault::Hang)).await;
        let request = http.get(tenant.url()).send();
        let stop = async {
            while tenant.seen().tenant_requests == 0 {
                tokio::task::yield_now().await;
            }
            tenant.stop().await;
        };
        let (answer, ()) = tokio::join!(request, stop);
        assert!(!answer.unwrap_err().is_timeout());
    }

    #[tokio::test]
    async fn the_login_page_is_a_200_to_a_get_and_a_401_to_the_rest() {
        let world = World::with(tenant_fault(TenantFault::LoginPage)).await;
        let response = world.get(&format!("{SALES}/SALES")).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert!(header(&response, "content-type").starts_with("text/html"));
        let cookies: Vec<String> = response
            .headers()
            .get_all("set-cookie")
            .iter()
            .map(|value| value.to_str().unwrap().split('=').next().unwrap().to_owned())
            .collect();
        assert_eq!(cookies, ["fragmentAfterLogin", "locationAfterLogin"]);
        assert!(response.text().await.unwrap().contains("/oauth/authorize?"));

        let post = world.api(Method::POST, USERS).await.send().await.unwrap();
        assert_eq!(post.status(), StatusCode::UNAUTHORIZED);
        let script =
            world.api(Method::GET, SALES).await.header("x-requested-with", "XMLHttpRequest");
        assert_eq!(script.send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
        assert_eq!((world.tenant.seen().accepted, world.tenant.seen().refused), (0, 3));
    }

    #[tokio::test]
    async fn the_tenant_can_fail_in_other_ways() {
        let world = World::with(tenant_fault(TenantFault::LoginRedirect)).await;
        let response = world.get(SALES).await;
        assert_eq!(response.status(), StatusCode::FOUND);
        let location = response.headers()[LOCATION].to_str().unwrap().to_owned();
        assert!(
            location.starts_with(&world.tenant.token_url().replace("token", "authorize")),
            "{location}"
        );
        assert_eq!(world.http.get(location).send().await.unwrap().status(), StatusCode::OK);

        world.tenant.set_faults(tenant_fault(TenantFault::Unauthorized));
        assert_eq!(world.get(SALES).await.status(), StatusCode::UNAUTHORIZED);
        world.tenant.set_faults(tenant_fault(TenantFault::InternalError));
        assert_eq!(world.get(SALES).await.status(), StatusCode::INTERNAL_SERVER_ERROR);
        world.tenant.set_faults(Faults { tenant_delay_ms: 1, ..Faults::default() });
        assert_eq!(world.get(SALES).await.status(), StatusCode::OK);
    }
}

mod control {
    use super::*;

    #[tokio::test]
    async fn faults_are_replaced_merged_and_reset_by_http() {
        let world = World::start().await;
        let send = async |method: Method, body: &'static str| {
            json_of(world.control(method, "/faults").body(body).send().await.unwrap()).await
        };
        let set = send(Method::PUT, r#"{"token_lifetime": 60, "issuer": "unavailable"}"#).await;
        assert_eq!((&set["token_lifetime"], &set["issuer"]), (&json!(60), &json!("unavailable")));
        send(Method::PATCH, r#"{"tenant": "login_page"}"#).await;
        let expected = Faults {
            token_lifetime: 60,
            issuer: IssuerFault::Unavailable,
            tenant: TenantFault::LoginPage,
            ..Faults::default()
        };
        assert_eq!(world.tenant.faults(), expected);
        let read: Faults = serde_json::from_value(send(Method::GET, "").await).unwrap();
        assert_eq!(read, expected);
        send(Method::DELETE, "").await;
        assert_eq!(world.tenant.faults(), Faults::default());
    }

    #[tokio::test]
    async fn wrong_json_is_refused_with_the_reason() {
        let world = World::start().await;
        for (method, body, reason) in [
            (Method::PUT, "{", "EOF"),
            (Method::PUT, r#"{"isuer": "hang"}"#, "unknown field `isuer`"),
            (Method::PATCH, r#"{"issuer": "bad_day"}"#, "unknown variant `bad_day`"),
            (Method::PATCH, r#"["hang"]"#, "invalid type"),
            (Method::PATCH, r#"{"issuer_retry_after": "1\n2"}"#, "control character"),
        ] {
            let response = world.control(method, "/faults").body(body).send().await.unwrap();
            assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{body}");
            let description = text(&json_of(response).await["error_description"]);
            assert!(description.contains(reason), "{description}");
        }
        assert_eq!(world.tenant.faults(), Faults::default());
    }

    #[tokio::test]
    async fn help_rotation_and_what_was_seen_are_there() {
        let world = World::start().await;
        let help = world.control(Method::GET, "/").send().await.unwrap().text().await.unwrap();
        assert!(
            help.contains(&format!("curl -X POST {}/rotate-keys", world.tenant.control_url())),
            "{help}"
        );
        let old = world.token().await;
        let rotated =
            json_of(world.control(Method::POST, "/rotate-keys").send().await.unwrap()).await;
        assert_ne!(rotated["kid"], claims(&old).0["kid"]);
        assert_eq!(rotated["kid"], claims(&world.token().await).0["kid"]);
        let seen = json_of(world.control(Method::GET, "/seen").send().await.unwrap()).await;
        assert_eq!((&seen["tokens_issued"], &seen["last_request"]), (&json!(2), &Value::Null));
    }
}

mod lifecycle {
    use super::*;

    #[tokio::test]
    async fn a_taken_address_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address: SocketAddr = taken.local_addr().unwrap();
        let error = Tenant::start(TenantOptions { control: address, ..TenantOptions::default() })
            .await
            .unwrap_err();
        assert!(matches!(error, DemoError::Bind { address: named, .. } if named == address));
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }

    #[tokio::test]
    async fn a_stopped_tenant_frees_its_addresses() {
        let world = World::start().await;
        world.ask().await;
        let addresses =
            [world.tenant.issuer_addr(), world.tenant.tenant_addr(), world.tenant.control_addr()];
        world.tenant.stop().await;
        for address in addresses {
            TcpListener::bind(address).unwrap();
        }
    }

    #[tokio::test]
    async fn its_authority_issues_certificates_for_other_servers() {
        let world = World::start().await;
        let (chain, key) = world.tenant.issue_certificate("127.0.0.1").unwrap();
        let tls =
            axum_server::tls_rustls::RustlsConfig::from_pem(chain.into_bytes(), key.into_bytes())
                .await
                .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let other = axum::Router::new().fallback(async || "other");
        let server =
            axum_server::from_tcp_rustls(listener, tls).unwrap().serve(other.into_make_service());
        tokio::spawn(server);
        assert_eq!(world.http.get(url).send().await.unwrap().text().await.unwrap(), "other");
        assert!(matches!(
            world.tenant.issue_certificate("not\u{e4}name"),
            Err(DemoError::Certificate { .. })
        ));
    }
}
