//! Gzip (RFC 1952), inflated in steps that make no more than the output holds. Pure.

use flate2::{Decompress, FlushDecompress, Status};
use std::io;

/// Deflate's largest window (RFC 1951), with which all data can be inflated.
const WINDOW_BITS: u8 = 15;
/// How much a response may inflate to in any case: more than SAP's page limit of 20 MB.
const ALLOWANCE: u64 = 32 << 20;
/// The highest ratio beyond that. A response that inflates more is an attack: deflate's own limit
/// is 1,032.
const MOST_RATIO: u64 = 1000;
/// The first bytes of gzip: two magic bytes, and deflate.
const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];

/// Whether gzip may begin with this data.
pub(super) fn may_begin(data: &[u8]) -> bool {
    data.iter().zip(MAGIC).all(|(byte, wanted)| *byte == wanted)
}

/// One step of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InflateStep {
    /// How many bytes of the input were taken.
    pub(crate) taken: usize,
    /// How many bytes were made.
    pub(crate) made: usize,
}

impl InflateStep {
    /// Whether nothing more comes without more input.
    pub(crate) const fn is_idle(self) -> bool {
        self.taken == 0 && self.made == 0
    }
}

/// Inflates the members of one body.
#[derive(Default)]
pub(super) struct Inflater {
    state: MemberState,
    taken: u64,
    made: u64,
}

#[derive(Default)]
enum MemberState {
    /// Before the first byte: an empty body is valid.
    #[default]
    Start,
    /// In a member.
    Member(Decompress),
    /// After a member. Another one may follow, or padding: zero bytes, as tapes and some servers
    /// write them.
    Ended,
}

impl Inflater {
    /// Takes some of the input and fills some of the output.
    ///
    /// # Errors
    /// The data is broken, or inflates too much.
    pub(super) fn step(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<InflateStep> {
        let padding = match self.state {
            MemberState::Ended => input.iter().take_while(|byte| **byte == 0).count(),
            _ => 0,
        };
        let input = input.get(padding..).unwrap_or_default();
        let mut step = InflateStep { taken: padding, made: 0 };
        if !matches!(self.state, MemberState::Member(_)) {
            if input.is_empty() {
                return Ok(step);
            }
            self.state = MemberState::Member(Decompress::new_gzip(WINDOW_BITS));
        }
        if let MemberState::Member(member) = &mut self.state {
            let before = (member.total_in(), member.total_out());
            let status = member.decompress(input, output, FlushDecompress::Sync)?;
            let taken = member.total_in() - before.0;
            let made = member.total_out() - before.1;
            self.taken += taken;
            self.made += made;
            step.taken += usize::try_from(taken).unwrap_or_default();
            step.made = usize::try_from(made).unwrap_or_default();
            if status == Status::StreamEnd {
                self.state = MemberState::Ended;
            } else if step.is_idle() && !input.is_empty() {
                return Err(io::Error::other("the compressed data makes no progress"));
            }
        }
        if self.made > ALLOWANCE && self.made / MOST_RATIO > self.taken {
            return Err(io::Error::other("the compressed data inflates too much"));
        }
        Ok(step)
    }

    /// Whether the data may end here.
    pub(super) const fn is_whole(&self) -> bool {
        !matches!(self.state, MemberState::Member(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use std::io::Write;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    /// Inflates data that comes in pieces into an output of this size.
    fn inflate(data: &[u8], piece: usize, room: usize) -> io::Result<(Vec<u8>, bool)> {
        let (mut inflater, mut output) = (Inflater::default(), vec![0; room]);
        let mut plain = Vec::new();
        for mut input in data.chunks(piece) {
            loop {
                let step = inflater.step(input, &mut output)?;
                assert!(step.made <= room);
                plain.extend_from_slice(&output[..step.made]);
                input = &input[step.taken..];
                if step.is_idle() {
                    assert!(input.is_empty(), "all of it is taken");
                    break;
                }
            }
        }
        Ok((plain, inflater.is_whole()))
    }

    #[test]
    fn zero_bytes_behind_a_member_are_borne_and_nothing_else_is() {
        let padded = [gzip(b"first"), vec![0; 700], gzip(b", second"), vec![0; 3]].concat();
        for piece in [1, 7, 4096] {
            let inflated = inflate(&padded, piece, 4).unwrap();
            assert_eq!(inflated, (b"first, second".to_vec(), true));
        }
        assert!(inflate(&[gzip(b"first"), b"\0no gzip".to_vec()].concat(), 9, 9).is_err());
        assert!(inflate(&[vec![0], gzip(b"first")].concat(), 9, 9).is_err(), "before it");
    }

    #[test]
    fn what_ends_too_early_is_not_whole_and_what_never_begins_is() {
        let whole = gzip(b"whole");
        for length in 1..whole.len() {
            assert!(!inflate(&whole[..length], 5, 5).unwrap().1, "{length}");
        }
        assert_eq!(inflate(b"", 5, 5).unwrap(), (Vec::new(), true));
        let mut broken = whole;
        let crc = broken.len() - 8;
        broken[crc] ^= 1;
        assert!(inflate(&broken, 5, 5).is_err());
    }

    #[test]
    fn more_than_a_thousand_to_one_is_too_much_beyond_the_largest_page() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        for _ in 0..64 {
            encoder.write_all(&[b' '; 1 << 20]).unwrap();
        }
        let bomb = encoder.finish().unwrap();
        let mut inflater = Inflater::default();
        let (mut output, mut at) = (vec![0; 1 << 16], 0);
        let error = loop {
            match inflater.step(&bomb[at..], &mut output) {
                Ok(step) => at += step.taken,
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains("too much"), "{error}");
        assert!(inflater.made > ALLOWANCE && inflater.made < ALLOWANCE + (1 << 17));
    }

    #[test]
    fn data_is_known_by_its_beginning() {
        assert!(may_begin(b"") && may_begin(&[0x1f]) && may_begin(&gzip(b"x")));
        assert!(!may_begin(b"{\"value\":[]}") && !may_begin(&[0x1f, 0x8b, 9]));
    }

    proptest! {
        #[test]
        fn no_pieces_and_no_room_make_a_difference(
            members in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..200), 0_usize..4), 1..4),
            piece in 1_usize..80,
            room in 1_usize..80,
        ) {
            let data: Vec<u8> =
                members.iter().flat_map(|(plain, zeros)| [gzip(plain), vec![0; *zeros]].concat()).collect();
            let plain: Vec<u8> = members.into_iter().flat_map(|(plain, _)| plain).collect();
            prop_assert_eq!(inflate(&data, piece, room).unwrap(), (plain, true));
        }

        #[test]
        fn no_bytes_make_it_fail_otherwise_than_by_an_error(
            data in prop::collection::vec(any::<u8>(), 0..300),
            piece in 1_usize..80,
        ) {
            let begun = [&MAGIC[..], &[0; 7], &data].concat();
            let _ = inflate(&begun, piece, 64);
            let _ = inflate(&data, piece, 64);
        }
    }
}
