//! HTTP/2 towards upstreams (RFC 9113): many requests share one connection.

use crate::config::Timeouts;
use crate::proxy::admission::outgrows_replay;
use h2::Reason;
use http::Version;
use http::header::EXPECT;
use pingora::Error;
use pingora::http::RequestHeader;
use pingora::protocols::tls::ALPN;
use pingora::upstreams::peer::HttpPeer;

/// How many requests share one connection at most: 100, the least that servers ought to allow (RFC 9113 section
/// 6.5.2). Those that allow fewer are heeded.
const MAX_STREAMS: u32 = 100;
/// What an upstream may send of one answer before somebody reads it: 128 KiB, which makes 2.6 MB/s at a distance of
/// 50 ms.
const STREAM_WINDOW: u32 = 128 << 10;

/// Offers HTTP/2, and takes HTTP/1.1 from whoever does not speak it.
pub(super) fn offer(peer: &mut HttpPeer, timeouts: Timeouts) {
    peer.options.alpn = ALPN::H2H1;
    peer.options.max_h2_streams = MAX_STREAMS as usize;
    peer.options.h2_stream_window_size = Some(STREAM_WINDOW);
    // Readers that stall, be they all of a connection but one, leave that one its share.
    peer.options.h2_connection_window_size = Some(STREAM_WINDOW * MAX_STREAMS);
    // Many requests would wait for a connection that is silently gone.
    peer.options.h2_ping_interval = Some(timeouts.idle);
}

/// Whether a request is sent by HTTP/1.1 in any case. Of HTTP/2, pingora counts the time for an answer from the request's
/// header on, however long its body takes; does not pass on that the upstream wants the body; and divides an answer
/// into chunks, which callers of HTTP/1.0 do not know.
pub(super) fn is_better_without(request: &RequestHeader) -> bool {
    request.version == Version::HTTP_10
        || request.headers.contains_key(EXPECT)
        || outgrows_replay(request)
}

/// Whether the upstream says that it has not begun with the request (RFC 9113 section 8.7): any method may be sent
/// again. It says so when it closes a connection for others to be opened, as servers do after so many requests.
pub(super) fn is_goodbye(error: &Error) -> bool {
    remote(error)
        .is_some_and(|error| error.is_go_away() && error.reason() == Some(Reason::NO_ERROR))
}

/// Whether it says so of this request alone, on a connection that goes on.
pub(super) fn is_refused(error: &Error) -> bool {
    remote(error)
        .is_some_and(|error| error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM))
}

/// Whether the upstream wants to be asked by HTTP/1.1 (RFC 9113 section 7), and so has not begun either.
pub(in crate::proxy) fn wants_http1(error: &Error) -> bool {
    remote(error).is_some_and(|error| error.reason() == Some(Reason::HTTP_1_1_REQUIRED))
}

/// Whether a stream, or its connection, ended before its answer did, be it since what came was no HTTP/2. The upstream
/// may have begun with the request. One that has enough of us is not asked again.
pub(super) fn is_cut(error: &Error) -> bool {
    let error = error.root_cause().downcast_ref::<h2::Error>();
    error.is_some_and(|error| {
        let is_by_word = error.is_remote() || error.is_go_away();
        error.is_io() || is_by_word && error.reason() != Some(Reason::ENHANCE_YOUR_CALM)
    })
}

/// Whether it befell a connection that speaks HTTP/2.
pub(super) fn is_of_http2(error: &Error) -> bool {
    error.root_cause().is::<h2::Error>()
}

/// What the upstream itself calls an error.
fn remote(error: &Error) -> Option<&h2::Error> {
    error.root_cause().downcast_ref::<h2::Error>().filter(|error| error.is_remote())
}
