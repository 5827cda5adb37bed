//! PEM text as documents hold it: with `\n` written out, or with Windows' line ends.

use super::error::Problem;
use crate::pem::normal;
use crate::secret::Secret;

/// A certificate, and those that lead from it to a root.
pub(super) fn chain(text: &str, field: &'static str) -> Result<String, Problem> {
    let text = normal(text);
    if text.contains("PRIVATE KEY-----") {
        return Err(Problem::Pem { field, why: "holds a private key" });
    }
    if !is_pem(&text, "CERTIFICATE-----") {
        return Err(Problem::Pem { field, why: "is not a certificate as PEM text" });
    }
    Ok(text.to_string())
}

/// A private key, in any of the encodings.
pub(super) fn key(text: &str, field: &'static str) -> Result<Secret, Problem> {
    let text = normal(text);
    if !is_pem(&text, "PRIVATE KEY-----") {
        return Err(Problem::Pem { field, why: "is not a private key as PEM text" });
    }
    if text.contains("ENCRYPTED") {
        return Err(Problem::Pem { field, why: "is encrypted; give it without a passphrase" });
    }
    Ok(Secret::new(text.to_string()))
}

fn is_pem(text: &str, kind: &str) -> bool {
    let has = |mark| text.lines().any(|line| line.starts_with(mark) && line.ends_with(kind));
    has("-----BEGIN ") && has("-----END ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "-----BEGIN CERTIFICATE-----\nQQ==\n-----END CERTIFICATE-----\n";

    #[test]
    fn every_way_to_write_a_line_break_gives_the_same_text() {
        for text in [
            PLAIN.to_owned(),
            PLAIN.replace('\n', "\\n"),
            PLAIN.replace('\n', "\r\n"),
            PLAIN.replace('\n', "\\r\\n"),
            format!("\n  {}", PLAIN.trim_end()),
        ] {
            assert_eq!(chain(&text, "certificate").as_deref(), Ok(PLAIN), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_certificate_or_no_key_is_told_apart() {
        let key_text = PLAIN.replace("CERTIFICATE", "EC PRIVATE KEY");
        assert_eq!(key(&key_text, "key").unwrap().expose(), key_text);
        let why = |problem| match problem {
            Problem::Pem { why, .. } => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(why(chain(&key_text, "c").unwrap_err()), "holds a private key");
        assert_eq!(why(chain("QQ==", "c").unwrap_err()), "is not a certificate as PEM text");
        assert_eq!(why(key(PLAIN, "k").unwrap_err()), "is not a private key as PEM text");
        let encrypted = PLAIN.replace("CERTIFICATE", "ENCRYPTED PRIVATE KEY");
        assert!(why(key(&encrypted, "k").unwrap_err()).starts_with("is encrypted"));
    }
}
