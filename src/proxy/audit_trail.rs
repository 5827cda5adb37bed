//! The lines of a request in the audit log: one before it is sent, and one at its end.

use super::downstream::Downstream;
use super::loggable::{self, CORRELATION_ID};
use super::outcome::final_answer;
use super::peer::Peer;
use super::problem::Problem;
use super::record::Record as RequestRecord;
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

/// The audit of a request that changes something.
pub(super) struct AuditTrail {
    audit: Audit,
    /// The id that the lines of the request have in common.
    id: String,
}

impl AuditTrail {
    /// The audit of an admitted request; `None` if it changes nothing.
    pub(super) fn of(audit: &Audit, session: &Session, route: &RouteHandle) -> Option<Self> {
        let is_audited = audit.covers(&route.config) && !route.only_reads(session.req_header());
        is_audited.then(|| Self { audit: audit.clone(), id: Uuid::new_v4().to_string() })
    }

    /// Writes the first line, before any byte is sent. `parts` are those of a batch, as far as they
    /// are known.
    ///
    /// # Errors
    /// The answer to a request that must not be sent.
    pub(super) async fn begin(
        &self,
        session: &Session,
        record: &RequestRecord,
        parts: &[Part],
    ) -> Result<(), Problem> {
        let line = begin(session, record, self.stamp(), parts);
        self.audit.write(line).await.map_err(not_audited)
    }

    /// Writes the next parts of a batch, before their bytes are sent.
    ///
    /// # Errors
    /// The answer to a request that must not be sent to its end.
    pub(super) async fn add_parts(&self, parts: &[Part]) -> Result<(), Problem> {
        let record = Record::Parts { stamp: self.stamp(), parts };
        self.audit.write(record.line()).await.map_err(not_audited)
    }

    /// Writes the last line, for which nothing waits.
    pub(super) fn end(&self, session: &Session, record: &RequestRecord, response_bytes: u64) {
        self.audit.note(end(session, record, response_bytes, self.stamp()));
    }

    fn stamp(&self) -> Stamp<'_> {
        Stamp { time: SystemTime::now(), id: &self.id }
    }
}

/// Writes both lines of a request that was refused and never sent.
pub(super) fn record_refusal(
    audit: &Audit,
    session: &Session,
    record: &RequestRecord,
    response_bytes: u64,
) {
    let RequestOutcome::Local(kind) = record.outcome else { return };
    let route = record.route.as_ref();
    // A request without a route belongs to every one.
    let is_covered = route.is_none_or(|route| audit.covers(&route.config));
    if !kind.status().is_client_error() || !is_covered {
        return;
    }
    audit.note_refused(|| {
        let id = Uuid::new_v4().to_string();
        let stamp = Stamp { time: SystemTime::now(), id: &id };
        let mut lines = begin(session, record, stamp, &[]);
        lines.extend(end(session, record, response_bytes, stamp));
        lines
    });
}

fn begin(session: &Session, record: &RequestRecord, stamp: Stamp<'_>, parts: &[Part]) -> Vec<u8> {
    let request = session.req_header();
    let peer = Downstream::of(session).map(Downstream::peer);
    let (uid, certificate) = match peer {
        Some(Peer::Unix { uid }) => (*uid, Vec::new()),
        Some(Peer::Tls { certificate: Some(certificate), .. }) => {
            (None, certificate.names.iter().map(ToString::to_string).collect())
        }
        _ => (None, Vec::new()),
    };
    let address = session.client_addr().and_then(|address| address.as_inet());
    let path = loggable::readable(path_of(request.raw_path()));
    let route = record.route.as_ref();
    Record::Begin(Begin {
        stamp,
        caller: record.caller.as_ref().map(|caller| caller.name.as_str()),
        address: address.map(ToString::to_string),
        uid,
        certificate,
        method: record.method,
        path: &path,
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
) -> Vec<u8> {
    Record::End(End {
        stamp,
        status: final_answer(session).map(|answer| answer.status.as_u16()),
        outcome: record.outcome.label(),
        correlation_id: loggable::id(session, &CORRELATION_ID),
        request_bytes: session.body_bytes_read() as u64,
        response_bytes,
    })
    .line()
}

/// The answer to a request that can't be audited.
fn not_audited(why: crate::audit::NotWritten) -> Problem {
    let detail = format!(
        "bearerd could not write this request into its audit log ({why}), so it did not send it, or not to its end; try again, and check the disk of the audit log"
    );
    Problem { retry_after: Some(RETRY_AFTER), ..Problem::new(ErrorKind::AuditUnavailable, detail) }
}
