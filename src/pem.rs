//! PEM as it is found in files: joined without a line break, indented, with `\n` written out, with other text around
//! (RFC 7468). Pure.

use zeroize::Zeroizing;

const DASHES: &str = "-----";
const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";

/// The sections of a text, each in lines of its own and nothing around them; empty without one. A section that does
/// not end stays as it is, for the TLS library to complain of.
///
/// That library reads lines: where two sections meet in one line, it loses the second without a word.
pub fn normal(text: &str) -> Zeroizing<String> {
    // Room for all of it, so that no copy of a key stays behind where a buffer grew.
    let mut normal = Zeroizing::new(String::with_capacity(text.len() * 2));
    let mut rest = text;
    while let Some((_, begun)) = rest.split_once(BEGIN) {
        let Some((label, inner)) = begun.split_once(DASHES).filter(|(label, _)| is_label(label))
        else {
            rest = begun;
            continue;
        };
        let ended = inner.split_once(END).and_then(|(content, ended)| {
            let behind = ended.strip_prefix(label)?.strip_prefix(DASHES)?;
            Some((content, behind))
        });
        let Some((content, behind)) = ended else {
            normal.push_str(BEGIN);
            normal.push_str(begun);
            break;
        };
        section(&mut normal, label, content);
        rest = behind;
    }
    normal
}

/// Capital letters, digits and spaces; anything else between dashes is prose.
fn is_label(label: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' ';
    !label.is_empty() && label.bytes().all(allowed)
}

fn section(normal: &mut String, label: &str, content: &str) {
    // OpenSSL's name of old.
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
    fn what_does_not_end_stays_to_be_complained_of() {
        let cut = "-----BEGIN CERTIFICATE-----\nQUFB\n";
        assert_eq!(*normal(&format!("text {ONE}{cut}")), format!("{ONE}{cut}"));
        let other = "-----BEGIN CERTIFICATE-----\nQUFB\n-----END PRIVATE KEY-----\n";
        assert_eq!(*normal(other), other);
        for none in ["", "QUFB", "-----BEGIN -----", "-----END CERTIFICATE-----"] {
            assert!(normal(none).is_empty(), "{none}");
        }
    }
}
