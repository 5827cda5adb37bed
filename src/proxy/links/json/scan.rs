//! Finding the next byte of interest, many bytes at a time.

use memchr::memchr2;

/// How many bytes are compared at once; the compiler makes one vector instruction of them.
const BLOCK: usize = 16;

/// Where the next quote or backslash is; the length of `input`, or `from` beyond it, if nowhere.
pub(super) fn find_special(input: &[u8], from: usize) -> usize {
    let is_special = |byte| (byte == b'"') | (byte == b'\\');
    let mut at = from;
    // Most strings are short, and end before a call of `memchr2` pays off.
    for _ in 0..2 {
        match find_in_block(input, at, is_special) {
            Some(Some(found)) => return found,
            Some(None) => at += BLOCK,
            None => break,
        }
    }
    match input.get(at..).map(|rest| memchr2(b'"', b'\\', rest)) {
        Some(Some(found)) => at + found,
        Some(None) => input.len(),
        None => from,
    }
}

/// Where the next byte is that the rewriter acts on; `input`'s length if nowhere.
pub(super) fn find_structure(input: &[u8], from: usize) -> usize {
    // With bit 5 set, brackets are braces.
    let acts =
        |byte: u8| (byte == b'"') | (byte == b',') | (byte | 0x20 == b'{') | (byte | 0x20 == b'}');
    let mut at = from;
    loop {
        match find_in_block(input, at, acts) {
            Some(Some(found)) => return found,
            Some(None) => at += BLOCK,
            None => break,
        }
    }
    let rest = input.get(at..).unwrap_or_default();
    rest.iter().position(|&byte| acts(byte)).map_or(input.len(), |found| at + found)
}

/// Where the first wanted byte is in the block at `at`; nothing if there is no whole block.
#[inline(always)]
fn find_in_block(input: &[u8], at: usize, wanted: impl Fn(u8) -> bool) -> Option<Option<usize>> {
    let block = input.get(at..)?.first_chunk::<BLOCK>()?;
    // All bytes are compared without a branch, which vectorizes; the first hit is the lowest bit.
    let hits = u128::from_le_bytes(block.map(|byte| if wanted(byte) { 0xFF } else { 0 }));
    Some((hits != 0).then(|| at + hits.trailing_zeros() as usize / 8))
}
