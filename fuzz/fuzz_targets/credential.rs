//! The readers of credentials: they end on every input and show no secret.
//!
//! An input is a file, or a folder if it begins with a NUL: names and contents, each up to a NUL.
#![no_main]

use bearerd::credential::format::{Binding, FoundProof, Tree, recognise};
use libfuzzer_sys::fuzz_target;

/// The shortest secret to look for. Shorter ones can occur in any text.
const LONG_ENOUGH: usize = 8;

fuzz_target!(|input: &[u8]| {
    let tree = match input.split_first() {
        Some((0, entries)) => {
            let mut parts = entries.split(|byte| *byte == 0);
            let mut folder = Tree::Folder(Default::default());
            while let (Some(name), Some(content)) = (parts.next(), parts.next()) {
                if let Tree::Folder(entries) = &mut folder {
                    let name = String::from_utf8_lossy(name).into_owned();
                    entries.insert(name, Tree::file(content));
                }
            }
            folder
        }
        _ => Tree::file(input),
    };
    match recognise(&tree, &Binding::default()) {
        Ok(found) => {
            let client = found.details;
            assert!(!client.client_id.is_empty() && client.token_url.has_host());
            // A certificate chain is not a secret, and may hold a key by mistake.
            if let FoundProof::Secret(secret) = &client.proof
                && secret.expose().len() >= LONG_ENOUGH
            {
                let shown = format!("{:?} {:?}", client.proof, client.token_params);
                let shown = shown.replace("Secret(redacted)", "");
                assert!(!shown.contains(secret.expose()), "{shown}");
            }
        }
        Err(error) => assert!(error.to_string().len() < 64 * 1024 + 200 * input.len()),
    }
});
