//! PEM text as files hold it (RFC 7468): sections joined without a line break, indented, with a
//! written `\n`, or with other text around them.

use zeroize::Zeroizing;

const DASHES: &str = "-----";
const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";

/// Returns the sections of a text in their standard form, without the text around them. The result
/// is empty if there are none. A section without an end is kept, so that the TLS library reports
/// it.
///
/// The TLS library parses by lines. If two sections meet in one line, it ignores the second one.
pub fn normal(text: &str) -> Zeroizing<String> {
    // Never grows: growing would leave a copy of a key behind that is not wiped.
    let mut normal = Zeroizing::new(String::with_capacity(text.len() * 2));
    let mut rest = text;
    while let Some((_, begun)) = rest.split_once(BEGIN) {
        let Some((label, inner)) = begun.split_once(DASHES).filter(|(label, _)| is_label(label))
        else {
            rest = begun;
            continue;
        };
        let ended = inner.split_once(END).and_then(|(content, ended)| {
            let after = ended.strip_prefix(label)?.strip_prefix(DASHES)?;
            Some((content, after))
        });
        let Some((content, after)) = ended else {
            normal.push_str(BEGIN);
            normal.push_str(begun);
            break;
        };
        push_section(&mut normal, label, content);
        rest = after;
    }
    normal
}

/// Whether a text between dashes is a label: capital letters, digits and spaces. Anything else is
/// prose.
fn is_label(label: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' ';
    !label.is_empty() && label.bytes().all(allowed)
}

fn push_section(normal: &mut String, label: &str, content: &str) {
    // The label that old versions of OpenSSL write.
    let label = if label == "X509 CERTIFICATE" { "CERTIFICATE" } else { label };
    for part in [BEGIN, label, DASHES, "\n"] {
        normal.push_str(part);
    }
    for line in content.split(['\n', '\r']).flat_map(|line| line.split("\\n")) {
        let line = line.trim().trim_end_matches("\\r");
        if !line.is_empty() {
            normal.push_str(line);
            normal.push('\n');
        }
    }
    for part in [END, label, DASHES, "\n"] {
        normal.push_str(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "-----BEGIN CERTIFICATE-----\nQUFB\nQkI+\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nQ0ND\n-----END PRIVATE KEY-----\n";

    #[test]
    fn sections_are_found_however_they_are_written() {
        let joined = format!("{}{KEY}", ONE.trim_end());
        for text in [
            format!("{ONE}{KEY}"),
            joined.clone(),
            joined.replace('\n', "\r\n"),
            joined.replace('\n', "\r"),
            joined.replace('\n', "\\n"),
            joined.replace('\n', "\\r\\n"),
            joined.replace('\n', "\n    "),
            format!("\u{feff}{joined}"),
            format!(
                "Bag Attributes\n  name: a\nsubject=/CN=a\n{ONE}\nKey Attributes: <none>\n{KEY}\n# end"
            ),
            format!("\"{}\"", joined.replace('\n', "\\n")),
            format!("-----BEGIN of a letter-----\n{joined}")
                .replace("CERTIFICATE", "X509 CERTIFICATE"),
            format!("ca: |\n  {}", joined.replace('\n', "\n  ")),
        ] {
            assert_eq!(*normal(&text), format!("{ONE}{KEY}"), "{text:?}");
        }
    }

    #[test]
    fn a_section_without_an_end_is_kept() {
        let cut = "-----BEGIN CERTIFICATE-----\nQUFB\n";
        assert_eq!(*normal(&format!("text {ONE}{cut}")), format!("{ONE}{cut}"));
        let other = "-----BEGIN CERTIFICATE-----\nQUFB\n-----END PRIVATE KEY-----\n";
        assert_eq!(*normal(other), other);
        for none in ["", "QUFB", "-----BEGIN -----", "-----END CERTIFICATE-----"] {
            assert!(normal(none).is_empty(), "{none}");
        }
    }
}
