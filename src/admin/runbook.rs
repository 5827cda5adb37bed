//! Runbook as a page of the admin listener, so that the status page can link to its entries on a
//! machine without other documents.

use super::page::document;
use maud::PreEscaped;
use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};
use std::sync::LazyLock;

const TEXT: &str = include_str!("../../docs/runbook.md");

/// Page of the runbook.
pub(super) static PAGE: LazyLock<String> = LazyLock::new(|| {
    let body = PreEscaped(body());
    document(
        "bearerd: runbook",
        false,
        &maud::html! {
            p { a href="./" { "Status" } }
            article { (body) }
        },
    )
});

/// Renders the text. Each heading gets an id. Links to other documents become text, because this
/// listener does not serve them.
fn body() -> String {
    let mut events: Vec<Event<'_>> = Parser::new_ext(TEXT, Options::ENABLE_TABLES).collect();
    let mut heading = None;
    let mut is_left_out = false;
    for index in 0..events.len() {
        let (id, next) = match events.get(index) {
            Some(Event::Start(Tag::Heading { .. })) => (None, Some(index)),
            Some(Event::Text(text)) => (heading.map(|_| anchor(text)), None),
            _ => (None, None),
        };
        if let (Some(id), Some(Event::Start(Tag::Heading { id: slot, .. }))) =
            (id, heading.take().and_then(|index: usize| events.get_mut(index)))
        {
            *slot = Some(CowStr::from(id));
        }
        heading = next;
    }
    events.retain(|event| match event {
        Event::Start(Tag::Link { dest_url, .. }) => {
            is_left_out = !dest_url.starts_with('#');
            !is_left_out
        }
        Event::End(TagEnd::Link) => !std::mem::take(&mut is_left_out),
        _ => true,
    });
    let mut page = String::new();
    html::push_html(&mut page, events.into_iter());
    page
}

/// The id of a heading, as hosts of Git repositories make it.
fn anchor(heading: &str) -> String {
    let allowed = |letter: &char| letter.is_alphanumeric() || *letter == '-' || *letter == ' ';
    let kept: String = heading.chars().filter(allowed).collect();
    kept.to_lowercase().replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readiness::Entry;
    use strum::VariantArray;

    #[test]
    fn each_entry_that_a_state_links_to_exists() {
        for entry in Entry::VARIANTS {
            let id = format!("id=\"{}\"", entry.anchor());
            assert_eq!(PAGE.matches(&id).count(), 1, "{id}");
        }
    }

    #[test]
    fn all_links_lead_to_places_of_the_page() {
        let links: Vec<_> = PAGE.split("<a href=\"").skip(1).collect();
        assert!(links.len() > 10);
        for link in links {
            let (to, _) = link.split_once('"').unwrap();
            let to = to.strip_prefix('#').map(|id| format!("id=\"{id}\""));
            assert!(to.is_none_or(|id| PAGE.contains(&id)), "{link:.40}");
        }
        assert!(!PAGE.contains(".md\""), "links to other documents");
    }
}
