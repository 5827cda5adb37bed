//! A response whose body is changed while it is written: decompressed, its links rewritten, secrets
//! removed. Pure.
//!
//! pingora's body hook wants all that a chunk becomes at once, and a chunk of 64 KiB may inflate to
//! 64 MiB. So the chunks pass pingora as they are. On the connection, the frames are removed, and
//! the body is changed in steps. A step starts only when the result of the last one is written. So
//! a caller that does not read slows the upstream down, and buffers stay small.

use super::response_framing::{Chunks, Framed, Piece, ResponseFraming, ResponseHead};
use crate::metrics::RouteMetrics;
use crate::proxy::links::BodyRewriter;
use crate::redact::Redactor;
use bytes::Bytes;
use std::io;
use std::sync::Arc;

/// The output is written once it has this many bytes.
const ENOUGH: usize = 16 * 1024;
/// The work after which other tasks get their turn: a worker has one thread.
const TURN: usize = 64 * 1024;
/// The largest number of bytes of a header that are written at once: they are copied.
const HEAD_PIECE: usize = ENOUGH;
/// The least work that is counted for a step, because starting a gzip member is work too.
const LEAST_WORK: usize = 4 * 1024;

/// One response that is changed.
pub(crate) struct ResponseRewrite {
    body: BodyRewriter,
    redactor: Option<Redactor>,
    metrics: Arc<RouteMetrics>,
    framing: ResponseFraming,
    stage: Stage,
    /// Whether more can be made of the input that was taken.
    has_more: bool,
    /// The work done in this turn.
    work: usize,
    /// Bytes that are changed and not framed yet.
    changed: Vec<u8>,
    /// Bytes that are to be written.
    output: Framed,
    /// How many bytes of the body were taken.
    taken: u64,
    /// How many bytes were made of them.
    made: u64,
    /// How many changed links the metrics count already.
    counted: u64,
}

/// The part of the response that the next byte belongs to.
enum Stage {
    Head(ResponseHead),
    Body(Chunks),
    Over,
    Broken,
}

impl ResponseRewrite {
    /// A rewrite that starts with the response's header.
    pub(crate) fn new(
        body: BodyRewriter,
        redactor: Option<Redactor>,
        metrics: Arc<RouteMetrics>,
        framing: ResponseFraming,
    ) -> Self {
        Self {
            body,
            redactor,
            metrics,
            framing,
            stage: Stage::Head(ResponseHead::default()),
            has_more: false,
            work: 0,
            changed: Vec::new(),
            output: ResponseFraming::Bare.frame(Bytes::new(), false),
            taken: 0,
            made: 0,
            counted: 0,
        }
    }

    /// The bytes to write before any other step.
    pub(super) const fn output(&mut self) -> &mut Framed {
        &mut self.output
    }

    /// Whether more can be made of the input that was taken.
    pub(super) const fn has_more(&self) -> bool {
        self.has_more
    }

    /// Whether the response is over. The rest of it is in the output.
    pub(super) const fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// Whether the body could not be changed: the upstream's compressed data is broken.
    pub(super) const fn is_broken(&self) -> bool {
        matches!(self.stage, Stage::Broken)
    }

    /// How many bytes of the body the caller gets, so far.
    pub(super) const fn made(&self) -> u64 {
        self.made
    }

    /// Ends the turn if other tasks should have one. Returns whether it ended.
    pub(super) const fn try_end_turn(&mut self) -> bool {
        let is_enough = self.work >= TURN;
        if is_enough {
            self.work = 0;
        }
        is_enough
    }

    /// Takes some of what pingora writes, at least a byte if there is one. To be called with an
    /// empty output, and nothing more to make.
    ///
    /// # Errors
    /// The compressed data is broken.
    pub(super) fn take(&mut self, input: &[u8]) -> io::Result<usize> {
        let taken = self.try_take(input);
        self.or_broken(taken)
    }

    fn try_take(&mut self, input: &[u8]) -> io::Result<usize> {
        match &mut self.stage {
            Stage::Head(head) => {
                let (count, ends) = head.read(input.get(..HEAD_PIECE).unwrap_or(input));
                let header = input.get(..count).unwrap_or_default();
                self.output = ResponseFraming::Bare.frame(Bytes::copy_from_slice(header), false);
                if ends {
                    self.stage = Stage::Body(Chunks::default());
                }
                Ok(count)
            }
            Stage::Body(_) if self.framing == ResponseFraming::Bare => self.change(input),
            Stage::Body(chunks) if !input.is_empty() => match chunks.next(input)? {
                Piece::Frame(count) => Ok(count),
                Piece::Data(data) => {
                    let count = self.change(data)?;
                    if let Stage::Body(chunks) = &mut self.stage {
                        chunks.took(count);
                    }
                    Ok(count)
                }
                Piece::End(count) => {
                    self.end()?;
                    Ok(count)
                }
            },
            Stage::Body(_) | Stage::Over => Ok(input.len()),
            Stage::Broken => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Makes more of the input that was taken.
    ///
    /// # Errors
    /// The compressed data is broken.
    pub(super) fn make(&mut self) -> io::Result<()> {
        let made = self.change(&[]).map(drop);
        self.or_broken(made)
    }

    /// Ends a bare body, if this many bytes were taken. It has no end of its own.
    ///
    /// # Errors
    /// The compressed data ends too early.
    pub(super) fn end_if_complete(&mut self, length: u64) -> io::Result<()> {
        let is_due = matches!(self.stage, Stage::Body(_))
            && self.framing == ResponseFraming::Bare
            && self.taken == length;
        let ended = if is_due { self.end() } else { Ok(()) };
        self.or_broken(ended)
    }

    fn or_broken<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        if result.is_err() {
            self.stage = Stage::Broken;
            self.has_more = false;
        }
        result
    }

    /// Takes steps until there is enough output or no more input.
    fn change(&mut self, input: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        self.has_more = true;
        let least = if self.body.is_gzip() { ENOUGH } else { input.len().min(ENOUGH) };
        self.changed.reserve(least + least / 4);
        while self.changed.len() < ENOUGH && self.work < TURN {
            let before = self.changed.len();
            let step = self.body.step(input.get(taken..).unwrap_or_default(), &mut self.changed)?;
            taken += step.taken;
            // Links grow, and a part that was held comes all at once.
            let written = self.changed.len() - before;
            self.work += LEAST_WORK.max(step.taken + step.made).max(written);
            if step.is_idle() {
                self.has_more = false;
                break;
            }
        }
        self.taken += taken as u64;
        self.emit(false);
        Ok(taken)
    }

    fn end(&mut self) -> io::Result<()> {
        self.body.finish(&mut self.changed)?;
        self.emit(true);
        self.stage = Stage::Over;
        Ok(())
    }

    /// Frames what was changed, without secrets.
    fn emit(&mut self, is_end: bool) {
        let rewritten = self.body.rewritten();
        if rewritten > self.counted {
            self.metrics.add_rewritten_links(rewritten - self.counted);
            self.counted = rewritten;
        }
        if self.changed.is_empty() && !is_end {
            return;
        }
        let changed = std::mem::take(&mut self.changed);
        let mut chunk = (!changed.is_empty()).then(|| Bytes::from(changed));
        if let Some(redactor) = &mut self.redactor {
            self.metrics.add_redacted_tokens(redactor.redact_chunk(&mut chunk, is_end));
        }
        let chunk = chunk.unwrap_or_default();
        self.made += chunk.len() as u64;
        self.output = self.framing.frame(chunk, is_end);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::proxy::downstream::response_framing::ResponseFraming::{Bare, Chunks};
    use crate::proxy::links::body::tests::{growing_body, json_body};
    use crate::redact::Secrets;
    use bytes::{Buf, BufMut};
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use std::io::Write;

    pub(in crate::proxy::downstream) const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nx: 1\r\n\r\n";
    const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJqdGkiOiJ4In0.c2ln";

    pub(in crate::proxy::downstream) fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    /// A rewrite of JSON with links to `https://t`.
    pub(in crate::proxy::downstream) fn rewrite(
        is_gzip: bool,
        framing: ResponseFraming,
    ) -> (ResponseRewrite, Metrics) {
        let metrics = Metrics::new().unwrap();
        let secrets = Secrets::new([Bytes::from(TOKEN)], 16).unwrap();
        let route = Arc::new(metrics.route("/x"));
        (
            ResponseRewrite::new(json_body(is_gzip), Some(Redactor::new(secrets)), route, framing),
            metrics,
        )
    }

    /// A body as pingora writes it, in frames of this size.
    pub(in crate::proxy::downstream) fn framed(
        body: &[u8],
        framing: ResponseFraming,
        size: usize,
    ) -> Vec<u8> {
        let mut stream = HEAD.to_vec();
        for chunk in body.chunks(size) {
            stream.put(framing.frame(Bytes::copy_from_slice(chunk), false));
        }
        stream.put(framing.frame(Bytes::new(), true));
        stream
    }

    /// Takes what came of it, which is never much.
    fn drain(rewrite: &mut ResponseRewrite, output: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let made = rewrite.output();
            assert!(made.remaining() <= 2 * ENOUGH, "{}", made.remaining());
            output.put(made);
            rewrite.try_end_turn();
            if !rewrite.has_more() {
                return Ok(());
            }
            rewrite.make()?;
        }
    }

    /// All that comes of a stream which is written in pieces of this size.
    fn run(
        rewrite: &mut ResponseRewrite,
        stream: &[u8],
        size: usize,
        length: usize,
    ) -> io::Result<Vec<u8>> {
        let mut output = Vec::new();
        for mut piece in stream.chunks(size) {
            while !piece.is_empty() {
                let taken = rewrite.take(piece)?;
                piece = &piece[taken..];
                drain(rewrite, &mut output)?;
            }
        }
        rewrite.end_if_complete(length as u64)?;
        drain(rewrite, &mut output)?;
        Ok(output)
    }

    /// The body in what came of it; whether it has its end is checked.
    fn body_of(output: &[u8], framing: ResponseFraming) -> Vec<u8> {
        let mut rest = output.strip_prefix(HEAD).expect("the header is as it was");
        if framing == Bare {
            return rest.to_vec();
        }
        let (mut chunks, mut body) = (super::Chunks::default(), Vec::new());
        loop {
            let count = match chunks.next(rest).unwrap() {
                Piece::Frame(count) => count,
                Piece::Data(data) => {
                    body.extend_from_slice(data);
                    chunks.took(data.len());
                    data.len()
                }
                Piece::End(_) => return body,
            };
            rest = &rest[count..];
        }
    }

    proptest! {
        #[test]
        fn whatever_the_pieces_the_same_comes_of_them(
            rows in 0_usize..400,
            is_gzip in any::<bool>(),
            is_bare in any::<bool>(),
            frame in 1_usize..3000,
            piece in 1_usize..3000,
        ) {
            let page = |origin: &str| {
                let row = format!(r#"{{"a":"https://t/1","uri":"{origin}/x"}},"#);
                format!(r#"{{"value":[{}0],"__next":"{origin}/?n"}}"#, row.repeat(rows))
            };
            let (body, framing) = (page("https://t"), if is_bare { Bare } else { Chunks });
            let body = if is_gzip { gzip(body.as_bytes()) } else { body.into_bytes() };
            let (mut rewrite, metrics) = rewrite(is_gzip, framing);
            let output = run(&mut rewrite, &framed(&body, framing, frame), piece, body.len()).unwrap();
            let wanted = page("http://sidecar");
            prop_assert_eq!(String::from_utf8(body_of(&output, framing)).unwrap(), &*wanted);
            prop_assert!(rewrite.is_over());
            prop_assert_eq!(rewrite.made(), wanted.len() as u64);
            let text = String::from_utf8(metrics.render().unwrap()).unwrap();
            let links = format!("bearerd_links_rewritten_total{{route=\"/x\"}} {}", rows + 1);
            prop_assert!(text.contains(&links), "{}", text);
        }

        #[test]
        fn no_bytes_of_an_upstream_are_more_than_an_error(
            body in prop::collection::vec(any::<u8>(), 0..300),
            cut in 0_usize..60,
            piece in 1_usize..100,
        ) {
            let whole = gzip(&body);
            for body in [&body[..], &whole[..whole.len().saturating_sub(cut + 1)]] {
                let (mut rewrite, _) = rewrite(true, Chunks);
                let ended = run(&mut rewrite, &framed(body, Chunks, 50), piece, body.len());
                prop_assert_eq!(ended.is_err(), !body.is_empty());
                prop_assert_eq!(rewrite.is_broken(), !body.is_empty());
            }
        }
    }

    #[test]
    fn a_token_is_removed_from_what_was_compressed() {
        let body = gzip(format!(r#"{{"uri":"https://t/{TOKEN}"}}"#).as_bytes());
        let (mut rewrite, metrics) = rewrite(true, Chunks);
        let output = run(&mut rewrite, &framed(&body, Chunks, 1000), 1000, 0).unwrap();
        let body = String::from_utf8(body_of(&output, Chunks)).unwrap();
        assert!(body.starts_with(r#"{"uri":"http://sidecar/[token removed]"#), "{body}");
        assert!(!body.contains(TOKEN));
        let text = String::from_utf8(metrics.render().unwrap()).unwrap();
        assert!(text.contains("bearerd_token_echoes_total{route=\"/x\"} 1"), "{text}");
    }

    #[test]
    fn interim_answers_pass_before_the_one_that_is_changed() {
        let interim = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
        let stream = [&interim[..], &framed(&gzip(b"{}"), Chunks, 9)].concat();
        let output = run(&mut rewrite(true, Chunks).0, &stream, 7, 0).unwrap();
        let rest = output.strip_prefix(interim).expect("as it was");
        assert_eq!(body_of(rest, Chunks), b"{}");
    }

    #[test]
    fn a_turn_ends_with_what_links_have_become() {
        let links = format!("{{\"@odata.nextLink\":[{}0]}}", "\"/\",".repeat(200_000));
        let body = gzip(links.as_bytes());
        let (_, metrics) = rewrite(true, Bare);
        let route = Arc::new(metrics.route("/x"));
        let growing = growing_body("application/json", true);
        let mut rewrite = ResponseRewrite::new(growing, None, route, Bare);
        rewrite.take(HEAD).unwrap();
        let (mut input, mut turn) = (&body[..], 0);
        while !input.is_empty() || rewrite.has_more() {
            let made = rewrite.output();
            turn += made.remaining();
            made.advance(made.remaining());
            // What one step makes comes on top.
            assert!(turn <= TURN + 2 * ENOUGH, "{turn} bytes in a turn");
            if rewrite.try_end_turn() {
                turn = 0;
            }
            if rewrite.has_more() {
                rewrite.make().unwrap();
            } else {
                input = &input[rewrite.take(input).unwrap()..];
            }
        }
        assert!(rewrite.made() > 60 * 200_000, "{}", rewrite.made());
    }

    #[test]
    fn a_turn_ends_with_its_work_whether_anything_comes_of_it_or_not() {
        let bomb = gzip(&vec![b' '; 8 << 20]);
        let nothing = gzip(b"").repeat(1000);
        for body in [bomb, nothing] {
            let (mut rewrite, _) = rewrite(true, Bare);
            rewrite.take(HEAD).unwrap();
            let (mut input, mut turns, mut steps) = (&body[..], 0, 0);
            while !input.is_empty() {
                let made = rewrite.output();
                made.advance(made.remaining());
                if rewrite.try_end_turn() {
                    turns += 1;
                    steps = 0;
                }
                steps += 1;
                assert!(steps <= TURN / LEAST_WORK, "without an end");
                input = &input[rewrite.take(input).unwrap()..];
            }
            assert!(turns >= 50, "{turns}");
        }
    }
}
