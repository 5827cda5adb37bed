//! The demo tenant over real TLS, as a client sees it.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bearerd::demo::{
    CsrfRegime, DemoError, Faults, IssuerFault, Tenant, TenantFault, TenantOptions,
};
use reqwest::header::{AUTHORIZATION, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Client, ClientBuilder, Method, RequestBuilder, Response, StatusCode};
use rsa::pkcs1v15::{Signature, VerifyingKey};
use rsa::signature::Verifier;
use serde_json::{Value, json};

const SALES: &str = "/api/v1/datasphere/consumption/relational/DEMO/SALES";
const USERS: &str = "/api/v1/scim2/Users";
const JOBS: &str = "/api/v1/content/jobs";
const PACKAGE: &str = "/api/v1/content/any";
const EXPORT: &str = "/api/v1/audit/activities/exportActivities";
const RUN: &str = "/api/v1/datasphere/tasks/chains/DEMO/run/NIGHTLY";
const SPACES: &str = "/dwaas-core/api/v1/spaces";
const DEMO_SPACE: &str = "/dwaas-core/api/v1/spaces/DEMO";
const CSRF: &str = "/api/v1/csrf";
const X_CSRF_TOKEN: &str = "x-csrf-token";

/// A tenant and a client that trusts it.
pub(super) struct World {
    pub(super) tenant: Tenant,
    pub(super) http: Client,
}

impl World {
    pub(super) async fn start() -> Self {
        let tenant = Tenant::start(TenantOptions::default()).await.unwrap();
        Self { http: client(&tenant), tenant }
    }

    async fn with(faults: Faults) -> Self {
        let world = Self::start().await;
        world.tenant.set_faults(faults);
        world
    }

    /// A token request with the credentials in the form.
    pub(super) async fn ask(&self) -> Response {
        let secret = self.tenant.client_secret();
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", self.tenant.client_id()),
            ("client_secret", &secret),
        ];
        self.http.post(self.tenant.token_url()).form(&form).send().await.unwrap()
    }

    pub(super) async fn token(&self) -> String {
        text(&json_of(self.ask().await).await["access_token"])
    }

    /// A request to the tenant's API with all that it wants: a token, a header, and for a write a CSRF token.
    async fn api(&self, method: Method, path: &str) -> RequestBuilder {
        let bearer = self.token().await;
        let writes = !method.is_safe();
        let request = self.with_bearer(method, path, &bearer);
        if writes {
            let csrf = header(&self.fetch_csrf(&bearer).await, X_CSRF_TOKEN);
            request.header(X_CSRF_TOKEN, csrf)
        } else {
            request
        }
    }

    /// A request with this token and the header that some APIs want.
    pub(super) fn with_bearer(&self, method: Method, path: &str, bearer: &str) -> RequestBuilder {
        self.raw(method, path).bearer_auth(bearer).header("x-sap-sac-custom-auth", "true")
    }

    /// The answer that carries a CSRF token.
    async fn fetch_csrf(&self, bearer: &str) -> Response {
        let request = self.with_bearer(Method::GET, CSRF, bearer).header(X_CSRF_TOKEN, "fetch");
        request.send().await.unwrap()
    }

    /// Deletes a package, the shortest write there is.
    async fn write(&self, bearer: &str, csrf: &str) -> Response {
        let request = self.with_bearer(Method::DELETE, PACKAGE, bearer);
        request.header(X_CSRF_TOKEN, csrf).send().await.unwrap()
    }

    async fn get(&self, path: &str) -> Response {
        self.api(Method::GET, path).await.send().await.unwrap()
    }

    fn raw(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.tenant.url()))
    }

    pub(super) fn control(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.tenant.control_url()))
    }
}

fn client(tenant: &Tenant) -> Client {
    client_builder(tenant).build().unwrap()
}

pub(super) fn client_builder(tenant: &Tenant) -> ClientBuilder {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ca = reqwest::Certificate::from_pem(tenant.ca_pem().as_bytes()).unwrap();
    Client::builder()
        .tls_certs_only([ca])
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(60))
}

pub(super) async fn json_of(response: Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn header(response: &Response, name: &str) -> String {
    response.headers()[name].to_str().unwrap().to_owned()
}

pub(super) fn claims(token: &str) -> (Value, Value) {
    let part = |index| URL_SAFE_NO_PAD.decode(token.split('.').nth(index).unwrap()).unwrap();
    (serde_json::from_slice(&part(0)).unwrap(), serde_json::from_slice(&part(1)).unwrap())
}

fn encode(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

pub(super) fn basic(id: &str, secret: &str) -> String {
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
        let (id, secret) =
            (encode(world.tenant.client_id()), encode(&world.tenant.client_secret()));
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
            .header(AUTHORIZATION, basic(world.tenant.client_id(), &world.tenant.client_secret()))
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
            .header(AUTHORIZATION, basic(world.tenant.client_id(), &world.tenant.client_secret()))
            .body("grant_type=password&username=left&password=over");
        assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn decodes_basic_only_when_told_that_it_is_encoded() {
        let world = World::start().await;
        let (id, secret) = (world.tenant.client_id(), &world.tenant.client_secret());
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
            let authorization = basic(world.tenant.client_id(), &world.tenant.client_secret());
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
        let authorization = basic(world.tenant.client_id(), &world.tenant.client_secret());
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
        assert_eq!((world.tenant.seen().accepted, world.tenant.seen().refused), (0, 4));
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

mod rest {
    use super::*;

    #[tokio::test]
    async fn every_call_runs_a_task_chain_once_more() {
        let world = World::start().await;
        for log_id in 1..=2 {
            let response = world.api(Method::POST, RUN).await.send().await.unwrap();
            assert_eq!(response.status(), StatusCode::ACCEPTED);
            assert_eq!(json_of(response).await, json!({ "logId": log_id }));
            assert_eq!(world.tenant.seen().writes_executed, log_id);
        }
        let log = async |log_id: u64| {
            world.get(&format!("/api/v1/datasphere/tasks/logs/DEMO/{log_id}")).await
        };
        assert_eq!(json_of(log(2).await).await["status"], "COMPLETED");
        assert_eq!(log(0).await.status(), StatusCode::NOT_FOUND);
        assert_eq!(log(3).await.status(), StatusCode::NOT_FOUND);
    }
}

mod cli {
    use super::*;

    #[tokio::test]
    async fn discovery_makes_commands_whose_writes_fetch_a_csrf_token() {
        let world = World::start().await;
        let document = json_of(world.get("/dwaas-core/api/v1/discovery").await).await;
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
        let world = World::start().await;
        let mine = |label: &str| json!({ "MINE": { "spaceDefinition": { "label": label } } });
        for (label, status) in [("new", StatusCode::CREATED), ("newer", StatusCode::OK)] {
            let request = world.api(Method::POST, SPACES).await.json(&mine(label));
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), status);
            assert_eq!(header(&response, "location"), format!("{SPACES}/MINE"));
            let space = world.get(&header(&response, "location")).await;
            assert_eq!(json_of(space).await, mine(label));
        }
        assert_eq!(json_of(world.get(SPACES).await).await, json!(["DEMO", "MINE"]));

        let put = world.api(Method::PUT, &format!("{SPACES}/MINE")).await.json(&mine("newest"));
        assert_eq!(json_of(put.send().await.unwrap()).await, mine("newest"));
        assert_eq!(json_of(world.get(&format!("{SPACES}/MINE")).await).await, mine("newest"));
        assert_eq!(world.tenant.seen().writes_executed, 3);
    }

    #[tokio::test]
    async fn what_is_not_a_space_is_not_written() {
        let world = World::start().await;
        let send = async |method: Method, path: &str, body: Value| {
            world.api(method, path).await.json(&body).send().await.unwrap().status()
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
        assert_eq!(world.get(&format!("{SPACES}/OTHER")).await.status(), StatusCode::NOT_FOUND);
        assert_eq!(json_of(world.get(SPACES).await).await, json!(["DEMO"]));
        assert_eq!(world.tenant.seen().writes_executed, 0);
    }
}

mod csrf {
    use super::*;
    use futures_util::future::join_all;
    use futures_util::{StreamExt, stream};

    fn regime(csrf: CsrfRegime) -> Faults {
        Faults { csrf, ..Faults::default() }
    }

    async fn assert_required(response: Response, what: &str) {
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{what}");
        assert_eq!(header(&response, X_CSRF_TOKEN), "Required", "{what}");
        assert_eq!(json_of(response).await["error"], "csrf_token_required", "{what}");
    }

    #[tokio::test]
    async fn a_write_without_a_good_token_executes_nothing() {
        let world = World::start().await;
        let bearer = world.token().await;
        let good = header(&world.fetch_csrf(&bearer).await, X_CSRF_TOKEN);
        let user = format!("{USERS}/none");
        let writes = [
            ("POST", USERS),
            ("PUT", &user),
            ("PATCH", &user),
            ("DELETE", &user),
            ("MERGE", &user),
            ("POST", JOBS),
            ("DELETE", PACKAGE),
            ("POST", EXPORT),
            ("POST", RUN),
            ("POST", SPACES),
            ("PUT", DEMO_SPACE),
            ("POST", "/api/v1/spaces"),
            ("DELETE", "/api/v1/datasphere/configuration/security/certificates/1"),
        ];
        let tokens: [&[&str]; 5] = [&[], &["fetch"], &["wrong"], &["Required"], &[&good, &good]];
        let mut refused = 0;
        for (method, path) in writes {
            for tokens in tokens {
                let method = Method::from_bytes(method.as_bytes()).unwrap();
                let mut request = world.with_bearer(method.clone(), path, &bearer);
                for token in tokens {
                    request = request.header(X_CSRF_TOKEN, *token);
                }
                let body = request.body(r#"{"DEMO": {}, "userName": "one"}"#);
                assert_required(body.send().await.unwrap(), &format!("{method} {path}")).await;
                refused += 1;
            }
        }
        let seen = world.tenant.seen();
        assert_eq!((seen.csrf_refused, seen.refused), (refused, 0));
        // The one that fetched the token.
        assert_eq!((seen.accepted, seen.csrf_fetches, seen.writes_executed), (1, 1, 0));
        assert_eq!(json_of(world.get(USERS).await).await["totalResults"], 0);
        assert_eq!(world.get("/api/v1/datasphere/tasks/logs/DEMO/1").await.status(), 404);
    }

    #[tokio::test]
    async fn any_read_of_a_guarded_api_gives_a_token_when_asked() {
        let world = World::start().await;
        let bearer = world.token().await;
        let mut given = 0;
        for (path, status) in [
            (CSRF, 200),
            (USERS, 200),
            ("/api/v1/scim2/Users/none", 404),
            (JOBS, 405),
            (EXPORT, 200),
            (RUN, 405),
            ("/api/v1/datasphere/spaces/DEMO/connections", 404),
            ("/dwaas-core/api/v1/discovery", 200),
            (DEMO_SPACE, 200),
        ] {
            for (method, word) in [(Method::GET, "Fetch"), (Method::HEAD, "fetch")] {
                let plain = world.with_bearer(method.clone(), path, &bearer).send().await.unwrap();
                assert_eq!(plain.status(), status, "{path}");
                assert_eq!(plain.headers().get(X_CSRF_TOKEN), None, "{path}");
                let asking = world.with_bearer(method, path, &bearer).header(X_CSRF_TOKEN, word);
                let response = asking.send().await.unwrap();
                assert_eq!(response.status(), status, "{path}");
                assert_eq!(response.headers().get("set-cookie"), None, "{path}");
                let token = header(&response, X_CSRF_TOKEN);
                assert_eq!(world.write(&bearer, &token).await.status(), StatusCode::NO_CONTENT);
                given += 1;
            }
        }
        let seen = world.tenant.seen();
        assert_eq!((seen.csrf_fetches, seen.csrf_refused, seen.writes_executed), (given, 0, given));
    }

    #[tokio::test]
    async fn consumption_neither_gives_tokens_nor_wants_them() {
        let world = World::start().await;
        let bearer = world.token().await;
        let request = world.with_bearer(Method::GET, &format!("{SALES}/SALES"), &bearer);
        let response = request.header(X_CSRF_TOKEN, "fetch").send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers().get(X_CSRF_TOKEN), None);
        let batch = world.with_bearer(Method::POST, &format!("{SALES}/$batch"), &bearer);
        let response = batch.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers().get(X_CSRF_TOKEN), None);
        let seen = world.tenant.seen();
        assert_eq!((seen.accepted, seen.csrf_fetches, seen.csrf_refused), (2, 0, 0));
    }

    #[tokio::test]
    async fn a_token_is_good_with_the_bearer_that_fetched_it_and_no_other() {
        let world = World::start().await;
        let (old, new) = (world.token().await, world.token().await);
        let token = header(&world.fetch_csrf(&old).await, X_CSRF_TOKEN);
        assert_required(world.write(&new, &token).await, "another bearer").await;
        let own = header(&world.fetch_csrf(&new).await, X_CSRF_TOKEN);
        for (bearer, token) in [(&old, &token), (&new, &own), (&old, &token)] {
            assert_eq!(world.write(bearer, token).await.status(), StatusCode::NO_CONTENT);
        }
    }

    #[tokio::test]
    async fn the_bearer_is_looked_at_first() {
        let world = World::start().await;
        let bearer = world.token().await;
        let response = world.fetch_csrf("dummy").await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers().get(X_CSRF_TOKEN), None);
        let token = header(&world.fetch_csrf(&bearer).await, X_CSRF_TOKEN);
        let no_custom_auth = world.raw(Method::DELETE, PACKAGE).bearer_auth(&bearer);
        for response in [
            world.write("dummy", &token).await,
            world.write("dummy", "wrong").await,
            no_custom_auth.header(X_CSRF_TOKEN, &token).send().await.unwrap(),
        ] {
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
            assert_eq!(response.headers().get(X_CSRF_TOKEN), None);
        }
        let seen = world.tenant.seen();
        assert_eq!((seen.refused, seen.csrf_refused, seen.writes_executed), (4, 0, 0));
    }

    #[tokio::test]
    async fn a_session_s_token_needs_the_session_s_cookies() {
        let world = World::with(regime(CsrfRegime::Session)).await;
        let bearer = world.token().await;
        let fetch = async || {
            let response = world.fetch_csrf(&bearer).await;
            let lines = response.headers().get_all("set-cookie").iter();
            let cookies: Vec<String> =
                lines.map(|line| line.to_str().unwrap().to_owned()).collect();
            (header(&response, X_CSRF_TOKEN), cookies)
        };
        let (token, lines) = fetch().await;
        let [session, instance] = lines.as_slice() else { panic!("{lines:?}") };
        let session = session.strip_suffix("; Path=/; HttpOnly; Secure").unwrap();
        let instance = instance.strip_suffix("; Path=/; Secure").unwrap();
        assert!(session.starts_with("JSESSIONID=") && instance.starts_with("__VCAP_ID__="));
        let (_, others) = fetch().await;
        let other = others[0].split(';').next().unwrap();

        let write = async |cookies: Option<String>| {
            let mut request = world.with_bearer(Method::DELETE, PACKAGE, &bearer);
            if let Some(cookies) = cookies {
                request = request.header("cookie", cookies);
            }
            request.header(X_CSRF_TOKEN, &token).send().await.unwrap()
        };
        for cookies in [
            None,
            Some(session.to_owned()),
            Some(format!("{other}; {instance}")),
            Some(format!("{session}; {other}; {instance}")),
            Some(format!("{session}x; {instance}")),
        ] {
            assert_required(write(cookies.clone()).await, &format!("{cookies:?}")).await;
        }
        assert_eq!(world.tenant.seen().writes_executed, 0);
        for cookies in [format!("{session}; {instance}"), format!("a=b; {instance};{session}")] {
            assert_eq!(write(Some(cookies)).await.status(), StatusCode::NO_CONTENT);
        }
        // Without sessions the token alone will do; a token without a session will not do with them.
        world.tenant.set_faults(Faults::default());
        assert_eq!(write(None).await.status(), StatusCode::NO_CONTENT);
        let stateless = header(&world.fetch_csrf(&bearer).await, X_CSRF_TOKEN);
        world.tenant.set_faults(regime(CsrfRegime::Session));
        assert_required(world.write(&bearer, &stateless).await, "no session").await;
    }

    #[tokio::test]
    async fn without_the_check_there_are_no_tokens_either() {
        let world = World::with(regime(CsrfRegime::Off)).await;
        let bearer = world.token().await;
        let response = world.fetch_csrf(&bearer).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers().get(X_CSRF_TOKEN), None);
        let write = world.with_bearer(Method::DELETE, PACKAGE, &bearer).send().await.unwrap();
        assert_eq!(write.status(), StatusCode::NO_CONTENT);
        let seen = world.tenant.seen();
        assert_eq!((seen.csrf_fetches, seen.writes_executed), (0, 1));
    }

    #[tokio::test]
    async fn a_good_token_can_be_rejected_and_is_forgotten_then() {
        let world = World::with(Faults { csrf_reject_next: 1, ..Faults::default() }).await;
        let bearer = world.token().await;
        let token = header(&world.fetch_csrf(&bearer).await, X_CSRF_TOKEN);
        assert_required(world.write(&bearer, "wrong").await, "this one does not count").await;
        assert_eq!(world.tenant.faults().csrf_reject_next, 1);
        assert_required(world.write(&bearer, &token).await, "rejected").await;
        assert_eq!(world.tenant.faults().csrf_reject_next, 0);
        assert_required(world.write(&bearer, &token).await, "forgotten").await;
        let fresh = header(&world.fetch_csrf(&bearer).await, X_CSRF_TOKEN);
        assert_eq!(world.write(&bearer, &fresh).await.status(), StatusCode::NO_CONTENT);
        let seen = world.tenant.seen();
        assert_eq!((seen.csrf_refused, seen.writes_executed), (3, 1));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn as_many_writes_at_once_are_rejected_as_were_ordered() {
        let world = World::start().await;
        let bearer = world.token().await;
        let fetches = join_all((0..20).map(|_| world.fetch_csrf(&bearer))).await;
        let tokens: Vec<String> = fetches.iter().map(|one| header(one, X_CSRF_TOKEN)).collect();
        world.tenant.set_faults(Faults { csrf_reject_next: 7, ..Faults::default() });
        let answers = join_all(tokens.iter().map(|token| world.write(&bearer, token))).await;
        let refused = answers.iter().filter(|one| one.status() == StatusCode::FORBIDDEN).count();
        assert_eq!((refused, world.tenant.faults().csrf_reject_next), (7, 0));
        assert_eq!(world.tenant.seen().writes_executed, 13);
    }

    #[tokio::test]
    async fn a_refused_upload_gets_its_answer_and_not_a_reset() {
        let world = World::start().await;
        let chunks =
            stream::iter(std::iter::repeat_n(vec![0_u8; 65_536], 320)).map(Ok::<_, std::io::Error>);
        let request = world.with_bearer(Method::POST, JOBS, &world.token().await);
        let body = reqwest::Body::wrap_stream(chunks);
        assert_required(request.body(body).send().await.unwrap(), "upload").await;
        assert_eq!(world.tenant.seen().writes_executed, 0);
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

        let post = world.raw(Method::POST, USERS).bearer_auth(world.token().await);
        assert_eq!(post.send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
        let script =
            world.api(Method::GET, SALES).await.header("x-requested-with", "XMLHttpRequest");
        assert_eq!(script.send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
        assert_eq!((world.tenant.seen().accepted, world.tenant.seen().refused), (0, 3));
    }

    #[tokio::test]
    async fn the_login_page_s_body_can_come_long_after_its_header() {
        let slow = |login_page_delay_ms| Faults {
            login_page_delay_ms,
            ..tenant_fault(TenantFault::LoginPage)
        };
        let world = World::with(slow(u64::MAX)).await;
        let response = world.get(SALES).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert!(header(&response, "content-type").starts_with("text/html"));
        assert_eq!(response.content_length(), None);
        drop(response);

        world.tenant.set_faults(slow(1));
        let page = world.get(SALES).await.text().await.unwrap();
        assert!(page.contains("/oauth/authorize?"), "{page}");
    }

    #[tokio::test]
    async fn changed_scopes_refuse_the_tokens_from_before_and_no_others() {
        let world = World::start().await;
        let before = world.token().await;
        let csrf = header(&world.fetch_csrf(&before).await, X_CSRF_TOKEN);
        world.tenant.set_faults(tenant_fault(TenantFault::ScopesChanged));

        let response = world.write(&before, &csrf).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert_eq!(response.headers().get(X_CSRF_TOKEN), None);
        assert_eq!(json_of(response).await["error"], "insufficient_scope");
        assert_eq!((world.tenant.seen().refused, world.tenant.seen().writes_executed), (1, 0));

        let after = world.token().await;
        let status = async |bearer: &str| {
            world.with_bearer(Method::GET, SALES, bearer).send().await.unwrap().status()
        };
        assert_eq!(status(&after).await, StatusCode::OK);
        // The fault goes on; what else is set does not start it anew.
        world
            .tenant
            .set_faults(Faults { tenant_delay_ms: 1, ..tenant_fault(TenantFault::ScopesChanged) });
        assert_eq!(status(&after).await, StatusCode::OK);
        assert_eq!(status(&before).await, StatusCode::FORBIDDEN);
        // Set once more after another one, it does.
        world.tenant.set_faults(Faults::default());
        assert_eq!(status(&before).await, StatusCode::OK);
        world.tenant.set_faults(tenant_fault(TenantFault::ScopesChanged));
        assert_eq!(status(&after).await, StatusCode::FORBIDDEN);
        assert_eq!(status("dummy").await, StatusCode::UNAUTHORIZED);
    }

    #[tokio::test]
    async fn a_tenant_that_always_refuses_takes_new_tokens_no_more_than_old_ones() {
        let world = World::start().await;
        let old = world.token().await;
        let csrf = header(&world.fetch_csrf(&old).await, X_CSRF_TOKEN);
        world.tenant.set_faults(tenant_fault(TenantFault::RefuseAlways));
        let response = world.write(&old, &csrf).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer");
        assert_eq!(world.get(SALES).await.status(), StatusCode::UNAUTHORIZED);
        assert_eq!((world.tenant.seen().refused, world.tenant.seen().writes_executed), (2, 0));
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
        let csrf = send(Method::PATCH, r#"{"csrf": "session", "csrf_reject_next": 2}"#).await;
        assert_eq!((&csrf["csrf"], &csrf["csrf_reject_next"]), (&json!("session"), &json!(2)));
        let merged = Faults { csrf: CsrfRegime::Session, csrf_reject_next: 2, ..expected };
        assert_eq!(world.tenant.faults(), merged);
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
        let tenant = &world.tenant;
        let addresses = [
            tenant.issuer_addr(),
            tenant.cert_issuer_addr(),
            tenant.tenant_addr(),
            tenant.control_addr(),
        ];
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
