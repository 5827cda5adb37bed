//! Parameters of a token request.

use axum::http::Uri;
use url::form_urlencoded;

/// The parameters of a request, from its query and its body.
///
/// UAA reads both, whatever the method. The first value of a name counts, so a token URL that
/// already has `?grant_type=client_credentials` does no harm.
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads the body as a form, whatever its `Content-Type` is. Unknown parameters are ignored,
    /// for example the `response_type=token` that SAP's own tools send.
    pub(super) fn parse(uri: &Uri, body: &[u8]) -> Self {
        let query = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned();
        Self(query.chain(form_urlencoded::parse(body).into_owned()).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}
