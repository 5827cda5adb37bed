//! URLs of servers: which ones are accepted, and their host and port.

use url::{Host, ParseError, Url};

/// The host's name or address, without the brackets of an IPv6 address. Empty without a host.
pub(crate) fn host(url: &Url) -> String {
    match url.host() {
        Some(Host::Domain(name)) => name.to_owned(),
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string(),
        None => String::new(),
    }
}

/// The port of the URL, or the default of its scheme; 443 if the scheme has none.
pub(crate) fn port(url: &Url) -> u16 {
    url.port_or_known_default().unwrap_or(443)
}

/// The authority `host:port`, with an IPv6 address in brackets.
pub(crate) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Whether the server is on this machine, so that requests to it cross no network.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Parses a URL to which a credential may be sent: https, or http if the cleartext stays on this
/// machine or is allowed.
pub(crate) fn url(text: &str, allow_cleartext: bool) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| match error {
        ParseError::RelativeUrlWithoutBase => {
            "is not a URL: it has no scheme; write https:// before the host".to_owned()
        }
        error => format!("is not a URL ({error}); write https://host"),
    })?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err("has no host; write https://host".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or password; use client_id and client_secret_file".into());
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if allow_cleartext || is_loopback(&url) => Ok(url),
        "http" => Err("is http://, which would send a credential in cleartext; use https://, or set `allow_cleartext: true` beside it".into()),
        other => Err(format!("has the scheme `{other}`; use https://")),
    }
}

/// Parses the URL of a token endpoint. `grant_type` is removed from it.
///
/// # Errors
/// What is wrong with it, as a part of a sentence.
pub fn token_url(text: &str, allow_cleartext: bool) -> Result<Url, String> {
    let mut url = url(text, allow_cleartext)?;
    if url.fragment().is_some() {
        return Err("holds a fragment (#…); remove it".into());
    }
    without_grant_type(&mut url);
    Ok(url)
}

/// Parses an upstream's origin.
///
/// # Errors
/// What is wrong with it, as a part of a sentence.
pub fn origin(text: &str, allow_cleartext: bool) -> Result<Url, String> {
    let url = url(text, allow_cleartext)?;
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        let origin = url.origin().ascii_serialization();
        return Err(format!(
            "has a path; write {origin} alone; only the paths of APIs belong in `routes`"
        ));
    }
    Ok(url)
}

/// Removes `grant_type` from a token URL. SAP's guides append `?grant_type=client_credentials`, but
/// bearerd sends the parameter itself.
pub(crate) fn without_grant_type(url: &mut Url) {
    let other_parameters: Vec<_> = url
        .query_pairs()
        .filter(|(name, _)| name != "grant_type")
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    url.set_query(None);
    if !other_parameters.is_empty() {
        url.query_pairs_mut().extend_pairs(other_parameters);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleartext_is_refused_unless_it_stays_on_this_machine() {
        assert!(url("https://acme.example", false).is_ok());
        assert!(url("http://localhost:1", false).is_ok());
        assert!(url("http://127.8.0.1:1", false).is_ok());
        assert!(url("http://[::1]:1", false).is_ok());
        assert!(url("http://acme.example", true).is_ok());
        assert!(url("http://acme.example", false).unwrap_err().contains("clear"));
        assert!(url("http://localhost.evil.example", false).is_err());
        assert!(url("ftp://acme.example", true).is_err());
        assert!(url("https://", false).is_err());
        assert!(url("https://user:pw@acme.example", false).is_err());
    }

    #[test]
    fn an_attached_grant_type_is_dropped_from_the_token_url() {
        let url = token_url("https://a.example/oauth/token?grant_type=client_credentials", false);
        assert_eq!(url.unwrap().as_str(), "https://a.example/oauth/token");
        let url = token_url("https://a.example/t?zone=1&grant_type=x", false);
        assert_eq!(url.unwrap().as_str(), "https://a.example/t?zone=1");
    }

    #[test]
    fn an_upstream_is_an_origin() {
        assert!(origin("https://acme.example/", false).is_ok());
        assert!(origin("https://acme.example/api", false).unwrap_err().contains("routes"));
    }
}
