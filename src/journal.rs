//! Journal: the last events of tokens, credentials and the configuration, for people.

use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// The largest number of events that are kept. One that repeats counts once.
const CAPACITY: usize = 50;

/// Kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A new access token is in use.
    TokenIssued,
    /// A token request failed.
    TokenRequestFailed,
    /// The upstream refused the token of a request.
    TokenRefused,
    /// A new credential is in use.
    CredentialChanged,
    /// A new credential is not in use.
    CredentialRefused,
    /// A new configuration is in force.
    ConfigurationChanged,
    /// A new configuration was rejected.
    ConfigurationRefused,
    /// A caller spoke TLS to a port without it.
    TlsNotOffered,
    /// A caller spoke no TLS to a port with it.
    TlsNotSpoken,
}

impl EventKind {
    /// Returns the kind in words.
    pub const fn title(self) -> &'static str {
        match self {
            Self::TokenIssued => "New access token",
            Self::TokenRequestFailed => "Could not fetch a new access token",
            Self::TokenRefused => "Token refused by the upstream",
            Self::CredentialChanged => "New credential in use",
            Self::CredentialRefused => "New credential not in use",
            Self::ConfigurationChanged => "New configuration in force",
            Self::ConfigurationRefused => "New configuration not in force",
            Self::TlsNotOffered => "A caller spoke TLS to a port without TLS",
            Self::TlsNotSpoken => "A caller spoke no TLS to a port with TLS",
        }
    }

    /// Whether somebody may have to act.
    pub const fn is_trouble(self) -> bool {
        matches!(
            self,
            Self::TokenRequestFailed
                | Self::TokenRefused
                | Self::CredentialRefused
                | Self::ConfigurationRefused
                | Self::TlsNotOffered
                | Self::TlsNotSpoken
        )
    }
}

/// An event, which happened once or several times in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it happened first.
    pub first: SystemTime,
    /// When it happened last.
    pub last: SystemTime,
    /// How many times it happened.
    pub times: u32,
    /// The OAuth client that it is about.
    pub client: Option<String>,
    /// Kind of the event.
    pub kind: EventKind,
    /// Details of the last time.
    pub detail: String,
}

impl Event {
    /// Whether the next event only repeats this one. Consecutive tokens do, and so does an outage
    /// that lasts.
    fn is_repeated_by(&self, next: &Self) -> bool {
        let is_same = self.client == next.client && self.kind == next.kind;
        is_same && (next.kind == EventKind::TokenIssued || self.detail == next.detail)
    }
}

/// The last events. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Journal(Arc<Mutex<VecDeque<Event>>>);

impl Journal {
    /// Records an event.
    pub(crate) fn record(&self, client: Option<&str>, kind: EventKind, detail: String) {
        let now = SystemTime::now();
        let client = client.map(str::to_owned);
        let next = Event { first: now, last: now, times: 1, client, kind, detail };
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // An event of another client in between does not end a repetition.
        let latest = match kind {
            // There is one for each request or connection, so it counts as a repetition whatever
            // happened since.
            EventKind::TokenRefused | EventKind::TlsNotOffered => {
                events.iter().rposition(|event| event.is_repeated_by(&next))
            }
            _ if next.client.is_none() => {
                events.iter().rposition(|event| event.client.is_none() && event.kind == kind)
            }
            _ => events.iter().rposition(|event| event.client == next.client),
        };
        let repeated = latest.and_then(|latest| events.remove(latest));
        match repeated {
            Some(event) if event.is_repeated_by(&next) => {
                let times = event.times.saturating_add(1);
                events.push_back(Event { first: event.first, times, ..next });
            }
            other => {
                if let (Some(event), Some(latest)) = (other, latest) {
                    events.insert(latest, event);
                }
                events.push_back(next);
            }
        }
        while events.len() > CAPACITY {
            events.pop_front();
        }
    }

    /// Returns all events, the latest first.
    pub fn events(&self) -> Vec<Event> {
        let events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        events.iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EventKind::{ConfigurationChanged, TokenIssued, TokenRequestFailed};

    fn entries(journal: &Journal) -> Vec<(Option<String>, EventKind, String, u32)> {
        let entry = |event: Event| (event.client, event.kind, event.detail, event.times);
        journal.events().into_iter().map(entry).collect()
    }

    #[test]
    fn what_repeats_is_one_event_and_what_differs_is_not() {
        let journal = Journal::default();
        let record = |client, kind, detail: &str| journal.record(Some(client), kind, detail.into());
        record("a", TokenIssued, "1");
        record("b", TokenRequestFailed, "away");
        record("a", TokenIssued, "2");
        record("b", TokenRequestFailed, "away");
        record("b", TokenRequestFailed, "refused");
        journal.record(None, ConfigurationChanged, String::new());
        record("b", TokenRequestFailed, "away");
        let client = |name: &str| Some(name.to_owned());
        assert_eq!(
            entries(&journal),
            [
                (client("b"), TokenRequestFailed, "away".into(), 1),
                (None, ConfigurationChanged, String::new(), 1),
                (client("b"), TokenRequestFailed, "refused".into(), 1),
                (client("b"), TokenRequestFailed, "away".into(), 2),
                (client("a"), TokenIssued, "2".into(), 2),
            ]
        );
        let first = journal.events().pop().unwrap();
        assert!(first.first <= first.last);
    }

    #[test]
    fn requests_do_not_push_everything_else_out() {
        let journal = Journal::default();
        journal.record(None, ConfigurationChanged, String::new());
        for _ in 0..CAPACITY {
            journal.record(Some("a"), EventKind::TokenRefused, "401".into());
            journal.record(Some("a"), EventKind::TokenRefused, "403".into());
        }
        let times: Vec<_> = entries(&journal).into_iter().map(|(.., times)| times).collect();
        assert_eq!(times, [50, 50, 1]);
    }

    #[test]
    fn only_the_latest_are_kept() {
        let journal = Journal::default();
        for number in 0..=CAPACITY {
            journal.record(None, TokenRequestFailed, number.to_string());
        }
        let events = journal.events();
        assert_eq!(events.len(), CAPACITY);
        assert_eq!((events[0].detail.as_str(), events[49].detail.as_str()), ("50", "1"));
    }
}
