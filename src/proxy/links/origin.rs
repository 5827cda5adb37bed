//! Which URLs are the tenant's, and what they become.

/// The ports that are left out of URLs. A service behind TLS termination writes either of them, under
/// either scheme.
const DEFAULT_PORTS: [u16; 2] = [80, 443];
/// No port has more digits.
const LONGEST_PORT: usize = 5;
/// What a URL with an authority begins with. It may leave out its scheme (RFC 3986 section 4.2).
const SCHEMES: [&[u8]; 3] = [b"https://", b"http://", b"//"];

/// A link stands between two quotes or brackets at least.
const AROUND: usize = 2;

/// The upstreams' origins, each with what takes its place.
#[derive(Clone, Debug, Default)]
pub struct OriginMap {
    entries: Vec<Entry>,
    /// What is put before an absolute path (`/v2/nodes`), where the route cuts it from requests.
    prefix: Option<String>,
    growth: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    /// All of it as nearly everyone writes it: one comparison shows whether a URL begins so.
    plain: String,
    /// `None`: only the path counts.
    server: Option<Server>,
    /// What follows the authority, without a slash at its end; mostly nothing.
    path: String,
    replacement: String,
}

#[derive(Clone, Debug)]
struct Server {
    is_https: bool,
    /// In lower case.
    host: String,
    port: u16,
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

/// How a URL's beginning compares with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Likeness {
    No,
    NeedsMore,
    /// So many bytes of it are the entry's.
    Yes {
        length: usize,
        /// The scheme and port are the entry's own, not only what is taken for them.
        is_exact: bool,
    },
}

impl OriginMap {
    /// A map of these pairs of origin and replacement, neither with a slash at its end. An origin may
    /// have a path, or be nothing but a path. Of several that fit, the first counts.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>, prefix: Option<String>) -> Self {
        let entries =
            pairs.into_iter().map(|(origin, replacement)| Entry::new(&origin, replacement));
        let entries: Vec<_> = entries.collect();
        let by_prefix = prefix.as_ref().map_or(1, |prefix| growth(1, 1 + prefix.len()));
        let growth = entries.iter().map(Entry::growth).chain([by_prefix]).max();
        Self { entries, prefix, growth: growth.unwrap_or(1) }
    }

    /// How many times as long a text can become of which all is links.
    pub fn growth(&self) -> usize {
        self.growth.max(1)
    }

    /// Judges the beginning of a URL. `is_whole` says that nothing follows.
    ///
    /// An origin counts only where it ends: before `/`, `?`, `#`, or at the end of the URL.
    /// `https://acme.example.evil` is not `https://acme.example`. Scheme and host are compared
    /// without regard to case (RFC 3986 section 6.2.2.1), the host with a final dot or without. Of
    /// scheme and port, what a service writes that does not know of the TLS in front of it is taken
    /// for its own: the other scheme, and among 80, 443 and none, another port. Any other port is
    /// another server. So is whatever has a user name before its host.
    ///
    /// More of a URL never changes the answer, apart from [`Match::NeedsMore`].
    pub fn find(&self, start: &[u8], is_whole: bool) -> Match<'_> {
        let mut best: Option<(&Entry, usize)> = None;
        let mut needs_more = start.is_empty() && !is_whole;
        for entry in &self.entries {
            match entry.likeness(start, is_whole) {
                Likeness::No => {}
                // It may yet be the better one.
                Likeness::NeedsMore => needs_more = true,
                Likeness::Yes { length, is_exact: true } => {
                    best = Some((entry, length));
                    break;
                }
                Likeness::Yes { length, is_exact: false } => {
                    best = best.or(Some((entry, length)));
                }
            }
        }
        if needs_more {
            return Match::NeedsMore;
        }
        if let Some((entry, length)) = best {
            let with = entry.replacement.as_str();
            // A path that is cut leaves its slash, so that something is left.
            let is_bare = with.is_empty() && start.get(length) != Some(&b'/');
            return Match::Replace { length, with: if is_bare { "/" } else { with } };
        }
        match (&self.prefix, start) {
            // Of another origin, whatever its scheme.
            (_, [b'/', b'/', ..]) | (None, _) => Match::No,
            (Some(_), [b'/']) if !is_whole => Match::NeedsMore,
            (Some(prefix), [b'/', ..]) => Match::Replace { length: 0, with: prefix },
            (Some(_), _) => Match::No,
        }
    }

    /// All bytes that a URL of ours can begin with, apart from a slash.
    pub fn first_bytes(&self) -> impl Iterator<Item = u8> {
        let has_server = self.entries.iter().any(|entry| entry.server.is_some());
        let firsts: &[u8] = if has_server { b"hH" } else { b"" };
        firsts.iter().copied()
    }

    /// The most bytes of a URL that [`OriginMap::find`] needs to be sure.
    pub fn longest(&self) -> usize {
        self.entries.iter().map(Entry::longest).max().unwrap_or_default() + 2
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

impl Entry {
    fn new(origin: &str, replacement: String) -> Self {
        let Some((scheme, rest)) = origin.split_once("://") else {
            let path = origin.to_owned();
            return Self { plain: path.clone(), server: None, path, replacement };
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let is_https = scheme.eq_ignore_ascii_case("https");
        // The colons of an address of IPv6 are in brackets.
        let port = authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']'));
        let port = port.and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let (host, port) = port.unwrap_or((authority, if is_https { 443 } else { 80 }));
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let server = Server { is_https, host, port };
        Self {
            plain: server.plain() + path,
            server: Some(server),
            path: path.to_owned(),
            replacement,
        }
    }

    fn growth(&self) -> usize {
        // Without a scheme.
        let host = self.server.as_ref().map_or(0, |server| "//".len() + server.host.len());
        growth(host + self.path.len(), self.replacement.len())
    }

    fn longest(&self) -> usize {
        // With a dot, a colon and a port.
        let server = |server: &Server| SCHEMES[0].len() + server.host.len() + 2 + LONGEST_PORT;
        self.server.as_ref().map_or(0, server) + self.path.len()
    }

    fn likeness(&self, start: &[u8], is_whole: bool) -> Likeness {
        if start.starts_with(self.plain.as_bytes())
            && matches!(start.get(self.plain.len()), Some(b'/' | b'?' | b'#'))
        {
            return Likeness::Yes { length: self.plain.len(), is_exact: true };
        }
        let (at, is_exact) = match &self.server {
            None => (0, true),
            Some(server) => match server.likeness(start, is_whole) {
                Likeness::Yes { length, is_exact } => (length, is_exact),
                other => return other,
            },
        };
        let length = at + self.path.len();
        let found = start.get(at..start.len().min(length)).unwrap_or_default();
        if !self.path.as_bytes().starts_with(found) {
            return Likeness::No;
        }
        match start.get(length) {
            Some(b'/' | b'?' | b'#') => Likeness::Yes { length, is_exact },
            Some(_) => Likeness::No,
            None if !is_whole => Likeness::NeedsMore,
            None if start.len() == length => Likeness::Yes { length, is_exact },
            None => Likeness::No,
        }
    }
}

/// How many times as long a link becomes, rounded up.
const fn growth(before: usize, after: usize) -> usize {
    (after + AROUND).div_ceil(before + AROUND)
}

impl Server {
    fn plain(&self) -> String {
        let (scheme, own) = if self.is_https { ("https", 443) } else { ("http", 80) };
        let port = if self.port == own { String::new() } else { format!(":{}", self.port) };
        format!("{scheme}://{}{port}", self.host)
    }

    /// Compares the scheme and the authority; what follows them is not looked at.
    fn likeness(&self, start: &[u8], is_whole: bool) -> Likeness {
        let alike = |given: &[u8], wanted: &[u8]| {
            let common = given.len().min(wanted.len());
            let pair = given.get(..common).zip(wanted.get(..common));
            pair.is_some_and(|(given, wanted)| given.eq_ignore_ascii_case(wanted))
        };
        let Some(scheme) = SCHEMES.into_iter().find(|scheme| alike(start, scheme)) else {
            return Likeness::No;
        };
        let rest = start.get(scheme.len()..).unwrap_or_default();
        let host = self.host.as_bytes();
        if !alike(rest, host) {
            return Likeness::No;
        }
        if rest.len() < host.len() || start.len() < scheme.len() {
            return if is_whole { Likeness::No } else { Likeness::NeedsMore };
        }
        let rest = rest.get(host.len()..).unwrap_or_default();
        let rest = rest.strip_prefix(b".").unwrap_or(rest);
        let digits = rest.strip_prefix(b":").unwrap_or_default();
        let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let digits = digits.get(..count).unwrap_or_default();
        let behind = rest.len() - count - usize::from(rest.first() == Some(&b':'));
        if behind == 0 && !is_whole && count <= LONGEST_PORT {
            return Likeness::NeedsMore;
        }
        let given = match str::from_utf8(digits).unwrap_or_default() {
            "" => None,
            digits => match digits.parse() {
                Ok(port) if count <= LONGEST_PORT => Some(port),
                _ => return Likeness::No,
            },
        };
        let is_default = |port: u16| DEFAULT_PORTS.contains(&port);
        let is_taken_for_it = is_default(self.port) && given.is_none_or(is_default);
        if given != Some(self.port) && !is_taken_for_it {
            return Likeness::No;
        }
        let is_https = match scheme.len() {
            8 => true,
            7 => false,
            _ => self.is_https,
        };
        let own = if is_https { 443 } else { 80 };
        let is_exact = is_https == self.is_https && given.unwrap_or(own) == self.port;
        Likeness::Yes { length: start.len() - behind, is_exact }
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
            "https://acme.exampl",
            "https://acme.example..",
            "x https://acme.example/",
            "/a",
            "",
            "https://acme.example@evil/",
            "https://acme.example:443@evil/",
            "https://user@acme.example/",
            "https://acme.example\\evil",
            "https:/acme.example/",
            "https:///acme.example/",
            "ftp://acme.example/",
            "//acme.example.evil/",
            "/acme.example/",
        ] {
            assert_eq!(rewritten(other), None, "{other}");
        }
    }

    #[test]
    fn a_service_behind_tls_termination_is_known_by_what_it_calls_itself() {
        let map = map(None);
        for scheme in ["https:", "http:", "HTTP:", ""] {
            for port in ["", ":443", ":80", ":", ":0443"] {
                for host in ["acme.example", "acme.example.", "ACME.Example."] {
                    let url = format!("{scheme}//{host}{port}/a:444");
                    let ours = map.rewrite(&url);
                    assert_eq!(ours.as_deref(), Some("http://127.0.0.1:8080/a:444"), "{url}");
                }
            }
            for port in
                [":444", ":8443", ":4430", ":44", ":8080", ":65979", ":000443", ":+443", ":0x50"]
            {
                let url = format!("{scheme}//acme.example{port}/");
                assert_eq!(map.rewrite(&url), None, "{url}");
            }
            // One of the other kind has its own port only.
            let own = format!("{scheme}//ctm.example.:8443");
            assert_eq!(map.rewrite(&own).as_deref(), Some("http://127.0.0.1:8080/ctm"), "{own}");
            for port in ["", ":443", ":80", ":8444"] {
                let url = format!("{scheme}//ctm.example{port}/");
                assert_eq!(map.rewrite(&url), None, "{url}");
            }
        }
    }

    #[test]
    fn of_two_servers_of_one_name_each_keeps_what_is_its_own() {
        let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        let pairs = [pair("https://acme.example", "TLS"), pair("http://acme.example:80", "PLAIN")];
        for pairs in [pairs.clone(), {
            let [first, second] = pairs;
            [second, first]
        }] {
            let map = OriginMap::new(pairs.clone(), None);
            for (url, wanted) in [
                ("https://acme.example/", "TLS/"),
                ("https://acme.example:443/", "TLS/"),
                ("http://acme.example/", "PLAIN/"),
                ("http://acme.example:80/", "PLAIN/"),
            ] {
                assert_eq!(map.rewrite(url).as_deref(), Some(wanted), "{url}");
            }
            // Neither's own: the first one's.
            let first = format!("{}/", pairs[0].1);
            assert_eq!(map.rewrite("http://acme.example:443/"), Some(first));
        }
    }

    #[test]
    fn an_address_in_brackets_keeps_its_colons() {
        let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        let map =
            OriginMap::new([pair("https://[::1]", "A"), pair("http://[::2]:8080", "B")], None);
        assert_eq!(map.rewrite("https://[::1]/x").as_deref(), Some("A/x"));
        assert_eq!(map.rewrite("http://[::1]:443/x").as_deref(), Some("A/x"));
        assert_eq!(map.rewrite("https://[::2]:8080/x").as_deref(), Some("B/x"));
        assert_eq!(map.rewrite("https://[::1]:8080/x"), None);
    }

    #[test]
    fn a_path_of_an_origin_is_compared_as_it_is_written() {
        let map = OriginMap::new([("http://a:1/Data".to_owned(), "B".to_owned())], None);
        assert_eq!(map.rewrite("HTTP://A:1/Data/x").as_deref(), Some("B/x"));
        assert_eq!([map.rewrite("http://a:1/data/x"), map.rewrite("http://a:1/Dat")], [None, None]);
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
    fn more_of_a_url_never_changes_what_was_decided() {
        let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        let map = OriginMap::new(
            [
                pair("http://acme.example", "A"),
                pair("https://acme.example/b", "B"),
                pair("https://acme.example:443", "C"),
                pair("/ctm", "D"),
            ],
            None,
        );
        for url in [
            "https://acme.example.:443/b/c",
            "https://acme.example/b",
            "http://acme.example:80/b",
            "https://acme.example:8/",
            "//acme.example?b",
            "/ctm/x",
            "/ctmx",
            "hTTp:x",
        ] {
            let whole = map.find(url.as_bytes(), true);
            for end in 0..=url.len() {
                let found = map.find(&url.as_bytes()[..end], false);
                assert!(found == Match::NeedsMore || found == whole, "{url} {end} {found:?}");
            }
            let longer = format!("{url}/{}", "x".repeat(map.longest()));
            let found = map.find(&longer.as_bytes()[..map.longest()], false);
            assert_ne!(found, Match::NeedsMore, "{url}: so many bytes are enough");
        }
    }

    #[test]
    fn a_text_grows_by_no_more_than_its_shortest_links_do() {
        assert_eq!(OriginMap::default().growth(), 1);
        for (map, shortest) in [
            (map(None), "//acme.example"),
            (map(Some("/ctm")), "/"),
            (map(Some("/a/rather/long/path/that/is/cut")), "/"),
            (OriginMap::new([("/ctm".to_owned(), String::new())], None), "/ctm"),
        ] {
            let ours = map.rewrite(shortest).unwrap();
            let (before, after) = (format!("<{shortest}>").len(), format!("<{ours}>").len());
            assert!(after <= before * map.growth(), "{shortest}: {}", map.growth());
            assert!(after > before * (map.growth() - 1), "{shortest}: {}", map.growth());
        }
    }

    #[test]
    fn first_bytes_are_those_that_are_not_refused() {
        let map = map(None);
        let accepted = |byte: &u8| *byte != b'/' && map.find(&[*byte], false) != Match::No;
        let mut first: Vec<u8> = map.first_bytes().collect();
        first.sort_unstable();
        assert_eq!(first, (0..=255).filter(accepted).collect::<Vec<_>>());
        assert_eq!(OriginMap::default().first_bytes().count(), 0);
    }
}
