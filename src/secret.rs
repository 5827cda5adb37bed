//! A secret's type: wiped from memory when dropped, redacted when printed, never serialized.

use std::fmt;
use zeroize::Zeroizing;

/// Text that must not reach a log, a metric, an error or a status page.
///
/// There is no `Serialize`, no `Display` and no `PartialEq`; the value is reached only by
/// [`Secret::expose`], which is easy to search for in a review.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes ownership of the text.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself. Name the reason where you call it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

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
}
