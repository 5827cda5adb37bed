//! The way to the collector: bearerd's own HTTP client, on the runtime of the control tasks, for the
//! thread that empties the queue has none.

use super::settings::Settings;
use crate::config::Transport;
use crate::http_client::{self, Client, Failure, HttpClientError, Limits};
use crate::throttle::Throttle;
use async_trait::async_trait;
use http::{HeaderMap, Response};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request};
use reqwest::RequestBuilder;
use std::fmt;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;
use url::Url;

/// TCP and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Of an answer. A collector says "taken" in a few bytes, and what it did not take in a few more.
const MAX_ANSWER: usize = 64 * 1024;

/// A collector of traces.
pub(super) struct Collector {
    http: Client,
    endpoint: Url,
    headers: HeaderMap,
    control: Handle,
    failure_log: Throttle,
}

impl Collector {
    /// Nothing is sent yet.
    pub(super) fn new(settings: &Settings, control: Handle) -> Result<Self, HttpClientError> {
        let http = Client::new(&Limits {
            url: &settings.endpoint,
            // Collectors are near: on this machine, or in the same cluster.
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
                "The collector of traces does not take spans ({reason}); requests go on, spans are lost."
            );
        }
    }
}

/// Neither headers nor a URL with a password.
impl fmt::Debug for Collector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Collector")
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (mut parts, body) = request.into_parts();
        for (name, value) in &self.headers {
            parts.headers.insert(name, value.clone());
        }
        let request = self.http.post(self.endpoint.clone()).headers(parts.headers).body(body);
        let answer = AbortOnDropHandle::new(self.control.spawn(ask(self.http.clone(), request)));
        // Without an answer from the task, the process ends: nobody is to blame.
        let answer = answer.await?;
        match &answer {
            Ok(answer) if answer.status().is_success() => {}
            Ok(answer) => self.log_failure(&format!("it answers {}", answer.status())),
            Err(reason) => self.log_failure(reason),
        }
        Ok(answer?)
    }
}

/// Sends a request, and reads the answer whole.
async fn ask(http: Client, request: RequestBuilder) -> Result<Response<Bytes>, String> {
    let mut answer = http.send(request).await.map_err(Failure::cause)?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(http_client::cause)? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err("its answer is too long".into());
        }
        body.extend_from_slice(&chunk);
    }
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = answer.status();
    *response.headers_mut() = std::mem::take(answer.headers_mut());
    Ok(response)
}
