//! `bearerd key`: makes a key for a caller.

use super::print;
use anyhow::{Context, anyhow, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bearerd::caller_secret::{SecretDigest, SecretKind};
use bearerd::text;
use clap::Args;
use ring::rand::{SecureRandom, SystemRandom};
use std::io::{IsTerminal, Read};
use zeroize::Zeroizing;

/// The number of random bytes.
const BYTES: usize = 32;
/// The longest key that is read.
const LONGEST: u64 = 64 * 1024;

#[derive(Args)]
pub(super) struct KeyOptions {
    /// Read a key from standard input and print its digest, for the key file of a caller. The key
    /// itself is then on the caller's side only.
    #[arg(long)]
    digest: bool,
}

pub(super) fn key(options: &KeyOptions) -> anyhow::Result<()> {
    if options.digest {
        return print(&format!("{}\n", digest_of_input()?));
    }
    let mut bytes = Zeroizing::new([0; BYTES]);
    let filled = SystemRandom::new().fill(&mut *bytes);
    filled.map_err(|_| anyhow!("the system has no random numbers; try again"))?;
    print(&format!("{}\n", URL_SAFE_NO_PAD.encode(*bytes)))
}

fn digest_of_input() -> anyhow::Result<SecretDigest> {
    let input = std::io::stdin();
    ensure!(
        !input.is_terminal(),
        "--digest reads a key from standard input; give it one, for example: bearerd key --digest < key"
    );
    let mut bytes = Zeroizing::new(Vec::new());
    let read = input.lock().take(LONGEST + 1).read_to_end(&mut bytes);
    read.context("cannot read the key from standard input")?;
    ensure!(bytes.len() as u64 <= LONGEST, "standard input is longer than a key");
    let text = text::decode(&bytes).map_err(|why| anyhow!("standard input {why}"))?;
    let key = text.trim_end_matches(['\r', '\n']);
    SecretKind::Key.digest(key).map_err(|why| anyhow!("standard input {why}"))
}
