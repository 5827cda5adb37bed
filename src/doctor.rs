//! `bearerd doctor`: tries everything that has to work, once, and gives advice.
//!
//! It changes nothing: it requests one token for each client, connects to the addresses of
//! `listen`, and reads once on each route. No finding holds a secret or a token.

mod advice;
mod authorities;
mod client;
mod listener;
mod network;
mod route;
mod upstream;

use crate::config::Config;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};

/// The result of one check.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was checked, for example "client technical-user".
    pub subject: String,
    /// The name of the check: "dns", "tls", "token", ...
    pub check: &'static str,
    /// Whether it passed.
    pub verdict: Verdict,
    /// What was observed.
    pub detail: String,
    /// What to do, if something is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// Whether a check passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It passed.
    Ok,
    /// The server answered, though not with success. That need not be a fault: a path of the
    /// configuration may be no resource that can be read.
    Reached,
    /// It works, but not for long or not everywhere.
    Warning,
    /// It does not work.
    Failed,
}

/// The findings about one subject.
struct Subject {
    name: String,
    findings: Vec<Finding>,
}

impl Subject {
    const fn new(name: String) -> Self {
        Self { name, findings: Vec::new() }
    }

    fn ok(&mut self, check: &'static str, detail: impl Into<String>) {
        self.add(check, Verdict::Ok, detail.into(), None);
    }

    fn add(
        &mut self,
        check: &'static str,
        verdict: Verdict,
        detail: String,
        advice: Option<String>,
    ) {
        let subject = self.name.clone();
        self.findings.push(Finding { subject, check, verdict, detail, advice });
    }
}

/// Checks every client, upstream and route of a configuration.
pub async fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut tokens = HashMap::new();
    for client in &config.clients {
        let mut subject = Subject::new(format!("client {}", client.name));
        if let Some(token) = client::examine(client, &mut subject).await {
            tokens.insert(&*client.name, token);
        }
        findings.append(&mut subject.findings);
    }
    let mut subject = Subject::new("listener".to_owned());
    listener::examine(config, &mut subject).await;
    findings.append(&mut subject.findings);
    let mut subject = Subject::new("authorities".to_owned());
    authorities::examine(config, &mut subject);
    findings.append(&mut subject.findings);
    let mut unreachable = HashSet::new();
    for upstream in &config.upstreams {
        let mut subject = Subject::new(format!("upstream {}", upstream.name));
        if !upstream::examine(upstream, &mut subject).await {
            unreachable.insert(&*upstream.name);
        }
        findings.append(&mut subject.findings);
    }
    // Routes that share a cause, which is reported above.
    let mut untried: BTreeMap<(String, &str), usize> = BTreeMap::new();
    for route in &config.routes {
        let mut subject = Subject::new(format!("route {}", config.name_of(route)));
        let (client, upstream) = (&*route.client.name, &*route.upstream.name);
        match tokens.get(client) {
            None => {
                let routes = format!("routes of {client}");
                *untried.entry((routes, "there is no token")).or_default() += 1;
            }
            Some(_) if unreachable.contains(upstream) => {
                let routes = format!("routes to {upstream}");
                *untried.entry((routes, "there is no connection")).or_default() += 1;
            }
            Some(token) => route::examine(route, token, &mut subject).await,
        }
        findings.append(&mut subject.findings);
    }
    for ((routes, why), count) in untried {
        let mut subject = Subject::new(routes);
        subject.add(
            "call",
            Verdict::Warning,
            format!("{count} routes were not tried, because {why}"),
            None,
        );
        findings.append(&mut subject.findings);
    }
    findings
}
