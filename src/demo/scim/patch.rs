//! PATCH of a user (RFC 7644 §3.5.2): `replace` and `add` of whole attributes.

use super::directory::User;
use super::error::ScimError;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
struct PatchRequest {
    #[serde(rename = "Operations")]
    operations: Vec<PatchOperation>,
}

#[derive(Debug, Deserialize)]
struct PatchOperation {
    op: String,
    path: Option<String>,
    value: Option<Value>,
}

/// The attributes that the operations of a request set.
pub(super) fn changes(request: User) -> Result<User, ScimError> {
    let request = PatchRequest::deserialize(Value::Object(request))
        .map_err(|error| ScimError::syntax(&error))?;
    let mut changes = User::new();
    for operation in request.operations {
        operation.add_to(&mut changes)?;
    }
    Ok(changes)
}

impl PatchOperation {
    /// Adds the attributes that the operation sets: the one that `path` names, or, without a path,
    /// all attributes of the value.
    fn add_to(self, changes: &mut User) -> Result<(), ScimError> {
        if !["replace", "add"].iter().any(|op| self.op.eq_ignore_ascii_case(op)) {
            return Err(ScimError::invalid(
                "invalidSyntax",
                format!("the demo tenant does not know the operation {}", self.op),
            ));
        }
        match (self.path, self.value) {
            (Some(path), _) if path.contains(['.', '[', ':']) => Err(ScimError::invalid(
                "invalidPath",
                format!("the demo tenant patches whole attributes, not {path}"),
            )),
            (Some(path), Some(value)) => {
                changes.insert(path, value);
                Ok(())
            }
            (None, Some(Value::Object(values))) => {
                changes.extend(values);
                Ok(())
            }
            (_, None) => {
                Err(ScimError::invalid("invalidValue", "the operation has no value".to_owned()))
            }
            (None, Some(_)) => Err(ScimError::invalid(
                "noTarget",
                "without a path, the value must be an object".to_owned(),
            )),
        }
    }
}
