//! Secrets that callers present: API keys and passwords.
//!
//! A caller without a name has one secret in a file. A caller with a name has up to two, so that
//! the old one is still valid while a tool gets the new one. They are compared by their digests
//! (SHA-256), in constant time.

use crate::secret::Secret;
use crate::secret_file::{SecretFileError, read_secret};
use ring::digest;
use std::fmt;
use std::path::Path;
use subtle::ConstantTimeEq;

/// Longest password or key. A longer one, as base64, would not fit into a header of 64 KiB.
const LONGEST: usize = 32 * 1024;
/// Begins a line that holds a digest instead of the secret.
pub const DIGEST: &str = "sha256:";
/// The largest number of secrets in a file of a caller with a name: the old one and the new one.
const MOST_LINES: usize = 2;

/// A kind of secret, by the form in which requests carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretKind {
    /// A password of HTTP Basic. Base64 could hold anything, but a password has no control
    /// characters (RFC 7617 section 2).
    Password,
    /// An API key: the value of a header.
    Key,
}

/// SHA-256 of a secret. Two are compared in constant time: each request is compared with all.
#[derive(Clone, Copy)]
pub struct SecretDigest([u64; 4]);

impl SecretDigest {
    /// Returns the digest of a secret.
    pub fn of(secret: &[u8]) -> Self {
        Self::from_bytes(digest::digest(&digest::SHA256, secret).as_ref())
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_be_bytes(*bytes);
        }
        Self(words)
    }

    /// Parses 64 hexadecimal digits.
    fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
        }
        Some(Self::from_bytes(&bytes))
    }
}

/// Formats the digest as a line of a file.
impl fmt::Display for SecretDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(DIGEST)?;
        self.0.iter().try_for_each(|word| write!(formatter, "{word:016x}"))
    }
}

impl PartialEq for SecretDigest {
    fn eq(&self, other: &Self) -> bool {
        let differences =
            self.0.iter().zip(&other.0).fold(0, |all, (one, other)| all | (one ^ other));
        differences.ct_eq(&0).into()
    }
}

impl Eq for SecretDigest {}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecretDigest(redacted)")
    }
}

impl SecretKind {
    /// Reads a file with one secret. Refuses a value that no request can carry, because it would
    /// lock out every caller.
    ///
    /// # Errors
    /// The file can't be read, or a request can't carry what is in it.
    pub fn read(self, path: &Path) -> Result<Secret, SecretFileError> {
        let secret = read_secret(path)?;
        match self.defect(secret.expose()) {
            Some(reason) => Err(SecretFileError::CannotBeSent { path: path.to_owned(), reason }),
            None => Ok(secret),
        }
    }

    /// Reads a file of a caller with a name: one secret a line, or its digest. Empty lines are
    /// ignored.
    ///
    /// # Errors
    /// The file can't be read, or it holds a secret that is too short or that no request can carry.
    pub fn read_digests(self, path: &Path) -> Result<Vec<SecretDigest>, SecretFileError> {
        let text = read_secret(path)?;
        let lines = text.expose().lines().filter(|line| !line.is_empty());
        let digests = lines.map(|line| self.digest_of_line(line)).collect::<Result<Vec<_>, _>>();
        match digests {
            Ok(digests) if digests.len() > MOST_LINES => {
                Err("holds more than two lines; leave the old secret and the new one")
            }
            Ok(digests) if digests.is_empty() => Err("is empty; write the secret into it"),
            other => other,
        }
        .map_err(|reason| SecretFileError::CannotBeSent { path: path.to_owned(), reason })
    }

    fn digest_of_line(self, line: &str) -> Result<SecretDigest, &'static str> {
        if let Some(digest) = line.strip_prefix(DIGEST) {
            let wrong = "has a `sha256:` line that is not followed by 64 hexadecimal digits; `bearerd key --digest` makes a right one from the key";
            return SecretDigest::parse(digest.trim_end()).ok_or(wrong);
        }
        self.digest(line)
    }

    /// Returns the digest of a secret, for a line of a file.
    ///
    /// # Errors
    /// Why the secret can't be used.
    pub fn digest(self, secret: &str) -> Result<SecretDigest, &'static str> {
        if let Some(reason) = self.defect(secret) {
            return Err(reason);
        }
        if secret.chars().count() < self.least() {
            return Err(match self {
                Self::Key => {
                    "holds a key of fewer than 32 characters; `bearerd key` makes a long one"
                }
                Self::Password => {
                    "holds a password of fewer than 16 characters; `bearerd key` makes a long one"
                }
            });
        }
        Ok(SecretDigest::of(secret.as_bytes()))
    }

    /// The least number of characters for a caller with a name.
    const fn least(self) -> usize {
        match self {
            Self::Key => 32,
            Self::Password => 16,
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

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn what_a_caller_can_show_is_taken_as_it_is_written() {
        use SecretKind::{Key, Password};
        for text in ["key 1", "key\t1", "schl\u{fc}ssel", "!\"$%&/()=?", &"x".repeat(LONGEST)] {
            assert_eq!((Key.defect(text), text.len() > LONGEST), (None, false), "{text}");
            let value = HeaderValue::from_bytes(text.as_bytes());
            assert!(value.is_ok(), "{text}");
        }
        assert_eq!(Password.defect(" of words "), None);
        for text in ["pass\nword", "pass\tword", "pass\u{1b}word", &"x".repeat(LONGEST + 1)] {
            assert!(Password.defect(text).is_some(), "{text}");
        }
    }

    #[test]
    fn a_key_that_no_header_can_carry_is_always_refused() {
        for byte in 1..=127_u8 {
            let text = format!("key{}1", char::from(byte));
            let can_be_sent = HeaderValue::from_bytes(text.as_bytes()).is_ok();
            assert_eq!(SecretKind::Key.defect(&text).is_none(), can_be_sent, "{text:?}");
        }
    }

    #[test]
    fn a_file_holds_an_old_and_a_new_secret_or_their_digests() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let read = |kind: SecretKind, text: &str| {
            std::fs::write(&path, text).unwrap();
            kind.read_digests(&path).map_err(|error| error.to_string())
        };
        let (old, new) = ("o".repeat(32), "n".repeat(40));
        let both = vec![SecretDigest::of(old.as_bytes()), SecretDigest::of(new.as_bytes())];
        let hidden = SecretDigest::of(old.as_bytes()).to_string();
        for text in [
            format!("{old}\n{new}\n"),
            format!("{old}\r\n\r\n{new}"),
            format!("{hidden}\n{new}"),
            format!("{DIGEST}{}\n{new}", hidden[DIGEST.len()..].to_uppercase()),
        ] {
            assert_eq!(read(SecretKind::Key, &text), Ok(both.clone()), "{text}");
        }
        for (text, reason) in [
            ("x".repeat(31), "fewer than 32 characters"),
            (format!("{old}\n{new}\n{old}"), "more than two lines"),
            ("\n\n".to_owned(), "is empty"),
            (format!(" {old}"), "begins or ends with a blank"),
            ("sha256:12".to_owned(), "64 hexadecimal digits"),
            (format!("sha256:{}", "x".repeat(64)), "64 hexadecimal digits"),
            (format!("sha256:+{}", "1".repeat(63)), "64 hexadecimal digits"),
        ] {
            let error = read(SecretKind::Key, &text).unwrap_err();
            assert!(error.contains(reason) && !error.contains(&old), "{text:?}: {error}");
        }
        assert!(read(SecretKind::Password, &"p".repeat(16)).is_ok());
        let error = read(SecretKind::Password, &"p".repeat(15)).unwrap_err();
        assert!(error.contains("fewer than 16"), "{error}");
    }
}
