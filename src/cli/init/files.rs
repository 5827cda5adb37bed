//! The files that `bearerd init` writes: the configuration, and the secret beside it.

use super::answers::{Answers, Client};
use crate::cli::default_file::SYSTEM;
use anyhow::{Context, ensure};
use bearerd::app;
use bearerd::config::{self, ConfigError, Flags};
use bearerd::environment::Environment;
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
/// What the packages install as [`SYSTEM`].
const SAMPLE: &str = include_str!("../../../deploy/systemd/bearerd.yaml");

/// Where the files go.
pub(super) struct Target {
    config: PathBuf,
    secret: PathBuf,
}

impl Target {
    /// The files for this configuration. Its folder is made if it is missing.
    pub(super) fn of(config: PathBuf) -> anyhow::Result<Self> {
        ensure!(!config.is_dir(), "{} is a folder; name a file in it", config.display());
        let config = std::path::absolute(&config)
            .with_context(|| format!("cannot find the folder of {}", config.display()))?;
        let folder = config.parent().unwrap_or_else(|| Path::new("/"));
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let secret = match config.file_stem().and_then(OsStr::to_str) {
            Some(USUAL) | None => config.with_file_name(SECRET),
            Some(name) => config.with_file_name(format!("{name}.{SECRET}")),
        };
        Ok(Self { config, secret })
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
        let Client::Credentials(file) = &answers.client else { return Ok(()) };
        let yaml = yaml(answers, &literal(file), "");
        let config = config::parse("answers", &yaml, environment, &Flags::default()).resolve();
        app::check(&config.map_err(ConfigError::from)?)?;
        Ok(())
    }

    /// Writes the files. Returns a description of each.
    pub(super) fn write(&self, answers: &Answers) -> anyhow::Result<Vec<String>> {
        let mut written = Vec::new();
        let (content, kind) = match &answers.client {
            Client::Values { secret, .. } => (Some(secret.as_bytes().to_vec()), ""),
            // The unit passes only this file to the service.
            Client::Credentials(file) if self.is_of_the_system() => {
                let content = fs::read(file);
                let content = content.with_context(|| format!("cannot read {}", file.display()))?;
                (Some(content), "a copy, ")
            }
            Client::Credentials(_) => (None, ""),
        };
        let place = match (&content, &answers.client) {
            (None, Client::Credentials(file)) => literal(file),
            _ if self.is_of_the_system() => format!("{SYSTEM_FOLDER}/{SECRET}"),
            _ => literal(&self.secret),
        };
        if let Some(content) = content {
            let mode = write_file(&self.secret, &Zeroizing::new(content), 0o600)?;
            written.push(format!("{} ({kind}mode {mode:04o})", self.secret.display()));
        }
        let limits = match self.is_of_the_system() {
            true => "limits:\n  # It fits the memory limit of the systemd unit.\n  requests: 48\n",
            false => "",
        };
        write_file(&self.config, yaml(answers, &place, limits).as_bytes(), 0o644)?;
        written.push(self.config.display().to_string());
        Ok(written)
    }
}

/// The configuration. `place` is the path of the secret or of the credentials.
fn yaml(answers: &Answers, place: &str, limits: &str) -> String {
    let place = scalar(place);
    let identity = match &answers.client {
        Client::Values { token_url, id, .. } => format!(
            "    token_url: {}\n    client_id: {}\n    client_secret_file: {place}\n",
            scalar(token_url),
            scalar(id)
        ),
        Client::Credentials(_) => format!("    credentials: {place}\n"),
    };
    let url = match &answers.tenant {
        Some(tenant) => format!("    url: {}\n", scalar(tenant)),
        None => "    # The credentials name the URL.\n    client: technical-user\n".to_owned(),
    };
    let anchors =
        answers.ca_file.as_deref().map(|file| format!("    ca_file: {}\n", scalar(&literal(file))));
    let anchors = anchors.unwrap_or_default();
    format!(
        "# Written by `bearerd init`. `bearerd reference` describes every key.\nclients:\n  technical-user:\n{identity}{anchors}upstreams:\n  datasphere:\n{url}{anchors}{limits}"
    )
}

/// A path in which nothing is a reference to the environment.
fn literal(path: &Path) -> String {
    path.display().to_string().replace("${", "$${")
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

/// Replaces a file as a whole, so that no reader finds half of it. The old one goes to `.bak`; the
/// new one has its mode and its owner. Returns the mode.
fn write_file(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<u32> {
    let beside = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let part = beside(".part");
    let write = || -> std::io::Result<u32> {
        // A file or a link that is there would keep its own mode and place.
        if part.symlink_metadata().is_ok() {
            fs::remove_file(&part)?;
        }
        let before = path.metadata().ok();
        let mode = before.as_ref().map_or(mode, |file| file.mode() & 0o777);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&part)?;
        // The umask may have removed bits.
        file.set_permissions(Permissions::from_mode(mode))?;
        if let Some(before) = &before {
            std::os::unix::fs::fchown(&file, Some(before.uid()), Some(before.gid()))?;
        }
        file.write_all(content)?;
        file.sync_all()?;
        if before.is_some() {
            fs::rename(path, beside(".bak"))?;
        }
        fs::rename(&part, path)?;
        Ok(mode)
    };
    let written = write();
    if written.is_err() {
        // It may not be there.
        let _ = fs::remove_file(&part);
    }
    written.with_context(|| format!("cannot write {}", path.display()))
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
