//! The length of a header that is being received. pingora alone would accept a mebibyte of each.

use super::load::Load;
use crate::listener_tls::TLS_HANDSHAKE;
use crate::proxy::guard::{LONGEST_HEADER, too_large};
use crate::proxy::problem::Problem;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a header may take besides what is counted once it is parsed: method, version and additional
/// spaces.
const SLACK: usize = 8 * 1024;
/// From this length on, an incomplete header is treated as long. Nearly all headers are shorter,
/// and are received at once.
const LONG: usize = 8 * 1024;

/// A header that is being received.
#[derive(Debug, Default)]
pub(super) struct PartialHeader {
    /// How many bytes of it were received.
    length: usize,
    /// Whether it begins like a handshake of TLS.
    is_tls: bool,
    /// Whether it is counted among the long headers of its listener.
    is_long: AtomicBool,
}

impl PartialHeader {
    /// Starts with these bytes. `is_encrypted`: they came in TLS.
    pub(super) fn begin(&mut self, bytes: &[u8], is_encrypted: bool) {
        self.length = bytes.len();
        self.is_tls = !is_encrypted && bytes.first() == Some(&TLS_HANDSHAKE);
    }

    /// Whether a caller speaks TLS to a port without it.
    pub(super) const fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Adds this many bytes.
    pub(super) const fn add(&mut self, length: usize) {
        self.length += length;
    }

    /// Checks that more of it may be received.
    ///
    /// # Errors
    /// The answer to a header that is too long, or to a long one too many.
    pub(super) fn check(&mut self, load: &Load) -> Result<(), Problem> {
        if self.length > LONGEST_HEADER + SLACK {
            return Err(too_large());
        }
        if self.length > LONG && !*self.is_long.get_mut() {
            if !load.begin_long_header() {
                let detail = "too many long headers are being received at once; try again later";
                return Err(Problem::overloaded(detail));
            }
            *self.is_long.get_mut() = true;
        }
        Ok(())
    }

    /// Ends the header: it was received, or given up.
    pub(super) fn end(&self, load: &Load) {
        if self.is_long.load(Ordering::Relaxed) {
            self.is_long.store(false, Ordering::Relaxed);
            load.end_long_header();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::downstream::Downstream;
    use crate::proxy::downstream::tests::{pair, pair_of, read};
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    /// Sends this many bytes of a header that does not end. Returns whether all were read.
    async fn send(downstream: &mut Downstream, caller: &mut UnixStream, length: usize) -> bool {
        let mut sent = 0;
        while sent < length {
            caller.write_all(&[b'x'; 1024]).await.unwrap();
            if read(downstream).await.is_err() {
                return false;
            }
            sent += 1024;
        }
        true
    }

    async fn said(downstream: Downstream, mut caller: UnixStream) -> String {
        drop(downstream);
        let mut answer = String::new();
        caller.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_header_without_end_is_not_read_without_end() {
        let (mut downstream, mut caller) = pair();
        assert!(send(&mut downstream, &mut caller, LONGEST_HEADER + SLACK).await);
        assert!(!send(&mut downstream, &mut caller, 2 * 1024).await);
        let answer = said(downstream, caller).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }

    #[tokio::test]
    async fn of_long_headers_that_are_not_whole_a_listener_holds_few() {
        let (first, _caller) = pair();
        let load = first.load.clone();
        let mut open = Vec::new();
        let refused = loop {
            let (mut downstream, mut caller) = pair_of(&load);
            if !send(&mut downstream, &mut caller, LONG + 2048).await {
                break said(downstream, caller).await;
            }
            open.push((downstream, caller));
        };
        assert_eq!(open.len(), 48);
        let refused = refused.to_lowercase();
        assert!(refused.starts_with("http/1.1 503 "), "{refused}");
        assert!(refused.contains("\r\nretry-after: 1\r\n"), "{refused}");
        let (mut downstream, mut caller) = pair_of(&load);
        assert!(send(&mut downstream, &mut caller, LONG).await, "short ones are held");
        open[0].0.request_started(false, false);
        drop(open.pop());
        for _ in 0..2 {
            let (mut downstream, mut caller) = pair_of(&load);
            assert!(send(&mut downstream, &mut caller, LONG + 2048).await, "another is whole");
            open.push((downstream, caller));
        }
        drop(open);
        assert!(load.begin_long_header() && Arc::strong_count(&load) > 1);
    }
}
