//! Which URLs are the upstreams', and what they become.

/// The ports that URLs may leave out. A service behind TLS termination writes either of them, with
/// either scheme.
const DEFAULT_PORTS: [u16; 2] = [80, 443];
/// The largest number of digits in a port.
const LONGEST_PORT: usize = 5;
/// The beginnings of URLs with an authority. The scheme may be left out (RFC 3986 section 4.2).
const SCHEMES: [&[u8]; 3] = [b"https://", b"http://", b"//"];

/// A link has at least two quotes or brackets around it.
const AROUND: usize = 2;

/// The upstreams' origins, each with its replacement.
#[derive(Clone, Debug, Default)]
pub struct OriginMap {
    entries: Vec<Entry>,
    /// The prefix for an absolute path (`/v2/nodes`), if the route cuts it from requests.
    prefix: Option<String>,
    growth: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    /// The origin in its usual form: one comparison shows whether a URL begins with it.
    plain: String,
    /// The scheme and authority. `None` if only the path is compared.
    server: Option<Server>,
    /// The path, without a slash at its end. Mostly empty.
    path: String,
    replacement: String,
}

#[derive(Clone, Debug)]
struct Server {
    is_https: bool,
    /// The host in lower case.
    host: String,
    port: u16,
}

/// The result for the beginning of a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match<'a> {
    /// The URL stays as it is.
    No,
    /// The URL may be an upstream's: more of it is needed.
    NeedsMore,
    /// This many bytes of the URL are replaced.
    Replace {
        /// How many bytes of the URL are removed.
        length: usize,
        /// The text that replaces them.
        with: &'a str,
    },
}

/// How a URL's beginning compares with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Likeness {
    No,
    NeedsMore,
    /// This many bytes of it are the entry's.
    Yes {
        length: usize,
        /// Whether scheme and port are the entry's own, not only equivalent.
        is_exact: bool,
    },
}

impl OriginMap {
    /// A map of these pairs of origin and replacement, neither with a slash at its end. An origin
    /// may have a path, or be only a path. If several match, the first is used.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>, prefix: Option<String>) -> Self {
        let entries =
            pairs.into_iter().map(|(origin, replacement)| Entry::new(&origin, replacement));
        let entries: Vec<_> = entries.collect();
        let by_prefix = prefix.as_ref().map_or(1, |prefix| growth(1, 1 + prefix.len()));
        let growth = entries.iter().map(Entry::growth).chain([by_prefix]).max();
        Self { entries, prefix, growth: growth.unwrap_or(1) }
    }

    /// The factor by which a text can grow that consists of links only.
    pub fn growth(&self) -> usize {
        self.growth.max(1)
    }

    /// Compares the beginning of a URL with the origins. `is_whole` means that nothing follows.
    ///
    /// An origin matches only if it ends in one of these places: before `/`, `?`, `#`, or at the
    /// end of the URL. `https://acme.example.evil` is not `https://acme.example`. Scheme and host
    /// are compared without regard to case (RFC 3986 section 6.2.2.1), the host with or without a
    /// final dot. A service may not know of the TLS in front of it: the other scheme is accepted
    /// too, and among 80, 443 and none, another port. Any other port is another server. So is a URL
    /// with a user name before the host.
    ///
    /// More of a URL never changes the result, except [`Match::NeedsMore`].
    pub fn find(&self, start: &[u8], is_whole: bool) -> Match<'_> {
        let mut best: Option<(&Entry, usize)> = None;
        let mut needs_more = start.is_empty() && !is_whole;
        for entry in &self.entries {
            match entry.likeness(start, is_whole) {
                Likeness::No => {}
                // With more bytes this entry may be the better match.
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
            // A path that is cut keeps its slash, so that something is left.
            let is_bare = with.is_empty() && start.get(length) != Some(&b'/');
            return Match::Replace { length, with: if is_bare { "/" } else { with } };
        }
        match (&self.prefix, start) {
            // A URL of another origin without a scheme.
            (_, [b'/', b'/', ..]) | (None, _) => Match::No,
            (Some(_), [b'/']) if !is_whole => Match::NeedsMore,
            (Some(prefix), [b'/', ..]) => Match::Replace { length: 0, with: prefix },
            (Some(_), _) => Match::No,
        }
    }

    /// The first bytes of the upstreams' URLs, apart from a slash.
    pub fn first_bytes(&self) -> impl Iterator<Item = u8> {
        let has_server = self.entries.iter().any(|entry| entry.server.is_some());
        let firsts: &[u8] = if has_server { b"hH" } else { b"" };
        firsts.iter().copied()
    }

    /// The largest number of bytes of a URL that [`OriginMap::find`] needs for a decision.
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
        // The colons of an IPv6 address are in brackets.
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
        // The shortest form has no scheme.
        let host = self.server.as_ref().map_or(0, |server| "//".len() + server.host.len());
        growth(host + self.path.len(), self.replacement.len())
    }

    fn longest(&self) -> usize {
        // The longest form has a dot, a colon and a port.
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

/// The factor by which a link grows, rounded up.
const fn growth(before: usize, after: usize) -> usize {
    (after + AROUND).div_ceil(before + AROUND)
}

impl Server {
    fn plain(&self) -> String {
        let (scheme, own) = if self.is_https { ("https", 443) } else { ("http", 80) };
        let port = if self.port == own { String::new() } else { format!(":{}", self.port) };
        format!("{scheme}://{}{port}", self.host)
    }

    /// Compares the scheme and the authority, and ignores what follows.
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
mod tests;
