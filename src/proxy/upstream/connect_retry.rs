//! Which errors of connecting are retried, and with what: another address, other trust anchors,
//! HTTP/2.

use super::tried::Tried;
use super::{UpstreamHandle, http2, tls, tunnel};
use crate::proxy::attempts::{Attempts, Cause};
use pingora::{Error, ErrorType};

impl UpstreamHandle {
    /// Handles an error of connecting. The error that is returned says whether to try again.
    pub(in crate::proxy) fn decide_connect_retry(
        &self,
        mut error: Box<Error>,
        tried: &mut Tried,
        attempts: &mut Attempts,
    ) -> Box<Error> {
        // A forward proxy that refuses would refuse at its other addresses, too.
        let is_final = tunnel::is_refusal(&error)
            || !(self.try_other_anchors(&error, tried, attempts)
                || self.try_http2(&error, attempts)
                || try_new_stream(&error, attempts)
                || self.try_next_address(tried, attempts));
        error.set_retry(false);
        if is_final {
            return error;
        }
        let mut again = Error::new_up(error.etype().clone());
        again.set_retry(true);
        tried.failure = Some(error);
        again
    }

    /// Falls back to HTTP/2 for requests that prefer HTTP/1.1 if the upstream supports only HTTP/2.
    fn try_http2(&self, error: &Error, attempts: &mut Attempts) -> bool {
        self.offers_http2()
            && tls::has_no_protocol(error)
            && self.observed.set_http2_only()
            && attempts.try_count(Cause::Http2Only)
    }

    /// Switches to the other trust anchors if the certificate's authority is unknown to these.
    fn try_other_anchors(&self, error: &Error, tried: &mut Tried, attempts: &mut Attempts) -> bool {
        if self.private_anchors.is_none() || !tls::is_untrusted(error) {
            return false;
        }
        if !attempts.try_count(Cause::TrustAnchors) {
            return false;
        }
        let is_private = !tried.is_private.unwrap_or_default();
        self.observed.set_private(is_private);
        tried.is_private = Some(is_private);
        true
    }

    /// Records that the latest address failed. Returns whether there may be another one.
    fn try_next_address(&self, tried: &mut Tried, attempts: &mut Attempts) -> bool {
        let Some((failed, known)) = &tried.latest else { return false };
        tried.failed.push(*failed);
        self.observed.avoid(failed, known);
        let is_known = tried.next_address(known, &[]).is_some();
        // When all have failed, the name may have moved.
        tried.needs_lookup = !is_known && known.is_doubtful();
        (is_known || tried.needs_lookup) && attempts.try_count(Cause::Address)
    }
}

/// Returns whether to try a new stream: an HTTP/2 connection was gone before it took the request.
fn try_new_stream(error: &Error, attempts: &mut Attempts) -> bool {
    *error.etype() == ErrorType::H2Error
        && http2::is_cut(error)
        && attempts.try_count(Cause::LostConnection)
}
