//! Keys of a listener.

use crate::config::field::Fallback::{Absent, Required, Text};
use crate::config::field::{Field, Form, field};

/// The lowest version of TLS, of callers and of servers.
pub(super) const MIN_TLS: Field = field(
    "min_tls",
    Form::Words(&["1.2", "1.3"]),
    Text("1.2"),
    "",
    "The lowest version of TLS that is accepted: 1.2 or 1.3.",
);

pub(crate) const LISTENER: &[Field] = &[
    field(
        "address",
        Form::Text,
        Required,
        "127.0.0.1:8443",
        "The IP address and port, or unix:/path/to.sock. Without `tls`, the address alone is enough.",
    ),
    field(
        "tls",
        Form::Section(LISTENER_TLS),
        Absent,
        "",
        "TLS, with the certificate of this listener.",
    ),
];

const CERTIFICATE_FILE: Field = field(
    "certificate_file",
    Form::Text,
    Required,
    "/run/secrets/tls.crt",
    "The certificate as PEM, with its chain. It must name the hosts in access.hosts. A changed file is read without a restart.",
);
const PRIVATE_KEY_FILE: Field = field(
    "private_key_file",
    Form::Text,
    Required,
    "/run/secrets/tls.key",
    "The private key of the certificate, as PEM.",
);

pub(crate) const LISTENER_TLS: &[Field] = &[
    CERTIFICATE_FILE,
    PRIVATE_KEY_FILE,
    field(
        "client_ca_file",
        Form::Text,
        Absent,
        "/etc/bearerd/callers-ca.pem",
        "The authorities that sign callers' certificates, as PEM. The default is that callers need no certificate.",
    ),
    field(
        "client_certificate",
        Form::Words(&["required", "optional"]),
        Absent,
        "required",
        "Whether a caller must present a certificate of client_ca_file: required (the default) or optional.",
    ),
    MIN_TLS,
];

pub(crate) const ADMIN: &[Field] = &[
    field(
        "listen",
        Form::Text,
        Text("127.0.0.1:8081"),
        "",
        "The IP address and port. In a pod, 0.0.0.0:8081 lets the kubelet and Prometheus connect.",
    ),
    field(
        "tls",
        Form::Section(ADMIN_TLS),
        Absent,
        "",
        "TLS of this listener. Probes and scrapers then need https (Kubernetes: `scheme: HTTPS`), and can present no certificate of their own. `bearerd wait` with the same configuration accepts exactly this certificate.",
    ),
];

pub(crate) const ADMIN_TLS: &[Field] = &[CERTIFICATE_FILE, PRIVATE_KEY_FILE, MIN_TLS];
