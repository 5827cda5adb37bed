//! A response's body on its way to the caller: decompressed if necessary, and its links rewritten,
//! in steps. However much a chunk inflates or grows, each step makes little.

use super::inflate::{InflateStep, Inflater, may_begin};
use super::multipart_batch_response::LinkRewriter;
use super::rewrite::Rewrite;
use std::io;

/// The largest number of bytes that are rewritten in one step.
const PIECE: usize = 8 * 1024;
/// The largest number of bytes that a step may make, which makes steps smaller: a link has a few
/// bytes, and its replacement a hundred.
const MOST_MADE: usize = 4 * PIECE;
/// The least bytes that are rewritten in one step.
const LEAST_PIECE: usize = 256;

/// Decompresses and rewrites a response's body.
pub(crate) struct BodyRewriter {
    inflating: Option<Inflating>,
    rewriter: LinkRewriter,
    piece: usize,
}

struct Inflating {
    inflater: Inflater,
    plain: Box<[u8]>,
}

impl BodyRewriter {
    /// `growth` is the factor by which the rewriter can lengthen its input.
    pub(super) fn new(is_gzip: bool, rewriter: LinkRewriter, growth: usize) -> Self {
        let piece = MOST_MADE.checked_div(growth).unwrap_or(PIECE).clamp(LEAST_PIECE, PIECE);
        let inflating = || Inflating {
            inflater: Inflater::default(),
            plain: vec![0; piece].into_boxed_slice(),
        };
        Self { inflating: is_gzip.then(inflating), rewriter, piece }
    }

    /// Whether the body is compressed.
    pub(crate) const fn is_gzip(&self) -> bool {
        self.inflating.is_some()
    }

    /// Whether a compressed body may begin with these bytes.
    pub(crate) fn may_begin(bytes: &[u8]) -> bool {
        may_begin(bytes)
    }

    /// Takes some of the input and appends to the output what is decided. A step that is idle means
    /// that all of the input was taken.
    ///
    /// # Errors
    /// The compressed data is broken, or inflates too much.
    pub(crate) fn step(&mut self, input: &[u8], output: &mut Vec<u8>) -> io::Result<InflateStep> {
        let Some(Inflating { inflater, plain }) = &mut self.inflating else {
            let piece = input.get(..self.piece).unwrap_or(input);
            self.rewriter.push(piece, output);
            return Ok(InflateStep { taken: piece.len(), made: 0 });
        };
        let step = inflater.step(input, plain)?;
        self.rewriter.push(plain.get(..step.made).unwrap_or_default(), output);
        Ok(step)
    }

    /// Ends the body, after all steps: appends to the output what is held back.
    ///
    /// # Errors
    /// The compressed data ends too early.
    pub(crate) fn finish(&mut self, output: &mut Vec<u8>) -> io::Result<()> {
        if self.inflating.as_ref().is_some_and(|inflating| !inflating.inflater.is_whole()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.rewriter.finish(output);
        Ok(())
    }

    /// How many links were changed so far.
    pub(crate) fn rewritten(&self) -> u64 {
        self.rewriter.rewritten()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::proxy::links::format::{Format, FormatRewriter};
    use crate::proxy::links::held_part::LARGEST_CHANGED;
    use crate::proxy::links::origin::OriginMap;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;
    use std::sync::Arc;

    /// The body of an answer in JSON whose links from `https://t` lead to `http://sidecar`.
    pub(crate) fn json_body(is_gzip: bool) -> BodyRewriter {
        let pairs = [("https://t".to_owned(), "http://sidecar".to_owned())];
        let map = Arc::new(OriginMap::new(pairs, None));
        BodyRewriter::new(
            is_gzip,
            LinkRewriter::Body(FormatRewriter::new(Some(Format::Json), &map)),
            map.growth(),
        )
    }

    /// The body of an answer of this type, in which paths become 62 characters longer.
    pub(crate) fn growing_body(content_type: &'static str, is_gzip: bool) -> BodyRewriter {
        let map = Arc::new(OriginMap::new([], Some(format!("/{}", "p".repeat(61)))));
        let value = http::HeaderValue::from_static(content_type);
        let headers = http::HeaderMap::from_iter([(http::header::CONTENT_TYPE, value)]);
        let rewriter =
            LinkRewriter::of_response(&headers, false, crate::profile::Links::JsonAndXml, &map);
        BodyRewriter::new(is_gzip, rewriter, map.growth())
    }

    /// This many parts. Each consists almost entirely of links, and is as large as a part that is
    /// held.
    fn parts_of_links(count: usize) -> Vec<u8> {
        let part = format!(
            "--b\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{{\"@odata.nextLink\":[{}0]}}\r\n",
            "\"/\",".repeat(15_500)
        );
        format!("{}--b--", part.repeat(count)).into_bytes()
    }

    fn all(body: &mut BodyRewriter, mut input: &[u8]) -> io::Result<Vec<u8>> {
        let mut output = Vec::new();
        loop {
            let step = body.step(input, &mut output)?;
            input = &input[step.taken..];
            if step.is_idle() {
                return Ok(output);
            }
        }
    }

    #[test]
    fn what_a_flush_brings_goes_on_at_once() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(b"{\"first\":1,").unwrap();
        encoder.flush().unwrap();
        let first = std::mem::take(encoder.get_mut());
        encoder.write_all(b"\"second\":2}").unwrap();
        let rest = encoder.finish().unwrap();
        let mut body = json_body(true);
        assert_eq!(all(&mut body, &first).unwrap(), b"{\"first\":1,");
        assert_eq!(all(&mut body, &rest).unwrap(), b"\"second\":2}");
        body.finish(&mut Vec::new()).unwrap();
    }

    #[test]
    fn a_body_that_ends_too_early_is_an_error_and_one_that_never_begins_is_empty() {
        let finished = |is_gzip, bytes: &[u8]| {
            let mut body = BodyRewriter::new(is_gzip, LinkRewriter::default(), 1);
            let mut output = all(&mut body, bytes)?;
            body.finish(&mut output)?;
            Ok::<_, io::Error>(output)
        };
        assert_eq!(finished(true, b"").unwrap(), b"");
        assert!(finished(true, &[0x1f, 0x8b]).is_err());
        assert!(finished(true, b"no gzip").is_err());
        assert_eq!(finished(false, b"plain").unwrap(), b"plain");
    }

    #[test]
    fn a_step_makes_little_however_much_links_grow() {
        let json = format!("{{\"@odata.nextLink\":[{}0]}}", "\"/\",".repeat(100_000));
        let xml = format!("<f>{}</f>", "<a href=\"/\"/>".repeat(50_000));
        let parts = parts_of_links(8);
        for (kind, input, most) in [
            ("application/json", json.as_bytes(), MOST_MADE),
            ("application/xml", xml.as_bytes(), MOST_MADE),
            ("multipart/mixed; boundary=b", &parts, LARGEST_CHANGED + 2 * MOST_MADE),
        ] {
            for is_gzip in [false, true] {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
                encoder.write_all(input).unwrap();
                let compressed = encoder.finish().unwrap();
                let mut input = if is_gzip { &compressed } else { input };
                let (mut body, mut output) = (growing_body(kind, is_gzip), Vec::new());
                while !input.is_empty() {
                    let step = body.step(input, &mut output).unwrap();
                    assert!(output.len() <= most, "{kind}: {}", output.len());
                    output.clear();
                    input = &input[step.taken..];
                }
                assert!(body.rewritten() > 40_000);
            }
        }
    }

    #[test]
    fn a_step_makes_little_whatever_it_takes() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&vec![b' '; 8 << 20]).unwrap();
        let compressed = encoder.finish().unwrap();
        let links = format!("{{\"__next\":[{}]}}", "\"https://t\",".repeat(50_000));
        for (is_gzip, input) in [(true, compressed.as_slice()), (false, links.as_bytes())] {
            let (mut body, mut input, mut output) = (json_body(is_gzip), input, Vec::new());
            while !input.is_empty() {
                let step = body.step(input, &mut output).unwrap();
                assert!(output.len() <= 2 * PIECE, "{}", output.len());
                output.clear();
                input = &input[step.taken..];
            }
        }
    }
}
