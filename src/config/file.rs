//! The wire form: every key with its default and its documentation, in one table a section.
//!
//! The tables are the schema (a key that is not in them is refused, with a suggestion), the
//! defaults (read from here when a key is missing) and the text of `bearerd reference`, so that
//! the three cannot disagree.

use super::environment::Environment;
use super::fault::{Faults, Place};
use super::node::{Entry, Node, Value};

/// One documented key.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) key: &'static str,
    pub(crate) default: Fallback,
    /// What to show in the reference where there is no default.
    pub(crate) example: &'static str,
    pub(crate) doc: &'static str,
}

/// What holds when a key is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// The key must be given.
    Required,
    /// Nothing: the feature is off or derived.
    Absent,
    /// Nothing, but one of a group must be given; the reference shows this one.
    OneOf,
    /// This text, as if it had been written.
    Text(&'static str),
    /// A section of its own.
    Nested,
}

const fn field(
    key: &'static str,
    default: Fallback,
    example: &'static str,
    doc: &'static str,
) -> Field {
    Field { key, default, example, doc }
}

use Fallback::{Absent, Nested, OneOf, Required, Text};

pub(crate) const ROOT: &[Field] = &[
    field(
        "listen",
        Text("127.0.0.1:8080"),
        "",
        "Where applications connect: a loopback address and port, or unix:/path/to.sock, or a list of them. Other addresses need access.allow_remote.",
    ),
    field("workers", Text("1"), "", "Threads that serve requests; `auto` is one a core."),
    field(
        "admin",
        Nested,
        "",
        "The listener of probes and metrics. It serves no tenant data and needs no token.",
    ),
    field("clients", Nested, "", "OAuth clients, each under a name of your choice."),
    field(
        "upstreams",
        Nested,
        "",
        "The services behind the sidecar, each under a name of your choice.",
    ),
    field(
        "routes",
        Absent,
        "",
        "Which paths go where; whole segments, the longest path wins. Without routes, an only upstream gets the default paths of all profiles.",
    ),
    field("access", Nested, "", "Who may call: whoever does has the rights of the OAuth client."),
    field("limits", Nested, "", "How much is served at once."),
    field(
        "sandbox",
        Text("on"),
        "",
        "Where the kernel has Landlock, nothing can be written from the start on, and only what is named here (with its folder) can be read; a reload can't add other places then.",
    ),
    field("log", Nested, "", "What is written to standard error."),
    field(
        "shutdown",
        Nested,
        "",
        "What happens on SIGTERM and SIGINT; a second signal ends the process at once.",
    ),
];

pub(crate) const ADMIN: &[Field] = &[field(
    "listen",
    Text("127.0.0.1:8081"),
    "",
    "Address and port. In a pod, 0.0.0.0:8081 lets the kubelet and Prometheus in.",
)];

pub(crate) const CLIENT: &[Field] = &[
    field(
        "token_url",
        OneOf,
        "https://acme.authentication.eu10.hana.ondemand.com/oauth/token",
        "The issuer's token endpoint, as the tenant's App Integration page shows it.",
    ),
    field("client_id", OneOf, "sb-1f2e!b42|client!b7", "The OAuth client's id."),
    field(
        "client_secret",
        Absent,
        "${CLIENT_SECRET}",
        "The OAuth client's secret, instead of client_secret_file.",
    ),
    field(
        "client_secret_file",
        OneOf,
        "/run/secrets/client_secret",
        "A file that holds the secret; a final line break is cut. It is watched: a new secret is tried while the old token serves.",
    ),
    field(
        "client_secret_next_file",
        Absent,
        "/run/secrets/client_secret_next",
        "A file that may hold the secret's successor, which is tried when the issuer refuses the first.",
    ),
    field(
        "credentials",
        Absent,
        "/etc/secrets/key.json",
        "Instead of all the above: a file or folder that holds id, secret (or certificate) and token URL in a format that SAP hands out, or env:NAME for such a text in a variable. It is watched.",
    ),
    field(
        "binding",
        Absent,
        "{ name: my-datasphere }",
        "Which of several bindings in `credentials` is meant, by name, label, tag or plan.",
    ),
    field(
        "client_auth",
        Absent,
        "post",
        "How the client proves itself: post (secret in the form body, the default), basic (raw), basic-encoded (form-encoded, with X-CF-ENCODED-CREDENTIALS), mtls (certificate_file and private_key_file), or private-key-jwt (private_key_file).",
    ),
    field(
        "certificate_file",
        Absent,
        "/run/secrets/client.crt",
        "The client's certificate chain for mtls, PEM. It is watched.",
    ),
    field(
        "private_key_file",
        Absent,
        "/run/secrets/client.key",
        "The private key for mtls or private-key-jwt, PEM. It is watched.",
    ),
    field(
        "key_id",
        Absent,
        "key-1",
        "The id under which the issuer knows the key of private-key-jwt.",
    ),
    field(
        "scope",
        Absent,
        "",
        "Scopes to ask for, separated by spaces; empty asks for all the client has.",
    ),
    field("token_params", Absent, "{}", "More parameters of the token request."),
    field(
        "expires_on",
        Absent,
        "2027-02-20",
        "The day the OAuth client itself expires (three months after its creation unless set otherwise), for the metric and its alert.",
    ),
    field(
        "refresh_at",
        Text("0.5"),
        "",
        "The fraction of a token's lifetime after which the next one is fetched; at least 0.1, at most 0.9.",
    ),
    field("wait", Text("5s"), "", "How long a request may wait for a first token; at most 60s."),
    field(
        "ca_file",
        Absent,
        "/etc/ssl/private-ca.pem",
        "More trust anchors for the token endpoint, PEM. The system's stay trusted.",
    ),
    field(
        "allow_cleartext",
        Text("false"),
        "",
        "Allow http:// to a host that is not loopback. The secret then travels unprotected.",
    ),
];

pub(crate) const BINDING: &[Field] = &[
    field("name", Absent, "my-datasphere", "The binding's or the service instance's name."),
    field("label", Absent, "xsuaa", "The service's label."),
    field("tag", Absent, "xsuaa", "One of the service's tags."),
    field("plan", Absent, "apiaccess", "The service's plan."),
];

pub(crate) const UPSTREAM: &[Field] = &[
    field(
        "url",
        OneOf,
        "https://acme.eu10.hcs.cloud.sap",
        "The tenant's origin: scheme, host and port, without a path. A key in `credentials` may name it instead.",
    ),
    field(
        "client",
        Absent,
        "technical-user",
        "The OAuth client whose token is injected; an only client needs no mention.",
    ),
    field("timeouts", Nested, "", "Time-outs towards the upstream."),
    field("csrf", Nested, "", "SAP's protection against cross-site requests."),
    field(
        "ca_file",
        Absent,
        "/etc/ssl/private-ca.pem",
        "More trust anchors, PEM. The system's stay trusted.",
    ),
    field(
        "allow_cleartext",
        Text("false"),
        "",
        "Allow http:// to a host that is not loopback. The token then travels unprotected.",
    ),
];

pub(crate) const CSRF: &[Field] = &[
    field(
        "managed",
        Text("true"),
        "",
        "Fetch and send CSRF tokens for writes of callers that bring none, on routes whose profile needs them.",
    ),
    field("fetch_path", Text("/api/v1/csrf"), "", "Where a token is fetched."),
];

pub(crate) const TIMEOUTS: &[Field] = &[
    field(
        "connect",
        Text("5s"),
        "",
        "Until the TCP connection and, again, until the TLS session stands; an address that takes longer is left for the next one.",
    ),
    field(
        "read",
        Text("300s"),
        "",
        "Between two reads of the answer; analytical queries think long before the first byte.",
    ),
    field("write", Text("60s"), "", "Between two writes of the request."),
    field(
        "idle",
        Text("50s"),
        "",
        "How long an unused connection is kept; below the 60 s after which common front doors close it.",
    ),
];

pub(crate) const ROUTE: &[Field] = &[
    field("path", Required, "/api/v1/scim2", "The first segments of the path."),
    field("upstream", Absent, "datasphere", "Where it goes; an only upstream needs no mention."),
    field(
        "profile",
        Required,
        "scim",
        "How the API behaves: odata, scim, transport, audit, rest, cli, csrf, cloud-transport or passthrough.",
    ),
    field("client", Absent, "technical-user", "Another client than the upstream's."),
    field("methods", Absent, "[GET, POST, PUT, PATCH, DELETE]", "Narrows the profile's methods."),
    field(
        "strip_path",
        Text("false"),
        "",
        "Cut `path` from what goes upstream: /ctm/v2/nodes becomes /v2/nodes.",
    ),
    field("headers", Absent, "{}", "More request headers, such as {x-team: reporting}."),
    field(
        "links",
        Text("on"),
        "",
        "Rewrite the tenant's own URLs in answers to this sidecar's, where the profile knows them; off leaves them.",
    ),
];

pub(crate) const ACCESS: &[Field] = &[
    field(
        "hosts",
        Absent,
        "[localhost, 127.0.0.1, \"[::1]\"]",
        "The names that callers may use, without a port; the default is these three. Any other is refused, since a web page may have bound its own name to this address.",
    ),
    field(
        "allow_remote",
        Text("false"),
        "",
        "Allow `listen` addresses that are not loopback; needs basic or api_key_file. There is no TLS on the listener.",
    ),
    field(
        "basic",
        Nested,
        "",
        "A user name and password that callers must show; they do not go upstream.",
    ),
    field(
        "api_key_file",
        Absent,
        "/run/secrets/local_api_key",
        "A file that holds a key which callers must show in X-Api-Key, instead of basic or as another way.",
    ),
    field(
        "uids",
        Absent,
        "[1000]",
        "User ids that may connect to a Unix socket besides bearerd's own. The socket then has mode 0666, and the kernel tells who calls.",
    ),
];

pub(crate) const BASIC: &[Field] = &[
    field("username", Absent, "tool", "The user name."),
    field(
        "password_file",
        Absent,
        "/run/secrets/local_password",
        "A file that holds the password.",
    ),
];

pub(crate) const LIMITS: &[Field] = &[field(
    "requests",
    Text("1024"),
    "",
    "Requests under way at once on a listener; more are answered 503 with Retry-After.",
)];

pub(crate) const LOG: &[Field] = &[
    field("level", Text("info"), "", "error, warn, info, debug or trace."),
    field("format", Text("json"), "", "json or text."),
];

pub(crate) const SHUTDOWN: &[Field] = &[
    field(
        "lame_duck",
        Text("0s"),
        "",
        "How long to go on accepting while /readyz already answers 503.",
    ),
    field(
        "grace",
        Text("25s"),
        "",
        "How long requests in flight may take; the process ends as soon as none is left.",
    ),
];

/// What reading needs at hand: substitution, and where faults go.
pub(crate) struct Reader<'a> {
    pub(crate) environment: &'a Environment,
    pub(crate) faults: Faults,
}

/// A scalar as the reader found it.
pub(crate) struct Scalar<'n> {
    pub(crate) value: String,
    pub(crate) place: &'n Place,
    pub(crate) path: String,
}

/// A mapping read by its table.
pub(crate) struct Section<'n> {
    path: String,
    place: &'n Place,
    fields: &'static [Field],
    entries: &'n [Entry],
}

impl<'n> Section<'n> {
    /// Opens a mapping and refuses the keys its table does not have.
    pub(crate) fn open(
        reader: &mut Reader<'_>,
        node: &'n Node,
        path: &str,
        fields: &'static [Field],
    ) -> Self {
        let entries = match &node.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Null => &[],
            Value::Scalar(_) | Value::List(_) => {
                let message = format!("expected a mapping, found {}", node.shape());
                reader.faults.push(&node.place, path, message);
                &[]
            }
        };
        for entry in entries {
            if !fields.iter().any(|field| field.key == entry.key) {
                let known = fields.iter().map(|field| field.key);
                reader.faults.push(
                    &entry.place,
                    &join(path, &entry.key),
                    unknown("key", &entry.key, known),
                );
            }
        }
        Self { path: path.to_owned(), place: &node.place, fields, entries }
    }

    /// The full path of a key, for messages.
    pub(crate) fn path(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// The mapping's own place.
    pub(crate) const fn place(&self) -> &'n Place {
        self.place
    }

    /// The node at `key`; `None` when the key is missing or empty.
    pub(crate) fn node(&self, key: &str) -> Option<&'n Node> {
        debug_assert!(self.fields.iter().any(|field| field.key == key));
        self.entries
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.node)
            .filter(|node| !matches!(node.value, Value::Null))
    }

    /// The place of `key`, or of the mapping when the key is missing.
    pub(crate) fn place_of(&self, key: &str) -> &'n Place {
        self.node(key).map_or(self.place, |node| &node.place)
    }

    /// The scalar at `key` or its default, with references to the environment replaced.
    pub(crate) fn text(&self, reader: &mut Reader<'_>, key: &str) -> Option<Scalar<'n>> {
        let path = self.path(key);
        if let Some(node) = self.node(key) {
            return scalar(reader, node, &path);
        }
        match self.fields.iter().find(|field| field.key == key)?.default {
            Text(value) => Some(Scalar { value: value.to_owned(), place: &Place::Nowhere, path }),
            Required => {
                let message = "missing; this key is required";
                reader.faults.push(self.place, &path, message);
                None
            }
            Absent | OneOf | Nested => None,
        }
    }

    /// The scalar at `key`, parsed. A value that does not parse is one fault.
    pub(crate) fn parse<T>(
        &self,
        reader: &mut Reader<'_>,
        key: &str,
        parser: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(reader, key)?;
        parser(&text.value)
            .map_err(|message| reader.faults.push(text.place, &text.path, message))
            .ok()
    }

    /// The names and values of a mapping of scalars, such as `token_params`.
    pub(crate) fn pairs(&self, reader: &mut Reader<'_>, key: &str) -> Vec<(&'n str, Scalar<'n>)> {
        let path = self.path(key);
        named(reader, self.node(key), &path)
            .iter()
            .filter_map(|entry| {
                let text = scalar(reader, &entry.node, &join(&path, &entry.key))?;
                Some((entry.key.as_str(), text))
            })
            .collect()
    }

    /// The scalars of a list; a single scalar counts as a list of one.
    pub(crate) fn list(&self, reader: &mut Reader<'_>, key: &str) -> Vec<Scalar<'n>> {
        match self.node(key).map(|node| &node.value) {
            Some(Value::List(items)) => items
                .iter()
                .enumerate()
                .filter_map(|(index, item)| {
                    scalar(reader, item, &format!("{}[{index}]", self.path(key)))
                })
                .collect(),
            _ => self.text(reader, key).into_iter().collect(),
        }
    }
}

/// The entries of a mapping whose keys are the user's own names.
pub(crate) fn named<'n>(
    reader: &mut Reader<'_>,
    node: Option<&'n Node>,
    path: &str,
) -> &'n [Entry] {
    match node.map(|node| (&node.value, node)) {
        Some((Value::Map(entries), _)) => entries,
        Some((Value::Null, _)) | None => &[],
        Some((_, node)) => {
            let message = format!("expected a mapping, found {}", node.shape());
            reader.faults.push(&node.place, path, message);
            &[]
        }
    }
}

fn scalar<'n>(reader: &mut Reader<'_>, node: &'n Node, path: &str) -> Option<Scalar<'n>> {
    let Value::Scalar(written) = &node.value else {
        let message = format!("expected a single value, found {}", node.shape());
        reader.faults.push(&node.place, path, message);
        return None;
    };
    match reader.environment.expand(written) {
        Ok(value) => Some(Scalar { value, place: &node.place, path: path.to_owned() }),
        Err(message) => {
            reader.faults.push(&node.place, path, message);
            None
        }
    }
}

/// "unknown key `lisen`; did you mean `listen`?", or the list of what there is.
pub(crate) fn unknown<'a>(
    what: &str,
    given: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> String {
    let nearest = known
        .clone()
        .map(|candidate| (strsim::jaro_winkler(candidate, given), candidate))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((likeness, candidate)) if likeness > 0.8 => {
            format!("unknown {what} `{given}`; did you mean `{candidate}`?")
        }
        _ => {
            let known: Vec<_> = known.collect();
            format!("unknown {what} `{given}`; known: {}", known.join(", "))
        }
    }
}

/// `clients` + `name` is `clients.name`.
pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
