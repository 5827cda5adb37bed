//! Check of a route: one harmless read with the headers that the proxy would send.

use super::{Subject, Verdict, advice};
use crate::config::Route;
use crate::http_client::{HttpClient, HttpClientOptions};
use crate::metrics::labels::TokenRefusal;
use crate::proxy::injected_headers::CUSTOM_AUTH;
use crate::proxy::login_page::{self, PEEK};
use crate::proxy::token_refusal::{self, AnswerVerdict, RequestKind};
use crate::redact::Secrets;
use crate::token::Token;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, LOCATION};
use http::{HeaderMap, HeaderValue};
use reqwest::Response;
use std::time::Duration;
use tokio::time::Instant;

/// Timeout of the call, from the first byte of the request to the header of the response.
const CALL: Duration = Duration::from_secs(20);

/// Checks a route with its client's token.
pub(super) async fn examine(route: &Route, token: &Token, subject: &mut Subject) {
    let upstream = &route.upstream;
    let target = target(route);
    let started = Instant::now();
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(AUTHORIZATION, token.authorization.clone());
    if route.profile.custom_auth {
        headers.insert(CUSTOM_AUTH, HeaderValue::from_static("true"));
    }
    for (name, value) in &route.headers {
        headers.insert(name, value.clone());
    }
    let certificate = match upstream.read_certificate() {
        Ok(certificate) => certificate,
        Err(error) => return subject.add("call", Verdict::Failed, error.to_string(), None),
    };
    let client = HttpClient::new(&HttpClientOptions {
        url: &upstream.origin,
        transport: &upstream.transport,
        certificate: certificate.as_ref(),
        connect: upstream.timeouts.connect,
        whole: CALL,
        kept: 0,
    });
    let mut url = upstream.origin.clone();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    url.set_path(path);
    url.set_query((!query.is_empty()).then_some(query));
    let answer = match client {
        Ok(client) => client.send(client.get(url).headers(headers)).await,
        Err(error) => return subject.add("call", Verdict::Failed, error.to_string(), None),
    };
    match answer {
        Ok(answer) => {
            let call = Call { said: format!("GET {target}"), token, started };
            report(route, answer, &call, subject).await
        }
        Err(error) => {
            let detail = format!("GET {target}: the tenant {}", error.predicate());
            let advice = error.failure().and_then(|failure| failure.advice(""));
            subject.add("call", Verdict::Failed, detail, advice.map(str::to_owned));
        }
    }
}

/// A target that is harmless to read: below one of the profile's default paths, the profile's own
/// choice; otherwise the route's path itself.
fn target(route: &Route) -> String {
    let known = route.profile.paths.iter().find(|(path, _)| *path == route.path);
    let probe = known.map_or("", |(_, probe)| *probe);
    let path = if route.strip_path { "" } else { &route.path };
    let target = format!("{path}{probe}");
    if target.starts_with('/') { target } else { format!("/{target}") }
}

/// A call to the API.
struct Call<'a> {
    /// Method and target, for messages.
    said: String,
    token: &'a Token,
    started: Instant,
}

impl Call<'_> {
    /// Text of a response, without the token if the response repeats it.
    fn quoted(&self, words: &str) -> String {
        let token = Bytes::copy_from_slice(self.token.text().as_bytes());
        let secrets = Secrets::new([token], 1);
        match secrets.and_then(|secrets| secrets.redact(words.as_bytes())) {
            Some((clean, _)) => String::from_utf8_lossy(&clean).into_owned(),
            None => words.to_owned(),
        }
    }
}

/// Adds the finding about a response.
async fn report(route: &Route, mut answer: Response, call: &Call<'_>, subject: &mut Subject) {
    let (status, headers) = (answer.status(), answer.headers().clone());
    let detail = format!("{}: {status} in {} ms", call.said, call.started.elapsed().as_millis());
    let refusal = match token_refusal::classify(|| RequestKind::Read, route.html, status, &headers)
    {
        AnswerVerdict::Refused(refusal) => Some(refusal),
        AnswerVerdict::Suspect | AnswerVerdict::Unsure => {
            let start = start_of(&mut answer).await;
            let is_login = login_page::is_html_page(&start) && login_page::is_login_page(&start);
            is_login.then_some(TokenRefusal::LoginPage)
        }
        AnswerVerdict::Answer | AnswerVerdict::WantsCsrf => None,
    };
    if let Some(refusal) = refusal {
        let advice = advice::refused(refusal, route.profile).to_owned();
        return subject.add("call", Verdict::Failed, detail, Some(advice));
    }
    let (verdict, advice) = match status.as_u16() {
        200..=299 => (Verdict::Ok, None),
        // A path of the configuration need not be a resource that can be read.
        400 | 404 | 405 | 406 => {
            let detail = format!("{detail}; the token was accepted");
            return subject.add("call", Verdict::Reached, detail, None);
        }
        429 => (Verdict::Warning, Some("the API limits the rate of requests; try again later")),
        300..=399 => {
            (Verdict::Warning, Some("the API redirects; check that `url` is the tenant's own URL"))
        }
        _ => (
            Verdict::Failed,
            Some("the API failed; try again, and if it fails again, report it to SAP"),
        ),
    };
    // The query may hold confidential values.
    let to = headers.get(LOCATION).and_then(|to| to.to_str().ok()?.split(['?', '#']).next());
    let detail =
        to.map_or_else(|| detail.clone(), |to| format!("{detail}, to {}", call.quoted(to)));
    subject.add("call", verdict, detail, advice.map(str::to_owned));
}

/// The first bytes of a body.
async fn start_of(answer: &mut Response) -> Vec<u8> {
    let mut start = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        start.extend_from_slice(&chunk);
        if start.len() >= PEEK {
            break;
        }
    }
    start
}
