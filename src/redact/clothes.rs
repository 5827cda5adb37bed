//! The clothes that a secret can wear, and how each is taken off.
//!
//! Percent-encoding (in either case, of all characters or some), forms, HTML's entities, escapes of JSON and of
//! programming languages, base64 and base64url at any alignment, hexadecimal digits; and these within each other.

use std::ops::Range;

/// So many layers are taken off. Two are what is met: a form in base64, a JSON text in JSON.
pub(super) const DEEPEST: u32 = 3;
/// A number with more digits is none; leading zeros could go on for ever.
const LONGEST_NUMBER: usize = 12;
/// The longest escape: `&#x000000000041;`.
pub(super) const LONGEST_ESCAPE: usize = "&#x;".len() + LONGEST_NUMBER;
/// Base64 that stands for so much as is worth holding back.
const LEAST_OPEN: usize = 6;

/// Where something is in the bare text.
pub(super) type Place = Range<usize>;

/// What is looked for.
pub(super) struct Wanted {
    /// The shortest secret.
    pub(super) least: usize,
    /// Whether `+` may stand for a space.
    pub(super) has_space: bool,
}

/// What was under some clothes.
pub(super) struct Under {
    text: Vec<u8>,
    /// Of each byte, where in the bare text it comes from, if that is asked for.
    places: Option<Vec<Source>>,
    is_open: bool,
}

/// Where in the bare text a byte comes from.
#[derive(Clone, Copy)]
struct Source {
    start: u32,
    end: u32,
    /// From where on the text has to be there to find it: in base64 not the byte's own first digit.
    from: u32,
}

impl Under {
    pub(super) fn layer(&self) -> Layer<'_> {
        let origin = self.places.as_deref().map_or(Origin::Unknown, Origin::Mapped);
        Layer { text: &self.text, origin, is_open: self.is_open }
    }

    /// Empty, for what is under this.
    fn of(layer: &Layer<'_>) -> Self {
        let length = layer.text.len();
        let is_asked_for = !matches!(layer.origin, Origin::Unknown);
        let places = is_asked_for.then(|| Vec::with_capacity(length));
        Self { text: Vec::with_capacity(length), places, is_open: layer.is_open }
    }

    /// One more byte, and where in the layer above it comes from.
    fn push(&mut self, byte: u8, layer: &Layer<'_>, place: Place) {
        let from = place.start;
        self.push_from(byte, layer, place, from);
    }

    /// The same, and from where on that has to be there.
    fn push_from(&mut self, byte: u8, layer: &Layer<'_>, place: Place, from: usize) {
        self.text.push(byte);
        if let Some(places) = &mut self.places {
            // Nothing longer than a chunk is looked into.
            let bound = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
            let (place, from) = (layer.place(place), bound(layer.from(from)));
            places.push(Source { start: bound(place.start), end: bound(place.end), from });
        }
    }
}

/// A text, and where it comes from.
#[derive(Clone, Copy)]
pub(super) struct Layer<'a> {
    pub(super) text: &'a [u8],
    origin: Origin<'a>,
    /// It may go on behind its end.
    pub(super) is_open: bool,
}

#[derive(Clone, Copy)]
enum Origin<'a> {
    /// Whether there is anything is all that is asked.
    Unknown,
    /// The bare text itself, from here on.
    Bare(usize),
    Mapped(&'a [Source]),
}

impl<'a> Layer<'a> {
    /// A part of the bare text that begins there.
    pub(super) const fn bare(text: &'a [u8], start: usize, is_open: bool) -> Self {
        Self { text, origin: Origin::Bare(start), is_open }
    }

    /// A text of which nobody asks where anything is.
    pub(super) const fn unplaced(text: &'a [u8], is_open: bool) -> Self {
        Self { text, origin: Origin::Unknown, is_open }
    }

    /// A part of this text.
    pub(super) fn part(&self, part: Place, is_open: bool) -> Self {
        let origin = match self.origin {
            Origin::Unknown => Origin::Unknown,
            Origin::Bare(start) => Origin::Bare(start + part.start),
            Origin::Mapped(places) => Origin::Mapped(places.get(part.clone()).unwrap_or_default()),
        };
        Self { text: self.text.get(part).unwrap_or_default(), origin, is_open }
    }

    /// Where in the bare text a part of this one comes from.
    pub(super) fn place(&self, part: Place) -> Place {
        match self.origin {
            Origin::Unknown => 0..0,
            Origin::Bare(start) => start + part.start..start + part.end,
            Origin::Mapped(places) => {
                let places = places.get(part).unwrap_or_default();
                let start = places.first().map_or(0, |place| place.start as usize);
                start..places.last().map_or(start, |place| place.end as usize)
            }
        }
    }

    /// From where on the bare text has to be there to find this text from there on.
    pub(super) fn from(&self, at: usize) -> usize {
        match self.origin {
            Origin::Unknown => 0,
            Origin::Bare(start) => start + at,
            Origin::Mapped(places) => places.get(at).map_or(0, |place| place.from as usize),
        }
    }
}

/// Whether a byte stands in a token, or in any clothes of one.
pub(super) const fn is_plain(byte: u8) -> bool {
    matches!(
        byte,
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'='
            | b'%' | b'&' | b'#' | b';' | b'\\'
    )
}

const fn is_base64(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'+' | b'/')
}

/// The next run of such bytes, from there on, that is at least so long. Most of the text is skipped: a run of that
/// length holds each so-many-th byte.
fn next_run_of(
    text: &[u8],
    from: usize,
    length: usize,
    is_in: impl Fn(u8) -> bool,
) -> Option<Place> {
    let mut start = from;
    loop {
        let window = text.get(start..start + length)?;
        match window.iter().rposition(|byte| !is_in(*byte)) {
            Some(broken) => start += broken + 1,
            None => {
                let rest = text.get(start + length..).unwrap_or_default();
                let more = rest.iter().position(|byte| !is_in(*byte)).unwrap_or(rest.len());
                return Some(start..start + length + more);
            }
        }
    }
}

/// The next run of plain bytes that is so long.
pub(super) fn next_run(text: &[u8], from: usize, length: usize) -> Option<Place> {
    next_run_of(text, from, length, is_plain)
}

/// The length of the plain run at the beginning.
pub(super) fn first_run(text: &[u8]) -> usize {
    text.iter().position(|byte| !is_plain(*byte)).unwrap_or(text.len())
}

/// Where the end of a text begins that is so long, or a little longer: not within backslashes, of which one may take
/// away what the next one means.
pub(super) fn end_of(text: &[u8], length: usize) -> usize {
    let before = text.get(..text.len().saturating_sub(length)).unwrap_or_default();
    before.iter().rposition(|byte| *byte != b'\\').map_or(0, |other| other + 1)
}

fn last_run_of(text: &[u8], is_in: impl Fn(u8) -> bool) -> usize {
    text.iter().rposition(|byte| !is_in(*byte)).map_or(0, |broken| broken + 1)
}

/// Shows all runs that are at least so long, and at the end of a text that may go on one that is at least as long as
/// `open`, and whether it is that one.
pub(super) fn plain_runs(
    layer: &Layer<'_>,
    least: usize,
    open: usize,
    see: &mut dyn FnMut(Layer<'_>),
) {
    runs_of(layer, least, open, is_plain, see);
}

fn runs_of(
    layer: &Layer<'_>,
    least: usize,
    open: usize,
    is_in: impl Fn(u8) -> bool + Copy,
    see: &mut dyn FnMut(Layer<'_>),
) {
    let text = layer.text;
    let mut from = 0;
    while let Some(run) = next_run_of(text, from, least, is_in) {
        from = run.end;
        let is_open = layer.is_open && run.end == text.len();
        see(layer.part(run, is_open));
    }
    if layer.is_open && from < text.len() {
        let last = last_run_of(text, is_in);
        if (open..least).contains(&(text.len() - last)) {
            see(layer.part(last..text.len(), true));
        }
    }
}

/// What a secret stands for that is percent-encoded itself, as values of cookies are, if it is.
pub(super) fn undressed(secret: &[u8]) -> Option<Vec<u8>> {
    let layer = Layer::bare(secret, 0, false);
    unescaped(&layer, b"%", |rest, _| percent(rest)).map(|under| under.text)
}

/// Shows what is under each kind of clothes that a text may wear.
pub(super) fn take_off(layer: &Layer<'_>, wanted: &Wanted, see: &mut dyn FnMut(Under)) {
    let escapes = [
        unescaped(layer, b"%", |rest, _| percent(rest)),
        unescaped(layer, b"&", entity),
        unescaped(layer, b"\\", |rest, _| backslash(rest)),
    ];
    escapes.into_iter().flatten().for_each(&mut *see);
    if wanted.has_space {
        let form = unescaped(layer, b"%+", |rest, _| match rest.first() {
            Some(b'+') => Step::Byte(1, b' '),
            _ => percent(rest),
        });
        form.into_iter().for_each(&mut *see);
    }
    runs_of(layer, (4 * wanted.least).div_ceil(3), LEAST_OPEN, is_base64, &mut |run| {
        (0..4).map(|skipped| base64(&run, skipped)).for_each(&mut *see);
    });
    let is_digit = |byte: u8| byte.is_ascii_hexdigit();
    runs_of(layer, 2 * wanted.least, LEAST_OPEN, is_digit, &mut |run| {
        (0..2).map(|skipped| decoded::<4>(&run, skipped, nibble)).for_each(&mut *see);
    });
}

/// What base64 stands for, without its first digits. Long runs of it are met in answers: where nobody asks where
/// anything is, it is read by four.
fn base64(run: &Layer<'_>, skipped: usize) -> Under {
    if !matches!(run.origin, Origin::Unknown) {
        return decoded::<6>(run, skipped, sextet);
    }
    let mut under = Under::of(run);
    let (fours, rest) = run.text.get(skipped..).unwrap_or_default().as_chunks::<4>();
    for four in fours {
        let bits = four.iter().fold(0, |bits, digit| bits << 6 | sextet(*digit));
        let [_, bytes @ ..] = bits.to_be_bytes();
        under.text.extend_from_slice(&bytes);
    }
    let rest = decoded::<6>(&Layer::unplaced(rest, run.is_open), 0, sextet);
    under.text.extend_from_slice(&rest.text);
    under
}

/// The bytes for which digits of `BITS` bits each stand, without the first digits.
fn decoded<const BITS: u32>(run: &Layer<'_>, skipped: usize, digit: impl Fn(u8) -> u32) -> Under {
    let mut under = Under::of(run);
    let (mut bits, mut count, mut first, mut from) = (0_u32, 0, skipped, skipped);
    for (at, byte) in run.text.iter().enumerate().skip(skipped) {
        bits = bits << BITS | digit(*byte);
        count += BITS;
        if count >= 8 {
            count -= 8;
            let [.., byte] = (bits >> count).to_be_bytes();
            under.push_from(byte, run, first..at + 1, from);
            bits &= (1 << count) - 1;
            first = if count > 0 { at } else { at + 1 };
            if count == 0 {
                from = first;
            }
        }
    }
    under
}

/// The value of a digit of base64, or of base64url.
fn sextet(byte: u8) -> u32 {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    #[expect(clippy::indexing_slicing, reason = "a constant out of bounds does not compile")]
    const VALUES: [u8; 256] = {
        let mut values = [0; 256];
        let mut value = 0;
        while value < 64 {
            values[DIGITS[value] as usize] = value as u8;
            value += 1;
        }
        values[b'-' as usize] = 62;
        values[b'_' as usize] = 63;
        values
    };
    VALUES.get(usize::from(byte)).copied().unwrap_or_default().into()
}

fn nibble(byte: u8) -> u32 {
    char::from(byte).to_digit(16).unwrap_or_default()
}

/// What stands at an escape's first byte.
enum Step {
    /// No escape.
    Plain,
    /// An escape of so many bytes, and the byte that it stands for.
    Byte(usize, u8),
    /// The same, with a character.
    Character(usize, char),
    /// What may become an escape.
    Unfinished,
}

/// A text without the escapes that begin with these bytes; nothing if it has none.
fn unescaped(
    layer: &Layer<'_>,
    marks: &[u8],
    escape: impl Fn(&[u8], bool) -> Step,
) -> Option<Under> {
    let text = layer.text;
    let next = |from: usize| {
        let rest = text.get(from..)?;
        let found = match marks {
            [mark] => memchr::memchr(*mark, rest),
            _ => rest.iter().position(|byte| marks.contains(byte)),
        };
        found.map(|at| from + at)
    };
    let mut mark = next(0)?;
    let mut under = Under::of(layer);
    let (mut at, mut is_escaped) = (0, false);
    loop {
        for plain in at..mark {
            under.push(text.get(plain).copied().unwrap_or_default(), layer, plain..plain + 1);
        }
        at = mark;
        let rest = text.get(at..).unwrap_or_default();
        let Some(byte) = rest.first() else { break };
        let step = escape(rest, layer.is_open);
        is_escaped |= match step {
            Step::Unfinished => layer.is_open,
            Step::Plain => false,
            Step::Byte(..) | Step::Character(..) => true,
        };
        at += match step {
            Step::Unfinished if layer.is_open => break,
            Step::Plain | Step::Unfinished => {
                under.push(*byte, layer, at..at + 1);
                1
            }
            Step::Byte(length, byte) => {
                under.push(byte, layer, at..at + length);
                length
            }
            Step::Character(length, character) => {
                for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                    under.push(byte, layer, at..at + length);
                }
                length
            }
        };
        mark = next(at).unwrap_or(text.len());
    }
    is_escaped.then_some(under)
}

/// The digits of a number to this base behind the first bytes: at least one, at most so many.
fn number(rest: &[u8], behind: usize, radix: u32, most: usize) -> Option<(usize, u32)> {
    let digits =
        rest.get(behind..)?.iter().take(most).map_while(|byte| char::from(*byte).to_digit(radix));
    let (count, value) = digits.fold((0, 0_u32), |(count, value), digit| {
        (count + 1, value.saturating_mul(radix).saturating_add(digit))
    });
    (count > 0).then_some((count, value))
}

/// Exactly so many hexadecimal digits behind the first bytes.
fn hexadecimal(rest: &[u8], behind: usize, count: usize) -> Step {
    let Some(digits) = rest.get(behind..) else { return Step::Unfinished };
    let is_cut = digits.len() < count && digits.iter().all(u8::is_ascii_hexdigit);
    match number(rest, behind, 16, count) {
        _ if is_cut => Step::Unfinished,
        Some((found, value)) if found == count => {
            match (u8::try_from(value), char::from_u32(value)) {
                // Four digits stand for a character, two for a byte of one.
                (Ok(byte), _) if count == 2 || byte.is_ascii() => Step::Byte(behind + count, byte),
                (_, Some(character)) => Step::Character(behind + count, character),
                _ => Step::Plain,
            }
        }
        _ => Step::Plain,
    }
}

/// `%41`, and JavaScript's `%u0041`.
fn percent(rest: &[u8]) -> Step {
    match rest.get(1) {
        None => Step::Unfinished,
        Some(b'u') => hexadecimal(rest, 2, 4),
        Some(_) => hexadecimal(rest, 1, 2),
    }
}

/// `\u0041`, `\x41`, `\/`.
fn backslash(rest: &[u8]) -> Step {
    match rest.get(1) {
        None => Step::Unfinished,
        Some(b'u') => hexadecimal(rest, 2, 4),
        Some(b'x') => hexadecimal(rest, 2, 2),
        Some(b'n') => Step::Byte(2, b'\n'),
        Some(b'r') => Step::Byte(2, b'\r'),
        Some(b't') => Step::Byte(2, b'\t'),
        Some(other) if other.is_ascii_punctuation() => Step::Byte(2, *other),
        Some(_) => Step::Plain,
    }
}

/// What HTML calls the printable characters of ASCII.
const NAMED: [(&[u8], u8); 43] = [
    (b"amp", b'&'),
    (b"lt", b'<'),
    (b"gt", b'>'),
    (b"quot", b'"'),
    (b"apos", b'\''),
    (b"AMP", b'&'),
    (b"LT", b'<'),
    (b"GT", b'>'),
    (b"QUOT", b'"'),
    (b"excl", b'!'),
    (b"num", b'#'),
    (b"dollar", b'$'),
    (b"percnt", b'%'),
    (b"lpar", b'('),
    (b"rpar", b')'),
    (b"ast", b'*'),
    (b"midast", b'*'),
    (b"plus", b'+'),
    (b"comma", b','),
    (b"period", b'.'),
    (b"sol", b'/'),
    (b"colon", b':'),
    (b"semi", b';'),
    (b"equals", b'='),
    (b"quest", b'?'),
    (b"commat", b'@'),
    (b"lsqb", b'['),
    (b"lbrack", b'['),
    (b"bsol", b'\\'),
    (b"rsqb", b']'),
    (b"rbrack", b']'),
    (b"Hat", b'^'),
    (b"lowbar", b'_'),
    (b"UnderBar", b'_'),
    (b"grave", b'`'),
    (b"lcub", b'{'),
    (b"lbrace", b'{'),
    (b"verbar", b'|'),
    (b"vert", b'|'),
    (b"VerticalLine", b'|'),
    (b"rcub", b'}'),
    (b"rbrace", b'}'),
    (b"nbsp", b' '),
];

/// `&#65;`, `&#x41;`, `&amp;`. Browsers take numbers without the `;`.
fn entity(rest: &[u8], may_go_on: bool) -> Step {
    let word =
        rest.iter().skip(1).take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'#');
    let length = word.count() + 1;
    if may_go_on && length == rest.len() && length < LONGEST_ESCAPE {
        return Step::Unfinished;
    }
    let (behind, radix) = match rest {
        [b'&', b'#', b'x' | b'X', ..] => (3, 16),
        [b'&', b'#', ..] => (2, 10),
        _ => {
            let name = rest.get(1..length).unwrap_or_default();
            let named = NAMED.iter().find(|(known, _)| *known == name);
            return match (named, rest.get(length)) {
                (Some((_, byte)), Some(b';')) => Step::Byte(length + 1, *byte),
                _ => Step::Plain,
            };
        }
    };
    let Some((count, value)) = number(rest, behind, radix, LONGEST_NUMBER) else {
        return Step::Plain;
    };
    let end = behind + count;
    let length = if rest.get(end) == Some(&b';') { end + 1 } else { end };
    char::from_u32(value).map_or(Step::Plain, |character| Step::Character(length, character))
}
