//! The local guard: which callers may use the token. Pure.
//!
//! A caller of the sidecar has the rights of the Technical User. Only local tools may have them:
//! not a web page in a browser on the same machine, not a request to a name that an attacker
//! resolves to this address, and not another machine without a password.

use super::credentials::{Credential, Credentials, Identified, Who};
use super::peer::Peer;
use super::problem::Problem;
use super::stripped_headers::X_API_KEY;
use crate::error::ErrorKind;
use arc_swap::{ArcSwap, ArcSwapOption};
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
    /// The allowed names that are those of tenants. A browser on this machine may have pages of
    /// the tenant.
    tenants: Vec<String>,
    /// The credentials of callers, if one is required. A change of their files replaces them.
    credentials: Option<Arc<RequiredCredentials>>,
}

/// The credentials of callers, each of which must send one.
#[derive(Debug)]
struct RequiredCredentials {
    credentials: ArcSwap<Credentials>,
    /// Why the credentials in use differ from their files.
    complaint: ArcSwapOption<String>,
}

impl Guard {
    /// Creates a guard that allows these names in `Host`.
    pub fn new(hosts: &[String], credentials: Credentials) -> Self {
        let required = |credentials| {
            let credentials = ArcSwap::from_pointee(credentials);
            Arc::new(RequiredCredentials { credentials, complaint: ArcSwapOption::empty() })
        };
        let credentials = credentials.is_required().then_some(credentials).map(required);
        Self { hosts: hosts.to_vec(), tenants: Vec::new(), credentials }
    }

    /// Refuses pages of these hosts, too.
    #[must_use]
    pub fn refusing_pages_of(self, tenants: Vec<String>) -> Self {
        Self { tenants, ..self }
    }

    /// Returns a guard for other names, which shares the credentials.
    pub(crate) fn with_hosts(&self, hosts: &[String]) -> Self {
        let (tenants, credentials) = (Vec::new(), self.credentials.clone());
        Self { hosts: hosts.to_vec(), tenants, credentials }
    }

    /// Replaces the credentials. A missing part stays as it is, and so does one that two callers
    /// would have in common. Returns whether anything changed, and the pairs of those callers.
    pub(crate) fn renew(&self, found: Credentials) -> (bool, Vec<(Who, Who)>) {
        let Some(RequiredCredentials { credentials, .. }) = self.credentials.as_deref() else {
            return (false, Vec::new());
        };
        let before = credentials.load_full();
        let (renewed, shared) = found.replacing(&before);
        let is_new = renewed != *before;
        if is_new {
            credentials.store(Arc::new(renewed));
        }
        (is_new, shared)
    }

    /// Whether callers present API keys. They must not be sent upstream.
    pub(crate) fn takes_api_key(&self) -> bool {
        let has_keys = |credential: &Credential| !credential.keys.is_empty();
        self.credentials.as_ref().is_some_and(|it| it.credentials.load().any_has(has_keys))
    }

    /// Records why the credentials in use differ from their files, or that they do not.
    pub(crate) fn set_complaint(&self, why: Option<&str>) {
        if let Some(required) = &self.credentials {
            required.complaint.store(why.map(|why| Arc::new(why.to_owned())));
        }
    }

    /// Why the credentials in use differ from their files, if they do.
    pub(crate) fn complaint(&self) -> Option<Arc<String>> {
        self.credentials.as_ref()?.complaint.load_full()
    }

    /// Checks a request's header. Returns its caller; `None` if no credential is configured.
    ///
    /// # Errors
    /// The answer to a caller that is not allowed.
    pub(crate) fn check(&self, headers: &HeaderMap, peer: &Peer) -> Result<Option<Who>, Problem> {
        match peer {
            Peer::Tcp => self.check_browser(headers, "http://")?,
            Peer::Tls { .. } => self.check_browser(headers, "https://")?,
            Peer::Unix { .. } => {}
        }
        let Some(credentials) = self.credentials.as_ref().map(|it| it.credentials.load()) else {
            return Ok(None);
        };
        match credentials.identify(headers, peer) {
            Identified::One(who) => Ok(Some(who)),
            Identified::Nobody => Err(unknown_caller(&credentials, headers)),
            Identified::TooMany => {
                let detail = "the request has more than two lines of X-Api-Key or of Authorization; send one of each at most";
                Err(Problem::new(ErrorKind::CallerNotAllowed, detail))
            }
            Identified::Several => {
                let detail = "the request has credentials of different callers (X-Api-Key, HTTP Basic, certificate, user id); send those of one caller";
                Err(Problem::new(ErrorKind::CallerNotAllowed, detail))
            }
        }
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
        let name = name_of(host);
        let is_tenant = self.tenants.iter().any(|tenant| tenant.eq_ignore_ascii_case(name));
        if is_tenant && (sent.is_modern || sent.has_referer) {
            let detail = "this request came from a web page of the tenant; under the tenant's own name, the sidecar serves tools only; open the page on another machine, or without the entry of the hosts file";
            return Err(Problem::new(ErrorKind::CrossSite, detail));
        }
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

/// The answer to a request that is from no caller.
fn unknown_caller(credentials: &Credentials, headers: &HeaderMap) -> Problem {
    let challenge = credentials.any_has(|credential| credential.username.is_some());
    let takes_key = credentials.any_has(|credential| !credential.keys.is_empty());
    let wanted = match (challenge, takes_key) {
        (true, false) => "a user name and a password (HTTP Basic)",
        (false, true) => "an API key in X-Api-Key",
        (true, true) => "HTTP Basic, or an API key in X-Api-Key",
        (false, false) => {
            "a valid certificate of a caller, or connect to the Unix socket as a caller's user"
        }
    };
    let is_certified = |credential: &Credential| credential.certificate.is_some();
    let or_certificate = match (challenge || takes_key) && credentials.any_has(is_certified) {
        true => ", or a valid certificate",
        false => "",
    };
    let key = if credentials.callers.is_empty() { "`access`" } else { "`callers`" };
    let is_sent = headers.contains_key(AUTHORIZATION) || headers.contains_key(X_API_KEY);
    let fault = if is_sent { "a wrong" } else { "no" };
    let detail = format!(
        "the request has {fault} local credential; send {wanted}{or_certificate}, as {key} in bearerd's configuration sets it (it is not SAP's)"
    );
    Problem { challenge, ..Problem::new(ErrorKind::AccessDenied, detail) }
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
    use crate::caller_secret::SecretDigest;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    fn guard(credentials: Credentials) -> Guard {
        Guard::new(&["localhost".into(), "127.0.0.1".into(), "[::1]".into()], credentials)
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn kind(guard: &Guard, pairs: &[(&'static str, &str)]) -> Option<ErrorKind> {
        guard.check(&headers(pairs), &Peer::Tcp).err().map(|problem| problem.kind)
    }

    #[test]
    fn only_names_of_the_list_are_allowed() {
        let guard = guard(Credentials::default());
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
        let unix = guard.check(&headers(&[("host", "whatever")]), &Peer::Unix { uid: None });
        assert!(unix.is_ok(), "no browser can use a Unix socket");
    }

    #[test]
    fn pages_of_other_sites_are_refused_and_tools_are_not() {
        let guard = guard(Credentials::default());
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
            let unix = guard.check(&headers(&referer), &Peer::Unix { uid: None });
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
    fn under_the_tenants_name_no_page_is_served_and_tools_are() {
        let guard =
            Guard::new(&["localhost".into(), "acme.example".into()], Credentials::default());
        let guard = guard.refusing_pages_of(vec!["acme.example".into()]);
        let host = ("host", "ACME.example");
        assert_eq!(kind(&guard, &[host, ("user-agent", "curl")]), None);
        for line in [
            ("origin", "http://ACME.example"),
            ("sec-fetch-site", "same-origin"),
            ("referer", "http://acme.example/page"),
        ] {
            assert_eq!(kind(&guard, &[host, line]), Some(ErrorKind::CrossSite), "{line:?}");
        }
        assert_eq!(kind(&guard, &[("host", "localhost"), ("sec-fetch-site", "same-origin")]), None);
    }

    #[test]
    fn a_local_credential_is_needed_whole_where_one_is_configured() {
        let digests = |text: &str| vec![SecretDigest::of(text.as_bytes())];
        let user = || Credential {
            username: Some("tool".into()),
            passwords: digests("s3:cret"),
            ..Credential::default()
        };
        let guard = |unnamed| guard(Credentials { unnamed: Some(unnamed), callers: Vec::new() });
        let host = ("host", "localhost");
        let right = format!("bAsIc {}", STANDARD.encode("tool:s3:cret"));
        let wrong = format!("Basic {}", STANDARD.encode("tool:s3:creT"));
        let basic = guard(user());
        assert_eq!(kind(&basic, &[host, ("authorization", &right)]), None);
        for refused in ["Bearer x", "Basic", "Basic ", &*wrong, "Basic !!!"] {
            let refusal = kind(&basic, &[host, ("authorization", refused)]);
            assert_eq!(refusal, Some(ErrorKind::AccessDenied), "{refused}");
        }
        let unix = Peer::Unix { uid: None };
        assert!(basic.check(&headers(&[host]), &unix).unwrap_err().challenge);
        let either = guard(Credential { keys: digests("key-1"), ..user() });
        assert_eq!(kind(&either, &[host, ("authorization", &right)]), None);
        assert_eq!(kind(&either, &[host, ("x-api-key", "key-1"), ("authorization", &wrong)]), None);
        let keyed = guard(Credential { keys: digests("key-1"), ..Credential::default() });
        assert_eq!(kind(&keyed, &[host, ("x-api-key", "key-1")]), None);
        assert_eq!(kind(&keyed, &[host, ("x-api-key", "key-")]), Some(ErrorKind::AccessDenied));
        assert!(!keyed.check(&headers(&[host]), &Peer::Tcp).unwrap_err().challenge);
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
