//! An answer's body on its way to the caller: decompressed if it has to be, and its links rewritten,
//! chunk by chunk.

use super::format::{Format, Rewriter};
use super::origin::OriginMap;
use flate2::write::MultiGzDecoder;
use std::io::{self, Write};
use std::sync::Arc;

/// How much compressed data is inflated at once; a thousand times as much can come out.
const SLICE: usize = 2048;
/// The most that one chunk of an upstream may inflate to: more is no answer but an attack. SAP's own
/// limit of a page is 20 MB.
const MOST_OUTPUT: usize = 32 << 20;

/// What is done to an answer's body.
pub(crate) struct AnswerBody {
    is_gzip: bool,
    decoder: Option<MultiGzDecoder<Vec<u8>>>,
    rewriter: Rewriter,
}

impl AnswerBody {
    pub(super) fn new(is_gzip: bool, format: Option<Format>, map: &Arc<OriginMap>) -> Self {
        Self { is_gzip, decoder: None, rewriter: Rewriter::new(format, map) }
    }

    /// The output for one more chunk of input, and for the end.
    ///
    /// # Errors
    /// The compressed data is broken, ends too early, or grows beyond all measure.
    pub(super) fn push(&mut self, input: &[u8], is_end: bool) -> io::Result<Vec<u8>> {
        let mut output = Vec::with_capacity(input.len() + 64);
        if self.is_gzip {
            // In slices, so that what one of them inflates to stays small.
            for slice in input.chunks(SLICE) {
                let plain = self.inflate(slice)?;
                self.rewriter.push(&plain, &mut output);
                if output.len() > MOST_OUTPUT {
                    return Err(io::Error::other("the compressed data inflates too much"));
                }
            }
            if let Some(mut decoder) = self.decoder.take_if(|_| is_end) {
                decoder.try_finish()?;
                self.rewriter.push(decoder.get_ref(), &mut output);
            }
        } else {
            self.rewriter.push(input, &mut output);
        }
        if is_end {
            self.rewriter.finish(&mut output);
        }
        Ok(output)
    }

    /// The decoder begins with the first byte: a body that has none is empty, not broken.
    fn inflate(&mut self, input: &[u8]) -> io::Result<Vec<u8>> {
        let decoder = self.decoder.get_or_insert_with(|| MultiGzDecoder::new(Vec::new()));
        decoder.write_all(input)?;
        // What there is goes on now: the rest may be long in coming.
        decoder.flush()?;
        Ok(std::mem::take(decoder.get_mut()))
    }

    /// How many links were changed so far.
    pub(super) fn rewritten(&self) -> u64 {
        self.rewriter.rewritten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    #[test]
    fn what_a_flush_brings_goes_on_at_once() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(b"{\"first\":1,").unwrap();
        encoder.flush().unwrap();
        let first = std::mem::take(encoder.get_mut());
        encoder.write_all(b"\"second\":2}").unwrap();
        let rest = encoder.finish().unwrap();
        let mut body = AnswerBody::new(true, Some(Format::Json), &Arc::default());
        assert_eq!(body.push(&first, false).unwrap(), b"{\"first\":1,");
        assert_eq!(body.push(&rest, true).unwrap(), b"\"second\":2}");
    }

    #[test]
    fn a_body_that_ends_too_early_is_an_error_and_one_that_never_begins_is_empty() {
        let gzip = |is_gzip| AnswerBody::new(is_gzip, None, &Arc::default());
        assert_eq!(gzip(true).push(b"", true).unwrap(), b"");
        assert!(gzip(true).push(&[0x1f, 0x8b], true).is_err());
        assert!(gzip(true).push(b"no gzip", true).is_err());
        assert_eq!(gzip(false).push(b"plain", true).unwrap(), b"plain");
    }
}
