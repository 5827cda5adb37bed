//! Messages of the TLS library in words for people. pingora passes its errors on only as text.

use std::time::{Duration, SystemTime};

/// Returns why a certificate is not trusted. `Err` with the message if it is not about a
/// certificate.
pub(crate) fn plain(message: &str) -> Result<String, &str> {
    let Some(reason) = message.strip_prefix("invalid peer certificate: ") else {
        return Err(message);
    };
    let known = dates(reason).or_else(|| names(reason));
    Ok(known.unwrap_or_else(|| match reason.split_once(": ") {
        // bearerd's own words behind the library's name for the error.
        Some((name, words)) if is_one_word(name) => words.to_owned(),
        _ if reason == "UnknownIssuer" => {
            "its authority is not trusted here (`bearerd doctor` names it)".to_owned()
        }
        _ => reason.to_owned(),
    }))
}

fn is_one_word(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// A certificate that has expired, or is not valid yet.
fn dates(reason: &str) -> Option<String> {
    let (_, rest) = reason.split_once("verification time ")?;
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
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds.parse().ok()?))?;
    Some(humantime::format_rfc3339_seconds(time).to_string())
}

/// A certificate of another server.
fn names(reason: &str) -> Option<String> {
    let rest = reason.strip_prefix("certificate not valid for name \"")?;
    let (wanted, presented) = rest.split_once('"')?;
    let presented: Vec<_> = presented.split('"').skip(1).step_by(2).collect();
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
        let presented = vec![r#"DnsName("b.example")"#.into(), r#"DnsName("c.example")"#.into()];
        let other = CertificateError::NotValidForNameContext { expected, presented };
        assert_eq!(words(other), "it is for b.example, c.example, not for a.example");
        assert_eq!(
            words(CertificateError::UnknownIssuer),
            "its authority is not trusted here (`bearerd doctor` names it)"
        );
        assert_eq!(plain("invalid peer certificate: UnknownIssuer: ours"), Ok("ours".to_owned()));
        assert_eq!(plain("received fatal alert: x"), Err("received fatal alert: x"));
    }
}
