//! The consumption API: OData V4, read only.
//!
//! Three points matter to a client:
//!
//! - The path of an asset's data has its name **twice** (`…/relational/DEMO/SALES/SALES`).
//! - Responses have many **absolute** URLs, by which a client bypasses a proxy unless the proxy
//!   rewrites them.
//! - A response is a page of limited size. `@odata.nextLink`, at its end, is the URL of the next
//!   page.

mod error;
mod sales;

use super::answer;
use super::answer::origin;
use super::faults::{CatalogBase, NextLinks};
use super::state::{Shared, TenantState};
use axum::extract::State;
use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use error::{ODATA_VERSION, ODataError};
use flate2::Compression;
use flate2::write::GzEncoder;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::{Value, json};
use std::io;

/// The current base.
const CURRENT: &str = "/api/v1/datasphere/consumption";
/// The base in catalogs of newer tenants.
const CORE: &str = "/dwaas-core/odata/v4";
/// The base of assets below [`CORE`].
const CORE_CONSUMPTION: &str = "/dwaas-core/odata/v4/consumption";
/// The former base, which clients still use.
const OLD: &str = "/api/v1/dwc";
/// The base of assets below [`OLD`]. [`CURRENT`] ends with `consumption` already.
const OLD_CONSUMPTION: &str = "/api/v1/dwc/consumption";

/// The routes of the consumption API. [`read`] distinguishes the resources below them.
pub(super) fn routes(tenant: Shared) -> Router {
    Router::new()
        .route("/api/v1/datasphere/consumption/{*resource}", get(read))
        .route("/api/v1/dwc/{*resource}", get(read))
        .route("/dwaas-core/odata/v4/{*resource}", get(read))
        .with_state(tenant)
}

/// Answers any resource. Resource paths have `$`, `'`, `(` and `)`, which clients send raw or
/// percent-encoded, so the path is decoded before it is compared.
async fn read(State(state): State<Shared>, uri: Uri, headers: HeaderMap) -> Response {
    let path = percent_decode_str(uri.path()).decode_utf8_lossy();
    let (base, resource) = split(&path);
    let here = origin(&headers, &state.tenant_origin);
    match resource {
        "catalog/spaces" => json_body(
            &headers,
            &listing(&here, &path, "spaces", json!([{ "name": "DEMO", "label": "Demo space" }])),
        ),
        "catalog/assets" => {
            json_body(&headers, &listing(&here, &path, "assets", json!([catalog_entry(&state)])))
        }
        "catalog/spaces('DEMO')/assets('SALES')" => json_body(&headers, &catalog_entry(&state)),
        "relational/DEMO/SALES" | "relational/DEMO/SALES/" => json_body(
            &headers,
            &json!({
                "@odata.context": format!("{here}{base}/relational/DEMO/SALES/$metadata"),
                "value": [{ "name": "SALES", "kind": "EntitySet", "url": "SALES" }],
            }),
        ),
        "relational/DEMO/SALES/$metadata" => metadata(&headers),
        "relational/DEMO/SALES/SALES" => {
            let service = format!("{here}{base}/relational/DEMO/SALES");
            let links = match state.faults().next_links {
                NextLinks::Absolute => format!("{service}/"),
                NextLinks::AbsolutePath => format!("{base}/relational/DEMO/SALES/"),
                NextLinks::Relative => String::new(),
            };
            match sales::page(&service, &links, uri.query().unwrap_or_default()) {
                Ok(page) => json_body(&headers, &page),
                Err(error) => error.into_response(),
            }
        }
        _ => ODataError::not_found(&path).into_response(),
    }
}

/// Splits a path into the base of the service and the resource.
fn split(path: &str) -> (&'static str, &str) {
    // A longer base comes before its prefixes.
    let bases = [OLD_CONSUMPTION, CORE_CONSUMPTION, CURRENT, CORE, OLD];
    let found = bases.into_iter().find_map(|base| Some((base, path.strip_prefix(base)?)));
    let (base, resource) = found.unwrap_or((OLD, path));
    (base, resource.trim_start_matches('/'))
}

fn listing(origin: &str, path: &str, set: &str, value: Value) -> Value {
    let catalog = path.strip_suffix(set).unwrap_or(path);
    json!({ "@odata.context": format!("{origin}{catalog}$metadata#{set}"), "value": value })
}

/// An asset in the catalog. Its URLs have the tenant's own origin, whatever the request's `Host`
/// is.
fn catalog_entry(state: &TenantState) -> Value {
    let base = match state.faults().catalog_base {
        CatalogBase::Current => CURRENT,
        CatalogBase::DwaasCore => CORE_CONSUMPTION,
    };
    let service = format!("{}{base}/relational/DEMO/SALES", state.tenant_origin);
    json!({
        "name": "SALES",
        "label": "Sales",
        "spaceName": "DEMO",
        "assetRelationalMetadataUrl": format!("{service}/$metadata"),
        "assetRelationalDataUrl": format!("{service}/SALES"),
        "assetAnalyticalMetadataUrl": "",
        "assetAnalyticalDataUrl": "",
        "supportsAnalyticalQueries": false,
    })
}

/// The schema of the service, in XML. A client or proxy that accepts only JSON gets 406.
fn metadata(headers: &HeaderMap) -> Response {
    if answer::accepts(headers, &["application/xml", "text/xml", "application/*", "text/*"]) {
        ([(CONTENT_TYPE, "application/xml"), ODATA_VERSION], METADATA).into_response()
    } else {
        answer::not_acceptable("application/xml")
    }
}

const METADATA: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx">
  <edmx:DataServices>
    <Schema Namespace="DEMO.SALES" xmlns="http://docs.oasis-open.org/odata/ns/edm">
      <EntityContainer Name="EntityContainer">
        <EntitySet Name="SALES" EntityType="DEMO.SALES.SALES"/>
      </EntityContainer>
      <EntityType Name="SALES">
        <Key><PropertyRef Name="ID"/></Key>
        <Property Name="ID" Type="Edm.Int64" Nullable="false"/>
        <Property Name="Region" Type="Edm.String" MaxLength="4"/>
        <Property Name="Product" Type="Edm.String" MaxLength="20"/>
        <Property Name="Amount" Type="Edm.Decimal" Precision="12" Scale="2"/>
        <Property Name="Day" Type="Edm.Date"/>
      </EntityType>
    </Schema>
  </edmx:DataServices>
</edmx:Edmx>
"#;

/// A JSON response, compressed if the client accepts gzip, as the real approuter does.
fn json_body(headers: &HeaderMap, value: &impl Serialize) -> Response {
    let media = "application/json;odata.metadata=minimal;charset=utf-8";
    let accepted = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    if !accepted.is_some_and(|codings| codings.contains("gzip")) {
        return ([(CONTENT_TYPE, media), ODATA_VERSION], Json(value)).into_response();
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Neither step can fail: both write to memory.
    let body = serde_json::to_writer(&mut encoder, value).map_err(io::Error::from);
    match body.and_then(|()| encoder.finish()) {
        Ok(body) => {
            let coding = (CONTENT_ENCODING, "gzip");
            ([(CONTENT_TYPE, media), ODATA_VERSION, coding], body).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
