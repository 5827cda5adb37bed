//! URLs as documents write them: a complete URL, a base, or a host name.

use super::error::ClientFault;
use crate::endpoint::without_grant_type;
use url::Url;

/// A complete token endpoint. SAP's guides end it with `?grant_type=client_credentials`. bearerd
/// sends that parameter itself, so it is removed here.
pub(super) fn token(text: &str, field: &'static str) -> Result<Url, ClientFault> {
    let fault = |why| ClientFault::Url { field, why };
    let mut url: Url = text.trim().parse().map_err(|_| fault("is not a URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(fault("does not begin with https:// or http://"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(fault("has no host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(fault("holds a user name or password; give them as keys of their own"));
    }
    if url.fragment().is_some() {
        return Err(fault("holds a fragment (#…); remove it"));
    }
    if url.query_pairs().any(|(name, _)| matches!(&*name, "client_secret" | "password")) {
        return Err(fault("holds a secret in its query; give it as a key of its own"));
    }
    without_grant_type(&mut url);
    Ok(url)
}

/// The token endpoint of a service key's `url` or `certurl`. Both are bases, unless a user has
/// completed them by hand.
pub(super) fn token_of_base(text: &str, field: &'static str) -> Result<Url, ClientFault> {
    let mut url = token(text, field)?;
    let path = url.path().trim_end_matches('/');
    if !path.ends_with("/token") {
        let endpoint = if is_identity_services(&url) { "oauth2/token" } else { "oauth/token" };
        let path = format!("{path}/{endpoint}");
        url.set_path(&path);
    }
    Ok(url)
}

/// Whether the issuer is SAP Cloud Identity Services. It has another path, and one host for both
/// secrets and certificates.
pub(super) fn is_identity_services(url: &Url) -> bool {
    const DOMAINS: [&str; 2] = [".accounts.ondemand.com", ".accounts.cloud.sap"];
    url.host_str().is_some_and(|host| DOMAINS.iter().any(|domain| host.ends_with(domain)))
}

/// The origin of an API. A host name without a scheme is read as https.
pub(super) fn origin(text: &str) -> Option<Url> {
    let text = text.trim();
    let url: Url = match text.contains("://") {
        true => text.parse().ok()?,
        false => format!("https://{text}").parse().ok()?,
    };
    let is_web = matches!(url.scheme(), "http" | "https");
    if !is_web || url.host_str().is_none_or(str::is_empty) {
        return None;
    }
    url.origin().ascii_serialization().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(text: &str) -> &'static str {
        match token(text, "url") {
            Err(ClientFault::Url { field: "url", why }) => why,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_token_url_is_complete_and_carries_no_secret() {
        let text = |url| token(url, "url").unwrap().to_string();
        assert_eq!(text(" https://a.example/oauth/token\n"), "https://a.example/oauth/token");
        assert_eq!(text("https://a.example/t?grant_type=x"), "https://a.example/t");
        assert_eq!(text("https://a.example/t?zone=1&grant_type=x"), "https://a.example/t?zone=1");
        assert_eq!(why("a.example/oauth/token"), "is not a URL");
        assert_eq!(why("ftp://a.example"), "does not begin with https:// or http://");
        assert_eq!(why("https://"), "is not a URL");
        assert!(why("https://u:p@a.example").starts_with("holds a user name"));
        assert!(why("https://a.example/#x").starts_with("holds a fragment"));
        assert!(why("https://a.example/t?client_secret=x").starts_with("holds a secret"));
    }

    #[test]
    fn a_base_is_completed_once() {
        let text = |url| token_of_base(url, "url").unwrap().to_string();
        for base in [
            "https://a.example",
            "https://a.example/",
            "https://a.example/oauth/token",
            "https://a.example?grant_type=client_credentials",
        ] {
            assert_eq!(text(base), "https://a.example/oauth/token", "{base}");
        }
        assert_eq!(text("https://a.example/x/"), "https://a.example/x/oauth/token");
        assert_eq!(
            text("https://t.accounts.ondemand.com"),
            "https://t.accounts.ondemand.com/oauth2/token"
        );
        assert_eq!(
            text("https://a.example/oauth2/api/v1/token"),
            "https://a.example/oauth2/api/v1/token"
        );
    }

    #[test]
    fn an_api_is_an_origin() {
        let text = |url| origin(url).map(|url| url.to_string());
        assert_eq!(text("a.example").as_deref(), Some("https://a.example/"));
        assert_eq!(
            text("http://u:p@A.example:8080/b?c").as_deref(),
            Some("http://a.example:8080/")
        );
        assert_eq!(text("mailto://x"), None);
        assert_eq!(text("a b"), None);
        assert_eq!(text(""), None);
    }
}
