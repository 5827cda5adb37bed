//! What to do about TLS handshakes that fail, by the library's words for it: pingora has its errors as text only.

/// Its words, in the order in which they are looked for, and the advice.
const KNOWN: [(&[&str], &str); 12] = [
    (
        &["fatal alert: CertificateExpired"],
        "the server refuses the certificate that we show, which has expired by its clock; renew it, or mend the clock",
    ),
    (
        &["fatal alert: CertificateRequired"],
        "the server wants a certificate of us; name one, and its key, in the configuration",
    ),
    (
        &[
            "fatal alert: BadCertificate",
            "fatal alert: UnknownCA",
            "fatal alert: CertificateUnknown",
            "fatal alert: CertificateRevoked",
            "fatal alert: UnsupportedCertificate",
            "fatal alert: AccessDenied",
        ],
        "the server refuses the certificate that we show; is it the one that was registered there?",
    ),
    (
        &["CaUsedAsEndEntity"],
        "the server shows a certificate of an authority (CA:TRUE) as its own, which can't be trusted even in ca_file; let it show one of a server: openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj /CN=HOST -addext subjectAltName=DNS:HOST -addext basicConstraints=critical,CA:FALSE -keyout key.pem -out cert.pem",
    ),
    (
        &["UnknownIssuer"],
        "if an intermediate certificate is missing, let the server send it; else put the authority's certificate into ca_file; a TLS-inspecting proxy has one of its own",
    ),
    (
        &["NotValidForName", "not valid for name"],
        "the URL's host is not the one that the certificate names",
    ),
    (
        &["NotValidYet", "certificate not valid yet"],
        "this machine's clock is wrong, or the server's certificate is brand-new",
    ),
    (
        &["Expired", "certificate expired"],
        "the server's certificate has expired, or this machine's clock is wrong",
    ),
    (
        &["UnsupportedSignatureAlgorithm"],
        "a certificate is signed in a way that is too weak, such as SHA-1; the server needs a new one",
    ),
    (
        &["BadSignature", "InvalidSignature"],
        "if a key is too weak (RSA of less than 2048 bits), the server needs a new certificate; else another authority has the name of the one that is trusted",
    ),
    (
        &["InvalidPurpose", "does not allow extended key usage"],
        "the certificate is not for servers; the server needs another one",
    ),
    (
        &["ProtocolVersion", "HandshakeFailure"],
        "the server, or a proxy in between, speaks no TLS 1.2 or newer with ciphers of today",
    ),
];

/// What to do about a handshake that failed with these words, where they are known.
pub(crate) fn advice(error: &str) -> Option<&'static str> {
    let is_told = |words: &&[&str]| words.iter().any(|word| error.contains(word));
    KNOWN.iter().find(|(words, _)| is_told(words)).map(|(_, advice)| *advice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::{ServerName, UnixTime};
    use rustls::{AlertDescription, CertificateError, Error};
    use std::time::Duration;

    #[test]
    fn the_librarys_own_words_are_known() {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(1000));
        let expected = ServerName::try_from("a.example").unwrap();
        for (error, told) in [
            (CertificateError::UnknownIssuer, "ca_file"),
            (CertificateError::ExpiredContext { time, not_after: time }, "clock is wrong"),
            (CertificateError::NotValidYetContext { time, not_before: time }, "clock is wrong"),
            (
                CertificateError::NotValidForNameContext { expected, presented: Vec::new() },
                "the certificate names",
            ),
            (CertificateError::BadSignature, "2048 bits"),
        ] {
            let error = Error::InvalidCertificate(error).to_string();
            assert!(advice(&error).is_some_and(|advice| advice.contains(told)), "{error}");
        }
        for (alert, told) in [
            (AlertDescription::CertificateExpired, "by its clock"),
            (AlertDescription::CertificateRequired, "wants a certificate"),
            (AlertDescription::UnknownCA, "refuses the certificate that we show"),
            (AlertDescription::ProtocolVersion, "TLS 1.2"),
        ] {
            let error = Error::AlertReceived(alert).to_string();
            assert!(advice(&error).is_some_and(|advice| advice.contains(told)), "{error}");
        }
        assert_eq!(advice("connection reset"), None);
    }
}
