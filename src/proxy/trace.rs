//! W3C Trace Context: a trace that the caller began goes on, and one that nobody began is begun here,
//! so that the tenant's log and ours can be laid side by side.

use http::{HeaderMap, HeaderName, HeaderValue};
use std::fmt::Write;

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Where the trace's id is in a `traceparent` (W3C Trace Context section 3.2.2), which has this form:
/// `00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01`.
const TRACE_ID: std::ops::Range<usize> = 3..35;
const PARENT_ID: std::ops::Range<usize> = 36..52;
const FLAGS: std::ops::Range<usize> = 53..55;

/// The trace that a request belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    /// `traceparent`, as it is sent.
    header: HeaderValue,
    is_ours: bool,
}

impl Trace {
    /// The caller's, or a new one.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut given = headers.get_all(TRACEPARENT).iter();
        match (given.next(), given.next()) {
            (Some(header), None) if is_valid(header.as_bytes()) => {
                Self { header: header.clone(), is_ours: false }
            }
            _ => Self::begin(),
        }
    }

    /// Nobody has asked for this one to be recorded, so its flags are zero.
    fn begin() -> Self {
        let mut text = String::with_capacity(FLAGS.end);
        // Zero is no id.
        let (trace, parent) = (fastrand::u128(1..), fastrand::u64(1..));
        // Writing to a string never fails, and hexadecimal digits are a header value.
        let _ = write!(text, "00-{trace:032x}-{parent:016x}-00");
        let header = HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""));
        Self { header, is_ours: true }
    }

    /// `traceparent`.
    pub(crate) const fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// Whether it was begun here: what the caller sent of it, and its vendors' state, does not count.
    pub(crate) const fn is_ours(&self) -> bool {
        self.is_ours
    }

    /// The trace's id.
    pub(crate) fn id(&self) -> &str {
        self.header.to_str().ok().and_then(|header| header.get(TRACE_ID)).unwrap_or_default()
    }
}

/// Version `ff` and ids of zeros are forbidden; later versions may say more behind the flags.
fn is_valid(header: &[u8]) -> bool {
    let is_hex = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let field = |range: std::ops::Range<usize>| header.get(range).filter(|field| is_hex(field));
    let is_id = |range| field(range).is_some_and(|id| id.iter().any(|digit| *digit != b'0'));
    let dashes = [2, 35, 52].iter().all(|at| header.get(*at) == Some(&b'-'));
    let version = field(0..2).filter(|version| *version != b"ff");
    let end = match (version, header.get(FLAGS.end)) {
        (Some(b"00"), rest) => rest.is_none(),
        (Some(_), rest) => rest.is_none_or(|byte| *byte == b'-'),
        (None, _) => false,
    };
    end && dashes && is_id(TRACE_ID) && is_id(PARENT_ID) && field(FLAGS).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn of(given: &[&str]) -> Trace {
        let mut headers = HeaderMap::new();
        for value in given {
            headers.append(TRACEPARENT, HeaderValue::from_str(value).unwrap());
        }
        Trace::of(&headers)
    }

    #[test]
    fn a_trace_that_was_begun_goes_on() {
        let trace = of(&[GIVEN]);
        assert_eq!((trace.header().to_str().unwrap(), trace.is_ours()), (GIVEN, false));
        assert_eq!(trace.id(), "0af7651916cd43dd8448eb211c80319c");
        let later = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-comes";
        assert_eq!(of(&[later]).header(), later);
    }

    #[test]
    fn what_is_no_trace_is_replaced_by_a_new_one() {
        for given in [
            &[][..],
            &[GIVEN, GIVEN],
            &[""],
            &["00"],
            &["ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
            &["00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01"],
            &["00-00000000000000000000000000000000-b7ad6b7169203331-01"],
            &["00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"],
            &["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0"],
            &["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x"],
            &["cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x"],
            &["00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
            &["00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01"],
        ] {
            let trace = of(given);
            assert!(trace.is_ours() && is_valid(trace.header().as_bytes()), "{given:?}");
            assert_ne!(trace.id(), of(given).id(), "each is a new one");
        }
    }
}
