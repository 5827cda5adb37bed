//! What a line of the audit log says.

use serde::{Serialize, Serializer};
use std::time::SystemTime;

/// A line.
#[derive(Debug, Serialize)]
#[serde(tag = "audit", rename_all = "snake_case")]
pub(crate) enum Record<'a> {
    /// A request that changes something is about to be sent, or one was refused.
    Begin(Begin<'a>),
    /// More parts of a batch that change something are about to be sent.
    Parts {
        #[serde(flatten)]
        stamp: Stamp<'a>,
        parts: &'a [Part],
    },
    /// What became of it.
    End(End<'a>),
    /// Refused requests that have no lines of their own, because there were too many at once.
    Suppressed {
        #[serde(serialize_with = "rfc3339")]
        time: SystemTime,
        #[serde(skip_serializing_if = "Option::is_none")]
        caller: Option<&'a str>,
        refused: u64,
    },
}

/// When a line was made, and to which request it belongs.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Stamp<'a> {
    #[serde(serialize_with = "rfc3339")]
    pub(crate) time: SystemTime,
    pub(crate) id: &'a str,
}

/// Who wants what.
#[derive(Debug, Serialize)]
pub(crate) struct Begin<'a> {
    #[serde(flatten)]
    pub(crate) stamp: Stamp<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) caller: Option<&'a str>,
    /// The caller's address, on TCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<String>,
    /// The caller's user id, at a Unix socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uid: Option<u32>,
    /// The names in the caller's certificate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) certificate: Vec<String>,
    pub(crate) method: &'a str,
    /// Methods by which headers override it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) overrides: Vec<String>,
    /// The path without the query.
    pub(crate) path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) route: Option<&'a str>,
    /// The OAuth client whose rights the request has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client: Option<&'a str>,
    /// The parts of a batch that change something, as far as they are known.
    #[serde(skip_serializing_if = "<[Part]>::is_empty")]
    pub(crate) parts: &'a [Part],
}

/// A part of a batch that changes something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Part {
    pub(crate) method: String,
    /// Methods by which headers override it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) overrides: Vec<String>,
    /// The target without its query.
    pub(crate) target: String,
}

/// What became of a request.
#[derive(Debug, Serialize)]
pub(crate) struct End<'a> {
    #[serde(flatten)]
    pub(crate) stamp: Stamp<'a>,
    pub(crate) status: Option<u16>,
    pub(crate) outcome: &'static str,
    /// Whether bytes of the request may have gone upstream.
    pub(crate) sent: bool,
    /// SAP's id of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) correlation_id: Option<&'a str>,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
}

impl Record<'_> {
    /// The line with its end.
    pub(crate) fn line(&self) -> Vec<u8> {
        // Text and numbers always serialize.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_micros(*time))
}
