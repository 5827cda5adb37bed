//! Every key of the file with its default and its documentation, one table for each section.
//!
//! The tables are the schema (an unknown key is refused, with a suggestion), the defaults of
//! missing keys, and the text of `bearerd reference`, so that the three cannot disagree.

/// One documented key.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) key: &'static str,
    pub(crate) default: Fallback,
    /// Value in the reference if there is no default.
    pub(crate) example: &'static str,
    pub(crate) doc: &'static str,
}

/// The effect of a missing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// A fault: the key must be given.
    Required,
    /// No value: the feature is off, or its value is derived.
    Absent,
    /// No value, but one key of a group must be given. The reference shows this one.
    OneOf,
    /// The value of this text.
    Text(&'static str),
    /// The defaults of a section.
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

const MIN_TLS: Field =
    field("min_tls", Text("1.2"), "", "The lowest version of TLS that is accepted: 1.2 or 1.3.");
const PROXY: Field = field(
    "proxy",
    Absent,
    "http://proxy.corp:3128",
    "The forward proxy, as http://user:password@host:port, or off for none. The default is that of HTTPS_PROXY, except for loopback addresses and for hosts that NO_PROXY names.",
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
    field("workers", Text("1"), "", "Threads that serve requests; `auto` means one for each core."),
    field(
        "admin",
        Nested,
        "",
        "The listener for probes and metrics. It serves no tenant data and needs no token.",
    ),
    field("clients", Nested, "", "OAuth clients, each under a name of your choice."),
    field(
        "upstreams",
        Nested,
        "",
        "The services that requests are sent to, each under a name of your choice.",
    ),
    field(
        "routes",
        Absent,
        "",
        "Which paths go to which upstream. Paths match by whole segments, and the longest one wins. Without routes, a single upstream gets the default paths of all profiles, and so does each of several upstreams that have `listen` addresses of their own.",
    ),
    field(
        "access",
        Nested,
        "",
        "Which clients may connect. Their requests have the rights of the OAuth client.",
    ),
    field("limits", Nested, "", "Limits of concurrent requests."),
    field(
        "sandbox",
        Text("on"),
        "",
        "If the kernel has Landlock, the process can write no files, and can read only those that are named here (with their folders). A reload then can't add other folders.",
    ),
    field("log", Nested, "", "The log on standard error."),
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
        "A file that holds the secret; a final line break is removed. It is watched: a new secret is tried while the old token stays in use.",
    ),
    field(
        "client_secret_next_file",
        Absent,
        "/run/secrets/client_secret_next",
        "A file that may hold the next secret, which is tried when the issuer refuses the first.",
    ),
    field(
        "credentials",
        Absent,
        "/etc/secrets/key.json",
        "Instead of all the above: a file or folder that holds id, secret (or certificate) and token URL in one of SAP's formats, or env:NAME if a variable holds them. It is watched.",
    ),
    field(
        "binding",
        Absent,
        "{ name: my-datasphere }",
        "Selects one of several bindings in `credentials` by name, label, tag or plan.",
    ),
    field(
        "client_auth",
        Absent,
        "post",
        "How the client authenticates: post (secret in the form body, the default), basic (raw), basic-encoded (form-encoded, with X-CF-ENCODED-CREDENTIALS), mtls (certificate_file and private_key_file), or private-key-jwt (private_key_file).",
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
        "Scopes to request, separated by spaces; empty requests all scopes of the client.",
    ),
    field("token_params", Absent, "{}", "Additional parameters of the token request."),
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
        "The fraction of a token's lifetime after which the next token is fetched; from 0.1 to 0.9.",
    ),
    field("wait", Text("5s"), "", "How long a request may wait for a first token; at most 60s."),
    field(
        "ca_file",
        Absent,
        "/etc/ssl/private-ca.pem",
        "A file of additional trust anchors for the token endpoint, PEM. The system's anchors stay trusted.",
    ),
    MIN_TLS,
    PROXY,
    PROXY_CREDENTIALS_FILE,
    field(
        "allow_cleartext",
        Text("false"),
        "",
        "Allow http:// to a host that is not loopback. The secret is then sent unencrypted.",
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
        "The OAuth client whose token is injected; optional if there is only one.",
    ),
    field(
        "listen",
        Absent,
        "127.0.0.2:8080",
        "Where the upstream's routes are served, if not on every address of the root's `listen`: one of those, or a list. Several upstreams with addresses of their own need no `routes`.",
    ),
    field("timeouts", Nested, "", "Time-outs of the upstream."),
    field(
        "max_in_flight",
        Absent,
        "20",
        "The largest number of concurrent requests to the upstream; others wait in the queue. By default, only limits.requests limits them.",
    ),
    field("queue", Nested, "", "The queue of requests beyond max_in_flight."),
    field("csrf", Nested, "", "SAP's protection against cross-site requests."),
    field(
        "ca_file",
        Absent,
        "/etc/ssl/private-ca.pem",
        "A file of additional trust anchors, PEM. The system's anchors stay trusted.",
    ),
    MIN_TLS,
    field(
        "certificate_file",
        Absent,
        "/run/secrets/upstream.crt",
        "The sidecar's certificate chain for mutual TLS with the upstream, PEM; needs private_key_file.",
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
        "Use HTTP/2 if the upstream supports it (by ALPN, so with https only), otherwise HTTP/1.1. Long uploads always use HTTP/1.1.",
    ),
    PROXY,
    PROXY_CREDENTIALS_FILE,
    field(
        "allow_cleartext",
        Text("false"),
        "",
        "Allow http:// to a host that is not loopback. The token is then sent unencrypted.",
    ),
];

pub(crate) const QUEUE: &[Field] = &[
    field(
        "length",
        Text("100"),
        "",
        "The largest number of waiting requests; others are answered 503 with Retry-After.",
    ),
    field("wait", Text("5s"), "", "How long a request may wait; then it is answered 503, too."),
];

pub(crate) const CSRF: &[Field] = &[
    field(
        "managed",
        Text("true"),
        "",
        "Fetch CSRF tokens, and add them to writes that have none, on routes whose profile needs them.",
    ),
    field("fetch_path", Text("/api/v1/csrf"), "", "The path where a token is fetched."),
];

pub(crate) const TIMEOUTS: &[Field] = &[
    field(
        "connect",
        Text("5s"),
        "",
        "For the TCP connection and, again, for the TLS handshake; if it passes, the next address is tried.",
    ),
    field(
        "read",
        Text("300s"),
        "",
        "Between two reads of the response; analytical queries take long until the first byte.",
    ),
    field(
        "write",
        Text("60s"),
        "",
        "Between two writes of the request; also how long the upstream may acknowledge packets but read nothing of a body over 64 KiB.",
    ),
    field(
        "idle",
        Text("50s"),
        "",
        "How long an unused connection is kept; less than the 60 s after which common load balancers close it.",
    ),
];

pub(crate) const ROUTE: &[Field] = &[
    field("path", Required, "/api/v1/scim2", "The first segments of the path."),
    field("upstream", Absent, "datasphere", "The upstream; optional if there is only one."),
    field(
        "profile",
        Required,
        "scim",
        "How the API behaves: odata, scim, transport, audit, rest, cli, csrf, cloud-transport or passthrough.",
    ),
    field("client", Absent, "technical-user", "A client other than the upstream's."),
    field(
        "listen",
        Absent,
        "127.0.0.2:8080",
        "Where the route is served, if not where its upstream says: one of the root's `listen` addresses, or a list.",
    ),
    field("methods", Absent, "[GET, POST, PUT, PATCH, DELETE]", "Narrows the profile's methods."),
    field(
        "strip_path",
        Text("false"),
        "",
        "Remove `path` from the target of requests: /ctm/v2/nodes becomes /v2/nodes.",
    ),
    field("headers", Absent, "{}", "Additional request headers, for example {x-team: reporting}."),
    field(
        "links",
        Text("on"),
        "",
        "Rewrite the tenant's own URLs in responses to the sidecar's, as far as the profile knows them; off leaves them.",
    ),
    field(
        "html",
        Text("off"),
        "",
        "Serve HTML. on passes pages on unchanged, except one that sets the cookies of SAP's login page. off checks a page in response to a read first, whatever the client accepts: the tenant's login page means that the token was refused.",
    ),
    field(
        "unchecked_batches",
        Text("off"),
        "",
        "Pass batches on (OData's $batch, SCIM's Bulk) without a check of the requests in them: these then reach every path of the upstream with every method. Only for batches that can't be checked.",
    ),
    field(
        "retry",
        Absent,
        "{ attempts: 3, max_wait: 10s }",
        "Retry a GET or HEAD that the upstream answers with 429 or 503, after the time in its Retry-After, or else after 1s, 2s, 4s... attempts: number of attempts (2 to 10, default 3); max_wait: total waiting time of a request (default 10s). A response that asks for a longer wait is passed on.",
    ),
];

pub(crate) const RETRY: &[Field] = &[
    field("attempts", Text("3"), "", "The number of attempts."),
    field("max_wait", Text("10s"), "", "The total waiting time of a request."),
];

pub(crate) const ACCESS: &[Field] = &[
    field(
        "hosts",
        Absent,
        "[localhost, 127.0.0.1, \"[::1]\"]",
        "The host names that clients may use, without a port; the default is these three. Any other is refused, since a web page may have bound its own name to this address.",
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
        "A user name and password that clients must present; they are not sent upstream.",
    ),
    field(
        "api_key_file",
        Absent,
        "/run/secrets/local_api_key",
        "A file that holds a key that clients must present in X-Api-Key, instead of basic or as an alternative to it.",
    ),
    field(
        "uids",
        Absent,
        "[1000]",
        "User ids that may connect to a Unix socket besides bearerd's own. The socket then has mode 0666, and the kernel identifies the client.",
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
    "Concurrent requests on a listener; others are answered 503 with Retry-After. Eight take at most 64 MiB of memory, each further one 1 MiB.",
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
        "How long requests are still accepted while /readyz already answers 503.",
    ),
    field(
        "grace",
        Text("25s"),
        "",
        "How long requests under way may take; the process ends as soon as none is left.",
    ),
];
