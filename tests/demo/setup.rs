//! A demo tenant with a client that trusts it, its paths, and helpers to read its responses.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bearerd::demo::{DemoFaults, Tenant, TenantOptions};
use reqwest::{Client, ClientBuilder, Method, RequestBuilder, Response};
use serde_json::Value;
use std::time::Duration;

pub(super) const SALES: &str = "/api/v1/datasphere/consumption/relational/DEMO/SALES";
pub(super) const USERS: &str = "/api/v1/scim2/Users";
pub(super) const JOBS: &str = "/api/v1/content/jobs";
pub(super) const PACKAGE: &str = "/api/v1/content/any";
pub(super) const EXPORT: &str = "/api/v1/audit/activities/exportActivities";
pub(super) const RUN: &str = "/api/v1/datasphere/tasks/chains/DEMO/run/NIGHTLY";
pub(super) const SPACES: &str = "/dwaas-core/api/v1/spaces";
pub(super) const DEMO_SPACE: &str = "/dwaas-core/api/v1/spaces/DEMO";
pub(super) const CSRF: &str = "/api/v1/csrf";
pub(super) const X_CSRF_TOKEN: &str = "x-csrf-token";

/// A demo tenant, and an HTTP client that trusts it.
pub(super) struct Demo {
    pub(super) tenant: Tenant,
    pub(super) http: Client,
}

impl Demo {
    pub(super) async fn start() -> Self {
        let tenant = Tenant::start(TenantOptions::default()).await.unwrap();
        Self { http: client(&tenant), tenant }
    }

    pub(super) async fn with(faults: DemoFaults) -> Self {
        let demo = Self::start().await;
        demo.tenant.set_faults(faults);
        demo
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

    /// A request to the tenant's API with everything it requires: a bearer token, the header that
    /// some APIs require, and a CSRF token for a write.
    pub(super) async fn api(&self, method: Method, path: &str) -> RequestBuilder {
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

    /// A request with this bearer token and the header that some APIs require.
    pub(super) fn with_bearer(&self, method: Method, path: &str, bearer: &str) -> RequestBuilder {
        self.raw(method, path).bearer_auth(bearer).header("x-sap-sac-custom-auth", "true")
    }

    /// The response that carries a CSRF token.
    pub(super) async fn fetch_csrf(&self, bearer: &str) -> Response {
        let request = self.with_bearer(Method::GET, CSRF, bearer).header(X_CSRF_TOKEN, "fetch");
        request.send().await.unwrap()
    }

    /// Deletes a package, the simplest write.
    pub(super) async fn write(&self, bearer: &str, csrf: &str) -> Response {
        let request = self.with_bearer(Method::DELETE, PACKAGE, bearer);
        request.header(X_CSRF_TOKEN, csrf).send().await.unwrap()
    }

    pub(super) async fn get(&self, path: &str) -> Response {
        self.api(Method::GET, path).await.send().await.unwrap()
    }

    pub(super) fn raw(&self, method: Method, path: &str) -> RequestBuilder {
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
    // Fails if another test has already installed the provider, which does no harm.
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

pub(super) fn header(response: &Response, name: &str) -> String {
    response.headers()[name].to_str().unwrap().to_owned()
}

pub(super) fn claims(token: &str) -> (Value, Value) {
    let part = |index| URL_SAFE_NO_PAD.decode(token.split('.').nth(index).unwrap()).unwrap();
    (serde_json::from_slice(&part(0)).unwrap(), serde_json::from_slice(&part(1)).unwrap())
}

pub(super) fn encode(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

pub(super) fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}
