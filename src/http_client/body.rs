//! Bodies of answers, read within bounds.

use super::send_error::SendError;
use reqwest::Response;

/// Reason why the body of an answer can't be read.
pub(crate) enum BodyError {
    /// The body is longer than the limit.
    TooLong,
    /// The connection failed before the end of the body.
    Incomplete(SendError),
}

/// Reads the body of an answer, at most `limit` bytes.
///
/// `is_whole` says whether the bytes so far are a whole body. If they are, an error after them is
/// ignored, because some servers close without TLS's `close_notify`. Without a Content-Length,
/// reading stops there, because other servers never close.
///
/// # Errors
/// The body is too long, or the connection failed.
pub(crate) async fn bounded_body(
    answer: &mut Response,
    limit: usize,
    is_whole: impl Fn(&[u8]) -> bool,
) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    loop {
        let chunk = match answer.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(_) if is_whole(&body) => break,
            Err(error) => return Err(BodyError::Incomplete(SendError::Library(error))),
        };
        if body.len() + chunk.len() > limit {
            return Err(BodyError::TooLong);
        }
        body.extend_from_slice(&chunk);
        if answer.content_length().is_none() && is_whole(&body) {
            break;
        }
    }
    Ok(body)
}
