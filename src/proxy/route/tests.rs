use super::*;
use proptest::prelude::*;

fn find(target: &str) -> Result<Option<usize>, TargetError> {
    let paths = ["/api/v1/datasphere", "/api/v1/datasphere/consumption", "/api/v1/scim2", "/x"];
    Router::new(paths).find(target.as_bytes())
}

#[test]
fn the_longest_path_wins_and_segments_are_whole() {
    assert_eq!(find("/api/v1/datasphere/consumption/catalog?$top=1"), Ok(Some(1)));
    assert_eq!(find("/api/v1/datasphere/tasks"), Ok(Some(0)));
    assert_eq!(find("/api/v1/datasphere"), Ok(Some(0)));
    assert_eq!(find("/api/v1/datasphere/"), Ok(Some(0)));
    assert_eq!(find("/api/v1/scim2?filter=a"), Ok(Some(2)));
    assert_eq!(find("/api/v1/scim22"), Ok(None));
    assert_eq!(find("/api/v1"), Ok(None));
    assert_eq!(find("/"), Ok(None));
}

#[test]
fn an_encoded_path_takes_the_route_it_stands_for() {
    assert_eq!(find("/api/v1/datasphere/%63onsumption/x"), Ok(Some(1)));
    assert_eq!(find("/%61pi/v1/scim2/Users"), Ok(Some(2)));
}

#[test]
fn ambiguous_targets_are_refused() {
    use TargetError::*;
    for (target, error) in [
        ("http://evil.example/api/v1/scim2", NotOriginForm),
        ("*", NotOriginForm),
        ("", NotOriginForm),
        ("/api/v1/scim2/../content", DotSegment),
        ("/api/v1/scim2/..", DotSegment),
        ("/api/v1/scim2/./x", DotSegment),
        ("/api/v1/scim2/%2e%2e/content", DotSegment),
        ("/api/v1/scim2/.%2E/content", DotSegment),
        ("/api/v1/scim2/Users/..%2fx", DotSegment),
        ("/api/v1/scim2/Users/x%2f..%2fy", DotSegment),
        ("/api/v1/scim2/..;a=b/content", DotSegment),
        ("/api/v1/scim2/%252e%252E/content", DotSegment),
        ("/api/v1/scim2/x/..%252fcontent%25", DotSegment),
        ("/api/v1/scim2/x/..%255ccontent", DotSegment),
        ("/api/v1/scim2/%c0%ae%c0%ae/content", Overlong),
        ("/api/v1/scim2/x/..%e0%80%afcontent", Overlong),
        ("/api/v1/scim2/x/..%f0%80%80%afcontent", Overlong),
        ("/api/v1/scim2%2fUsers", Ambiguous),
        ("/api%2Fv1/scim2", Ambiguous),
        ("/api/v1/scim2/Users/a%00", Nul),
        ("/api/v1/scim2/Users\\x", Character),
        ("/api/v1/scim2/#x", Character),
        ("/api/v1/scim2/a b", Character),
        ("//api/v1/scim2", Ambiguous),
        ("/api//v1/scim2", Ambiguous),
        ("/api/v1/scim2/%zz", Escape),
        ("/api/v1/scim2/%2", Escape),
        ("/api/v1/scim2/%", Escape),
        ("/api/v1/scim2/%%41", Escape),
        ("/api/v1/scim2/%+1", Escape),
    ] {
        assert_eq!(find(target), Err(error), "{target}");
    }
}

#[test]
fn an_entity_is_in_its_set() {
    let router = Router::new(["/svc", "/svc/Sales"]);
    for target in ["/svc/Sales(1)", "/svc/sales(1)/Items", "/svc/Sales%281%29", "/svc/Sales()"] {
        assert_eq!(router.find(target.as_bytes()), Err(TargetError::Ambiguous), "{target}");
    }
    for (target, route) in [("/svc/Sales/1", 1), ("/svc/SalesItems(1)", 0), ("/svc/Orders(1)", 0)] {
        assert_eq!(router.find(target.as_bytes()), Ok(Some(route)), "{target}");
    }
}

#[test]
fn a_narrow_route_cannot_be_passed_by_under_a_wide_one() {
    for target in [
        "/api/v1/datasphere/Consumption/x",
        "/api/v1/datasphere/CONSUMPTION;x",
        "/api/v1/datasphere/%43onsumption",
        "/api/v1/datasphere/consumption;x",
        "/api/v1/datasphere/consumption;x/catalog",
        "/api/v1/datasphere/consumption%3bx/catalog",
        "/api/v1/datasphere/consumption%253Bx/catalog",
        "/api/v1/datasphere/%2563onsumption/catalog",
        "/api/v1/datasphere/%252563onsumption/catalog",
        "/api/v1/datasphere/x%2f/../consumption",
        "/api/v1/datasphere//consumption/catalog",
        "/api/v1/datasphere/;a/consumption/catalog",
        "/api/v1/datasphere/%2fconsumption",
        "/api/v1/datasphere%2fconsumption/x",
        "/api/v1/datasphere%5cconsumption/x",
        "/api/v1/datasphere/%5cconsumption/x",
        "/api/v1/datasphere/%255Cconsumption/x",
        "/api/v1/datasphere/%3bx%2fconsumption/x",
        "/api/v1/datasphere/%253b%252fconsumption",
        "/api/v1/datasphere;/consumption",
        "/api/v1/datasphere/consumption/%252e%252e/x",
        "/api/v1/datasphere/consumption/%25252e%25252e/x",
        // What is cut off a name.
        "/api/v1/datasphere/consumption%20/x",
        "/api/v1/datasphere/consumption%2520",
        "/api/v1/datasphere/consumption./x",
        "/api/v1/datasphere/consumption...",
        "/api/v1/datasphere/consumption%2e/x",
        "/api/v1/datasphere/consumption%20.%20/x",
        "/api/v1/datasphere/consumption+/x",
        "/api/v1/datasphere/consumption%09/x",
        "/api/v1/datasphere/consumption%0d%0a",
        "/api/v1/datasphere/consumption%0b",
        "/api/v1/datasphere/consumption%7f",
        "/api/v1/datasphere/consumption%C2%85",
        "/api/v1/datasphere/consumption%C2%A0/x",
        "/api/v1/datasphere/consumption%E3%80%80/x",
        "/api/v1/datasphere/consumption\u{a0}/x",
        "/api/v1/datasphere/consumption%2500x",
        "/api/v1/datasphere/consumption%25c0%2580x",
        "/api/v1/datasphere/consumption%3fx",
        "/api/v1/datasphere/consumption%3f/x",
        "/api/v1/datasphere/consumption%253fx",
        "/api/v1/datasphere/consumption%23",
        "/api/v1/datasphere/consumption%2523x/y",
        "/api/v1/datasphere/consumption%20%3fx",
        "/api/v1/datasphere/consumption%20;x",
        "/api/v1/datasphere/consumption::$DATA",
        "/api/v1/datasphere/consumption%3a%24i30:%24INDEX_ALLOCATION/x",
        "/api/v1/datasphere/%20consumption/x",
        "/api/v1/datasphere/%09consumption",
        "/api/v1/datasphere/.consumption/x",
        "/api/v1/datasphere/%E2%80%8Bconsumption/x",
        "/api/v1/datasphere/%20/consumption",
        "/api/v1/datasphere/%0a/consumption",
        "/api/v1/datasphere/.../consumption",
        // What is ignored within it.
        "/api/v1/datasphere/con%09sumption/x",
        "/api/v1/datasphere/con%0asumption",
        "/api/v1/datasphere/con%C2%ADsumption",
        "/api/v1/datasphere/con%ffsumption",
        // What is ASCII to some.
        "/api/v1/datasphere/con%C5%BFumption/x",
        "/api/v1/datasphere/con\u{17f}umption/x",
        "/api/v1/datasphere/con%25C5%25BFumption/x",
        "/api/v1/datasphere/consumpt%C4%B1on",
        "/api/v1/datasphere/CONSUMPT%C4%B0ON",
        "/api/v1/datasphere/c%C3%B6nsumption",
        "/api/v1/datasphere/%EF%BD%83onsumption",
        "/api/v1/datasphere/%EF%BC%A3%EF%BC%AFnsumption",
        "/api/v1/datasphere/x%EF%BC%8F%EF%BC%8E%EF%BC%8E%EF%BC%8Fconsumption",
        "/api/v1/datasphere/%EF%BC%8Fconsumption",
        "/api/v1/datasphere/%EF%BC%BCconsumption/x",
        "/api/v1/datasphere/%E2%88%95consumption/x",
        "/api/v1/datasphere/consumption%E2%88%95x",
        "/api/v1/datasphere/consumption%E2%81%84x",
        "/api/v1/datasphere/consumption%C2%A5x",
        "/api/v1/datasphere/consumption%EF%BC%8E",
        "/api/v1/datasphere/consumption%EF%BC%9Fx",
        "/api/v1/datasphere/consumption%EF%BC%9Bx",
        "/api/v1/datasphere/consumption%CD%BEx",
        "/api/v1/datasphere/consumption%EF%BC%852fx",
        "/api/v1/datasphere/%25u0063onsumption/x",
        "/api/v1/datasphere/con%25u017fumption/x",
        "/api/v1/datasphere/consumption%25u002fx",
        "/api/v1/datasphere/consumption%25c0%25afx",
        "/api/v1/datasphere/consumption%25c1%251cx",
        "/api/v1/datasphere/consumption%c0%2fx",
        "/api/v1/scim2/..%20/x",
        "/api/v1/scim2/%20../x",
        "/api/v1/scim2/..%3f",
        "/api/v1/scim2/..%2500/x",
        "/api/v1/scim2/.%09./x",
        "/api/v1/scim2/%E2%80%A5/x",
        "/api/v1/scim2/%EF%BC%8E%EF%BC%8E/x",
        "/api/v1/scim2/%25c0%25ae%25c0%25ae/x",
        "/x;/y",
        "/x%252f",
        "/x/%252525252525252525252525252525252525252525252525252525252525252525252525252525252525252525252525252525252525252525252525252525252525252541",
    ] {
        assert!(
            matches!(find(target), Err(TargetError::Ambiguous | TargetError::DotSegment)),
            "{target}: {:?}",
            find(target)
        );
    }
}

#[test]
fn how_long_another_route_is_does_not_matter() {
    for target in [
        "/x//y",
        "/x/a%2fb",
        "/x/a%5Cb",
        "/x/a%255Cb;c//d",
        "/x/%3B;",
        "/x/a%20/b./.c/d+",
        "/x/a%3fb%23c%09d%25u0041",
        "/x/a%EF%BC%8Fb%EF%BC%BCc%C5%BF%ff%25c0%25af",
        "/x/%25zz%25u00g0%25u",
    ] {
        assert_eq!(find(target), Ok(Some(3)), "{target}");
    }
}

#[test]
fn what_odata_and_scim_need_is_no_ambiguity() {
    for target in [
        "/api/v1/scim2/Users('CORP%5Cjdoe')",
        "/api/v1/scim2/Users/CORP%5cjdoe",
        "/api/v1/datasphere/consumption/relational/S/V/V(K='a%3Bb;c%2F%2Fd')",
        "/api/v1/datasphere/consumption/catalog/spaces('A%2FB')/assets('C')",
        "/api/v1/datasphere/consumption/relational/S/V/_V(P='x%20y',D=2024-01-01)/Set?$filter=a%20eq%20'..'",
        "/api/v1/datasphere/consumption/relational/S/V/V(K='a/b')?x=/../y",
        "/api/v1/scim2/Users/3f-..-7",
        "/api/v1/datasphere/consumption/x//y",
        "/api/v1/datasphere/consumption/x('100%25')/a%252Fb/%E0%A0%80",
        "/api/v1/scim2/Users/%C3%A4?filter=userName%20eq%20%22a%22",
        "/api/v1/scim2/Users/%C3%A4./%20x%20",
        "/api/v1/datasphere/consumptions",
        "/api/v1/datasphere/consumption-x/y",
        "/api/v1/datasphere/consumption:x/y",
        "/api/v1/datasphere/tasks/a%20b/consumption%20/consumption",
        "/api/v1/datasphere/con%20sumption",
        "/api/v1/datasphere/con%C3%9Fumption",
        "/api/v1/datasphere/%D1%81onsumption",
        "/api/v1/datasphere/consumption/relational/S/V/Users('a%20b')",
        "/api/v1/datasphere/consumption/relational/S/V/Sales('x.')/Items",
        "/api/v1/datasphere/consumption/relational/S/V/Sales('a%3Fb%23c')./x+/%20y",
        "/api/v1/datasphere/consumption/relational/S/V/Stra%C3%9Fe('M%C3%BCnchen%20')",
        "/api/v1/datasphere/consumption/relational/S/V/V('%E5%B1%B1%E7%94%B0%EF%BC%8F%E5%A4%AA%E9%83%8E%E3%80%82')",
        "/api/v1/datasphere/consumption/relational/S/V/V('\u{5c71}\u{7530}\u{ff05}\u{ff1b}%3B%5C//%25')",
        "/api/v1/datasphere/consumption/relational/S/V/V(T='10%3A00%3A00%2B01%3A00')",
    ] {
        assert!(matches!(find(target), Ok(Some(_))), "{target}");
    }
}

#[test]
fn a_batch_is_known_however_it_is_written() {
    let is_batch = |target: &str| ends_with(target.as_bytes(), "$batch");
    assert!(is_batch("/a/$batch?x") && is_batch("/a/%24batch") && is_batch("/$batch"));
    assert!(!is_batch("/a/x$batch") && !is_batch("/a/$batch/b") && !is_batch("/a?/$batch"));
    let may_be = |target: &str| may_hold(target.as_bytes(), "$batch");
    for target in [
        "/a/$batch?x",
        "/a/%24batch",
        "/a/$BATCH",
        "/a/$batch/",
        "/a/$batch//",
        "/a/$batch;x",
        "/a/%2524batch",
        "/a/x%2f$batch",
        "/a/x%5C$batch",
        "/a/$batch%2f%3b",
        "/a/$batch;/;x",
    ] {
        assert!(may_be(target), "{target}");
    }
    for target in [
        "/a/$batch%20",
        "/a/$batch.",
        "/a/$batch()",
        "/a/$batch/$query",
        "/a/$batch%3fx",
        "/a/%20$batch",
        "/a/.$batch",
        "/a/$ba%09tch",
        "/a/%EF%BC%84batch",
        "/a/$b%C3%A4tch",
        "/a/%25u0024batch",
    ] {
        assert!(may_be(target), "{target}");
    }
    assert!(!may_be("/a/x$batch") && !may_be("/a?/$batch"));
    let is_bulk = |target: &str| may_end_with(target.as_bytes(), "Bulk");
    for target in [
        "/a/bulk;x",
        "/a/Bulk%20/",
        "/a/Bulk.",
        "/a/Bulk%3f/x",
        "/a/Bulk%2500/x",
        "/a/Bul%E2%84%AA",
        "/a/%20Bulk",
        "/a/Bulk%EF%BC%9Fx/y",
        "/a/Bulk/%20/.",
    ] {
        assert!(is_bulk(target), "{target}");
    }
    assert!(!is_bulk("/a/Bulk/x") && !is_bulk("/a/Bulky"));
}

#[test]
fn the_end_of_a_path_counts_where_no_server_reads_another() {
    let is_read = |target: &str| always_ends_with(target.as_bytes(), "$query");
    for target in [
        "/a/Sales/$query",
        "/a/Sales/%24query?$top=1",
        "/a/Sales('a%3Bb%20%5C%C3%BC%2F')/$query",
        "/a/Stra\u{df}e./x%20/$query",
    ] {
        assert!(is_read(target), "{target}");
    }
    for target in [
        "/a/Sales%3f/$query",
        "/a/Sales%3F%2F/$query",
        "/a/Sales%253f/$query",
        "/a/Sales%2523/$query",
        "/a/Sales%23/$query",
        "/a/Sales%2500/$query",
        "/a/Sales%EF%BC%9F/$query",
        "/a/Sales%25u003f/$query",
        "/a/Sales?/$query",
        "/a/Sales/$query/",
        "/a/Sales/$query%20",
        "/a/Sales/$query;x",
        "/a/Sales/%2524query",
        "/a/Sales%2f$query",
    ] {
        assert!(!is_read(target), "{target}");
    }
    assert!(always_ends_with(b"/a/Users/.search", ".search"));
    assert!(!always_ends_with(b"/a/Users%3f/.search", ".search"));
}

#[test]
fn no_cut_path_is_taken_for_a_host() {
    let leaves = |target: &str| leaves_authority(target.as_bytes(), 1);
    for target in [
        "/ctm//evil",
        "/ctm//evil/x",
        "/ctm/%2fevil",
        "/ctm/%5Cevil",
        "/ctm/%252fevil",
        "/ctm/;x/evil",
        "/ctm/%3b/evil",
        "/ctm/%25252fevil",
        "/ctm/%20/evil",
        "/ctm/%09/evil",
        "/ctm/%EF%BC%8Fevil",
        "/ctm/%E2%88%95evil",
        "/ctm/%C2%A0%5Cevil",
        "/ctm/%25u002fevil",
    ] {
        assert!(leaves(target), "{target}");
    }
    assert!(!leaves("/ctm/evil//x") && !leaves("/ctm") && !leaves("/ctm/?//x"));
}

#[test]
fn a_prefix_is_cut_and_the_rest_stays_byte_for_byte() {
    let cut = |target: &'static str, count| {
        String::from_utf8(without_prefix(target.as_bytes(), count).into_owned()).unwrap()
    };
    assert_eq!(cut("/ctm/v2/nodes?a=/b", 1), "/v2/nodes?a=/b");
    assert_eq!(cut("/ctm?a", 1), "/?a");
    assert_eq!(cut("/ctm", 1), "/");
    assert_eq!(cut("/ctm/", 1), "/");
    assert_eq!(cut("/a/b/c%2Fd", 2), "/c%2Fd");
}

proptest! {
    #[test]
    fn no_target_panics_and_no_accepted_path_climbs(target in prop::collection::vec(any::<u8>(), 0..40)) {
        let router = Router::new(["/a", "/a/b"]);
        if router.find(&target).is_ok() {
            let decoded = decode(path_of(&target)).unwrap();
            prop_assert!(!decoded.split(|byte| *byte == b'/').any(|s| s == b".." || s == b"."));
            prop_assert!(!decoded.contains(&0));
        }
    }

    #[test]
    fn no_reading_of_an_accepted_path_takes_another_route(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "/", "a", "b", "x", ";", "%3b", "%2f", "%5C", "%25", "5c", "2f", "3b", "%61", "61", "//", ".", "%2e",
            "%20", "20", "+", "%09", "%3f", "%23", "00", "%ff", "\u{e4}", "%EF%BD%82", "%EF%BC%8F", "\u{ff05}",
            "%25c0%25af", "%25u0062", ":$",
        ]), 0..12),
    ) {
        let target = format!("/{}", pieces.concat());
        let router = Router::new(["/a", "/a/b", "/b"]);
        let Ok(found) = router.find(target.as_bytes()) else { return Ok(()) };
        // A server that decodes until nothing changes, and one that repairs everything on its way.
        let mut path = target.into_bytes();
        for _ in 0..12 {
            path = unescape(&path).into_owned();
        }
        let plain = |path: &[u8]| router.routes_of(path, |segment| segment.into()).0;
        prop_assert_eq!(plain(&path), found);
        let Some(found) = found else { return Ok(()) };
        for _ in 0..12 {
            path = unescape(&fold::folded(&path)).into_owned();
        }
        let text = String::from_utf8_lossy(&path).to_lowercase().replace('\\', "/");
        let text: String = text.chars().filter(|one| *one == '\0' || !one.is_control()).collect();
        let text = text.split(['?', '#', '\0']).next().unwrap();
        let names = text.split('/').map(|name| name.split(';').next().unwrap());
        let names = names.map(|name| name.split(":$").next().unwrap().trim_matches([' ', '+']));
        let names: Vec<_> = names.collect();
        prop_assert!(!names.iter().any(|name| [".", ".."].contains(name)));
        let names = names.iter().map(|name| name.trim_matches([' ', '+', '.']));
        let names: Vec<_> = names.filter(|name| !name.is_empty()).collect();
        let read = format!("/{}", names.join("/"));
        prop_assert_eq!(plain(read.as_bytes()), Some(found), "{}", read);
    }

    #[test]
    fn the_tree_finds_what_a_look_at_each_route_finds(
        routes in prop::collection::vec("(/(a|A|ab|a\\(1\\)|b)){1,3}", 0..12),
        path in "(/(a|A|ab|a\\(1\\)|a\\(2\\)|b|%61|b%2fa)?){0,4}",
    ) {
        let router = Router::new(routes.iter().map(String::as_str));
        let given: Vec<_> = segments(path.as_bytes()).map(unescape).collect();
        let begins = |route: &&Arc<Route>| route.segments.len() <= given.len();
        let first = |is_route: &dyn Fn(&Route) -> bool| {
            let mut routes = router.routes.iter().filter(begins);
            routes.find(|route| is_route(route)).map(|route| route.index)
        };
        let same = first(&|route| route.is_same(given.iter().cloned()));
        let alike = first(&|route| route.is_alike(given.iter().cloned()));
        prop_assert_eq!(router.routes_of(path.as_bytes(), unescape), (same, alike));
    }

    #[test]
    fn a_cut_target_is_always_a_path(target in "/[a-c/]{0,8}(\\?[a-c/]{0,4})?", count in 0usize..4) {
        prop_assert!(without_prefix(target.as_bytes(), count).starts_with(b"/"));
    }
}
