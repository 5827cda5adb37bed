//! CONNECT: the request for a tunnel, and the proxy's answer (RFC 9110 section 9.3.6).

use super::proxy::ForwardProxy;
use crate::endpoint;
use crate::redact::Secrets;
use crate::secret_file::SecretFileError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::PROXY_AUTHENTICATE;
use http::{HeaderValue, StatusCode};
use httparse::{EMPTY_HEADER, Header, Response, Status};
use std::borrow::Cow;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use url::Url;

/// The longest header of a proxy's answer, in bytes. The body of a refusal is not read.
const MAX_HEADER: usize = 8 << 10;
/// The largest number of headers in a proxy's answer.
const MAX_HEADERS: usize = 64;
/// The longest name of an authentication scheme, in bytes.
const MAX_SCHEME: usize = 32;
/// The shortest secret to search for, in bytes. A shorter one may be part of any word.
const MIN_SECRET: usize = 4;

/// Destination of a tunnel, and the credentials for the proxy.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    authority: String,
    authorization: Option<HeaderValue>,
}

/// Reason why a tunnel was not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TunnelError {
    /// The proxy can't be reached.
    #[error("cannot connect to the proxy: {0}")]
    Connect(#[source] io::Error),
    /// The connection ended, or the proxy sent nothing for too long.
    #[error("the proxy did not answer: {0}")]
    NoAnswer(#[source] io::Error),
    /// The proxy refuses the tunnel.
    #[error("the proxy answered {status}; {}", advice(*status, unsupported))]
    Refused {
        /// The status of its answer.
        status: StatusCode,
        /// The authentication schemes that it asks for, unless Basic is one of them.
        unsupported: Vec<String>,
    },
    /// The answer is not HTTP.
    #[error("the proxy's answer is not HTTP; check that this address is an HTTP proxy's")]
    NotHttp,
}

fn advice(status: StatusCode, unsupported: &[String]) -> Cow<'static, str> {
    if !unsupported.is_empty() {
        let schemes = unsupported.join(" or ");
        return format!(
            "it asks for {schemes}, and bearerd supports only Basic; ask its operator for Basic or an exception, or put a proxy of your own in front of it that supports {schemes}"
        )
        .into();
    }
    let advice = match status {
        // tinyproxy answers 401 to wrong credentials.
        StatusCode::PROXY_AUTHENTICATION_REQUIRED | StatusCode::UNAUTHORIZED => {
            "give it the right user name and password, in its URL or in proxy_credentials_file"
        }
        status if status.is_client_error() => {
            "it does not allow this destination or port; ask its operator"
        }
        _ => "it cannot reach the server, or is overloaded; try again later, or ask its operator",
    };
    advice.into()
}

/// Returns the schemes of `Proxy-Authenticate` (RFC 9110 section 11.7.1), or nothing if Basic is
/// one of them. Each scheme is read from the beginning of a line, because proxies write one per
/// line.
fn unsupported_schemes(headers: &[Header]) -> Vec<String> {
    let challenges = headers.iter().filter(|header| {
        header.name.eq_ignore_ascii_case(PROXY_AUTHENTICATE.as_str()) && !header.value.is_empty()
    });
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    let scheme = |header: &Header| {
        header
            .value
            .iter()
            .take_while(|byte| is_token(byte))
            .take(MAX_SCHEME)
            .map(|byte| char::from(*byte))
            .collect()
    };
    let schemes: Vec<String> = challenges.map(scheme).collect();
    let has_basic = schemes.iter().any(|scheme| scheme.eq_ignore_ascii_case("Basic"));
    if has_basic { Vec::new() } else { schemes }
}

impl Destination {
    /// The server of a URL, through this proxy.
    ///
    /// # Errors
    /// The file with the proxy's credentials can't be used.
    pub(crate) fn new(url: &Url, proxy: &ForwardProxy) -> Result<Self, SecretFileError> {
        let authority = endpoint::authority(&endpoint::host(url), endpoint::port(url));
        Ok(Self { authority, authorization: proxy.authorization()? })
    }

    /// Opens a tunnel over a connection to the proxy.
    ///
    /// # Errors
    /// The proxy refuses the tunnel, or its answer is not usable.
    pub(crate) async fn open(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ) -> Result<(), TunnelError> {
        let authority = &self.authority;
        let mut request =
            format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
        if let Some(authorization) = &self.authorization {
            request.extend_from_slice(b"Proxy-Authorization: ");
            request.extend_from_slice(authorization.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        stream.write_all(&request).await.map_err(TunnelError::NoAnswer)?;
        let mut answer = Vec::with_capacity(512);
        loop {
            let read = stream.read_buf(&mut answer).await.map_err(TunnelError::NoAnswer)?;
            if read == 0 {
                return Err(TunnelError::NoAnswer(io::ErrorKind::UnexpectedEof.into()));
            }
            match parse_answer(&answer) {
                Some(opened) => return opened.map_err(|error| self.without_secrets(error)),
                None if answer.len() >= MAX_HEADER => return Err(TunnelError::NotHttp),
                None => {}
            }
        }
    }
}

impl Destination {
    /// Returns the error without the schemes that quote the credentials.
    fn without_secrets(&self, error: TunnelError) -> TunnelError {
        let secrets = self.authorization.as_ref().and_then(secrets_in);
        match (error, secrets) {
            (TunnelError::Refused { status, mut unsupported }, Some(secrets)) => {
                unsupported.retain(|scheme| !secrets.occur_in(scheme.as_bytes()));
                TunnelError::Refused { status, unsupported }
            }
            (error, _) => error,
        }
    }
}

/// Returns the secrets in a `Proxy-Authorization`: the user name with the password, and the
/// password alone.
fn secrets_in(authorization: &HeaderValue) -> Option<Secrets> {
    let encoded = authorization.as_bytes().strip_prefix(b"Basic ")?;
    let both = STANDARD.decode(encoded).ok()?;
    let password = both.splitn(2, |byte| *byte == b':').nth(1).unwrap_or_default().to_vec();
    Secrets::new([both, password].map(Bytes::from), MIN_SECRET)
}

/// Parses what the proxy has sent so far. Returns `None` as long as its header is not complete.
fn parse_answer(answer: &[u8]) -> Option<Result<(), TunnelError>> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = Response::new(&mut headers);
    let header = match parsed.parse(answer) {
        Ok(Status::Complete(header)) => header,
        Ok(Status::Partial) => return None,
        Err(_) => return Some(Err(TunnelError::NotHttp)),
    };
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let is_interim = |status: &StatusCode| {
        status.is_informational() && *status != StatusCode::SWITCHING_PROTOCOLS
    };
    Some(match status {
        // The final answer follows.
        Some(status) if is_interim(&status) => return parse_answer(answer.get(header..)?),
        // In TLS the client sends first, so bytes after the header can't be from the server.
        Some(status) if status.is_success() && answer.len() == header => Ok(()),
        Some(status) if !status.is_success() => {
            let unsupported = unsupported_schemes(parsed.headers);
            Err(TunnelError::Refused { status, unsupported })
        }
        _ => Err(TunnelError::NotHttp),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

    /// Opens a tunnel through a proxy that sends `says` in pieces of `step` bytes. Returns the
    /// result, and the request that the proxy received.
    async fn opened(proxy: &str, says: &str, step: usize) -> (Result<(), TunnelError>, String) {
        let proxy = ForwardProxy::parse(proxy).unwrap();
        let url = "https://acme.example".parse().unwrap();
        let destination = Destination::new(&url, &proxy).unwrap();
        let (mut client, mut server) = duplex(1 << 16);
        let says = says.to_owned();
        let other = tokio::spawn(async move {
            let mut asked = vec![0; 1 << 10];
            let length = server.read(&mut asked).await.unwrap();
            for piece in says.as_bytes().chunks(step) {
                // The reader may have closed the connection.
                let _ = server.write_all(piece).await;
                tokio::task::yield_now().await;
            }
            String::from_utf8(asked[..length].to_vec()).unwrap()
        });
        let opened = destination.open(&mut client).await;
        (opened, other.await.unwrap())
    }

    #[tokio::test]
    async fn a_tunnel_is_asked_for_with_the_port_and_the_credentials() {
        let fine = "HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n";
        for step in [1, 7, 1_000] {
            let (opened, asked) = opened("http://u:p@proxy:1", fine, step).await;
            assert!(opened.is_ok(), "{opened:?}");
            assert_eq!(
                asked,
                "CONNECT acme.example:443 HTTP/1.1\r\nHost: acme.example:443\r\n\
                 Proxy-Authorization: Basic dTpw\r\n\r\n"
            );
        }
        let (_, asked) = opened("proxy:1", fine, 9).await;
        assert!(!asked.contains("Authorization"), "{asked}");
    }

    #[tokio::test]
    async fn a_refusal_is_reported_with_its_status_and_what_to_do() {
        for (says, reported) in [
            ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n<html>", "proxy_credentials_file"),
            (
                "HTTP/1.1 407 x\r\nProxy-Authenticate: Negotiate\r\nproxy-authenticate: NTLM abc\r\n\r\n",
                "it asks for Negotiate or NTLM",
            ),
            (
                "HTTP/1.1 407 x\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: basic realm=x\r\n\r\n",
                "proxy_credentials_file",
            ),
            (
                "HTTP/1.0 403 Forbidden\r\nContent-Length: 5\r\n\r\n",
                "403 Forbidden; it does not allow",
            ),
            ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "cannot reach the server"),
            ("HTTP/1.1 302 Found\r\nLocation: http://login/\r\n\r\n", "302 Found"),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 Forbidden\r\n\r\n", "403 Forbidden"),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n", "101 Switching"),
            ("SSH-2.0-OpenSSH_9.2\r\n", "not HTTP"),
            ("HTTP/1.1 200 OK\r\n\r\nsurplus", "not HTTP"),
            ("HTTP/1.1 200 OK\r\n", "did not answer"),
            ("", "did not answer"),
        ] {
            let error = opened("proxy:1", says, 1_000).await.0.unwrap_err().to_string();
            assert!(error.contains(reported), "{says:?}: {error}");
        }
    }

    #[tokio::test]
    async fn a_proxy_that_repeats_the_password_is_not_quoted() {
        for said in ["s3cret-word", "dXNlcjpzM2NyZXQtd29yZA", "7333637265742d776f7264"] {
            let says = format!("HTTP/1.1 407 x\r\nProxy-Authenticate: {said}\r\n\r\n");
            let error =
                opened("http://user:s3cret-word@proxy:1", &says, 1_000).await.0.unwrap_err();
            let error = error.to_string();
            assert!(!error.contains(said) && error.contains("proxy_credentials_file"), "{error}");
        }
    }

    #[tokio::test]
    async fn an_interim_answer_is_not_the_final_one() {
        let says = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
        for step in [1, 30, 1_000] {
            let (opened, _) = opened("proxy:1", says, step).await;
            assert!(opened.is_ok(), "{opened:?}");
        }
    }

    #[tokio::test]
    async fn a_proxy_that_never_ends_its_header_is_given_up() {
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(2 * MAX_HEADER));
        for endless in [endless, "HTTP/1.1 100 Continue\r\n\r\n".repeat(MAX_HEADER / 20)] {
            let error = opened("proxy:1", &endless, 1_000).await.0.unwrap_err();
            assert!(matches!(error, TunnelError::NotHttp), "{error}");
        }
    }
}
