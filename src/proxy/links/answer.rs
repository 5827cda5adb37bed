//! An answer's body on its way to the caller: decompressed if it has to be, and its links rewritten,
//! step by step. However much a chunk inflates to or grows, a step makes little.

use super::format::Rewriter;
use super::inflate::{Inflater, Step, may_begin};
use std::io;

/// So much is rewritten at once. A link takes a few bytes, and what takes its place a hundred.
const PIECE: usize = 8 * 1024;

/// What is done to an answer's body.
pub(crate) struct AnswerBody {
    inflating: Option<Inflating>,
    rewriter: Rewriter,
}

struct Inflating {
    inflater: Inflater,
    plain: Box<[u8]>,
}

impl AnswerBody {
    pub(super) fn new(is_gzip: bool, rewriter: Rewriter) -> Self {
        let inflating = || Inflating {
            inflater: Inflater::default(),
            plain: vec![0; PIECE].into_boxed_slice(),
        };
        Self { inflating: is_gzip.then(inflating), rewriter }
    }

    /// Whether it is compressed.
    pub(crate) const fn is_gzip(&self) -> bool {
        self.inflating.is_some()
    }

    /// Whether a compressed body may begin with these bytes.
    pub(crate) fn may_begin(bytes: &[u8]) -> bool {
        may_begin(bytes)
    }

    /// Takes some of the input and appends to the output what is decided. A step that is idle says that
    /// all of the input is taken.
    ///
    /// # Errors
    /// The compressed data is broken, or grows beyond all measure.
    pub(crate) fn step(&mut self, input: &[u8], output: &mut Vec<u8>) -> io::Result<Step> {
        let Some(Inflating { inflater, plain }) = &mut self.inflating else {
            let piece = input.get(..PIECE).unwrap_or(input);
            self.rewriter.push(piece, output);
            return Ok(Step { taken: piece.len(), made: 0 });
        };
        let step = inflater.step(input, plain)?;
        self.rewriter.push(plain.get(..step.made).unwrap_or_default(), output);
        Ok(step)
    }

    /// Ends the body, of which all steps were taken: what is held back is appended to the output.
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
    use crate::proxy::links::format::Format;
    use crate::proxy::links::origin::OriginMap;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;
    use std::sync::Arc;

    /// The body of an answer in JSON whose links from `https://t` lead to `http://ours`.
    pub(crate) fn json_body(is_gzip: bool) -> AnswerBody {
        let pairs = [("https://t".to_owned(), "http://ours".to_owned())];
        let map = Arc::new(OriginMap::new(pairs, None));
        AnswerBody::new(is_gzip, Rewriter::new(Some(Format::Json), &map))
    }

    fn all(body: &mut AnswerBody, mut input: &[u8]) -> io::Result<Vec<u8>> {
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
            let mut body = AnswerBody::new(is_gzip, Rewriter::None);
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
