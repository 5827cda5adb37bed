//! The tour: the first steps of a user, which the program takes and checks itself.

use anyhow::{Context, ensure};
use bearerd::demo::Tenant;
use reqwest::{Client, Method, Response};
use serde_json::Value;
use std::fmt::Write;
use std::time::Duration;

/// Pause between two polls.
const POLL: Duration = Duration::from_millis(50);
const SALES: &str = "/api/v1/datasphere/consumption/relational/DEMO/SALES/SALES";
/// Size of the upload: more than pingora's replay buffer holds, so that it must be streamed.
const UPLOAD_BYTES: usize = 1_000_000;

/// A step and its result.
pub(super) struct Step {
    name: &'static str,
    result: String,
    pub(super) succeeded: bool,
}

struct Tour<'a> {
    http: Client,
    listen: &'a str,
    admin: &'a str,
    tenant: &'a Tenant,
}

/// Takes the tour with a running sidecar. It continues after a step that fails.
pub(super) async fn run(listen: &str, admin: &str, tenant: &Tenant) -> Vec<Step> {
    let tour = Tour { http: Client::new(), listen, admin, tenant };
    let mut steps = Vec::new();
    let mut add = |name, result: anyhow::Result<String>| {
        let succeeded = result.is_ok();
        let result = result.unwrap_or_else(|error| format!("{error:#}"));
        steps.push(Step { name, result, succeeded });
    };
    add("The sidecar becomes ready", tour.ready().await);
    add("The tenant itself refuses a request without a token", tour.refused_directly().await);
    add("OData: a page of rows", tour.page().await);
    add("OData: all rows, page by page", tour.all_rows().await);
    add("SCIM: create a user", tour.create_user().await);
    add("The token is refreshed", tour.refreshed().await);
    add("Content: upload, then poll the job", tour.upload().await);
    add("Audit: export as CSV", tour.export().await);
    add("The caller's own Authorization is replaced", tour.own_authorization().await);
    add("All requests through the sidecar had a valid token", tour.only_valid_tokens());
    steps
}

impl Tour<'_> {
    async fn ready(&self) -> anyhow::Result<String> {
        loop {
            let answer = self.http.get(format!("{}/readyz", self.admin)).send().await?;
            let ready = answer.status().is_success();
            let text = answer.text().await?;
            if ready {
                return Ok(format!("200 {}", text.trim()));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn refused_directly(&self) -> anyhow::Result<String> {
        let anchor = reqwest::Certificate::from_pem(self.tenant.ca_pem().as_bytes())?;
        let direct = Client::builder().tls_certs_only([anchor]).build()?;
        let answer = direct.get(format!("{}{SALES}", self.tenant.url())).send().await?;
        ensure!(answer.status() == 401, "expected 401, got {}", answer.status());
        Ok("401".into())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
        expected: u16,
    ) -> anyhow::Result<Response> {
        let mut request = self.http.request(method, format!("{}{path}", self.listen)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await?;
        let status = answer.status();
        if status != expected {
            anyhow::bail!("expected {expected}, got {status}: {}", answer.text().await?);
        }
        Ok(answer)
    }

    async fn get(&self, path: &str, expected: u16) -> anyhow::Result<Response> {
        self.send(Method::GET, path, &[], "", expected).await
    }

    async fn page(&self) -> anyhow::Result<String> {
        let page = json(self.get(&format!("{SALES}?$top=3&$count=true"), 200).await?).await?;
        let rows = page.get("value").and_then(Value::as_array).map_or(0, Vec::len);
        let all = page
            .get("@odata.count")
            .and_then(Value::as_u64)
            .context("the page has no @odata.count")?;
        ensure!(rows == 3, "expected 3 rows, got {rows}");
        Ok(format!("200, {rows} of {all} rows"))
    }

    /// Follows each link unchanged, as a client that does not know the sidecar would.
    async fn all_rows(&self) -> anyhow::Result<String> {
        let (mut rows, mut pages) = (0, 0);
        let mut next = Some(format!("{}{SALES}", self.listen));
        while let Some(url) = next {
            let answer = self.http.get(&url).send().await?;
            ensure!(answer.status() == 200, "expected 200, got {} at {url}", answer.status());
            let page = json(answer).await?;
            rows += page.get("value").and_then(Value::as_array).map_or(0, Vec::len);
            pages += 1;
            next = page.get("@odata.nextLink").and_then(Value::as_str).map(str::to_owned);
        }
        ensure!(pages > 1, "expected several pages, got one with {rows} rows");
        Ok(format!("{rows} rows in {pages} pages"))
    }

    async fn create_user(&self) -> anyhow::Result<String> {
        let user =
            r#"{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"TOUR"}"#;
        let headers = [("Content-Type", "application/scim+json")];
        let answer = self.send(Method::POST, "/api/v1/scim2/Users", &headers, user, 201).await?;
        let user = json(answer).await?;
        let id = user.get("id").and_then(Value::as_str).context("the user has no id")?;
        self.get(&format!("/api/v1/scim2/Users/{id}"), 200).await?;
        Ok(format!("201, id {id}; read back 200"))
    }

    async fn refreshed(&self) -> anyhow::Result<String> {
        loop {
            let metrics =
                self.http.get(format!("{}/metrics", self.admin)).send().await?.text().await?;
            let generation = metrics
                .lines()
                .find(|line| line.starts_with("bearerd_token_generation"))
                .and_then(|line| line.rsplit(' ').next()?.parse::<u32>().ok())
                .context("no bearerd_token_generation on /metrics")?;
            if generation >= 2 {
                return Ok(format!("bearerd_token_generation {generation}"));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn upload(&self) -> anyhow::Result<String> {
        let answer = self
            .send(Method::POST, "/api/v1/content/jobs", &[], vec![7; UPLOAD_BYTES], 202)
            .await?;
        let job = json(answer).await?;
        let bytes = job.get("bytes").and_then(Value::as_u64).context("the job has no bytes")?;
        ensure!(bytes == UPLOAD_BYTES as u64, "expected {UPLOAD_BYTES} bytes, {bytes} arrived");
        let id = job.get("id").and_then(Value::as_str).context("the job has no id")?;
        let path = format!("/api/v1/content/jobs/{id}");
        self.get(&path, 202).await?;
        self.get(&path, 200).await?;
        Ok(format!("202, {bytes} bytes; polled 202, then 200"))
    }

    async fn export(&self) -> anyhow::Result<String> {
        let path = "/api/v1/audit/activities/exportActivities?pageIndex=1";
        let answer = self.send(Method::POST, path, &[], "", 200).await?;
        let pages =
            answer.headers().get("epm-page-count").context("the answer has no epm-page-count")?;
        let pages = pages.to_str()?.to_owned();
        let rows = answer.text().await?.lines().count();
        ensure!(rows > 1, "expected a CSV with rows, got {rows} lines");
        Ok(format!("200, {rows} lines, page 1 of {pages}"))
    }

    async fn own_authorization(&self) -> anyhow::Result<String> {
        let headers = [("Authorization", "Basic bm9ib2R5OndyaXRlcyB0aGlz")];
        self.send(Method::GET, &format!("{SALES}?$top=1"), &headers, "", 200).await?;
        Ok("200".into())
    }

    /// Expects one refused request: the tour's own request that bypassed the sidecar.
    fn only_valid_tokens(&self) -> anyhow::Result<String> {
        let seen = self.tenant.seen();
        ensure!(seen.refused == 1, "the tenant refused {} requests, expected 1", seen.refused);
        Ok(format!("{} requests accepted, {} tokens issued", seen.accepted, seen.tokens_issued))
    }
}

async fn json(answer: Response) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&answer.text().await?)?)
}

/// The steps as a table for a terminal.
pub(super) fn table(steps: &[Step]) -> String {
    let width = steps.iter().map(|step| step.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for step in steps {
        let mark = if step.succeeded { "ok    " } else { "FAILED" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{mark}  {:width$}  {}", step.name, step.result);
    }
    let succeeded = steps.iter().filter(|step| step.succeeded).count();
    let _ = writeln!(text, "\n{succeeded} of {} steps succeeded.", steps.len());
    text
}
