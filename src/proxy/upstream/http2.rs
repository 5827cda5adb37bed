//! HTTP/2 to upstreams (RFC 9113): many requests share one connection.

use crate::config::Timeouts;
use crate::proxy::replay;
use h2::Reason;
use http::Version;
use http::header::EXPECT;
use pingora::Error;
use pingora::http::RequestHeader;
use pingora::protocols::tls::ALPN;
use pingora::upstreams::peer::HttpPeer;

/// The largest number of requests that share one connection: 100, the least that servers should
/// allow (RFC 9113 section 6.5.2). A lower limit of the server holds, too.
const MAX_STREAMS: u32 = 100;
/// How many bytes of one answer an upstream may send before they are read. With a round trip of
/// 50 ms, 128 KiB allow 2.6 MB/s.
const STREAM_WINDOW: u32 = 128 << 10;

/// Offers HTTP/2, and HTTP/1.1 as the alternative.
pub(super) fn offer(peer: &mut HttpPeer, timeouts: Timeouts) {
    peer.options.alpn = ALPN::H2H1;
    peer.options.max_h2_streams = MAX_STREAMS as usize;
    peer.options.h2_stream_window_size = Some(STREAM_WINDOW);
    // Even if all other streams of a connection stall, each stream keeps its own window.
    peer.options.h2_connection_window_size = Some(STREAM_WINDOW * MAX_STREAMS);
    // Without pings, many requests would wait for a connection that is silently gone.
    peer.options.h2_ping_interval = Some(timeouts.idle);
}

/// Whether HTTP/1.1 suits a request better. With HTTP/2, pingora starts the read timeout at the
/// request's header, however long its body takes. It does not pass on `100 Continue`. And it
/// sends answers in chunks, which HTTP/1.0 does not have.
pub(super) fn is_better_without(request: &RequestHeader) -> bool {
    request.version == Version::HTTP_10
        || request.headers.contains_key(EXPECT)
        || replay::outgrows_buffer(request)
}

/// Whether the upstream closes the connection and did not process the request, so that any method
/// may be sent again (RFC 9113 section 8.7). Servers close connections like this after a number of
/// requests.
pub(super) fn is_graceful_shutdown(error: &Error) -> bool {
    remote(error)
        .is_some_and(|error| error.is_go_away() && error.reason() == Some(Reason::NO_ERROR))
}

/// Whether the upstream refused the stream unprocessed. The connection stays open.
pub(super) fn is_refused_stream(error: &Error) -> bool {
    remote(error)
        .is_some_and(|error| error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM))
}

/// Whether the upstream requires HTTP/1.1 (RFC 9113 section 7), and did not process the request.
pub(in crate::proxy) fn requires_http1(error: &Error) -> bool {
    remote(error).is_some_and(|error| error.reason() == Some(Reason::HTTP_1_1_REQUIRED))
}

/// Whether a stream or its connection ended before the answer did, or sent something else than
/// HTTP/2. The upstream may have processed the request. After `ENHANCE_YOUR_CALM` there is no
/// retry.
pub(in crate::proxy) fn is_cut(error: &Error) -> bool {
    let error = error.root_cause().downcast_ref::<h2::Error>();
    error.is_some_and(|error| {
        let is_announced = error.is_remote() || error.is_go_away();
        error.is_io() || is_announced && error.reason() != Some(Reason::ENHANCE_YOUR_CALM)
    })
}

/// Whether an error is of an HTTP/2 connection.
pub(super) fn is_of_http2(error: &Error) -> bool {
    error.root_cause().is::<h2::Error>()
}

/// The error that the upstream sent.
fn remote(error: &Error) -> Option<&h2::Error> {
    error.root_cause().downcast_ref::<h2::Error>().filter(|error| error.is_remote())
}
