//! The files of the authority and of the certificate, and when they are made anew.

use crate::cli::{print, warn_of_unknown};
use anyhow::{Context, anyhow, bail, ensure};
use bearerd::config::{self, Config, Flags};
use bearerd::environment::Environment;
use bearerd::private_authority::{Authority, AuthorityError, current_until, is_private_key};
use bearerd::secret::Secret;
use clap::Args;
use rustix::system::uname;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf, absolute};
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(86_400);
/// How long an authority is valid: tools trust it by hand.
const AUTHORITY_DAYS: u32 = 3_650;

#[derive(Args)]
pub(in crate::cli) struct CertOptions {
    /// The configuration, whose `access.hosts` are the names in the certificate.
    #[arg(short, long, value_name = "FILE")]
    pub(in crate::cli) config: Option<PathBuf>,
    /// The folder of the files: ca.pem and ca.key of the authority, tls.crt and tls.key of the
    /// listener. It is made if it is missing.
    #[arg(long, value_name = "FOLDER")]
    folder: PathBuf,
    /// Days for which the certificate is valid. It is made anew when less than a third is left.
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// Make a new certificate even if the present one is still good.
    #[arg(long)]
    force: bool,
    /// Make a new authority, which the tools then have to trust.
    #[arg(long)]
    new_authority: bool,
    /// Delete the authority's key after use, so that nobody can sign with it. The certificate can't
    /// be renewed then.
    #[arg(long)]
    forget_authority_key: bool,
}

/// The paths of the files.
struct Files {
    authority: PathBuf,
    authority_key: PathBuf,
    chain: PathBuf,
    key: PathBuf,
}

pub(in crate::cli) fn cert(options: &CertOptions, environment: &Environment) -> anyhow::Result<()> {
    warn_of_unknown(environment);
    let config = config::load(options.config.as_deref(), environment, &Flags::default())?;
    let hosts = &config.access.hosts;
    let folder = &options.folder;
    if !folder.is_dir() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let folder = absolute(folder)?;
    let files = Files {
        authority: folder.join("ca.pem"),
        authority_key: folder.join("ca.key"),
        chain: folder.join("tls.crt"),
        key: folder.join("tls.key"),
    };
    let present = fs::read_to_string(&files.chain).unwrap_or_default();
    let current = current_until(&present, hosts, SystemTime::now());
    if let Some(end) = current.filter(|_| !options.force && !options.new_authority) {
        forget(options, &files)?;
        let end = humantime::format_rfc3339_seconds(end);
        return print(&format!("{} is good until {end}.\n", files.chain.display()));
    }
    let (authority, is_new) = files.authority(options, hosts)?;
    // With the same key, the new certificate takes effect in one step.
    let key = read_secret(&files.key)?.filter(|_| !is_new);
    ensure!(
        key.as_ref().is_none_or(is_private_key),
        "{} is not a private key in PEM that bearerd can use; delete it, and run this command with --force",
        files.key.display()
    );
    let made = authority.sign(hosts, DAY * options.days, key.as_ref());
    let made = made.map_err(|error| explained(&error, &files))?;
    if is_new {
        write(&files.authority_key, authority.key().expose(), 0o600)?;
        write(&files.authority, authority.certificate(), 0o644)?;
    }
    if key.is_none() {
        write(&files.key, made.key.expose(), 0o600)?;
    }
    write(&files.chain, &made.chain, 0o644)?;
    forget(options, &files)?;
    print(&report(&files, &config, is_new))
}

impl Files {
    /// The authority: the present one, or a new one. Returns whether it is new.
    fn authority(
        &self,
        options: &CertOptions,
        hosts: &[String],
    ) -> anyhow::Result<(Authority, bool)> {
        let is_there = self.authority.exists();
        if is_there && !options.new_authority {
            let Some(key) = read_secret(&self.authority_key)? else {
                bail!(
                    "{} is missing, so {} can sign nothing any more; --new-authority makes another one, which the tools have to trust",
                    self.authority_key.display(),
                    self.authority.display()
                );
            };
            let certificate = fs::read_to_string(&self.authority)
                .with_context(|| format!("cannot read {}", self.authority.display()))?;
            let read = Authority::read(&certificate, &key);
            return Ok((read.map_err(|error| explained(&error, self))?, false));
        }
        let today = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let today = today.split('T').next().unwrap_or_default();
        let name = format!("bearerd on {} ({today})", uname().nodename().to_string_lossy());
        Ok((Authority::new(&name, hosts, DAY * AUTHORITY_DAYS)?, true))
    }
}

fn explained(error: &AuthorityError, files: &Files) -> anyhow::Error {
    anyhow!(
        "{}: {error}; --new-authority makes another one, which the tools have to trust",
        files.authority.display()
    )
}

/// Deletes the authority's key, if that is wanted.
fn forget(options: &CertOptions, files: &Files) -> anyhow::Result<()> {
    if !options.forget_authority_key {
        return Ok(());
    }
    match fs::remove_file(&files.authority_key) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot delete {}", files.authority_key.display()))
        }
        _ => Ok(()),
    }
}

/// The secret in a file; `None` if there is no file.
fn read_secret(path: &Path) -> anyhow::Result<Option<Secret>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(Secret::new(text))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Replaces a file in one step.
fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    let written = || {
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        // Whatever the umask is.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(path.parent().unwrap_or_else(|| Path::new("/")))?.sync_all()
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}

/// What was made, and what is left to do.
fn report(files: &Files, config: &Config, is_new: bool) -> String {
    let (chain, key) = (files.chain.display(), files.key.display());
    let mut text = format!("{chain} is a certificate for {}.\n", config.access.hosts.join(", "));
    let listeners = config.tls.values().chain(&config.admin.tls);
    let mut configured = listeners.map(|tls| absolute(&tls.certificate.certificate));
    let is_configured = configured.any(|it| it.is_ok_and(|it| it == files.chain));
    if is_configured {
        text += "A running sidecar takes it without a restart.\n";
    } else {
        text += &format!(
            "Give it to a listener:\n\n  listen:\n    - address: 127.0.0.1:8443\n      tls: {{ certificate_file: {chain}, private_key_file: {key} }}\n\n"
        );
    }
    if is_new {
        advise_trust(&mut text, &files.authority);
    }
    text
}

fn advise_trust(text: &mut String, authority: &Path) {
    *text += &format!(
        "Tools have to trust the new authority, {}; docs/tools.md shows how. It can sign for these names only.\n",
        authority.display()
    );
}
