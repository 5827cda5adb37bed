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
    assert_eq!(rewritten("https://acme.example/a?b").as_deref(), Some("http://127.0.0.1:8080/a?b"));
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
    let map = OriginMap::new([pair("https://[::1]", "A"), pair("http://[::2]:8080", "B")], None);
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
