//! W3C Trace Context: continues the caller's trace, or begins one, so that the tenant's log and
//! bearerd's can be matched.

use http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The place of the trace's id in a `traceparent` (W3C Trace Context section 3.2.2), which has this
/// form:
/// `00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01`.
const TRACE_ID: std::ops::Range<usize> = 3..35;
const PARENT_ID: std::ops::Range<usize> = 36..52;
const FLAGS: std::ops::Range<usize> = 53..55;

/// The trace that a request belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    /// The `traceparent` that is sent.
    header: HeaderValue,
    is_local: bool,
    /// Whether `header` differs from the caller's.
    is_new: bool,
}

impl Trace {
    /// The caller's trace, or a new one.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut given = headers.get_all(TRACEPARENT).iter();
        match (given.next(), given.next()) {
            (Some(header), None) if is_valid(header.as_bytes()) => {
                Self { header: header.clone(), is_local: false, is_new: false }
            }
            _ => Self::begin(),
        }
    }

    /// A new trace. No one has asked to record it, so its flags are zero.
    fn begin() -> Self {
        // Zero is not a valid id.
        let header = header(fastrand::u128(1..), fastrand::u64(1..), 0);
        Self { header, is_local: true, is_new: true }
    }

    /// The `traceparent`, if it differs from the caller's.
    pub(crate) fn new_header(&self) -> Option<&HeaderValue> {
        self.is_new.then_some(&self.header)
    }

    /// Whether the trace was begun here. The caller's trace headers, with the state of vendors, are
    /// then dropped.
    pub(crate) const fn is_local(&self) -> bool {
        self.is_local
    }

    /// The trace's id.
    pub(crate) fn id(&self) -> &str {
        self.header.to_str().ok().and_then(|header| header.get(TRACE_ID)).unwrap_or_default()
    }
}

/// What only spans need.
#[cfg(feature = "otlp")]
impl Trace {
    /// The caller's trace id, span id and flags.
    pub(crate) fn client_span(&self) -> Option<(u128, u64, u8)> {
        let text = self.header.to_str().ok().filter(|_| !self.is_local)?;
        Some((
            u128::from_str_radix(text.get(TRACE_ID)?, 16).ok()?,
            u64::from_str_radix(text.get(PARENT_ID)?, 16).ok()?,
            u8::from_str_radix(text.get(FLAGS)?, 16).ok()?,
        ))
    }

    /// Sets the span that is sent upstream as the parent.
    pub(crate) fn set_span(&mut self, trace: u128, span: u64, flags: u8) {
        self.header = header(trace, span, flags);
        self.is_new = true;
    }
}

/// A `traceparent` in the version that all implementations accept.
fn header(trace: u128, parent: u64, flags: u8) -> HeaderValue {
    let mut text = [b'-'; FLAGS.end];
    let fields = [(0..2, 0), (TRACE_ID, trace), (PARENT_ID, parent.into()), (FLAGS, flags.into())];
    for (field, number) in fields {
        write_hex(text.get_mut(field).unwrap_or_default(), number);
    }
    // Hexadecimal digits are a valid header value.
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Fills a field with the last hexadecimal digits of a number.
fn write_hex(field: &mut [u8], mut number: u128) {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    for digit in field.iter_mut().rev() {
        *digit = DIGITS.get((number & 0xf) as usize).copied().unwrap_or_default();
        number >>= 4;
    }
}

/// Whether a `traceparent` is valid. Version `ff` and ids of zeros are forbidden. Later versions
/// may have more fields after the flags.
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
    use proptest::prelude::*;

    const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn of(given: &[&str]) -> Trace {
        let mut headers = HeaderMap::new();
        for value in given {
            headers.append(TRACEPARENT, HeaderValue::from_str(value).unwrap());
        }
        Trace::of(&headers)
    }

    proptest! {
        #[test]
        fn a_header_has_the_digits_of_its_numbers(trace: u128, parent: u64, flags: u8) {
            let wanted = format!("00-{trace:032x}-{parent:016x}-{flags:02x}");
            prop_assert_eq!(header(trace, parent, flags), &*wanted);
        }
    }

    #[test]
    fn a_trace_that_was_begun_goes_on() {
        let trace = of(&[GIVEN]);
        assert_eq!((trace.new_header(), trace.is_local()), (None, false));
        assert_eq!(trace.id(), "0af7651916cd43dd8448eb211c80319c");
        let later = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-comes";
        assert_eq!((of(&[later]).header, of(&[later]).is_new), (later.try_into().unwrap(), false));
    }

    #[cfg(feature = "otlp")]
    #[test]
    fn a_span_takes_the_callers_place_in_its_trace() {
        let mut trace = of(&[GIVEN]);
        let span = (0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, 0xb7ad_6b71_6920_3331, 1);
        assert_eq!(trace.client_span(), Some(span));
        trace.set_span(span.0, 0x2a, 0);
        let header = trace.new_header().unwrap();
        assert_eq!(header, "00-0af7651916cd43dd8448eb211c80319c-000000000000002a-00");
        assert_eq!(trace.id(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(of(&[]).client_span(), None, "begun here");
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
            let header = trace.new_header().unwrap();
            assert!(trace.is_local() && is_valid(header.as_bytes()), "{given:?}");
            assert_ne!(trace.id(), of(given).id(), "each is a new one");
        }
    }
}
