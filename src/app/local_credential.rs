//! The local credential that callers must present.
//!
//! A task of its own watches the files of the credential. So a leaked credential can be replaced
//! even while the rest of the configuration is refused.

use super::control::{Control, FILES_TIMEOUT};
use crate::blocking;
use crate::config::{Access, BasicAccess, PasswordSource};
use crate::metrics::Metrics;
use crate::metrics::labels::ConfigReload;
use crate::proxy::guard::{Credential, Guard};
use crate::secret::Secret;
use crate::secret_file::{SecretFileError, read_secret};
use crate::watch::Watch;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio_util::sync::DropGuard;
use tracing::{info, warn};

/// Longest password or key. A longer one, as base64, would not fit into a header of 64 KiB.
const LONGEST: usize = 32 * 1024;

/// A part of the local credential, by the form in which requests carry it.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    /// A password of HTTP Basic. Base64 could hold anything, but a password has no control
    /// characters (RFC 7617 section 2).
    Password,
    /// An API key: the value of a header.
    Key,
}

impl Part {
    /// Reads a file. Refuses a value that no request can carry, because it would lock out every
    /// caller.
    fn read(self, path: &Path) -> Result<Secret, SecretFileError> {
        let secret = read_secret(path)?;
        match self.defect(secret.expose()) {
            Some(reason) => Err(SecretFileError::CannotBeSent { path: path.to_owned(), reason }),
            None => Ok(secret),
        }
    }

    /// The reason why no request can carry this value, if there is one.
    fn defect(self, text: &str) -> Option<&'static str> {
        let is_blank = |character| matches!(character, ' ' | '\t');
        // A header's value may hold a tab.
        let is_bad = |character: char| {
            character.is_ascii_control() && !(self == Self::Key && character == '\t')
        };
        if text.contains(['\r', '\n']) {
            Some("holds several lines; leave one")
        } else if self == Self::Key && (text.starts_with(is_blank) || text.ends_with(is_blank)) {
            Some("begins or ends with a blank, which headers do not keep; remove it")
        } else if text.contains(is_bad) {
            Some("holds a control character, which no caller can send; remove it")
        } else if text.len() > LONGEST {
            Some("is longer than 32 KiB, too long for a header; use a shorter one")
        } else {
            None
        }
    }
}

/// The content of the files. A part that can't be read is missing, and its error is recorded.
struct Found {
    credential: Credential,
    errors: Vec<SecretFileError>,
}

impl Found {
    fn read(access: &Access) -> Self {
        let mut errors = Vec::new();
        let mut read =
            |part: Part, path: &Path| part.read(path).map_err(|error| errors.push(error)).ok();
        let password = access.basic.as_ref().and_then(|basic| match &basic.password {
            PasswordSource::File(file) => read(Part::Password, file),
            PasswordSource::Generated(password) => Some(password.clone()),
        });
        let api_key = access.api_key_file.as_deref().and_then(|file| read(Part::Key, file));
        let basic = access.basic.as_ref().zip(password.as_ref());
        let basic = basic.map(|(basic, password)| (basic.username.as_str(), password));
        Self { credential: Credential::new(basic, api_key), errors }
    }

    /// The credential, if nothing is wrong.
    fn whole(self) -> Result<Credential, SecretFileError> {
        match self.errors.into_iter().next() {
            Some(error) => Err(error),
            None => Ok(self.credential),
        }
    }

    /// Replaces the credential of the guard. A part with an error stays as it was. Returns whether
    /// anything has changed, and the errors.
    fn renew(self, guard: &Guard) -> (bool, Option<String>) {
        let errors: Vec<_> = self.errors.iter().map(ToString::to_string).collect();
        (guard.renew(self.credential), (!errors.is_empty()).then(|| errors.join("; ")))
    }
}

/// The local credential of a configuration: the guard that asks for it, and the watch over its
/// files.
pub(super) struct LocalCredential {
    access: Access,
    pub(super) guard: Arc<Guard>,
    watch: Option<Arc<RunningWatch>>,
}

/// A watch over the files, which ends when this is dropped.
struct RunningWatch {
    /// Triggers a look at the files.
    look: Arc<Notify>,
    _task: DropGuard,
}

impl LocalCredential {
    /// Reads the credential. If it is configured as in `before`, it is not read again: the guard's
    /// credential and the watch over its files are shared.
    ///
    /// # Errors
    /// A file that was not in use before can't be read.
    pub(super) fn prepare(access: &Access, before: Option<&Self>) -> Result<Self, SecretFileError> {
        let is_same = |before: &&Self| {
            let known = &before.access;
            (&known.basic, &known.api_key_file) == (&access.basic, &access.api_key_file)
        };
        let (guard, watch) = match before.filter(is_same) {
            Some(before) => (before.guard.with_hosts(&access.hosts), before.watch.clone()),
            None => (Guard::new(&access.hosts, Found::read(access).whole()?), None),
        };
        Ok(Self { access: access.clone(), guard: Arc::new(guard), watch })
    }

    /// Starts the watch if there are files and no watch observes them yet.
    pub(super) fn start(mut self, metrics: &Metrics, control: &Control) -> Self {
        if self.watch.is_none() && files(&self.access).next().is_some() {
            self.watch = Some(Arc::new(self.start_watch(metrics, control)));
        }
        self
    }

    fn start_watch(&self, metrics: &Metrics, control: &Control) -> RunningWatch {
        let watch = Watch::new(files(&self.access));
        let (look, stop) = (watch.trigger(), control.stop.child_token());
        let (access, guard) = (self.access.clone(), self.guard.clone());
        let rotation = Rotation { access, guard, metrics: metrics.clone() };
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

/// The files that hold the local credential.
fn files(access: &Access) -> impl Iterator<Item = &Path> {
    let password = access.basic.as_ref().and_then(BasicAccess::password_file);
    password.into_iter().chain(access.api_key_file.as_deref())
}

/// The task that replaces the credential when its files change.
struct Rotation {
    access: Access,
    guard: Arc<Guard>,
    metrics: Metrics,
}

impl Rotation {
    /// Reads the files whenever `watch` reports a change, and never ends.
    async fn run(self, watch: Watch) {
        let mut reported: Option<String> = None;
        loop {
            watch.changed().await;
            let access = self.access.clone();
            let (is_new, complaint) =
                match blocking::within(FILES_TIMEOUT, move || Found::read(&access)).await {
                    Ok(found) => found.renew(&self.guard),
                    Err(error) => (false, Some(format!("cannot read its files now: {error}"))),
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
                    warn!("Keeping the local credential in use: {why}.");
                    self.metrics
                        .record_config_reload(ConfigReload::Invalid, format!("access: {why}"));
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
    use crate::proxy::guard::ListenerKind;
    use http::{HeaderMap, HeaderValue};

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
        let guard = LocalCredential::prepare(&access, None).unwrap().guard;
        let lets_in = |key: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-api-key", key.parse().unwrap());
            guard.check(&headers, ListenerKind::Unix).is_ok()
        };
        let renew = || Found::read(&access).renew(&guard);
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

    #[test]
    fn what_a_caller_can_show_is_taken_as_it_is_written() {
        for text in ["key 1", "key\t1", "schl\u{fc}ssel", "!\"$%&/()=?", &"x".repeat(LONGEST)] {
            assert_eq!((Part::Key.defect(text), text.len() > LONGEST), (None, false), "{text}");
            let value = HeaderValue::from_bytes(text.as_bytes());
            assert!(value.is_ok(), "{text}");
        }
        assert_eq!(Part::Password.defect(" of words "), None);
        for text in ["pass\nword", "pass\tword", "pass\u{1b}word", &"x".repeat(LONGEST + 1)] {
            assert!(Part::Password.defect(text).is_some(), "{text}");
        }
    }

    #[test]
    fn a_key_that_no_header_can_carry_is_always_refused() {
        for byte in 1..=127_u8 {
            let text = format!("key{}1", char::from(byte));
            let can_be_sent = HeaderValue::from_bytes(text.as_bytes()).is_ok();
            assert_eq!(Part::Key.defect(&text).is_none(), can_be_sent, "{text:?}");
        }
    }
}
