//! Every key of the file, with its default and its documentation. Each section has one table.
//!
//! The tables are the schema (an unknown key is refused, with a suggestion), the defaults of
//! missing keys, and the texts of `bearerd reference` and `bearerd schema`, so that the four cannot
//! disagree.

mod access;
mod audit;
mod listener;

pub(crate) use access::{ACCESS, BASIC, CALLER, CALLER_BASIC, CALLER_CERTIFICATE, CALLER_LIMITS};
pub(crate) use audit::AUDIT;
pub(crate) use listener::{ADMIN, ADMIN_TLS, LISTENER, LISTENER_TLS};

use super::field::Fallback::{Absent, Nested, OneOf, Required, Text};
use super::field::{Field, Form, field};
use super::value::MOST_REQUESTS as REQUESTS;
use crate::profile::METHODS;
use listener::MIN_TLS;

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

const PROXY: Field = field(
    "proxy",
    Form::Text,
    Absent,
    "http://proxy.corp:3128",
    "The forward proxy as http://user:password@host:port, or off for a direct connection. The default is the proxy in HTTPS_PROXY, except for loopback addresses and for hosts that NO_PROXY names.",
);
const PROXY_CREDENTIALS_FILE: Field = field(
    "proxy_credentials_file",
    Form::Text,
    Absent,
    "/run/secrets/proxy_credentials",
    "A file that holds user:password for the proxy in `proxy` or in HTTPS_PROXY.",
);

pub(crate) const ROOT: &[Field] = &[
    field(
        "listen",
        Form::TextsOrSections(LISTENER),
        Text("127.0.0.1:8080"),
        "",
        "The address to which callers connect: a loopback IP address with its port, unix:/path/to.sock, or a list of these. An address that is not loopback needs access.allow_remote. In a list, an address may be a mapping, as below.",
    ),
    field(
        "workers",
        Form::NumberOr("auto", 1, 256),
        Text("1"),
        "",
        "The number of threads that serve requests; `auto` means one for each core.",
    ),
    field(
        "admin",
        Form::Section(ADMIN),
        Nested,
        "",
        "The listener for probes, metrics and the status page. It asks for no credential, and serves no answer of the tenant. Only on a loopback address, it lists paths of failed requests, the tenants and the name of this file. Reasons of failures may name hosts and files on any address.",
    ),
    field(
        "clients",
        Form::Named("technical-user", CLIENT),
        Nested,
        "",
        "OAuth clients, each under a name of your choice.",
    ),
    field(
        "upstreams",
        Form::Named("datasphere", UPSTREAM),
        Nested,
        "",
        "The services to which requests are sent, each under a name of your choice.",
    ),
    field(
        "routes",
        Form::Sections(ROUTE),
        Absent,
        "",
        "The paths that are served, each with its upstream. A path matches whole segments, and the longest match wins. Without routes, a single upstream gets the default paths of all profiles. Several upstreams get them too, if each has `listen` addresses of its own.",
    ),
    field(
        "access",
        Form::Section(ACCESS),
        Nested,
        "",
        "Which callers may connect. Their requests have the rights of the OAuth client.",
    ),
    field(
        "callers",
        Form::Named("etl", CALLER),
        Absent,
        "",
        "Callers with names, each with a credential of its own. A caller may have fewer rights than the OAuth client. If one caller is configured, a request of anyone else is refused, on loopback too. The credential of `access` stays valid: it is a caller with all rights and without a name.",
    ),
    field(
        "audit",
        Form::Section(AUDIT),
        Absent,
        "",
        "The audit log: for each write and each refused request, who did what. A write whose line can't be written is refused.",
    ),
    field("limits", Form::Section(LIMITS), Nested, "", "Limits of concurrent requests."),
    field(
        "sandbox",
        Form::Switch,
        Text("on"),
        "",
        "on: if the kernel has Landlock, the process can write no files, except in the folder of `audit`. It can read only the files that are named here, other files in their folders, and what the system's libraries need. A reload can't add other folders; that needs a restart. off: the process is not restricted.",
    ),
    field("log", Form::Section(LOG), Nested, "", "The log on standard error."),
    field(
        "shutdown",
        Form::Section(SHUTDOWN),
        Nested,
        "",
        "How the process ends after SIGTERM or SIGINT. A second signal ends it at once.",
    ),
];

pub(crate) const CLIENT: &[Field] = &[
    field(
        "token_url",
        Form::Text,
        OneOf,
        "https://acme.authentication.eu10.hana.ondemand.com/oauth/token",
        "The issuer's token endpoint, as the tenant's App Integration page shows it.",
    ),
    field("client_id", Form::Text, OneOf, "sb-1f2e!b42|client!b7", "The OAuth client's id."),
    field(
        "client_secret",
        Form::Text,
        Absent,
        "${CLIENT_SECRET}",
        "The OAuth client's secret, instead of client_secret_file.",
    ),
    field(
        "client_secret_file",
        Form::Text,
        OneOf,
        "/run/secrets/client_secret",
        "A file that holds the secret; a line break at its end is ignored. The file is watched: a new secret is tried while the old token stays in use.",
    ),
    field(
        "client_secret_next_file",
        Form::Text,
        Absent,
        "/run/secrets/client_secret_next",
        "A file that may hold the next secret. It is tried when the issuer refuses the one in client_secret_file.",
    ),
    field(
        "credentials",
        Form::Text,
        Absent,
        "/etc/secrets/key.json",
        "Instead of all keys above: a file or folder that holds id, secret (or certificate) and token URL in one of SAP's formats, or env:NAME if an environment variable holds them. A file or folder is watched.",
    ),
    field(
        "binding",
        Form::Section(BINDING),
        Absent,
        "{ name: my-datasphere }",
        "Which of several bindings in `credentials` is used, by its name, label, tag or plan.",
    ),
    field(
        "client_auth",
        Form::Words(&["post", "basic", "basic-encoded", "mtls", "private-key-jwt"]),
        Absent,
        "post",
        "How the client authenticates: post (secret in the form body, the default), basic (HTTP Basic, id and secret as they are), basic-encoded (HTTP Basic, form-encoded, with X-CF-ENCODED-CREDENTIALS), mtls (certificate_file and private_key_file) or private-key-jwt (private_key_file).",
    ),
    field(
        "certificate_file",
        Form::Text,
        Absent,
        "/run/secrets/client.crt",
        "The file of the client's certificate chain for mtls, as PEM. It is watched.",
    ),
    field(
        "private_key_file",
        Form::Text,
        Absent,
        "/run/secrets/client.key",
        "The file of the private key for mtls or private-key-jwt, as PEM. It is watched.",
    ),
    field(
        "key_id",
        Form::Text,
        Absent,
        "key-1",
        "The id under which the issuer knows the key of private-key-jwt.",
    ),
    field(
        "scope",
        Form::Text,
        Absent,
        "",
        "The scopes to request, separated by spaces. Empty means all scopes of the client.",
    ),
    field("token_params", Form::Pairs, Absent, "{}", "Additional parameters of the token request."),
    field(
        "expires_on",
        Form::Date,
        Absent,
        "2027-02-20",
        "The day on which the OAuth client itself expires (three months after its creation unless set otherwise). It is used for the metric, for its alert and for warnings in the log.",
    ),
    field(
        "refresh_at",
        Form::Fraction,
        Text("0.5"),
        "",
        "The fraction of a token's lifetime after which the next token is fetched, from 0.1 to 0.9.",
    ),
    field(
        "wait",
        Form::Duration,
        Text("5s"),
        "",
        "The longest time a request waits for a usable token; at most 60s.",
    ),
    field(
        "ca_file",
        Form::Text,
        Absent,
        "/etc/ssl/private-ca.pem",
        "A file of additional trust anchors for the token endpoint, as PEM. The system's anchors stay trusted.",
    ),
    MIN_TLS,
    PROXY,
    PROXY_CREDENTIALS_FILE,
    field(
        "allow_cleartext",
        Form::Switch,
        Text("false"),
        "",
        "Allows http:// to a host that is not loopback. The secret is then sent unencrypted.",
    ),
];

pub(crate) const BINDING: &[Field] = &[
    field(
        "name",
        Form::Text,
        Absent,
        "my-datasphere",
        "The binding's or the service instance's name.",
    ),
    field("label", Form::Text, Absent, "xsuaa", "The service's label."),
    field("tag", Form::Text, Absent, "xsuaa", "One of the service's tags."),
    field("plan", Form::Text, Absent, "apiaccess", "The service's plan."),
];

pub(crate) const UPSTREAM: &[Field] = &[
    field(
        "url",
        Form::Text,
        OneOf,
        "https://acme.eu10.hcs.cloud.sap",
        "The tenant's origin: scheme, host and port, without a path. The client's `credentials` may name it instead.",
    ),
    field(
        "client",
        Form::Text,
        Absent,
        "technical-user",
        "The OAuth client whose token is injected; optional if there is only one client.",
    ),
    field(
        "listen",
        Form::List(&Form::Text),
        Absent,
        "127.0.0.2:8080",
        "The address on which the upstream's routes are served: one of the root's `listen` addresses, or a list of them. The default is all of them. If each of several upstreams has addresses of its own, `routes` can be left out.",
    ),
    field(
        "connect_to",
        Form::List(&Form::Text),
        Absent,
        "acme.tenant.internal",
        "The name or IP addresses to connect to, instead of the URL's host, for a machine on which that host leads to bearerd itself. TLS is verified for the URL's host. It has no effect through a forward proxy.",
    ),
    field(
        "timeouts",
        Form::Section(TIMEOUTS),
        Nested,
        "",
        "The timeouts of the upstream's connections and requests.",
    ),
    field(
        "max_in_flight",
        Form::Number(1, REQUESTS),
        Absent,
        "20",
        "The largest number of concurrent requests to the upstream; further requests wait in the queue. By default, only limits.requests limits them.",
    ),
    field("queue", Form::Section(QUEUE), Nested, "", "The queue of requests beyond max_in_flight."),
    field("csrf", Form::Section(CSRF), Nested, "", "SAP's protection against cross-site requests."),
    field(
        "ca_file",
        Form::Text,
        Absent,
        "/etc/ssl/private-ca.pem",
        "A file of additional trust anchors, as PEM. The system's anchors stay trusted.",
    ),
    MIN_TLS,
    field(
        "certificate_file",
        Form::Text,
        Absent,
        "/run/secrets/upstream.crt",
        "The file of the sidecar's certificate chain for mutual TLS with the upstream, as PEM. Needs private_key_file.",
    ),
    field(
        "private_key_file",
        Form::Text,
        Absent,
        "/run/secrets/upstream.key",
        "The file of the private key of certificate_file, as PEM.",
    ),
    field(
        "http2",
        Form::Switch,
        Text("false"),
        "",
        "Uses HTTP/2 if the upstream supports it, otherwise HTTP/1.1. ALPN decides, so the URL must be https. Long uploads use HTTP/1.1 unless the upstream supports HTTP/2 only.",
    ),
    PROXY,
    PROXY_CREDENTIALS_FILE,
    field(
        "allow_cleartext",
        Form::Switch,
        Text("false"),
        "",
        "Allows http:// to a host that is not loopback. The token is then sent unencrypted.",
    ),
];

pub(crate) const QUEUE: &[Field] = &[
    field(
        "length",
        Form::Number(0, REQUESTS),
        Text("100"),
        "",
        "The largest number of waiting requests. Further requests are answered 503 with Retry-After.",
    ),
    field(
        "wait",
        Form::Duration,
        Text("5s"),
        "",
        "The longest time a request waits in the queue. After that it is answered 503 with Retry-After.",
    ),
];

pub(crate) const CSRF: &[Field] = &[
    field(
        "managed",
        Form::Switch,
        Text("true"),
        "",
        "Fetches CSRF tokens and adds them to writes that have none, on routes whose profile needs them.",
    ),
    field(
        "fetch_path",
        Form::Text,
        Text("/api/v1/csrf"),
        "",
        "The path from which CSRF tokens are fetched.",
    ),
];

pub(crate) const TIMEOUTS: &[Field] = &[
    field(
        "connect",
        Form::Duration,
        Text("5s"),
        "",
        "The time limit for opening the TCP connection, and again for the TLS handshake. When it is exceeded, the next address is tried.",
    ),
    field(
        "read",
        Form::Duration,
        Text("300s"),
        "",
        "The longest pause between two reads of the response; it includes the wait for the first byte, which takes long for analytical queries.",
    ),
    field(
        "write",
        Form::Duration,
        Text("60s"),
        "",
        "The longest pause between two writes of the request. For a body over 64 KiB, also the longest time for which the upstream may acknowledge packets but read nothing of the body.",
    ),
    field(
        "idle",
        Form::Duration,
        Text("50s"),
        "",
        "The longest time an unused connection is kept open. Keep it below the 60 s after which common load balancers close connections.",
    ),
];

pub(crate) const ROUTE: &[Field] = &[
    field(
        "path",
        Form::Text,
        Required,
        "/api/v1/scim2",
        "The first segments of the paths that the route serves.",
    ),
    field(
        "upstream",
        Form::Text,
        Absent,
        "datasphere",
        "The upstream to which requests are sent; optional if there is only one.",
    ),
    field(
        "profile",
        Form::Words(&[
            "odata",
            "scim",
            "transport",
            "audit",
            "rest",
            "cli",
            "csrf",
            "cloud-transport",
            "passthrough",
        ]),
        Required,
        "scim",
        "How the API behaves: odata, scim, transport, audit, rest, cli, csrf, cloud-transport or passthrough.",
    ),
    field(
        "client",
        Form::Text,
        Absent,
        "technical-user",
        "The client whose token is injected. The default is the upstream's client.",
    ),
    field(
        "listen",
        Form::List(&Form::Text),
        Absent,
        "127.0.0.2:8080",
        "The address on which the route is served: one of the root's `listen` addresses, or a list of them. The default is the `listen` of its upstream.",
    ),
    field(
        "methods",
        Form::List(&Form::Words(&METHODS)),
        Absent,
        "[GET, POST, PUT, PATCH, DELETE]",
        "The methods that are allowed: some of the profile's methods. The default is all of them.",
    ),
    field(
        "strip_path",
        Form::Switch,
        Text("false"),
        "",
        "Removes `path` from the beginning of request targets: with path /ctm, /ctm/v2/nodes becomes /v2/nodes.",
    ),
    field(
        "headers",
        Form::Pairs,
        Absent,
        "{}",
        "Headers that are added to each request, for example {x-team: reporting}.",
    ),
    field(
        "links",
        Form::Switch,
        Text("on"),
        "",
        "on: in the places that the profile knows, the tenant's URLs in responses become the sidecar's. In requests, the sidecar's URLs become the tenant's. off: all URLs stay as they are.",
    ),
    field(
        "html",
        Form::Switch,
        Text("off"),
        "",
        "Whether the route serves HTML pages. off: a page in response to a read is checked first, whatever the caller accepts. If it is the tenant's login page, the token was refused. on: pages are passed on unchecked. Only a page that sets the cookies of SAP's login page still means that the token was refused.",
    ),
    field(
        "unchecked_batches",
        Form::Switch,
        Text("off"),
        "",
        "on: batches (OData's $batch, SCIM's Bulk) are passed on, and the requests in them are not checked. These requests can then reach every path of the upstream with every method. Use it only for batches that can't be checked. off: each request in a batch is checked.",
    ),
    field(
        "retry",
        Form::Section(RETRY),
        Absent,
        "{ attempts: 3, max_wait: 10s }",
        "Retries a GET or HEAD that the upstream answers with 429 or 503. The wait is the time in Retry-After; without that header, it is 1s, then 2s, 4s... attempts: the largest number of attempts (2 to 10, default 3). max_wait: the longest total waiting time of a request (default 10s). A response that asks for a longer wait is passed on.",
    ),
];

pub(crate) const RETRY: &[Field] = &[
    field("attempts", Form::Number(2, 10), Text("3"), "", "The largest number of attempts."),
    field(
        "max_wait",
        Form::Duration,
        Text("10s"),
        "",
        "The longest total waiting time of a request.",
    ),
];

pub(crate) const LIMITS: &[Field] = &[field(
    "requests",
    Form::Number(1, REQUESTS),
    Text("1024"),
    "",
    "The largest number of concurrent requests on each listener. Further requests are answered 503 with Retry-After. Eight requests take at most 64 MiB of memory in total, and each further request takes at most 1 MiB.",
)];

pub(crate) const LOG: &[Field] = &[
    field(
        "level",
        Form::Words(&["error", "warn", "info", "debug", "trace"]),
        Text("info"),
        "",
        "The least severe level that is logged: error, warn, info, debug or trace.",
    ),
    field(
        "format",
        Form::Words(&["auto", "json", "text"]),
        Text("auto"),
        "",
        "The form of a log line: json, text, or auto, which is text on a terminal and json anywhere else.",
    ),
];

pub(crate) const SHUTDOWN: &[Field] = &[
    field(
        "lame_duck",
        Form::Duration,
        Text("0s"),
        "",
        "The time for which requests are still accepted while /readyz already answers 503.",
    ),
    field(
        "grace",
        Form::Duration,
        Text("25s"),
        "",
        "The time limit of requests in flight after lame_duck. The process ends as soon as none is left.",
    ),
];
