//! Adapts the upstream's cookies so that callers return them to the sidecar, and restores them.
//! Pure.
//!
//! A caller returns a cookie only where its attributes allow it. Without changes, cookies for the
//! tenant's domain or for a stripped path never come back, and `Secure` ones never over plain HTTP.
//! A caller that manages CSRF itself would then always be refused.

use http::HeaderValue;
use http::header::{COOKIE, SET_COOKIE};
use pingora::http::{RequestHeader, ResponseHeader};
use std::borrow::Borrow;

/// The prefix of a renamed cookie; the upstream's name follows.
const MARK: &[u8] = b"bearerd.";
/// Prefixes of cookie names, in lower case, that are accepted over TLS only (RFC 6265bis section
/// 4.1.3; `__Http-` is of its successor).
const TLS_ONLY: [&[u8]; 3] = [b"__host-", b"__secure-", b"__http-"];

/// How the caller's side of the sidecar differs from the upstream.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallerSide<'a> {
    /// Whether callers connect over TLS.
    pub(super) is_tls: bool,
    /// The upstream's host.
    pub(super) upstream: &'a str,
    /// The path prefix that is stripped from requests.
    pub(super) prefix: Option<&'a str>,
}

/// Adapts the cookies of an answer so that the caller returns them.
pub(super) fn adapt(response: &mut ResponseHeader, side: CallerSide<'_>) {
    if !response.headers.contains_key(SET_COOKIE) {
        return;
    }
    let values: Vec<HeaderValue> = response.headers.get_all(SET_COOKIE).iter().cloned().collect();
    response.remove_header(&SET_COOKIE);
    for value in values {
        let adapted = HeaderValue::from_bytes(&adapted(value.as_bytes(), side));
        // Parts of a valid value are valid.
        let _ = response.append_header(SET_COOKIE, adapted.unwrap_or(value));
    }
}

/// Adapts one `Set-Cookie`, as bytes: a header may hold more than text.
fn adapted(cookie: &[u8], side: CallerSide<'_>) -> Vec<u8> {
    let mut parts = cookie.split(|byte| *byte == b';');
    let pair = parts.next().unwrap_or_default();
    let name = name_of(pair);
    let mut kept: Vec<u8> = Vec::with_capacity(cookie.len() + MARK.len());
    if !side.is_tls && name.is_some_and(is_renamed) {
        kept.extend_from_slice(MARK);
        kept.extend_from_slice(pair.trim_ascii_start());
    } else {
        kept.extend_from_slice(pair);
    }
    // Over TLS, a cookie with this prefix must have the path `/`.
    let is_rooted = side.is_tls && name.is_some_and(|name| begins_like(name, TLS_ONLY[0]));
    for part in parts {
        let (attribute, value) = split(part);
        let is = |known: &str| attribute.eq_ignore_ascii_case(known.as_bytes());
        let needs_tls = is("secure")
            || is("partitioned")
            || is("samesite") && value.eq_ignore_ascii_case(b"none");
        if !side.is_tls && needs_tls || is("domain") && covers(value, side.upstream) {
            continue;
        }
        kept.push(b';');
        match side.prefix {
            Some(prefix) if is("path") && !is_rooted && is_absolute(value) => {
                kept.extend_from_slice(b" Path=");
                kept.extend_from_slice(prefix.as_bytes());
                kept.extend_from_slice(value);
            }
            _ => kept.extend_from_slice(part),
        }
    }
    kept
}

/// Restores the names of renamed cookies in a request. Over TLS no cookie is renamed: a renamed one
/// is another listener's, and is dropped.
pub(super) fn restore(request: &mut RequestHeader, is_tls: bool) -> pingora::Result<()> {
    let has_renamed = |value: &HeaderValue| memchr::memmem::find(value.as_bytes(), MARK).is_some();
    if !request.headers.get_all(COOKIE).iter().any(has_renamed) {
        return Ok(());
    }
    let values: Vec<HeaderValue> = request.headers.get_all(COOKIE).iter().cloned().collect();
    let mut pairs: Vec<&[u8]> = pairs(&values).collect();
    if is_tls {
        pairs.retain(|pair| original(pair).is_none());
        return set(request, &pairs);
    }
    let restored: Vec<&[u8]> = pairs.iter().filter_map(|pair| original(pair)).collect();
    // A cookie of the same name that the upstream did not set is dropped.
    let is_doubled = |pair: &[u8]| {
        name_of(pair).is_some_and(|name| restored.iter().any(|own| name_of(own) == Some(name)))
    };
    let kept = pairs.iter().filter_map(|pair| match original(pair) {
        Some(own) => Some(own),
        None => (!is_doubled(pair)).then_some(*pair),
    });
    set(request, &kept.collect::<Vec<_>>())
}

/// Makes these pairs the only cookies of a request.
pub(super) fn set(request: &mut RequestHeader, pairs: &[impl Borrow<[u8]>]) -> pingora::Result<()> {
    let mut value = HeaderValue::from_bytes(&pairs.join(&b"; "[..])).map_err(|error| {
        pingora::Error::because(pingora::ErrorType::InternalError, "invalid cookie", error)
    })?;
    value.set_sensitive(true);
    request.insert_header(COOKIE, value)
}

/// The pairs in the values of `Cookie` headers.
pub(super) fn pairs(values: &[HeaderValue]) -> impl Iterator<Item = &[u8]> {
    values
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b';'))
        .map(<[u8]>::trim_ascii)
}

/// The upstream's version of a pair of a `Cookie` header, if it was renamed.
fn original(pair: &[u8]) -> Option<&[u8]> {
    let original = pair.strip_prefix(MARK)?;
    name_of(original).is_some_and(is_renamed).then_some(original)
}

/// Whether a cookie of this name is renamed for callers. One whose own name begins with the mark is
/// renamed, too, so that every renaming can be reversed.
fn is_renamed(name: &[u8]) -> bool {
    name.starts_with(MARK) || TLS_ONLY.iter().any(|prefix| begins_like(name, prefix))
}

fn begins_like(name: &[u8], prefix: &[u8]) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// The name of a pair, if it has an `=`.
fn name_of(pair: &[u8]) -> Option<&[u8]> {
    let end = memchr::memchr(b'=', pair)?;
    pair.get(..end).map(<[u8]>::trim_ascii)
}

/// An attribute's name and value. Without `=`, the value is empty.
fn split(attribute: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(b'=', attribute).unwrap_or(attribute.len());
    let (name, value) = attribute.split_at_checked(end).unwrap_or((attribute, b""));
    (name.trim_ascii(), value.strip_prefix(b"=").unwrap_or(value).trim_ascii())
}

/// Whether a path can follow a prefix.
fn is_absolute(path: &[u8]) -> bool {
    path.starts_with(b"/") && !path.starts_with(b"//")
}

/// Whether a cookie's domain includes the upstream's host.
fn covers(domain: &[u8], upstream: &str) -> bool {
    let domain = domain.strip_prefix(b".").unwrap_or(domain);
    let Some(start) = upstream.len().checked_sub(domain.len()) else {
        return false;
    };
    let (before, end) = upstream.as_bytes().split_at_checked(start).unwrap_or_default();
    !domain.is_empty()
        && end.eq_ignore_ascii_case(domain)
        && (before.is_empty() || before.ends_with(b"."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: CallerSide<'_> =
        CallerSide { is_tls: false, upstream: "acme.example", prefix: None };

    fn set(cookie: &str, side: CallerSide<'_>) -> String {
        let mut response = ResponseHeader::build(200, None).unwrap();
        response.append_header(SET_COOKIE, cookie).unwrap();
        adapt(&mut response, side);
        response.headers[SET_COOKIE].to_str().unwrap().to_owned()
    }

    fn sent(cookies: &[&str]) -> Vec<String> {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for cookie in cookies {
            request.append_header(COOKIE, *cookie).unwrap();
        }
        restore(&mut request, false).unwrap();
        let all = request.headers.get_all(COOKIE).iter();
        all.map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn over_plain_http_a_cookie_loses_the_attributes_that_require_tls() {
        for (given, kept) in [
            ("a=b; Path=/; Secure; HttpOnly", "a=b; Path=/; HttpOnly"),
            ("a=b;SECURE;samesite=NONE;path=/", "a=b;path=/"),
            ("a=b; SameSite=Lax; Partitioned; Secure=1", "a=b; SameSite=Lax"),
            ("a=b; Secure ; SameSite = None", "a=b"),
            ("secure=b; Max-Age=3", "secure=b; Max-Age=3"),
            ("a=Secure", "a=Secure"),
            ("Secure; Path=/", "Secure; Path=/"),
        ] {
            assert_eq!(set(given, PLAIN), kept);
            assert_eq!(set(given, CallerSide { is_tls: true, ..PLAIN }), given);
        }
    }

    #[test]
    fn over_tls_a_cookie_of_a_listener_without_tls_is_dropped() {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        request.append_header(COOKIE, "bearerd.__Host-a=planted; __Host-a=own; b=c").unwrap();
        restore(&mut request, true).unwrap();
        assert_eq!(request.headers[COOKIE], "__Host-a=own; b=c");
    }

    #[test]
    fn a_name_that_requires_tls_is_renamed_and_restored() {
        for name in ["__Host-a", "__Secure-a", "__hOST-a", "__SECURE-", "__Http-a", "__Host-Http-a"]
        {
            let given = format!("{name}=b=c; Path=/; Secure");
            let caller = format!("bearerd.{name}=b=c");
            assert_eq!(set(&given, PLAIN), format!("{caller}; Path=/"));
            assert_eq!(set(&given, CallerSide { is_tls: true, ..PLAIN }), given);
            assert_eq!(sent(&[&caller]), [format!("{name}=b=c")]);
        }
        assert_eq!(set(" __Host-a =b", PLAIN), "bearerd.__Host-a =b");
        for other in ["_Host-a=b", "__Hosta=b", "a__Host-=b", "__Host-a"] {
            assert_eq!(set(other, PLAIN), other);
        }
    }

    #[test]
    fn a_callers_own_cookie_is_never_taken_for_a_renamed_one() {
        for own in ["a=b", "bearerd.a=b", "__Host-a=b", "bearerd.__Host-a", "x=bearerd.__Host-a=b"]
        {
            assert_eq!(sent(&[own]), [own]);
        }
        // A cookie whose own name looks renamed is renamed, too.
        let nested = set("bearerd.__Host-a=b", PLAIN);
        assert_eq!(nested, "bearerd.bearerd.__Host-a=b");
        assert_eq!(sent(&[&nested]), ["bearerd.__Host-a=b"]);
        assert_eq!(set("bearerd.a=b", PLAIN), "bearerd.bearerd.a=b");
        assert_eq!(
            sent(&["__Host-a=own; c=d", "bearerd.__Host-a=theirs;__Host-A=other"]),
            ["c=d; __Host-a=theirs; __Host-A=other"]
        );
    }

    #[test]
    fn a_cookie_of_the_tenants_domain_or_of_a_stripped_path_comes_back() {
        assert_eq!(set("a=b; Domain=acme.example; Path=/", PLAIN), "a=b; Path=/");
        assert_eq!(set("a=b; domain=.EXAMPLE; Path=/", PLAIN), "a=b; Path=/");
        for other in ["a=b; Domain=other.example", "a=b; Domain=me.example", "a=b; Domain="] {
            assert_eq!(set(other, PLAIN), other);
        }
        assert_eq!(set("domain=acme.example; Path=/x", PLAIN), "domain=acme.example; Path=/x");
        let cut = CallerSide { prefix: Some("/ctm"), ..PLAIN };
        assert_eq!(set("path=/a; path=/v2; Secure", cut), "path=/a; Path=/ctm/v2");
        assert_eq!(set("a=b; Path=x", cut), "a=b; Path=x");
        assert_eq!(set("__Host-a=b; Path=/; Secure", cut), "bearerd.__Host-a=b; Path=/ctm/");
        let tls = CallerSide { is_tls: true, ..cut };
        assert_eq!(set("__host-a=b; Path=/; Secure", tls), "__host-a=b; Path=/; Secure");
    }

    #[test]
    fn bytes_that_are_not_text_pass() {
        let mut response = ResponseHeader::build(200, None).unwrap();
        let value = HeaderValue::from_bytes(b"__Host-a=\xe9; Secure").unwrap();
        response.append_header(SET_COOKIE, value).unwrap();
        response.append_header(SET_COOKIE, "b=c; Secure").unwrap();
        adapt(&mut response, PLAIN);
        let all: Vec<_> = response.headers.get_all(SET_COOKIE).iter().collect();
        assert_eq!(all[0].as_bytes(), b"bearerd.__Host-a=\xe9");
        assert_eq!(all[1], "b=c");
    }

    proptest! {
        #[test]
        fn what_the_upstream_sets_comes_back_to_it(name in "(__Host-|__secure-|bearerd\\.|[a-z]){0,4}[a-z]", value in "[a-z=]{0,5}") {
            let cookie = format!("{name}={value}");
            let adapted = set(&format!("{cookie}; Secure; Path=/"), PLAIN);
            let held = adapted.split(';').next().unwrap();
            prop_assert!(!held.to_ascii_lowercase().starts_with("__host-"));
            prop_assert!(!held.to_ascii_lowercase().starts_with("__secure-"));
            prop_assert_eq!(sent(&[held]), [cookie]);
        }
    }
}
