//! The routes of the configuration, folded, grouped by upstream and client.

use crate::status::RouteStatus;
use maud::{Markup, html};

pub(super) fn render(routes: &[RouteStatus]) -> Markup {
    // If all routes have the same addresses, these are left out.
    let has_addresses = !routes.is_sorted_by(|one, next| one.listen == next.listen);
    let mut groups: Vec<(&RouteStatus, Vec<&RouteStatus>)> = Vec::new();
    for route in routes {
        let is_group =
            |first: &RouteStatus| first.upstream == route.upstream && first.client == route.client;
        match groups.iter_mut().find(|(first, _)| is_group(first)) {
            Some((_, members)) => members.push(route),
            None => groups.push((route, vec![route])),
        }
    }
    html! {
        details #route-list .card.padded {
            summary { (routes.len()) " routes" }
            @for (first, members) in groups {
                p {
                    "To " strong { (first.upstream) }
                    @if let Some(origin) = &first.origin { " (" (origin) ")" }
                    " as " strong { (first.client) } ":"
                }
                ul.routes {
                    @for route in members {
                        li {
                            code { (route.path) } " "
                            span.soft {
                                (route.profile) ": " (route.methods)
                                @if has_addresses { "; on " (route.listen.join(", ")) }
                            }
                        }
                    }
                }
            }
        }
    }
}
