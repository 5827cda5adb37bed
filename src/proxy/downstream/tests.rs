use super::connection::Downstream;
use super::{Activity, Load, Socket};
use crate::config::ListenerId;
use crate::metrics::Metrics;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// A connection, and its other end.
pub(super) fn pair() -> (Downstream, UnixStream) {
    let metrics = Arc::new(Metrics::new().unwrap());
    pair_of(&Arc::new(Load::new(ListenerId(0), metrics)))
}

/// The same on a listener that has others.
pub(super) fn pair_of(load: &Arc<Load>) -> (Downstream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let activity = Arc::new(Activity::new(Arc::default()));
    (Downstream::new(Socket::Unix(ours), load.clone(), activity), theirs)
}

pub(super) async fn read(downstream: &mut Downstream) -> io::Result<usize> {
    downstream.read(&mut [0; 4096]).await
}

pub(super) fn rejected(downstream: &Downstream) -> bool {
    let text = String::from_utf8(downstream.load.metrics.render().unwrap()).unwrap();
    text.contains(r#"bearerd_requests_rejected_total{kind="bad_request"} 1"#)
}

#[tokio::test(start_paused = true)]
async fn what_comes_before_its_time_is_read_when_the_answer_is_out() {
    let (mut downstream, mut caller) = pair();
    downstream.request_started(false, false);
    caller.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let early = tokio::time::timeout(Duration::from_secs(600), read(&mut downstream)).await;
    assert!(early.is_err(), "it is not its time");
    downstream.request_ended();
    let mut got = [0; 18];
    downstream.read_exact(&mut got[..10]).await.unwrap();
    downstream.read_exact(&mut got[10..]).await.unwrap();
    assert_eq!(&got, b"GET / HTTP/1.1\r\n\r\n");
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_is_missed_whatever_came_before() {
    let (mut downstream, mut caller) = pair();
    downstream.request_started(false, false);
    caller.write_all(b"\r\n").await.unwrap();
    drop(caller);
    assert_eq!(read(&mut downstream).await.unwrap(), 0);
}

#[tokio::test]
async fn what_pingora_says_by_itself_is_said_in_our_words_and_what_we_say_is_not_touched() {
    let (mut downstream, mut caller) = pair();
    caller.write_all(b"GARBAGE").await.unwrap();
    read(&mut downstream).await.unwrap();
    let bare = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    downstream.write_all(bare).await.unwrap();
    downstream.write_all(b"and more").await.unwrap();
    assert!(rejected(&downstream));
    drop(downstream);
    let mut answer = String::new();
    caller.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("\r\nProxy-Status: bearerd; error=http_request_error\r\n"), "{answer}");
    assert!(answer.ends_with(r#""kind":"bad_request"}"#), "{answer}");

    let (mut downstream, mut caller) = pair();
    downstream.request_started(false, false);
    let (first, last) = bare.split_at(20);
    downstream.write_all(first).await.unwrap();
    downstream.request_ended();
    downstream.write_all(last).await.unwrap();
    drop(downstream);
    let mut answer = Vec::new();
    caller.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, bare, "the buffer leaves with the connection");
}
