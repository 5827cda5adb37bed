//! Requests through a forward proxy, each over a tunnel of its own.
//!
//! The library asks for tunnels, too, but takes no status but 200, and no interim answer, for a yes (RFC 9110 section
//! 9.3.6: any 2xx is one); and a no it does not tell.

use super::Failure;
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

/// The way to one server through a proxy.
pub(super) struct Tunnelled {
    /// The proxy's host and port.
    pub(super) proxy: (String, u16),
    /// What it is asked for.
    pub(super) destination: Destination,
    pub(super) server: Url,
    pub(super) tls: Arc<ClientConfig>,
    /// To the proxy, through it, and TLS.
    pub(super) connect: Duration,
    /// From the first byte out to the last byte in.
    pub(super) whole: Duration,
}

impl Tunnelled {
    /// Sends a request to the server, and reads the header of its answer.
    pub(super) async fn send(&self, request: reqwest::Request) -> Result<Response, Failure> {
        let until = Instant::now() + self.whole;
        let answered = timeout_at(until, self.answer(request, until)).await;
        answered.map_err(|_| Failure::Timeout)?
    }

    async fn answer(&self, request: reqwest::Request, until: Instant) -> Result<Response, Failure> {
        let request = self.in_origin_form(request)?;
        let connected = timeout(self.connect, self.connect()).await;
        let (mut sender, connection) = connected.map_err(|_| Failure::Timeout)??;
        let answer = sender.send_request(request).await.map_err(|error| other(&error))?;
        let answer = answer.map(|inner| {
            Body::wrap(Bounded {
                inner,
                end: Box::pin(sleep_until(until)),
                _connection: connection,
            })
        });
        Ok(answer.into())
    }

    /// As the library would send it.
    fn in_origin_form(&self, request: reqwest::Request) -> Result<Request<Body>, Failure> {
        let request = Request::<Body>::try_from(request).map_err(Failure::Library)?;
        let (mut parts, body) = request.into_parts();
        let target = parts.uri.path_and_query().cloned();
        parts.uri = Uri::from(target.unwrap_or_else(|| PathAndQuery::from_static("/")));
        let host = self.server.host_str().unwrap_or_default();
        let host = match self.server.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let host = HeaderValue::try_from(host).map_err(|error| other(&error))?;
        parts.headers.entry(HOST).or_insert(host);
        parts.headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        parts.headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(super::NAME));
        Ok(Request::from_parts(parts, body))
    }

    async fn connect(&self) -> Result<(SendRequest<Body>, AbortOnDropHandle<()>), Failure> {
        let (host, port) = &self.proxy;
        let stream = resolver::connect(host, *port).await;
        let mut stream = stream.map_err(|error| Failure::Tunnel(TunnelError::Connect(error)))?;
        self.destination.open(&mut stream).await.map_err(Failure::Tunnel)?;
        let name =
            ServerName::try_from(endpoint::host(&self.server)).map_err(|error| other(&error))?;
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await;
        let stream = stream.map_err(|error| other(&error))?;
        let made = handshake(TokioIo::new(stream)).await;
        let (sender, connection) = made.map_err(|error| other(&error))?;
        // The request that goes over the connection learns what becomes of it.
        let connection = tokio::spawn(async move { drop(connection.await) });
        Ok((sender, AbortOnDropHandle::new(connection)))
    }
}

fn other(error: &(dyn Error + 'static)) -> Failure {
    Failure::Other(super::innermost(error))
}

/// A body that ends in time, over a connection that ends with it.
struct Bounded {
    inner: Incoming,
    end: Pin<Box<Sleep>>,
    _connection: AbortOnDropHandle<()>,
}

impl HttpBody for Bounded {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.end.as_mut().poll(context).is_ready() {
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
