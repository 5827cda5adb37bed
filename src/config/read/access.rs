//! The callers that may connect, and what they must present.

use crate::config::access::{Access, BasicAccess, PasswordSource};
use crate::config::fault::Fault;
use crate::config::file;
use crate::config::section::Section;
use crate::config::value;

/// The names by which a machine reaches itself.
const LOCAL_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Whether `listen` may have addresses that other machines reach. That needs a local credential.
pub(super) fn allow_remote(root: &Section<'_>, section: &Section<'_>) -> bool {
    let allowed = section.parse("allow_remote", value::switch).unwrap_or_default();
    let has_credential = section.has("basic") || section.has("api_key_file");
    if allowed && !has_credential && !root.has("callers") {
        let message = "needs a local credential; set callers, access.basic or access.api_key_file";
        section.fault("allow_remote", message);
    }
    allowed
}

pub(super) fn read(section: &Section<'_>) -> Option<Access> {
    section.refuse_empty(&["api_key_file"]);
    let hosts = match section.has("hosts") {
        false => Some(LOCAL_HOSTS.map(str::to_owned).to_vec()),
        true => section.parse_list("hosts", value::host),
    };
    let uids = section.parse_list("uids", value::uid);
    let basic = section.optional("basic", file::BASIC).and_then(|section| basic(&section));
    let api_key_file = section.parse("api_key_file", value::path);
    Some(Access { hosts: hosts?, basic, api_key_file, uids: uids? })
}

/// A warning if `basic` has no value: earlier versions of the reference had it like this.
pub(super) fn warning(section: &Section<'_>) -> Option<Fault> {
    let message =
        "is empty, so no user name and password are asked for; give both, or remove the key";
    section.is_empty("basic").then(|| section.possible_fault("basic", message))
}

/// User name and password file.
pub(super) fn basic(section: &Section<'_>) -> Option<BasicAccess> {
    let username = section.parse("username", value::username);
    let password_file = section.parse("password_file", value::path);
    Some(BasicAccess { username: username?, password: PasswordSource::File(password_file?) })
}
