//! A configuration whose upstream origins have not been read from the clients' keys yet.

use super::client::Client;
use super::fault::{Fault, Faults, Place};
use super::model::Config;
use super::route::Route;
use super::upstream::Upstream;
use crate::endpoint;
use std::sync::Arc;
use url::Url;

/// A configuration as its text states it, and everything that is wrong with the text.
pub struct Draft {
    pub(super) faults: Faults,
    /// Clients in the order of the text. `None` stands for a client with a fault, and in the fields
    /// below for an upstream or for routes with a fault.
    pub(super) clients: Vec<Option<Arc<Client>>>,
    pub(super) upstreams: Vec<UpstreamDraft>,
    pub(super) routes: Option<Vec<Route<usize>>>,
    /// Everything else; clients, upstreams and routes are empty there.
    pub(super) rest: Option<Config>,
}

/// An upstream whose origin may have to be read from a key.
pub(super) struct UpstreamDraft {
    pub(super) origin: Option<OriginDraft>,
    /// Everything but the origin.
    pub(super) rest: Option<Upstream<()>>,
}

/// The source of an upstream's origin.
pub(super) enum OriginDraft {
    /// A URL in the text.
    Given(Url),
    /// The key of a client.
    OfKey(KeyOrigin),
}

/// An origin that the key of a client names.
pub(super) struct KeyOrigin {
    pub(super) client: Arc<Client>,
    /// The place where the URL would stand.
    pub(super) place: Place,
    /// The key path of the URL.
    pub(super) path: String,
    pub(super) allow_cleartext: bool,
    /// Faults that exist if the URL is not https.
    pub(super) if_cleartext: Vec<Fault>,
}

/// The fault of an upstream that has no URL.
pub(super) const NO_URL: &str =
    "missing; set it to the tenant's origin, for example https://acme.eu10.hcs.cloud.sap";

impl Draft {
    /// The draft of a text that could not be parsed.
    pub(super) const fn of_faults(faults: Faults) -> Self {
        Self { faults, clients: Vec::new(), upstreams: Vec::new(), routes: None, rest: None }
    }

    /// Completes the configuration. Reads the keys that name an upstream's origin.
    ///
    /// # Errors
    /// Everything that is wrong with the text and with these keys, at once.
    pub fn resolve(self) -> Result<Config, Faults> {
        let Self { mut faults, clients, upstreams, routes, rest } = self;
        let upstreams = upstreams.into_iter().map(|upstream| {
            let (origin, client) = upstream.origin?.resolve(&mut faults)?;
            Some(Arc::new(upstream.rest?.at(origin, client)))
        });
        let upstreams: Vec<_> = upstreams.collect();
        faults.into_result()?;
        let complete = || {
            let routes = routes?.into_iter().map(|route| route.to(&upstreams));
            Some(Config {
                routes: routes.collect::<Option<_>>()?,
                clients: clients.into_iter().collect::<Option<_>>()?,
                upstreams: upstreams.iter().cloned().collect::<Option<_>>()?,
                ..rest?
            })
        };
        // Every missing part has left a fault, so that without faults nothing is missing.
        complete().ok_or_else(Faults::default)
    }
}

impl OriginDraft {
    /// The origin, and the client whose key names it.
    fn resolve(self, faults: &mut Faults) -> Option<(Url, Option<Arc<Client>>)> {
        let key = match self {
            Self::Given(origin) => return Some((origin, None)),
            Self::OfKey(key) => key,
        };
        match key.read() {
            Ok(origin) => {
                if origin.scheme() == "http" {
                    faults.0.extend(key.if_cleartext);
                }
                Some((origin, Some(key.client)))
            }
            Err(message) => {
                faults.push(&key.place, &key.path, message);
                None
            }
        }
    }
}

impl KeyOrigin {
    fn read(&self) -> Result<Url, String> {
        match self.client.source.api_url() {
            Ok(Some(url)) => {
                endpoint::origin(&url.origin().ascii_serialization(), self.allow_cleartext)
            }
            Ok(None) => {
                Err(format!("{NO_URL} ({} does not name one)", self.client.source.description()))
            }
            Err(error) => Err(format!(
                "{NO_URL} (the client's key may name one, but bearerd could not read it: {error})"
            )),
        }
    }
}
