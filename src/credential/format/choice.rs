//! Choice of one client among those that were found.

use super::document::{Document, Entries};
use super::error::{ClientFault, FormatError, UnusableClient};
use super::fields::Fields;
use super::found::{Found, FoundProof};
use super::location::shown;
use std::fmt;

/// Filter for bindings, and for clients with a name. Each field that is set must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    /// The name of the binding, the instance, the destination or the connection.
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

/// Properties by which a client can be chosen. Documents have some of them under several keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Traits {
    pub(super) names: Vec<String>,
    pub(super) labels: Vec<String>,
    tags: Vec<String>,
    plans: Vec<String>,
}

impl Traits {
    /// Traits of a binding.
    pub(super) fn of(entries: &Entries) -> Self {
        let texts = |names: &[&str]| texts(entries, names);
        Self {
            names: texts(&["name", "binding_name", "instance_name"]),
            labels: texts(&["label"]),
            tags: texts(&["tags"]),
            plans: texts(&["plan"]),
        }
    }

    /// Traits of a folder, whose file `type` names the service.
    pub(super) fn of_folder(files: &Entries) -> Self {
        let mut traits = Self::of(files);
        traits.labels.extend(texts(files, &["type"]));
        traits
    }

    /// A name and no other traits.
    pub(super) fn named(name: &str) -> Self {
        Self { names: vec![name.to_owned()], ..Self::default() }
    }

    /// The traits of both.
    pub(super) fn with(mut self, other: Self) -> Self {
        self.names.extend(other.names);
        self.labels.extend(other.labels);
        self.tags.extend(other.tags);
        self.plans.extend(other.plans);
        self
    }

    /// The same traits and one more name.
    pub(super) fn with_name(mut self, name: &str) -> Self {
        self.names.push(name.to_owned());
        self
    }
}

/// The texts of these keys, alone or in lists.
fn texts(entries: &Entries, names: &[&str]) -> Vec<String> {
    let fields = Fields::of(entries);
    let values = names.iter().flat_map(|name| fields.values(name));
    let items =
        values.flat_map(|value| value.list().unwrap_or_else(|| std::slice::from_ref(value)));
    let filled = items.filter_map(Document::text).map(str::trim).filter(|text| !text.is_empty());
    filled.map(str::to_owned).collect()
}

/// An OAuth client that was found: usable, or with its faults.
pub(super) struct Candidate {
    pub(super) format: &'static str,
    pub(super) location: String,
    pub(super) traits: Traits,
    pub(super) outcome: Result<Box<Found>, UnusableClient>,
}

impl fmt::Display for Candidate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at {}", self.format, self.location)?;
        let Traits { names, labels, plans, .. } = &self.traits;
        let first = [("name", names), ("label", labels), ("plan", plans)]
            .into_iter()
            .filter_map(|(field, values)| Some(format!("{field} `{}`", shown(values.first()?))));
        let first: Vec<String> = first.collect();
        if first.is_empty() { Ok(()) } else { write!(formatter, " ({})", first.join(", ")) }
    }
}

/// Returns the only usable client that the binding matches. A client found twice counts once.
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
    let mut unusable = Vec::new();
    for candidate in chosen {
        let shown = candidate.to_string();
        match candidate.outcome {
            Ok(found) if usable.iter().any(|(_, other)| is_same_client(other, &found)) => {}
            Ok(found) => usable.push((shown, found)),
            Err(client) => unusable.push(client),
        }
    }
    if usable.len() > 1 {
        let found = usable.into_iter().map(|(shown, _)| shown).collect();
        return Err(FormatError::Ambiguous { found });
    }
    match usable.pop() {
        Some((_, found)) => Ok(*found),
        None => Err(FormatError::Unusable(without_other_services(unusable))),
    }
}

/// Leaves out the bindings of other services, unless there is nothing else to report.
fn without_other_services(unusable: Vec<UnusableClient>) -> Vec<UnusableClient> {
    let is_other_service =
        |unusable: &UnusableClient| unusable.faults.contains(&ClientFault::NoClient);
    let (others, clients): (Vec<_>, Vec<_>) = unusable.into_iter().partition(is_other_service);
    if clients.is_empty() { others } else { clients }
}

fn is_same_client(one: &Found, other: &Found) -> bool {
    let (one, other) = (&one.details, &other.details);
    one.client_id == other.client_id
        && one.token_url == other.token_url
        && is_same_proof(&one.proof, &other.proof)
}

fn is_same_proof(one: &FoundProof, other: &FoundProof) -> bool {
    match (one, other) {
        (FoundProof::Secret(one), FoundProof::Secret(other)) => one.expose() == other.expose(),
        (FoundProof::Certificate(one), FoundProof::Certificate(other)) => one.chain == other.chain,
        _ => false,
    }
}
