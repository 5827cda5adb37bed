//! Requests of the last hour: a strip of the minutes, the routes that are in use, and the last
//! failures.

use super::moment;
use crate::status::{CallerStatus, FailureStatus, RecentStatus, RouteStatus, Status};
use crate::traffic::{Counts, RECENT};
use maud::{Markup, html};
use std::time::SystemTime;

/// Height of the strip, in units of the picture. A minute is one unit wide.
const HEIGHT: f64 = 20.0;

pub(super) fn render(status: &Status) -> Markup {
    let mut all = Counts::default();
    status.minutes.iter().for_each(|minute| all += *minute);
    html! {
        div.card.padded {
            @if all.all() == 0 {
                p.soft { "No request in the last hour." }
            } @else {
                (strip(&status.minutes, all))
                p.legend {
                    (legend("good", all.good, "answered"))
                    (legend("client", all.client_error, "answered 4xx"))
                    (legend("failed", all.failed, "failed"))
                    (legend("own", all.local, "answered by bearerd"))
                    span.soft { "in the last 60 minutes" }
                }
            }
            (in_use(&status.routes, status.now))
            (callers(&status.callers, status.now))
        }
        @if !status.failures.is_empty() {
            h3 #failures { "Last requests that failed" }
            ol.card.events aria-labelledby="failures" {
                @for (index, failure) in status.failures.iter().enumerate() {
                    // What is the same as above is not repeated.
                    @let above = index.checked_sub(1).and_then(|index| status.failures.get(index));
                    (row(failure, above.is_none_or(|above| above.cause != failure.cause), status.now))
                }
            }
        }
    }
}

fn legend(class: &str, count: u32, word: &str) -> Markup {
    html! {
        @if count > 0 {
            span { span.swatch.(class) {} (count) " " (word) }
            " "
        }
    }
}

/// Renders a bar for each minute, the present one on the right.
fn strip(minutes: &[Counts], all: Counts) -> Markup {
    let most = minutes.iter().map(Counts::all).max().unwrap_or_default().max(1);
    let label = format!(
        "{} requests in the last {} minutes, {} of them failed",
        all.all(),
        minutes.len(),
        all.failed
    );
    html! {
        svg.strip viewBox=(format!("0 0 {} {HEIGHT}", minutes.len())) preserveAspectRatio="none" role="img" aria-label=(label) {
            @for (index, minute) in minutes.iter().enumerate() {
                @for (class, from, count) in stacked(minute) {
                    rect.(class) x=(index) width="0.8"
                        y=(height(most - from - count, most)) height=(height(count, most)) {}
                }
            }
        }
    }
}

/// The parts of a bar from the bottom, each with what is below it.
fn stacked(minute: &Counts) -> impl Iterator<Item = (&'static str, u32, u32)> {
    let parts = [
        ("failed", minute.failed),
        ("client", minute.client_error),
        ("own", minute.local),
        ("good", minute.good),
    ];
    let mut below = 0;
    let stacked = parts.into_iter().map(move |(class, count)| {
        let part = (class, below, count);
        below += count;
        part
    });
    stacked.filter(|(_, _, count)| *count > 0)
}

fn height(count: u32, most: u32) -> String {
    format!("{:.2}", f64::from(count) / f64::from(most) * HEIGHT)
}

/// Renders the routes that have had a request.
fn in_use(routes: &[RouteStatus], now: SystemTime) -> Markup {
    let used: Vec<_> =
        routes.iter().filter_map(|route| Some((route, route.recent.as_ref()?))).collect();
    html! {
        @if !used.is_empty() {
            div.scroll tabindex="0" role="region" aria-labelledby="requests" {
                table.stacking {
                    thead {
                        tr {
                            th { "Route" } th { "Requests a minute" } th { "Failed" }
                            th { "Half within" } th { "95 % within" } th { "Last" }
                        }
                    }
                    tbody { @for (route, recent) in used { (used_row(route, recent, now)) } }
                }
            }
            p.soft { "Rates and times are those of the last " (RECENT) " minutes." }
        }
    }
}

/// Renders the callers, if some have names.
fn callers(callers: &[CallerStatus], now: SystemTime) -> Markup {
    html! {
        @if !callers.is_empty() {
            div.scroll tabindex="0" role="region" aria-label="Callers" {
                table.stacking {
                    thead {
                        tr { th { "Caller" } th { "Requests a minute" } th { "Failed" } th { "Last" } }
                    }
                    tbody {
                        @for caller in callers {
                            tr {
                                td data-name="Caller" { code { (caller.name) } }
                                td data-name="Requests a minute" { (a_minute(caller.requests)) }
                                td data-name="Failed" { (failed(caller.requests)) }
                                td data-name="Last" { (last(caller.last_status, caller.last, now)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn a_minute(requests: Counts) -> String {
    format!("{:.1}", f64::from(requests.all()) / RECENT as f64)
}

fn failed(requests: Counts) -> Markup {
    html! {
        @if requests.failed > 0 {
            span.badge.bad { (requests.failed) " of " (requests.all()) }
        } @else if requests.all() > 0 { "none" } @else { "–" }
    }
}

/// Renders the last request of a route or a caller.
fn last(status: Option<u16>, time: Option<SystemTime>, now: SystemTime) -> Markup {
    html! {
        span {
            @if let Some(status) = status { (status) ", " }
            @match time { Some(time) => (moment(time, now)), None => "–" }
        }
    }
}

fn used_row(route: &RouteStatus, recent: &RecentStatus, now: SystemTime) -> Markup {
    html! {
        tr {
            td data-name="Route" { code { (route.name) } }
            td data-name="Requests a minute" { (a_minute(recent.requests)) }
            td data-name="Failed" { (failed(recent.requests)) }
            td data-name="Half within" { (milliseconds(recent.p50_ms)) }
            td data-name="95 % within" { (milliseconds(recent.p95_ms)) }
            td data-name="Last" { (last(recent.last_status, recent.last, now)) }
        }
    }
}

fn milliseconds(time: Option<u128>) -> String {
    match time {
        Some(time) if time >= 10_000 => format!("{} s", time / 1_000),
        Some(time) => format!("{time} ms"),
        None => "–".to_owned(),
    }
}

/// Renders a request that failed, with its cause if that is new.
fn row(failure: &FailureStatus, is_new_cause: bool, now: SystemTime) -> Markup {
    html! {
        li {
            p {
                @if let Some(status) = failure.status { span.badge.bad { (status) } " " }
                code { (failure.method) " " (failure.path.as_ref().unwrap_or(&failure.route)) }
                " "
                span.soft { (moment(failure.time, now)) ", " (milliseconds(Some(failure.duration_ms))) }
            }
            @if is_new_cause { p { (failure.cause) ": " (failure.advice) "." } }
            @if let Some(id) = &failure.correlation_id {
                p.soft { "Correlation id for SAP's support: " code { (id) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_at_the_bottom_of_a_bar() {
        let minute = Counts { good: 3, client_error: 0, failed: 2, local: 1 };
        let parts: Vec<_> = stacked(&minute).collect();
        assert_eq!(parts, [("failed", 0, 2), ("own", 2, 1), ("good", 3, 3)]);
        assert_eq!(height(3, 6), "10.00");
    }
}
