//! The questions about the client and the tenant, and what their answers may be.

use super::questions::Questions;
use bearerd::endpoint;
use bearerd::environment::Environment;
use std::path::{Path, PathBuf};
use url::Url;
use zeroize::Zeroizing;

/// The end of the host names of tenants.
const TENANTS: &str = ".hcs.cloud.sap";

/// What a configuration needs.
pub(super) struct Answers {
    pub(super) client: Client,
    /// The tenant's origin. `None` if the credentials name it.
    pub(super) tenant: Option<String>,
    /// The private authority of issuer and tenant, if they have one.
    pub(super) ca_file: Option<PathBuf>,
}

/// The OAuth client.
pub(super) enum Client {
    /// A file in one of SAP's formats.
    Credentials(PathBuf),
    /// Its values.
    Values { token_url: String, id: String, secret: Zeroizing<String> },
}

pub(super) fn ask(questions: &Questions, environment: &Environment) -> anyhow::Result<Answers> {
    questions.say(
        "The values of the OAuth client are on the tenant's page System > Administration > App Integration.",
    );
    let key = questions.ask(
        "File with the client's credentials, for example a service key (Enter: type the values):",
        |text| file(text, environment.get("HOME")),
    )?;
    let client = match key {
        Some(file) => Client::Credentials(file),
        None => Client::Values {
            token_url: questions.ask(
                "Token URL, for example https://acme.authentication.eu10.hana.ondemand.com/oauth/token:",
                token_url,
            )?,
            id: questions.ask("Client ID:", client_id)?,
            secret: questions.ask_secret("Client secret (not shown):")?,
        },
    };
    let tenant = match client {
        Client::Credentials(_) => questions.ask(
            "Tenant URL, for example https://acme.eu10.hcs.cloud.sap (Enter: the credentials name it):",
            |text| if text.is_empty() { Ok(None) } else { tenant(text).map(Some) },
        )?,
        Client::Values { .. } => {
            Some(questions.ask("Tenant URL, for example https://acme.eu10.hcs.cloud.sap:", tenant)?)
        }
    };
    let ca_file = questions
        .ask("File of a private certificate authority (Enter: there is none):", |text| {
            file(text, environment.get("HOME"))
        })?;
    Ok(Answers { client, tenant, ca_file })
}

/// The absolute path of a file or folder. `None` if there is no answer.
fn file(text: &str, home: Option<&str>) -> Result<Option<PathBuf>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let path = match (text.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => Path::new(home).join(rest),
        _ => PathBuf::from(text),
    };
    let found = path.canonicalize().map_err(|error| format!("is not a path of a file: {error}"))?;
    Ok(Some(found))
}

/// A URL as it may be copied: without its scheme, or from the address bar.
fn pasted(text: &str) -> String {
    if text.contains("://") { text.to_owned() } else { format!("https://{text}") }
}

fn token_url(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("is empty".into());
    }
    let mut url = endpoint::token_url(&pasted(text), false)?;
    if url.host_str().is_some_and(|host| host.ends_with(TENANTS)) {
        return Err(
            "is the tenant's URL; the token URL is on the same page, and ends in /oauth/token"
                .into(),
        );
    }
    if url.path() == "/" {
        // Service keys and the BTP cockpit show the issuer's origin.
        url.set_path("/oauth/token");
    }
    Ok(url.into())
}

fn tenant(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("is empty".into());
    }
    // A browser's address has a path, for example /dwaas-ui/index.html#/home.
    let origin = match pasted(text).parse::<Url>() {
        Ok(url) if url.has_host() => url.origin().ascii_serialization(),
        _ => pasted(text),
    };
    if origin.contains(".authentication.") {
        return Err(
            "is the issuer's URL; the tenant's is the one in the browser's address bar".into()
        );
    }
    endpoint::origin(&origin, false).map(|url| url.as_str().trim_end_matches('/').to_owned())
}

fn client_id(text: &str) -> Result<String, String> {
    match text {
        "" => Err("is empty".into()),
        text if text.contains("://") => Err("is a URL; copy the ID, which looks like sb-…".into()),
        text if text.contains(char::is_whitespace) => {
            Err("holds a space; copy the ID alone".into())
        }
        text => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_may_be_pasted_as_they_are_found() {
        let acme = Ok("https://acme.eu10.hcs.cloud.sap".to_owned());
        assert_eq!(tenant("https://acme.eu10.hcs.cloud.sap"), acme);
        assert_eq!(tenant("https://acme.eu10.hcs.cloud.sap/"), acme);
        assert_eq!(tenant("acme.eu10.hcs.cloud.sap"), acme);
        assert_eq!(tenant("https://acme.eu10.hcs.cloud.sap/dwaas-ui/index.html#/home"), acme);
        assert!(tenant("http://acme.eu10.hcs.cloud.sap").unwrap_err().contains("http://"));
        assert!(tenant("https://").is_err());
        let token = Ok("https://acme.authentication.eu10.hana.ondemand.com/oauth/token".to_owned());
        assert_eq!(
            token_url("https://acme.authentication.eu10.hana.ondemand.com/oauth/token"),
            token
        );
        assert_eq!(token_url("acme.authentication.eu10.hana.ondemand.com"), token);
        assert_eq!(
            token_url(
                "https://acme.authentication.eu10.hana.ondemand.com/oauth/token?grant_type=client_credentials"
            ),
            token
        );
    }

    #[test]
    fn the_home_folder_may_be_a_tilde() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("key.json"), "{}").unwrap();
        let found = file("~/key.json", home.path().to_str()).unwrap().unwrap();
        assert_eq!(found, home.path().canonicalize().unwrap().join("key.json"));
        assert!(file("~/missing.json", home.path().to_str()).is_err());
        assert_eq!(file("", None), Ok(None));
    }
}
