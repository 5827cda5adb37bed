//! Which URLs are the tenant's, and what they become.

use memchr::memchr;

/// The upstreams' origins, each with what takes its place.
#[derive(Clone, Debug, Default)]
pub struct OriginMap {
    entries: Vec<Entry>,
    /// What is put before an absolute path (`/v2/nodes`), where the route cuts it from requests.
    prefix: Option<String>,
}

#[derive(Clone, Debug)]
struct Entry {
    /// `https://acme.eu10.hcs.cloud.sap`, in lower case, without a slash at its end.
    origin: String,
    replacement: String,
}

/// What the beginning of a URL says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match<'a> {
    /// It stays as it is.
    No,
    /// It may be one of ours: more of it is needed.
    NeedsMore,
    /// This many bytes of it are replaced by this.
    Replace {
        /// How many bytes of the URL go.
        length: usize,
        /// What takes their place.
        with: &'a str,
    },
}

impl OriginMap {
    /// A map of these pairs of origin and replacement, neither with a slash at its end.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>, prefix: Option<String>) -> Self {
        let entry = |(origin, replacement): (String, String)| Entry {
            origin: origin.to_ascii_lowercase(),
            replacement,
        };
        Self { entries: pairs.into_iter().map(entry).collect(), prefix }
    }

    /// Judges the beginning of a URL. `is_whole` tells that nothing follows.
    ///
    /// An origin counts only where it ends: before `/`, `?`, `#`, or at the end of the URL.
    /// `https://acme.example.evil` is not `https://acme.example`. Scheme and host are compared
    /// without regard to case (RFC 3986 section 6.2.2.1); the scheme may be left out
    /// (`//acme.example/`, section 4.2).
    pub fn find(&self, start: &[u8], is_whole: bool) -> Match<'_> {
        let mut needs_more = start.is_empty() && !is_whole;
        let is_relative = start.first() == Some(&b'/');
        for entry in &self.entries {
            let origin = entry.origin.as_bytes();
            let without_scheme = memchr(b'/', origin).and_then(|slash| origin.get(slash..));
            let origin = without_scheme.filter(|_| is_relative).unwrap_or(origin);
            let common = origin.len().min(start.len());
            let alike = start.get(..common).zip(origin.get(..common));
            if !alike.is_some_and(|(given, wanted)| given.eq_ignore_ascii_case(wanted)) {
                continue;
            }
            let length = origin.len();
            let with = entry.replacement.as_str();
            // A path that is cut leaves its slash, so that something is left.
            let alone = if with.is_empty() { "/" } else { with };
            match start.get(length) {
                Some(b'/') => return Match::Replace { length, with },
                Some(b'?' | b'#') => return Match::Replace { length, with: alone },
                Some(_) => {}
                None if is_whole && start.len() == length => {
                    return Match::Replace { length, with: alone };
                }
                None => needs_more |= !is_whole,
            }
        }
        match (&self.prefix, start) {
            // Of another origin, whatever its scheme.
            (_, [b'/', b'/', ..]) | (None, _) => {}
            (Some(_), [b'/']) if !is_whole => needs_more = true,
            (Some(prefix), [b'/', ..]) => return Match::Replace { length: 0, with: prefix },
            (Some(_), _) => {}
        }
        if needs_more { Match::NeedsMore } else { Match::No }
    }

    /// All bytes that a URL of ours can begin with, apart from a slash.
    pub fn first_bytes(&self) -> impl Iterator<Item = u8> {
        let first = |entry: &Entry| entry.origin.bytes().next();
        self.entries.iter().filter_map(first).flat_map(|byte| [byte, byte.to_ascii_uppercase()])
    }

    /// The most bytes of a URL that [`OriginMap::find`] needs to be sure.
    pub fn longest(&self) -> usize {
        self.entries.iter().map(|entry| entry.origin.len()).max().unwrap_or_default() + 2
    }

    /// The replacement of a whole URL, if it has one.
    pub fn rewrite(&self, url: &str) -> Option<String> {
        match self.find(url.as_bytes(), true) {
            Match::Replace { length, with } => {
                Some(format!("{with}{}", url.get(length..).unwrap_or_default()))
            }
            Match::No | Match::NeedsMore => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(prefix: Option<&str>) -> OriginMap {
        let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        OriginMap::new(
            [
                pair("https://acme.example", "http://127.0.0.1:8080"),
                pair("https://ctm.example:8443", "http://127.0.0.1:8080/ctm"),
            ],
            prefix.map(str::to_owned),
        )
    }

    #[test]
    fn an_origin_is_replaced_where_it_ends_and_nowhere_else() {
        let map = map(None);
        let rewritten = |url| map.rewrite(url);
        assert_eq!(
            rewritten("https://acme.example/a?b").as_deref(),
            Some("http://127.0.0.1:8080/a?b")
        );
        assert_eq!(rewritten("HTTPS://Acme.Example/A").as_deref(), Some("http://127.0.0.1:8080/A"));
        assert_eq!(rewritten("https://acme.example").as_deref(), Some("http://127.0.0.1:8080"));
        assert_eq!(rewritten("https://acme.example?x").as_deref(), Some("http://127.0.0.1:8080?x"));
        assert_eq!(
            rewritten("https://ctm.example:8443/v2").as_deref(),
            Some("http://127.0.0.1:8080/ctm/v2")
        );
        assert_eq!(rewritten("//ACME.example/a").as_deref(), Some("http://127.0.0.1:8080/a"));
        for other in [
            "https://acme.example.evil/",
            "https://acme.example:444/",
            "https://acme.exampl",
            "http://acme.example/",
            "x https://acme.example/",
            "/a",
            "",
            "https://acme.example@evil/",
            "//acme.example.evil/",
            "/acme.example/",
        ] {
            assert_eq!(rewritten(other), None, "{other}");
        }
    }

    #[test]
    fn absolute_paths_get_the_prefix_back_where_the_route_cuts_it() {
        let map = map(Some("/ctm"));
        assert_eq!(map.rewrite("/v2/nodes").as_deref(), Some("/ctm/v2/nodes"));
        assert_eq!(map.rewrite("//other.example/x"), None);
        assert_eq!(map.rewrite("//acme.example/x").as_deref(), Some("http://127.0.0.1:8080/x"));
        assert_eq!(map.rewrite("nodes"), None);
        let back = OriginMap::new([("/ctm".to_owned(), String::new())], None);
        for (ours, theirs) in [("/ctm/v2", "/v2"), ("/ctm", "/"), ("/ctm?x", "/?x")] {
            assert_eq!(back.rewrite(ours).as_deref(), Some(theirs));
        }
        assert_eq!(back.rewrite("/ctmx"), None);
    }

    #[test]
    fn a_beginning_is_decided_as_soon_as_it_can_be() {
        let map = map(None);
        assert_eq!(map.find(b"https://acme.exa", false), Match::NeedsMore);
        assert_eq!(map.find(b"https://acme.example", false), Match::NeedsMore);
        assert_eq!(map.find(b"https://b", false), Match::No);
        assert_eq!(map.find(b"", false), Match::NeedsMore);
        assert_eq!(map.find(b"/", false), Match::NeedsMore);
        assert_eq!(map.find(b"/a", false), Match::No);
    }

    #[test]
    fn first_bytes_are_those_that_are_not_refused() {
        let origins = ["https://a", "ftp://a", "2://a"];
        let map = OriginMap::new(origins.map(|from| (from.to_owned(), String::new())), None);
        let accepted = |byte: &u8| *byte != b'/' && map.find(&[*byte], false) != Match::No;
        let mut first: Vec<u8> = map.first_bytes().collect();
        first.sort_unstable();
        first.dedup();
        assert_eq!(first, (0..=255).filter(accepted).collect::<Vec<_>>());
    }
}
