//! The lines of a request in the audit log: one before it is sent, and one at its end.

use super::downstream::Downstream;
use super::loggable::{self, CORRELATION_ID};
use super::outcome::final_answer;
use super::peer::Peer;
use super::problem::Problem;
use super::record::Record as RequestRecord;
use super::request_body::BatchWrites;
use super::route::path_of;
use super::route_handle::RouteHandle;
use crate::audit::Audit;
use crate::audit::record::{Begin, End, Part, Record, Stamp};
use crate::error::ErrorKind;
use crate::metrics::labels::RequestOutcome;
use pingora::proxy::Session;
use std::time::{Duration, SystemTime};
use uuid::Uuid;

/// `Retry-After` of a write that could not be audited.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The number of parts in a line.
const PARTS: usize = 64;

/// The audit of a request that changes something, or of a batch that may.
pub(super) struct AuditTrail {
    audit: Audit,
    /// The id that the lines of the request have in common.
    id: String,
    state: State,
    /// Whether the request changes something, as far as it is known before it is sent.
    is_write: bool,
    /// Whether bytes of the request may have gone upstream.
    is_sent: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// No line was written: nothing was changed so far.
    Nothing,
    Begun,
    Ended,
}

impl AuditTrail {
    /// The audit of an admitted request; `None` if it changes nothing.
    pub(super) fn of(
        audit: &Audit,
        session: &Session,
        route: &RouteHandle,
        batch: &BatchWrites,
    ) -> Option<Self> {
        // What a batch does is what its parts do, whatever its own method.
        let is_write = !batch.parts.is_empty()
            || !batch.does_only_its_parts && !route.only_reads(session.req_header());
        let trail = || Self {
            audit: audit.clone(),
            id: Uuid::new_v4().to_string(),
            state: State::Nothing,
            is_write,
            is_sent: false,
        };
        (audit.covers(&route.config) && (is_write || batch.has_more)).then(trail)
    }

    /// Writes the first lines of a write, before any byte is sent.
    ///
    /// # Errors
    /// The answer to a request that must not be sent.
    pub(super) async fn begin_write(
        &mut self,
        session: &Session,
        record: &RequestRecord,
        parts: &[Part],
    ) -> Result<(), Problem> {
        if self.is_write { self.begin(session, record, parts).await } else { Ok(()) }
    }

    /// Records that the request is sent from now on.
    pub(super) const fn set_sent(&mut self) {
        self.is_sent = true;
    }

    /// Writes the first lines.
    ///
    /// # Errors
    /// The answer to a request that must not be sent.
    async fn begin(
        &mut self,
        session: &Session,
        record: &RequestRecord,
        parts: &[Part],
    ) -> Result<(), Problem> {
        let (first, rest) = parts.split_at_checked(PARTS).unwrap_or((parts, &[]));
        let path = loggable::whole(path_of(session.req_header().raw_path()));
        let mut lines = begin(session, record, self.stamp(), &path, first);
        lines.extend(self.lines_of(rest));
        self.audit.write(lines).await.map_err(|why| {
            not_audited(&format!(
                "bearerd could not write this request to its audit log ({why}), so it did not send the request; try again, and check the disk of the audit log"
            ))
        })?;
        self.state = State::Begun;
        Ok(())
    }

    /// Writes the next parts of a batch, before their bytes are sent.
    ///
    /// # Errors
    /// The answer to a request that must not be sent to its end.
    pub(super) async fn add_parts(
        &mut self,
        session: &Session,
        record: &RequestRecord,
        parts: &[Part],
    ) -> Result<(), Problem> {
        if self.state == State::Nothing {
            return self.begin(session, record, parts).await;
        }
        self.audit.write(self.lines_of(parts)).await.map_err(|why| {
            not_audited(&format!(
                "bearerd could not write further parts of this batch to its audit log ({why}), so it did not send them; earlier parts may have been executed, so check them at the tenant before you try again"
            ))
        })
    }

    fn lines_of(&self, parts: &[Part]) -> Vec<u8> {
        let line = |parts| Record::Parts { stamp: self.stamp(), parts }.line();
        parts.chunks(PARTS).flat_map(line).collect()
    }

    /// Writes the last line, for which nothing waits. Returns whether there was a first one.
    pub(super) fn end(&mut self, session: &Session, record: &RequestRecord, bytes: u64) -> bool {
        if self.state == State::Nothing {
            return false;
        }
        self.state = State::Ended;
        self.audit.note(end(session, record, bytes, self.stamp(), self.is_sent));
        true
    }

    /// Whether bytes of the request may have gone upstream.
    pub(super) const fn is_sent(&self) -> bool {
        self.is_sent
    }

    fn stamp(&self) -> Stamp<'_> {
        Stamp { time: SystemTime::now(), id: &self.id }
    }
}

/// A request whose end was not reached was cut off: its connection made room for another one, or
/// the process's time was up.
impl Drop for AuditTrail {
    fn drop(&mut self) {
        if self.state == State::Begun {
            let end = End {
                stamp: self.stamp(),
                status: None,
                outcome: RequestOutcome::Aborted.label(),
                sent: self.is_sent,
                correlation_id: None,
                request_bytes: 0,
                response_bytes: 0,
            };
            self.audit.note(Record::End(end).line());
        }
    }
}

/// Writes both lines of a refused request. It has changed nothing, even if some of it was sent.
pub(super) fn record_refusal(
    audit: &Audit,
    session: &Session,
    record: &RequestRecord,
    response_bytes: u64,
    sent: bool,
) {
    let RequestOutcome::Local(kind) = record.outcome else { return };
    let is_refused = kind.status().is_client_error() || kind == ErrorKind::AuditUnavailable;
    let route = record.route.as_ref();
    // A request without a route belongs to every one.
    let is_covered = route.is_none_or(|route| audit.covers(&route.config));
    if !is_refused || !is_covered {
        return;
    }
    let caller = record.caller.as_ref().map(|caller| caller.name.as_str());
    audit.note_refused(caller, || {
        let id = Uuid::new_v4().to_string();
        let stamp = Stamp { time: SystemTime::now(), id: &id };
        let path = loggable::readable(path_of(session.req_header().raw_path()));
        let mut lines = begin(session, record, stamp, &path, &[]);
        lines.extend(end(session, record, response_bytes, stamp, sent));
        lines
    });
}

fn begin(
    session: &Session,
    record: &RequestRecord,
    stamp: Stamp<'_>,
    path: &str,
    parts: &[Part],
) -> Vec<u8> {
    let request = session.req_header();
    let peer = Downstream::of(session).map(Downstream::peer);
    let (uid, certificate) = match peer {
        Some(Peer::Unix { uid }) => (*uid, Vec::new()),
        Some(Peer::Tls { certificate: Some(certificate), .. }) => {
            (None, loggable::several(certificate.names.iter().map(ToString::to_string)))
        }
        _ => (None, Vec::new()),
    };
    let address = session.client_addr().and_then(|address| address.as_inet());
    let route = record.route.as_ref();
    Record::Begin(Begin {
        stamp,
        caller: record.caller.as_ref().map(|caller| caller.name.as_str()),
        address: address.map(ToString::to_string),
        uid,
        certificate,
        method: record.method,
        overrides: loggable::overrides(&request.headers),
        path,
        route: route.map(|route| route.name.as_str()),
        client: route.map(|route| route.client.name.as_str()),
        parts,
    })
    .line()
}

fn end(
    session: &Session,
    record: &RequestRecord,
    response_bytes: u64,
    stamp: Stamp<'_>,
    sent: bool,
) -> Vec<u8> {
    Record::End(End {
        stamp,
        status: final_answer(session).map(|answer| answer.status.as_u16()),
        outcome: record.outcome.label(),
        sent,
        correlation_id: loggable::id_of_answer(session, &CORRELATION_ID),
        request_bytes: session.body_bytes_read() as u64,
        response_bytes,
    })
    .line()
}

/// The answer to a request that can't be audited.
fn not_audited(detail: &str) -> Problem {
    Problem { retry_after: Some(RETRY_AFTER), ..Problem::new(ErrorKind::AuditUnavailable, detail) }
}
