//! Type of secrets: wiped from memory when dropped, redacted when printed, never serialized.

use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Text that must not reach a log, a metric, an error or a status page.
///
/// There is no `Serialize` and no `Display`. Only [`Secret::expose`] returns the value, so that a
/// review can search for it. The time of a comparison depends on the length and on nothing else.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a text. Later copies of it are wiped too.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Returns the text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_does_not_show_the_value() {
        let secret = Secret::new("open sesame".into());
        assert_eq!(format!("{secret:?}"), "Secret(redacted)");
        assert_eq!(secret.expose(), "open sesame");
    }

    #[test]
    fn secrets_are_equal_only_as_a_whole() {
        let secret = |text: &str| Secret::new(text.into());
        assert_eq!(secret("abc"), secret("abc"));
        for other in ["abd", "ab", "abcd", ""] {
            assert_ne!(secret("abc"), secret(other));
        }
    }
}
