//! Properties that hold for every document.

use super::*;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// A text that no message may show.
const MARKER: &str = "MARKED-7f3a";

/// Fixtures that are JSON with one usable client, and the fixtures' other documents.
const JSON: [&str; 15] = [
    "plain.json",
    "key-flat.json",
    "key-wrapped.json",
    "key-tms.json",
    "key-alm.json",
    "key-oauth.json",
    "key-x509.json",
    "key-ias.json",
    "vcap.json",
    "default-env.json",
    "destination.json",
    "cli-secrets.json",
    "cli-options.json",
    "cli-cache.json",
    "power-bi.json",
];

fn json_of(fixture: &str) -> Value {
    let Tree::File(bytes) = tree(fixture) else { panic!("{fixture} is a folder") };
    serde_json::from_slice(&bytes).unwrap()
}

fn recognised(document: &Value) -> Result<Found, FormatError> {
    text(&document.to_string())
}

/// Everything that could be shown, secrets apart.
fn shown(result: &Result<Found, FormatError>) -> String {
    match result {
        Ok(found) => format!("{found:?}"),
        Err(error) => format!("{error} {error:?}"),
    }
}

/// Everything that was read, secrets included.
fn whole(found: &Found) -> String {
    let proof = match &found.details.proof {
        FoundProof::Secret(secret) => secret.expose(),
        FoundProof::Certificate(certificate) => certificate.key.expose(),
    };
    format!("{found:?} {proof}")
}

/// The JSON pointers of every map and every text in a document.
fn pointers(document: &Value) -> (Vec<String>, Vec<String>) {
    let (mut maps, mut texts) = (Vec::new(), Vec::new());
    let mut left = vec![(String::new(), document)];
    while let Some((pointer, value)) = left.pop() {
        match value {
            Value::Object(entries) => {
                left.extend(entries.iter().map(|(key, value)| (format!("{pointer}/{key}"), value)));
                maps.push(pointer);
            }
            Value::Array(items) => left.extend(
                items.iter().enumerate().map(|(index, item)| (format!("{pointer}/{index}"), item)),
            ),
            Value::String(_) => texts.push(pointer),
            _ => {}
        }
    }
    (maps, texts)
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(Value::from("https://a.example")),
        Just(Value::from("{\"clientid\":\"a\"}")),
    ];
    let key = prop_oneof![
        "[a-z_.-]{1,8}",
        prop::sample::select(vec![
            "clientid",
            "client-id",
            "clientsecret",
            "url",
            "token_url",
            "credentials",
            "uaa",
            "VCAP_SERVICES",
            "Authentication",
            "tokenServiceURL",
            "certurl",
            "key",
            "certificate",
            "name",
            "tags",
            "auth_token_url",
            "connections",
            "endpoints",
            "secrets-file",
        ])
        .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = recognise(&Tree::file(bytes.clone()), &Binding::default());
        let folder = BTreeMap::from([("clientid".into(), Tree::file(bytes))]);
        let _ = recognise(&Tree::Folder(folder), &named("x"));
    }

    #[test]
    fn no_text_panics(document in "(?s).{0,200}", line in "[a-zA-Z_ .'\"#=:\\\\u\n]{0,80}") {
        let _ = text(&document);
        let _ = text(&format!("tokenServiceURL=x\n{line}"));
        let _ = text(&format!("client_id=x\n{line}"));
    }

    #[test]
    fn no_json_panics(document in any_json(), name in prop::option::of("[a-z]{1,3}")) {
        let binding = Binding { name, ..Binding::default() };
        let _ = recognise(&Tree::file(document.to_string()), &binding);
        let folder = BTreeMap::from([("type".into(), Tree::file(document.to_string()))]);
        let _ = recognise(&Tree::Folder(folder), &binding);
    }

    #[test]
    fn no_damaged_fixture_panics(
        fixture in prop::sample::select(FIXTURES.map(|row| row.0).to_vec()),
        at in any::<prop::sample::Index>(), length in 0usize..20,
        with in prop::collection::vec(any::<u8>(), 0..8),
    ) {
        if let Tree::File(bytes) = tree(fixture) {
            let start = at.index(bytes.len());
            let end = (start + length).min(bytes.len());
            let mut damaged = bytes.to_vec();
            damaged.splice(start..end, with);
            let _ = recognise(&Tree::file(damaged), &Binding::default());
        }
    }

    #[test]
    fn unknown_keys_change_nothing(
        fixture in prop::sample::select(JSON.to_vec()),
        at in any::<prop::sample::Index>(), key in "x_[a-z]{1,8}", value in any_json(),
    ) {
        let mut document = json_of(fixture);
        let before = whole(&recognised(&document).unwrap());
        let (maps, _) = pointers(&document);
        // The map of VCAP_SERVICES has labels, not keys: any label's bindings count.
        let is_labels = |pointer: &str| {
            fixture == "vcap.json" && pointer.is_empty() || pointer == "/VCAP_SERVICES"
        };
        let pointer = &maps[at.index(maps.len())];
        if !is_labels(pointer) {
            let map = document.pointer_mut(pointer).unwrap();
            map.as_object_mut().unwrap().insert(key, value);
            prop_assert_eq!(whole(&recognised(&document).unwrap()), before);
        }
    }

    #[test]
    fn no_message_shows_a_value(
        fixture in prop::sample::select(JSON.to_vec()),
        at in any::<prop::sample::Index>(), prefix in "[a-z:/]{0,10}", removed in any::<prop::sample::Index>(),
    ) {
        let mut document = json_of(fixture);
        let (_, texts) = pointers(&document);
        let marked = &texts[at.index(texts.len())];
        *document.pointer_mut(marked).unwrap() = json!(format!("{prefix}{MARKER}"));
        let removed = &texts[removed.index(texts.len())];
        if removed != marked {
            *document.pointer_mut(removed).unwrap() = json!("");
        }
        let result = recognised(&document);
        // Names of bindings and plans are shown on purpose, and so are the ids of clients found.
        let is_name = ["/name", "/instance_name", "/label", "/plan"].iter().any(|n| marked.ends_with(n));
        let is_secret = ["secret", "key", "password", "_token", "/value"].iter().any(|n| marked.ends_with(n));
        if is_secret || result.is_err() && !is_name {
            prop_assert!(!shown(&result).contains(MARKER), "{}", shown(&result));
        }
    }
}

#[test]
fn secrets_are_never_shown_wherever_they_are() {
    let mut trees: Vec<_> = FIXTURES.iter().map(|row| (row.0, Tree::clone(&tree(row.0)))).collect();
    trees.extend(
        ["vcap-two.json", "folder-root", "power-bi-map.json"].map(|name| (name, tree(name))),
    );
    for (name, tree) in trees {
        for binding in [Binding::default(), named("nobody")] {
            let shown = shown(&recognise(&tree, &binding));
            assert!(!shown.contains("FAKE-secret"), "{name}: {shown}");
        }
    }
    for name in ["key-x509.json", "folder-x509"] {
        assert!(!shown(&fixture(name)).contains("RkFLRS1LRVk"), "{name}");
    }
    assert!(!format!("{:?}", tree("folder-keys")).contains("FAKE"));
}

/// Fixtures, the key to remove, and the message without it.
const REMOVED: [(&str, &str, &str); 23] = [
    ("plain.json", "/client_id", "the file has no client_id"),
    (
        "plain.json",
        "/client_secret",
        "the file has no client_secret and no certificate with its key",
    ),
    ("plain.json", "/token_url", "the file has no token_url"),
    ("key-flat.json", "/clientid", "the file has no clientid"),
    ("key-flat.json", "/clientsecret", "the file has no clientsecret"),
    ("key-flat.json", "/url", "the file has no url"),
    ("key-wrapped.json", "/credentials/client_id", "credentials has no clientid"),
    (
        "key-tms.json",
        "/uaa/clientsecret",
        "uaa has no clientsecret and no certificate with its key",
    ),
    ("key-alm.json", "/credentials/uaa/clientid", "credentials.uaa has no clientid"),
    ("key-x509.json", "/certificate", "the file has no certificate"),
    ("key-x509.json", "/key", "the file has no key"),
    ("key-x509.json", "/certurl", "the file has no certurl"),
    ("vcap.json", "/xsuaa/0/credentials/clientid", "xsuaa[0].credentials has no clientid"),
    ("vcap.json", "/xsuaa/0/credentials/url", "xsuaa[0].credentials has no url"),
    (
        "destination.json",
        "/destinationConfiguration/clientId",
        "destinationConfiguration has no clientId",
    ),
    (
        "destination.json",
        "/destinationConfiguration/tokenServiceURL",
        "destinationConfiguration has no tokenServiceURL",
    ),
    (
        "destination.json",
        "/destinationConfiguration/Authentication",
        "destinationConfiguration has no Authentication",
    ),
    (
        "cli-secrets.json",
        "/client_secret",
        "the file has no client_secret and no certificate with its key",
    ),
    ("cli-options.json", "/client-id", "the file has no client-id"),
    (
        "cli-options.json",
        "/token-url",
        "the file has no token-url: add the Token URL that System > Administration > App Integration shows",
    ),
    ("cli-cache.json", "/0/client_id", "[0] has no client_id"),
    ("power-bi.json", "/client_id", "the file has no client_id"),
    ("power-bi.json", "/auth_token_url", "the file has no auth_token_url"),
];

#[test]
fn a_removed_key_is_named_with_its_location() {
    for (fixture, pointer, expected) in REMOVED {
        for empty in [None, Some(json!("")), Some(json!(" \n")), Some(Value::Null)] {
            let mut document = json_of(fixture);
            let (map, key) = pointer.rsplit_once('/').unwrap();
            let map = document.pointer_mut(map).unwrap().as_object_mut().unwrap();
            map.remove(key);
            map.extend(empty.map(|empty| (key.to_owned(), empty)));
            let Err(FormatError::Unusable(unusable)) = recognised(&document) else {
                panic!("{fixture} {pointer}: {}", shown(&recognised(&document)));
            };
            let messages = unusable.iter().map(ToString::to_string).collect::<Vec<_>>();
            let ends = |message: &String| message.split_once(": ").unwrap().1 == expected;
            assert!(messages.iter().any(ends), "{fixture} {pointer}: {messages:?}");
        }
    }
}
