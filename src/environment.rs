//! The process environment, which is read here only, and the expansion of `${NAME}` in values.

use std::collections::{BTreeMap, BTreeSet};

/// A copy of the environment. Tests make their own, and never change the environment of the
/// process.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Copies the environment of this process. Variables that are not UTF-8 are left out.
    pub fn of_process() -> Self {
        Self(
            std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
        )
    }

    /// The value of a variable. An empty one counts as not set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Replaces `${NAME}` and `${NAME:-default}` by their values. `$${` stands for a literal `${`.
    ///
    /// # Errors
    /// A message about a variable that is not set, or a brace that is not closed.
    pub(crate) fn expand(&self, text: &str) -> Result<String, String> {
        substitute(text, |name, default| {
            self.get(name).or(default).ok_or_else(|| {
                format!(
                    "environment variable {name} is not set; set it, or write `${{{name}:-default}}`"
                )
            })
        })
    }

    /// The names of all variables.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// The names of the variables that a value refers to.
pub(crate) fn references(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    // An error ends the search, and the value can't be used.
    let _ = substitute(text, |name, _| {
        names.insert(name.to_owned());
        Ok("")
    });
    names
}

/// Replaces each reference by what `resolve` returns for its name and its default.
fn substitute<'t>(
    text: &'t str,
    mut resolve: impl FnMut(&'t str, Option<&'t str>) -> Result<&'t str, String>,
) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, after) = rest.split_at(start);
        if let Some(literal) = before.strip_suffix('$') {
            expanded.push_str(literal);
            expanded.push_str("${");
            rest = after.get(2..).unwrap_or_default();
            continue;
        }
        expanded.push_str(before);
        let Some((reference, remainder)) = after.get(2..).and_then(|a| a.split_once('}')) else {
            return Err("`${` is not closed by `}`; write `$${` for a literal `${`".into());
        };
        let (name, default) = match reference.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (reference, None),
        };
        expanded.push_str(resolve(name, default)?);
        rest = remainder;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Self {
        variables.into_iter().collect()
    }
}

/// Collects variables. The later of two values for one name takes precedence.
impl<'a> FromIterator<(&'a str, &'a str)> for Environment {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(variables: I) -> Self {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self(variables.into_iter().map(owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_by_values_or_defaults() {
        let environment = Environment::from([("HOST", "acme"), ("EMPTY", "")]);
        let expand = |text: &str| environment.expand(text);
        assert_eq!(expand("https://${HOST}.example/").as_deref(), Ok("https://acme.example/"));
        assert_eq!(expand("${PORT:-8080}").as_deref(), Ok("8080"));
        assert_eq!(expand("${EMPTY:-x}${HOST}").as_deref(), Ok("xacme"));
        assert_eq!(expand("pa$$word $HOST").as_deref(), Ok("pa$$word $HOST"));
        assert_eq!(expand("$${HOST}").as_deref(), Ok("${HOST}"));
        assert!(expand("${MISSING}").unwrap_err().contains("MISSING is not set"));
        assert!(expand("${HOST").unwrap_err().contains("not closed"));
    }
}
