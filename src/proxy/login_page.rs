//! What a login page of the tenant looks like: its redirect, its cookies, its first bytes. Pure.

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::HeaderMap;
use http::header::{LOCATION, SET_COOKIE};
use std::borrow::Cow;
use std::io::Read;
use url::{Host, Url};

/// How much of a body is checked. SAP's login page is shorter than 2 KiB.
pub(crate) const PEEK: usize = 4096;

/// Cookies of the front end's login page, which lead back after the login.
const LOGIN_COOKIES: [&str; 2] = ["locationAfterLogin", "fragmentAfterLogin"];
/// Paths of logins: XSUAA, and identity services with OpenID Connect.
const AUTHORIZE_PATHS: [&str; 2] = ["/oauth/authorize", "/oauth2/authorize"];
/// The parameter of a SAML login, in a query or in a form that submits itself.
const SAML_REQUEST: &str = "SAMLRequest";
/// Domains of SAP's identity service. Its pages are logins.
const LOGIN_HOSTS: [&str; 2] = [".accounts.ondemand.com", ".accounts.cloud.sap"];

/// Whether a redirect leads to a login.
pub(super) fn leads_to_login(response: &HeaderMap) -> bool {
    let Some(location) = response.get(LOCATION) else {
        return false;
    };
    let location = String::from_utf8_lossy(location.as_bytes());
    // Any base is good enough for a relative location: only its path matters.
    let base = Url::parse("https://upstream.invalid/").ok();
    let Ok(url) = Url::options().base_url(base.as_ref()).parse(&location) else {
        return false;
    };
    let is_issuer = match url.host() {
        Some(Host::Domain(name)) => {
            name.split('.').skip(1).any(|label| label == "authentication")
                || LOGIN_HOSTS.iter().any(|known| name.ends_with(known))
        }
        _ => false,
    };
    is_issuer
        || AUTHORIZE_PATHS.iter().any(|path| url.path().ends_with(path))
        || url.query_pairs().any(|(name, _)| name == SAML_REQUEST)
}

/// Whether an answer sets a cookie of the login page.
pub(super) fn sets_login_cookie(response: &HeaderMap) -> bool {
    response.get_all(SET_COOKIE).iter().any(|value| {
        let name = value.to_str().unwrap_or_default().split('=').next().unwrap_or_default();
        LOGIN_COOKIES.contains(&name.trim())
    })
}

/// Whether the first bytes of an HTML page are those of a login page.
pub(crate) fn is_login_page(start: &[u8]) -> bool {
    // In UTF-16, each second byte is zero; in scripts, a slash may be escaped.
    let plain: Vec<u8> = start.iter().copied().filter(|byte| !matches!(byte, 0 | b'\\')).collect();
    let text = String::from_utf8_lossy(&plain);
    let mut signs = AUTHORIZE_PATHS.iter().chain(&LOGIN_COOKIES).chain([&SAML_REQUEST]);
    signs.any(|sign| text.contains(sign))
}

/// The beginning of a body, decompressed if it is gzip.
pub(super) fn inflated(start: &[u8]) -> Cow<'_, [u8]> {
    if !start.starts_with(&[0x1f, 0x8b]) {
        return start.into();
    }
    let mut plain = Vec::new();
    let most = u64::try_from(PEEK).unwrap_or_default();
    // The input may end anywhere.
    let _ = GzDecoder::new(start).take(most).read_to_end(&mut plain);
    plain.into()
}

/// The beginnings of HTML pages, in lower case.
const PAGE_STARTS: [&[u8]; 5] = [b"<!doctype html", b"<html", b"<head", b"<script", b"<!--"];

/// Whether a body begins like an HTML page.
pub(crate) fn is_html_page(start: &[u8]) -> bool {
    let start = first_letters(start);
    PAGE_STARTS.iter().any(|known| {
        start.get(..known.len()).is_some_and(|start| start.eq_ignore_ascii_case(known))
    })
}

/// Whether a body whose rest is unknown may begin like an HTML page.
pub(super) fn may_be_html_page(start: &[u8]) -> bool {
    let start = first_letters(start);
    PAGE_STARTS.iter().any(|known| {
        let common = known.len().min(start.len());
        known.get(..common).zip(start.get(..common)).is_some_and(|(a, b)| a.eq_ignore_ascii_case(b))
    })
}

/// A body without byte order mark and leading white space.
fn first_letters(start: &[u8]) -> &[u8] {
    start.strip_prefix("\u{feff}".as_bytes()).unwrap_or(start).trim_ascii_start()
}

/// Whether a body that begins with `start` and this chunk is a login page, or `None` if more of it
/// is needed. Keeps in `start` what the next call needs.
pub(super) fn check_page_start(start: &mut Vec<u8>, chunk: &Bytes) -> Option<bool> {
    let room = PEEK.saturating_sub(start.len()).min(chunk.len());
    let chunk = chunk.get(..room).unwrap_or_default();
    // Nearly always, the first bytes already show that it is not a page, and nothing is copied.
    if !start.is_empty() || may_be_html_page(&inflated(chunk)) {
        start.extend_from_slice(chunk);
    }
    let is_over = start.is_empty() && !chunk.is_empty() || start.len() >= PEEK;
    let plain = inflated(start);
    let is_login = is_html_page(&plain) && is_login_page(&plain);
    let is_known = is_login || is_over || !may_be_html_page(&plain);
    is_known.then_some(is_login)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    #[test]
    fn a_login_page_is_known_by_its_first_bytes() {
        let utf_16: Vec<u8> = "<a href='/oauth/authorize'>".bytes().flat_map(|b| [b, 0]).collect();
        for page in [
            &b"<html><script>location='https://x/oauth/authorize?a'</script></html>"[..],
            b"<script>document.cookie=\"fragmentAfterLogin=\"</script>",
            b"<script>location='https:\\/\\/x\\/oauth\\/authorize'</script>",
            b"<form><input type='hidden' name='SAMLRequest' value='x'></form>",
            &utf_16,
        ] {
            assert!(is_login_page(page), "{}", String::from_utf8_lossy(page));
        }
        assert!(!is_login_page(b"<html><body>A report</body></html>"));
    }

    #[test]
    fn the_beginning_of_a_compressed_page_is_enough() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(b"<html>/oauth/authorize</html>").unwrap();
        encoder.flush().unwrap();
        assert!(is_login_page(&inflated(encoder.get_ref())));
        assert_eq!(*inflated(&encoder.get_ref()[..8]), *b"");
        assert_eq!(*inflated(b"\x1f\x8bnonsense"), *b"");
        assert_eq!(*inflated(b"plain"), *b"plain");
        let bomb = std::iter::repeat_n(0, 1 << 20).collect::<Vec<u8>>();
        encoder.write_all(&bomb).unwrap();
        assert_eq!(inflated(&encoder.finish().unwrap()).len(), PEEK);
    }

    #[test]
    fn a_page_is_known_by_how_it_begins() {
        for page in ["<html>", "\u{feff} \r\n<!DOCTYPE HTML PUBLIC", "<head lang=x>", "<!-- x -->"]
        {
            assert!(is_html_page(page.as_bytes()) && may_be_html_page(page.as_bytes()), "{page}");
        }
        for start in ["", "\u{feff}", " ", "<", "<!doc", "<HT"] {
            assert!(!is_html_page(start.as_bytes()) && may_be_html_page(start.as_bytes()));
        }
        for other in ["{", "<?xml version='1.0'?>", "<feed>", "html", "<htm>"] {
            assert!(!may_be_html_page(other.as_bytes()), "{other}");
        }
    }
}
