//! The wire form: every key with its default and its documentation, in one table a section.
//!
//! The tables are the schema (a key that is not in them is refused, with a suggestion), the
//! defaults (read from here when a key is missing) and the text of `bearerd reference`, so that
//! the three cannot disagree.

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

/// The keys that name one part of an identity each. `credentials` stands for all of them.
pub(crate) const IDENTITY_KEYS: [&str; 8] = [
    "token_url",
    "client_id",
    "client_secret",
    "client_secret_file",
    "client_secret_next_file",
    "certificate_file",
    "private_key_file",
    "key_id",
];

const fn field(
    key: &'static str,
    default: Fallback,
    example: &'static str,
    doc: &'static str,
) -> Field {
    Field { key, default, example, doc }
}

use Fallback::{Absent, Nested, OneOf, Required, Text};

/// Of clients and upstreams alike.
const MIN_TLS: Field =
    field("min_tls", Text("1.2"), "", "The least version of TLS that is spoken: 1.2 or 1.3.");
const PROXY: Field = field(
    "proxy",
    Absent,
    "http://proxy.corp:3128",
    "The forward proxy on the way there, as http://user:password@host:port, or off for none. The default is that of HTTPS_PROXY, but for loopback and what NO_PROXY names.",
);
const PROXY_CREDENTIALS_FILE: Field = field(
    "proxy_credentials_file",
    Absent,
    "/run/secrets/proxy_credentials",
    "A file that holds user:password for `proxy`, or for HTTPS_PROXY.",
);

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
        "Which paths go where; whole segments, the longest path wins. Without routes, an only upstream gets the default paths of all profiles, and so does each of several that have `listen` addresses of their own.",
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
    MIN_TLS,
    PROXY,
    PROXY_CREDENTIALS_FILE,
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
    field(
        "listen",
        Absent,
        "127.0.0.2:8080",
        "Where the upstream's routes are served, if not on every address of the root's `listen`: one of those, or a list. With addresses of their own for each, several upstreams need no `routes`.",
    ),
    field("timeouts", Nested, "", "Time-outs towards the upstream."),
    field(
        "max_in_flight",
        Absent,
        "20",
        "How many requests the upstream gets at once; more stand in the queue. The default is no limit but limits.requests.",
    ),
    field("queue", Nested, "", "Where requests wait that max_in_flight keeps back."),
    field("csrf", Nested, "", "SAP's protection against cross-site requests."),
    field(
        "ca_file",
        Absent,
        "/etc/ssl/private-ca.pem",
        "More trust anchors, PEM. The system's stay trusted.",
    ),
    MIN_TLS,
    field(
        "certificate_file",
        Absent,
        "/run/secrets/upstream.crt",
        "The certificate chain by which the sidecar proves itself to the upstream, PEM; with private_key_file.",
    ),
    field(
        "private_key_file",
        Absent,
        "/run/secrets/upstream.key",
        "The key of certificate_file, PEM.",
    ),
    field(
        "http2",
        Text("false"),
        "",
        "Speak HTTP/2 where the upstream does (by ALPN, so with https only); otherwise HTTP/1.1 as ever, and for long uploads in any case.",
    ),
    PROXY,
    PROXY_CREDENTIALS_FILE,
    field(
        "allow_cleartext",
        Text("false"),
        "",
        "Allow http:// to a host that is not loopback. The token then travels unprotected.",
    ),
];

pub(crate) const QUEUE: &[Field] = &[
    field("length", Text("100"), "", "How many may wait; more are answered 503 with Retry-After."),
    field("wait", Text("5s"), "", "How long each may wait; then it is answered 503, too."),
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
    field(
        "write",
        Text("60s"),
        "",
        "Between two writes of the request; and how long the upstream may acknowledge but take nothing of a body over 64 KiB.",
    ),
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
    field(
        "listen",
        Absent,
        "127.0.0.2:8080",
        "Where it is served, if not where its upstream says: one of the root's `listen` addresses, or a list.",
    ),
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
    field(
        "html",
        Text("off"),
        "",
        "Serve HTML; on passes pages as they come, but for one that sets the cookies of SAP's login page. Elsewhere a page in answer to a read is looked at before it is passed on, whatever the caller accepts: the tenant's login page is no data but a refused token.",
    ),
    field(
        "unchecked_batches",
        Text("off"),
        "",
        "Let batches (OData's $batch, SCIM's Bulk) through without a look at the requests inside of them: these reach every path of the upstream, with every method. For batches that can't be checked only.",
    ),
    field(
        "retry",
        Absent,
        "{ attempts: 3, max_wait: 10s }",
        "Send a GET or HEAD again that the upstream answers with 429 or 503, after the time that its Retry-After asks for, or else 1s, 2s, 4s... attempts: how often in all (2 to 10, 3 unless given); max_wait: how long one request waits in all (10s unless given). What asks for more is passed on.",
    ),
];

pub(crate) const RETRY: &[Field] = &[
    field("attempts", Text("3"), "", "How often a request is sent in all."),
    field("max_wait", Text("10s"), "", "How long one request waits in all."),
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
    "Requests under way at once on a listener; more are answered 503 with Retry-After. Eight take at most 64 MiB of memory, each further one 1 MiB.",
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
