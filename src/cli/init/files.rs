//! The files that `bearerd init` writes: the configuration, and the secret beside it.

use super::answers::{Answers, Client};
use crate::cli::default_file::SYSTEM;
use anyhow::{Context, ensure};
use bearerd::app;
use bearerd::config::{self, ConfigError, Flags};
use bearerd::environment::Environment;
use bearerd::trust;
use rustix::process::geteuid;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The folder of [`SYSTEM`]. The systemd unit passes the secret of this folder to the service.
const SYSTEM_FOLDER: &str = "${CREDENTIALS_DIRECTORY:-/etc/bearerd}";
/// The secret's file beside `bearerd.yaml`. Beside `other.yaml`, it is `other.client_secret`.
const SECRET: &str = "client_secret";
const USUAL: &str = "bearerd";
/// The private authority of issuer and tenant, for the service.
const ANCHOR: &str = "/etc/bearerd/ca.pem";
/// What the packages install as [`SYSTEM`].
const SAMPLE: &str = include_str!("../../../deploy/systemd/bearerd.yaml");

/// Where the files go.
pub(super) struct Target {
    config: PathBuf,
    secret: PathBuf,
    /// The files that were there when the questions began.
    before: Vec<PathBuf>,
}

impl Target {
    /// The files for this configuration. Its folder is made if it is missing.
    pub(super) fn of(config: PathBuf) -> anyhow::Result<Self> {
        ensure!(!config.is_dir(), "{} is a folder; name a file in it", config.display());
        let config = std::path::absolute(&config)
            .with_context(|| format!("cannot find the folder of {}", config.display()))?;
        let folder = config.parent().unwrap_or_else(|| Path::new("/"));
        if !folder.is_dir() {
            let made = fs::create_dir_all(folder)
                // The user of the service reads the configuration.
                .and_then(|()| fs::set_permissions(folder, Permissions::from_mode(0o755)));
            made.with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let secret = match config.file_stem().and_then(OsStr::to_str) {
            Some(USUAL) | None => config.with_file_name(SECRET),
            Some(name) => config.with_file_name(format!("{name}.{SECRET}")),
        };
        let before = [&config, &secret].into_iter().filter(|path| path.symlink_metadata().is_ok());
        let before = before.cloned().collect();
        Ok(Self { config, secret, before })
    }

    pub(super) fn config(&self) -> &Path {
        &self.config
    }

    /// The configuration's path for a command line.
    pub(super) fn shown(&self) -> String {
        let path = self.config.display().to_string();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
        if path.bytes().all(is_plain) { path } else { format!("'{}'", path.replace('\'', r"'\''")) }
    }

    /// The files that are there already, as the beginning of a sentence. The sample of the package
    /// does not count.
    pub(super) fn existing(&self) -> Option<String> {
        let is_sample = fs::read_to_string(&self.config).is_ok_and(|text| text == SAMPLE);
        match (self.config.exists() && !is_sample, self.secret.exists()) {
            (true, true) => {
                Some(format!("{} and {} exist", self.config.display(), self.secret.display()))
            }
            (true, false) => Some(format!("{} exists", self.config.display())),
            (false, true) => Some(format!("{} exists", self.secret.display())),
            (false, false) => None,
        }
    }

    /// Whether the systemd unit reads the configuration.
    fn is_of_the_system(&self) -> bool {
        self.config == Path::new(SYSTEM)
    }

    /// How to run bearerd with it.
    pub(super) fn start_command(&self) -> String {
        if self.is_of_the_system() {
            return "systemctl enable --now bearerd.socket bearerd.service (if it runs already: systemctl restart bearerd)".to_owned();
        }
        format!("bearerd run --config {}", self.shown())
    }

    /// Checks the answers as `bearerd check` would, before anything is written.
    pub(super) fn check(&self, answers: &Answers, environment: &Environment) -> anyhow::Result<()> {
        if let Some(file) = &answers.ca_file {
            trust::read_pem(file)?;
        }
        let place = match &answers.client {
            Client::Values { .. } => literal(&self.secret),
            Client::Credentials(file) => literal(file),
        };
        let text = self.yaml(answers, &place);
        let config = config::parse("answers", &text, environment, &Flags::default()).resolve();
        let config = config.map_err(ConfigError::from)?;
        match &answers.client {
            // Its file is not there yet.
            Client::Values { .. } => {}
            Client::Credentials(_) => app::check(&config)?,
        }
        Ok(())
    }

    /// Writes the files. Returns a description of each.
    pub(super) fn write(&self, answers: &Answers) -> anyhow::Result<Vec<String>> {
        let mut files = Vec::new();
        let mut written = Vec::new();
        let place = match &answers.client {
            Client::Values { secret, .. } => {
                let content = Zeroizing::new(secret.as_bytes().to_vec());
                files.push(NewFile::prepare(&self.secret, &content, 0o600, &self.before)?);
                self.secret_place()
            }
            // The unit passes only this file to the service.
            Client::Credentials(file) if self.is_of_the_system() => {
                let content = fs::read(file);
                let content = content.with_context(|| format!("cannot read {}", file.display()))?;
                let content = Zeroizing::new(content);
                files.push(NewFile::prepare(&self.secret, &content, 0o600, &self.before)?);
                self.secret_place()
            }
            Client::Credentials(file) => literal(file),
        };
        if let Some(file) = answers.ca_file.as_deref().filter(|_| self.is_of_the_system()) {
            // The service sees no home folders, and is not root.
            let content = fs::read(file);
            let content = content.with_context(|| format!("cannot read {}", file.display()))?;
            let copy = Path::new(ANCHOR);
            if file != copy {
                files.push(NewFile::prepare(copy, &content, 0o644, &[copy.to_owned()])?);
            }
        }
        let text = self.yaml(answers, &place);
        files.push(NewFile::prepare(&self.config, text.as_bytes(), 0o644, &self.before)?);
        for file in files {
            written.push(file.put_in_place().with_context(|| match written.is_empty() {
                true => "nothing was written".to_owned(),
                false => format!("only {} was written", written.join(" and ")),
            })?);
        }
        Ok(written)
    }

    /// The secret's path in the configuration.
    fn secret_place(&self) -> String {
        match self.is_of_the_system() {
            true => format!("{SYSTEM_FOLDER}/{SECRET}"),
            false => literal(&self.secret),
        }
    }

    /// The configuration. `place` is the path of the secret or of the credentials.
    fn yaml(&self, answers: &Answers, place: &str) -> String {
        let place = scalar(place);
        let identity = match &answers.client {
            Client::Values { token_url, id, .. } => format!(
                "    token_url: {}\n    client_id: {}\n    client_secret_file: {place}\n",
                scalar(&escaped(token_url)),
                scalar(&escaped(id))
            ),
            Client::Credentials(_) => format!("    credentials: {place}\n"),
        };
        let url = match &answers.tenant {
            Some(tenant) => format!("    url: {}\n", scalar(&escaped(tenant))),
            None => "    # The credentials name the URL.\n    client: technical-user\n".to_owned(),
        };
        let anchors = answers.ca_file.as_deref().map(|file| match self.is_of_the_system() {
            true => format!("    ca_file: {ANCHOR}\n"),
            false => format!("    ca_file: {}\n", scalar(&literal(file))),
        });
        let anchors = anchors.unwrap_or_default();
        let limits = match self.is_of_the_system() {
            true => "limits:\n  # It fits the memory limit of the systemd unit.\n  requests: 48\n",
            false => "",
        };
        format!(
            "# Written by `bearerd init`. `bearerd reference` describes every key.\nclients:\n  technical-user:\n{identity}{anchors}upstreams:\n  datasphere:\n{url}{anchors}{limits}"
        )
    }
}

/// Text in which nothing is a reference to the environment.
fn escaped(text: &str) -> String {
    text.replace("${", "$${")
}

/// A path in which nothing is a reference to the environment.
fn literal(path: &Path) -> String {
    escaped(&path.display().to_string())
}

/// A value of YAML, in quotes if it could mean anything else.
fn scalar(text: &str) -> String {
    let is_plain =
        |character: char| character.is_ascii_alphanumeric() || "_-./:!|${}".contains(character);
    let begins_plain =
        text.starts_with(|first: char| first.is_ascii_alphabetic() || "/$".contains(first));
    if begins_plain && text.chars().all(is_plain) && !text.ends_with(':') {
        return text.to_owned();
    }
    // A string of JSON is one of YAML.
    serde_json::Value::from(text).to_string()
}

/// A file that is complete beside its place.
struct NewFile<'a> {
    path: &'a Path,
    part: PathBuf,
    mode: u32,
}

impl<'a> NewFile<'a> {
    /// Writes the content beside its place. A file that is there gives its group and its mode, as
    /// far as that opens the file to nobody else. `before` has the files that may be replaced.
    fn prepare(
        path: &'a Path,
        content: &[u8],
        mode: u32,
        before: &[PathBuf],
    ) -> anyhow::Result<Self> {
        let cannot = || format!("cannot write {}", path.display());
        let old = path.symlink_metadata().ok();
        if let Some(old) = &old {
            ensure!(
                before.iter().any(|known| known == path),
                "{} was made by another program after the first question; try again",
                path.display()
            );
            ensure!(
                old.is_file(),
                "{} is not a regular file; remove it, or choose another folder",
                path.display()
            );
        }
        let keeps = old.as_ref().filter(|old| old.uid() == geteuid().as_raw());
        // Others never read a secret, whatever its mode was.
        let widest = if mode == 0o600 { 0o640 } else { 0o664 };
        let mode = keeps.map_or(mode, |old| old.mode() & widest | 0o400);
        let part = beside(path, ".part");
        let write = || -> std::io::Result<()> {
            // A file or a link that is there would keep its own mode and place.
            if part.symlink_metadata().is_ok() {
                fs::remove_file(&part)?;
            }
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(mode).open(&part)?;
            if let Some(old) = keeps {
                std::os::unix::fs::fchown(&file, None, Some(old.gid()))?;
            }
            // The umask may have removed bits.
            file.set_permissions(Permissions::from_mode(mode))?;
            file.write_all(content)?;
            file.sync_all()
        };
        write().with_context(cannot)?;
        Ok(Self { path, part, mode })
    }

    /// Replaces the old file, which becomes the first `.bak`. Returns a description.
    fn put_in_place(self) -> anyhow::Result<String> {
        // A later run must not replace the operator's original; there may be none.
        let _ = fs::hard_link(self.path, beside(self.path, ".bak"));
        fs::rename(&self.part, self.path)
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        Ok(format!("{} (mode {:04o})", self.path.display(), self.mode))
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        // It is gone if it is in its place.
        let _ = fs::remove_file(&self.part);
    }
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_where_yaml_needs_it() {
        assert_eq!(scalar("sb-1f2e!b42|client!b7"), "sb-1f2e!b42|client!b7");
        assert_eq!(scalar("https://a.example"), "https://a.example");
        assert_eq!(scalar("a: b"), r#""a: b""#);
        assert_eq!(scalar("!b42"), r#""!b42""#);
        assert_eq!(scalar("42"), r#""42""#);
        assert_eq!(scalar("a\"b"), r#""a\"b""#);
        assert_eq!(scalar("key:"), r#""key:""#);
        assert_eq!(literal(Path::new("/a/${b}")), "/a/$${b}");
    }
}
