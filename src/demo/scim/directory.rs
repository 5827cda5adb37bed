//! The users, in memory, in the order of their creation.

use super::error::ScimError;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// A user with all attributes that the client sent. The directory interprets only a few of them.
pub(super) type User = Map<String, Value>;

/// The attributes that only the server sets.
const READ_ONLY: [&str; 2] = ["id", "meta"];

/// All users. The list is searched from start to end, because a demo has few users.
#[derive(Debug, Default)]
pub(super) struct Directory {
    users: Mutex<Vec<User>>,
}

impl Directory {
    /// The users with this `userName`, which is case-insensitive (RFC 7643), or all users.
    pub(super) fn find(&self, name: Option<&str>) -> Vec<User> {
        let wanted =
            |user: &&User| name.is_none_or(|name| user_name(user).eq_ignore_ascii_case(name));
        self.users.lock().iter().filter(wanted).cloned().collect()
    }

    pub(super) fn get(&self, id: &str) -> Result<User, ScimError> {
        let users = self.users.lock();
        users
            .iter()
            .find(|user| has_id(user, id))
            .cloned()
            .ok_or_else(|| ScimError::NoSuchUser(id.to_owned()))
    }

    pub(super) fn create(&self, attributes: User) -> Result<User, ScimError> {
        let user = complete(&Uuid::new_v4().to_string(), attributes)?;
        let mut users = self.users.lock();
        check_unique(&users, &user)?;
        users.push(user.clone());
        Ok(user)
    }

    /// PUT: removes the attributes that the client does not send.
    pub(super) fn replace(&self, id: &str, attributes: User) -> Result<User, ScimError> {
        self.update(id, |_| attributes)
    }

    /// PATCH: keeps the attributes that the client does not send.
    pub(super) fn change(&self, id: &str, changes: User) -> Result<User, ScimError> {
        if let Some(name) = READ_ONLY.into_iter().find(|name| changes.contains_key(*name)) {
            return Err(ScimError::invalid("mutability", format!("{name} can't be changed")));
        }
        self.update(id, |mut user| {
            user.extend(changes);
            user
        })
    }

    pub(super) fn remove(&self, id: &str) -> Result<(), ScimError> {
        let mut users = self.users.lock();
        let before = users.len();
        users.retain(|user| !has_id(user, id));
        if users.len() == before { Err(ScimError::NoSuchUser(id.to_owned())) } else { Ok(()) }
    }

    fn update(&self, id: &str, new: impl FnOnce(User) -> User) -> Result<User, ScimError> {
        let mut users = self.users.lock();
        let old = users.iter().find(|user| has_id(user, id)).cloned();
        let user = complete(id, new(old.ok_or_else(|| ScimError::NoSuchUser(id.to_owned()))?))?;
        check_unique(&users, &user)?;
        if let Some(place) = users.iter_mut().find(|user| has_id(user, id)) {
            *place = user.clone();
        }
        Ok(user)
    }
}

/// Checks the attributes of the client and adds those of the server.
fn complete(id: &str, mut user: User) -> Result<User, ScimError> {
    if user_name(&user).is_empty() {
        return Err(ScimError::invalid(
            "invalidValue",
            "userName is missing, empty, or not a string".to_owned(),
        ));
    }
    // A password can be written, but not read.
    user.remove("password");
    user.entry("schemas").or_insert_with(|| json!(["urn:ietf:params:scim:schemas:core:2.0:User"]));
    user.entry("active").or_insert(Value::Bool(true));
    user.insert("id".to_owned(), json!(id));
    let meta = json!({ "resourceType": "User", "location": format!("/api/v1/scim2/Users/{id}") });
    user.insert("meta".to_owned(), meta);
    Ok(user)
}

/// Fails if another user has the same `userName`.
fn check_unique(users: &[User], user: &User) -> Result<(), ScimError> {
    let name = user_name(user);
    let other =
        |one: &User| one.get("id") != user.get("id") && user_name(one).eq_ignore_ascii_case(name);
    if users.iter().any(other) { Err(ScimError::NotUnique(name.to_owned())) } else { Ok(()) }
}

fn user_name(user: &User) -> &str {
    user.get("userName").and_then(Value::as_str).unwrap_or_default()
}

fn has_id(user: &User, id: &str) -> bool {
    user.get("id").and_then(Value::as_str) == Some(id)
}
