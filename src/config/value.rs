//! Parsers of single values. An error message names the accepted form.
//!
//! A message quotes the value only if that can't be a secret.

use http::{HeaderName, HeaderValue};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Longest duration of most settings.
pub(super) const HOUR: Duration = Duration::from_secs(3600);
/// The largest number of requests that can be configured.
pub(super) const MOST_REQUESTS: u32 = 1_000_000;
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// The index of a listener in [`Config::listen`](super::Config::listen).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub usize);

/// A version of TLS (RFC 5246, RFC 8446).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// An address to which callers connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP address; only with `access.allow_remote` one that is not loopback.
    Tcp(SocketAddr),
    /// A Unix socket with mode 0600, or 0666 with `uids`.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

/// Parses an address of `listen`. `remote` allows addresses that other machines reach.
pub(super) fn listen(text: &str, remote: bool) -> Result<ListenAddress, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        if !path.starts_with('/') {
            return Err(format!(
                "`{text}` needs an absolute path, for example unix:/run/bearerd/bearerd.sock"
            ));
        }
        return Ok(ListenAddress::Unix(path.into()));
    }
    let address = socket_address(text)?;
    if !remote && !address.ip().is_loopback() {
        return Err(format!(
            "{address} is not a loopback address: anyone who reaches it could use the tenant with the OAuth client's rights; listen on 127.0.0.1, [::1] or a Unix socket, or set access.allow_remote and a local credential"
        ));
    }
    Ok(ListenAddress::Tcp(address))
}

pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is not an IP address and port, for example 127.0.0.1:8080"))
}

pub(super) fn workers(text: &str) -> Result<usize, String> {
    if text == "auto" {
        return Ok(std::thread::available_parallelism().map_or(1, usize::from));
    }
    text.parse()
        .ok()
        .filter(|workers| (1..=256).contains(workers))
        .ok_or_else(|| format!("`{text}` is not a number from 1 to 256 or `auto`"))
}

/// Parses the path of a file or folder. A wrong one is not quoted: it may be the content of
/// the file.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.trim().is_empty() {
        return Err("is empty; give a path".into());
    }
    if text.starts_with(['{', '[', '"']) || text.contains(['\n', '\0']) || text.len() > 4096 {
        return Err("looks like file content, not a path; give the path of the file (`credentials` also takes env:NAME)".into());
    }
    Ok(text.into())
}

/// Parses a number of requests.
pub(super) fn requests(least: u32) -> impl Fn(&str) -> Result<u32, String> {
    move |text| {
        text.parse()
            .ok()
            .filter(|requests| (least..=MOST_REQUESTS).contains(requests))
            .ok_or_else(|| format!("`{text}` is not a number from {least} to {MOST_REQUESTS}"))
    }
}

/// Parses a host name as it stands in `Host`, without a port.
pub(super) fn host(text: &str) -> Result<String, String> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_address = inner.is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok());
    if is_address || !text.is_empty() && text.bytes().all(is_name) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(format!("`{text}` is not a host name, for example localhost or \"[::1]\", without a port"))
}

pub(super) fn uid(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("`{text}` is not a user id, for example 1000"))
}

/// Parses a switch. Some editors and tools write `on` as `true`.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" | "true" | "True" | "TRUE" => Ok(true),
        "off" | "false" | "False" | "FALSE" => Ok(false),
        other => Err(format!("`{other}` is not on or off, true or false")),
    }
}

/// Parses a duration from `least` to `most`.
pub(super) fn duration(
    least: Duration,
    most: Duration,
) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| {
        let shown = humantime::format_duration;
        let value = humantime::parse_duration(text).map_err(|_| {
            format!("`{text}` is not a duration with a unit, for example 300ms, 5s or 2m")
        })?;
        if value < least || value > most {
            return Err(format!("{text} is not between {} and {}", shown(least), shown(most)));
        }
        Ok(value)
    }
}

pub(super) fn fraction(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|fraction| (0.1..=0.9).contains(fraction))
        .ok_or_else(|| format!("`{text}` is not a fraction from 0.1 to 0.9"))
}

/// Parses a date as the first second of its day in UTC, so that the whole day counts as expired.
pub(super) fn date(text: &str) -> Result<SystemTime, String> {
    humantime::parse_rfc3339_weak(&format!("{text} 00:00:00"))
        .map_err(|_| format!("`{text}` is not a date, for example 2027-02-20"))
}

pub(super) fn non_empty(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("is empty; give a value".into());
    }
    Ok(text.to_owned())
}

/// Parses a size of a file.
pub(super) fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    let parsed = UNITS.iter().find_map(|(unit, bytes)| {
        text.strip_suffix(unit)?.trim().parse::<u64>().ok()?.checked_mul(*bytes)
    });
    let parsed = parsed.filter(|bytes| (1 << 10..=1 << 40).contains(bytes));
    parsed.ok_or_else(|| format!("`{text}` is not a size from 1KiB to 1024GiB, for example 64MiB"))
}

/// Parses a user name of HTTP Basic.
pub(super) fn username(text: &str) -> Result<String, String> {
    match text {
        text if text.contains(':') => Err("holds a colon, which HTTP Basic can't carry".into()),
        text => non_empty(text),
    }
}

/// The path of a route: plain segments, without a slash at the end.
pub(super) fn route_path(text: &str) -> Result<String, String> {
    let path = text.strip_suffix('/').unwrap_or(text);
    let is_plain = |segment: &str| {
        !segment.is_empty()
            && segment != "."
            && segment != ".."
            && segment.bytes().all(|byte| byte.is_ascii_graphic() && !b"%\\?#".contains(&byte))
    };
    match path.strip_prefix('/') {
        Some("") | None => Err(format!(
            "`{text}` must begin with `/` and have at least one segment, for example /api/v1/scim2"
        )),
        Some(segments) if !segments.split('/').all(is_plain) => Err(format!(
            "`{text}` must be plain segments: no `//`, `.`, `..`, `%`, `?`, `#`, `\\` or spaces"
        )),
        Some(_) => Ok(path.to_owned()),
    }
}

pub(super) fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    const RESERVED: [&str; 8] = [
        "authorization",
        "host",
        "connection",
        "content-length",
        "transfer-encoding",
        "te",
        "upgrade",
        "x-sap-sac-custom-auth",
    ];
    let name: HeaderName = name.parse().map_err(|_| format!("`{name}` is not a header name"))?;
    if RESERVED.contains(&name.as_str()) {
        return Err(format!("`{name}` is set by bearerd itself; leave it out"));
    }
    let value = HeaderValue::from_str(value)
        .map_err(|_| "holds characters that header values must not have".to_owned())?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_unix_sockets_may_be_listened_on() {
        assert!(listen("0.0.0.0:8080", true).is_ok());
        let listen = |text| listen(text, false);
        assert!(listen("127.0.0.1:8080").is_ok());
        assert!(listen("[::1]:8080").is_ok());
        assert!(listen("unix:/run/b.sock").is_ok());
        assert!(listen("0.0.0.0:8080").unwrap_err().contains("loopback"));
        assert!(listen("[::]:8080").unwrap_err().contains("loopback"));
        assert!(listen("unix:b.sock").unwrap_err().contains("absolute"));
        assert!(listen("localhost:8080").unwrap_err().contains("127.0.0.1:8080"));
    }

    #[test]
    fn durations_need_a_unit_and_keep_their_bounds() {
        let wait = duration(Duration::ZERO, Duration::from_secs(60));
        assert_eq!(wait("1m"), Ok(Duration::from_secs(60)));
        assert!(wait("61s").unwrap_err().contains("between"));
        assert!(wait("5").unwrap_err().contains("unit"));
    }

    #[test]
    fn a_date_is_its_first_second_in_utc() {
        let expiry = date("2027-02-20").unwrap();
        let seconds = expiry.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert_eq!(seconds, 1_803_081_600);
        assert!(date("20.02.2027").is_err());
    }
}
