//! The configuration: every text is accepted, or refused with places and reasons, and always in the
//! same way.
#![no_main]

use bearerd::config::{self, Flags};
use bearerd::environment::Environment;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    // The only file that would be read is a key that names an API.
    if text.contains("credentials") {
        return;
    }
    let environment = Environment::from([("NAME", "value")]);
    let parse = || config::parse("f", text, &environment, &Flags::default()).resolve();
    match (parse(), parse()) {
        (Ok(one), Ok(other)) => {
            assert!(one == other);
            assert!(!one.listen.is_empty() && !one.routes.is_empty());
            assert!(!one.clients.is_empty() && !one.upstreams.is_empty());
        }
        (Err(one), Err(other)) => {
            assert!(!one.0.is_empty() && one.to_string() == other.to_string());
            assert!(one.0.iter().all(|fault| !fault.message.is_empty()));
        }
        _ => panic!("once right and once wrong"),
    }
});
