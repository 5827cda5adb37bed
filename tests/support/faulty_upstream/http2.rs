//! DemoFaults of HTTP/2: of single requests, and of a connection with all its requests.

use super::{DRIBBLE, STALL, body, number_in};
use bytes::Bytes;
use fastrand::Rng;
use h2::server::{Connection, SendResponse, handshake};
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use std::future::poll_fn;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Serves a connection until it fails or ends with GOAWAY.
pub(super) async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, mut rng: Rng) -> Option<()> {
    let mut connection: Connection<_, Bytes> = handshake(stream).await.ok()?;
    let mut requests = JoinSet::new();
    while let Some(accepted) = connection.accept().await {
        let (request, answer) = accepted.ok()?;
        match rng.u8(..100) {
            // GOAWAY, and all requests in flight are lost.
            0..2 => connection.abrupt_shutdown(Reason::NO_ERROR),
            // A regular GOAWAY.
            2..5 => {
                connection.graceful_shutdown();
                requests.spawn(reply(request, answer, rng.fork()));
            }
            // The end without GOAWAY.
            5..7 => return None,
            _ => {
                requests.spawn(reply(request, answer, rng.fork()));
            }
        }
    }
    Some(())
}

async fn reply(
    request: Request<RecvStream>,
    mut answer: SendResponse<Bytes>,
    mut rng: Rng,
) -> Option<()> {
    let (head, mut sent) = request.into_parts();
    while let Some(data) = sent.data().await {
        sent.flow_control().release_capacity(data.ok()?.len()).ok()?;
    }
    let body = body(number_in(head.uri.path()));
    let half = &body[..body.len() / 2];
    let with_length = |has_length: bool| {
        let header = has_length.then_some(("content-length", body.len()));
        let response = header
            .into_iter()
            .fold(Response::builder(), |response, (name, length)| response.header(name, length));
        response.body(()).unwrap()
    };
    match rng.u8(..100) {
        // No response at all.
        0..4 => answer.send_reset(Reason::INTERNAL_ERROR),
        // No response in time.
        4..7 => sleep(STALL).await,
        // Refused before the work has begun.
        7..12 => answer.send_reset(Reason::REFUSED_STREAM),
        // Half a body, and a reset.
        12..17 => {
            let mut sender = answer.send_response(with_length(rng.bool()), false).ok()?;
            send(&mut sender, half, half.len().max(1)).await?;
            sender.send_reset(Reason::INTERNAL_ERROR);
        }
        // Half a body, and a regular end.
        17..20 => {
            let mut sender = answer.send_response(with_length(true), false).ok()?;
            send(&mut sender, half, half.len().max(1)).await?;
            sender.send_data(Bytes::new(), true).ok()?;
        }
        // Half a body, and then nothing.
        20..23 => {
            let mut sender = answer.send_response(with_length(rng.bool()), false).ok()?;
            send(&mut sender, half, half.len().max(1)).await?;
            sleep(STALL).await;
        }
        // A response that begins slowly.
        23..26 => {
            let mut sender = answer.send_response(with_length(rng.bool()), false).ok()?;
            for byte in body.iter().take(20) {
                send(&mut sender, &[*byte], 1).await?;
                sleep(DRIBBLE).await;
            }
            send(&mut sender, body.get(20..).unwrap_or_default(), 16 << 10).await?;
            sender.send_data(Bytes::new(), true).ok()?;
        }
        _ => {
            let mut sender = answer.send_response(with_length(rng.bool()), false).ok()?;
            send(&mut sender, &body, 1 + rng.usize(..40_000)).await?;
            sender.send_data(Bytes::new(), true).ok()?;
        }
    }
    Some(())
}

/// Sends bytes in pieces as the other side allows.
async fn send(sender: &mut SendStream<Bytes>, bytes: &[u8], most: usize) -> Option<()> {
    let mut left = bytes;
    while !left.is_empty() {
        sender.reserve_capacity(left.len().min(most));
        let room = poll_fn(|context| sender.poll_capacity(context)).await?.ok()?;
        let (piece, rest) = left.split_at(room.min(left.len()));
        sender.send_data(Bytes::copy_from_slice(piece), false).ok()?;
        left = rest;
    }
    Some(())
}
