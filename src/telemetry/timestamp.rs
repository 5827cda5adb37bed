//! The time of a log line, in RFC 3339 with microseconds.

use std::cell::Cell;
use std::io::Write;
use std::time::{Duration, SystemTime};

/// The length of a time without its fraction, for example of `2026-11-30T08:17:22`.
const SECONDS: usize = 19;

thread_local! {
    /// The latest second that was formatted. Most lines are of the same second as the line before.
    static LATEST: Cell<(u64, [u8; SECONDS])> = const { Cell::new((u64::MAX, [0; SECONDS])) };
}

/// Appends a time. One before 1970 is written as the beginning of 1970.
pub(super) fn write(line: &mut Vec<u8>, time: SystemTime) {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (mut second, mut text) = LATEST.get();
    if second != since.as_secs() {
        second = since.as_secs();
        let whole = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        // Writing to a slice ends at its length, before the `Z`.
        let _ = write!(&mut text[..], "{}", humantime::format_rfc3339_seconds(whole));
        LATEST.set((second, text));
    }
    line.extend_from_slice(&text);
    line.push(b'.');
    let mut micros = since.subsec_micros();
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit += u8::try_from(micros % 10).unwrap_or_default();
        micros /= 10;
    }
    line.extend_from_slice(&digits);
    line.push(b'Z');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_time_is_written_as_humantime_writes_it(
            seconds in 0_u64..4_000_000_000, micros in 0_u32..1_000_000, next in 0_u64..3,
        ) {
            for second in [seconds, seconds + next] {
                let since = Duration::new(second, micros * 1_000);
                let time = SystemTime::UNIX_EPOCH + since;
                let mut line = Vec::new();
                write(&mut line, time);
                let wanted = humantime::format_rfc3339_micros(time).to_string();
                prop_assert_eq!(String::from_utf8(line).unwrap(), wanted);
            }
        }
    }
}
