//! Settings from OpenTelemetry's environment variables. No message quotes a value, because headers
//! and URLs may hold credentials.

use super::variables::{ENDPOINT, TRACES_ENDPOINT};
use crate::environment::Environment;
use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry_sdk::trace::Sampler;
use percent_encoding::percent_decode_str;
use std::time::Duration;
use url::Url;

const TRACES_HEADERS: &str = "OTEL_EXPORTER_OTLP_TRACES_HEADERS";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const TRACES_PROTOCOL: &str = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
const TRACES_TIMEOUT: &str = "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT";
const TIMEOUT: &str = "OTEL_EXPORTER_OTLP_TIMEOUT";
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const DISABLED: &str = "OTEL_SDK_DISABLED";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARG: &str = "OTEL_TRACES_SAMPLER_ARG";
const SERVICE: &str = "OTEL_SERVICE_NAME";
const RESOURCE: &str = "OTEL_RESOURCE_ATTRIBUTES";

/// The path for traces, relative to [`ENDPOINT`].
const TRACES_PATH: &str = "/v1/traces";
/// Default timeout from the first byte sent to the last byte received.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_SERVICE: &str = "bearerd";
pub(super) const SERVICE_NAME: &str = "service.name";

/// Settings of the export.
#[derive(Debug)]
pub(super) struct Settings {
    /// The complete URL of the collector for traces.
    pub(super) endpoint: Url,
    /// Headers of each request to the collector, all marked as sensitive.
    pub(super) headers: HeaderMap,
    /// Timeout of one request to the collector.
    pub(super) timeout: Duration,
    /// Decides which traces are recorded, and whether the caller's decision is followed.
    pub(super) sampler: Sampler,
    /// Attributes of the process, including the service's name.
    pub(super) resource: Vec<(String, String)>,
}

impl Settings {
    /// Reads the environment. `None` if it names no collector, or switches the export off.
    ///
    /// # Errors
    /// A sentence that names the variable with an unsupported value.
    pub(super) fn read(environment: &Environment) -> Result<Option<Self>, String> {
        let Some(endpoint) = endpoint(environment)? else {
            return Ok(None);
        };
        let is_disabled =
            environment.get(DISABLED).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        if is_disabled || environment.get(EXPORTER) == Some("none") {
            return Ok(None);
        }
        let mut exporters = environment.get(EXPORTER).unwrap_or("otlp").split(',');
        if !exporters.any(|exporter| exporter.trim() == "otlp") {
            return Err(format!(
                "{EXPORTER} names no exporter that bearerd has; set it to otlp or none"
            ));
        }
        if let Some((name, protocol)) = either(environment, TRACES_PROTOCOL, PROTOCOL)
            && protocol != "http/protobuf"
        {
            return Err(format!("{name} is not http/protobuf, the only protocol that bearerd has"));
        }
        Ok(Some(Self {
            endpoint,
            headers: headers(environment)?,
            timeout: timeout(environment)?,
            sampler: sampler(environment)?,
            resource: resource(environment)?,
        }))
    }
}

/// Returns the name and value of the variable for traces, or else of the general one.
fn either<'a>(
    environment: &'a Environment,
    traces: &'static str,
    all: &'static str,
) -> Option<(&'static str, &'a str)> {
    [traces, all].into_iter().find_map(|name| Some((name, environment.get(name)?)))
}

fn endpoint(environment: &Environment) -> Result<Option<Url>, String> {
    let Some((name, text)) = either(environment, TRACES_ENDPOINT, ENDPOINT) else {
        return Ok(None);
    };
    let url = Url::parse(text).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let mut url = url.ok_or_else(|| format!("{name} is not an http or https URL"))?;
    if name == ENDPOINT {
        let path = format!("{}{TRACES_PATH}", url.path().trim_end_matches('/'));
        url.set_path(&path);
    }
    Ok(Some(url))
}

fn headers(environment: &Environment) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let Some((name, text)) = either(environment, TRACES_HEADERS, HEADERS) else {
        return Ok(headers);
    };
    for (key, value) in pairs(name, text)? {
        let (Ok(key), Ok(mut value)) = (HeaderName::try_from(key), HeaderValue::try_from(value))
        else {
            return Err(format!("{name} holds an invalid header"));
        };
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    Ok(headers)
}

fn timeout(environment: &Environment) -> Result<Duration, String> {
    let Some((name, text)) = either(environment, TRACES_TIMEOUT, TIMEOUT) else {
        return Ok(DEFAULT_TIMEOUT);
    };
    let milliseconds = text.parse().ok().filter(|milliseconds| *milliseconds > 0);
    let milliseconds =
        milliseconds.ok_or_else(|| format!("{name} is not a positive number of milliseconds"));
    Ok(Duration::from_millis(milliseconds?))
}

fn sampler(environment: &Environment) -> Result<Sampler, String> {
    let ratio = || match environment.get(SAMPLER_ARG).map(str::parse::<f64>) {
        None => Ok(Sampler::TraceIdRatioBased(1.0)),
        Some(Ok(ratio)) if (0.0..=1.0).contains(&ratio) => Ok(Sampler::TraceIdRatioBased(ratio)),
        Some(_) => Err(format!("{SAMPLER_ARG} is not a number from 0 to 1")),
    };
    let name = environment.get(SAMPLER).unwrap_or("parentbased_always_on");
    let (is_parent_based, root) = match name.strip_prefix("parentbased_") {
        Some(root) => (true, root),
        None => (false, name),
    };
    let root = match root {
        "always_on" => Sampler::AlwaysOn,
        "always_off" => Sampler::AlwaysOff,
        "traceidratio" => ratio()?,
        _ => {
            return Err(format!(
                "{SAMPLER} is not always_on, always_off or traceidratio, with or without the prefix parentbased_"
            ));
        }
    };
    Ok(if is_parent_based { Sampler::ParentBased(Box::new(root)) } else { root })
}

fn resource(environment: &Environment) -> Result<Vec<(String, String)>, String> {
    let mut resource = match environment.get(RESOURCE) {
        Some(text) => pairs(RESOURCE, text)?,
        None => Vec::new(),
    };
    let named = environment.get(SERVICE).map(str::to_owned);
    if named.is_some() || !resource.iter().any(|(key, _)| key == SERVICE_NAME) {
        resource.retain(|(key, _)| key != SERVICE_NAME);
        resource.push((SERVICE_NAME.into(), named.unwrap_or_else(|| DEFAULT_SERVICE.into())));
    }
    Ok(resource)
}

/// Parses `key=value,key=value`. Values may be percent-encoded.
fn pairs(name: &str, text: &str) -> Result<Vec<(String, String)>, String> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let pair = |entry: &str| {
        let (key, value) = entry.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        let key = key.trim();
        (!key.is_empty()).then(|| (key.to_owned(), value.into_owned()))
    };
    let pairs = entries.map(|entry| {
        pair(entry).ok_or_else(|| format!("{name} is not a list like key=value,key=value"))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<const N: usize>(more: [(&str, &str); N]) -> Result<Option<Settings>, String> {
        let collector = [(ENDPOINT, "http://collector:4318")];
        Settings::read(&collector.into_iter().chain(more).collect())
    }

    #[test]
    fn without_a_collector_or_switched_off_there_are_no_settings() {
        assert!(Settings::read(&Environment::default()).unwrap().is_none());
        let without_collector = Environment::from([(SERVICE, "x"), (PROTOCOL, "grpc")]);
        assert!(Settings::read(&without_collector).unwrap().is_none(), "nothing is checked");
        for off in [(DISABLED, "TRUE"), (EXPORTER, "none"), (ENDPOINT, "")] {
            assert!(of([off]).unwrap().is_none(), "{off:?}");
        }
        assert!(of([(DISABLED, "false"), (EXPORTER, "otlp")]).unwrap().is_some());
    }

    #[test]
    fn the_general_endpoint_is_a_base_and_the_endpoint_for_traces_is_complete() {
        let url = |more| of(more).unwrap().unwrap().endpoint.to_string();
        assert_eq!(url([(ENDPOINT, "http://collector:4318")]), "http://collector:4318/v1/traces");
        assert_eq!(url([(ENDPOINT, "https://c/api/otlp/")]), "https://c/api/otlp/v1/traces");
        assert_eq!(url([(TRACES_ENDPOINT, "https://c/own/")]), "https://c/own/");
    }

    #[test]
    fn unset_variables_have_their_defaults() {
        let settings = of([]).unwrap().unwrap();
        assert_eq!(settings.timeout, DEFAULT_TIMEOUT);
        assert_eq!(settings.resource, [(SERVICE_NAME.into(), "bearerd".into())]);
        assert_eq!(format!("{:?}", settings.sampler), "ParentBased(AlwaysOn)");
        assert!(settings.headers.is_empty());
    }

    #[test]
    fn variables_that_are_set_are_followed() {
        let settings = of([
            (HEADERS, "authorization=Bearer%20c,x-other = 1 ,"),
            (TIMEOUT, "250"),
            (SAMPLER, "parentbased_traceidratio"),
            (SAMPLER_ARG, "0.25"),
            (RESOURCE, "service.name=other,deployment.environment.name=a%2Cb"),
            (SERVICE, "bearerd of finance"),
        ]);
        let settings = settings.unwrap().unwrap();
        assert_eq!(settings.headers["authorization"], "Bearer c");
        assert_eq!(settings.headers["x-other"], "1");
        assert!(settings.headers["authorization"].is_sensitive());
        assert_eq!(settings.timeout, Duration::from_millis(250));
        assert_eq!(format!("{:?}", settings.sampler), "ParentBased(TraceIdRatioBased(0.25))");
        let own = |key: &str| settings.resource.iter().find(|(known, _)| known == key);
        assert_eq!(own(SERVICE_NAME).unwrap().1, "bearerd of finance");
        assert_eq!(own("deployment.environment.name").unwrap().1, "a,b");
        let settings = of([(RESOURCE, "service.name=other")]).unwrap().unwrap();
        assert_eq!(settings.resource, [(SERVICE_NAME.into(), "other".into())]);
    }

    #[test]
    fn a_variable_with_an_unsupported_value_is_named_and_its_value_is_not_quoted() {
        for (name, value) in [
            (ENDPOINT, "collector:4318-secret"),
            (TRACES_ENDPOINT, "ftp://u:secret@c"),
            (PROTOCOL, "grpc-secret"),
            (TRACES_PROTOCOL, "http/json-secret"),
            (EXPORTER, "console-secret"),
            (HEADERS, "secret"),
            (TRACES_HEADERS, "a b=secret"),
            (HEADERS, "a=secret%0Ab"),
            (TIMEOUT, "secret"),
            (TIMEOUT, "0"),
            (SAMPLER, "secret"),
            (RESOURCE, "secret"),
        ] {
            let message = of([(name, value)]).unwrap_err();
            assert!(message.starts_with(name) && !message.contains("secret"), "{message}");
        }
        for ratio in ["x", "1.5", "-1", "NaN"] {
            let message = of([(SAMPLER, "traceidratio"), (SAMPLER_ARG, ratio)]).unwrap_err();
            assert!(message.starts_with(SAMPLER_ARG), "{message}");
        }
    }
}
