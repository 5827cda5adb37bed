//! Keys of the audit log.

use crate::config::field::Fallback::{Absent, Text};
use crate::config::field::{Field, Form, field};

pub(crate) const AUDIT: &[Field] = &[
    field(
        "folder",
        Form::Text,
        Absent,
        "/var/log/bearerd",
        "The folder of the files. Each process writes files of its own, with mode 0600.",
    ),
    field(
        "stderr",
        Form::Switch,
        Text("off"),
        "",
        "on: the lines go to standard error, among those of the log. They are not synced.",
    ),
    field(
        "routes",
        Form::List(&Form::Text),
        Absent,
        "[/api/v1/scim2]",
        "The routes whose writes and refused requests are audited, as in `callers`. The default is all routes.",
    ),
    field(
        "sync",
        Form::Switch,
        Text("on"),
        "",
        "on: a write is sent when its line is on the disk (fsync), so that it survives a loss of power. off: when the system has the line, so that it survives the end of the process.",
    ),
    field(
        "max_size",
        Form::Text,
        Text("64MiB"),
        "",
        "The size of a file, after which another one begins: a number of KiB, MiB or GiB. SIGHUP begins another one, too. bearerd deletes no files.",
    ),
    field(
        "on_failure",
        Form::Words(&["refuse", "warn"]),
        Text("refuse"),
        "",
        "What happens to a write whose line is not written within a second. refuse: it is answered 503. warn: it is sent, and the log has a warning.",
    ),
];
