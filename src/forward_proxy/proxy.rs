//! Address and credentials of a forward proxy.

use crate::endpoint;
use crate::secret::Secret;
use crate::secret_file::{SecretFileError, read_secret};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use percent_encoding::percent_decode_str;
use std::path::{Path, PathBuf};
use url::Url;

/// A forward proxy: its address, and the credentials for it.
#[derive(Clone, Debug, PartialEq)]
pub struct ForwardProxy {
    /// A name or an address. An IPv6 address has no brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    credentials: Option<Credentials>,
}

#[derive(Clone, Debug, PartialEq)]
enum Credentials {
    /// `user:password`.
    Inline(Secret),
    /// A file that holds `user:password`.
    File(PathBuf),
}

impl ForwardProxy {
    /// Parses `http://user:password@host:port`. The scheme may be missing, because environments
    /// often leave it out. The default port is 80.
    ///
    /// # Errors
    /// The end of a sentence that says what is wrong, without the credentials.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "write http://proxy.example:3128";
        let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url: Url = whole.parse().map_err(|error| format!("is not a URL ({error}); {FORM}"))?;
        match url.scheme() {
            "http" => {}
            "https" => {
                return Err(format!(
                    "asks for TLS to the proxy itself, which bearerd does not support; {FORM}: TLS to the server passes through the proxy end to end"
                ));
            }
            other => return Err(format!("has the scheme `{other}`; {FORM}")),
        }
        let host = endpoint::host(&url);
        if host.is_empty() {
            return Err(format!("has no host; {FORM}"));
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(format!("has a path; {FORM}"));
        }
        let decoded = |part| percent_decode_str(part).decode_utf8_lossy().into_owned();
        let (user, password) = (url.username(), url.password().unwrap_or_default());
        let credentials = (!user.is_empty() || !password.is_empty()).then(|| {
            Credentials::Inline(Secret::new(format!("{}:{}", decoded(user), decoded(password))))
        });
        Ok(Self { host, port: url.port().unwrap_or(80), credentials })
    }

    /// Replaces the credentials by those in a file, which holds `user:password`.
    pub(crate) fn with_credentials_file(self, file: PathBuf) -> Self {
        Self { credentials: Some(Credentials::File(file)), ..self }
    }

    /// Whether there are credentials for the proxy.
    pub(crate) fn has_credentials(&self) -> bool {
        self.credentials.is_some()
    }

    /// The file with the credentials, if they are in one.
    pub(crate) fn credentials_file(&self) -> Option<&Path> {
        match self.credentials.as_ref()? {
            Credentials::File(file) => Some(file),
            Credentials::Inline(_) => None,
        }
    }

    /// `host:port`, with an IPv6 address in brackets.
    pub fn authority(&self) -> String {
        endpoint::authority(&self.host, self.port)
    }

    /// Returns the value of `Proxy-Authorization` for the Basic scheme (RFC 7617).
    pub(crate) fn authorization(&self) -> Result<Option<HeaderValue>, SecretFileError> {
        let credentials = match &self.credentials {
            None => return Ok(None),
            Some(Credentials::Inline(credentials)) => credentials.clone(),
            Some(Credentials::File(file)) => read_secret(file)?,
        };
        let value = format!("Basic {}", STANDARD.encode(credentials.expose()));
        // Base64 is always a valid header value.
        let mut value = HeaderValue::try_from(value).ok();
        if let Some(value) = &mut value {
            value.set_sensitive(true);
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_parsed_as_tools_write_it() {
        for (text, authority, authorization) in [
            ("http://proxy.corp:3128", "proxy.corp:3128", None),
            ("http://proxy.corp:3128/", "proxy.corp:3128", None),
            ("proxy.corp:3128", "proxy.corp:3128", None),
            ("http://proxy.corp", "proxy.corp:80", None),
            ("10.0.0.1:8080", "10.0.0.1:8080", None),
            ("http://[fd00::1]:3128", "[fd00::1]:3128", None),
            ("http://user:open%20sesame@p:1", "p:1", Some("Basic dXNlcjpvcGVuIHNlc2FtZQ==")),
            ("user:a%40b@p:1", "p:1", Some("Basic dXNlcjphQGI=")),
        ] {
            let proxy = ForwardProxy::parse(text).unwrap_or_else(|why| panic!("{text} {why}"));
            assert_eq!(proxy.authority(), authority, "{text}");
            let sent = proxy.authorization().unwrap();
            assert_eq!(sent.as_ref().map(|value| value.to_str().unwrap()), authorization, "{text}");
            assert!(sent.is_none_or(|value| value.is_sensitive()));
        }
    }

    #[test]
    fn an_invalid_proxy_is_refused_without_quoting_its_password() {
        for text in [
            "",
            "http://",
            "https://u:s3cret@proxy.corp:3128",
            "socks5://u:s3cret@proxy.corp:1080",
            "http://u:s3cret@proxy.corp:3128/path",
            "http://u:s3cret@proxy.corp:99999",
        ] {
            let why = ForwardProxy::parse(text).unwrap_err();
            assert!(!why.contains("s3cret"), "{why}");
            assert!(why.contains("http://"), "{why}");
        }
    }

    #[test]
    fn credentials_may_be_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("proxy");
        std::fs::write(&file, "user:password\n").unwrap();
        let proxy = ForwardProxy::parse("p:1").unwrap().with_credentials_file(file.clone());
        assert_eq!(proxy.authorization().unwrap().unwrap(), "Basic dXNlcjpwYXNzd29yZA==");
        assert_eq!(proxy.credentials_file(), Some(&*file));
        std::fs::remove_file(file).unwrap();
        assert!(proxy.authorization().is_err());
    }
}
