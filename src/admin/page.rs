//! Status page. It loads nothing from elsewhere, and is readable without its script.

use crate::readiness::SidecarState;
use crate::status::{
    ClientHealth, ClientStatus, EventStatus, RouteStatus, Status, span, timestamp,
};
use maud::{DOCTYPE, Markup, html};
use std::time::{Duration, SystemTime};

/// Style sheet of the page.
pub(super) const STYLE: &str = include_str!("page.css");
/// Script that keeps the page up to date.
pub(super) const SCRIPT: &str = include_str!("page.js");

/// Renders the page.
pub(super) fn render(status: &Status) -> String {
    let (class, word) = badge(status.state);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "bearerd: " (word) }
                link rel="stylesheet" href="page.css";
                script src="page.js" defer {}
            }
            body {
                p #notice .notice.bad role="alert" hidden {}
                main {
                    div.top {
                        h1 { "bearerd" }
                        span.badge.(class) { (word) }
                        span.soft { (timestamp(status.now)) }
                    }
                    h2 { "OAuth clients" }
                    div.cards {
                        @for client in &status.clients { (card(client, status.now)) }
                    }
                    h2 #events { "Last events" }
                    (events(&status.events, status.now))
                    h2 #routes { "Routes" }
                    (routes(&status.routes))
                    footer {
                        "bearerd " (status.version) ", running since " (timestamp(status.started))
                        ". As data: " a href="status" { "status" } ", " a href="metrics" { "metrics" }
                        ", " a href="readyz?verbose" { "readyz" } "."
                        noscript { " This page does not renew itself without JavaScript; reload it." }
                    }
                }
            }
        }
    };
    page.into_string()
}

const fn badge(state: SidecarState) -> (&'static str, &'static str) {
    match state {
        SidecarState::Ready => ("good", "ready"),
        SidecarState::Degraded => ("warn", "degraded"),
        SidecarState::Starting => ("warn", "starting"),
        SidecarState::Draining => ("warn", "draining"),
        SidecarState::NotReady => ("bad", "not ready"),
    }
}

fn card(client: &ClientStatus, now: SystemTime) -> Markup {
    let class = match client.state {
        ClientHealth::Ok => "good",
        ClientHealth::Degraded | ClientHealth::Waiting => "warn",
        ClientHealth::NoToken | ClientHealth::Rejected => "bad",
    };
    html! {
        section.card aria-label={ "Client " (client.name) } {
            h3 { (client.name) }
            p { span.badge.(class) { (client.state.title()) } }
            @if let Some(error) = &client.last_error {
                p.trouble.(class) { strong { "Last token request: " } (error) }
            }
            @if let Some(error) = &client.credential_error {
                p.trouble.warn { strong { "New credential: " } (error) }
            }
            @if let Some(token) = &client.token {
                (time_left(token.issued, token.expires, now))
            }
            dl {
                @if let Some(token) = &client.token {
                    dt { "Token expires" } dd { (moment(token.expires, now)) }
                    dt { "Received" } dd { (moment(token.issued, now)) ", number " (token.generation) }
                }
                @if let Some(next) = client.next_refresh {
                    dt { "Next request" } dd { (moment(next, now)) }
                }
                @if client.consecutive_failures > 0 {
                    dt { "Failures in a row" } dd { (client.consecutive_failures) }
                }
                dt { "Client expires" }
                @match client.client_expires {
                    Some(end) => dd { (moment(end, now)) },
                    None => dd.soft { "unknown; set expires_on" },
                }
                @if let Some(skew) = client.clock_skew_seconds.filter(|skew| skew.abs() >= 1.0) {
                    dt { "Issuer's clock" }
                    dd {
                        (format!("{:.0} s ", skew.abs()))
                        @if skew > 0.0 { "ahead of this machine's" } @else { "behind this machine's" }
                    }
                }
            }
        }
    }
}

/// Renders the time that is left as a bar.
fn time_left(issued: SystemTime, expires: SystemTime, now: SystemTime) -> Markup {
    let whole = expires.duration_since(issued).unwrap_or_default().as_secs();
    let left = expires.duration_since(now).unwrap_or_default().as_secs();
    html! {
        progress aria-label="Life left of the token" max=(whole.max(1)) value=(left) {
            (left) " of " (whole) " s"
        }
    }
}

/// Renders a time relative to now.
fn moment(time: SystemTime, now: SystemTime) -> Markup {
    let stamp = timestamp(time);
    html! {
        time datetime=(stamp) title=(stamp) {
            @match time.duration_since(now) {
                Ok(ahead) => { "in " (span(ahead)) },
                Err(past) => (ago(past.duration())),
            }
        }
    }
}

fn ago(past: Duration) -> String {
    if past < Duration::from_secs(1) { "now".to_owned() } else { format!("{} ago", span(past)) }
}

fn events(events: &[EventStatus], now: SystemTime) -> Markup {
    html! {
        ol.card.events aria-labelledby="events" {
            @for event in events {
                li {
                    p {
                        @if event.event.is_trouble() {
                            span.badge.warn { (event.event.title()) }
                        } @else {
                            strong { (event.event.title()) }
                        }
                        " "
                        span.soft {
                            @if let Some(client) = &event.client { (client) ", " }
                            (moment(event.last, now))
                            @if event.times > 1 {
                                ", " (event.times) " times since " (timestamp(event.first))
                            }
                        }
                    }
                    @if !event.detail.is_empty() { p { (event.detail) } }
                }
            }
            @if events.is_empty() { li.soft { "Nothing has happened yet." } }
        }
    }
}

fn routes(routes: &[RouteStatus]) -> Markup {
    // If all routes have the same addresses, these are left out.
    let has_addresses = !routes.is_sorted_by(|one, next| one.listen == next.listen);
    html! {
        div.card.scroll tabindex="0" role="region" aria-labelledby="routes" {
            table {
                thead {
                    tr {
                        th { "Path" } th { "Profile" } th { "Methods" } th { "Upstream" } th { "Client" }
                    }
                }
                tbody {
                    @for route in routes {
                        tr {
                            td {
                                code { (route.path) }
                                @if has_addresses {
                                    @for address in &route.listen { br; span.soft { (address) } }
                                }
                            }
                            td { (route.profile) }
                            td { (route.methods) }
                            td { (route.upstream) br; span.soft { (route.origin) } }
                            td { (route.client) }
                        }
                    }
                }
            }
        }
    }
}
