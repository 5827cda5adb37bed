//! Where the target of a part leads, as a path on the batch's listener. Pure.

use crate::proxy::guard::Guard;
use http::HeaderValue;

/// The servers whose URLs a part may name.
#[derive(Debug)]
pub(super) struct Origins {
    /// The caller's `Host`: the sidecar, as this caller names it.
    pub(super) own: Option<HeaderValue>,
    /// The upstream's host, with its port unless it is the scheme's default.
    pub(super) upstream: HeaderValue,
}

/// The base of relative targets.
#[derive(Debug)]
pub(super) struct Base<'a> {
    /// The batch's path, up to the slash before its last segment.
    pub(super) path: &'a [u8],
    /// Whether an absolute path is below the base, too, as in SCIM (RFC 7644 section 3.7).
    pub(super) takes_absolute: bool,
}

impl Origins {
    /// The path, with its query, that a target stands for.
    ///
    /// # Errors
    /// The target leads to another server, or it is not clear where it leads.
    pub(super) fn resolve(
        &self,
        target: &str,
        base: &Base<'_>,
        guard: &Guard,
    ) -> Result<Vec<u8>, &'static str> {
        let path = match split_origin(target)? {
            (Some(authority), path) => {
                if !self.includes(authority.as_bytes(), guard) {
                    return Err("leads to another server");
                }
                path
            }
            (None, path) if path.starts_with('/') && !base.takes_absolute => path,
            (None, path) => {
                let below = path.strip_prefix('/').unwrap_or(path);
                if below.is_empty() || below.starts_with(['?', '#']) {
                    return Err("names no resource");
                }
                return Ok([base.path, below.as_bytes()].concat());
            }
        };
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(format!("{slash}{path}").into_bytes())
    }

    /// Whether a `Host`, or the host of a URL, is the sidecar's or the upstream's.
    pub(super) fn includes(&self, authority: &[u8], guard: &Guard) -> bool {
        let Some((name, port)) = str::from_utf8(authority).ok().and_then(split_port) else {
            return false;
        };
        let is_same = |known: &HeaderValue| {
            split_value(known)
                .is_some_and(|(host, at)| host.eq_ignore_ascii_case(&name) && at == port)
        };
        let own = self.own.as_ref();
        // The sidecar may have several names.
        let is_here =
            own.and_then(split_value).is_some_and(|(_, at)| at == port) && guard.knows(&name);
        own.is_some_and(is_same) || is_same(&self.upstream) || is_here
    }
}

/// The authority, if the target is a URL, and the rest.
fn split_origin(target: &str) -> Result<(Option<&str>, &str), &'static str> {
    let before_path = target.split(['/', '?', '#']).next().unwrap_or_default();
    let rest = match before_path.split_once(':') {
        // `Set('a:b')` has no scheme. A relative path whose first segment holds a colon is not
        // allowed (RFC 3986 section 4.2).
        Some((scheme, ""))
            if ["http", "https"].iter().any(|one| scheme.eq_ignore_ascii_case(one)) =>
        {
            target.get(before_path.len()..).unwrap_or_default()
        }
        Some((scheme, _)) if is_scheme(scheme) => return Err("is a URL of another kind than http"),
        _ => target,
    };
    let is_url = rest.len() != target.len();
    match rest.strip_prefix("//") {
        Some(behind) => {
            let end = behind.find(['/', '?', '#']).unwrap_or(behind.len());
            let (authority, path) = behind.split_at(end);
            if authority.contains(['@', '\\']) {
                return Err("is a URL that can be read in two ways");
            }
            Ok((Some(authority), path))
        }
        None if is_url => Err("is a URL that can be read in two ways"),
        None => Ok((None, target)),
    }
}

/// Whether a text is a scheme (RFC 3986 section 3.1).
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|one| one.is_ascii_alphanumeric() || "+-.".contains(one))
}

fn split_value(authority: &HeaderValue) -> Option<(String, &str)> {
    authority.to_str().ok().and_then(split_port)
}

/// The host of an authority, without a final dot, and the port unless it is a default one. `None`
/// if it is not an authority.
fn split_port(authority: &str) -> Option<(String, &str)> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (authority, ""),
    };
    let is_literal = host.starts_with('[') && host.ends_with(']');
    if !is_literal && host.contains(':') || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let port = if matches!(port, "80" | "443") { "" } else { port };
    Some((host.strip_suffix('.').unwrap_or(host).to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::credentials::Credentials;

    fn resolve(target: &str, takes_absolute: bool) -> Result<String, &'static str> {
        let origins = Origins {
            own: Some(HeaderValue::from_static("127.0.0.1:8080")),
            upstream: HeaderValue::from_static("acme.example"),
        };
        let guard = Guard::new(&["localhost".to_owned()], Credentials::default());
        let base = Base { path: b"/a/svc/", takes_absolute };
        let path = origins.resolve(target, &base, &guard)?;
        Ok(String::from_utf8(path).unwrap())
    }

    #[test]
    fn targets_are_paths_on_this_listener() {
        for (target, path) in [
            ("Orders(1)?x", "/a/svc/Orders(1)?x"),
            ("$1/Items", "/a/svc/$1/Items"),
            ("../x", "/a/svc/../x"),
            ("Set('a:b/c')", "/a/svc/Set('a:b/c')"),
            ("/b/c?d=//e", "/b/c?d=//e"),
            ("http://127.0.0.1:8080/b", "/b"),
            ("HTTP://LocalHost:8080/b", "/b"),
            ("HTTP://127.0.0.1.:8080/b", "/b"),
            ("https://127.0.0.1:8080", "/"),
            ("https://acme.example/b", "/b"),
            ("https://ACME.example.:443?x", "/?x"),
            ("//acme.example/b", "/b"),
        ] {
            assert_eq!(resolve(target, false).as_deref(), Ok(path), "{target}");
        }
    }

    #[test]
    fn what_leads_elsewhere_is_no_path() {
        for target in [
            "https://evil.example/b",
            "//evil.example/b",
            "https://acme.example@evil/",
            "ftp://acme.example/b",
            "https:/b",
            "https:b",
            "https:\\\\acme.example",
            "https://acme.example\\@evil/b",
            "javascript:x",
            "https://acme.example:444/b",
            "http://localhost:22/x",
            "http://127.0.0.1:9/x",
            "http://127.0.0.1:8080:80/x",
            "https://acme.example:443:80/x",
            "http://localhost:8080.:443/x",
            "",
            "?x",
            "#x",
            "https://acme.example.evil/",
        ] {
            assert!(resolve(target, false).is_err(), "{target}: {:?}", resolve(target, false));
        }
    }

    #[test]
    fn paths_of_scim_are_below_its_base() {
        assert_eq!(resolve("/Users/1", true).as_deref(), Ok("/a/svc/Users/1"));
        assert_eq!(resolve("Users", true).as_deref(), Ok("/a/svc/Users"));
        assert_eq!(resolve("https://acme.example/x", true).as_deref(), Ok("/x"));
        assert!(resolve("/", true).is_err());
    }
}
