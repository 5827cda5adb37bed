//! `bearerd token`: fetches one token and prints its content.

use super::{File, print, warn_of_unknown, without_query};
use anyhow::{Context, anyhow};
use bearerd::config::{Client, Config, Flags};
use bearerd::environment::Environment;
use bearerd::http_client;
use bearerd::readable::one_line;
use bearerd::token::claims::Claims;
use bearerd::token::oauth::OAuthSource;
use bearerd::token::{Token, TokenError, TokenSource, advice};
use clap::Args;
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::SystemTime;
use tokio::runtime::Builder;

#[derive(Args)]
pub(super) struct TokenOptions {
    #[command(flatten)]
    pub(super) file: File,
    /// The client whose token to fetch; needed if several are configured.
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// Print the token itself and nothing else. It gives the client's rights to anyone until it
    /// expires.
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// Print one JSON document instead of text.
    #[arg(long)]
    json: bool,
}

pub(super) fn token(options: &TokenOptions, environment: &Environment) -> anyhow::Result<()> {
    warn_of_unknown(environment);
    let config = options.file.load(environment, &Flags::default())?;
    let client = chosen(&config, options.client.as_deref())?;
    http_client::set_up_tls();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let fetched = runtime.block_on(fetch(client));
    runtime.shutdown_background();
    let (description, token) =
        fetched.with_context(|| format!("no token for client {}", client.name))?;
    if options.raw {
        return print(&format!("{}\n", token.text()));
    }
    let claims = Claims::of(token.text()).unwrap_or_default();
    if options.json {
        let document = document(client, &token, &claims);
        return print(&(serde_json::to_string_pretty(&document)? + "\n"));
    }
    print(&text(client, &description, &token, &claims)?)
}

/// Fetches a token, with the description of its client's credential.
async fn fetch(client: &Client) -> anyhow::Result<(String, Token)> {
    let identity = client.source.read_in_time().await?;
    let (description, suspicions) = (identity.description.clone(), identity.suspicions());
    let (url, id) = (without_query(&identity.token_url), identity.client_id.clone());
    let source = OAuthSource::new(client, identity)?;
    let token = source.fetch().await.map_err(|error| {
        let is_refusal =
            matches!(error, TokenError::Refused { .. } | TokenError::NotAnIssuer { .. });
        let why = match &suspicions[..] {
            // What looks wrong says more than the general advice.
            [_, ..] if is_refusal => format!("{error}; {}", suspicions.join("; ")),
            _ => advice::append(&error, source.advice(&error)),
        };
        anyhow!("{why} (asked {url} as {id}, with {description}; `bearerd doctor` tries each step)")
    })?;
    Ok((description, token))
}

fn chosen<'a>(config: &'a Config, name: Option<&str>) -> anyhow::Result<&'a Client> {
    let names = || {
        let names: Vec<_> = config.clients.iter().map(|client| client.name.as_str()).collect();
        names.join(", ")
    };
    match (name, &config.clients[..]) {
        (None, [only]) => Ok(only),
        (None, _) => {
            Err(anyhow!("several clients are configured; choose one with --client: {}", names()))
        }
        (Some(name), clients) => {
            clients.iter().find(|client| client.name == name).map(AsRef::as_ref).ok_or_else(|| {
                anyhow!(
                    "there is no client {name} in the configuration; choose one of: {}",
                    names()
                )
            })
        }
    }
}

fn text(
    client: &Client,
    description: &str,
    token: &Token,
    claims: &Claims,
) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let until = SystemTime::now() + token.lifetime;
    writeln!(text, "client    {} ({})", client.name, one_line(description))?;
    writeln!(
        text,
        "valid     {}, until {}",
        humantime::format_duration(token.lifetime),
        humantime::format_rfc3339_seconds(until)
    )?;
    for (name, value) in [
        ("id", claims.client_id.clone().unwrap_or_default()),
        ("scopes", claims.scopes.join(" ")),
        ("audience", claims.audience.join(" ")),
        ("zone", claims.zone.clone().unwrap_or_default()),
        ("issuer", claims.issuer.clone().unwrap_or_default()),
    ] {
        if !value.is_empty() {
            writeln!(text, "{name:9} {}", one_line(&value))?;
        }
    }
    if *claims == Claims::default() {
        writeln!(text, "The token is opaque: it has no readable content.")?;
    }
    Ok(text)
}

fn document(client: &Client, token: &Token, claims: &Claims) -> Value {
    let unix = |time: Option<SystemTime>| {
        time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok()).map(|t| t.as_secs())
    };
    json!({
        "client": client.name,
        "lifetime_seconds": token.lifetime.as_secs(),
        "clock_skew_seconds": token.clock_skew,
        "client_id": claims.client_id,
        "scopes": claims.scopes,
        "audience": claims.audience,
        "zone": claims.zone,
        "issuer": claims.issuer,
        "issued_at": unix(claims.issued),
        "expires_at": unix(claims.expires),
    })
}
