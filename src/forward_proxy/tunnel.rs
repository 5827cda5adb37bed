//! CONNECT: a proxy is asked to pass bytes to and fro (RFC 9110 section 9.3.6).

use super::ForwardProxy;
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

/// The header of a proxy's answer is not longer: 8 KiB. What a refusal says to people is not read.
const LONGEST: usize = 8 << 10;
const MOST_HEADERS: usize = 64;
/// No authentication scheme has a longer name.
const LONGEST_SCHEME: usize = 32;
/// What is shorter may stand in any word.
const SHORTEST_SECRET: usize = 4;

/// What a proxy is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    authority: String,
    authorization: Option<HeaderValue>,
}

/// No tunnel.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TunnelError {
    /// The connection to the proxy.
    #[error("cannot connect to the proxy: {0}")]
    Connect(#[source] io::Error),
    /// The connection ended, or was quiet for too long.
    #[error("the proxy gives no answer: {0}")]
    NoAnswer(#[source] io::Error),
    /// The proxy says no.
    #[error("the proxy answers {status}; {}", advice(*status, foreign))]
    Refused {
        /// What it says.
        status: StatusCode,
        /// The authentication schemes that it asks for, where Basic is none of them.
        foreign: Vec<String>,
    },
    /// What it says is no HTTP answer.
    #[error("the proxy's answer is not HTTP; is it a proxy?")]
    NotHttp,
}

fn advice(status: StatusCode, foreign: &[String]) -> Cow<'static, str> {
    if !foreign.is_empty() {
        let schemes = foreign.join(" or ");
        return format!(
            "it wants {schemes}, and bearerd speaks Basic only; ask who runs it for Basic or an exception, or put a proxy of your own before it that speaks {schemes}"
        )
        .into();
    }
    let told = match status {
        // tinyproxy says 401 to credentials that are wrong.
        StatusCode::PROXY_AUTHENTICATION_REQUIRED | StatusCode::UNAUTHORIZED => {
            "give it the right user name and password, in its URL or in proxy_credentials_file"
        }
        status if status.is_client_error() => {
            "it does not allow this destination, or its port; ask who runs it"
        }
        _ => "it cannot reach the server, or has no time",
    };
    told.into()
}

/// The schemes of `Proxy-Authenticate` (RFC 9110 section 11.7.1), if Basic is none of them: what stands at the beginning of
/// each line, as proxies write it.
fn foreign_schemes(headers: &[Header]) -> Vec<String> {
    let challenges = headers.iter().filter(|header| {
        header.name.eq_ignore_ascii_case(PROXY_AUTHENTICATE.as_str()) && !header.value.is_empty()
    });
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    let scheme = |header: &Header| {
        header
            .value
            .iter()
            .take_while(|byte| is_token(byte))
            .take(LONGEST_SCHEME)
            .map(|byte| char::from(*byte))
            .collect()
    };
    let schemes: Vec<String> = challenges.map(scheme).collect();
    let is_ours = schemes.iter().any(|scheme| scheme.eq_ignore_ascii_case("Basic"));
    if is_ours { Vec::new() } else { schemes }
}

impl Destination {
    /// The server of a URL, asked for at this proxy.
    pub(crate) fn new(url: &Url, proxy: &ForwardProxy) -> Result<Self, SecretFileError> {
        let authority = endpoint::authority(&endpoint::host(url), endpoint::port(url));
        Ok(Self { authority, authorization: proxy.authorization()? })
    }

    /// Makes a tunnel of a connection to the proxy.
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
            match judge(&answer) {
                Some(judged) => return judged.map_err(|error| self.unquoted(error)),
                None if answer.len() >= LONGEST => return Err(TunnelError::NotHttp),
                None => {}
            }
        }
    }
}

impl Destination {
    /// The same, unless it quotes what the proxy was given.
    fn unquoted(&self, error: TunnelError) -> TunnelError {
        let secrets = self.authorization.as_ref().and_then(secrets_in);
        match (error, secrets) {
            (TunnelError::Refused { status, mut foreign }, Some(secrets)) => {
                foreign.retain(|scheme| !secrets.occur_in(scheme.as_bytes()));
                TunnelError::Refused { status, foreign }
            }
            (error, _) => error,
        }
    }
}

/// The user name with its password, and the password alone, in a `Proxy-Authorization`.
fn secrets_in(authorization: &HeaderValue) -> Option<Secrets> {
    let encoded = authorization.as_bytes().strip_prefix(b"Basic ")?;
    let both = STANDARD.decode(encoded).ok()?;
    let password = both.splitn(2, |byte| *byte == b':').nth(1).unwrap_or_default().to_vec();
    Secrets::new([both, password].map(Bytes::from), SHORTEST_SECRET)
}

/// What the proxy has said so far; nothing as long as its header has not ended.
fn judge(answer: &[u8]) -> Option<Result<(), TunnelError>> {
    let mut headers = [EMPTY_HEADER; MOST_HEADERS];
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
        // The answer itself is yet to come.
        Some(status) if is_interim(&status) => return judge(answer.get(header..)?),
        // In TLS the client speaks first: what comes behind the header is from nobody whom we asked.
        Some(status) if status.is_success() && answer.len() == header => Ok(()),
        Some(status) if !status.is_success() => {
            let foreign = foreign_schemes(parsed.headers);
            Err(TunnelError::Refused { status, foreign })
        }
        _ => Err(TunnelError::NotHttp),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

    /// How the tunnel ends with a proxy that says this, in pieces of `step` bytes; and what it was asked.
    async fn opened(proxy: &str, says: &str, step: usize) -> (Result<(), TunnelError>, String) {
        let proxy = ForwardProxy::parse(proxy).unwrap();
        let url = "https://acme.example".parse().unwrap();
        let destination = Destination::new(&url, &proxy).unwrap();
        let (mut ours, mut theirs) = duplex(1 << 16);
        let says = says.to_owned();
        let other = tokio::spawn(async move {
            let mut asked = vec![0; 1 << 10];
            let length = theirs.read(&mut asked).await.unwrap();
            for piece in says.as_bytes().chunks(step) {
                // The reader may have seen enough.
                let _ = theirs.write_all(piece).await;
                tokio::task::yield_now().await;
            }
            String::from_utf8(asked[..length].to_vec()).unwrap()
        });
        let opened = destination.open(&mut ours).await;
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
    async fn a_refusal_is_told_with_its_status_and_what_to_do() {
        for (says, told) in [
            ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n<html>", "proxy_credentials_file"),
            (
                "HTTP/1.1 407 x\r\nProxy-Authenticate: Negotiate\r\nproxy-authenticate: NTLM abc\r\n\r\n",
                "it wants Negotiate or NTLM",
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
            ("HTTP/1.1 200 OK\r\n", "no answer"),
            ("", "no answer"),
        ] {
            let error = opened("proxy:1", says, 1_000).await.0.unwrap_err().to_string();
            assert!(error.contains(told), "{says:?}: {error}");
        }
    }

    #[tokio::test]
    async fn a_proxy_that_says_our_password_back_is_not_quoted() {
        for said in ["s3cret-word", "dXNlcjpzM2NyZXQtd29yZA", "7333637265742d776f7264"] {
            let says = format!("HTTP/1.1 407 x\r\nProxy-Authenticate: {said}\r\n\r\n");
            let error =
                opened("http://user:s3cret-word@proxy:1", &says, 1_000).await.0.unwrap_err();
            let told = error.to_string();
            assert!(!told.contains(said) && told.contains("proxy_credentials_file"), "{told}");
        }
    }

    #[tokio::test]
    async fn an_interim_answer_is_none_yet() {
        let says = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
        for step in [1, 30, 1_000] {
            let (opened, _) = opened("proxy:1", says, step).await;
            assert!(opened.is_ok(), "{opened:?}");
        }
    }

    #[tokio::test]
    async fn a_proxy_that_never_ends_its_header_is_left() {
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(2 * LONGEST));
        for endless in [endless, "HTTP/1.1 100 Continue\r\n\r\n".repeat(LONGEST / 20)] {
            let error = opened("proxy:1", &endless, 1_000).await.0.unwrap_err();
            assert!(matches!(error, TunnelError::NotHttp), "{error}");
        }
    }
}
