//! `bearerd check`: checks a configuration and explains what it means.

mod routes;

use super::{Settings, print, warn_of_unknown, without_query};
use anyhow::Context;
use bearerd::app;
use bearerd::config::{Client, Config, ListenAddress, ListenerId, TlsSettings, Transport};
use bearerd::credential::{CredentialSource, Identity};
use bearerd::environment::Environment;
use bearerd::forward_proxy::ForwardProxy;
use bearerd::listener_tls;
use routes::{explain_audit, explain_callers, explain_routes};
use std::fmt::Write;
use std::net::IpAddr;
use url::Url;

pub(super) fn check(settings: &Settings, environment: &Environment) -> anyhow::Result<()> {
    warn_of_unknown(environment);
    let config = settings.load(environment)?;
    print(&explain(&config)?)?;
    app::check(&config).context("the configuration is well-formed, but cannot be used")?;
    print("The configuration is valid.\n")
}

fn explain(config: &Config) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    for (index, address) in config.listen.iter().enumerate() {
        let url = config.url_of(ListenerId(index), address);
        writeln!(text, "Applications connect to {url} ({} worker(s)).", config.workers)?;
        if let Some(tls) = config.tls.get(&ListenerId(index)) {
            explain_certificate(&mut text, tls, &config.access.hosts)?;
        }
    }
    if config.listen.iter().any(|address| matches!(address, ListenAddress::Tcp(_))) {
        let hosts = &config.access.hosts;
        writeln!(text, "Over TCP, the host names {} are accepted.", hosts.join(", "))?;
        for address in config.listen.iter().filter(|address| !is_named(address, hosts)) {
            writeln!(
                text,
                "{address} is not accepted as a host name, because it is not in `access.hosts`. Add it if callers use it, or if links in the answers of other addresses should lead to it."
            )?;
        }
    }
    let admin = match config.admin.tls {
        None => config.admin.address.to_string(),
        Some(_) => format!("https://{}", config.admin.address),
    };
    writeln!(text, "Probes and Prometheus connect to {admin}.\n")?;
    for client in &config.clients {
        explain_client(&mut text, client)?;
    }
    for upstream in &config.upstreams {
        let times = &upstream.timeouts;
        writeln!(
            text,
            "Upstream {}: {}{}, connect {:?}, read {:?}, write {:?}, idle {:?}.",
            upstream.name,
            upstream.origin.origin().ascii_serialization(),
            way(&upstream.transport, &upstream.origin),
            times.connect,
            times.read,
            times.write,
            times.idle
        )?;
    }
    explain_routes(&mut text, config)?;
    explain_callers(&mut text, config)?;
    explain_audit(&mut text, config)?;
    text.push('\n');
    Ok(text)
}

/// The certificate of a listener, and the names that are not in it.
fn explain_certificate(text: &mut String, tls: &TlsSettings, hosts: &[String]) -> std::fmt::Result {
    // The check itself reports what can't be read.
    let Ok(Some(certificate)) = listener_tls::summary(tls, hosts) else { return Ok(()) };
    match certificate.complaint {
        Some(why) => writeln!(text, "  warning about its certificate: {why}")?,
        None => writeln!(text, "  Its certificate is valid until {}.", certificate.until)?,
    }
    if certificate.missing.is_empty() {
        return Ok(());
    }
    let missing = certificate.missing.join(", ");
    writeln!(text, "  It does not name {missing}: tools that use that name refuse it.")
}

/// The forward proxy, if there is one, in words.
fn way(transport: &Transport, url: &Url) -> String {
    let proxy = transport.proxy.proxy_for(url).map(ForwardProxy::authority);
    proxy.map_or_else(String::new, |proxy| format!(" through the forward proxy {proxy}"))
}

/// Whether the address is allowed as a host name. A Unix socket and "all addresses" have no name.
fn is_named(address: &ListenAddress, hosts: &[String]) -> bool {
    let ListenAddress::Tcp(address) = address else { return true };
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    address.ip().is_unspecified() || hosts.contains(&ip)
}

fn explain_client(text: &mut String, client: &Client) -> std::fmt::Result {
    // The check itself reports what can't be read.
    let identity = client.source.read();
    let suspicions = identity.as_ref().map(Identity::suspicions).unwrap_or_default();
    match (&client.source, identity) {
        (CredentialSource::Parts { token_url, client_id, .. }, _) => {
            writeln!(text, "Client {}: {client_id}", client.name)?;
            let with = client.source.description();
            let way = way(&client.transport, token_url);
            writeln!(
                text,
                "  requests tokens from {}{way} with {with};",
                without_query(token_url)
            )?;
        }
        (CredentialSource::Key { .. }, Ok(identity)) => {
            writeln!(text, "Client {}: {}", client.name, identity.client_id)?;
            let way = way(&client.transport, &identity.token_url);
            let token_url = without_query(&identity.token_url);
            writeln!(
                text,
                "  requests tokens from {token_url}{way} with {};",
                identity.description
            )?;
        }
        (CredentialSource::Key { location, .. }, Err(_)) => {
            writeln!(text, "Client {}: as stated in {location}", client.name)?;
        }
    }
    for why in suspicions {
        writeln!(text, "  warning: {why}")?;
    }
    writeln!(
        text,
        "  refreshes at {:.0} % of a token's lifetime; requests wait up to {:?} for a first token.",
        client.refresh_at * 100.0,
        client.wait
    )
}
