//! Local answers: `application/problem+json` (RFC 9457) with `Proxy-Status` (RFC 9209), which
//! distinguishes them from answers of the upstream.

use crate::error::ErrorKind;
use crate::readable;
use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, DATE, EXPECT, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{Method, StatusCode};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};
use serde::Serialize;
use std::borrow::Cow;
use std::time::{Duration, SystemTime};
use tokio::task::yield_now;
use tokio::time::timeout;

/// `Retry-After` of a request that found no room.
pub(crate) const RETRY_AFTER_OVERLOAD: Duration = Duration::from_secs(1);

/// How long the rest of an unneeded request body is read, to keep the connection open.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// A local answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{detail}")]
pub(crate) struct Problem {
    pub(crate) kind: ErrorKind,
    /// What happened and what to do, for the caller.
    pub(crate) detail: String,
    /// `Retry-After`.
    pub(crate) retry_after: Option<Duration>,
    /// `Allow`.
    pub(crate) allow: Option<String>,
    /// Whether `WWW-Authenticate` asks for a local user name and password.
    pub(crate) challenge: bool,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    kind: &'a str,
}

impl Problem {
    pub(crate) fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        // The detail may quote the request, and the access log holds it, too.
        let detail = readable::cut(Cow::Owned(detail.into())).into_owned();
        Self { kind, detail, retry_after: None, allow: None, challenge: false }
    }

    /// The answer to a request that found no room.
    pub(crate) fn overloaded(detail: impl Into<String>) -> Self {
        let retry_after = Some(RETRY_AFTER_OVERLOAD);
        Self { retry_after, ..Self::new(ErrorKind::Overloaded, detail) }
    }

    /// An error that ends its request with this answer. The access log shows the error's type.
    pub(crate) fn into_error(self, etype: ErrorType) -> Box<Error> {
        Error::because(etype, self.detail.clone(), self)
    }

    /// The answer that an error of bearerd's own carries.
    pub(crate) fn of(error: &Error) -> Option<&Self> {
        error.root_cause().downcast_ref()
    }

    /// The kind's status. 401 requires a challenge (RFC 9110 section 15.5.2); without one, 403.
    pub(crate) fn status(&self) -> StatusCode {
        match self.kind {
            ErrorKind::AccessDenied if !self.challenge => StatusCode::FORBIDDEN,
            kind => kind.status(),
        }
    }

    fn body(&self) -> Bytes {
        let body = Body {
            r#type: format!("urn:bearerd:problem:{}", self.kind.label()),
            title: self.kind.title(),
            status: self.status().as_u16(),
            detail: &self.detail,
            kind: self.kind.label(),
        };
        // Strings and a number always serialize.
        serde_json::to_vec(&body).unwrap_or_default().into()
    }

    fn header(&self, length: usize) -> pingora::Result<ResponseHeader> {
        let mut header = ResponseHeader::build(self.status(), Some(6))?;
        header.insert_header(CONTENT_TYPE, "application/problem+json")?;
        header.set_content_length(length)?;
        header.insert_header(CACHE_CONTROL, "no-store")?;
        let status = format!("bearerd; error={}", self.kind.proxy_error());
        header.insert_header("Proxy-Status", status)?;
        if let Some(delay) = self.retry_after {
            // Whole seconds, rounded up: a caller that obeys must not return too early.
            let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
            header.insert_header(RETRY_AFTER, seconds.max(1).to_string())?;
        }
        if let Some(allow) = &self.allow {
            header.insert_header(ALLOW, allow.as_str())?;
        }
        if self.challenge {
            header.insert_header(WWW_AUTHENTICATE, r#"Basic realm="bearerd", charset="UTF-8""#)?;
        }
        Ok(header)
    }

    /// The answer as bytes, for a connection that ends with it and has no pingora session.
    pub(crate) fn to_wire(&self) -> Bytes {
        let (status, body) = (self.status(), self.body());
        let mut wire =
            format!("HTTP/1.1 {} {}\r\n", status.as_u16(), status.canonical_reason().unwrap_or(""))
                .into_bytes();
        if let Ok(mut header) = self.header(body.len()) {
            // Both values are always valid.
            let _ = header.insert_header(DATE, httpdate::fmt_http_date(SystemTime::now()));
            let _ = header.insert_header(CONNECTION, "close");
            header.header_to_h1_wire(&mut wire);
        }
        wire.extend_from_slice(b"\r\n");
        wire.extend_from_slice(&body);
        wire.into()
    }

    /// Sends the answer. If the request's framing is in doubt, the start of the next request is,
    /// too, and the connection ends. The rest of a body is read and dropped, for
    /// [`DRAIN_TIMEOUT`]: closing at once would reset the connection before the caller has read
    /// the answer.
    ///
    /// # Errors
    /// The caller is gone.
    pub(crate) async fn send(&self, session: &mut Session) -> pingora::Result<()> {
        // pingora leaves the source of the error unset.
        self.write(session).await.map_err(|error| error.into_down())
    }

    async fn write(&self, session: &mut Session) -> pingora::Result<()> {
        let body = self.body();
        let header = self.header(body.len())?;
        if self.kind == ErrorKind::BadRequest {
            session.set_keepalive(None);
        }
        let head_only = session.req_header().method == Method::HEAD;
        session.write_response_header(Box::new(header), head_only).await?;
        if !head_only {
            session.write_response_body(Some(body), true).await?;
        }
        // With `Expect: 100-continue`, the caller has not started to send a body.
        if self.kind != ErrorKind::BadRequest && !session.req_header().headers.contains_key(EXPECT)
        {
            // The answer is sent; a body that does not end in time ends the connection.
            let _ = timeout(DRAIN_TIMEOUT, drain(session)).await;
        }
        Ok(())
    }
}

/// Reads the rest of a body, and yields after each read: pingora alone would read megabytes before
/// other requests of the worker run.
async fn drain(session: &mut Session) {
    while let Ok(Some(_)) = session.as_downstream_mut().read_request_body().await {
        yield_now().await;
    }
}
