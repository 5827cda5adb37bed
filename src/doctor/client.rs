//! Checks of a client: its credential, the connection to its issuer, one token.

use super::network::{self, Server};
use super::{Subject, Verdict};
use crate::config::Client;
use crate::credential::{Identity, Proof};
use crate::token::claims::Claims;
use crate::token::client_expiry::client_expiry;
use crate::token::oauth::OAuthSource;
use crate::token::{Token, TokenError, TokenSource, advice};
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// A client that expires sooner gets a warning.
const SOON: Duration = Duration::from_secs(30 * 24 * 3600);
/// Tolerated error of the clock, in seconds. With a larger one, tokens look expired or not yet
/// valid.
const SKEW: f64 = 30.0;

/// Checks a client. Returns its token, if it got one.
pub(super) async fn examine(client: &Client, subject: &mut Subject) -> Option<Token> {
    let identity = match client.source.read_in_time().await {
        Ok(identity) => identity,
        Err(error) => {
            subject.add("credential", Verdict::Failed, error.to_string(), None);
            return None;
        }
    };
    subject.ok("credential", format!("{}, for {}", identity.description, identity.client_id));
    for why in identity.suspicions() {
        let (detail, advice) = why.split_once("; ").unwrap_or((&why, ""));
        let advice = Some(advice.to_owned()).filter(|advice| !advice.is_empty());
        subject.add("credential", Verdict::Warning, detail.to_owned(), advice);
    }
    expiry(client, &identity, subject);
    let certificate = match &identity.proof {
        Proof::Certificate(certificate) => Some(certificate),
        Proof::Secret { .. } | Proof::SigningKey { .. } => None,
    };
    let server = Server {
        url: &identity.token_url,
        key: "token_url",
        transport: &client.transport,
        certificate,
    };
    if !network::examine(&server, subject).await {
        return None;
    }
    token(client, identity, subject).await
}

fn expiry(client: &Client, identity: &Identity, subject: &mut Subject) {
    let Some(end) = client_expiry(client.expires_on, identity) else {
        return;
    };
    let (verdict, detail) = match end.duration_since(SystemTime::now()) {
        Ok(left) => {
            let verdict = if left < SOON { Verdict::Warning } else { Verdict::Ok };
            (verdict, format!("{} days left", left.as_secs() / DAY.as_secs()))
        }
        Err(_) => (Verdict::Failed, "has expired".to_owned()),
    };
    let advice = (verdict != Verdict::Ok).then(|| advice::RENEW.to_owned());
    subject.add("expiry", verdict, detail, advice);
}

async fn token(client: &Client, identity: Identity, subject: &mut Subject) -> Option<Token> {
    let suspicions = identity.suspicions();
    let source = match OAuthSource::new(client, identity) {
        Ok(source) => source,
        Err(error) => {
            subject.add("token", Verdict::Failed, error.to_string(), None);
            return None;
        }
    };
    let fetched = source.fetch().await;
    match &fetched {
        Ok(token) => subject.ok("token", describe(token)),
        Err(error) => {
            let is_refusal =
                matches!(error, TokenError::Refused { .. } | TokenError::NotAnIssuer { .. });
            // What looks wrong says more than the general advice.
            let advice = match &suspicions[..] {
                [_, ..] if is_refusal => Some(suspicions.join("; ")),
                _ => source.advice(error).map(str::to_owned),
            };
            subject.add("token", Verdict::Failed, error.to_string(), advice);
        }
    }
    // A refusal carries the time as well, and a wrong clock may be its reason.
    if let Some(skew) = source.clock_skew() {
        clock(skew, subject);
    }
    fetched.ok()
}

fn clock(skew: f64, subject: &mut Subject) {
    let is_wrong = skew.abs() > SKEW;
    let verdict = if is_wrong { Verdict::Warning } else { Verdict::Ok };
    let direction = if skew < 0.0 { "behind" } else { "ahead of" };
    let distance = Duration::from_secs_f64(skew.abs().round());
    let distance = humantime::format_duration(distance);
    let detail = format!("the issuer's clock is {distance} {direction} this machine's");
    let advice = is_wrong.then(|| "set this machine's clock (NTP)".to_owned());
    subject.add("clock", verdict, detail, advice);
}

/// The content of a token, without the token itself.
fn describe(token: &Token) -> String {
    let mut parts = vec![format!("valid for {}", humantime::format_duration(token.lifetime))];
    let Some(claims) = Claims::of(token.text()) else {
        parts.push("opaque".into());
        return parts.join(", ");
    };
    let list = |name: &str, values: &[String]| {
        (!values.is_empty()).then(|| format!("{name} {}", values.join(" ")))
    };
    parts.extend(claims.client_id.map(|id| format!("client {id}")));
    parts.extend(list("scopes", &claims.scopes));
    parts.extend(list("audience", &claims.audience));
    parts.extend(claims.zone.map(|zone| format!("zone {zone}")));
    parts.join(", ")
}
