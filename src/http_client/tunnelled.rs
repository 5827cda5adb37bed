//! Requests through a forward proxy, each in a tunnel of its own.
//!
//! The HTTP library can open tunnels too, but it accepts only the status 200, without an interim
//! answer before it. Any 2xx opens a tunnel (RFC 9110 section 9.3.6). It also does not report a
//! refusal's status.

use super::send_error::SendError;
use super::user_agent;
use crate::forward_proxy::{Destination, TunnelError};
use crate::{endpoint, resolver};
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Uri};
use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use reqwest::{Body, Response};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

/// Sends requests to one server through a proxy.
pub(super) struct Tunnelled {
    /// The proxy's host and port.
    pub(super) proxy: (String, u16),
    /// The destination of the tunnel.
    pub(super) destination: Destination,
    pub(super) server: Url,
    pub(super) tls: Arc<ClientConfig>,
    /// Timeout of the connection to the proxy, the tunnel and the TLS handshake together.
    pub(super) connect: Duration,
    /// Timeout from the first byte sent to the last byte received.
    pub(super) whole: Duration,
}

impl Tunnelled {
    /// Sends a request to the server, and waits for the header of its answer.
    ///
    /// # Errors
    /// There is no answer.
    pub(super) async fn send(&self, request: reqwest::Request) -> Result<Response, SendError> {
        let deadline = Instant::now() + self.whole;
        let answer = timeout_at(deadline, self.answer(request, deadline)).await;
        answer.map_err(|_| SendError::Timeout)?
    }

    async fn answer(
        &self,
        request: reqwest::Request,
        deadline: Instant,
    ) -> Result<Response, SendError> {
        let request = self.in_origin_form(request)?;
        let connected = timeout(self.connect, self.connect()).await;
        let (mut sender, connection) = connected.map_err(|_| SendError::Timeout)??;
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(|error| SendError::in_tunnel(&error))?;
        let answer = answer.map(|inner| {
            Body::wrap(TunnelledBody {
                inner,
                deadline: Box::pin(sleep_until(deadline)),
                _connection: connection,
            })
        });
        Ok(answer.into())
    }

    /// Converts a request to what the HTTP library would send to the server.
    fn in_origin_form(&self, request: reqwest::Request) -> Result<Request<Body>, SendError> {
        let request = Request::<Body>::try_from(request).map_err(SendError::Library)?;
        let (mut parts, body) = request.into_parts();
        let target = parts.uri.path_and_query().cloned();
        parts.uri = Uri::from(target.unwrap_or_else(|| PathAndQuery::from_static("/")));
        let host = self.server.host_str().unwrap_or_default();
        let host = match self.server.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let host = HeaderValue::try_from(host).map_err(|error| SendError::in_tunnel(&error))?;
        parts.headers.entry(HOST).or_insert(host);
        parts.headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        parts.headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(user_agent::USER_AGENT));
        Ok(Request::from_parts(parts, body))
    }

    async fn connect(&self) -> Result<(SendRequest<Body>, AbortOnDropHandle<()>), SendError> {
        let (host, port) = &self.proxy;
        let stream = resolver::connect(host, *port).await;
        let mut stream = stream.map_err(|error| SendError::Tunnel(TunnelError::Connect(error)))?;
        self.destination.open(&mut stream).await.map_err(SendError::Tunnel)?;
        let name = ServerName::try_from(endpoint::host(&self.server));
        let name = name.map_err(|error| SendError::in_tunnel(&error))?;
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await;
        let stream = stream.map_err(|error| SendError::in_tunnel(&error))?;
        let connected = handshake(TokioIo::new(stream)).await;
        let (sender, connection) = connected.map_err(|error| SendError::in_tunnel(&error))?;
        // The request over this connection returns the connection's error.
        let connection = tokio::spawn(async move { drop(connection.await) });
        Ok((sender, AbortOnDropHandle::new(connection)))
    }
}

/// Body of an answer, with a deadline. It owns its connection, which ends with it.
struct TunnelledBody {
    inner: Incoming,
    deadline: Pin<Box<Sleep>>,
    _connection: AbortOnDropHandle<()>,
}

impl HttpBody for TunnelledBody {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::TimedOut).into())));
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
