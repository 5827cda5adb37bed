//! Precedence: environment variables replace values of the file, and flags replace both.

use super::fault::{Fault, Faults, Place};
use super::file::IDENTITY_KEYS;
use super::node::{Node, Value};
use crate::environment::Environment;

/// The variables that bearerd reads, and the key path of each. `*` stands for the only name in a
/// mapping.
const VARIABLES: [(&str, &str); 10] = [
    ("BEARERD_UPSTREAM_URL", "upstreams.*.url"),
    ("BEARERD_TOKEN_URL", "clients.*.token_url"),
    ("BEARERD_CLIENT_ID", "clients.*.client_id"),
    ("BEARERD_CLIENT_SECRET", "clients.*.client_secret"),
    ("BEARERD_CLIENT_SECRET_FILE", "clients.*.client_secret_file"),
    ("BEARERD_CREDENTIALS", "clients.*.credentials"),
    ("BEARERD_LISTEN", "listen"),
    ("BEARERD_ADMIN_LISTEN", "admin.listen"),
    ("BEARERD_CA_FILE", "*.*.ca_file"),
    ("BEARERD_LOG", "log.level"),
];

/// How the variables begin that `bearerd exec` sets for its tool.
const OF_EXEC: [&str; 3] = ["BEARERD_URL", "BEARERD_USER", "BEARERD_PASSWORD"];

/// The name of a client that only the environment configures.
const CLIENT: &str = "technical-user";
/// The name of an upstream that only the environment configures.
const UPSTREAM: &str = "datasphere";

/// Values from the command line. Each takes precedence over the environment and the file.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--listen`
    pub listen: Option<String>,
    /// `--admin-listen`
    pub admin_listen: Option<String>,
    /// `--log-level`
    pub log_level: Option<String>,
    /// `--log-format`
    pub log_format: Option<String>,
}

/// The variables that configure bearerd. Some hold secrets.
pub fn variables() -> impl Iterator<Item = &'static str> {
    VARIABLES.iter().map(|(variable, _)| *variable)
}

/// Variables that begin with `BEARERD_` but have no meaning, usually misspelled ones.
///
/// A warning is enough: Kubernetes itself sets variables with this prefix in every container of a
/// namespace that has a Service called `bearerd`. `bearerd exec` sets some for its tool.
pub fn unknown_variables(environment: &Environment) -> impl Iterator<Item = &str> {
    environment.names().filter(|name| {
        name.starts_with("BEARERD_")
            && !name.starts_with("BEARERD_SERVICE_")
            && !name.starts_with("BEARERD_PORT")
            && !OF_EXEC.iter().any(|prefix| name.starts_with(prefix))
            && !VARIABLES.iter().any(|(known, _)| known == name)
    })
}

/// Explains faults to a person who has given no file: says so, and names the variable that sets a
/// missing value.
pub(super) fn without_file(faults: Faults) -> Faults {
    let is_missing = |fault: &Fault| {
        fault.message.starts_with("missing") || fault.message.starts_with("none is configured")
    };
    if !faults.0.iter().any(is_missing) {
        return faults;
    }
    let mut explained = Faults::default();
    let why = "no configuration file is read, only the environment; give a file with --config, or set the variables that are missing";
    explained.push(&Place::Nowhere, "", why);
    explained.0.extend(faults.0.into_iter().map(|mut fault| {
        if fault.message.starts_with("missing")
            && let (Place::Nowhere, Some(variable)) = (&fault.place, variable_of(&fault.path))
        {
            fault.message = format!("missing; set {variable}");
        }
        fault
    }));
    explained
}

/// The variable that sets the value at a key path.
fn variable_of(path: &str) -> Option<&'static str> {
    let is_at = |pattern: &str| {
        let (mut keys, mut wanted) = (path.split('.'), pattern.split('.'));
        let mut pairs = keys.by_ref().zip(wanted.by_ref());
        pairs.all(|(key, wanted)| wanted == "*" || key == wanted)
            && path.split('.').count() == pattern.split('.').count()
    };
    VARIABLES.iter().find(|(_, pattern)| is_at(pattern)).map(|(variable, _)| *variable)
}

/// Puts the values of the environment into the tree, then the values of the flags.
pub(super) fn apply(
    tree: &mut Node,
    environment: &Environment,
    flags: &Flags,
    faults: &mut Faults,
) {
    for (variable, path) in VARIABLES {
        let Some(value) = environment.get(variable) else {
            continue;
        };
        let place = Place::Environment(variable.to_owned());
        // A value of the environment is not expanded: a secret may hold `${`.
        let leaf = Node::scalar(place.clone(), value.replace("${", "$${"));
        if path == "*.*.ca_file" {
            set(tree, &["upstreams", "*", "ca_file"], leaf.clone(), faults);
            set(tree, &["clients", "*", "ca_file"], leaf, faults);
        } else {
            let keys: Vec<_> = path.split('.').collect();
            set(tree, &keys, leaf, faults);
        }
        // One credential replaces another, so that the environment can override a file's secret.
        let replaced: &[&str] = match variable {
            "BEARERD_CLIENT_SECRET" => {
                &["client_secret_file", "client_secret_next_file", "credentials"]
            }
            "BEARERD_CLIENT_SECRET_FILE" => &["client_secret", "credentials"],
            // All parts: a secret must not be sent to the issuer of another client.
            "BEARERD_CREDENTIALS" => &IDENTITY_KEYS,
            _ => &[],
        };
        for key in replaced {
            remove_from_file(tree, key);
        }
    }
    // A key may name the URL of the API. Then the upstream needs no configuration of its own.
    if environment.get("BEARERD_CREDENTIALS").is_some()
        && let Some(upstreams) = tree.child_mut("upstreams")
        && upstreams.entries_mut().is_some_and(|entries| entries.is_empty())
        && let Some(upstream) = upstreams.child_mut(UPSTREAM)
    {
        *upstream = Node::empty_map();
    }
    let flags = [
        ("--listen", &["listen"][..], &flags.listen),
        ("--admin-listen", &["admin", "listen"][..], &flags.admin_listen),
        ("--log-level", &["log", "level"][..], &flags.log_level),
        ("--log-format", &["log", "format"][..], &flags.log_format),
    ];
    for (flag, keys, value) in flags {
        if let Some(value) = value {
            let leaf = Node::scalar(Place::Flag(flag), value.clone());
            set(tree, keys, leaf, faults);
        }
    }
}

/// Whether this mapping, or a mapping of this list, has the key.
fn has_key(node: &Node, key: &str) -> bool {
    match &node.value {
        Value::List(items) => items.iter().any(|item| has_key(item, key)),
        Value::Map(entries) => entries.iter().any(|entry| entry.key == key),
        _ => false,
    }
}

/// Puts a value at a key path.
fn set(tree: &mut Node, keys: &[&str], leaf: Node, faults: &mut Faults) {
    let Some((key, rest)) = keys.split_first() else {
        *tree = leaf;
        return;
    };
    let key = if *key == "*" {
        match only(tree) {
            Ok(Some(name)) => name,
            Ok(None) if rest == ["url"] => UPSTREAM.to_owned(),
            Ok(None) if rest != ["ca_file"] => CLIENT.to_owned(),
            // A CA alone configures no client and no upstream.
            Ok(None) => return,
            Err(()) => {
                let message = "several are configured, so the variable is ambiguous; set the value in the file, for example as `${NAME}`";
                return faults.push(&leaf.place, rest.first().unwrap_or(&""), message);
            }
        }
    } else {
        (*key).to_owned()
    };
    if key == "listen" && tree.child_mut(&key).is_some_and(|listen| has_key(listen, "tls")) {
        let message =
            "would replace a listener with `tls` by one without; change `address` in the file";
        return faults.push(&leaf.place, "listen", message);
    }
    // A parent of another shape is reported when the section is read.
    if let Some(child) = tree.child_mut(&key) {
        set(child, rest, leaf, faults);
    }
}

/// The name of the only entry; `None` without entries, `Err` if there are several.
fn only(node: &Node) -> Result<Option<String>, ()> {
    match &node.value {
        Value::Map(entries) => match entries.as_slice() {
            [] => Ok(None),
            [entry] => Ok(Some(entry.key.clone())),
            _ => Err(()),
        },
        _ => Ok(None),
    }
}

fn remove_from_file(tree: &mut Node, key: &str) {
    let clients = tree.child_mut("clients").and_then(Node::entries_mut);
    for client in clients.into_iter().flatten() {
        if let Some(entries) = client.node.entries_mut() {
            entries.retain(|entry| {
                entry.key != key || matches!(entry.node.place, Place::Environment(_))
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_misspelled_variables_are_unknown() {
        let environment = Environment::from([
            ("BEARERD_LISTEN", "127.0.0.1:1"),
            ("BEARERD_CLIENTID", "typo"),
            ("BEARERD_SERVICE_HOST", "10.0.0.1"),
            ("BEARERD_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ]);
        assert_eq!(unknown_variables(&environment).collect::<Vec<_>>(), ["BEARERD_CLIENTID"]);
    }
}
