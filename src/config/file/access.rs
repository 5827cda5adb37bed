//! Keys of the callers: which may connect, and what each may do.

use crate::config::field::Fallback::{Absent, Required, Text};
use crate::config::field::{Field, Form, field};
use crate::config::value::MOST_REQUESTS as REQUESTS;
use crate::profile::METHODS;

pub(crate) const ACCESS: &[Field] = &[
    field(
        "hosts",
        Form::List(&Form::Text),
        Absent,
        "[localhost, 127.0.0.1, \"[::1]\"]",
        "The host names that callers may use, without a port. The default is these three. Any other name is refused, because a web page may have bound its own name to this address.",
    ),
    field(
        "allow_remote",
        Form::Switch,
        Text("false"),
        "",
        "Allows `listen` addresses that are not loopback. Needs basic, api_key_file or `callers`. Without `tls` on the listener, everything between it and the caller is unencrypted.",
    ),
    field(
        "basic",
        Form::Section(BASIC),
        Absent,
        "",
        "A user name and password that callers must present. bearerd does not send them to the upstream.",
    ),
    field(
        "api_key_file",
        Form::Text,
        Absent,
        "/run/secrets/local_api_key",
        "A file that holds the key that callers must present in X-Api-Key. If basic is set too, either of them is enough. bearerd does not send the key to the upstream.",
    ),
    field(
        "uids",
        Form::List(&Form::Number(0, u32::MAX)),
        Absent,
        "[1000]",
        "User ids that may connect to a Unix socket, besides bearerd's own and those of `callers`. If there are `callers`, these users can connect, but their requests need a caller's credential. The socket then has mode 0666, and the kernel identifies the caller's user.",
    ),
];

pub(crate) const BASIC: &[Field] = &[
    field("username", Form::Text, Required, "tool", "The user name."),
    field(
        "password_file",
        Form::Text,
        Required,
        "/run/secrets/local_password",
        "A file that holds the password.",
    ),
];

pub(crate) const CALLER: &[Field] = &[
    field(
        "api_key_file",
        Form::Text,
        Absent,
        "/run/secrets/etl_key",
        "A file of keys that the caller sends in X-Api-Key. One key a line, at most two: the old one and the new one. A key has at least 32 characters; `bearerd key` makes one. Instead of a key, a line may hold its digest, as sha256:… The file is watched.",
    ),
    field(
        "basic",
        Form::Section(CALLER_BASIC),
        Absent,
        "",
        "A user name and passwords that the caller sends by HTTP Basic.",
    ),
    field(
        "uids",
        Form::List(&Form::Number(0, u32::MAX)),
        Absent,
        "[1004]",
        "User ids of the caller on a Unix socket. They may connect as those in access.uids.",
    ),
    field(
        "certificate",
        Form::Section(CALLER_CERTIFICATE),
        Absent,
        "",
        "The name in the caller's certificate. Needs a listener with client_ca_file.",
    ),
    field(
        "routes",
        Form::List(&Form::Text),
        Absent,
        "[/api/v1/datasphere/consumption]",
        "The routes that the caller may use, by their paths. Where several tenants have the same path, the address precedes it: 127.0.0.2:8080/api/v1/scim2. The default is all routes.",
    ),
    field(
        "methods",
        Form::List(&Form::Words(&METHODS)),
        Absent,
        "[GET, HEAD]",
        "Methods that the caller may use, where the route allows them too. The default is all methods of the route.",
    ),
    field(
        "client",
        Form::Text,
        Absent,
        "technical-user",
        "The OAuth client whose token is injected into the caller's requests, to one upstream. The default is the route's.",
    ),
    field("limits", Form::Section(CALLER_LIMITS), Absent, "", "Limits of the caller's requests."),
];

pub(crate) const CALLER_BASIC: &[Field] = &[
    field("username", Form::Text, Required, "etl", "The user name."),
    field(
        "password_file",
        Form::Text,
        Required,
        "/run/secrets/etl_password",
        "A file of passwords. One password a line, at most two. A password has at least 16 characters, or is given as sha256:… The file is watched.",
    ),
];

pub(crate) const CALLER_CERTIFICATE: &[Field] = &[
    field(
        "san_uri",
        Form::Text,
        Absent,
        "spiffe://corp.example/etl",
        "A URI among the certificate's alternative names. Give this, or san_dns.",
    ),
    field(
        "san_dns",
        Form::Text,
        Absent,
        "etl.corp.example",
        "A DNS name among the certificate's alternative names.",
    ),
    field(
        "listen",
        Form::Text,
        Absent,
        "127.0.0.1:8443",
        "The listener whose client_ca_file has the authority of this certificate. It must be given if listeners have different ones.",
    ),
];

pub(crate) const CALLER_LIMITS: &[Field] = &[
    field(
        "requests",
        Form::Number(1, REQUESTS),
        Absent,
        "16",
        "The largest number of concurrent requests of the caller. Further ones are answered 429 with Retry-After.",
    ),
    field(
        "rate",
        Form::Text,
        Absent,
        "20/s",
        "The rate of requests over a longer time: so many a second (20/s), a minute (600/min) or an hour (5000/h). After a pause, as many may come at once. Further ones are answered 429 with Retry-After. Each process counts for itself.",
    ),
];
