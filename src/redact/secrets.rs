//! The secrets, and the search for them.

use super::encodings::{DEEPEST, Wanted, decode, percent_decoded};
use super::escapes::LONGEST_ESCAPE;
use super::findings::{FAINT, Findings, WORTH_HOLDING};
use super::layer::Layer;
use super::runs::{end_of, first_run, is_plain, next_run, plain_runs};
use bytes::Bytes;
use memchr::memmem;
use std::sync::Arc;

/// The text that replaces a secret, if there is room for it.
pub(super) const REMOVED: &str = "[token removed]";
/// Up to this number of places, a secret is compared at each of them.
const FEW: usize = 64;
/// The largest number of first bytes of secrets that are searched for before the secrets
/// themselves.
const ENOUGH: usize = 64;
/// The shortest run that is worth skipping to. With shorter runs, the text is decoded as a whole.
const SHORTEST_RUN: usize = 4;

/// Secrets that must not be seen. Clones share them.
#[derive(Clone)]
pub(crate) struct Secrets(Arc<Known>);

struct Known {
    secrets: Vec<Bytes>,
    /// The length of the shortest secret.
    least: usize,
    /// The length of the run of plain bytes that every secret has, in any encoding.
    run: usize,
    /// Whether every secret is nothing but a run of plain bytes.
    is_run: bool,
    /// Whether a secret holds a space, which is `+` in a form.
    has_space: bool,
    /// How many first bytes all secrets have in common, up to [`ENOUGH`]: for JWTs of one issuer,
    /// the header.
    common: usize,
}

impl Secrets {
    /// These secrets, without those shorter than `shortest`, which may stand in any text. `None` if
    /// none is left.
    pub(crate) fn new(secrets: impl IntoIterator<Item = Bytes>, shortest: usize) -> Option<Self> {
        let mut known: Vec<Bytes> = Vec::new();
        for secret in secrets.into_iter().filter(|secret| secret.len() >= shortest.max(1)) {
            // The decoded form of a secret that is encoded itself is as good as the secret.
            for one in percent_decoded(&secret).map(Bytes::from).into_iter().chain([secret]) {
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
            let runs = secret.split(|byte| !is_plain(*byte)).map(<[u8]>::len);
            runs.max().unwrap_or_default()
        };
        let run = secrets.iter().map(runs).min()?;
        let is_run = secrets.iter().flatten().all(|byte| is_plain(*byte));
        let has_space = secrets.iter().flatten().any(|byte| *byte == b' ');
        let first = secrets.first()?;
        let common = secrets.iter().map(|secret| common(first, secret)).min()?;
        Some(Self(Arc::new(Known { secrets, least, run, is_run, has_space, common })))
    }

    /// The secrets of both.
    pub(crate) fn union(&self, other: &Self) -> Self {
        let (these, those) = (&*self.0, &*other.0);
        let firsts = these.secrets.first().zip(those.secrets.first());
        let common = firsts.map_or(0, |(this, that)| common(this, that));
        // A secret in both is searched twice: to find duplicates would take longer, for each
        // response.
        Self(Arc::new(Known {
            secrets: these.secrets.iter().chain(&those.secrets).cloned().collect(),
            least: these.least.min(those.least),
            run: these.run.min(those.run),
            is_run: these.is_run && those.is_run,
            has_space: these.has_space || those.has_space,
            common: common.min(these.common).min(those.common),
        }))
    }

    /// Whether a text holds one of the secrets.
    pub(crate) fn occur_in(&self, text: &[u8]) -> bool {
        !self.find(text, false).places.is_empty()
    }

    /// Whether a name, which may have lost its case, holds one of the secrets.
    pub(crate) fn occur_in_name(&self, name: &[u8]) -> bool {
        if !self.fit_in(name) {
            return false;
        }
        let name = name.to_ascii_lowercase();
        let is_in = |secret: &Bytes| memmem::find(&name, &secret.to_ascii_lowercase()).is_some();
        self.0.secrets.iter().any(is_in)
    }

    /// Whether a text is long enough for one of the secrets.
    pub(crate) fn fit_in(&self, text: &[u8]) -> bool {
        text.len() >= self.0.least
    }

    /// The text without secrets, and how many there were. `None`, as nearly always, if there were
    /// none.
    pub(crate) fn redact(&self, text: &[u8]) -> Option<(Vec<u8>, usize)> {
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

    /// Searches a text, which may continue.
    pub(super) fn find(&self, text: &[u8], is_open: bool) -> Findings {
        let known = &*self.0;
        let mut found = Findings::default();
        if !is_open && !self.fit_in(text) {
            return found;
        }
        #[cfg(test)]
        super::tests::SEARCHED.set(super::tests::SEARCHED.get() + text.len());
        let layer = Layer::original(text, 0, is_open);
        if known.is_run {
            plain_runs(&layer, known.run, 1, &mut |run| known.search(&run, &mut found));
        } else if known.run < SHORTEST_RUN || is_open || next_run(text, 0, known.run).is_some() {
            known.search(&layer, &mut found);
        }
        found.sorted()
    }

    /// Whether a secret may begin in the last `before` bytes and continue in this text.
    pub(super) fn may_continue(&self, before: usize, text: &[u8]) -> bool {
        let first = first_run(text);
        before > 0 && (!self.0.is_run || first == text.len() || before + first >= self.0.run)
    }
}

impl Known {
    /// Searches a text and its decoded forms. Positions are only tracked if there is something to
    /// find.
    fn search(&self, layer: &Layer<'_>, found: &mut Findings) {
        if layer.is_open {
            found.add_end(layer);
        }
        let mut first = Findings::default();
        self.look_into(&Layer::untracked(layer.text, layer.is_open), 0, &mut first);
        if first.is_empty() {
            return;
        }
        // If nothing was found, only the ends of the decoded texts matter.
        let from = match first.places.is_empty() && first.open.is_empty() {
            true => end_of(layer.text, FAINT * LONGEST_ESCAPE.pow(first.layers)),
            false => 0,
        };
        self.look_into(&layer.part(from..layer.text.len(), layer.is_open), 0, found);
    }

    fn look_into(&self, layer: &Layer<'_>, depth: u32, found: &mut Findings) {
        let (mut secrets, mut start) = (&self.secrets[..], 0);
        if let [first, _, ..] = secrets
            && self.common >= WORTH_HOLDING
            && next_in(layer.text, 0, first.get(..self.common).unwrap_or_default()).is_none()
        {
            // No whole secret is there, and all begin alike at the end.
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
                found.search_again(layer.source_start(at));
            }
        }
        if depth > 0 && layer.is_open {
            found.add_end(layer);
            found.layers = found.layers.max(depth);
        }
        if depth == DEEPEST {
            return;
        }
        let wanted = Wanted { least: self.least, has_space: self.has_space };
        decode(layer, &wanted, &mut |decoded| {
            let layer = decoded.layer();
            if self.is_run {
                // Text that was not encoded leaves no long run.
                plain_runs(&layer, self.least, WORTH_HOLDING, &mut |run| {
                    self.look_into(&run, depth + 1, found);
                });
            } else {
                self.look_into(&layer, depth + 1, found);
            }
        });
    }
}

/// How many first bytes both have in common, up to [`ENOUGH`].
fn common(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take(ENOUGH).take_while(|(one, other)| one == other).count()
}

/// The next place of a secret in a text.
fn next_in(text: &[u8], from: usize, secret: &[u8]) -> Option<usize> {
    let rest = text.get(from..).filter(|rest| rest.len() >= secret.len())?;
    // For a few places, comparing is faster than preparing a search.
    let found = match rest.len() - secret.len() < FEW {
        true => rest.windows(secret.len()).position(|window| window == secret),
        false => memmem::find(rest, secret),
    };
    found.map(|at| from + at)
}

/// The start of a secret at the end of a text, if it is long enough to be held back.
fn beginning_in(text: &[u8], secret: &[u8]) -> Option<usize> {
    let from = text.len().saturating_sub(secret.len() - 1);
    let end = text.get(from..).unwrap_or_default();
    let first = *secret.first()?;
    let last = (end.len() + 1).saturating_sub(WORTH_HOLDING);
    let at = memchr::memchr_iter(first, end.get(..last)?)
        .find(|at| end.get(*at..).is_some_and(|end| secret.starts_with(end)))?;
    Some(from + at)
}
