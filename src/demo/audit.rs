//! The export of the audit log: CSV, page by page. It is requested by POST although it changes
//! nothing.
//!
//! The number of pages is in the response header `epm-page-count`. If a proxy drops headers that it
//! does not know, the client gets the first page only.

use super::answer;
use axum::Router;
use axum::extract::Query;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;

const PAGES: u64 = 3;
const ROWS_A_PAGE: u64 = 50;
const HEADER: &str = "Timestamp,User,Activity,Object Type,Object Name,Success\n";
const ACTIVITIES: [(&str, &str, &str); 4] = [
    ("Login", "Session", ""),
    ("Read", "View", "SALES"),
    ("Deploy", "View", "SALES"),
    ("Change", "Role", "DEMO_\"READER\""),
];

/// The routes of the audit log.
pub(super) fn routes() -> Router {
    Router::new().route("/api/v1/audit/activities/exportActivities", get(read).post(export))
}

/// The supported parameters. Others, for example `sortKey`, and a body with `from` are ignored.
#[derive(Debug, Deserialize)]
struct ExportQuery {
    /// The page, counted from 1; 0 counts as 1. After the last page there is only the header line.
    #[serde(rename = "pageIndex", default)]
    page_index: u64,
    /// Whether the latest row comes first.
    #[serde(rename = "sortDescending", default)]
    descending: bool,
}

/// The export by GET. A client that accepts only JSON gets 406.
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

/// The row with this number. Fields with quotes are quoted, and their quotes doubled (RFC 4180).
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
