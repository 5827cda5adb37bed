//! The fixtures of every format, and the client in each of them.

mod errors;
mod properties;

use super::*;
use crate::credential::folder;
use crate::secret::Secret;
use crate::secret_file::CertificateAndKey;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use url::Url;

/// The secret of every fixture.
const SECRET: &str = "FAKE-secret-$a+b/c=";
const TOKEN_URL: &str = "https://acme.authentication.eu10.hana.ondemand.com/oauth/token";

fn path(fixture: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/credential/format/fixtures").join(fixture)
}

fn tree(fixture: &str) -> Tree {
    folder::read(&path(fixture)).unwrap()
}

fn fixture(fixture: &str) -> Result<Found, FormatError> {
    recognise(&tree(fixture), &Binding::default())
}

fn text(text: &str) -> Result<Found, FormatError> {
    recognise(&Tree::file(text), &Binding::default())
}

fn named(name: &str) -> Binding {
    Binding { name: Some(name.to_owned()), ..Binding::default() }
}

fn secret(found: &Found) -> &str {
    match &found.details.proof {
        FoundProof::Secret(secret) => secret.expose(),
        FoundProof::Certificate(_) => panic!("a certificate, not a secret"),
    }
}

const PLAIN: &str = "client id, secret and token URL";
const KEY: &str = "BTP service key";
const FOLDER: &str = "service binding folder";
const TOP: &str = "the file";
const API: Option<&str> = Some("https://acme.eu10.hcs.cloud.sap/");
const TMS: Option<&str> =
    Some("https://transport-service-app-backend.ts.cfapps.eu10.hana.ondemand.com/");

/// Fixtures with one usable client that has [`SECRET`] and [`TOKEN_URL`]: name, format, location,
/// client id and API of each.
type Row = (&'static str, &'static str, &'static str, &'static str, Option<&'static str>);

const FIXTURES: [Row; 23] = [
    ("plain.json", PLAIN, TOP, "sb-fake-0001!b1|client!b2", None),
    ("plain.env", PLAIN, TOP, "sb-fake-0001!b1|client!b2", API),
    ("plain.yaml", PLAIN, TOP, "sb-fake-0001!b1|client!b2", None),
    ("pasted.txt", PLAIN, TOP, "sb-fake-0001!b1|client!b2", None),
    ("key-flat.json", KEY, TOP, "sb-fake-0002!t2", None),
    ("key-wrapped.json", KEY, "credentials", "sb-fake-0003!t3", None),
    ("key-tms.json", KEY, "uaa", "sb-fake-0004!b4|alm-ts-backend!b5", TMS),
    (
        "key-alm.json",
        KEY,
        "credentials.uaa",
        "sb-fake-0005!b5",
        Some("https://eu10.alm.cloud.sap/"),
    ),
    (
        "key-oauth.json",
        KEY,
        "oauth",
        "sb-fake-0006!b6",
        Some("https://service.cfapps.eu10.hana.ondemand.com/"),
    ),
    ("vcap.json", "VCAP_SERVICES", "xsuaa[0].credentials", "sb-fake-0009!t9", None),
    (
        "default-env.json",
        "VCAP_SERVICES",
        "user-provided[0].credentials",
        "sb-fake-0012!b12|client!b2",
        None,
    ),
    ("vcap.env", "VCAP_SERVICES", "xsuaa[0].credentials", "sb-fake-0013!t13", None),
    ("destination.properties", "destination", TOP, "sb-fake-0014!b14|client!b2", API),
    (
        "destination.json",
        "destination",
        "destinationConfiguration",
        "sb-fake-0015!b15|client!b2",
        API,
    ),
    ("cli-secrets.json", "datasphere CLI secrets", TOP, "sb-fake-0016!b16|client!b2", API),
    ("cli-options.json", "datasphere CLI options", TOP, "sb-fake-0017!b17|client!b2", API),
    ("cli-cache.json", "datasphere CLI secrets", "[0]", "sb-fake-0018!b18|client!b2", API),
    ("power-bi.json", "Power BI connection", TOP, "sb-fake-0019!b19|client!b2", API),
    ("folder-keys", FOLDER, TOP, "sb-fake-0022!t22", None),
    ("folder-nested", FOLDER, "uaa", "sb-fake-0023!t23", Some("https://transport.fake/")),
    ("folder-secret-key", FOLDER, "credentials", "sb-fake-0024!t24", None),
    (
        "folder-root-key",
        KEY,
        "everything.json.uaa",
        "sb-fake-0025!t25",
        Some("https://transport.fake/"),
    ),
    ("folder-classic", KEY, "sapcp/xsuaa/acme-uaa", "sb-fake-0027!t27", None),
];

#[test]
fn every_fixture_gives_its_client() {
    for (name, format, location, client_id, api) in FIXTURES {
        let found = fixture(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(found.format, format, "{name}");
        assert_eq!(found.location, location, "{name}");
        assert_eq!(found.details.client_id, client_id, "{name}");
        assert_eq!(secret(&found), SECRET, "{name}");
        assert_eq!(found.details.token_url.as_str(), TOKEN_URL, "{name}");
        assert_eq!(found.details.api_url.as_ref().map(Url::as_str), api, "{name}");
        if name != "destination.properties" {
            assert_eq!(found.details.client_auth, None, "{name}");
            assert_eq!(found.details.scope, None, "{name}");
            assert!(found.details.token_params.is_empty(), "{name}");
            assert!(found.details.ignored.is_empty(), "{name}");
        }
    }
}

#[test]
fn every_fixture_is_in_a_test() {
    const OTHERS: [&str; 8] = [
        "folder-root",
        "folder-x509",
        "interactive.txt",
        "key-ias.json",
        "key-x509.json",
        "power-bi-map.json",
        "saml.txt",
        "vcap-two.json",
    ];
    let tested: Vec<_> = FIXTURES.iter().map(|row| row.0).chain(OTHERS).collect();
    for entry in std::fs::read_dir(path("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(tested.contains(&name.as_str()), "{name} is in no test");
    }
}

#[test]
fn a_certificate_is_asked_for_at_its_own_host_and_its_line_breaks_are_mended() {
    let found = fixture("key-x509.json").unwrap();
    let cert_url = "https://acme.authentication.cert.eu10.hana.ondemand.com/oauth/token";
    assert_eq!(found.details.token_url.as_str(), cert_url);
    assert_eq!(found.details.client_auth, Some(ClientAuth::Mtls));
    let FoundProof::Certificate(CertificateAndKey { chain, key }) = &found.details.proof else {
        panic!("{found:?}")
    };
    assert_eq!(
        chain,
        "-----BEGIN CERTIFICATE-----\nRkFLRS1MRUFG\n-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\nRkFLRS1DQQ==\n-----END CERTIFICATE-----\n"
    );
    assert_eq!(
        key.expose(),
        "-----BEGIN RSA PRIVATE KEY-----\nRkFLRS1LRVk=\n-----END RSA PRIVATE KEY-----\n"
    );
    let found = fixture("folder-x509").unwrap();
    assert_eq!((found.format, found.details.token_url.as_str()), (FOLDER, cert_url));
}

#[test]
fn a_key_with_secret_and_certificate_is_decided_by_its_type() {
    let Tree::File(bytes) = tree("key-x509.json") else { panic!("a file") };
    let json = std::str::from_utf8(&bytes).unwrap();
    let with_secret = json.replace("\"clientid\"", "\"clientsecret\": \"s\", \"clientid\"");
    let auth = |json: &str| text(json).unwrap().details.client_auth;
    assert_eq!(auth(&with_secret), Some(ClientAuth::Mtls));
    assert_eq!(auth(&with_secret.replace("\"x509\"", "\"binding-secret\"")), None);
    assert_eq!(auth(&with_secret.replace("\"x509\"", "\"\"")), None);
    assert_eq!(auth(&json.replace("\"x509\"", "\"\"")), Some(ClientAuth::Mtls));
}

#[test]
fn identity_services_have_their_own_path_and_take_certificates_at_the_same_host() {
    let found = fixture("key-ias.json").unwrap();
    assert_eq!(found.details.token_url.as_str(), "https://acme.accounts.ondemand.com/oauth2/token");
    let Tree::File(bytes) = tree("key-x509.json") else { panic!("a file") };
    let json = std::str::from_utf8(&bytes)
        .unwrap()
        .replace("certurl", "other")
        .replace("acme.authentication.eu10.hana.ondemand.com", "acme.accounts.cloud.sap");
    let found = text(&json.replace("x509", "X509_GENERATED")).unwrap();
    assert_eq!(found.details.token_url.as_str(), "https://acme.accounts.cloud.sap/oauth2/token");
    assert_eq!(found.details.client_auth, Some(ClientAuth::Mtls));
}

#[test]
fn a_destination_says_how_to_ask_and_what_to_add() {
    let found = fixture("destination.properties").unwrap();
    let pairs = |pairs: &[(String, Secret)]| -> Vec<String> {
        pairs.iter().map(|(name, value)| format!("{name}={}", value.expose())).collect()
    };
    assert_eq!(pairs(&found.details.token_params), ["zone=acme", "token_format=opaque"]);
    assert_eq!(found.details.scope.as_deref(), Some("fake.read"));
    assert_eq!(found.details.client_auth, Some(ClientAuth::Basic));
    assert_eq!(
        found.details.ignored,
        ["tokenServiceURL.headers.x-zid", "URL.headers.x-sap-sac-custom-auth"]
    );
    assert!(!format!("{found:?}").contains("opaque"));
}

#[test]
fn a_binding_is_chosen_by_each_of_its_traits() {
    let tree = tree("vcap-two.json");
    let id = |binding: Binding| recognise(&tree, &binding).unwrap().details.client_id;
    let some = |text: &str| Some(text.to_owned());
    let (tms, uaa) = ("sb-fake-0010!t10", "sb-fake-0011!t11");
    assert_eq!(id(named("acme-tms")), tms);
    assert_eq!(id(Binding { label: some("xsuaa"), ..Binding::default() }), uaa);
    assert_eq!(id(Binding { tag: some("alm"), ..Binding::default() }), tms);
    assert_eq!(id(Binding { plan: some("application"), ..Binding::default() }), uaa);
    let all = Binding {
        name: some("acme-tms"),
        label: some("transport"),
        tag: some("transport"),
        plan: some("standard"),
    };
    assert_eq!(id(all.clone()), tms);
    let none = Binding { plan: some("application"), ..all };
    assert!(matches!(recognise(&tree, &none), Err(FormatError::NoMatch { .. })));
}

#[test]
fn folders_are_chosen_by_their_names_and_by_what_their_files_say() {
    let found = |fixture: &str, binding: &Binding| recognise(&tree(fixture), binding).unwrap();
    assert_eq!(found("folder-root", &named("two")).details.client_id, "sb-fake-two!t26");
    assert_eq!(found("folder-root", &named("two")).location, "two");
    for fixture in ["folder-keys", "folder-secret-key"] {
        let binding = Binding {
            name: Some("acme-uaa".into()),
            label: Some("xsuaa".into()),
            plan: Some("application".into()),
            tag: None,
        };
        assert_eq!(found(fixture, &binding).format, FOLDER);
    }
    let binding = Binding {
        name: Some("acme-tms".into()),
        label: Some("transport".into()),
        plan: Some("standard".into()),
        tag: Some("alm".into()),
    };
    assert_eq!(found("folder-root-key", &binding).details.client_id, "sb-fake-0025!t25");
    let binding = Binding { label: Some("xsuaa".into()), ..named("acme-uaa") };
    assert_eq!(found("folder-classic", &binding).details.client_id, "sb-fake-0027!t27");
}

#[test]
fn a_connection_is_chosen_by_its_name() {
    let found = recognise(&tree("power-bi-map.json"), &named("live")).unwrap();
    assert_eq!(found.location, "connections.live");
    assert_eq!(found.details.api_url.unwrap().as_str(), "https://live.eu10.hcs.cloud.sap/");
}

#[test]
fn lists_of_clients_are_searched_wherever_tools_put_them() {
    let Tree::File(bytes) = tree("power-bi.json") else { panic!("a file") };
    let one = std::str::from_utf8(&bytes).unwrap();
    for (document, location) in [
        (format!("[{one}]"), "[0]"),
        (format!("{{\"live\":{one}}}"), "live"),
        (format!("{{\"connections\":[1,{one}]}}"), "connections[1]"),
        (format!("{{\"VCAP_SERVICES\":{{}},\"connections\":[{one}]}}"), "connections[0]"),
    ] {
        assert_eq!(text(&document).unwrap().location, location);
    }
    let other = one.replace("sb-fake", "sb-other");
    assert!(matches!(text(&format!("[{one},{other}]")), Err(FormatError::Ambiguous { .. })));
    let vcap = BTreeMap::from([("vcap".to_owned(), tree("vcap.json"))]);
    let found = recognise(&Tree::Folder(vcap), &Binding::default()).unwrap();
    assert_eq!(found.location, "vcap.xsuaa[0].credentials");
}

#[test]
fn a_token_url_counts_before_a_url_that_may_be_the_apis() {
    let lines =
        format!("CLIENT_ID=x\nCLIENT_SECRET=s\nURL=https://api.example\nTOKEN_URL={TOKEN_URL}");
    assert_eq!(text(&lines).unwrap().details.token_url.as_str(), TOKEN_URL);
}

#[test]
fn variables_are_a_folder_of_files() {
    let variables = [
        ("CLIENT_ID", "sb-fake!b1"),
        ("CLIENT_SECRET", SECRET),
        ("TOKEN_URL", TOKEN_URL),
        ("HOST", "https://acme.eu10.hcs.cloud.sap"),
    ];
    let file = |(name, value): (&str, &str)| (name.to_owned(), Tree::file(value));
    let tree = Tree::Folder(variables.into_iter().map(file).collect());
    let found = recognise(&tree, &Binding::default()).unwrap();
    assert_eq!((found.format, found.details.client_id.as_str()), (PLAIN, "sb-fake!b1"));
    assert_eq!(found.details.api_url.unwrap().as_str(), "https://acme.eu10.hcs.cloud.sap/");
}

#[test]
fn a_byte_order_mark_and_the_same_client_twice_do_no_harm() {
    let Tree::File(bytes) = tree("key-tms.json") else { panic!("a file") };
    let json = std::str::from_utf8(&bytes).unwrap();
    assert_eq!(text(&format!("\u{feff}{json}")).unwrap().location, "uaa");
    let inner = json.split_once("\"uaa\": {").unwrap().1.split_once('}').unwrap().0;
    let twice = json.replacen('{', &format!("{{ {inner},"), 1);
    assert_eq!(text(&twice).unwrap().location, TOP);
    assert!(matches!(
        text(&twice.replacen("sb-fake-0004", "sb-fake-9999", 1)),
        Err(FormatError::Ambiguous { .. })
    ));
}

#[test]
fn metadata_says_what_is_text() {
    let mut entries = BTreeMap::from(
        [("clientid", "{\"a\":1}"), ("clientsecret", "s"), ("url", "https://a.example")]
            .map(|(name, value)| (name.to_owned(), Tree::file(value))),
    );
    let found =
        |entries: &BTreeMap<_, _>| recognise(&Tree::Folder(entries.clone()), &Binding::default());
    assert_eq!(
        found(&entries).unwrap_err().to_string(),
        "BTP service key: the file has a clientid that is not text (write it as a string)"
    );
    let metadata = r#"{"credentialProperties":[{"name":"clientid","format":"text"}]}"#;
    entries.insert(".metadata".into(), Tree::file(metadata));
    assert_eq!(found(&entries).unwrap().details.client_id, "{\"a\":1}");
}

#[test]
fn a_tab_beside_a_separator_is_a_blank_and_a_pasted_page_may_have_tabs_alone() {
    for document in [
        "client_id\t= sb-1\nclient_secret\t= \"s\"  # why\ntoken_url\t= https://a.example/t\n",
        "client_id:\tsb-1\nclient_secret: s\ntoken_url:\thttps://a.example/t\n",
        "Client ID\nclient_id=sb-1\nclient_secret=s\ntoken_url=https://a.example/t\n",
        "Client ID\tsb-1\nSecret\ts\nToken URL\thttps://a.example/t\n",
        "OAuth Client ID\nsb-1\nSecret\ns\nOAuth Token URL\nhttps://a.example/t\n",
    ] {
        let found = text(document).unwrap_or_else(|error| panic!("{document}: {error}"));
        assert_eq!((&*found.details.client_id, secret(&found)), ("sb-1", "s"), "{document}");
        assert_eq!(found.details.token_url.as_str(), "https://a.example/t", "{document}");
    }
}
