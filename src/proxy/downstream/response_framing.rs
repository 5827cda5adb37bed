//! Reads back how pingora frames a response: its header, and a body in chunks (RFC 9112 section
//! 7.1) or bare. The input is what pingora writes, in pieces of any size. Pure.

use bytes::buf::Chain;
use bytes::{Buf, Bytes};
use memchr::memchr_iter;
use std::io;

/// The largest number of digits that are accepted in the size of a chunk.
const LONGEST_SIZE: u32 = 15;

/// The place of the first digit of a status, after `HTTP/1.1 `.
const STATUS: usize = 9;

/// Finds the end of the header that a body follows.
#[derive(Debug, Default)]
pub(super) struct ResponseHead {
    /// How many bytes of it were read.
    at: usize,
    /// Whether its status is 1xx: another header follows, not a body.
    is_interim: bool,
    /// Whether the current line has any text.
    has_text: bool,
}

impl ResponseHead {
    /// How many of these bytes belong to headers, and whether the body comes next.
    pub(super) fn read(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut start = 0;
        for end in memchr_iter(b'\n', bytes) {
            self.see(bytes.get(start..=end).unwrap_or_default());
            start = end + 1;
            let is_last = !std::mem::take(&mut self.has_text);
            if is_last && !std::mem::take(self).is_interim {
                return (start, true);
            }
        }
        self.see(bytes.get(start..).unwrap_or_default());
        (bytes.len(), false)
    }

    /// Reads a part of a line, or all of it.
    fn see(&mut self, part: &[u8]) {
        if let Some(digit) = STATUS.checked_sub(self.at).and_then(|at| part.get(at)) {
            self.is_interim = *digit == b'1';
        }
        self.at += part.len();
        self.has_text |= !part.trim_ascii().is_empty();
    }
}

/// How a body is framed, as pingora writes it and as the caller gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseFraming {
    /// In chunks. The last chunk ends it.
    Chunks,
    /// As it is, up to the end of the connection: HTTP/1.0 has no chunks.
    Bare,
}

impl ResponseFraming {
    /// Frames the next bytes of a body. No bytes make no chunk: an empty chunk would be the last
    /// one.
    pub(super) fn frame(self, data: Bytes, is_end: bool) -> Framed {
        let (before, after) = match (self, data.len(), is_end) {
            (Self::Bare, ..) | (Self::Chunks, 0, false) => (String::new(), ""),
            (Self::Chunks, 0, true) => (String::new(), "0\r\n\r\n"),
            (Self::Chunks, length, false) => (format!("{length:x}\r\n"), "\r\n"),
            (Self::Chunks, length, true) => (format!("{length:x}\r\n"), "\r\n0\r\n\r\n"),
        };
        Bytes::from(before).chain(data.chain(Bytes::from_static(after.as_bytes())))
    }
}

/// Bytes with their frame before and after them, without a copy.
pub(super) type Framed = Chain<Bytes, Chain<Bytes, Bytes>>;

/// The next bytes of a framed body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// This many bytes belong to the frame.
    Frame(usize),
    /// Bytes of the body. The caller reports how many it took, with [`Chunks::took`].
    Data(&'a [u8]),
    /// This many bytes belong to the end of the frame, and the body is over.
    End(usize),
}

/// Reads a body in chunks.
#[derive(Debug, Default)]
pub(super) enum Chunks {
    /// Before a chunk's size.
    #[default]
    Start,
    /// In a chunk's size: the value and the number of digits so far.
    Size(u64, u32),
    /// In a chunk's data, of which this many bytes are left.
    Data(u64),
    /// In the line end after the data.
    DataEnd,
    /// In the empty line after the last chunk.
    Last,
}

impl Chunks {
    /// The next piece of the input, which is not empty.
    ///
    /// # Errors
    /// The input is not a chunk.
    pub(super) fn next<'a>(&mut self, input: &'a [u8]) -> io::Result<Piece<'a>> {
        let mut read = 0;
        while let Some(byte) = input.get(read) {
            if let Self::Data(left) = self {
                if read > 0 {
                    break;
                }
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                return Ok(Piece::Data(input.get(..length).unwrap_or_default()));
            }
            read += 1;
            *self = match (&self, byte) {
                (Self::Start | Self::Size(..), digit) if digit.is_ascii_hexdigit() => {
                    self.with_digit(*digit)?
                }
                (Self::Size(..) | Self::DataEnd | Self::Last, b'\r') => continue,
                (Self::Size(0, _), b'\n') => Self::Last,
                (Self::Size(size, _), b'\n') => Self::Data(*size),
                (Self::DataEnd, b'\n') => Self::Start,
                (Self::Last, b'\n') => return Ok(Piece::End(read)),
                _ => {
                    return Err(io::Error::other(
                        "pingora frames bodies in another way than expected",
                    ));
                }
            };
        }
        Ok(Piece::Frame(read))
    }

    fn with_digit(&self, digit: u8) -> io::Result<Self> {
        let (size, digits) =
            if let Self::Size(size, digits) = self { (*size, *digits) } else { (0, 0) };
        let digit = char::from(digit).to_digit(16).filter(|_| digits < LONGEST_SIZE);
        let digit = digit.ok_or_else(|| io::Error::other("a chunk is too large"))?;
        Ok(Self::Size(size * 16 + u64::from(digit), digits + 1))
    }

    /// Records that this many bytes of the data were taken.
    pub(super) fn took(&mut self, count: usize) {
        if let Self::Data(left) = self {
            *left = left.saturating_sub(count as u64);
            if *left == 0 {
                *self = Self::DataEnd;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BufMut;
    use proptest::prelude::*;

    #[test]
    fn the_body_follows_the_first_header_that_is_no_interim_one() {
        let interim = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
        let last = b"HTTP/1.1 200 OK\r\nx: 1\r\n\r\n";
        let stream = [&interim[..], interim, last, b"\r\n\r\nbody"].concat();
        let end = 2 * interim.len() + last.len();
        assert_eq!(ResponseHead::default().read(&stream), (end, true));
        let mut head = ResponseHead::default();
        let at = stream.iter().position(|byte| head.read(&[*byte]).1);
        assert_eq!(at, Some(end - 1), "byte by byte");
    }

    /// The body of a framed stream, read in pieces of this size, and whether it ended.
    fn read(framed: &[u8], size: usize) -> io::Result<(Vec<u8>, bool)> {
        let (mut chunks, mut data) = (Chunks::default(), Vec::new());
        for mut piece in framed.chunks(size) {
            while !piece.is_empty() {
                let taken = match chunks.next(piece)? {
                    Piece::Frame(count) => count,
                    Piece::Data(bytes) => {
                        // Never all at once.
                        let bytes = &bytes[..bytes.len().div_ceil(2)];
                        data.extend_from_slice(bytes);
                        chunks.took(bytes.len());
                        bytes.len()
                    }
                    Piece::End(count) => {
                        assert_eq!(count, piece.len(), "nothing follows");
                        return Ok((data, true));
                    }
                };
                assert!(taken > 0);
                piece = &piece[taken..];
            }
        }
        Ok((data, false))
    }

    #[test]
    fn what_is_no_chunk_is_an_error() {
        for wrong in ["x", "\r\n", "5;a\r\n", "1\r\nab", "0\r\nx", "1000000000000000\r\n"] {
            assert!(read(wrong.as_bytes(), 100).is_err(), "{wrong}");
        }
        assert_eq!(read(b"5\r\nhel", 100).unwrap(), (b"hel".to_vec(), false));
    }

    proptest! {
        #[test]
        fn what_is_framed_is_read_back_in_whatever_pieces(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
            size in 1_usize..50,
        ) {
            let whole = |framing: ResponseFraming, ends_apart: bool| {
                let mut output = Vec::new();
                for (at, part) in parts.iter().enumerate() {
                    let is_end = !ends_apart && at + 1 == parts.len();
                    output.put(framing.frame(Bytes::copy_from_slice(part), is_end));
                }
                if ends_apart || parts.is_empty() {
                    output.put(framing.frame(Bytes::new(), true));
                }
                output
            };
            for ends_apart in [true, false] {
                let framed = whole(ResponseFraming::Chunks, ends_apart);
                prop_assert_eq!(read(&framed, size).unwrap(), (parts.concat(), true));
                prop_assert_eq!(whole(ResponseFraming::Bare, ends_apart), parts.concat());
            }
        }
    }
}
