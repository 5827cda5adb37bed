//! The files that `bearerd init` writes: the configuration, and the secret beside it.

use super::answers::{Answers, Client};
use crate::cli::default_file::SYSTEM;
use anyhow::Context;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The secret's file, in the folder of the configuration.
const SECRET: &str = "client_secret";
/// The folder of [`SYSTEM`]. The systemd unit passes the secret of this folder to the service.
const SYSTEM_FOLDER: &str = "${CREDENTIALS_DIRECTORY:-/etc/bearerd}";

/// Where the files go.
pub(super) struct Target {
    config: PathBuf,
    secret: PathBuf,
}

impl Target {
    pub(super) fn of(config: PathBuf) -> Self {
        let secret = config.with_file_name(SECRET);
        Self { config, secret }
    }

    pub(super) fn config(&self) -> &Path {
        &self.config
    }

    /// The files that are there already.
    pub(super) fn existing(&self) -> Vec<String> {
        let files = [&self.config, &self.secret].into_iter().filter(|file| file.exists());
        files.map(|file| file.display().to_string()).collect()
    }

    /// Whether the systemd unit reads the configuration.
    fn is_of_the_system(&self) -> bool {
        self.config == Path::new(SYSTEM)
    }

    /// How to run bearerd with it.
    pub(super) fn start_command(&self) -> String {
        if self.is_of_the_system() {
            return "systemctl enable --now bearerd.socket bearerd.service".to_owned();
        }
        format!("bearerd run --config {}", self.config.display())
    }

    /// Writes the files. Returns a description of each.
    pub(super) fn write(&self, answers: &Answers) -> anyhow::Result<Vec<String>> {
        let folder = self.config.parent().filter(|folder| *folder != Path::new(""));
        let folder = folder.unwrap_or_else(|| Path::new("."));
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut written = Vec::new();
        let identity = match &answers.client {
            Client::Values { token_url, id, secret } => {
                write_file(&self.secret, secret.as_bytes(), 0o600)?;
                written.push(format!("{} (mode 0600)", self.secret.display()));
                format!(
                    "    token_url: {}\n    client_id: {}\n    client_secret_file: {}\n",
                    scalar(token_url),
                    scalar(id),
                    scalar(&self.secret_path()?)
                )
            }
            Client::Credentials(file) if self.is_of_the_system() => {
                let content =
                    fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
                write_file(&self.secret, &content, 0o600)?;
                written.push(format!("{} (a copy, mode 0600)", self.secret.display()));
                format!("    credentials: {}\n", scalar(&self.secret_path()?))
            }
            Client::Credentials(file) => format!("    credentials: {}\n", scalar(&literal(file))),
        };
        let mut yaml = format!(
            "# Written by `bearerd init`. `bearerd reference` describes every key.\nclients:\n  technical-user:\n{identity}"
        );
        // Writing to a String cannot fail.
        let _ = write!(yaml, "upstreams:\n  datasphere:\n");
        match &answers.tenant {
            Some(tenant) => drop(writeln!(yaml, "    url: {}", scalar(tenant))),
            None => {
                yaml.push_str("    # The credentials name the URL.\n    client: technical-user\n")
            }
        }
        if self.is_of_the_system() {
            yaml.push_str(
                "limits:\n  # It fits the memory limit of the systemd unit.\n  requests: 48\n",
            );
        }
        write_file(&self.config, yaml.as_bytes(), 0o644)?;
        written.push(self.config.display().to_string());
        Ok(written)
    }

    /// The secret's path in the configuration.
    fn secret_path(&self) -> anyhow::Result<String> {
        if self.is_of_the_system() {
            return Ok(format!("{SYSTEM_FOLDER}/{SECRET}"));
        }
        let path = self.secret.canonicalize();
        Ok(literal(&path.with_context(|| format!("cannot find {}", self.secret.display()))?))
    }
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

/// Replaces a file as a whole, so that no reader finds half of it and no old mode remains.
fn write_file(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let part = path.with_extension("part");
    let write = || {
        // A file or a link that is there would keep its own mode and place.
        if part.symlink_metadata().is_ok() {
            fs::remove_file(&part)?;
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&part)?;
        // The umask may have removed bits.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
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
