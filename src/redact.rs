//! The redactor: takes secrets out of what others say, in whatever clothes they come.
//!
//! A debugging front door sends a request's header back as HTML, as JSON, in a query, or in base64; an issuer
//! quotes the secret that it refuses. [`Secrets`] are what must not be seen. They are found raw and in all that
//! [`clothes`] knows, nested in each other, too. [`Redactor`] does the same for a body that comes in chunks.
//! What it can't see stands in `SECURITY.md`.
//!
//! Nearly every text holds none, and is to cost next to nothing. A secret in any clothes is an unbroken run of
//! few kinds of characters that is at least as long as the secret. So of a text only every so-many-th byte is
//! looked at, and only a run that is long enough is undressed: the longer the secret, the less is read.

mod clothes;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use clothes::{Layer, Place};
use memchr::memmem;
use std::ops::Range;
use std::sync::Arc;

/// What takes a secret's place, where there is room for it.
pub(crate) const REMOVED: &str = "[token removed]";
/// What fills a place up, so that a body keeps its length.
const FILLER: u8 = b'*';
/// How much of a body is looked at: errors and echoes are short.
const LOOKED_AT: usize = 64 * 1024;
/// A beginning of a secret that is shorter, undressed, is passed on at once, or a chunk that ends in the secret's
/// first letter would be short of it until the next one comes. If it was one, the rest goes all the same.
const WORTH_HOLDING: usize = 4;
/// In so many characters at the end of a text, or of what is under its clothes, a beginning may stand that is not
/// worth holding, each letter as the longest escape.
const FAINT: usize = clothes::LONGEST_ESCAPE * WORTH_HOLDING;
/// What may be the beginning of a secret is not held if it is longer, but removed with all that goes on behind it.
const LONGEST_HELD: usize = LOOKED_AT;
/// What was searched before and is searched again with the next chunk is at most so many times as long as the body
/// so far. Chunks of one byte would make it quadratic.
const AGAIN: usize = 8;
/// So much besides is searched again: the first few small chunks of a slow stream pass at once.
const SPARE: usize = 16 * 1024;
/// At so few places a secret is looked for one by one.
const FEW: usize = 64;
/// Where so many first bytes of secrets are not, they themselves are not.
const ENOUGH: usize = 64;
/// A shorter run is not worth skipping to: the text is undressed as a whole.
const SHORTEST_RUN: usize = 4;

/// What must not be seen. Clones share it.
#[derive(Clone)]
pub(crate) struct Secrets(Arc<Known>);

struct Known {
    secrets: Vec<Bytes>,
    /// The length of the shortest.
    least: usize,
    /// An unbroken run that each of them brings along, in any clothes, is at least this long.
    run: usize,
    /// They are nothing but such a run.
    is_run: bool,
    /// One of them holds a space, which is `+` in a form.
    has_space: bool,
    /// So many first bytes are the same in all, up to [`ENOUGH`]: of JWTs of one issuer, the header.
    common: usize,
}

/// Where secrets are.
#[derive(Default)]
pub(crate) struct Found {
    /// In order, and apart.
    places: Vec<Range<usize>>,
    /// Where something begins that may go on behind the end.
    open: Vec<usize>,
    /// From where on the text has to be searched again if it goes on: for what begins at its end, worth holding or not.
    again: Option<usize>,
    /// How many layers are over the deepest text that goes on.
    layers: u32,
}

impl Secrets {
    /// What must not be seen, but for what is shorter than `shortest`, which may stand in any text. `None`:
    /// nothing is left.
    pub(crate) fn new(secrets: impl IntoIterator<Item = Bytes>, shortest: usize) -> Option<Self> {
        let mut known: Vec<Bytes> = Vec::new();
        for secret in secrets.into_iter().filter(|secret| secret.len() >= shortest.max(1)) {
            // Where it is a dressed one itself, what it stands for is as good.
            for one in clothes::undressed(&secret).map(Bytes::from).into_iter().chain([secret]) {
                if one.len() >= shortest.max(1) && !known.contains(&one) {
                    known.push(one);
                }
            }
        }
        Self::of(known)
    }

    fn of(secrets: Vec<Bytes>) -> Option<Self> {
        let least = secrets.iter().map(Bytes::len).min()?;
        let runs = |secret: &Bytes| {
            let runs = secret.split(|byte| !clothes::is_plain(*byte)).map(<[u8]>::len);
            runs.max().unwrap_or_default()
        };
        let run = secrets.iter().map(runs).min()?;
        let is_run = secrets.iter().flatten().all(|byte| clothes::is_plain(*byte));
        let has_space = secrets.iter().flatten().any(|byte| *byte == b' ');
        let first = secrets.first()?;
        let common = secrets.iter().map(|secret| common(first, secret)).min()?;
        Some(Self(Arc::new(Known { secrets, least, run, is_run, has_space, common })))
    }

    /// All of these, and all of those.
    pub(crate) fn and(&self, other: &Self) -> Self {
        let (these, those) = (&*self.0, &*other.0);
        let firsts = these.secrets.first().zip(those.secrets.first());
        let common = firsts.map_or(0, |(this, that)| common(this, that));
        // One that is in both is looked for twice: to find that out would take longer, for each answer.
        Self(Arc::new(Known {
            secrets: these.secrets.iter().chain(&those.secrets).cloned().collect(),
            least: these.least.min(those.least),
            run: these.run.min(those.run),
            is_run: these.is_run && those.is_run,
            has_space: these.has_space || those.has_space,
            common: common.min(these.common).min(those.common),
        }))
    }

    /// Whether one of them is in a text.
    pub(crate) fn are_in(&self, text: &[u8]) -> bool {
        !self.find(text, false).places.is_empty()
    }

    /// Whether one of them is in a name that may have lost its case.
    pub(crate) fn are_in_name(&self, name: &[u8]) -> bool {
        if !self.may_be_in(name) {
            return false;
        }
        let name = name.to_ascii_lowercase();
        let is_in = |secret: &Bytes| memmem::find(&name, &secret.to_ascii_lowercase()).is_some();
        self.0.secrets.iter().any(is_in)
    }

    /// Whether a text is long enough for one of them.
    pub(crate) fn may_be_in(&self, text: &[u8]) -> bool {
        text.len() >= self.0.least
    }

    /// A text without them, and how many there were; nothing, as nearly always, if there were none.
    pub(crate) fn removed_from(&self, text: &[u8]) -> Option<(Vec<u8>, usize)> {
        let places = self.find(text, false).places;
        if places.is_empty() {
            return None;
        }
        let (mut clean, mut done) = (Vec::with_capacity(text.len()), 0);
        for place in &places {
            clean.extend_from_slice(text.get(done..place.start).unwrap_or_default());
            clean.extend_from_slice(REMOVED.as_bytes());
            done = place.end;
        }
        clean.extend_from_slice(text.get(done..).unwrap_or_default());
        Some((clean, places.len()))
    }

    /// Looks for them in a text, which may go on.
    fn find(&self, text: &[u8], goes_on: bool) -> Found {
        let known = &*self.0;
        let mut found = Found::default();
        if !goes_on && !self.may_be_in(text) {
            return found;
        }
        #[cfg(test)]
        tests::SEARCHED.set(tests::SEARCHED.get() + text.len());
        let bare = Layer::bare(text, 0, goes_on);
        if known.is_run {
            clothes::plain_runs(&bare, known.run, 1, &mut |run| known.search(&run, &mut found));
        } else if known.run < SHORTEST_RUN
            || goes_on
            || clothes::next_run(text, 0, known.run).is_some()
        {
            known.search(&bare, &mut found);
        }
        found.in_order()
    }

    /// Whether a secret may begin in so many last bytes and go on in this.
    fn may_go_on(&self, before: usize, text: &[u8]) -> bool {
        let first = clothes::first_run(text);
        before > 0 && (!self.0.is_run || first == text.len() || before + first >= self.0.run)
    }
}

impl Known {
    /// Looks for secrets in a text and under its clothes; where they are, only if there are any.
    fn search(&self, layer: &Layer<'_>, found: &mut Found) {
        if layer.is_open {
            found.add_end(layer);
        }
        let mut first = Found::default();
        self.look_into(&Layer::unplaced(layer.text, layer.is_open), 0, &mut first);
        if first.is_nothing() {
            return;
        }
        // Without anything that was found, all that matters is where the ends of what is under the clothes come from.
        let from = match first.places.is_empty() && first.open.is_empty() {
            true => clothes::end_of(layer.text, FAINT * clothes::LONGEST_ESCAPE.pow(first.layers)),
            false => 0,
        };
        self.look_into(&layer.part(from..layer.text.len(), layer.is_open), 0, found);
    }

    fn look_into(&self, layer: &Layer<'_>, depth: u32, found: &mut Found) {
        let (mut secrets, mut start) = (&self.secrets[..], 0);
        if let [first, _, ..] = secrets
            && self.common >= WORTH_HOLDING
            && next_in(layer.text, 0, first.get(..self.common).unwrap_or_default()).is_none()
        {
            // None is there as a whole, and what may begin at the end is the same of all.
            (secrets, start) = (std::slice::from_ref(first), layer.text.len());
        }
        for secret in secrets {
            let mut from = start;
            while let Some(at) = next_in(layer.text, from, secret) {
                from = at + secret.len();
                found.places.push(layer.place(at..from));
            }
            if layer.is_open
                && let Some(at) = beginning_in(layer.text, secret)
            {
                found.open.push(layer.place(at..layer.text.len()).start);
                found.search_again(layer.from(at));
            }
        }
        if depth > 0 && layer.is_open {
            found.add_end(layer);
            found.layers = found.layers.max(depth);
        }
        if depth == clothes::DEEPEST {
            return;
        }
        let wanted = clothes::Wanted { least: self.least, has_space: self.has_space };
        clothes::take_off(layer, &wanted, &mut |under| {
            let layer = under.layer();
            if self.is_run {
                // Of what was no encoded text at all, nothing is left to look at.
                clothes::plain_runs(&layer, self.least, WORTH_HOLDING, &mut |run| {
                    self.look_into(&run, depth + 1, found);
                });
            } else {
                self.look_into(&layer, depth + 1, found);
            }
        });
    }
}

/// How many first bytes are the same in both, as far as it matters.
fn common(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take(ENOUGH).take_while(|(one, other)| one == other).count()
}

/// Where a secret is next in a text.
fn next_in(text: &[u8], from: usize, secret: &[u8]) -> Option<usize> {
    let rest = text.get(from..).filter(|rest| rest.len() >= secret.len())?;
    // To prepare a search takes longer than to compare a few places.
    let found = match rest.len() - secret.len() < FEW {
        true => rest.windows(secret.len()).position(|window| window == secret),
        false => memmem::find(rest, secret),
    };
    found.map(|at| from + at)
}

impl Found {
    const fn is_nothing(&self) -> bool {
        self.places.is_empty() && self.open.is_empty() && self.again.is_none()
    }

    /// The end of a text that may go on.
    fn add_end(&mut self, layer: &Layer<'_>) {
        if !layer.text.is_empty() {
            self.search_again(layer.from(clothes::end_of(layer.text, FAINT)));
        }
    }

    fn search_again(&mut self, from: usize) {
        self.again = Some(self.again.map_or(from, |again| again.min(from)));
    }

    fn in_order(mut self) -> Self {
        self.places.sort_unstable_by_key(|place| (place.start, place.end));
        let mut apart: Vec<Place> = Vec::with_capacity(self.places.len());
        for place in self.places {
            match apart.last_mut() {
                Some(last) if place.start < last.end => last.end = last.end.max(place.end),
                _ => apart.push(place),
            }
        }
        self.places = apart;
        self
    }

    /// Where the first of what may go on begins, if that is in no secret that was found.
    fn first_open(&self) -> Option<usize> {
        let is_free = |at: &&usize| !self.places.iter().any(|place| place.contains(at));
        self.open.iter().filter(is_free).min().copied()
    }
}

/// Where a text's end begins a secret, if it is worth to be held back.
fn beginning_in(text: &[u8], secret: &[u8]) -> Option<usize> {
    let from = text.len().saturating_sub(secret.len() - 1);
    let end = text.get(from..).unwrap_or_default();
    let first = *secret.first()?;
    let last = (end.len() + 1).saturating_sub(WORTH_HOLDING);
    let at = memchr::memchr_iter(first, end.get(..last)?)
        .find(|at| end.get(*at..).is_some_and(|end| secret.starts_with(end)))?;
    Some(from + at)
}

/// Takes secrets out of a body that comes in chunks. Its length stays true.
///
/// Held back is what may be the beginning of a secret, at most [`LONGEST_HELD`]; and where many small chunks have
/// used up what may be searched again, as much of the body besides as an eighth of that and of what was kept of the
/// end before it, until it is searched. All of it goes on with the end of the body at the latest.
pub(crate) struct Redactor {
    secrets: Secrets,
    /// How many bytes of the body have gone by.
    seen: usize,
    /// How many have come.
    taken: usize,
    /// The end of what has come, which may be the beginning of a secret.
    held: Vec<u8>,
    /// So much at the end of that was not searched yet.
    waiting: usize,
    /// What was before that has gone by; a secret may have begun in it.
    gone: Vec<u8>,
    /// How many bytes were searched again.
    again: usize,
    /// What comes now belongs to a secret that is too long to be held.
    is_removing: bool,
}

impl Redactor {
    pub(crate) const fn new(secrets: Secrets) -> Self {
        Self {
            secrets,
            seen: 0,
            taken: 0,
            held: Vec::new(),
            waiting: 0,
            gone: Vec::new(),
            again: 0,
            is_removing: false,
        }
    }

    /// Removes secrets from the next chunk of a body. Returns how many there were.
    pub(crate) fn push(&mut self, chunk: &mut Option<Bytes>, is_end: bool) -> usize {
        let left = LOOKED_AT.saturating_sub(self.seen);
        if left == 0 && self.held.is_empty() {
            if self.is_removing
                && let Some(input) = chunk
            {
                *input = self.without_run(input).into();
            }
            return 0;
        }
        let input = chunk.take().unwrap_or_default();
        if left == 0 || input.len() <= left {
            let (output, count) = self.clean(&input, is_end);
            *chunk = output.map_or_else(|| some(input), |output| some(output.into()));
            return count;
        }
        // Of a large chunk, the rest is not looked at.
        let (first, rest) = (input.slice(..left), input.slice(left..));
        let (first_output, first_count) = self.clean(&first, false);
        let (rest_output, rest_count) = match self.held.is_empty() {
            true if self.is_removing => (Some(self.without_run(&rest)), 0),
            true => (None, 0),
            false => self.clean(&rest, is_end),
        };
        *chunk = some(match (first_output, rest_output) {
            (None, None) => input,
            (first_output, rest_output) => {
                let first = first_output.map_or(first, Bytes::from);
                let rest = rest_output.map_or(rest, Bytes::from);
                [first, rest].concat().into()
            }
        });
        first_count + rest_count
    }

    /// What becomes of a chunk, if it does not stay as it is.
    fn clean(&mut self, input: &[u8], is_end: bool) -> (Option<Vec<u8>>, usize) {
        self.taken += input.len();
        let is_alone = self.held.is_empty() && !self.secrets.may_go_on(self.gone.len(), input);
        if is_alone {
            let found = self.secrets.find(input, !is_end);
            self.gone.clear();
            if found.places.is_empty() && found.open.is_empty() {
                // As nearly always.
                if let Some(again) = found.again {
                    self.gone.extend_from_slice(input.get(again..).unwrap_or_default());
                }
                self.seen += input.len();
                return (None, 0);
            }
            return self.replace(input.to_vec(), &found, is_end);
        }
        let again = self.again + self.gone.len() + self.held.len() - self.waiting;
        if !is_end && again > SPARE + AGAIN * self.taken {
            self.held.extend_from_slice(input);
            self.waiting += input.len();
            return (Some(Vec::new()), 0);
        }
        (self.again, self.waiting) = (again, 0);
        let mut body = std::mem::take(&mut self.gone);
        let gone = body.len();
        body.append(&mut self.held);
        body.extend_from_slice(input);
        let found = self.secrets.find(&body, !is_end);
        self.gone = body.get(..gone).unwrap_or_default().to_vec();
        self.replace(body, &found, is_end)
    }

    /// Replaces what was found in `body`, which begins with what has gone by, and holds back what may be the
    /// beginning of more.
    fn replace(
        &mut self,
        mut body: Vec<u8>,
        found: &Found,
        is_end: bool,
    ) -> (Option<Vec<u8>>, usize) {
        let (gone, mut count) = (self.gone.len(), found.places.len());
        for place in &found.places {
            if let Some(place) = body.get_mut(place.clone()) {
                remove(place);
            }
        }
        self.held.clear();
        self.gone.clear();
        if !is_end {
            if let Some(open) = found.first_open() {
                self.held = body.split_off(open.max(gone));
            }
            // What is held may have begun in what has gone by.
            let again = found.again.and_then(|again| body.get(again..));
            self.gone.extend_from_slice(again.unwrap_or_default());
        }
        // What takes a secret's place is as long as the secret.
        body.drain(..gone.min(body.len()));
        if self.held.len() > LONGEST_HELD {
            self.is_removing = true;
            count += 1;
            remove(&mut self.held);
            body.append(&mut self.held);
        }
        self.seen += body.len();
        (Some(body), count)
    }

    /// A chunk without what goes on in it of a secret that was too long to be held: all up to the first break.
    fn without_run(&mut self, input: &[u8]) -> Vec<u8> {
        let mut output = input.to_vec();
        let (run, rest) = output.split_at_mut(clothes::first_run(input));
        run.fill(FILLER);
        self.is_removing = rest.is_empty();
        output
    }
}

/// Writes over a secret, or a part of one.
fn remove(place: &mut [u8]) {
    place.fill(FILLER);
    if let Some(start) = place.get_mut(..REMOVED.len()) {
        start.copy_from_slice(REMOVED.as_bytes());
    }
}

/// An empty chunk would end a chunked body.
fn some(chunk: Bytes) -> Option<Bytes> {
    (!chunk.is_empty()).then_some(chunk)
}
