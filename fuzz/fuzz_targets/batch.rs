//! The readers of batches: the chunks of a body make no difference, and no part of a refused
//! request is sent.
#![no_main]

use bearerd::proxy::batch_check::{Form, Outcome, read};
use libfuzzer_sys::fuzz_target;

/// The body in chunks of these lengths in turn.
fn chunks<'b>(body: &'b [u8], lengths: [u8; 2]) -> Vec<&'b [u8]> {
    let mut lengths = lengths.into_iter().cycle();
    let mut rest = body;
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        let length = usize::from(lengths.next().unwrap_or(1)).clamp(1, rest.len());
        let (chunk, after) = rest.split_at(length);
        chunks.push(chunk);
        rest = after;
    }
    chunks
}

fuzz_target!(|input: &[u8]| {
    let Some((&[form, first, second], body)) = input.split_first_chunk() else {
        return;
    };
    let form = match form % 4 {
        0 => Form::Multipart,
        1 => Form::Json,
        2 => Form::Scim,
        _ => Form::PossibleBulk,
    };
    let whole = read(form, [body]);
    let cut = read(form, chunks(body, [first, second]));
    // With several faults, another one may be found first.
    assert_eq!(whole.refusal.is_some(), cut.refusal.is_some(), "{whole:?} {cut:?}");
    if whole.refusal.is_none() {
        assert_eq!(whole, cut, "{form:?}");
    }
    for Outcome { refusal, sent, parts } in [whole, cut] {
        let is_refused = |part: &String| part.contains("no");
        assert_eq!(parts.iter().any(is_refused), refusal.as_deref() == Some("Forbidden(\"no\")"));
        // Headers of parts and text around a multipart may be removed. Nothing is added.
        assert!(sent.len() <= body.len(), "{form:?}");
        if let Form::PossibleBulk = form
            && refusal.is_none()
        {
            assert_eq!(sent, body);
        }
    }
});
