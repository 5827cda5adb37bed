//! The audit-log export: CSV, page by page, asked for by POST though it changes nothing.
//!
//! How many pages there are is told in a response header, `epm-page-count`; a proxy that drops headers it does not know
//! leaves the client with the first page.

use axum::Router;
use axum::extract::Query;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;

use super::answer;
use super::state::Shared;

const PAGES: u64 = 3;
const ROWS_A_PAGE: u64 = 50;
const HEADER: &str = "Timestamp,User,Activity,Object Type,Object Name,Success\n";
const ACTIVITIES: [(&str, &str, &str); 4] = [
    ("Login", "Session", ""),
    ("Read", "View", "SALES"),
    ("Deploy", "View", "SALES"),
    ("Change", "Role", "DEMO_\"READER\""),
];

/// The audit paths.
pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/api/v1/audit/activities/exportActivities", get(read).post(export))
}

/// Other parameters, such as `sortKey`, and a body with `from` are accepted and change nothing.
#[derive(Debug, Deserialize)]
struct ExportQuery {
    /// From 1; 0 counts as 1. Beyond the last page there is the header line alone.
    #[serde(rename = "pageIndex", default)]
    page_index: u64,
    /// Latest first.
    #[serde(rename = "sortDescending", default)]
    descending: bool,
}

/// The same by GET. There is CSV only: a client that insists on JSON gets 406.
async fn read(query: Query<ExportQuery>, headers: HeaderMap) -> Response {
    if answer::accepts(&headers, &["text/csv", "text/*"]) {
        export(query).await
    } else {
        answer::not_acceptable("text/csv")
    }
}

async fn export(Query(query): Query<ExportQuery>) -> Response {
    let total = PAGES * ROWS_A_PAGE;
    let first = query.page_index.max(1).saturating_sub(1).saturating_mul(ROWS_A_PAGE);
    let mut csv = HEADER.to_owned();
    for place in first.min(total)..first.saturating_add(ROWS_A_PAGE).min(total) {
        csv.push_str(&row(if query.descending { total - 1 - place } else { place }));
    }
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/csv;charset=utf-8")),
        (HeaderName::from_static("epm-page-count"), HeaderValue::from(PAGES)),
    ];
    (headers, csv).into_response()
}

/// A row made from its number alone. Fields that need quotes have them, quotes inside written twice (RFC 4180).
fn row(number: u64) -> String {
    let kind = usize::try_from(number).unwrap_or_default() % ACTIVITIES.len();
    let (activity, object_type, object) = ACTIVITIES.get(kind).copied().unwrap_or_default();
    let object = if object.contains('"') {
        format!("\"{}\"", object.replace('"', "\"\""))
    } else {
        object.to_owned()
    };
    format!(
        "2025-03-{:02} {:02}:{:02}:00,TECH_USER_{:02},{activity},{object_type},{object},{}\n",
        number / 24 + 1,
        number % 24,
        number * 7 % 60,
        number % 5 + 1,
        !number.is_multiple_of(11),
    )
}
