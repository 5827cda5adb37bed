//! The users, in memory and in the order in which they were created.

use std::sync::Mutex;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::demo::state::lock;

/// A user is whatever attributes the client sent; the directory cares for a few of them only.
pub(in crate::demo) type User = Map<String, Value>;

/// Attributes that only the server sets.
const READ_ONLY: [&str; 2] = ["id", "meta"];

/// Why a request about users fails.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::demo) enum Fault {
    #[error("there is no user {0}")]
    NoSuchUser(String),
    #[error("there already is a user with the userName {0}")]
    NotUnique(String),
    #[error("{detail}")]
    Invalid {
        /// The keyword of RFC 7644 §3.12.
        scim_type: &'static str,
        detail: String,
    },
}

impl Fault {
    pub(super) fn invalid(scim_type: &'static str, detail: String) -> Self {
        Self::Invalid { scim_type, detail }
    }

    pub(super) fn syntax(error: &serde_json::Error) -> Self {
        Self::invalid("invalidSyntax", format!("the body is not what this request takes: {error}"))
    }
}

/// All users. A list is searched from end to end: a demo has few.
#[derive(Debug, Default)]
pub(in crate::demo) struct Directory {
    users: Mutex<Vec<User>>,
}

impl Directory {
    /// Those with this `userName` (in any case, as RFC 7643 has it), or all.
    pub(super) fn find(&self, name: Option<&str>) -> Vec<User> {
        let wanted =
            |user: &&User| name.is_none_or(|name| user_name(user).eq_ignore_ascii_case(name));
        lock(&self.users).iter().filter(wanted).cloned().collect()
    }

    pub(super) fn get(&self, id: &str) -> Result<User, Fault> {
        let users = lock(&self.users);
        users
            .iter()
            .find(|user| has_id(user, id))
            .cloned()
            .ok_or_else(|| Fault::NoSuchUser(id.to_owned()))
    }

    pub(super) fn create(&self, attributes: User) -> Result<User, Fault> {
        let user = complete(&Uuid::new_v4().to_string(), attributes)?;
        let mut users = lock(&self.users);
        check_unique(&users, &user)?;
        users.push(user.clone());
        Ok(user)
    }

    /// PUT: what the client does not send is gone.
    pub(super) fn replace(&self, id: &str, attributes: User) -> Result<User, Fault> {
        self.update(id, |_| attributes)
    }

    /// PATCH: what the client does not send stays.
    pub(super) fn change(&self, id: &str, changes: User) -> Result<User, Fault> {
        if let Some(name) = READ_ONLY.into_iter().find(|name| changes.contains_key(*name)) {
            return Err(Fault::invalid("mutability", format!("{name} can't be changed")));
        }
        self.update(id, |mut user| {
            user.extend(changes);
            user
        })
    }

    pub(super) fn remove(&self, id: &str) -> Result<(), Fault> {
        let mut users = lock(&self.users);
        let before = users.len();
        users.retain(|user| !has_id(user, id));
        if users.len() == before { Err(Fault::NoSuchUser(id.to_owned())) } else { Ok(()) }
    }

    fn update(&self, id: &str, new: impl FnOnce(User) -> User) -> Result<User, Fault> {
        let mut users = lock(&self.users);
        let old = users.iter().find(|user| has_id(user, id)).cloned();
        let user = complete(id, new(old.ok_or_else(|| Fault::NoSuchUser(id.to_owned()))?))?;
        check_unique(&users, &user)?;
        if let Some(place) = users.iter_mut().find(|user| has_id(user, id)) {
            *place = user.clone();
        }
        Ok(user)
    }
}

/// Checks what the client sent and adds what the server owes.
fn complete(id: &str, mut user: User) -> Result<User, Fault> {
    if user_name(&user).is_empty() {
        return Err(Fault::invalid(
            "invalidValue",
            "userName is missing, empty, or not a string".to_owned(),
        ));
    }
    // A password may be written, but never read back.
    user.remove("password");
    user.entry("schemas").or_insert_with(|| json!(["urn:ietf:params:scim:schemas:core:2.0:User"]));
    user.entry("active").or_insert(Value::Bool(true));
    user.insert("id".to_owned(), json!(id));
    let meta = json!({ "resourceType": "User", "location": format!("/api/v1/scim2/Users/{id}") });
    user.insert("meta".to_owned(), meta);
    Ok(user)
}

/// No other user may have this one's `userName`.
fn check_unique(users: &[User], user: &User) -> Result<(), Fault> {
    let name = user_name(user);
    let other =
        |one: &User| one.get("id") != user.get("id") && user_name(one).eq_ignore_ascii_case(name);
    if users.iter().any(other) { Err(Fault::NotUnique(name.to_owned())) } else { Ok(()) }
}

fn user_name(user: &User) -> &str {
    user.get("userName").and_then(Value::as_str).unwrap_or_default()
}

fn has_id(user: &User, id: &str) -> bool {
    user.get("id").and_then(Value::as_str) == Some(id)
}
