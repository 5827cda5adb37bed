//! Which of the clients that were found is meant.

use super::error::{Fault, FormatError, Problem};
use super::node::{Entries, Node};
use super::place::shown;
use super::section::Section;
use super::{Found, Proof};
use std::fmt;

/// Chooses among bindings, and among clients that have a name. Each field that is set must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    /// The binding's or the instance's name; a destination's; a connection's.
    pub name: Option<String>,
    /// The service's name: `xsuaa`.
    pub label: Option<String>,
    /// One of the service's tags.
    pub tag: Option<String>,
    /// The service plan: `application`.
    pub plan: Option<String>,
}

impl Binding {
    fn fields(&self) -> [(&'static str, Option<&str>); 4] {
        [
            ("name", self.name.as_deref()),
            ("label", self.label.as_deref()),
            ("tag", self.tag.as_deref()),
            ("plan", self.plan.as_deref()),
        ]
    }

    fn matches(&self, traits: &Traits) -> bool {
        let has = |values: &[String], wanted: Option<&str>| {
            wanted.is_none_or(|wanted| values.iter().any(|value| value == wanted))
        };
        has(&traits.names, self.name.as_deref())
            && has(&traits.labels, self.label.as_deref())
            && has(&traits.tags, self.tag.as_deref())
            && has(&traits.plans, self.plan.as_deref())
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = |(field, value): (&str, Option<&str>)| Some(format!("{field} `{}`", value?));
        let set: Vec<String> = self.fields().into_iter().filter_map(set).collect();
        formatter.write_str(&set.join(" and "))
    }
}

/// By what a client can be chosen. Documents give some of them under several keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Traits {
    pub(super) names: Vec<String>,
    pub(super) labels: Vec<String>,
    tags: Vec<String>,
    plans: Vec<String>,
}

impl Traits {
    /// What a binding says of itself.
    pub(super) fn of(entries: &Entries) -> Self {
        let texts = |names: &[&str]| texts(entries, names);
        Self {
            names: texts(&["name", "binding_name", "instance_name"]),
            labels: texts(&["label"]),
            tags: texts(&["tags"]),
            plans: texts(&["plan"]),
        }
    }

    /// What the files of a folder say, where `type` is the service.
    pub(super) fn of_folder(files: &Entries) -> Self {
        let mut traits = Self::of(files);
        traits.labels.extend(texts(files, &["type"]));
        traits
    }

    /// Known by the name it lies under.
    pub(super) fn named(name: &str) -> Self {
        Self { names: vec![name.to_owned()], ..Self::default() }
    }

    /// These and those.
    pub(super) fn with(mut self, other: Self) -> Self {
        self.names.extend(other.names);
        self.labels.extend(other.labels);
        self.tags.extend(other.tags);
        self.plans.extend(other.plans);
        self
    }

    /// Named like this, too.
    pub(super) fn or_named(mut self, name: &str) -> Self {
        self.names.push(name.to_owned());
        self
    }
}

/// The texts behind these keys: alone, or in lists.
fn texts(entries: &Entries, names: &[&str]) -> Vec<String> {
    let section = Section::of(entries);
    let values = names.iter().flat_map(|name| section.values(name));
    let items =
        values.flat_map(|value| value.list().unwrap_or_else(|| std::slice::from_ref(value)));
    let filled = items.filter_map(Node::text).map(str::trim).filter(|text| !text.is_empty());
    filled.map(str::to_owned).collect()
}

/// What may be the client: usable, or with what is wrong with it.
pub(super) struct Candidate {
    pub(super) format: &'static str,
    pub(super) place: String,
    pub(super) traits: Traits,
    pub(super) outcome: Result<Box<Found>, Fault>,
}

impl fmt::Display for Candidate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at {}", self.format, self.place)?;
        let Traits { names, labels, plans, .. } = &self.traits;
        let first = [("name", names), ("label", labels), ("plan", plans)]
            .into_iter()
            .filter_map(|(field, values)| Some(format!("{field} `{}`", shown(values.first()?))));
        let first: Vec<String> = first.collect();
        if first.is_empty() { Ok(()) } else { write!(formatter, " ({})", first.join(", ")) }
    }
}

/// The only usable client that the binding matches. The same client found twice is one.
pub(super) fn choose(candidates: Vec<Candidate>, binding: &Binding) -> Result<Found, FormatError> {
    if candidates.is_empty() {
        return Err(FormatError::Unknown);
    }
    let (chosen, others): (Vec<_>, Vec<_>) =
        candidates.into_iter().partition(|candidate| binding.matches(&candidate.traits));
    if chosen.is_empty() {
        let found = others.iter().map(Candidate::to_string).collect();
        return Err(FormatError::NoMatch { asked: binding.to_string(), found });
    }
    let mut usable: Vec<(String, Box<Found>)> = Vec::new();
    let mut faults = Vec::new();
    for candidate in chosen {
        let told = candidate.to_string();
        match candidate.outcome {
            Ok(found) if usable.iter().any(|(_, other)| is_same_client(other, &found)) => {}
            Ok(found) => usable.push((told, found)),
            Err(fault) => faults.push(fault),
        }
    }
    if usable.len() > 1 {
        let found = usable.into_iter().map(|(told, _)| told).collect();
        return Err(FormatError::Ambiguous { found });
    }
    match usable.pop() {
        Some((_, found)) => Ok(*found),
        None => Err(FormatError::Unusable(without_foreign(faults))),
    }
}

/// A database's binding is only worth a mention where there is nothing closer to a client.
fn without_foreign(faults: Vec<Fault>) -> Vec<Fault> {
    let is_foreign = |fault: &Fault| fault.problems.contains(&Problem::NoClient);
    let (foreign, near): (Vec<_>, Vec<_>) = faults.into_iter().partition(is_foreign);
    if near.is_empty() { foreign } else { near }
}

fn is_same_client(one: &Found, other: &Found) -> bool {
    one.client_id == other.client_id
        && one.token_url == other.token_url
        && is_same_proof(&one.proof, &other.proof)
}

fn is_same_proof(one: &Proof, other: &Proof) -> bool {
    match (one, other) {
        (Proof::Secret(one), Proof::Secret(other)) => one.expose() == other.expose(),
        (Proof::Certificate { chain, .. }, Proof::Certificate { chain: other, .. }) => {
            chain == other
        }
        _ => false,
    }
}
