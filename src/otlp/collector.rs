//! Connection to the collector: bearerd's own HTTP client on the runtime of the control tasks,
//! because the thread that empties the queue has no runtime.

use super::settings::Settings;
use crate::config::Transport;
use crate::http_client::{BodyError, HttpClient, HttpClientError, HttpClientOptions, bounded_body};
use crate::throttle::Throttle;
use async_trait::async_trait;
use http::{HeaderMap, Response};
use opentelemetry_http::{Bytes, HttpError, Request};
use reqwest::RequestBuilder;
use std::fmt;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;
use url::Url;

/// Timeout of a connection with its TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer, in bytes. Collectors answer in a few bytes, or a few more if they refuse
/// spans.
const MAX_ANSWER: usize = 64 * 1024;

/// A collector of traces.
pub(super) struct Collector {
    http: HttpClient,
    endpoint: Url,
    headers: HeaderMap,
    control: Handle,
    failure_log: Throttle,
}

impl Collector {
    /// Creates the collector. Nothing is sent yet.
    ///
    /// # Errors
    /// The HTTP client can't be set up.
    pub(super) fn new(settings: &Settings, control: Handle) -> Result<Self, HttpClientError> {
        let http = HttpClient::new(&HttpClientOptions {
            url: &settings.endpoint,
            // Collectors run on this machine or in the same cluster, so no proxy is needed.
            transport: &Transport::default(),
            certificate: None,
            connect: CONNECT_TIMEOUT.min(settings.timeout),
            whole: settings.timeout,
            kept: 1,
        })?;
        Ok(Self {
            http,
            endpoint: settings.endpoint.clone(),
            headers: settings.headers.clone(),
            control,
            failure_log: Throttle::new(),
        })
    }

    /// Logs a failure, at most once a minute.
    fn log_failure(&self, reason: &str) {
        if self.failure_log.try_pass() {
            warn!(
                "The trace collector does not accept spans ({reason}). Spans are lost; requests are not affected."
            );
        }
    }
}

/// Shows no headers and no URL, because both may hold credentials.
impl fmt::Debug for Collector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Collector")
    }
}

#[async_trait]
impl opentelemetry_http::HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (mut parts, body) = request.into_parts();
        for (name, value) in &self.headers {
            parts.headers.insert(name, value.clone());
        }
        let request = self.http.post(self.endpoint.clone()).headers(parts.headers).body(body);
        let answer = AbortOnDropHandle::new(self.control.spawn(ask(self.http.clone(), request)));
        // The task has no result only if the process ends, which needs no log line.
        let answer = answer.await?;
        match &answer {
            Ok(answer) if answer.status().is_success() => {}
            Ok(answer) => self.log_failure(&format!("it answers {}", answer.status())),
            Err(reason) => self.log_failure(reason),
        }
        Ok(answer?)
    }
}

/// Sends a request, and reads the whole answer.
async fn ask(http: HttpClient, request: RequestBuilder) -> Result<Response<Bytes>, String> {
    let mut answer =
        http.send(request).await.map_err(|error| format!("it {}", error.predicate()))?;
    let body = bounded_body(&mut answer, MAX_ANSWER, |_| false).await;
    let body = body.map_err(|error| match error {
        BodyError::TooLong => "its answer is too long".to_owned(),
        BodyError::Incomplete(error) => format!("it {}", error.predicate()),
    })?;
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = answer.status();
    *response.headers_mut() = std::mem::take(answer.headers_mut());
    Ok(response)
}
