//! Advice for failed TLS handshakes. They are recognised by the TLS library's messages, because
//! pingora passes its errors on only as text.

/// Parts of the library's messages, in the order of the search, each with the advice.
const KNOWN: [(&[&str], &str); 12] = [
    (
        &["fatal alert: CertificateExpired"],
        "the server refuses bearerd's certificate as expired; renew it, or correct the server's clock",
    ),
    (
        &["fatal alert: CertificateRequired"],
        "the server requires a client certificate; configure one with its key",
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
        "the server refuses bearerd's certificate; check that it is the one that was registered there",
    ),
    (
        &["CaUsedAsEndEntity"],
        "the server presents an authority's certificate (CA:TRUE) as its own, which can't be trusted even in ca_file; give it a server certificate: openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj /CN=HOST -addext subjectAltName=DNS:HOST -addext basicConstraints=critical,CA:FALSE -keyout key.pem -out cert.pem",
    ),
    (
        &["UnknownIssuer"],
        "if the authority is your company's (its proxy may inspect TLS), put its certificate into ca_file; if it is a public one, the server's operator has to add the intermediate certificate",
    ),
    (
        &["NotValidForName", "not valid for name"],
        "the certificate does not name the URL's host; check the URL",
    ),
    (
        &["NotValidYet", "certificate not valid yet"],
        "correct this machine's clock if it is wrong; otherwise the server's operator has to replace the certificate",
    ),
    (
        &["Expired", "certificate expired"],
        "correct this machine's clock if it is wrong; otherwise the server's operator has to renew the certificate",
    ),
    (
        &["UnsupportedSignatureAlgorithm"],
        "a certificate is signed with a weak algorithm, for example SHA-1; the server needs a new one",
    ),
    (
        &["BadSignature", "InvalidSignature"],
        "if a key is too weak (RSA of less than 2048 bits), the server needs a new certificate; otherwise another authority has the same name as the trusted one",
    ),
    (
        &["InvalidPurpose", "does not allow extended key usage"],
        "the certificate is not for servers; the server needs another one",
    ),
    (
        &["ProtocolVersion", "HandshakeFailure"],
        "the server, or a proxy in front of it, does not support TLS 1.2 or newer with current ciphers",
    ),
];

/// Returns what to do about a handshake that failed with this message, if it is known.
pub(crate) fn advice(error: &str) -> Option<&'static str> {
    let occurs = |parts: &&[&str]| parts.iter().any(|part| error.contains(part));
    KNOWN.iter().find(|(parts, _)| occurs(parts)).map(|(_, advice)| *advice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::{ServerName, UnixTime};
    use rustls::{AlertDescription, CertificateError, Error};
    use std::time::Duration;

    #[test]
    fn the_librarys_messages_are_recognised() {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(1000));
        let expected = ServerName::try_from("a.example").unwrap();
        for (error, part) in [
            (CertificateError::UnknownIssuer, "ca_file"),
            (CertificateError::ExpiredContext { time, not_after: time }, "clock if it is wrong"),
            (
                CertificateError::NotValidYetContext { time, not_before: time },
                "clock if it is wrong",
            ),
            (
                CertificateError::NotValidForNameContext { expected, presented: Vec::new() },
                "does not name the URL's host",
            ),
            (CertificateError::BadSignature, "2048 bits"),
        ] {
            let error = Error::InvalidCertificate(error).to_string();
            assert!(advice(&error).is_some_and(|advice| advice.contains(part)), "{error}");
        }
        for (alert, part) in [
            (AlertDescription::CertificateExpired, "as expired"),
            (AlertDescription::CertificateRequired, "requires a client certificate"),
            (AlertDescription::UnknownCA, "the one that was registered"),
            (AlertDescription::ProtocolVersion, "TLS 1.2"),
        ] {
            let error = Error::AlertReceived(alert).to_string();
            assert!(advice(&error).is_some_and(|advice| advice.contains(part)), "{error}");
        }
        assert_eq!(advice("connection reset"), None);
    }
}
