//! An upstream that sends our secrets back, as debugging front doors do, does not get them to the caller: they are
//! for the upstream alone. Which ones these are, and how they are taken out of an answer's header.

use super::table::RouteHandle;
use crate::redact::Secrets;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use pingora::http::ResponseHeader;

/// What an answer to this request must not hold: every token that this upstream gets and that is still valid, and
/// what else was added to the request on its way.
pub(super) fn secrets(route: &RouteHandle, added: Option<&Secrets>) -> Option<Secrets> {
    let tokens = route.client.store.secrets();
    let others = route.neighbours.iter().map(|store| store.secrets());
    others.chain([added.cloned()]).fold(tokens, |all, more| match (all, more) {
        (Some(all), Some(more)) => Some(all.and(&more)),
        (all, more) => all.or(more),
    })
}

/// A header with a word like this in its name holds a secret.
const SECRET_NAMES: [&str; 7] =
    ["auth", "cookie", "credential", "key", "password", "secret", "token"];
/// A shorter value may stand in any text.
const SHORTEST: usize = 8;

/// The secrets among the headers that a route adds, such as the key of an API gateway.
pub(super) fn of_headers(headers: &[(HeaderName, HeaderValue)]) -> Option<Secrets> {
    let is_secret =
        |name: &HeaderName| SECRET_NAMES.iter().any(|word| name.as_str().contains(word));
    let secret = headers.iter().filter(|(name, _)| is_secret(name));
    let values = secret.map(|(_, value)| Bytes::copy_from_slice(value.as_bytes()));
    Secrets::new(values, SHORTEST)
}

/// Removes secrets from an answer's header. Returns how many there were.
pub(super) fn clean_header(secrets: &Secrets, response: &mut ResponseHeader) -> usize {
    clean_values(secrets, response)
        + clean_names(secrets, response)
        + clean_reason(secrets, response)
}

fn clean_values(secrets: &Secrets, response: &mut ResponseHeader) -> usize {
    let has_one = |value: &HeaderValue| secrets.are_in(value.as_bytes());
    let mut names: Vec<HeaderName> = response
        .headers
        .iter()
        .filter(|(_, value)| has_one(value))
        .map(|(name, _)| name.clone())
        .collect();
    names.dedup();
    let mut removed = 0;
    for name in names {
        let values: Vec<_> = response.headers.get_all(&name).iter().cloned().collect();
        response.remove_header(&name);
        for value in values {
            let cleaned = match secrets.removed_from(value.as_bytes()) {
                Some((cleaned, count)) => {
                    removed += count;
                    HeaderValue::from_bytes(&cleaned)
                }
                None => Ok(value),
            };
            // What was a value without the secret is one. If not, it is none at all.
            if let Ok(cleaned) = cleaned {
                let _ = response.append_header(name.clone(), cleaned);
            }
        }
    }
    removed
}

/// A name does not keep its case in a map, but on its way to the caller.
fn clean_names(secrets: &Secrets, response: &mut ResponseHeader) -> usize {
    if !response.headers.keys().any(|name| secrets.may_be_in(name.as_str().as_bytes())) {
        return 0;
    }
    let is_one = |name: &[u8]| secrets.are_in_name(name) || secrets.are_in(name);
    let in_lower_case = response.headers.keys().filter(|name| is_one(name.as_str().as_bytes()));
    let mut names: Vec<HeaderName> = in_lower_case.cloned().collect();
    if response.has_case() {
        let as_written = response.case_header_iter().filter(|(name, _)| is_one(name.as_slice()));
        names.extend(
            as_written.filter_map(|(name, _)| HeaderName::from_bytes(name.as_slice()).ok()),
        );
    }
    let count = |name: &HeaderName| usize::from(response.remove_header(name).is_some());
    names.iter().map(count).sum()
}

/// To no reason, which any reason may be.
fn clean_reason(secrets: &Secrets, response: &mut ResponseHeader) -> usize {
    let reason = response.get_reason_phrase().unwrap_or_default().as_bytes();
    if !secrets.are_in(reason) {
        return 0;
    }
    let _ = response.set_reason_phrase(None);
    1
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJqdGkiOiJ4In0.c2ln";

    fn secrets(secret: &str) -> Secrets {
        Secrets::new([Bytes::copy_from_slice(secret.as_bytes())], 8).unwrap()
    }

    #[test]
    fn a_token_in_a_header_is_removed_from_every_value() {
        let mut response = ResponseHeader::build(200, None).unwrap();
        let basic = STANDARD.encode(format!("id:{TOKEN}"));
        response.append_header("x-debug", "first").unwrap();
        response.append_header("x-debug", format!("a {TOKEN} b {TOKEN}")).unwrap();
        response.append_header("x-debug", format!("Basic {basic}")).unwrap();
        assert_eq!(clean_header(&secrets(TOKEN), &mut response), 3);
        let values: Vec<_> = response.headers.get_all("x-debug").iter().collect();
        let [first, second, third] = values[..] else { panic!("{values:?}") };
        assert_eq!(
            (first, second),
            (&"first".parse().unwrap(), &"a [token removed] b [token removed]".parse().unwrap())
        );
        assert_eq!(third.to_str().unwrap().trim_end_matches('='), "Basic aWQ6[token removed]");
    }

    #[test]
    fn of_the_headers_that_a_route_adds_keys_are_secret_and_settings_are_not() {
        let header = |name: &'static str, value: &'static str| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let headers = [header("apikey", "0123456789"), header("x-team", "analytics")];
        let secrets = of_headers(&headers).unwrap();
        assert!(secrets.are_in(b"apikey: 0123456789") && !secrets.are_in(b"x-team: analytics"));
        assert!(of_headers(&headers[1..]).is_none());
    }

    #[test]
    fn a_token_in_a_name_or_a_reason_goes_with_it() {
        let mut response = ResponseHeader::build(200, None).unwrap();
        response.set_reason_phrase(Some(&format!("OK {TOKEN}"))).unwrap();
        let name = TOKEN.replace('.', "-");
        let encoded = STANDARD.encode(&name).replace('=', "");
        response.append_header(name.clone(), "x").unwrap();
        response.append_header(name.to_ascii_lowercase(), "x").unwrap();
        response.append_header(encoded, "x").unwrap();
        clean_header(&secrets(&name), &mut response);
        assert!(response.headers.is_empty(), "{:?}", response.headers);
        clean_header(&secrets(TOKEN), &mut response);
        assert!(!response.get_reason_phrase().unwrap_or_default().contains(TOKEN));
    }
}
