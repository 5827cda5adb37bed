//! The whole message of every error.

use super::*;

fn message(document: &str) -> String {
    text(document).unwrap_err().to_string()
}

#[test]
fn a_document_without_a_client_says_so() {
    let unknown = "it holds no OAuth client in a known format; give client id, secret and token URL as three lines, or a service key (docs/credentials.md has all formats)";
    for document in ["{}", "[]", "[[1]]", "prose: with a colon", "{\"a\": {\"b\": 1}}"] {
        assert_eq!(message(document), unknown, "{document}");
    }
    let nothing = recognise(&Tree::Folder(BTreeMap::new()), &Binding::default());
    assert_eq!(nothing.unwrap_err(), FormatError::Unknown);
    assert_eq!(
        message("{\"client_id\": \"x\",\n}"),
        "it is not valid JSON: trailing comma at line 2, column 1; correct it, or copy the key again"
    );
    let utf16: Vec<u8> = "client_id=ä".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(
        recognise(&Tree::file(utf16), &Binding::default()).unwrap_err().to_string(),
        "it is not UTF-8 text, and not UTF-16 with a byte order mark; save it as UTF-8"
    );
}

#[test]
fn a_missing_key_is_named_with_its_location() {
    for (document, expected) in [
        (
            r#"{"client_id":"x"}"#,
            "client id, secret and token URL: the file has no client_secret and no certificate with its key, has no token_url",
        ),
        (
            "CLIENT_ID=\nCLIENT_SECRET='s'\nTOKEN_URL=https://a.example/t",
            "client id, secret and token URL: the file has no client_id",
        ),
        (
            r#"{"xsuaa":[{"credentials":{"clientid":"x","url":"https://a.example"}}]}"#,
            "VCAP_SERVICES: xsuaa[0].credentials has no clientsecret and no certificate with its key",
        ),
        (
            r#"{"hana":[{"credentials":{"user":"x"}}],"x":[{"credentials":{"uaa":{"clientsecret":"s","clientid":7,"uaadomain":"d"}}}]}"#,
            "VCAP_SERVICES: x[0].credentials.uaa has a clientid that is not text (write it as a string), has no url",
        ),
        (
            r#"{"hana":[{"credentials":{"user":"x"}}]}"#,
            "VCAP_SERVICES: hana[0].credentials holds no OAuth client",
        ),
        (
            r#"{"clientid":"x","credential-type":"x509","certificate":"y","url":"https://a.example"}"#,
            "BTP service key: the file has a certificate that is not a certificate as PEM text, has no key, has no certurl",
        ),
        (
            r#"{"clientid":"x","credential-type":"binding-secret","url":"https://a.example"}"#,
            "BTP service key: the file has no clientsecret",
        ),
        (
            r#"[{"access_token":"t","client_id":"x","client_secret":"s"}]"#,
            "datasphere CLI secrets: [0] has no token_url: add the Token URL that System > Administration > App Integration shows",
        ),
        (
            r#"{"secrets-file":"x.json","host":"https://a.example"}"#,
            "datasphere CLI options: the file has no client of its own; use the file that its `secrets-file` names",
        ),
        (
            r#"{"auth_token_url":"https://a.example/t","client_id":"x"}"#,
            "Power BI connection: the file has no client_secret and no certificate with its key",
        ),
        (
            "client_id=a\nclient_secret=s\nCLIENT_ID=b\ntoken_url=https://a.example/t",
            "client id, secret and token URL: the file has client_id twice, with different values",
        ),
    ] {
        assert_eq!(message(document), expected, "{document}");
    }
}

#[test]
fn an_unusable_url_is_named_and_not_shown() {
    for (url, why) in [
        ("sb-oops", "is not a URL"),
        ("ftp://a.example", "does not begin with https:// or http://"),
        ("https://u:p@a.example", "holds a user name or password; give them as keys of their own"),
        (
            "https://a.example?client_secret=s",
            "holds a secret in its query; give it as a key of its own",
        ),
    ] {
        let key = format!(r#"{{"uaa":{{"clientid":"x","clientsecret":"s","url":"{url}"}}}}"#);
        assert_eq!(message(&key), format!("BTP service key: uaa has a url that {why}"));
    }
}

#[test]
fn clients_for_people_are_distinguished_from_clients_for_machines() {
    for name in ["interactive.txt", "saml.txt"] {
        assert_eq!(
            fixture(name).unwrap_err().to_string(),
            "client id, secret and token URL: the file has a client for people who log in, or for SAML, which has no secret; create an OAuth client with the purpose Technical User (System > Administration > App Integration) and use its client ID, secret and token URL",
            "{name}"
        );
    }
}

#[test]
fn unusable_destinations_say_why() {
    let with = |lines: &str| message(&format!("Type=HTTP\nclientId=x\n{lines}"));
    let url = "Authentication=OAuth2ClientCredentials\ntokenServiceURL=https\\://a.example/t";
    let top = "destination: the file";
    let only = "bearerd supports only OAuth2ClientCredentials, which needs no user";
    assert_eq!(
        with("URL=x\nAuthentication=OAuth2SAMLBearerAssertion"),
        format!("{top} has Authentication OAuth2SAMLBearerAssertion; {only}")
    );
    assert_eq!(
        with("Authentication=hunter2"),
        format!("{top} has Authentication of an unknown kind; {only}")
    );
    assert_eq!(with("tokenServiceURL=x"), format!("{top} has no Authentication"));
    let common = format!(
        "{top} has a tokenServiceURL for many tenants; replace it by your tenant's own URL and set tokenServiceURLType to Dedicated"
    );
    assert_eq!(with(&format!("{url}\nclientSecret=s\ntokenServiceURLType=Common")), common);
    assert_eq!(with(&format!("{url}/{{tenant}}\nclientSecret=s")), common);
    assert_eq!(with(url), format!("{top} has no clientSecret: exports leave it out; add it"));
    assert_eq!(
        with(&format!("{url}\ntokenService.KeyStoreLocation=x.p12")),
        format!(
            "{top} has no clientSecret: its key store stays in the destination service; use a client with a secret, or its service key"
        )
    );
}

#[test]
fn ambiguity_lists_what_there_is_and_no_ids() {
    assert_eq!(
        fixture("vcap-two.json").unwrap_err().to_string(),
        "it holds more than one OAuth client: VCAP_SERVICES at transport[0].credentials.uaa (name `acme-tms`, label `transport`, plan `standard`); VCAP_SERVICES at xsuaa[0].credentials (name `acme-uaa`, label `xsuaa`, plan `application`); choose one by its binding's name, label, tag or plan, or keep only one"
    );
    assert_eq!(
        fixture("folder-root").unwrap_err().to_string(),
        "it holds more than one OAuth client: service binding folder at one (name `one`, label `xsuaa`); service binding folder at two (name `two`, label `xsuaa`); choose one by its binding's name, label, tag or plan, or keep only one"
    );
    assert_eq!(
        fixture("power-bi-map.json").unwrap_err().to_string(),
        "it holds more than one OAuth client: Power BI connection at connections.live (name `live`); Power BI connection at connections.test (name `test`); choose one by its binding's name, label, tag or plan, or keep only one"
    );
}

#[test]
fn a_binding_that_is_not_there_is_named_beside_those_that_are() {
    let binding = Binding { plan: Some("broker".into()), ..named("acme-uaa") };
    assert_eq!(
        recognise(&tree("vcap.json"), &binding).unwrap_err().to_string(),
        "no OAuth client has name `acme-uaa` and plan `broker`; correct `binding`; found: VCAP_SERVICES at hana[0].credentials (name `acme-db`, label `hana`, plan `hdi-shared`); VCAP_SERVICES at xsuaa[0].credentials (name `acme-uaa`, label `xsuaa`, plan `application`)"
    );
    assert_eq!(
        recognise(&tree("plain.json"), &named("x")).unwrap_err().to_string(),
        "no OAuth client has name `x`; correct `binding`; found: client id, secret and token URL at the file"
    );
    assert_eq!(
        recognise(&tree("folder-root"), &named("db")).unwrap_err().to_string(),
        "service binding folder: db holds no OAuth client"
    );
}

#[test]
fn long_lists_and_strange_names_stay_readable() {
    let binding = |index: usize| {
        format!(
            r#"{{"name":"n\n{index}","credentials":{{"clientid":"{index}","clientsecret":"s","url":"https://a.example"}}}}"#
        )
    };
    let bindings: Vec<String> = (0..12).map(binding).collect();
    let message = message(&format!(r#"{{"x{}":[{}]}}"#, "y".repeat(100), bindings.join(",")));
    assert!(message.contains("; and 2 more; choose one") && !message.contains('\n'), "{message}");
    assert!(message.contains("y[0]") && !message.contains(&"y".repeat(64)), "{message}");
}
