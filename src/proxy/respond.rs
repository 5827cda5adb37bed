//! Answers that bearerd gives by itself: `application/problem+json` (RFC 9457) with `Proxy-Status`
//! (RFC 9209), so that a caller can tell them from the upstream's.

use super::DRAIN_TIMEOUT;
use crate::error::ErrorKind;
use crate::readable;
use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, DATE, EXPECT, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{Method, StatusCode};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use serde::Serialize;
use std::borrow::Cow;
use std::time::{Duration, SystemTime};
use tokio::task::yield_now;
use tokio::time::timeout;

/// A local answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{detail}")]
pub(crate) struct Problem {
    pub(crate) kind: ErrorKind,
    /// What happened and what to do; shown to the caller.
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
        // It may quote what the request brought, and goes to the log, too.
        let detail = readable::cut(Cow::Owned(detail.into())).into_owned();
        Self { kind, detail, retry_after: None, allow: None, challenge: false }
    }

    /// The kind's status; but 401 only where a challenge says what is wanted (RFC 9110 section
    /// 15.5.2).
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
            // Whole seconds, rounded up: a caller that obeys must not come too early.
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

    /// The answer as it stands on a connection that ends with it, for where pingora has no session.
    pub(crate) fn to_wire(&self) -> Bytes {
        let (status, body) = (self.status(), self.body());
        let mut wire =
            format!("HTTP/1.1 {} {}\r\n", status.as_u16(), status.canonical_reason().unwrap_or(""))
                .into_bytes();
        if let Ok(mut header) = self.header(body.len()) {
            // A time and a word always are header values.
            let _ = header.insert_header(DATE, httpdate::fmt_http_date(SystemTime::now()));
            let _ = header.insert_header(CONNECTION, "close");
            header.header_to_h1_wire(&mut wire);
        }
        wire.extend_from_slice(b"\r\n");
        wire.extend_from_slice(&body);
        wire.into()
    }

    /// Sends the answer. Where the framing is in doubt, so is the beginning of the next request, and
    /// the connection ends. The rest of a body is read and dropped, for [`DRAIN_TIMEOUT`]:
    /// closing at once would reset the connection before the caller has read the answer.
    ///
    /// # Errors
    /// The caller is gone.
    pub(crate) async fn send(&self, session: &mut Session) -> pingora::Result<()> {
        // pingora does not say whose fault it is.
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
        // With `Expect: 100-continue`, no body is on its way.
        if self.kind != ErrorKind::BadRequest && !session.req_header().headers.contains_key(EXPECT)
        {
            // The answer is out; a body that does not end in time ends the connection.
            let _ = timeout(DRAIN_TIMEOUT, drain(session)).await;
        }
        Ok(())
    }
}

/// Reads the rest of a body, a piece at each turn: pingora would read megabytes before others have a turn.
async fn drain(session: &mut Session) {
    while let Ok(Some(_)) = session.as_downstream_mut().read_request_body().await {
        yield_now().await;
    }
}
