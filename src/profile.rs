//! The profiles of API families, in one table.

use http::Method;
use std::fmt;

/// A set of request methods, from the closed list that bearerd forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Methods(u8);

/// The methods that bearerd forwards, in the order in which `Allow` lists them.
pub const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

impl Methods {
    const READ: Self = Self(0b00_0011);
    const READ_AND_POST: Self = Self(0b00_0111);
    const ALL: Self = Self(0b11_1111);
    const NONE: Self = Self(0);

    /// Adds a method by name. `None` if bearerd does not forward it.
    pub(crate) fn with(self, name: &str) -> Option<Self> {
        let index = METHODS.iter().position(|known| *known == name)?;
        Some(Self(self.0 | 1 << index))
    }

    /// The set of a list of names.
    ///
    /// # Errors
    /// The unknown name.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, &'a str> {
        names.into_iter().try_fold(Self::NONE, |set, name| set.with(name).ok_or(name))
    }

    /// Whether the method is in the set. OData V2 calls `PATCH` `MERGE`.
    pub fn contains(self, method: &Method) -> bool {
        let name = if method.as_str() == "MERGE" { "PATCH" } else { method.as_str() };
        METHODS
            .iter()
            .position(|known| *known == name)
            .is_some_and(|index| self.0 & 1 << index != 0)
    }

    /// The set with POST.
    pub(crate) const fn with_post(self) -> Self {
        Self(self.0 | 0b00_0100)
    }

    /// The set without POST.
    #[must_use]
    pub const fn without_post(self) -> Self {
        Self(self.0 & !0b00_0100)
    }

    /// The methods that are in both sets.
    #[must_use]
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether no method is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether every method of this set is also in the other.
    pub(crate) const fn is_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// The names in the set.
    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> {
        METHODS
            .into_iter()
            .enumerate()
            .filter(move |(index, _)| self.0 & 1 << index != 0)
            .map(|(_, name)| name)
    }
}

/// Formats the set as the value of `Allow` (RFC 9110 section 10.2.1).
impl fmt::Display for Methods {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.names().enumerate() {
            if index > 0 {
                formatter.write_str(", ")?;
            }
            formatter.write_str(name)?;
        }
        Ok(())
    }
}

/// Which requests may be sent again after the upstream refused the token. The upstream refuses a
/// token before it processes anything, so every request could be sent again. If SAP does not
/// document that, only requests that do no harm when sent twice are sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// All requests.
    Any,
    /// Requests with an idempotent method (RFC 9110 section 9.2.2).
    Idempotent,
}

/// For which requests bearerd handles CSRF tokens, if their callers do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Csrf {
    /// For none.
    Off,
    /// For requests that the upstream refused without a token.
    IfAsked,
    /// For all writes.
    Managed,
}

/// The formats of bodies in which the tenant's links become the sidecar's
/// ([`crate::proxy::links`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// None.
    Off,
    /// JSON.
    Json,
    /// JSON and XML.
    JsonAndXml,
}

/// An API family of the tenant.
#[derive(Debug, PartialEq, Eq)]
pub struct Profile {
    /// The name in the configuration.
    pub name: &'static str,
    /// The family's paths on a Datasphere tenant, used if no routes are configured. Each with a
    /// harmless resource below it, to check whether it responds.
    pub paths: &'static [(&'static str, &'static str)],
    /// The methods that are allowed.
    pub methods: Methods,
    /// Whether POST is only allowed for reads: a batch of reads is a POST, too (OData 4.01 part 1,
    /// section 11.7).
    pub post_only_reads: bool,
    /// The last segments of paths on which a specification lets a POST read.
    pub reads_by_post: &'static [&'static str],
    /// Whether a path that ends in `/Bulk` takes a batch (RFC 7644 section 3.7).
    pub bulk: bool,
    /// Whether to send `x-sap-sac-custom-auth: true`. Without it these APIs answer a bearer token
    /// with a login page.
    pub custom_auth: bool,
    /// For which requests bearerd handles CSRF tokens.
    pub csrf: Csrf,
    /// The formats of bodies in which links are rewritten.
    pub links: Links,
    /// Which requests may be sent again after a refused token.
    pub replay: Replay,
}

/// The resource on which OData lets a caller read by POST, since a query may be too long for a URL
/// (4.01 URL conventions, section 11).
const QUERY: &str = "$query";
/// The resource on which SCIM lets a caller read by POST, since a query may be confidential (RFC
/// 7644 section 3.4.3).
const SEARCH: &str = ".search";

const fn profile(name: &'static str, paths: &'static [(&'static str, &'static str)]) -> Profile {
    Profile {
        name,
        paths,
        methods: Methods::ALL,
        post_only_reads: false,
        reads_by_post: &[QUERY, SEARCH],
        bulk: false,
        custom_auth: true,
        csrf: Csrf::Managed,
        links: Links::Json,
        replay: Replay::Any,
    }
}

/// All profiles.
pub static PROFILES: [Profile; 9] = [
    Profile {
        methods: Methods::READ_AND_POST,
        post_only_reads: true,
        reads_by_post: &[QUERY],
        custom_auth: false,
        csrf: Csrf::IfAsked,
        links: Links::JsonAndXml,
        ..profile(
            "odata",
            &[
                ("/api/v1/datasphere/consumption", "/catalog/spaces"),
                ("/api/v1/dwc", "/catalog/spaces"),
                ("/dwaas-core/odata/v4/catalog", "/spaces"),
                ("/dwaas-core/odata/v4/consumption", ""),
            ],
        )
    },
    Profile {
        bulk: true,
        reads_by_post: &[SEARCH],
        ..profile(
            "scim",
            &[
                ("/api/v1/scim2", "/ServiceProviderConfig"),
                ("/api/v1/scim", "/ServiceProviderConfig"),
            ],
        )
    },
    profile("transport", &[("/api/v1/content", "")]),
    Profile {
        methods: Methods::READ_AND_POST,
        links: Links::Off,
        ..profile("audit", &[("/api/v1/audit", "")])
    },
    Profile { replay: Replay::Idempotent, ..profile("rest", &[("/api/v1/datasphere", "")]) },
    Profile {
        replay: Replay::Idempotent,
        ..profile("cli", &[("/dwaas-core", ""), ("/api/v1/spaces", ""), ("/oauth", "")])
    },
    Profile {
        methods: Methods::READ,
        csrf: Csrf::Off,
        links: Links::Off,
        ..profile("csrf", &[("/api/v1/csrf", "")])
    },
    Profile {
        custom_auth: false,
        csrf: Csrf::Off,
        reads_by_post: &[],
        ..profile("cloud-transport", &[])
    },
    Profile {
        reads_by_post: &[],
        custom_auth: false,
        csrf: Csrf::Off,
        links: Links::Off,
        replay: Replay::Idempotent,
        ..profile("passthrough", &[])
    },
];

impl Profile {
    /// Whether its APIs may be OData.
    pub(crate) fn is_odata(&self) -> bool {
        self.reads_by_post.contains(&QUERY)
    }

    /// The profile with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        PROFILES.iter().find(|profile| profile.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_have_names_of_their_own_and_no_path_twice() {
        let mut names: Vec<_> = PROFILES.iter().map(|profile| profile.name).collect();
        let mut paths: Vec<_> =
            PROFILES.iter().flat_map(|profile| profile.paths).map(|(path, _)| path).collect();
        let (name_count, path_count) = (names.len(), paths.len());
        names.sort_unstable();
        names.dedup();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!((names.len(), paths.len()), (name_count, path_count));
    }

    #[test]
    fn the_table_says_who_may_do_what() {
        let shown: Vec<_> = PROFILES
            .iter()
            .map(|p| {
                let flags = (p.post_only_reads, p.custom_auth, p.csrf, p.links, p.replay);
                format!("{} [{}] {flags:?}", p.name, p.methods)
            })
            .collect();
        assert_eq!(
            shown,
            [
                "odata [GET, HEAD, POST] (true, false, IfAsked, JsonAndXml, Any)",
                "scim [GET, HEAD, POST, PUT, PATCH, DELETE] (false, true, Managed, Json, Any)",
                "transport [GET, HEAD, POST, PUT, PATCH, DELETE] (false, true, Managed, Json, Any)",
                "audit [GET, HEAD, POST] (false, true, Managed, Off, Any)",
                "rest [GET, HEAD, POST, PUT, PATCH, DELETE] (false, true, Managed, Json, Idempotent)",
                "cli [GET, HEAD, POST, PUT, PATCH, DELETE] (false, true, Managed, Json, Idempotent)",
                "csrf [GET, HEAD] (false, true, Off, Off, Any)",
                "cloud-transport [GET, HEAD, POST, PUT, PATCH, DELETE] (false, false, Off, Json, Any)",
                "passthrough [GET, HEAD, POST, PUT, PATCH, DELETE] (false, false, Off, Off, Idempotent)",
            ]
        );
    }

    #[test]
    fn a_set_contains_what_it_was_made_of() {
        let set = Methods::of(["GET", "PATCH"]).unwrap();
        assert!(set.contains(&Method::GET) && set.contains(&Method::PATCH));
        assert!(!set.contains(&Method::POST) && !set.contains(&Method::TRACE));
        assert_eq!(set.to_string(), "GET, PATCH");
        assert_eq!(Methods::of(["GET", "BREW"]), Err("BREW"));
    }
}
