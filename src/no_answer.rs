//! Reasons why a server does not answer, in words, and what to do.
//!
//! Token requests, answers to callers, the log, the status page and `bearerd doctor` use the same
//! words. No word of a library is in them, unless the reason is unknown.

use crate::resolver::{DnsFailure, UnresolvedName};
use crate::trust;
use rustls::InvalidMessage;
use std::error::Error;
use std::io::{self, ErrorKind};

/// Why a server did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// The host name has no address.
    UnknownName,
    /// No resolver answers.
    DnsSilent,
    /// No network leads to the address.
    NoNetwork,
    /// The address refuses connections.
    Refused,
    /// The address accepted no connection in time.
    ConnectTimeout,
    /// The TLS handshake took too long.
    TlsTimeout,
    /// The answer took too long.
    ReadTimeout,
    /// The server did not read the request in time.
    WriteTimeout,
    /// The connection broke without a sign: nothing is acknowledged any more.
    Silent,
    /// The connection was closed before the answer.
    Closed,
    /// The answer is not HTTP.
    NotHttp,
    /// The server broke the rules of HTTP/2.
    Http2,
    /// The server does not speak TLS.
    NotTls,
    /// No trusted TLS connection, with the cause.
    Tls(String),
    /// The forward proxy on the way did not answer.
    Proxy(Box<Self>),
    /// Something else, in the words of a library.
    Other(String),
    /// Something else, without words.
    Unknown,
}

impl NoAnswer {
    /// Finds the reason in an error's chain of causes. It may have passed several libraries.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Self {
        let mut found = None;
        let mut innermost = error;
        for cause in causes(error) {
            innermost = cause;
            if let Some(name) = cause.downcast_ref::<UnresolvedName>() {
                return Self::of_dns(name);
            }
            if let Some(error) = cause.downcast_ref::<rustls::Error>() {
                return Self::of_rustls(error);
            }
            if let Some(error) = cause.downcast_ref::<hyper::Error>() {
                found = Self::of_http(error).or(found);
            }
            if let Some(error) = cause.downcast_ref::<io::Error>() {
                found = Self::of_kind(error.kind()).or(found);
            }
        }
        found.unwrap_or_else(|| Self::Other(innermost.to_string()))
    }

    /// The reason of an error of the operating system, or of a library that uses its kinds.
    const fn of_kind(kind: ErrorKind) -> Option<Self> {
        Some(match kind {
            ErrorKind::ConnectionRefused => Self::Refused,
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
                Self::NoNetwork
            }
            ErrorKind::TimedOut => Self::ConnectTimeout,
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected
            | ErrorKind::UnexpectedEof => Self::Closed,
            _ => return None,
        })
    }

    fn of_rustls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::NotTls,
            error => Self::Tls(trust::explanation(error).unwrap_or_else(|| error.to_string())),
        }
    }

    fn of_http(error: &hyper::Error) -> Option<Self> {
        if error.is_parse() {
            return Some(Self::NotHttp);
        }
        (error.is_incomplete_message() || error.is_closed() || error.is_canceled())
            .then_some(Self::Closed)
    }

    fn of_dns(name: &UnresolvedName) -> Self {
        match name.failure() {
            DnsFailure::Unknown => Self::UnknownName,
            DnsFailure::Silent => Self::DnsSilent,
            DnsFailure::Other => Self::Other(name.to_string()),
        }
    }

    /// The reason that a message of the TLS library means, which pingora passes on only as text.
    pub(crate) fn of_tls(message: &str) -> Self {
        // The name that was asked for, which pingora appends.
        let message = message.rsplit_once(", SNI: ").map_or(message, |(message, _)| message);
        match message {
            "received corrupt message of type InvalidContentType" => Self::NotTls,
            "tls handshake eof" => Self::Closed,
            _ if message.starts_with("peer closed connection without sending TLS") => Self::Closed,
            // An error of the operating system.
            _ if message.contains(" (os error ") && !message.starts_with("invalid") => Self::Closed,
            _ => Self::Tls(message.to_owned()),
        }
    }

    /// What the server did, as the end of a sentence that begins with its name.
    pub(crate) fn predicate(&self) -> String {
        let known = match self {
            Self::UnknownName => "has no address: its host name is unknown",
            Self::DnsSilent => "has no address: no DNS server answers",
            Self::NoNetwork => "cannot be reached: no network leads to its address",
            Self::Refused => "refuses connections",
            Self::ConnectTimeout => "accepted no connection in time",
            Self::TlsTimeout => "did not complete the TLS handshake in time",
            Self::ReadTimeout => "did not answer in time",
            Self::WriteTimeout => "did not read the request in time",
            Self::Silent => "stopped responding: it acknowledges nothing, or reads nothing",
            Self::Closed => "closed the connection before it answered, or a device on the way did",
            Self::NotHttp => "did not answer in HTTP",
            Self::Unknown => "cannot be reached",
            Self::Http2 => "broke the rules of HTTP/2",
            Self::NotTls => "does not speak TLS on this port",
            Self::Tls(cause) => {
                return match trust::plain(cause) {
                    Ok(reason) => format!("has a certificate that is not trusted: {reason}"),
                    Err(cause) => format!("did not complete the TLS handshake: {cause}"),
                };
            }
            Self::Proxy(failure) => {
                return format!("was not reached: the forward proxy {}", failure.predicate());
            }
            Self::Other(cause) => return format!("cannot be reached: {cause}"),
        };
        known.to_owned()
    }

    /// What to do, if it is known. `host` is the name in the URL.
    pub(crate) fn advice(&self, host: &str) -> Option<&'static str> {
        Some(match self {
            Self::UnknownName if host.contains(".authentication.") => {
                "the first part of the host name must be the subaccount's subdomain; copy token_url from the tenant's App Integration page"
            }
            Self::UnknownName => "check the spelling of the host name in the URL",
            Self::DnsSilent => {
                "check the network and the DNS settings of this machine or container (/etc/resolv.conf)"
            }
            Self::NoNetwork => "check the network, its routes, the VPN and firewalls",
            Self::Refused => "check host and port of the URL, and whether the server runs",
            Self::ConnectTimeout => {
                "check whether a firewall blocks the connection, and whether it needs a forward proxy"
            }
            Self::TlsTimeout => "check whether the port speaks TLS",
            Self::ReadTimeout => "try again; if the query needs more time, raise timeouts.read",
            Self::WriteTimeout => "if the server needs more time, raise timeouts.write",
            Self::Silent => {
                "check the network, VPN or NAT in between, and whether the server is down or hangs"
            }
            Self::Closed => "try again, and look for limits of size or time on the way",
            Self::NotHttp => "if its port speaks TLS, write https:// in the URL",
            Self::Http2 => "set http2: false for it",
            Self::NotTls => {
                "check host and port of the URL; if this server has no TLS, write http:// in the URL, and set allow_cleartext: true unless it is on this machine"
            }
            Self::Tls(cause) => return trust::advice(cause),
            Self::Proxy(_) => "check the forward proxy's address, and whether it runs",
            Self::Other(_) | Self::Unknown => return None,
        })
    }
}

/// An error and its causes. An I/O error may hold another error, which is not its source.
fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    fn next<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        }
    }
    std::iter::successors(Some(error), |error| next(*error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn of_kind(kind: ErrorKind) -> NoAnswer {
        NoAnswer::of(&io::Error::other(io::Error::from(kind)))
    }

    #[test]
    fn errors_of_the_system_and_of_tls_are_found_below_others() {
        assert_eq!(of_kind(ErrorKind::ConnectionRefused), NoAnswer::Refused);
        assert_eq!(of_kind(ErrorKind::NetworkUnreachable), NoAnswer::NoNetwork);
        assert_eq!(of_kind(ErrorKind::ConnectionReset), NoAnswer::Closed);
        let with_text = io::Error::new(ErrorKind::UnexpectedEof, "tls handshake eof");
        assert_eq!(NoAnswer::of(&io::Error::other(with_text)), NoAnswer::Closed);
        let corrupt = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
        let corrupt = io::Error::other(io::Error::other(corrupt));
        assert_eq!(NoAnswer::of(&corrupt), NoAnswer::NotTls);
        let untrusted = rustls::Error::from(rustls::CertificateError::UnknownIssuer);
        let untrusted = NoAnswer::of(&io::Error::other(untrusted));
        assert_eq!(untrusted, NoAnswer::Tls("invalid peer certificate: UnknownIssuer".into()));
        assert!(untrusted.advice("a.example").is_some_and(|advice| advice.contains("ca_file")));
    }

    #[tokio::test]
    async fn an_answer_that_is_not_http_is_found_below_the_http_client() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let alert = [0x15, 3, 3, 0, 2, 2, 70];
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            stream.write_all(&alert).await.unwrap();
        });
        crate::http_client::set_up_tls();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let error = client.get(url).send().await.unwrap_err();
        assert_eq!(NoAnswer::of(&error), NoAnswer::NotHttp);
    }

    #[test]
    fn pingoras_text_means_the_same_and_a_certificate_cannot_imitate_it() {
        let corrupt = "received corrupt message of type InvalidContentType";
        assert_eq!(NoAnswer::of_tls(corrupt), NoAnswer::NotTls);
        assert_eq!(NoAnswer::of_tls("tls handshake eof"), NoAnswer::Closed);
        assert_eq!(NoAnswer::of_tls("Connection reset by peer (os error 104)"), NoAnswer::Closed);
        let quoting = format!("invalid peer certificate: UnknownIssuer: `{corrupt}`");
        assert_eq!(NoAnswer::of_tls(&quoting), NoAnswer::Tls(quoting.clone()));
    }

    #[test]
    fn each_failure_has_its_advice() {
        use NoAnswer::*;
        for failure in [
            UnknownName,
            DnsSilent,
            NoNetwork,
            Refused,
            ConnectTimeout,
            TlsTimeout,
            ReadTimeout,
            WriteTimeout,
            Silent,
            Closed,
            NotHttp,
            Http2,
            NotTls,
        ] {
            assert!(failure.advice("acme.example").is_some(), "{failure:?}");
            assert!(failure.predicate().contains(' '), "{failure:?}");
        }
        let of_issuer = UnknownName.advice("acme.authentication.eu10.hana.ondemand.com");
        assert!(of_issuer.is_some_and(|advice| advice.contains("subdomain")));
    }
}
