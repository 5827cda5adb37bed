//! Certificates and keys of documents, as PEM text in any spelling.

use super::error::ClientFault;
use crate::pem::normal;
use crate::secret::Secret;

/// A certificate chain, the client's own certificate first.
pub(super) fn chain(text: &str, field: &'static str) -> Result<String, ClientFault> {
    let text = normal(text);
    if text.contains("PRIVATE KEY-----") {
        return Err(ClientFault::Pem { field, why: "holds a private key" });
    }
    if !is_pem(&text, "CERTIFICATE-----") {
        return Err(ClientFault::Pem { field, why: "is not a certificate as PEM text" });
    }
    Ok(text.to_string())
}

/// A private key: PKCS#1, PKCS#8 or SEC 1.
pub(super) fn key(text: &str, field: &'static str) -> Result<Secret, ClientFault> {
    let text = normal(text);
    if !is_pem(&text, "PRIVATE KEY-----") {
        return Err(ClientFault::Pem { field, why: "is not a private key as PEM text" });
    }
    if text.contains("ENCRYPTED") {
        return Err(ClientFault::Pem { field, why: "is encrypted; give it without a passphrase" });
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
    fn a_key_and_a_certificate_are_not_confused() {
        let key_text = PLAIN.replace("CERTIFICATE", "EC PRIVATE KEY");
        assert_eq!(key(&key_text, "key").unwrap().expose(), key_text);
        let why = |fault| match fault {
            ClientFault::Pem { why, .. } => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(why(chain(&key_text, "c").unwrap_err()), "holds a private key");
        assert_eq!(why(chain("QQ==", "c").unwrap_err()), "is not a certificate as PEM text");
        assert_eq!(why(key(PLAIN, "k").unwrap_err()), "is not a private key as PEM text");
        let encrypted = PLAIN.replace("CERTIFICATE", "ENCRYPTED PRIVATE KEY");
        assert!(why(key(&encrypted, "k").unwrap_err()).starts_with("is encrypted"));
    }
}
