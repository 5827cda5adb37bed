//! Status page. It loads nothing from elsewhere, and is readable without its script.

mod requests;
mod routes;
mod token_life;

use crate::readiness::{Complaint, SidecarState};
use crate::status::{ClientHealth, ClientStatus, EventStatus, Status, span, timestamp};
use maud::{DOCTYPE, Markup, html};
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

/// Remaining life of an OAuth client, below which it is shown as a warning.
const EXPIRES_SOON: Duration = Duration::from_secs(30 * 86_400);
/// Remaining life of an OAuth client, below which it is shown as trouble.
const EXPIRES_NOW: Duration = Duration::from_secs(7 * 86_400);

/// Style sheet of the page.
pub(super) const STYLE: &str = include_str!("page.css");
/// Script that keeps the page up to date.
pub(super) const SCRIPT: &str = include_str!("page.js");

/// Renders the page.
pub(super) fn render(status: &Status) -> String {
    let (class, word) = badge(status.state);
    document(
        &format!("bearerd: {word}"),
        true,
        &html! {
            div.top {
                h1 { "bearerd" }
                span.badge.(class) { (word) }
                span.soft { (place(status)) }
            }
            @for complaint in &status.complaints { (trouble(complaint, class)) }
            h2 { "OAuth clients" }
            div.cards {
                @for client in &status.clients { (card(client, status.now)) }
            }
            h2 #requests { "Requests" }
            (requests::render(status))
            h2 #events { "Last events" }
            (events(&status.events, status.now))
            h2 #routes { "Routes" }
            (routes::render(&status.routes))
            footer {
                "bearerd " (status.version) ", running since " (stamp(status.started))
                ". As data, for support: " a href="status" { "status" } ", " a href="metrics" { "metrics" }
                ", " a href="readyz?verbose" { "readyz" } ". What to do: " a href="runbook" { "runbook" } "."
                noscript { " This page does not renew itself without JavaScript; reload it." }
            }
        },
    )
}

/// Renders a whole document. The script renews one that is live.
pub(super) fn document(title: &str, is_live: bool, main: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                link rel="stylesheet" href="page.css";
                @if is_live { script src="page.js" defer {} }
            }
            body {
                p #notice .notice.bad role="alert" hidden {}
                main { (main) }
            }
        }
    };
    page.into_string()
}

/// Which sidecar this is: machine, time, and if only this machine reads it, tenants and file.
fn place(status: &Status) -> Markup {
    let tenants: BTreeSet<&str> = status
        .routes
        .iter()
        .filter_map(|route| route.origin.as_deref()?.split("://").nth(1))
        .collect();
    html! {
        "on " (status.host) ", " (stamp(status.now))
        @for (index, tenant) in tenants.iter().enumerate() {
            @if index == 0 { ", for " } @else { " and " }
            (tenant)
        }
        @if let Some(file) = &status.config_file { ", by " (file) }
    }
}

/// Renders what does not work, with a link to what to do.
fn trouble(complaint: &Complaint, class: &str) -> Markup {
    html! {
        p.trouble.(class) {
            @match &complaint.reason {
                Some(reason) => { strong { (complaint.about) } ": " (reason) "." }
                None => { "Waiting for: " strong { (complaint.about) } "." }
            }
            @if let Some(entry) = complaint.runbook {
                " " a href={ "runbook#" (entry) } { "What to do" }
            }
        }
    }
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
            @if let Some(token) = &client.token {
                (time_left(token.issued, token.expires, now))
            }
            (token_life::render(&client.token_life))
            dl {
                @if let Some(token) = &client.token {
                    dt { "Token expires" } dd { (moment(token.expires, now)) }
                    dt { "Received" } dd { (moment(token.issued, now)) ", token number " (token.generation) " since the start" }
                }
                @if let Some(next) = client.next_refresh {
                    dt { "Next token request" } dd { (moment(next, now)) }
                }
                @if client.consecutive_failures > 0 {
                    dt { "Failures in a row" } dd { (client.consecutive_failures) }
                }
                dt { "Client expires" }
                @match client.client_expires {
                    Some(end) => dd { span.(expiry_class(end, now)) { (moment(end, now)) } },
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
                                ", " (event.times) " times since " (stamp(event.first))
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

/// The class of the time at which an OAuth client expires.
fn expiry_class(end: SystemTime, now: SystemTime) -> &'static str {
    match end.duration_since(now) {
        Ok(left) if left > EXPIRES_SOON => "",
        Ok(left) if left > EXPIRES_NOW => "badge warn",
        _ => "badge bad",
    }
}

/// Renders a time in UTC. The script adds the time of the reader's zone.
fn stamp(time: SystemTime) -> Markup {
    let stamp = timestamp(time);
    html! { time.local datetime=(stamp) { (stamp) } }
}
