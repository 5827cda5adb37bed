//! Choice of the forward proxy for a server: the configured proxy, or the environment's with its
//! exceptions.

use super::proxy::ForwardProxy;
use crate::endpoint::is_loopback;
use crate::environment::Environment;
use ipnet::IpNet;
use std::net::IpAddr;
use std::path::PathBuf;
use url::{Host, Url};

/// Variables of the environment. The first one that is set takes precedence, as with curl.
const PROXY: [&str; 2] = ["https_proxy", "HTTPS_PROXY"];
const NO_PROXY: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// Forward proxy for servers, if any.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ProxyChoice {
    /// No proxy.
    #[default]
    Direct,
    /// This proxy, for every server.
    Through(ForwardProxy),
    /// This proxy, except for loopback and the exceptions: `HTTPS_PROXY` and `NO_PROXY`.
    Unless(ForwardProxy, NoProxy),
}

impl ProxyChoice {
    /// Reads the environment: `https_proxy` or `HTTPS_PROXY`, `no_proxy` or `NO_PROXY`.
    ///
    /// # Errors
    /// The name of the variable that is wrong, and what is wrong with it.
    pub(crate) fn of(environment: &Environment) -> Result<Self, (&'static str, String)> {
        let first = |names: [&'static str; 2]| {
            names.into_iter().find_map(|name| Some((name, environment.get(name)?)))
        };
        let Some((name, proxy)) = first(PROXY) else {
            return Ok(Self::Direct);
        };
        let proxy = ForwardProxy::parse(proxy).map_err(|why| (name, why))?;
        let exceptions = match first(NO_PROXY) {
            Some((_, text)) => NoProxy::parse(text).0,
            None => NoProxy::default(),
        };
        Ok(Self::Unless(proxy, exceptions))
    }

    /// Returns a sentence for each entry of `NO_PROXY` that can't be parsed. Those entries have no
    /// effect: requests to the servers that they name use the proxy.
    pub fn skipped_exceptions(environment: &Environment) -> Vec<String> {
        let set = |name: &&str| environment.get(name).is_some();
        if !PROXY.iter().any(set) {
            return Vec::new();
        }
        let Some(name) = NO_PROXY.into_iter().find(|name| set(name)) else {
            return Vec::new();
        };
        let (_, skipped) = NoProxy::parse(environment.get(name).unwrap_or_default());
        skipped.into_iter().map(|why| format!("{name} {why}; it is skipped")).collect()
    }

    /// The proxy for requests to a URL.
    pub fn proxy_for(&self, url: &Url) -> Option<&ForwardProxy> {
        match self {
            Self::Direct => None,
            // A proxy could read cleartext. The configuration allows no proxy for cleartext URLs.
            _ if url.scheme() != "https" => None,
            Self::Through(proxy) => Some(proxy),
            Self::Unless(proxy, exceptions) => {
                (!is_loopback(url) && !exceptions.exempts(url)).then_some(proxy)
            }
        }
    }

    /// Adds the credentials in a file to the proxy.
    ///
    /// # Errors
    /// There is no proxy, or it already has credentials.
    pub(crate) fn with_credentials_file(self, file: PathBuf) -> Result<Self, &'static str> {
        match self.proxy() {
            None => Err("has no effect without a proxy; set `proxy`, or remove this key"),
            Some(proxy) if proxy.has_credentials() => Err(
                "is given although the proxy's URL holds a user name or password; keep only one of them",
            ),
            Some(_) => Ok(match self {
                Self::Direct => Self::Direct,
                Self::Through(proxy) => Self::Through(proxy.with_credentials_file(file)),
                Self::Unless(proxy, exceptions) => {
                    Self::Unless(proxy.with_credentials_file(file), exceptions)
                }
            }),
        }
    }

    /// The proxy, whether or not it is used for every server.
    pub(crate) fn proxy(&self) -> Option<&ForwardProxy> {
        match self {
            Self::Direct => None,
            Self::Through(proxy) | Self::Unless(proxy, _) => Some(proxy),
        }
    }
}

/// Servers to which no proxy is used.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NoProxy(Vec<Exception>);

#[derive(Clone, Debug, PartialEq)]
struct Exception {
    pattern: Pattern,
    /// The only port to which the exception applies, if any.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq)]
enum Pattern {
    Any,
    /// A domain and its subdomains.
    Domain(String),
    Addresses(IpNet),
}

impl NoProxy {
    /// Parses entries that are separated by commas or spaces: `*`, domains, addresses and networks
    /// (`10.0.0.0/8`), each with or without a port. A domain includes its subdomains, whether or
    /// not it begins with a dot or `*.`.
    ///
    /// Other programs read the same variable and know other forms, so an unknown entry is not an
    /// error. It is skipped, and the reason is returned.
    fn parse(text: &str) -> (Self, Vec<String>) {
        let entries = text.split([',', ' ', '\t']).filter(|entry| !entry.is_empty());
        let (mut exceptions, mut skipped) = (Vec::new(), Vec::new());
        for entry in entries {
            match Exception::parse(entry) {
                Ok(exception) => exceptions.push(exception),
                Err(why) => skipped.push(why),
            }
        }
        (Self(exceptions), skipped)
    }

    fn exempts(&self, url: &Url) -> bool {
        let port = url.port_or_known_default();
        self.0.iter().any(|exception| {
            exception.pattern.matches(url) && exception.port.is_none_or(|only| Some(only) == port)
        })
    }
}

impl Exception {
    fn parse(entry: &str) -> Result<Self, String> {
        if let Some(network) = network(entry) {
            return Ok(Self { pattern: Pattern::Addresses(network), port: None });
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some(_) if entry.ends_with(']') => (entry, None),
            Some((host, port)) => {
                let port = port
                    .parse()
                    .map_err(|_| format!("has `{entry}`, which does not end with a port"))?;
                (host, Some(port))
            }
            None => (entry, None),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Some(network) = network(bare) {
            return Ok(Self { pattern: Pattern::Addresses(network), port });
        }
        if host == "*" {
            return Ok(Self { pattern: Pattern::Any, port });
        }
        let name = host.strip_prefix('*').unwrap_or(host);
        let name = without_root(name.strip_prefix('.').unwrap_or(name));
        // Normalized like the host of a URL: lower case and IDNA.
        match Host::parse(name) {
            Ok(Host::Domain(name)) if name.bytes().all(is_name_byte) => {
                Ok(Self { pattern: Pattern::Domain(name), port })
            }
            _ => Err(format!("has `{entry}`, which is not a name, an address or a network")),
        }
    }
}

/// Whether a name may hold this byte. Hosts of URLs may hold more, for example the semicolon that
/// some users write between two names.
const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
}

/// Removes the final dot of an absolute name.
fn without_root(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// Parses a network. A single address is a network of one.
fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

impl Pattern {
    fn matches(&self, url: &Url) -> bool {
        match (self, url.host()) {
            (Self::Any, _) => true,
            (Self::Domain(domain), Some(Host::Domain(name))) => {
                let subdomain = without_root(name).strip_suffix(domain.as_str());
                subdomain.is_some_and(|labels| labels.is_empty() || labels.ends_with('.'))
            }
            (Self::Addresses(network), Some(Host::Ipv4(address))) => {
                network.contains(&IpAddr::V4(address))
            }
            (Self::Addresses(network), Some(Host::Ipv6(address))) => {
                network.contains(&IpAddr::V6(address).to_canonical())
                    || network.contains(&IpAddr::V6(address))
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the proxy of this environment is used for a URL.
    fn is_proxied(no_proxy: &str, url: &str) -> bool {
        let environment = Environment::from_iter([
            ("HTTPS_PROXY", "http://proxy.corp:3128"),
            ("NO_PROXY", no_proxy),
        ]);
        ProxyChoice::of(&environment).unwrap().proxy_for(&url.parse().unwrap()).is_some()
    }

    #[test]
    fn exceptions_are_names_suffixes_networks_and_ports() {
        for (no_proxy, url, proxied) in [
            ("", "https://acme.example", true),
            ("acme.example", "https://acme.example", false),
            ("ACME.example", "https://acme.EXAMPLE", false),
            ("acme.example", "https://eu10.acme.example", false),
            (".acme.example", "https://acme.example", false),
            ("*.acme.example", "https://eu10.acme.example", false),
            ("acme.example", "https://notacme.example", true),
            ("acme.example", "https://acme.example.org", true),
            ("other.example, acme.example", "https://acme.example", false),
            ("other.example acme.example", "https://acme.example", false),
            ("acme.example:8443", "https://acme.example:8443", false),
            ("acme.example:443", "https://acme.example", false),
            ("acme.example:8443", "https://acme.example", true),
            ("10.0.0.0/8", "https://10.1.2.3", false),
            ("10.0.0.0/8", "https://11.1.2.3", true),
            ("10.0.0.0/8:8443", "https://10.1.2.3", true),
            ("10.0.0.0/8:8443", "https://10.1.2.3:8443", false),
            ("10.0.0.1", "https://10.0.0.1", false),
            ("fd00::/8", "https://[fd00::1]", false),
            ("fd00::1", "https://[fd00::1]", false),
            ("[fd00::1]:8443", "https://[fd00::1]:8443", false),
            ("[fd00::1]:8443", "https://[fd00::1]", true),
            ("[fd00::1]", "https://[fd00::1]", false),
            ("10.0.0.0/8", "https://ten.example", true),
            ("acme.example", "https://acme.example.", false),
            ("acme.example.", "https://acme.example", false),
            ("bücher.example", "https://xn--bcher-kva.example", false),
            ("10.0.0.0/8", "https://[::ffff:10.0.0.1]", false),
            ("*", "https://acme.example", false),
            ("", "https://127.0.0.1:8443", false),
            ("", "https://localhost", false),
            ("", "https://[::1]", false),
            ("", "http://acme.example", false),
        ] {
            assert_eq!(is_proxied(no_proxy, url), proxied, "{no_proxy:?} {url}");
        }
    }

    #[test]
    fn an_exception_that_cannot_be_parsed_is_skipped_and_reported() {
        for (name, entry, reason) in [
            ("NO_PROXY", "acme.example:x", "not end with a port"),
            ("no_proxy", "a*.example", "not a name"),
            ("NO_PROXY", "a.example;b.example", "not a name"),
            ("NO_PROXY", "10.*", "not a name"),
            ("NO_PROXY", "10.0.0.0/33", "not a name"),
            ("NO_PROXY", "<local>", "not a name"),
            ("no_proxy", "http://a.example", "not end with a port"),
            ("NO_PROXY", "fe80::1%eth0", "not "),
            ("NO_PROXY", "[::1", "not "),
        ] {
            let value = format!("first.example,{entry} last.example");
            let environment =
                Environment::from_iter([("HTTPS_PROXY", "p:1"), (name, value.as_str())]);
            let choice = ProxyChoice::of(&environment).unwrap();
            for (url, is_proxied) in [
                ("https://first.example", false),
                ("https://last.example", false),
                ("https://a.example", true),
            ] {
                assert_eq!(
                    choice.proxy_for(&url.parse().unwrap()).is_some(),
                    is_proxied,
                    "{entry}"
                );
            }
            let skipped = ProxyChoice::skipped_exceptions(&environment);
            assert_eq!(skipped.len(), 1, "{skipped:?}");
            let why = &skipped[0];
            assert!(why.starts_with(name) && why.contains(entry) && why.contains(reason), "{why}");
            let alone = Environment::from_iter([(name, value.as_str())]);
            assert!(ProxyChoice::skipped_exceptions(&alone).is_empty(), "there is no proxy");
        }
    }

    #[test]
    fn a_wrong_variable_is_named() {
        for (name, value, reason) in [
            ("HTTPS_PROXY", "ftp://proxy.corp", "`ftp`"),
            ("https_proxy", "https://proxy.corp", "TLS to the proxy"),
        ] {
            let environment = Environment::from_iter([("HTTPS_PROXY", "p:1"), (name, value)]);
            let (named, why) = ProxyChoice::of(&environment).unwrap_err();
            assert!(named == name && why.contains(reason), "{named} {why}");
        }
    }

    #[test]
    fn lower_case_takes_precedence_as_with_curl() {
        let environment =
            Environment::from_iter([("HTTPS_PROXY", "upper:1"), ("https_proxy", "lower:1")]);
        assert_eq!(ProxyChoice::of(&environment).unwrap().proxy().unwrap().host, "lower");
    }

    #[test]
    fn a_configured_proxy_has_no_exceptions() {
        let choice = ProxyChoice::Through(ForwardProxy::parse("p:1").unwrap());
        assert!(choice.proxy_for(&"https://localhost".parse().unwrap()).is_some());
        assert!(ProxyChoice::Direct.proxy_for(&"https://acme.example".parse().unwrap()).is_none());
    }
}
