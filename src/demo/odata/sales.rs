//! The asset `SALES`: 2,500 rows, which are computed and not stored, and its query options.

use super::error::ODataError;
use percent_encoding::percent_decode_str;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

/// Number of rows. Their IDs start with 1.
const ROWS: u64 = 2_500;

/// Largest number of rows in a page, even if the client asks for more.
const PAGE: usize = 500;

const REGIONS: [&str; 4] = ["EMEA", "AMER", "APJ", "MEE"];
const PRODUCTS: [&str; 5] = ["Bicycle", "Helmet", "Lamp", "Lock", "Trailer"];

/// A response. Its fields are in the order of the body, with the link to the next page at the end.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    #[serde(rename = "@odata.context")]
    context: String,
    #[serde(rename = "@odata.count", skip_serializing_if = "Option::is_none")]
    count: Option<usize>,
    value: Vec<Entity>,
    #[serde(rename = "@odata.nextLink", skip_serializing_if = "Option::is_none")]
    next_link: Option<String>,
}

/// The page that the query string requests. `service` is the absolute URL of the asset's service.
/// `link_base` precedes the name of the data in the link to the next page.
pub(super) fn page(service: &str, link_base: &str, query: &str) -> Result<Page, ODataError> {
    let options = Options::parse(query)?;
    let matching: Vec<u64> = (1..=ROWS).filter(|id| options.matches(*id)).collect();
    let wanted = matching.len().saturating_sub(options.skip).min(options.top.unwrap_or(usize::MAX));
    let given = wanted.min(PAGE);
    let entity = |id: &u64| Entity { id: *id, columns: options.columns() };
    Ok(Page {
        context: format!("{service}/$metadata#SALES{}", options.selected()),
        count: options.count.then_some(matching.len()),
        value: matching.iter().skip(options.skip).take(given).map(entity).collect(),
        next_link: (given < wanted).then(|| options.next_link(link_base, query, given)),
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Id,
    Region,
    Product,
    Amount,
    Day,
}

impl Column {
    const ALL: [Self; 5] = [Self::Id, Self::Region, Self::Product, Self::Amount, Self::Day];

    const fn name(self) -> &'static str {
        match self {
            Self::Id => "ID",
            Self::Region => "Region",
            Self::Product => "Product",
            Self::Amount => "Amount",
            Self::Day => "Day",
        }
    }

    fn named(name: &str) -> Result<Self, ODataError> {
        let found = Self::ALL.into_iter().find(|column| column.name() == name);
        found.ok_or_else(|| ODataError::bad_request(format!("SALES has no property {name}")))
    }

    /// The value of this column in a row. It depends only on the row's ID, so all runs have the
    /// same data.
    fn value(self, id: u64) -> Value {
        match self {
            Self::Id => json!(id),
            Self::Region => json!(pick(&REGIONS, id)),
            Self::Product => json!(pick(&PRODUCTS, id / 3)),
            Self::Amount => json!((id * 7_919 % 100_000) as f64 / 100.0),
            Self::Day => json!(format!("2025-{:02}-{:02}", id / 28 % 12 + 1, id % 28 + 1)),
        }
    }
}

fn pick<'a>(from: &[&'a str], number: u64) -> &'a str {
    let index = usize::try_from(number).unwrap_or_default() % from.len().max(1);
    from.get(index).copied().unwrap_or_default()
}

/// A row with the selected columns.
#[derive(Debug)]
struct Entity {
    id: u64,
    columns: Vec<Column>,
}

impl Serialize for Entity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.columns.len()))?;
        for column in &self.columns {
            map.serialize_entry(column.name(), &column.value(self.id))?;
        }
        map.end()
    }
}

/// The supported system query options.
#[derive(Debug, Default, PartialEq)]
struct Options {
    top: Option<usize>,
    skip: usize,
    count: bool,
    select: Option<Vec<Column>>,
    filter: Option<(Column, Value)>,
}

impl Options {
    fn parse(query: &str) -> Result<Self, ODataError> {
        let mut options = Self::default();
        for (name, value) in pairs(query) {
            match name.as_str() {
                "$top" => options.top = Some(number(&name, &value)?),
                "$skip" => options.skip = number(&name, &value)?,
                "$count" => options.count = value == "true",
                "$select" => options.select = select(&value)?,
                "$filter" => options.filter = Some(filter(&value)?),
                "$format" if value == "json" => {}
                other if other.starts_with('$') => {
                    return Err(ODataError::not_implemented(format!(
                        "the demo tenant does not know {other}={value}"
                    )));
                }
                // Options without a dollar sign are custom, and are ignored.
                _ => {}
            }
        }
        Ok(options)
    }

    fn matches(&self, id: u64) -> bool {
        self.filter.as_ref().is_none_or(|(column, literal)| {
            let value = column.value(id);
            // 7 and 7.0 are the same number in OData, but not in `Value`.
            value == *literal || value.as_f64().zip(literal.as_f64()).is_some_and(|(a, b)| a == b)
        })
    }

    fn columns(&self) -> Vec<Column> {
        self.select.clone().unwrap_or_else(|| Column::ALL.to_vec())
    }

    /// The projection in the context URL, for example `(ID,Region)`. Empty for all columns.
    fn selected(&self) -> String {
        let Some(columns) = &self.select else { return String::new() };
        let names: Vec<&str> = columns.iter().map(|column| column.name()).collect();
        format!("({})", names.join(","))
    }

    /// The URL of the next page: all options as the client wrote them, except `$skip` and `$top`.
    fn next_link(&self, base: &str, query: &str, given: usize) -> String {
        let is_kept = |part: &&str| {
            let name = part.split('=').next().map(decode).unwrap_or_default();
            !part.is_empty() && name != "$skip" && name != "$top"
        };
        let mut parts: Vec<String> =
            query.split('&').filter(is_kept).map(ToOwned::to_owned).collect();
        parts.extend(self.top.map(|top| format!("$top={}", top.saturating_sub(given))));
        parts.push(format!("$skip={}", self.skip.saturating_add(given)));
        format!("{base}SALES?{}", parts.join("&"))
    }
}

/// The pairs of the query, percent-decoded. `+` is a plus sign: unlike a form, OData requires `%20`
/// for a space.
fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (decode(name), decode(value))
    };
    query.split('&').filter(|part| !part.is_empty()).map(pair)
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn number(name: &str, value: &str) -> Result<usize, ODataError> {
    value.parse().map_err(|_| {
        ODataError::bad_request(format!("{name} must be a number from 0 up, not {value}"))
    })
}

fn select(value: &str) -> Result<Option<Vec<Column>>, ODataError> {
    if value.trim() == "*" {
        return Ok(None);
    }
    value.split(',').map(|name| Column::named(name.trim())).collect::<Result<_, _>>().map(Some)
}

/// Parses a filter of one property, `eq` and one literal, for example `Region eq 'EMEA'`. The rest
/// of the language is not supported.
fn filter(expression: &str) -> Result<(Column, Value), ODataError> {
    let parts = |text: &str| -> Option<(String, String, String)> {
        let (name, rest) = text.trim().split_once(' ')?;
        let (operator, literal) = rest.trim_start().split_once(' ')?;
        Some((name.to_owned(), operator.to_owned(), literal.trim().to_owned()))
    };
    let Some((name, operator, text)) = parts(expression) else {
        return Err(ODataError::bad_request(format!(
            "cannot read the filter {expression}: write Region eq 'EMEA', each space as %20 and not as +"
        )));
    };
    if operator != "eq" {
        return Err(ODataError::not_implemented(format!(
            "the demo tenant filters by eq only, not by {operator}"
        )));
    }
    let column = Column::named(&name)?;
    match literal(column, &text) {
        Some(value) => Ok((column, value)),
        None => Err(ODataError::not_implemented(format!(
            "the demo tenant cannot compare {name} with {text}"
        ))),
    }
}

/// Parses a literal: text in quotes, in which a quote is doubled, or a date or number without
/// quotes.
fn literal(column: Column, text: &str) -> Option<Value> {
    match column {
        Column::Id | Column::Amount => text.parse::<f64>().ok().map(|number| json!(number)),
        Column::Day => text.chars().all(|c| c.is_ascii_digit() || c == '-').then(|| json!(text)),
        Column::Region | Column::Product => {
            let inner = text.strip_prefix('\'')?.strip_suffix('\'')?.replace("''", "\u{0}");
            (!inner.contains('\'')).then(|| json!(inner.replace('\u{0}', "'")))
        }
    }
}
