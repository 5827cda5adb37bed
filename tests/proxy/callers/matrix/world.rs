//! Worlds: callers with rights and credentials, and the configuration that says so.

use crate::proxy::callers::{key, password};
use crate::support::configuration::Configuration;
use proptest::bool::weighted;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};
use rcgen::SanType;
use std::path::Path;

pub(super) const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

pub(super) struct Route {
    pub(super) path: &'static str,
    /// All profiles here check batches and allow every method.
    profile: &'static str,
    pub(super) methods: &'static [&'static str],
}

/// Every route allows GET, so that each caller may do something.
pub(super) const ROUTES: [Route; 4] = [
    Route { path: "/all", profile: "transport", methods: &METHODS },
    Route { path: "/some", profile: "transport", methods: &["GET", "POST"] },
    Route { path: "/all/inner", profile: "transport", methods: &METHODS },
    Route { path: "/people", profile: "scim", methods: &["GET", "POST", "PATCH", "DELETE"] },
];

/// The number in a certificate's name that is no caller's.
const NOBODY: usize = 100;

/// The addresses of the listeners: one without TLS, and two that trust an authority each. Callers
/// name those, so each has an address of its own before it has a port.
pub(super) const PLAIN: &str = "127.0.0.1:0";
pub(super) const WITH_TLS: [&str; 2] = ["127.0.0.2:0", "127.0.0.3:0"];

/// Callers, and the order in which the configuration has them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct World {
    /// The one without a name, if there is one, is the last.
    pub(super) callers: Vec<Caller>,
    turn: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Caller {
    /// `None` for the caller of `access`.
    number: Option<usize>,
    pub(super) rights: Rights,
    pub(super) secrets: Vec<Secret>,
    /// A name that certificates may have, and whether it makes one the caller's.
    pub(super) name: CertificateName,
    pub(super) is_certified: bool,
    /// Whether the user of this process is the caller, at a Unix socket.
    pub(super) is_user: bool,
}

/// What a caller may do. `None` means everything.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rights {
    pub(super) routes: Option<Vec<&'static str>>,
    pub(super) methods: Option<Vec<&'static str>>,
    pub(super) has_own_client: bool,
}

/// What a header can carry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Key,
    Password,
}

pub(super) const KINDS: [Kind; 2] = [Kind::Key, Kind::Password];

/// A key or a password, of which there is a new generation from time to time.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Secret {
    pub(super) kind: Kind,
    pub(super) generation: u32,
    /// Whether the one before is still valid.
    pub(super) keeps_old: bool,
}

/// A name in a certificate that the authority of one listener has signed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct CertificateName {
    listener: usize,
    is_uri: bool,
    number: usize,
}

/// A change of the configuration, or of a file that it names.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// A caller has other rights, and the configuration has the callers in another order.
    Rights { caller: Index, rights: Rights, turn: usize },
    /// A caller has a new key or password.
    Secret { caller: Index, secret: Index, keeps_old: bool },
}

pub(super) fn worlds() -> impl Strategy<Value = World> {
    let secrets = |least| subsequence(KINDS.to_vec(), least..=2);
    let callers = vec((rights(), secrets(0), weighted(0.7), any::<bool>()), 1..4);
    let (unnamed, user) = (option::of(secrets(1)), option::of(any::<Index>()));
    (callers, unnamed, user).prop_map(|(named, unnamed, user)| {
        let user = user.map(|user| user.index(named.len()));
        let named = named.into_iter().enumerate();
        let named = named.map(|(index, (rights, secrets, is_certified, is_uri))| {
            let is_user = user == Some(index);
            let has_some = !secrets.is_empty() || is_certified || is_user;
            let secrets = if has_some { secrets } else { vec![Kind::Key] };
            // Two neighbours may have one name, of different authorities.
            let name = CertificateName { listener: index % 2, is_uri, number: index / 2 };
            Caller { rights, name, is_certified, is_user, ..Caller::new(Some(index), &secrets) }
        });
        let unnamed = unnamed.map(|secrets| Caller::new(None, &secrets));
        World { callers: named.chain(unnamed).collect(), turn: 0 }
    })
}

fn rights() -> impl Strategy<Value = Rights> {
    let paths: Vec<_> = ROUTES.iter().map(|route| route.path).collect();
    let routes = option::of(subsequence(paths, 1..=4));
    let methods = subsequence(METHODS[1..].to_vec(), 0..=5);
    let methods = option::weighted(0.4, methods.prop_map(|more| [&["GET"][..], &more].concat()));
    (routes, methods, any::<bool>()).prop_map(|(routes, methods, has_own_client)| Rights {
        routes,
        methods,
        has_own_client,
    })
}

pub(super) fn changes() -> impl Strategy<Value = Change> {
    let rights = (any::<Index>(), rights(), 0..4_usize);
    let secret = (any::<Index>(), any::<Index>(), any::<bool>());
    prop_oneof![
        rights.prop_map(|(caller, rights, turn)| Change::Rights { caller, rights, turn }),
        secret.prop_map(|(caller, secret, keeps_old)| Change::Secret { caller, secret, keeps_old }),
    ]
}

impl World {
    /// Applies a change, and writes the file that it concerns, if it is one of a secret.
    pub(super) fn change(&mut self, change: &Change, folder: &Path) {
        let count = self.callers.len();
        match change {
            Change::Rights { caller, rights, turn } => {
                let caller = &mut self.callers[caller.index(count)];
                if caller.number.is_some() {
                    caller.rights = rights.clone();
                }
                let named = self.callers.iter().filter(|caller| caller.number.is_some());
                self.turn = turn % named.count();
            }
            Change::Secret { caller, secret, keeps_old } => {
                let caller = &mut self.callers[caller.index(count)];
                if !caller.secrets.is_empty() {
                    let index = secret.index(caller.secrets.len());
                    let secret = &mut caller.secrets[index];
                    secret.generation += 1;
                    secret.keeps_old = *keeps_old && caller.number.is_some();
                    caller.write(&caller.secrets[index], folder);
                }
            }
        }
    }

    /// Adds callers and routes to a configuration, and writes the files of their secrets.
    pub(super) fn configuration(&self, config: Configuration, folder: &Path) -> Configuration {
        let config = ROUTES.iter().fold(config, |config, route| {
            let methods = format!("[{}]", route.methods.join(", "));
            config.route(route.path, "profile", route.profile).route(route.path, "methods", methods)
        });
        let is_named = |caller: &&Caller| caller.number.is_some();
        let mut named: Vec<_> = self.callers.iter().filter(is_named).collect();
        named.rotate_left(self.turn);
        let named = named.iter().map(|caller| {
            let keys = [caller.credentials(folder), caller.rights.keys()].concat();
            format!("\n  {}: {{ {} }}", caller.label(), keys.join(", "))
        });
        let config = config.key("callers", named.collect::<String>());
        let unnamed = self.callers.iter().filter(|caller| caller.number.is_none());
        // A user that `access` admits, and that is no caller, is nobody.
        let admitted = (!self.callers.iter().any(|caller| caller.is_user)).then(uids);
        let access = unnamed.flat_map(|caller| caller.credentials(folder)).chain(admitted);
        match access.collect::<Vec<_>>().join(", ") {
            access if access.is_empty() => config,
            access => config.key("access", format!("{{ {access} }}")),
        }
    }
}

/// The user of this process, as in the configuration.
fn uids() -> String {
    format!("uids: [{}]", rustix::process::getuid().as_raw())
}

impl Caller {
    fn new(number: Option<usize>, secrets: &[Kind]) -> Self {
        let secret = |kind: &Kind| Secret { kind: *kind, generation: 1, keeps_old: false };
        Self {
            number,
            rights: Rights { routes: None, methods: None, has_own_client: false },
            secrets: secrets.iter().map(secret).collect(),
            name: CertificateName { listener: 0, is_uri: true, number: NOBODY },
            is_certified: false,
            is_user: false,
        }
    }

    /// The name in the configuration and in metrics.
    pub(super) fn label(&self) -> String {
        self.number.map_or_else(|| "unnamed".to_owned(), |number| format!("caller-{number}"))
    }

    /// The text of a generation of its key or password.
    pub(super) fn secret(&self, kind: Kind, generation: u32) -> String {
        let name = format!("{}-{generation}", self.label());
        match kind {
            Kind::Key => key(&name),
            Kind::Password => password(&name),
        }
    }

    /// Replaces the file of a key or a password, and returns its path.
    fn write(&self, secret: &Secret, folder: &Path) -> String {
        let oldest = secret.generation - u32::from(secret.keeps_old);
        let valid = oldest..=secret.generation;
        let valid = valid.map(|generation| self.secret(secret.kind, generation));
        let text = valid.collect::<Vec<_>>().join("\n");
        let path = folder.join(format!("{}-{:?}", self.label(), secret.kind));
        let new = path.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &path).unwrap();
        path.display().to_string()
    }

    /// The keys of its section that say how it is recognized.
    fn credentials(&self, folder: &Path) -> Vec<String> {
        let secrets = self.secrets.iter().map(|secret| {
            let (file, label) = (self.write(secret, folder), self.label());
            match secret.kind {
                Kind::Key => format!("api_key_file: {file}"),
                Kind::Password => format!("basic: {{ username: {label}, password_file: {file} }}"),
            }
        });
        let certificate = self.is_certified.then(|| self.name.yaml());
        secrets.chain(certificate).chain(self.is_user.then(uids)).collect()
    }
}

impl Rights {
    /// The keys of a caller's section that say what it may do.
    fn keys(&self) -> Vec<String> {
        let list = |name: &str, list: &Option<Vec<&str>>| {
            list.as_ref().map(|list| format!("{name}: [{}]", list.join(", ")))
        };
        let client = self.has_own_client.then(|| "client: d".to_owned());
        let lists = [list("routes", &self.routes), list("methods", &self.methods), client];
        lists.into_iter().flatten().collect()
    }
}

impl CertificateName {
    /// The same name, signed by the authority of this listener.
    pub(super) fn at(self, listener: usize) -> Self {
        Self { listener, ..self }
    }

    pub(super) fn san(self) -> SanType {
        match self.is_uri {
            true => SanType::URI(self.text().try_into().unwrap()),
            false => SanType::DnsName(self.text().try_into().unwrap()),
        }
    }

    fn text(self) -> String {
        let scheme = if self.is_uri { "spiffe://" } else { "" };
        format!("{scheme}host-{}.corp", self.number)
    }

    fn yaml(self) -> String {
        let key = if self.is_uri { "san_uri" } else { "san_dns" };
        let listener = WITH_TLS[self.listener];
        format!("certificate: {{ {key}: \"{}\", listen: \"{listener}\" }}", self.text())
    }
}
