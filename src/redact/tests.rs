use super::escapes::LONGEST_ESCAPE;
use super::findings::WORTH_HOLDING;
use super::redactor::{AGAIN, LONGEST_HELD, LOOKED_AT, SPARE};
use super::runs::next_run;
use super::secrets::REMOVED;
use super::*;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use memchr::memmem;
use proptest::prelude::*;
use std::cell::Cell;

thread_local! {
    /// How many bytes this thread has searched for secrets.
    pub(super) static SEARCHED: Cell<usize> = const { Cell::new(0) };
}

const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJqdGkiOiJ4In0.c2ln";

fn secrets(secret: &str) -> Secrets {
    Secrets::new([Bytes::copy_from_slice(secret.as_bytes())], 8).unwrap()
}

/// What becomes of a body in chunks of these sizes, and how many secrets were in it.
fn clean(secrets: &Secrets, body: &[u8], sizes: &[usize]) -> (Vec<u8>, usize) {
    let mut redactor = Redactor::new(secrets.clone());
    let (mut output, mut count) = (Vec::new(), 0);
    let mut rest = body;
    let mut sizes = sizes.iter().cycle();
    loop {
        let (now, later) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
        rest = later;
        let is_end = rest.is_empty();
        let mut chunk = Some(Bytes::copy_from_slice(now));
        count += redactor.redact_chunk(&mut chunk, is_end);
        assert!(
            chunk.as_ref().is_none_or(|chunk| !chunk.is_empty()),
            "it would end a chunked body"
        );
        output.extend_from_slice(&chunk.unwrap_or_default());
        // An eighth of it, and the last chunk.
        assert!(redactor.held.len() <= (LONGEST_HELD + redactor.passed.len()) * 9 / 8 + now.len());
        if is_end {
            return (output, count);
        }
    }
}

#[test]
fn an_escape_of_four_digits_is_a_character_and_no_byte() {
    let secret = "p\u{e4}sswort-very-secret-1234";
    for text in [
        "p\\u00e4sswort-very-secret-1234",
        "p%u00E4sswort-very-secret-1234",
        "p\\\\u00e4sswort-very-secret-1234",
    ] {
        let (output, count) =
            clean(&secrets(secret), format!("bad {text}!").as_bytes(), &[usize::MAX]);
        assert_eq!(count, 1, "{}", String::from_utf8_lossy(&output));
    }
}

fn filled(length: usize) -> String {
    format!("{REMOVED}{}", "*".repeat(length - REMOVED.len()))
}

/// A way to write a secret.
#[derive(Clone, Copy, Debug)]
enum Dress {
    Raw,
    PercentAll(bool),
    PercentReserved(bool),
    /// Each so-many-th character.
    PercentSome(usize),
    PercentU,
    Form,
    Named,
    Decimal(bool),
    Hexadecimal(bool),
    Json,
    JsonAll(bool),
    /// With as many zeros as are read.
    Padded,
    Bytes,
    /// Behind so many other bytes.
    Base64(usize),
    Base64Url(usize),
    Hex(bool),
}

impl Dress {
    fn on(self, text: &str) -> String {
        let each = |one: &dyn Fn(u8) -> String| text.bytes().map(one).collect::<String>();
        let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let percent = |byte: u8, upper| match upper {
            true => format!("%{byte:02X}"),
            false => format!("%{byte:02x}"),
        };
        let raw = |byte: u8| char::from(byte).to_string();
        match self {
            Self::Raw => text.to_owned(),
            Self::PercentAll(upper) => each(&|byte| percent(byte, upper)),
            Self::PercentReserved(upper) => each(&|byte| match is_unreserved(byte) {
                true => raw(byte),
                false => percent(byte, upper),
            }),
            Self::PercentSome(step) => {
                let one = |(at, byte): (usize, u8)| match byte != b'%' && at % step > 0 {
                    true => raw(byte),
                    false => percent(byte, at % 2 == 0),
                };
                text.bytes().enumerate().map(one).collect()
            }
            Self::PercentU => each(&|byte| format!("%u{byte:04x}")),
            Self::Form => url::form_urlencoded::byte_serialize(text.as_bytes()).collect(),
            Self::Named => each(&|byte| match byte {
                b'&' => "&amp;".into(),
                b'<' => "&lt;".into(),
                b'>' => "&gt;".into(),
                b'"' => "&quot;".into(),
                b'\'' => "&#39;".into(),
                b'.' => "&period;".into(),
                b'_' => "&lowbar;".into(),
                other => raw(other),
            }),
            Self::Decimal(ends) => {
                each(&|byte| format!("&#{byte:03}{}", if ends { ";" } else { "" }))
            }
            Self::Hexadecimal(upper) => each(&|byte| match upper {
                true => format!("&#X{byte:02X};"),
                false => format!("&#x{byte:04x};"),
            }),
            Self::Json => {
                let quoted = serde_json::to_string(text).unwrap().replace('/', "\\/");
                quoted[1..quoted.len() - 1].to_owned()
            }
            Self::JsonAll(upper) => each(&|byte| match upper {
                true => format!("\\u{byte:04X}"),
                false => format!("\\u{byte:04x}"),
            }),
            Self::Padded => each(&|byte| format!("&#x{byte:012x};")),
            Self::Bytes => each(&|byte| format!("\\x{byte:02x}")),
            Self::Base64(behind) => STANDARD.encode(format!("{}{text}", &"id:"[..behind])),
            Self::Base64Url(behind) => {
                URL_SAFE_NO_PAD.encode(format!("{}{text}:", &"id:"[..behind]))
            }
            Self::Hex(upper) => each(&|byte| match upper {
                true => format!("{byte:02X}"),
                false => format!("{byte:02x}"),
            }),
        }
    }

    fn any() -> impl Strategy<Value = Self> {
        prop_oneof![
            Just(Self::Raw),
            any::<bool>().prop_map(Self::PercentAll),
            any::<bool>().prop_map(Self::PercentReserved),
            (1_usize..8).prop_map(Self::PercentSome),
            Just(Self::PercentU),
            Just(Self::Form),
            Just(Self::Named),
            any::<bool>().prop_map(Self::Decimal),
            any::<bool>().prop_map(Self::Hexadecimal),
            Just(Self::Json),
            any::<bool>().prop_map(Self::JsonAll),
            Just(Self::Padded),
            Just(Self::Bytes),
            (0_usize..4).prop_map(Self::Base64),
            (0_usize..4).prop_map(Self::Base64Url),
            any::<bool>().prop_map(Self::Hex),
        ]
    }
}

/// Of what was kept from a body, all that was not to be seen is gone.
fn judge(secret: &str, dresses: &[Dress], before: &str, after: &str, sizes: &[usize]) {
    let encoded = dresses.iter().fold(secret.to_owned(), |text, dress| dress.on(&text));
    let body = format!("{before}\n{encoded}\n{after}");
    let secrets = secrets(secret);
    let (output, count) = clean(&secrets, body.as_bytes(), sizes);
    let output = String::from_utf8(output).unwrap();
    assert_eq!(output.len(), body.len(), "{encoded}: {output}");
    assert!(count > 0, "{encoded} passes");
    assert!(output.starts_with(before) && output.ends_with(after), "{encoded}: {output}");
    let middle = &output[before.len() + 1..output.len() - after.len() - 1];
    let removed = middle.chars().filter(|seen| *seen == '*').count();
    let passed = WORTH_HOLDING * LONGEST_ESCAPE.pow(2) + 8;
    assert!(removed + REMOVED.len() + passed >= middle.len(), "{encoded}: {output}");
    assert!(!secrets.occur_in(output.as_bytes()), "{encoded}: {output}");
    // As a whole, in a header.
    let (whole, _) = secrets.redact(body.as_bytes()).unwrap();
    let whole = String::from_utf8(whole).unwrap();
    let outside = whole
        .strip_prefix(&format!("{before}\n"))
        .and_then(|rest| rest.strip_suffix(&format!("\n{after}")));
    let [left, right] = outside.unwrap().split(REMOVED).collect::<Vec<_>>()[..] else {
        panic!("{encoded}: {whole}")
    };
    // What base64 has besides, and the end of what was cut.
    assert!(left.len() + right.len() <= 6 * LONGEST_ESCAPE, "{encoded}: {whole}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_encoding_and_no_chunks_hide_a_secret(
        secret in prop_oneof!["[ -~]{8,60}", "[A-Za-z0-9._-]{8,60}", "[A-Za-z0-9+/]{8,40}={0,2}"],
        first in Dress::any(),
        second in Dress::any(),
        before in "[a-z0-9 \":,{]{0,20}",
        after in "[a-z0-9 \":,}]{0,20}",
        sizes in prop::collection::vec(1_usize..80, 1..5),
    ) {
        judge(&secret, &[first, second], &before, &after, &sizes);
    }

    #[test]
    fn three_layers_and_no_chunks_hide_a_secret(
        secret in prop_oneof!["[ -~]{16,30}", "[A-Za-z0-9._-]{16,40}"],
        dresses in prop::collection::vec(Dress::any(), 3),
        sizes in prop::collection::vec(prop_oneof![1_usize..80, 1_usize..2000], 1..5),
    ) {
        let encoded = dresses.iter().fold(secret.clone(), |text, dress| dress.on(&text));
        prop_assume!(encoded.len() < LONGEST_HELD / 2);
        let body = format!("echo: {encoded}\nend");
        let (output, count) = clean(&secrets(&secret), body.as_bytes(), &sizes);
        let output = String::from_utf8(output).unwrap();
        prop_assert_eq!(output.len(), body.len());
        prop_assert!(count > 0, "{} passes", encoded);
        prop_assert!(output.starts_with("echo: ") && output.ends_with("\nend"), "{}", output);
        prop_assert!(!secrets(&secret).occur_in(output.as_bytes()), "{}", output);
    }

    #[test]
    fn a_body_without_a_secret_stays_as_it_is(
        secret in prop_oneof!["[ -~]{8,40}", "[A-Za-z0-9._-]{8,60}"],
        body in prop_oneof!["[ -~]{0,300}", "([a-z%&#;]{0,12}\\\\u00[0-9a-f]{2}|&#[0-9]{2};|%[0-9A-F]{2}){0,40}", "[A-Za-z0-9+/]{0,300}"],
        sizes in prop::collection::vec(1_usize..80, 1..5),
    ) {
        let (output, count) = clean(&secrets(&secret), body.as_bytes(), &sizes);
        prop_assert_eq!(count, 0);
        prop_assert_eq!(output, body.as_bytes());
    }

    #[test]
    fn nothing_panics_and_no_length_changes(
        secret in prop_oneof!["[ -~]{8,20}", "[ab%&#;]{8,12}"],
        body in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"%&#;\\u0041abx".to_vec())], 0..300),
        sizes in prop::collection::vec(1_usize..20, 1..5),
    ) {
        let secrets = secrets(&secret);
        let body = [&body[..], secret.as_bytes(), &body].concat();
        let (output, count) = clean(&secrets, &body, &sizes);
        prop_assert_eq!(output.len(), body.len());
        prop_assert!(count > 0);
        prop_assert!(memmem::find(&output, secret.as_bytes()).is_none());
    }

    #[test]
    fn of_a_raw_token_at_most_its_first_letters_are_seen(
        parts in prop::collection::vec(prop_oneof![
            Just(TOKEN.to_owned()),
            (1..TOKEN.len()).prop_map(|length| TOKEN[..length].to_owned()),
            "[a-z.é ]{0,30}",
        ], 0..8),
        sizes in prop::collection::vec(1_usize..60, 1..5),
    ) {
        let body = parts.concat();
        let wanted = body.replace(TOKEN, &filled(TOKEN.len()));
        let (output, count) = clean(&secrets(TOKEN), body.as_bytes(), &sizes);
        prop_assert_eq!(output.len(), wanted.len());
        prop_assert!(memmem::find(&output, TOKEN.as_bytes()).is_none());
        let pairs = output.iter().zip(wanted.bytes().zip(body.bytes()));
        let odd = pairs.filter(|(is, (wanted, _))| *is != wanted);
        prop_assert!(odd.count() <= count * (2 * WORTH_HOLDING + REMOVED.len()));
        prop_assert_eq!(count, body.matches(TOKEN).count());
    }
}

/// Where a body is cut does not matter: of its secret in this encoding at most the first letters
/// are seen.
fn judge_cuts(secret: &str, dresses: &[Dress], cuts: impl Fn(usize) -> Vec<usize>) {
    let encoded = dresses.iter().fold(secret.to_owned(), |text, dress| dress.on(&text));
    let body = format!("echo: {encoded}\nend");
    // Dressed letters are not of one width.
    let passed = (WORTH_HOLDING + 1) * 2 * encoded.len().div_ceil(secret.len()) + 64;
    for cut in cuts(encoded.len() / secret.len()) {
        for sizes in [&[6 + cut, usize::MAX][..], &[6 + cut / 2, cut - cut / 2, usize::MAX]] {
            let (output, count) = clean(&secrets(secret), body.as_bytes(), sizes);
            let output = String::from_utf8(output).unwrap();
            assert_eq!((count, output.len()), (1, body.len()), "{dresses:?} {cut}: {output}");
            let left = output.len() - output.matches('*').count();
            assert!(left <= passed + REMOVED.len() + 10, "{dresses:?} {cut}: {output}");
        }
    }
}

#[test]
fn no_cut_in_the_first_letters_lets_a_secret_through_that_wears_three_layers() {
    let (decimal, json, percent) =
        (Dress::Decimal(true), Dress::JsonAll(false), Dress::PercentAll(true));
    for dresses in [
        [decimal, json, decimal],
        [json, percent, Dress::Hexadecimal(false)],
        [Dress::Hexadecimal(false); 3],
        [json, percent, percent],
        [Dress::PercentU, Dress::Bytes, Dress::Named],
        [Dress::Base64(1), json, decimal],
        [decimal, Dress::Base64(2), json],
        [Dress::Hex(false), Dress::Hex(false), Dress::Base64Url(1)],
        [Dress::Base64(1), Dress::Base64(2), Dress::Base64(1)],
    ] {
        // Each byte of the first letter, and then some.
        judge_cuts(TOKEN, &dresses, |width| {
            (1..width).chain((width..8 * width).step_by(1 + width / 9)).collect()
        });
    }
}

#[test]
fn no_cut_lets_a_secret_through_whose_escapes_are_padded() {
    let named = Dress::Named;
    for dresses in [&[Dress::Padded][..], &[Dress::Padded; 2], &[named, Dress::Padded]] {
        judge_cuts(TOKEN, dresses, |width| (1..8 * width).step_by(1 + width / 20).collect());
    }
    let body = b"pass&VerticalLine;word-1234 ";
    for cut in 1..body.len() {
        let (output, count) = clean(&secrets("pass|word-1234"), body, &[cut, usize::MAX]);
        assert_eq!(count, 1, "{cut}: {}", String::from_utf8_lossy(&output));
    }
}

#[test]
fn backslashes_before_a_cut_mean_what_they_mean_without_it() {
    for count in 0..200 {
        let escaped = Dress::JsonAll(false).on(TOKEN);
        let body = format!("{}{escaped} ", r"\\".repeat(count));
        for cut in [1, 5, 8, 14] {
            let sizes = [2 * count + cut, usize::MAX];
            assert_eq!(clean(&secrets(TOKEN), body.as_bytes(), &sizes).1, 1, "{count} {cut}");
        }
    }
}

/// How many bytes are searched of a body in chunks of this size.
fn searched(secret: &str, body: &str, size: usize) -> usize {
    SEARCHED.set(0);
    clean(&secrets(secret), body.as_bytes(), &[size]);
    SEARCHED.get()
}

#[test]
fn the_smallest_chunks_are_searched_in_proportion_to_the_body() {
    let token = format!("{TOKEN}{}", "abcdefghij".repeat(300));
    let escaped = Dress::JsonAll(false).on(&token);
    let rows =
        "{\"ID\":1000,\"Region\":\"EMEA\",\"Product\":\"Bicycle\",\"Amount\":79.19},".repeat(300);
    let encoded = "%7B%22ID%22%3A1000%2C%22Region%22%3A%22EMEA%22%7D&amp;\\u0041".repeat(300);
    let deep = Dress::Hexadecimal(false).on(&Dress::JsonAll(false).on(&token[..400]));
    for secret in [token.as_str(), "sess!AbC|def.0123456789 xyz", &token[..900]] {
        for body in [&token, &escaped, &rows, &encoded, &deep, &"a".repeat(60_000)] {
            for size in [1, 2, 7, 64, 1400] {
                let searched = searched(secret, body, size);
                // At the end, what is held is searched once more.
                let most = (AGAIN + 2) * (body.len() + 1) + SPARE;
                assert!(searched <= most, "{} in {size}: {searched}", &body[..20]);
            }
        }
    }
}

#[test]
fn a_slow_stream_is_not_held_back() {
    let events = "data: {\"region\":\"EMEA\",\"amount\":79}\n\n".repeat(100);
    let mut redactor = Redactor::new(secrets("sess!AbC|def.0123456789 xyz"));
    for event in events.as_bytes().chunks(40) {
        let mut chunk = Some(Bytes::copy_from_slice(event));
        redactor.redact_chunk(&mut chunk, false);
        assert_eq!(chunk.unwrap(), event);
    }
    // What is not a secret and was held goes on at the end.
    let (body, mut output) = ("x".repeat(30_000), Vec::new());
    for at in 0..body.len() {
        let mut chunk = Some(Bytes::copy_from_slice(&body.as_bytes()[at..=at]));
        redactor.redact_chunk(&mut chunk, at + 1 == body.len());
        output.extend(chunk.unwrap_or_default());
        assert!(at + 1 - output.len() <= 16, "{at}");
    }
    assert_eq!(output, body.as_bytes());
}

#[test]
fn a_secret_that_is_too_wide_to_be_held_is_removed_as_it_comes() {
    let token = format!("{TOKEN}{}", "abcdefghij".repeat(30));
    let wide = [Dress::Hexadecimal(false); 3].iter().fold(token.clone(), |text, on| on.on(&text));
    assert!(wide.len() > 2 * LONGEST_HELD);
    let body = format!("echo: {wide} end");
    for sizes in [&[1000][..], &[16 * 1024], &[LOOKED_AT - 100, 4096], &[600, usize::MAX]] {
        let (output, count) = clean(&secrets(&token), body.as_bytes(), sizes);
        let output = String::from_utf8(output).unwrap();
        assert_eq!((count, output.len()), (1, body.len()));
        let left = output.len() - output.matches('*').count();
        assert!(left <= 512 * WORTH_HOLDING + REMOVED.len() + 10, "{left} of {sizes:?}");
        assert!(output.starts_with("echo: ") && output.ends_with(" end"), "{sizes:?}");
    }
}

#[test]
fn every_dress_over_every_other_is_taken_off() {
    let all = [
        Dress::Raw,
        Dress::PercentAll(true),
        Dress::PercentAll(false),
        Dress::PercentReserved(true),
        Dress::PercentReserved(false),
        Dress::PercentSome(3),
        Dress::PercentU,
        Dress::Form,
        Dress::Named,
        Dress::Decimal(true),
        Dress::Decimal(false),
        Dress::Hexadecimal(true),
        Dress::Hexadecimal(false),
        Dress::Json,
        Dress::JsonAll(true),
        Dress::JsonAll(false),
        Dress::Bytes,
        Dress::Base64(0),
        Dress::Base64(1),
        Dress::Base64(2),
        Dress::Base64(3),
        Dress::Base64Url(1),
        Dress::Base64Url(2),
        Dress::Base64Url(3),
        Dress::Hex(true),
        Dress::Hex(false),
    ];
    for secret in [TOKEN, "7d3f$aV+/9=de<m>o \"&'\\%41\\u0041", "b5e9d3a5"] {
        for first in all {
            for second in all {
                judge(secret, &[first, second], "{\"a\": ", "}", &[4096]);
            }
        }
    }
}

#[test]
fn a_chunk_that_ends_in_the_tokens_first_letters_is_not_short_of_them() {
    let mut redactor = Redactor::new(secrets(TOKEN));
    let mut chunk = Some(Bytes::from_static(b"done e"));
    redactor.redact_chunk(&mut chunk, false);
    assert_eq!(chunk.unwrap(), "done e");
}

#[test]
fn a_body_is_looked_at_up_to_its_limit_however_large_its_chunks() {
    let secrets = secrets(TOKEN);
    let late = [vec![b' '; LOOKED_AT], TOKEN.as_bytes().to_vec()].concat();
    for size in [LOOKED_AT, late.len(), 999] {
        assert_eq!(clean(&secrets, &late, &[size]), (late.clone(), 0));
    }
    let early =
        [vec![b' '; LOOKED_AT - 10], TOKEN.as_bytes().to_vec(), vec![b' '; LOOKED_AT]].concat();
    for size in [LOOKED_AT - 5, early.len(), 999] {
        let (output, count) = clean(&secrets, &early, &[size]);
        assert_eq!(count, 1, "one that begins before it");
        assert!(memmem::find(&output, TOKEN.as_bytes()).is_none() && output.len() == early.len());
    }
}

#[test]
fn of_many_secrets_that_begin_alike_each_is_found() {
    let tokens: Vec<_> = (0..64).map(|one| format!("{TOKEN}-{one:02}")).collect();
    let bytes = |tokens: &[String]| Secrets::new(tokens.iter().cloned().map(Bytes::from), 8);
    let (these, those) = (bytes(&tokens[..40]).unwrap(), bytes(&tokens[40..]).unwrap());
    let cookie = secrets("sess!AbC|def.0123456789 xyz");
    for all in [
        these.union(&those),
        these.union(&those).union(&cookie),
        cookie.union(&those).union(&these),
    ] {
        for token in &tokens {
            let body = format!("a {} b", Dress::JsonAll(true).on(token));
            for size in [5, 1000] {
                let (output, count) = clean(&all, body.as_bytes(), &[size]);
                assert_eq!(count, 1, "{token}: {}", String::from_utf8_lossy(&output));
            }
        }
        assert!(!all.occur_in(TOKEN.as_bytes()), "a beginning is none");
    }
    assert!(these.union(&cookie).occur_in(b"sess!AbC|def.0123456789+xyz"));
}

#[test]
fn several_secrets_are_looked_for_at_once() {
    let both = secrets(TOKEN).union(&secrets("of the session"));
    let body = format!("{TOKEN} {} of the session", URL_SAFE_NO_PAD.encode(TOKEN));
    let (output, count) = both.redact(body.as_bytes()).unwrap();
    assert_eq!((output, count), (b"[token removed] [token removed] [token removed]".to_vec(), 3));
    assert!(Secrets::new([Bytes::from_static(b"x")], 8).is_none(), "it may stand in any text");
}

#[test]
fn a_cookie_that_is_encoded_itself_is_known_by_what_it_stands_for_too() {
    let cookie = secrets("s%3Aabcdefgh.ijk%2Fl");
    assert!(cookie.occur_in(b"session=s%3Aabcdefgh.ijk%2Fl"));
    assert!(cookie.occur_in(b"session s:abcdefgh.ijk/l"));
    assert!(cookie.occur_in(b"session=s%253Aabcdefgh.ijk%252Fl"));
}

#[test]
fn of_a_text_without_long_runs_next_to_nothing_is_read() {
    let long = "x".repeat(1_000);
    let text = "{\"name\":\"Miller\",\"city\":\"Cologne\"},".repeat(1_000);
    assert_eq!(next_run(text.as_bytes(), 0, 1_000), None);
    let text = format!("{text}{long}{text}");
    let run = next_run(text.as_bytes(), 0, 1_000).unwrap();
    assert_eq!(&text[run], long);
}
