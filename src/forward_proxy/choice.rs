//! Which forward proxy leads to a server: the configured one, or the environment's with its exceptions.

use super::ForwardProxy;
use crate::endpoint::is_loopback;
use crate::environment::Environment;
use ipnet::IpNet;
use std::net::IpAddr;
use std::path::PathBuf;
use url::{Host, Url};

/// The variables of the environment; the first that is set counts, as with curl.
const PROXY: [&str; 2] = ["https_proxy", "HTTPS_PROXY"];
const NO_PROXY: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// The way to a server.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ProxyChoice {
    /// No proxy.
    #[default]
    Direct,
    /// This one, always.
    Through(ForwardProxy),
    /// This one, but for loopback and the exceptions: `HTTPS_PROXY` and `NO_PROXY`.
    Unless(ForwardProxy, NoProxy),
}

impl ProxyChoice {
    /// What the environment says: `https_proxy` or `HTTPS_PROXY`, `no_proxy` or `NO_PROXY`.
    ///
    /// # Errors
    /// The variable that is wrong, and what is wrong with it.
    pub(crate) fn of(environment: &Environment) -> Result<Self, (&'static str, String)> {
        let first = |names: [&'static str; 2]| {
            names.into_iter().find_map(|name| Some((name, environment.get(name)?)))
        };
        let Some((name, proxy)) = first(PROXY) else {
            return Ok(Self::Direct);
        };
        let proxy = ForwardProxy::parse(proxy).map_err(|why| (name, why))?;
        let except = match first(NO_PROXY) {
            Some((_, text)) => NoProxy::parse(text).0,
            None => NoProxy::default(),
        };
        Ok(Self::Unless(proxy, except))
    }

    /// What of `NO_PROXY` can't be read, and so has no effect: servers that it was to name are reached through the
    /// proxy. Each in a sentence.
    pub fn unread(environment: &Environment) -> Vec<String> {
        let set = |name: &&str| environment.get(name).is_some();
        if !PROXY.iter().any(set) {
            return Vec::new();
        }
        let Some(name) = NO_PROXY.into_iter().find(|name| set(name)) else {
            return Vec::new();
        };
        let (_, unread) = NoProxy::parse(environment.get(name).unwrap_or_default());
        unread.into_iter().map(|why| format!("{name} {why}; it is skipped")).collect()
    }

    /// The proxy on the way to a URL.
    pub fn to(&self, url: &Url) -> Option<&ForwardProxy> {
        match self {
            Self::Direct => None,
            // What is in the clear a proxy would see: the configuration allows none on the way there.
            _ if url.scheme() != "https" => None,
            Self::Through(proxy) => Some(proxy),
            Self::Unless(proxy, except) => {
                (!is_loopback(url) && !except.names(url)).then_some(proxy)
            }
        }
    }

    /// The same proxy with the credentials of a file.
    ///
    /// # Errors
    /// There is no proxy, or it has credentials already.
    pub(crate) fn with_credentials_file(self, file: PathBuf) -> Result<Self, &'static str> {
        match self.proxy() {
            None => Err("there is no proxy that it could be for; give `proxy`"),
            Some(proxy) if proxy.has_credentials() => {
                Err("the proxy's URL holds a user name or password, too; keep one")
            }
            Some(_) => Ok(match self {
                Self::Direct => Self::Direct,
                Self::Through(proxy) => Self::Through(proxy.with_credentials_file(file)),
                Self::Unless(proxy, except) => {
                    Self::Unless(proxy.with_credentials_file(file), except)
                }
            }),
        }
    }

    /// The proxy that some servers are reached through.
    pub(crate) fn proxy(&self) -> Option<&ForwardProxy> {
        match self {
            Self::Direct => None,
            Self::Through(proxy) | Self::Unless(proxy, _) => Some(proxy),
        }
    }
}

/// Servers that are reached directly.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NoProxy(Vec<Exception>);

#[derive(Clone, Debug, PartialEq)]
struct Exception {
    whom: Whom,
    /// Only this port.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq)]
enum Whom {
    Everybody,
    /// The name and all below it.
    Domain(String),
    Addresses(IpNet),
}

impl NoProxy {
    /// Reads what is separated by commas or spaces: `*`, names (with or without a leading dot or `*.`: they
    /// stand for themselves and for what is below), addresses, networks (`10.0.0.0/8`); each may end with a
    /// port. What can't be read is left out, and returned beside them: others read the same variable, and other forms in it.
    fn parse(text: &str) -> (Self, Vec<String>) {
        let entries = text.split([',', ' ', '\t']).filter(|entry| !entry.is_empty());
        let (mut read, mut unread) = (Vec::new(), Vec::new());
        for entry in entries {
            match Exception::parse(entry) {
                Ok(exception) => read.push(exception),
                Err(why) => unread.push(why),
            }
        }
        (Self(read), unread)
    }

    fn names(&self, url: &Url) -> bool {
        let port = url.port_or_known_default();
        self.0.iter().any(|exception| {
            exception.whom.is(url) && exception.port.is_none_or(|only| Some(only) == port)
        })
    }
}

impl Exception {
    fn parse(entry: &str) -> Result<Self, String> {
        if let Some(network) = network(entry) {
            return Ok(Self { whom: Whom::Addresses(network), port: None });
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some(_) if entry.ends_with(']') => (entry, None),
            Some((host, port)) => {
                let port =
                    port.parse().map_err(|_| format!("has `{entry}`, which ends with no port"))?;
                (host, Some(port))
            }
            None => (entry, None),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Some(network) = network(bare) {
            return Ok(Self { whom: Whom::Addresses(network), port });
        }
        if host == "*" {
            return Ok(Self { whom: Whom::Everybody, port });
        }
        let name = host.strip_prefix('*').unwrap_or(host);
        let name = without_root(name.strip_prefix('.').unwrap_or(name));
        // As URLs have names: in lower case, and IDNA.
        match Host::parse(name) {
            Ok(Host::Domain(name)) if name.bytes().all(is_of_name) => {
                Ok(Self { whom: Whom::Domain(name), port })
            }
            _ => Err(format!("has `{entry}`, which is no name, address or network")),
        }
    }
}

/// Hosts of URLs may hold more, such as the semicolon that some put between two names.
const fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
}

/// A name without the dot that may stand for the root.
fn without_root(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// An address alone is a network of one.
fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

impl Whom {
    fn is(&self, url: &Url) -> bool {
        match (self, url.host()) {
            (Self::Everybody, _) => true,
            (Self::Domain(domain), Some(Host::Domain(name))) => {
                let above = without_root(name).strip_suffix(domain.as_str());
                above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
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

    /// Whether the proxy of this environment is on the way to a URL.
    fn is_proxied(no_proxy: &str, url: &str) -> bool {
        let environment = Environment::from_iter([
            ("HTTPS_PROXY", "http://proxy.corp:3128"),
            ("NO_PROXY", no_proxy),
        ]);
        ProxyChoice::of(&environment).unwrap().to(&url.parse().unwrap()).is_some()
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
    fn an_exception_that_cannot_be_read_is_skipped_and_told_and_the_others_count() {
        for (name, entry, told) in [
            ("NO_PROXY", "acme.example:x", "no port"),
            ("no_proxy", "a*.example", "no name"),
            ("NO_PROXY", "a.example;b.example", "no name"),
            ("NO_PROXY", "10.*", "no name"),
            ("NO_PROXY", "10.0.0.0/33", "no name"),
            ("NO_PROXY", "<local>", "no name"),
            ("no_proxy", "http://a.example", "no port"),
            ("NO_PROXY", "fe80::1%eth0", "no "),
            ("NO_PROXY", "[::1", "no "),
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
                assert_eq!(choice.to(&url.parse().unwrap()).is_some(), is_proxied, "{entry}");
            }
            let unread = ProxyChoice::unread(&environment);
            assert_eq!(unread.len(), 1, "{unread:?}");
            let why = &unread[0];
            assert!(why.starts_with(name) && why.contains(entry) && why.contains(told), "{why}");
            let alone = Environment::from_iter([(name, value.as_str())]);
            assert!(ProxyChoice::unread(&alone).is_empty(), "without a proxy it is nobody's");
        }
    }

    #[test]
    fn a_wrong_variable_is_named() {
        for (name, value, told) in [
            ("HTTPS_PROXY", "ftp://proxy.corp", "`ftp`"),
            ("https_proxy", "https://proxy.corp", "TLS to the proxy"),
        ] {
            let environment = Environment::from_iter([("HTTPS_PROXY", "p:1"), (name, value)]);
            let (named, why) = ProxyChoice::of(&environment).unwrap_err();
            assert!(named == name && why.contains(told), "{named} {why}");
        }
    }

    #[test]
    fn lower_case_wins_as_it_does_with_curl() {
        let environment =
            Environment::from_iter([("HTTPS_PROXY", "upper:1"), ("https_proxy", "lower:1")]);
        assert_eq!(ProxyChoice::of(&environment).unwrap().proxy().unwrap().host, "lower");
    }

    #[test]
    fn a_configured_proxy_has_no_exceptions() {
        let choice = ProxyChoice::Through(ForwardProxy::parse("p:1").unwrap());
        assert!(choice.to(&"https://localhost".parse().unwrap()).is_some());
        assert!(ProxyChoice::Direct.to(&"https://acme.example".parse().unwrap()).is_none());
    }
}
