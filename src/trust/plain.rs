//! Messages of the TLS library in words for people. pingora passes its errors on only as text.

use std::time::{Duration, SystemTime};

/// The last second that RFC 3339 can express: the end of the year 9999.
const LAST: u64 = 253_402_300_799;

/// Returns why a certificate is not trusted. `Err` with the message if it is not about a
/// certificate. A message may quote the certificate, which anyone can write.
pub(crate) fn plain(message: &str) -> Result<String, &str> {
    let Some(reason) = message.strip_prefix("invalid peer certificate: ") else {
        return Err(message);
    };
    Ok(match reason.split_once(": ") {
        // bearerd's own words behind the library's name for the error.
        Some((name, words)) if is_one_word(name) => words.to_owned(),
        _ if reason == "UnknownIssuer" => {
            "its authority is not trusted here (`bearerd doctor` names it)".to_owned()
        }
        _ if reason == "BadSignature" => {
            "another authority of the same name has signed it, or it is damaged".to_owned()
        }
        _ => dates(reason).or_else(|| names(reason)).unwrap_or_else(|| reason.to_owned()),
    })
}

fn is_one_word(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// A certificate that has expired, or is not valid yet.
fn dates(reason: &str) -> Option<String> {
    let begins = ["certificate expired: ", "certificate not valid yet: "];
    let rest = begins.iter().find_map(|begin| reason.strip_prefix(begin))?;
    let rest = rest.strip_prefix("verification time ")?;
    let (now, rest) = rest.split_once(" (UNIX), but certificate is not valid ")?;
    let (side, limit) = rest.split_once(' ')?;
    let limit = limit.split(' ').next()?;
    let (now, limit) = (time(now)?, time(limit)?);
    Some(match side {
        "after" => format!("it was valid until {limit}, and this machine's clock says {now}"),
        _ => format!("it is valid from {limit}, and this machine's clock says {now}"),
    })
}

fn time(seconds: &str) -> Option<String> {
    let seconds = seconds.parse().ok().filter(|seconds| *seconds <= LAST)?;
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
    Some(humantime::format_rfc3339_seconds(time).to_string())
}

/// A certificate of another server.
fn names(reason: &str) -> Option<String> {
    let rest = reason.strip_prefix("certificate not valid for name \"")?;
    let (wanted, presented) = rest.split_once('"')?;
    // Each name is in brackets behind its kind: `DnsName("a.example")`, `IpAddress(10.0.0.1)`.
    let presented = presented.split('(').skip(1).filter_map(|name| name.split(')').next());
    let presented: Vec<_> = presented.map(|name| name.trim_matches('"')).collect();
    let presented = if presented.is_empty() { "no name".to_owned() } else { presented.join(", ") };
    Some(format!("it is for {presented}, not for {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::{ServerName, UnixTime};
    use rustls::{CertificateError, Error};

    fn words(error: CertificateError) -> String {
        plain(&Error::from(error).to_string()).unwrap()
    }

    #[test]
    fn the_librarys_messages_become_words() {
        let time = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let expired =
            CertificateError::ExpiredContext { time: time(86_400), not_after: time(3_600) };
        assert_eq!(
            words(expired),
            "it was valid until 1970-01-01T01:00:00Z, and this machine's clock says 1970-01-02T00:00:00Z"
        );
        let early =
            CertificateError::NotValidYetContext { time: time(0), not_before: time(86_400) };
        assert_eq!(
            words(early),
            "it is valid from 1970-01-02T00:00:00Z, and this machine's clock says 1970-01-01T00:00:00Z"
        );
        let expected = ServerName::try_from("a.example").unwrap();
        let presented = vec![r#"DnsName("b.example")"#.into(), "IpAddress(10.0.0.1)".into()];
        let other = CertificateError::NotValidForNameContext { expected, presented };
        assert_eq!(words(other), "it is for b.example, 10.0.0.1, not for a.example");
        assert_eq!(
            words(CertificateError::UnknownIssuer),
            "its authority is not trusted here (`bearerd doctor` names it)"
        );
        assert_eq!(plain("invalid peer certificate: UnknownIssuer: ours"), Ok("ours".to_owned()));
        assert_eq!(plain("received fatal alert: x"), Err("received fatal alert: x"));
    }

    #[test]
    fn a_certificate_cannot_choose_the_words() {
        let far = "certificate expired: verification time 99999999999999 (UNIX), but certificate is not valid after 1 (x)";
        for name in [far, "InvalidContentType", "close_notify", "UnknownIssuer"] {
            let quoting = format!("invalid peer certificate: UnknownIssuer: it is `{name}`");
            assert_eq!(plain(&quoting), Ok(format!("it is `{name}`")));
        }
        assert_eq!(plain(&format!("invalid peer certificate: {far}")), Ok(far.to_owned()));
    }
}
