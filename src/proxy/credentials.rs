//! Which caller a request is from: its credential, and what its connection proves. Pure.

use super::peer::Peer;
use super::stripped_headers::X_API_KEY;
use crate::caller_secret::SecretDigest;
use crate::clock;
use crate::config::{CallerId, CertificateName};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use zeroize::Zeroizing;

/// The credentials of all callers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Credentials {
    /// The credential of `access`, if one is configured.
    pub unnamed: Option<Credential>,
    /// The credentials of callers with names. A [`CallerId`] is an index of this list.
    pub callers: Vec<Credential>,
}

/// What shows that a request is from one caller. Each part is enough.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Credential {
    /// Digests of its API keys.
    pub keys: Vec<SecretDigest>,
    /// Its user name of HTTP Basic.
    pub username: Option<String>,
    /// Digests of its passwords.
    pub passwords: Vec<SecretDigest>,
    /// Its user ids on Unix sockets.
    pub uids: Vec<u32>,
    /// A name in its certificate.
    pub certificate: Option<CertificateName>,
}

/// A caller that a request is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The caller that `access` allows.
    Unnamed,
    /// A caller with a name.
    Named(CallerId),
}

impl Who {
    /// The caller with a name.
    pub(super) const fn id(self) -> Option<CallerId> {
        match self {
            Self::Unnamed => None,
            Self::Named(id) => Some(id),
        }
    }
}

/// The callers that a request is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identified {
    Nobody,
    One(Who),
    /// Its credentials are those of different callers.
    Several,
    /// It has more credentials than a tool has, so that one request could try many.
    TooMany,
}

/// The largest number of lines of `X-Api-Key`, and of `Authorization`.
const MOST_LINES: usize = 2;

/// What a request and its connection show, prepared for comparisons.
struct Shown<'r> {
    keys: [Option<SecretDigest>; MOST_LINES],
    basic: [Option<Basic>; MOST_LINES],
    peer: &'r Peer,
}

/// User name and password of HTTP Basic.
struct Basic {
    /// The name. The password was behind it, so it is wiped, too.
    name: Zeroizing<Vec<u8>>,
    password: SecretDigest,
}

impl Basic {
    fn of(value: &HeaderValue) -> Option<Self> {
        let (scheme, rest) = value.as_bytes().split_at_checked(6)?;
        if !scheme.eq_ignore_ascii_case(b"basic ") {
            return None;
        }
        let text = Zeroizing::new(STANDARD.decode(rest.trim_ascii()).ok()?);
        let colon = text.iter().position(|byte| *byte == b':')?;
        let password = SecretDigest::of(text.get(colon + 1..)?);
        Some(Self { name: Zeroizing::new(text.get(..colon)?.to_vec()), password })
    }
}

impl Credential {
    /// Fills missing parts from another credential of the same caller.
    fn or(mut self, other: &Self) -> Self {
        if self.keys.is_empty() {
            self.keys.clone_from(&other.keys);
        }
        if self.passwords.is_empty() {
            self.passwords.clone_from(&other.passwords);
        }
        self
    }

    /// Whether the request shows this credential. All parts are compared, so that the time does not
    /// reveal which one matched.
    fn is_shown(&self, shown: &Shown<'_>) -> bool {
        let has_key = shown.keys.iter().flatten().fold(false, |found, key| {
            self.keys.iter().fold(found, |found, own| found | (own == key))
        });
        let has_name = |basic: &&Basic| {
            self.username.as_ref().is_some_and(|own| own.as_bytes() == basic.name.as_slice())
        };
        let given = shown.basic.iter().flatten().filter(has_name);
        let has_password = given.fold(false, |found, basic| {
            self.passwords.iter().fold(found, |found, own| found | (*own == basic.password))
        });
        let is_user =
            matches!(shown.peer, Peer::Unix { uid: Some(uid) } if self.uids.contains(uid));
        let is_named = |own: &CertificateName| shown.peer.is_named(own, clock::wall());
        let is_certified = self.certificate.as_ref().is_some_and(is_named);
        has_key | has_password | is_user | is_certified
    }

    /// Whether a request could show a part of both.
    fn overlaps(&self, other: &Self) -> bool {
        let shares = |one: &[SecretDigest], other: &[SecretDigest]| {
            one.iter().any(|digest| other.contains(digest))
        };
        shares(&self.keys, &other.keys)
            || self.username == other.username && shares(&self.passwords, &other.passwords)
            || self.uids.iter().any(|uid| other.uids.contains(uid))
            || self
                .certificate
                .as_ref()
                .zip(other.certificate.as_ref())
                .is_some_and(|(one, other)| one.overlaps(other))
    }
}

impl Credentials {
    /// Whether a request must be from a caller.
    pub(super) fn is_required(&self) -> bool {
        self.unnamed.is_some() || !self.callers.is_empty()
    }

    /// The credentials, each with its caller.
    fn all(&self) -> impl Iterator<Item = (Who, &Credential)> {
        let named = self.callers.iter().enumerate();
        let named = named.map(|(index, credential)| (Who::Named(CallerId(index)), credential));
        self.unnamed.iter().map(|credential| (Who::Unnamed, credential)).chain(named)
    }

    /// Whether some caller has this part.
    pub(super) fn any_has(&self, part: impl Fn(&Credential) -> bool) -> bool {
        self.all().any(|(_, credential)| part(credential))
    }

    /// The caller that a request is from.
    pub(super) fn identify(&self, headers: &HeaderMap, peer: &Peer) -> Identified {
        let Ok(shown) = self.shown(headers, peer) else { return Identified::TooMany };
        self.all().fold(Identified::Nobody, |found, (who, credential)| {
            match (credential.is_shown(&shown), found) {
                (false, found) => found,
                (true, Identified::Nobody) => Identified::One(who),
                (true, _) => Identified::Several,
            }
        })
    }

    /// What a request shows. Only what some caller has is prepared.
    ///
    /// # Errors
    /// It has more credentials than a tool has.
    fn shown<'r>(&self, headers: &HeaderMap, peer: &'r Peer) -> Result<Shown<'r>, ()> {
        let mut shown =
            Shown { keys: [None; MOST_LINES], basic: [const { None }; MOST_LINES], peer };
        if self.any_has(|credential| !credential.keys.is_empty()) {
            for (index, key) in headers.get_all(X_API_KEY).iter().enumerate() {
                let digest = SecretDigest::of(key.as_bytes());
                *shown.keys.get_mut(index).ok_or(())? = Some(digest);
            }
        }
        if self.any_has(|credential| credential.username.is_some()) {
            for (index, value) in headers.get_all(AUTHORIZATION).iter().enumerate() {
                *shown.basic.get_mut(index).ok_or(())? = Basic::of(value);
            }
        }
        Ok(shown)
    }

    /// Two callers that have a credential in common, if there are some.
    pub fn shared(&self) -> Option<(Who, Who)> {
        self.all().enumerate().find_map(|(index, (one, credential))| {
            let others = self.all().take(index);
            let mut others = others.filter(|(_, other)| credential.overlaps(other));
            others.next().map(|(other, _)| (other, one))
        })
    }

    /// These credentials, which replace `before`. A missing part stays as it was. Where two callers
    /// would have a credential in common, what is new of them stays as it was, too. Returns those
    /// pairs.
    pub(super) fn replacing(self, before: &Self) -> (Self, Vec<(Who, Who)>) {
        let or = |(new, old): (Credential, &Credential)| new.or(old);
        let mut renewed = Self {
            unnamed: self.unnamed.zip(before.unnamed.as_ref()).map(or),
            callers: self.callers.into_iter().zip(&before.callers).map(or).collect(),
        };
        let mut pairs = Vec::new();
        if renewed == *before {
            return (renewed, pairs);
        }
        while let Some((one, other)) = renewed.shared() {
            let known = renewed.clone();
            renewed.revert(one, before);
            renewed.revert(other, before);
            pairs.push((one, other));
            if renewed == known {
                // `before` shares it, which a load refuses.
                break;
            }
        }
        (renewed, pairs)
    }

    fn revert(&mut self, who: Who, before: &Self) {
        match who {
            Who::Unnamed => self.unnamed.clone_from(&before.unnamed),
            Who::Named(CallerId(index)) => {
                if let (Some(new), Some(old)) =
                    (self.callers.get_mut(index), before.callers.get(index))
                {
                    new.clone_from(old);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ListenerId, SubjectName};
    use crate::listener_tls::CallerCertificate;
    use std::time::{Duration, SystemTime};

    fn digest(text: &str) -> SecretDigest {
        SecretDigest::of(text.as_bytes())
    }

    fn keyed(keys: &[&str]) -> Credential {
        Credential { keys: keys.iter().map(|key| digest(key)).collect(), ..Credential::default() }
    }

    fn user(name: &str, password: &str) -> Credential {
        Credential {
            username: Some(name.into()),
            passwords: vec![digest(password)],
            ..Credential::default()
        }
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    const fn named(index: usize) -> Who {
        Who::Named(CallerId(index))
    }

    #[test]
    fn a_request_is_from_the_caller_whose_credential_it_shows() {
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        let tls_until = |name: SubjectName, not_after: SystemTime| {
            let certificate = Some(CallerCertificate { names: vec![name], not_after });
            Peer::Tls { listener: ListenerId(1), certificate }
        };
        let signed_at = |name: &str, listener| Credential {
            certificate: Some(CertificateName { name: SubjectName::Uri(name.into()), listener }),
            ..Credential::default()
        };
        let day = Duration::from_secs(24 * 3600);
        let (past, future) = (SystemTime::now() - day, SystemTime::now() + day);
        let tls = |name: &str| tls_until(SubjectName::Uri(name.into()), future);
        let credentials = Credentials {
            unnamed: Some(keyed(&["unnamed"])),
            callers: vec![
                keyed(&["old", "new"]),
                user("iam", "pass:word"),
                Credential { uids: vec![7, 8], ..Credential::default() },
                signed_at("spiffe://a", Some(ListenerId(1))),
                signed_at("spiffe://b", Some(ListenerId(0))),
                signed_at("spiffe://c", None),
            ],
        };
        let (nobody, several) = (Identified::Nobody, Identified::Several);
        let many = Identified::TooMany;
        let one = |index| Identified::One(named(index));
        let (iam, wrong) = (basic("iam:pass:word"), basic("iam:pass"));
        type Lines<'a> = &'a [(&'static str, &'a str)];
        let cases: &[(Lines<'_>, Peer, Identified)] = &[
            (&[], Peer::Tcp, nobody),
            (&[("x-api-key", "old")], Peer::Tcp, one(0)),
            (&[("x-api-key", "new")], Peer::Tcp, one(0)),
            (&[("x-api-key", "other")], Peer::Tcp, nobody),
            (&[("x-api-key", "")], Peer::Tcp, nobody),
            (&[("x-api-key", "unnamed")], Peer::Tcp, Identified::One(Who::Unnamed)),
            (&[("authorization", &iam)], Peer::Tcp, one(1)),
            (&[("authorization", &wrong)], Peer::Tcp, nobody),
            (&[("authorization", "Bearer x")], Peer::Tcp, nobody),
            (&[("authorization", "Basic !")], Peer::Tcp, nobody),
            (&[], Peer::Unix { uid: Some(8) }, one(2)),
            (&[], Peer::Unix { uid: Some(9) }, nobody),
            (&[], Peer::Unix { uid: None }, nobody),
            (&[], tls("spiffe://a"), one(3)),
            (&[], tls("spiffe://a/"), nobody),
            (&[], Peer::Tls { listener: ListenerId(1), certificate: None }, nobody),
            // An authority of another listener.
            (&[], tls("spiffe://b"), nobody),
            (&[], tls("spiffe://c"), one(5)),
            (&[], tls_until(SubjectName::Dns("spiffe://a".into()), future), nobody),
            (&[], tls_until(SubjectName::Uri("spiffe://a".into()), past), nobody),
            // A wrong credential names nobody.
            (&[("x-api-key", "other")], tls("spiffe://a"), one(3)),
            (&[("x-api-key", "old"), ("authorization", &wrong)], Peer::Tcp, one(0)),
            // Of different callers, wherever they are.
            (&[("x-api-key", "old")], tls("spiffe://a"), several),
            (&[("x-api-key", "old"), ("authorization", &iam)], Peer::Tcp, several),
            (&[("x-api-key", "old"), ("x-api-key", "unnamed")], Peer::Tcp, several),
            (&[("x-api-key", "old"), ("x-api-key", "new")], Peer::Tcp, one(0)),
            (&[("x-api-key", "old")], Peer::Unix { uid: Some(7) }, several),
            (&[("x-api-key", "a"), ("x-api-key", "b"), ("x-api-key", "old")], Peer::Tcp, many),
        ];
        for (lines, peer, expected) in cases {
            let found = credentials.identify(&headers(lines), peer);
            assert_eq!(found, *expected, "{lines:?} {peer:?}");
        }
    }

    #[test]
    fn a_credential_of_two_callers_is_found() {
        let pair = |one: Credential, other: Credential| {
            Credentials { unnamed: None, callers: vec![one, other] }.shared().is_some()
        };
        assert!(pair(keyed(&["a", "b"]), keyed(&["c", "a"])));
        assert!(!pair(keyed(&["a"]), keyed(&["b"])));
        assert!(pair(user("u", "p"), user("u", "p")));
        assert!(!pair(user("u", "p"), user("v", "p")));
        assert!(!pair(keyed(&["p"]), user("u", "p")), "a key is no password");
        let unnamed = Credentials { unnamed: Some(keyed(&["a"])), callers: vec![keyed(&["a"])] };
        assert_eq!(unnamed.shared(), Some((Who::Unnamed, named(0))));
    }

    #[test]
    fn a_new_key_of_another_caller_is_not_taken_and_others_are() {
        let of = |keys: [&str; 3]| Credentials {
            unnamed: None,
            callers: keys.iter().map(|key| keyed(&[key])).collect(),
        };
        let before = of(["a", "b", "c"]);
        let (renewed, pairs) = of(["a", "a", "d"]).replacing(&before);
        assert_eq!((renewed, pairs), (of(["a", "b", "d"]), vec![(named(0), named(1))]));
        // Both are new.
        let (renewed, _) = of(["x", "x", "c"]).replacing(&before);
        assert_eq!(renewed, before);
        // What goes back collides with what is new.
        let (renewed, pairs) = of(["b", "c", "c"]).replacing(&before);
        assert_eq!((renewed, pairs.len()), (before.clone(), 2));
        // A swap is no collision.
        let (renewed, pairs) = of(["b", "a", "c"]).replacing(&before);
        assert_eq!((renewed, pairs), (of(["b", "a", "c"]), vec![]));
        // A file that can't be read leaves the part as it was.
        let mut missing = of(["a", "b", "d"]);
        missing.callers[0] = Credential::default();
        assert_eq!(missing.replacing(&before).0, of(["a", "b", "d"]));
    }
}
