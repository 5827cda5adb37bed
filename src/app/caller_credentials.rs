//! The credentials that callers must present.
//!
//! A task of its own watches their files. So a leaked credential can be replaced even while the
//! rest of the configuration is refused.

use super::control::{Control, FILES_TIMEOUT};
use crate::blocking;
use crate::caller_secret::{SecretDigest, SecretKind};
use crate::config::{Access, BasicAccess, Caller, CallerId, Config, PasswordSource, UNNAMED};
use crate::endpoint;
use crate::metrics::Metrics;
use crate::metrics::labels::ConfigReload;
use crate::proxy::credentials::{Credential, Credentials, Who};
use crate::proxy::guard::Guard;
use crate::secret_file::SecretFileError;
use crate::watch::Watch;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio_util::sync::DropGuard;
use tracing::{info, warn};

/// Credentials of callers that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file can't be read.
    #[error("{key}: {source}")]
    File {
        /// The section of the configuration that names the file.
        key: String,
        /// What is wrong.
        source: SecretFileError,
    },
    /// Two callers have the same credential.
    #[error(
        "{one} and {other} have the same key or password; give each of them its own, for example one that `bearerd key` makes"
    )]
    Shared {
        /// The section of one caller.
        one: String,
        /// The section of the other caller.
        other: String,
    },
}

/// The callers as configured.
#[derive(Clone)]
struct Callers {
    access: Access,
    named: Vec<Caller>,
}

/// The content of the files. A part that can't be read is missing, and its error is recorded.
struct Found {
    credentials: Credentials,
    errors: Vec<CredentialsError>,
}

impl Callers {
    fn of(config: &Config) -> Self {
        Self { access: config.access.clone(), named: config.callers.clone() }
    }

    /// Whether both have the same credentials. What a caller may do is not compared.
    fn same_credentials(&self, other: &Self) -> bool {
        let of_access = |access: &Access| (access.basic.clone(), access.api_key_file.clone());
        let of_caller = |caller: &Caller| {
            (
                caller.name.clone(),
                caller.api_key_file.clone(),
                caller.basic.clone(),
                caller.uids.clone(),
                caller.certificate.clone(),
            )
        };
        of_access(&self.access) == of_access(&other.access)
            && self.named.iter().map(of_caller).eq(other.named.iter().map(of_caller))
    }

    /// The files that hold credentials.
    fn files(&self) -> impl Iterator<Item = &Path> {
        self.access.files().chain(self.named.iter().flat_map(Caller::files))
    }

    /// The section of a caller in the configuration.
    fn key(&self, who: Who) -> String {
        let named = |id: CallerId| self.named.get(id.0).map(|caller| caller.name.as_str());
        match who {
            Who::Unnamed => "access".to_owned(),
            Who::Named(id) => format!("callers.{}", named(id).unwrap_or(UNNAMED)),
        }
    }

    fn read(&self) -> Found {
        let mut errors = Vec::new();
        let unnamed = self.unnamed(&mut errors);
        let of_caller = |(index, caller): (usize, &Caller)| {
            let key = self.key(Who::Named(CallerId(index)));
            let mut read = |kind: SecretKind, path: &Path| {
                let read = kind.read_digests(path);
                let read =
                    read.map_err(|source| CredentialsError::File { key: key.clone(), source });
                read.map_err(|error| errors.push(error)).unwrap_or_default()
            };
            let keys = caller.api_key_file.as_deref().map(|file| read(SecretKind::Key, file));
            let password_file = caller.basic.as_ref().and_then(BasicAccess::password_file);
            let passwords = password_file.map(|file| read(SecretKind::Password, file));
            Credential {
                keys: keys.unwrap_or_default(),
                username: caller.basic.as_ref().map(|basic| basic.username.clone()),
                passwords: passwords.unwrap_or_default(),
                uids: caller.uids.clone(),
                certificate: caller.certificate.clone(),
            }
        };
        let callers = self.named.iter().enumerate().map(of_caller).collect();
        Found { credentials: Credentials { unnamed, callers }, errors }
    }

    /// The credential of `access`, if one is configured.
    fn unnamed(&self, errors: &mut Vec<CredentialsError>) -> Option<Credential> {
        let Access { basic, api_key_file, .. } = &self.access;
        if basic.is_none() && api_key_file.is_none() {
            return None;
        }
        let mut read = |kind: SecretKind, path: &Path| match kind.read(path) {
            Ok(secret) => vec![SecretDigest::of(secret.expose().as_bytes())],
            Err(source) => {
                errors.push(CredentialsError::File { key: "access".to_owned(), source });
                Vec::new()
            }
        };
        let passwords = basic.as_ref().map(|basic| match &basic.password {
            PasswordSource::File(file) => read(SecretKind::Password, file),
            PasswordSource::Generated(password) => {
                vec![SecretDigest::of(password.expose().as_bytes())]
            }
        });
        Some(Credential {
            keys: api_key_file
                .as_deref()
                .map(|file| read(SecretKind::Key, file))
                .unwrap_or_default(),
            username: basic.as_ref().map(|basic| basic.username.clone()),
            passwords: passwords.unwrap_or_default(),
            ..Credential::default()
        })
    }

    /// The error of two callers with the same credential.
    fn shared(&self, (one, other): (Who, Who)) -> CredentialsError {
        CredentialsError::Shared { one: self.key(one), other: self.key(other) }
    }

    /// Reads the credentials of a start.
    fn read_all(&self) -> Result<Credentials, CredentialsError> {
        let Found { credentials, errors } = self.read();
        if let Some(error) = errors.into_iter().next() {
            return Err(error);
        }
        match credentials.shared() {
            Some(pair) => Err(self.shared(pair)),
            None => Ok(credentials),
        }
    }

    /// Replaces the credentials of the guard. A part with an error stays as it was. Returns whether
    /// anything has changed, and the errors.
    fn renew(&self, found: Found, guard: &Guard) -> (bool, Option<String>) {
        let mut errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        let (is_new, shared) = guard.renew(found.credentials);
        errors.extend(shared.into_iter().map(|pair| self.shared(pair).to_string()));
        (is_new, (!errors.is_empty()).then(|| errors.join("; ")))
    }
}

/// The credentials of a configuration: the guard that asks for one, and the watch over their files.
pub(super) struct CallerCredentials {
    callers: Callers,
    pub(super) guard: Arc<Guard>,
    watch: Option<Arc<RunningWatch>>,
}

/// Whether a name or an address is this machine's own.
fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A watch over the files, which ends when this is dropped.
struct RunningWatch {
    /// Triggers a look at the files.
    look: Arc<Notify>,
    _task: DropGuard,
}

impl CallerCredentials {
    /// Reads the credentials. If they are configured as in `before`, they are not read again: the
    /// guard's credentials and the watch over their files are shared.
    ///
    /// # Errors
    /// A file that was not in use before can't be read, or two callers have the same credential.
    pub(super) fn prepare(
        config: &Config,
        before: Option<&Self>,
    ) -> Result<Self, CredentialsError> {
        let callers = Callers::of(config);
        let hosts = &config.access.hosts;
        let is_same = |before: &&Self| before.callers.same_credentials(&callers);
        let (guard, watch) = match before.filter(is_same) {
            Some(before) => (before.guard.with_hosts(hosts), before.watch.clone()),
            None => (Guard::new(hosts, callers.read_all()?), None),
        };
        let tenants = config.upstreams.iter().map(|upstream| endpoint::host(&upstream.origin));
        // A tenant on this machine is a demo, whose pages may be read.
        let tenants = tenants.filter(|host| !is_loopback(host)).collect();
        let guard = guard.refusing_pages_of(tenants);
        Ok(Self { callers, guard: Arc::new(guard), watch })
    }

    /// Starts the watch if there are files and no watch observes them yet.
    pub(super) fn start(mut self, metrics: &Metrics, control: &Control) -> Self {
        if self.watch.is_none() && self.callers.files().next().is_some() {
            self.watch = Some(Arc::new(self.start_watch(metrics, control)));
        }
        self
    }

    fn start_watch(&self, metrics: &Metrics, control: &Control) -> RunningWatch {
        let watch = Watch::new(self.callers.files());
        let (look, stop) = (watch.trigger(), control.stop.child_token());
        let (callers, guard) = (self.callers.clone(), self.guard.clone());
        let rotation = Rotation { callers, guard, metrics: metrics.clone() };
        let watching = stop.clone();
        control.tasks.spawn(async move {
            watching.run_until_cancelled(rotation.run(watch)).await;
        });
        RunningWatch { look, _task: stop.drop_guard() }
    }

    /// Triggers a look at the files.
    pub(super) fn look(&self) {
        if let Some(watch) = &self.watch {
            watch.look.notify_one();
        }
    }
}

/// The task that replaces the credentials when their files change.
struct Rotation {
    callers: Callers,
    guard: Arc<Guard>,
    metrics: Metrics,
}

impl Rotation {
    /// Reads the files whenever `watch` reports a change, and never ends.
    async fn run(self, watch: Watch) {
        let mut reported: Option<String> = None;
        loop {
            watch.changed().await;
            let callers = self.callers.clone();
            let (is_new, complaint) =
                match blocking::within(FILES_TIMEOUT, move || callers.read()).await {
                    Ok(found) => self.callers.renew(found, &self.guard),
                    Err(error) => (false, Some(format!("cannot read their files now: {error}"))),
                };
            if is_new {
                info!("The new local credential is in force.");
                let detail = "the local credential was replaced".to_owned();
                self.metrics.record_config_reload(ConfigReload::Success, detail);
            }
            if complaint == reported {
                continue;
            }
            self.guard.set_complaint(complaint.as_deref());
            match &complaint {
                Some(why) => {
                    warn!("Keeping local credentials in use: {why}.");
                    self.metrics.record_config_reload(ConfigReload::Invalid, why.clone());
                }
                None if is_new => {}
                None => {
                    info!("The local credential has not changed.");
                    self.metrics.record_config_reload(ConfigReload::Unchanged, String::new());
                }
            }
            reported = complaint;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::peer::Peer;
    use http::HeaderMap;

    #[test]
    fn each_part_is_replaced_by_itself_and_stays_while_its_file_is_bad() {
        let folder = tempfile::tempdir().unwrap();
        let [password, key] = ["password", "key"].map(|name| folder.path().join(name));
        let write = |text: [&str; 2]| {
            for (path, text) in [&password, &key].into_iter().zip(text) {
                std::fs::write(path, text).unwrap();
            }
        };
        write(["old", "old"]);
        let access = Access {
            hosts: vec!["localhost".into()],
            basic: Some(BasicAccess {
                username: "tool".into(),
                password: PasswordSource::File(password.clone()),
            }),
            api_key_file: Some(key.clone()),
            uids: Vec::new(),
        };
        let callers = Callers { access, named: Vec::new() };
        let guard = Guard::new(&[], callers.read_all().unwrap());
        let lets_in = |key: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-api-key", key.parse().unwrap());
            guard.check(&headers, &Peer::Unix { uid: None }).is_ok()
        };
        let renew = || callers.renew(callers.read(), &guard);
        assert_eq!(renew(), (false, None));
        write(["", "new"]);
        let (is_new, fault) = renew();
        assert!(is_new && fault.is_some_and(|fault| fault.contains("password is empty")));
        assert!(lets_in("new") && !lets_in("old"));
        std::fs::remove_file(&key).unwrap();
        let (is_new, fault) = renew();
        assert!(!is_new && fault.is_some_and(|fault| fault.contains("key: it does not exist")));
        assert!(lets_in("new"), "the last good one stays");
        for bad in [
            "new2 \n",
            " new2",
            "\tnew2",
            "   \n",
            "new2\nnew3\n",
            "\n\nnew2",
            "new\u{1}2",
            "new2\u{7f}",
        ] {
            std::fs::write(&key, bad).unwrap();
            let (is_new, fault) = renew();
            let fault = fault.unwrap();
            assert!(!is_new && fault.contains("key ") && fault.contains("; "), "{bad:?}: {fault}");
            assert!(!fault.contains("new2") && lets_in("new"), "{bad:?}: {fault}");
        }
    }
}
