//! Check of the addresses to which callers connect.

use super::{Subject, Verdict};
use crate::config::{Config, ListenAddress, TlsSettings};
use crate::listener_tls;
use crate::probe::{NotReady, wait_until_ready};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The time that a sidecar which has just started gets for its first token.
const START: Duration = Duration::from_secs(5);
/// The longest wait for a connection on this machine.
const CONNECT: Duration = Duration::from_secs(1);
/// The port of SAP's `datasphere` CLI while a person logs in with it.
const PORT_OF_CLI: u16 = 8080;

/// Looks at the certificates of listeners, and connects to each TCP address of `listen`, unless a
/// running sidecar has them.
pub(super) async fn examine(config: &Config, subject: &mut Subject) {
    for (id, tls) in &config.tls {
        if let Some(address) = config.listen.get(id.0) {
            examine_certificate(&address.to_string(), tls, &config.access.hosts, subject);
        }
    }
    if let Some(tls) = &config.admin.tls {
        examine_certificate(&config.admin.address.to_string(), tls, &[], subject);
    }
    examine_ports(config, subject).await;
}

/// Reports whether callers can trust a listener's certificate, as far as its names and its dates
/// go.
fn examine_certificate(address: &str, tls: &TlsSettings, hosts: &[String], subject: &mut Subject) {
    const CHECK: &str = "certificate";
    let certificate = match listener_tls::summary(tls, hosts) {
        Ok(Some(certificate)) => certificate,
        Ok(None) => return,
        Err(error) => return subject.add(CHECK, Verdict::Failed, error.to_string(), None),
    };
    if let Some(why) = certificate.complaint {
        let verdict = if certificate.has_ended { Verdict::Failed } else { Verdict::Warning };
        return subject.add(CHECK, verdict, format!("that of {address}: {why}"), None);
    }
    let until = format!("that of {address} is valid until {}", certificate.until);
    if certificate.missing.is_empty() {
        return subject.ok(CHECK, until);
    }
    let missing = certificate.missing.join(", ");
    let advice = "make one with these names (`bearerd cert`), or remove them from access.hosts";
    let detail =
        format!("{until}, and does not name {missing}: tools that use that name refuse it");
    subject.add(CHECK, Verdict::Warning, detail, Some(advice.to_owned()));
}

async fn examine_ports(config: &Config, subject: &mut Subject) {
    let admin = config.admin.address;
    let answer = match wait_until_ready(&config.admin, Duration::ZERO).await {
        Err(NotReady::Answer(_)) => wait_until_ready(&config.admin, START).await,
        // It may be about to listen there: systemd has its sockets before it runs.
        Err(NotReady::NoAnswer(_)) if is_any_taken(config).await => {
            wait_until_ready(&config.admin, START).await
        }
        answer => answer,
    };
    match answer {
        Ok(()) => {
            return subject
                .ok("sidecar", format!("one is running and ready, with its probes at {admin}"));
        }
        Err(NotReady::Answer(why)) => {
            // It may have another credential than this command.
            let advice = "the checks above use the files as they are now; if they pass, the sidecar has older ones: restart it (systemd copies the secret only at the start: `systemctl restart bearerd`)";
            let detail = format!("the one that runs, with its probes at {admin}, says: {why}");
            return subject.add("sidecar", Verdict::Failed, detail, Some(advice.to_owned()));
        }
        Err(
            why @ (NotReady::NeedsTls(_)
            | NotReady::OtherTls(..)
            | NotReady::Unreadable(_)
            | NotReady::NoCertificate(_)),
        ) => {
            return subject.add("sidecar", Verdict::Failed, why.to_string(), None);
        }
        Err(why) => {
            let other = match why {
                NotReady::Stranger(_, status) => Some(format!("answers at {admin}, with {status}")),
                _ if is_taken(admin).await => Some(format!("listens on {admin}")),
                _ => None,
            };
            if let Some(other) = other {
                let advice = "stop it, or set `admin.listen` to another address".to_owned();
                let detail = format!("another program {other}");
                subject.add("port", Verdict::Failed, detail, Some(advice));
            }
        }
    }
    for address in &config.listen {
        let ListenAddress::Tcp(address) = address else { continue };
        if is_taken(*address).await {
            let advice = "if it is systemd's bearerd.socket, `journalctl -u bearerd` says why the service does not run; otherwise stop that program, or set `listen` to another address (SAP's `datasphere` CLI takes port 8080 while one logs in, unless CLI_HTTP_PORT is set)";
            let detail = format!("another program listens on {address}");
            subject.add("port", Verdict::Failed, detail, Some(advice.to_owned()));
            continue;
        }
        let note = match address.port() {
            PORT_OF_CLI => {
                "; SAP's `datasphere` CLI takes the same port while one logs in, unless CLI_HTTP_PORT is set"
            }
            _ => "",
        };
        subject.ok("port", format!("{address} is free{note}"));
    }
}

async fn is_any_taken(config: &Config) -> bool {
    for address in &config.listen {
        if let ListenAddress::Tcp(address) = address
            && is_taken(*address).await
        {
            return true;
        }
    }
    false
}

async fn is_taken(address: SocketAddr) -> bool {
    // Port 0 means any free port.
    address.port() != 0 && matches!(timeout(CONNECT, TcpStream::connect(address)).await, Ok(Ok(_)))
}
