//! The local guard: which callers may use the token. Pure.
//!
//! A caller of the sidecar has the rights of the Technical User. Only local tools may have them:
//! not a web page in a browser on the same machine, not a request to a name that an attacker
//! resolves to this address, and not another machine without a password.

use super::problem::Problem;
use super::stripped_headers::X_API_KEY;
use crate::error::ErrorKind;
use crate::secret::Secret;
use arc_swap::{ArcSwap, ArcSwapOption};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HOST, ORIGIN, REFERER};
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::RequestHeader;
use std::sync::Arc;

/// The header in which browsers say which site a request comes from (W3C Fetch Metadata).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// The largest number of header lines of a request. Tools send fewer.
const MOST_HEADERS: usize = 128;
/// The largest number of bytes of a request's header and target. SAP's front end allows 16 KiB.
pub(crate) const LONGEST_HEADER: usize = 64 * 1024;

/// Decides which callers are allowed. By default, callers that connect to a loopback address by one
/// of its names.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Allowed names in `Host`, without a port.
    hosts: Vec<String>,
    /// The local credential, if one is required. A change of its files replaces it.
    credential: Option<Arc<RequiredCredential>>,
}

/// The credential that callers must send.
#[derive(Debug)]
struct RequiredCredential {
    credential: ArcSwap<Credential>,
    /// Why the credential in use differs from its files.
    complaint: ArcSwapOption<String>,
}

/// A local credential: a caller must send one of its parts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Credential {
    /// User name and password of HTTP Basic, base64-encoded as in the header.
    basic: Option<Secret>,
    api_key: Option<Secret>,
}

/// The kind of listener that a request came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// Over TCP. A browser could have sent the request.
    Tcp,
    /// Over TCP with TLS. A browser could have sent the request.
    Tls,
    /// Over a Unix socket. Browsers cannot use one, and `Host` has no meaning.
    Unix,
}

impl Credential {
    /// Creates a local credential. Without any part, none is required.
    pub fn new(basic: Option<(&str, &Secret)>, api_key: Option<Secret>) -> Self {
        let encode = |(name, password): (&str, &Secret)| {
            Secret::new(STANDARD.encode(format!("{name}:{}", password.expose())))
        };
        Self { basic: basic.map(encode), api_key }
    }

    fn is_required(&self) -> bool {
        self.basic.is_some() || self.api_key.is_some()
    }

    /// Fills missing parts from another credential.
    fn or(self, other: &Self) -> Self {
        Self {
            basic: self.basic.or_else(|| other.basic.clone()),
            api_key: self.api_key.or_else(|| other.api_key.clone()),
        }
    }

    fn is_shown(&self, headers: &HeaderMap) -> bool {
        let same = |given: Option<&[u8]>, wanted: &Option<Secret>| match (given, wanted) {
            (Some(given), Some(wanted)) => {
                Secret::new(String::from_utf8_lossy(given).into_owned()) == *wanted
            }
            _ => false,
        };
        let basic = headers.get(AUTHORIZATION).and_then(|value| basic_of(value));
        // Both are compared, so that the time does not reveal which one matched.
        let api_key = headers.get(X_API_KEY).map(HeaderValue::as_bytes);
        same(basic, &self.basic) | same(api_key, &self.api_key)
    }
}

/// The credentials after `Basic`.
fn basic_of(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, rest) = value.as_bytes().split_at_checked(6)?;
    scheme.eq_ignore_ascii_case(b"basic ").then(|| rest.trim_ascii())
}

impl Guard {
    /// Creates a guard that allows these names in `Host`.
    pub fn new(hosts: &[String], credential: Credential) -> Self {
        let asked = |credential| {
            let credential = ArcSwap::from_pointee(credential);
            Arc::new(RequiredCredential { credential, complaint: ArcSwapOption::empty() })
        };
        let credential = credential.is_required().then_some(credential).map(asked);
        Self { hosts: hosts.to_vec(), credential }
    }

    /// Returns a guard for other names, which shares the credential.
    pub(crate) fn with_hosts(&self, hosts: &[String]) -> Self {
        Self { hosts: hosts.to_vec(), credential: self.credential.clone() }
    }

    /// Replaces the credential. A missing part stays as it is. Returns whether anything changed.
    pub(crate) fn renew(&self, found: Credential) -> bool {
        let Some(RequiredCredential { credential, .. }) = self.credential.as_deref() else {
            return false;
        };
        let before = credential.load_full();
        let renewed = found.or(&before);
        let is_new = renewed != *before;
        if is_new {
            credential.store(Arc::new(renewed));
        }
        is_new
    }

    /// Whether a local API key is required. It must not be sent upstream.
    pub(crate) fn takes_api_key(&self) -> bool {
        self.credential.as_ref().is_some_and(|asked| asked.credential.load().api_key.is_some())
    }

    /// Records why the credential in use differs from its files, or that it does not.
    pub(crate) fn set_complaint(&self, why: Option<&str>) {
        if let Some(asked) = &self.credential {
            asked.complaint.store(why.map(|why| Arc::new(why.to_owned())));
        }
    }

    /// Why the credential in use differs from its files, if it does.
    pub(crate) fn complaint(&self) -> Option<Arc<String>> {
        self.credential.as_ref()?.complaint.load_full()
    }

    /// Checks a request's header.
    ///
    /// # Errors
    /// The answer to a caller that is not allowed.
    pub(crate) fn check(&self, headers: &HeaderMap, entry: ListenerKind) -> Result<(), Problem> {
        match entry {
            ListenerKind::Tcp => self.check_browser(headers, "http://")?,
            ListenerKind::Tls => self.check_browser(headers, "https://")?,
            ListenerKind::Unix => {}
        }
        let Some(credential) = self.credential.as_ref().map(|asked| asked.credential.load()) else {
            return Ok(());
        };
        if !credential.is_shown(headers) {
            let wanted = match (&credential.basic, &credential.api_key) {
                (Some(_), None) => "a user name and a password (HTTP Basic)",
                (None, _) => "an API key in X-Api-Key",
                (Some(_), Some(_)) => "HTTP Basic, or an API key in X-Api-Key",
            };
            let is_sent = headers.contains_key(AUTHORIZATION) || headers.contains_key(X_API_KEY);
            let fault = if is_sent { "a wrong" } else { "no" };
            let detail = format!(
                "the request has {fault} local credential; send {wanted}, as `access` in bearerd's configuration sets it (it is not SAP's)"
            );
            let challenge = credential.basic.is_some();
            return Err(Problem { challenge, ..Problem::new(ErrorKind::AccessDenied, detail) });
        }
        Ok(())
    }

    /// Refuses what only a browser would send, or what a browser could be made to send.
    /// `scheme` begins the sidecar's own origin.
    fn check_browser(&self, headers: &HeaderMap, scheme: &str) -> Result<(), Problem> {
        let sent = BrowserHeaders::of(headers);
        // An HTTP/1.0 tool may send no `Host`; browsers always send one.
        let host = sent.host.and_then(|host| host.to_str().ok()).unwrap_or_default();
        if sent.host.is_some() && !self.knows(host) {
            let detail = format!(
                "the host name `{}` is not in `access.hosts`; use a name from that list, or add this one",
                name_of(host).escape_default()
            );
            return Err(Problem::new(ErrorKind::HostNotAllowed, detail));
        }
        let is_own = |authority: &str| !host.is_empty() && authority.eq_ignore_ascii_case(host);
        let after_scheme = |url: &HeaderValue| {
            url.to_str().ok().and_then(|url| url.strip_prefix(scheme)).map(str::to_owned)
        };
        let is_own_origin =
            |origin: &HeaderValue| after_scheme(origin).is_some_and(|rest| is_own(&rest));
        let is_own_page = |page: &HeaderValue| {
            let authority = |rest: String| is_own(rest.split(['/', '?', '#']).next().unwrap_or(""));
            // A partial URL (RFC 9110 section 10.1.3) names no site. Browsers do not send any.
            let is_partial = page.as_bytes().starts_with(b"/")
                && !matches!(page.as_bytes(), [_, b'/' | b'\\', ..]);
            page.is_empty() || is_partial || after_scheme(page).is_some_and(authority)
        };
        let is_elsewhere = if sent.is_modern {
            !headers.get_all(ORIGIN).iter().all(is_own_origin)
        } else {
            sent.has_referer && !headers.get_all(REFERER).iter().all(is_own_page)
        };
        if sent.is_foreign || is_elsewhere {
            let detail = "this request came from a web page of another site, or from an address typed into a browser; the sidecar refuses both; use a tool like curl (the status page is at `admin.listen`, by default http://127.0.0.1:8081)";
            return Err(Problem::new(ErrorKind::CrossSite, detail));
        }
        Ok(())
    }

    /// Whether a `Host` names this sidecar.
    pub(crate) fn knows(&self, host: &str) -> bool {
        let name = name_of(host);
        self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// What browsers send with a request, found in one pass: looking each name up costs more than
/// comparing a few names.
#[derive(Default)]
struct BrowserHeaders<'h> {
    host: Option<&'h HeaderValue>,
    /// Whether there is `Origin` or `Sec-Fetch-Site`. Older browsers send only `Referer`.
    is_modern: bool,
    has_referer: bool,
    /// Whether the request is for another site than the page's. `none` means that the user typed
    /// the address. It counts too: browsers still send it after that address redirects here.
    is_foreign: bool,
}

impl<'h> BrowserHeaders<'h> {
    fn of(headers: &'h HeaderMap) -> Self {
        let mut sent = Self::default();
        for (name, value) in headers {
            if *name == HOST {
                sent.host = sent.host.or(Some(value));
            } else if *name == ORIGIN {
                sent.is_modern = true;
            } else if *name == SEC_FETCH_SITE {
                sent.is_modern = true;
                sent.is_foreign |= value != "same-origin";
            } else if *name == REFERER {
                sent.has_referer = true;
            }
        }
        sent
    }
}

/// A `Host` without its port. A malformed one is returned whole, and matches no name.
pub(super) fn name_of(host: &str) -> &str {
    let (name, port) = match host.rfind(':') {
        Some(colon) if !host.ends_with(']') => host.split_at(colon),
        _ => (host, ""),
    };
    let is_port = port.is_empty() || port.bytes().skip(1).all(|byte| byte.is_ascii_digit());
    if is_port { name } else { host }
}

/// Checks the size of a request's header.
///
/// # Errors
/// The answer to a request whose header is too large.
pub(crate) fn check_size(request: &RequestHeader) -> Result<(), Problem> {
    let headers = &request.headers;
    let length = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    let whole = request.raw_path().len() + headers.iter().map(length).sum::<usize>();
    if headers.len() > MOST_HEADERS || whole > LONGEST_HEADER {
        return Err(too_large());
    }
    Ok(())
}

/// The answer to a header that is too large.
pub(crate) fn too_large() -> Problem {
    let detail = format!(
        "the request's header has more than {MOST_HEADERS} lines, or more than 64 KiB with its target; send a smaller one"
    );
    Problem::new(ErrorKind::HeaderTooLarge, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(credential: Credential) -> Guard {
        Guard::new(&["localhost".into(), "127.0.0.1".into(), "[::1]".into()], credential)
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn kind(guard: &Guard, pairs: &[(&'static str, &str)]) -> Option<ErrorKind> {
        guard.check(&headers(pairs), ListenerKind::Tcp).err().map(|problem| problem.kind)
    }

    #[test]
    fn only_names_of_the_list_are_allowed() {
        let guard = guard(Credential::default());
        for known in ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080", "[::1]"] {
            assert_eq!(kind(&guard, &[("host", known)]), None, "{known}");
        }
        for other in [
            "evil.example",
            "localhost.evil.example",
            "localhost:8080.evil.example",
            "evil.example:8080",
            "127.0.0.1.evil.example",
            "",
            "::1",
            "localhost:x",
            "127.1",
            "2130706433",
            "localhost.",
            "a@localhost",
        ] {
            let refused = Some(ErrorKind::HostNotAllowed);
            assert_eq!(kind(&guard, &[("host", other)]), refused, "{other}");
        }
        assert_eq!(kind(&guard, &[]), None, "HTTP/1.0");
        let page = [("origin", "http://")];
        assert_eq!(kind(&guard, &page), Some(ErrorKind::CrossSite));
        let unix = guard.check(&headers(&[("host", "whatever")]), ListenerKind::Unix);
        assert!(unix.is_ok(), "no browser can use a Unix socket");
    }

    #[test]
    fn pages_of_other_sites_are_refused_and_tools_are_not() {
        let guard = guard(Credential::default());
        let host = ("host", "localhost:8080");
        for allowed in [
            ("origin", "http://localhost:8080"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-mode", "cors"),
            ("user-agent", "Mozilla/5.0"),
        ] {
            assert_eq!(kind(&guard, &[host, allowed]), None, "{allowed:?}");
        }
        for refused in [
            ("origin", "http://evil.example"),
            ("origin", "https://localhost:8080"),
            ("origin", "http://localhost:8081"),
            ("origin", "http://localhost"),
            ("origin", "null"),
            ("origin", ""),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", "none"),
            ("sec-fetch-site", "Same-Origin, cross-site"),
        ] {
            assert_eq!(kind(&guard, &[host, refused]), Some(ErrorKind::CrossSite), "{refused:?}");
        }
        for allowed in [
            "http://localhost:8080/",
            "http://LOCALHOST:8080/a?b#c",
            "http://localhost:8080",
            "/a",
            "",
        ] {
            assert_eq!(kind(&guard, &[host, ("referer", allowed)]), None, "{allowed}");
        }
        for refused in [
            "http://evil.example/localhost:8080",
            "https://localhost:8080/",
            "http://localhost:8081/",
            "http://localhost/",
            "http://localhost:8080.evil.example/",
            "http://localhost:8080@evil.example/",
            "http://evil.example/?http://localhost:8080/",
            "about:blank",
            "//evil.example/",
        ] {
            let referer = [host, ("referer", refused)];
            assert_eq!(kind(&guard, &referer), Some(ErrorKind::CrossSite), "{refused}");
            let unix = guard.check(&headers(&referer), ListenerKind::Unix);
            assert!(unix.is_ok(), "no browser can use a Unix socket");
        }
        let newer =
            [host, ("origin", "http://localhost:8080"), ("referer", "http://evil.example/")];
        assert_eq!(kind(&guard, &newer), None, "a browser that says its origin is believed");
        let own = ("origin", "http://localhost:8080");
        let two = [host, own, ("origin", "http://evil.example")];
        assert_eq!(kind(&guard, &two), Some(ErrorKind::CrossSite), "all of them count");
    }

    #[test]
    fn a_local_credential_is_needed_whole_where_one_is_configured() {
        let password = Secret::new("s3:cret".into());
        let key = || Some(Secret::new("key-1".into()));
        let host = ("host", "localhost");
        let right = format!("bAsIc {}", STANDARD.encode("tool:s3:cret"));
        let wrong = format!("Basic {}", STANDARD.encode("tool:s3:creT"));
        let basic = guard(Credential::new(Some(("tool", &password)), None));
        assert_eq!(kind(&basic, &[host, ("authorization", &right)]), None);
        for refused in ["Bearer x", "Basic", "Basic ", &*wrong, "Basic !!!"] {
            let refusal = kind(&basic, &[host, ("authorization", refused)]);
            assert_eq!(refusal, Some(ErrorKind::AccessDenied), "{refused}");
        }
        assert!(basic.check(&headers(&[host]), ListenerKind::Unix).unwrap_err().challenge);
        let either = guard(Credential::new(Some(("tool", &password)), key()));
        assert_eq!(kind(&either, &[host, ("authorization", &right)]), None);
        assert_eq!(kind(&either, &[host, ("x-api-key", "key-1"), ("authorization", &wrong)]), None);
        let keyed = guard(Credential::new(None, key()));
        assert_eq!(kind(&keyed, &[host, ("x-api-key", "key-1")]), None);
        assert_eq!(kind(&keyed, &[host, ("x-api-key", "key-")]), Some(ErrorKind::AccessDenied));
        assert!(!keyed.check(&headers(&[host]), ListenerKind::Tcp).unwrap_err().challenge);
    }

    #[test]
    fn a_header_that_is_too_large_is_refused() {
        let kind = |target: &str, lines: &[(&'static str, &str)]| {
            let mut request = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
            for (name, value) in lines {
                request.append_header(*name, *value).unwrap();
            }
            check_size(&request).err().map(|problem| problem.kind)
        };
        let long = "x".repeat(LONGEST_HEADER);
        let refused = Some(ErrorKind::HeaderTooLarge);
        assert_eq!(kind("/", &[("host", "localhost"), ("x-long", &long)]), refused);
        let half = "x".repeat(LONGEST_HEADER / 2);
        assert_eq!(kind(&format!("/{half}"), &[("x-half", &half)]), refused);
        let mut many = vec![("host", "localhost")];
        many.resize(MOST_HEADERS + 1, ("x-many", "1"));
        assert_eq!(kind("/", &many), refused);
        many.pop();
        assert_eq!(kind("/", &many), None);
    }
}
