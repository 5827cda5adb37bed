//! A body that may be a SCIM batch. Its path ends like one, but neither its route nor its type says
//! so, and other APIs have paths like that. Pure.
//!
//! It is a batch if it is a JSON object with `Operations` that have a `method`, in any case. Before
//! that key no server can execute anything of it. From then on it is read as strictly as any batch.

use super::json::JsonReader;
use super::part_request::CheckPart;
use super::refusal::{BatchRefusal, unreadable};

/// The largest number of bytes that are held while it is not clear whether they are a batch's. A
/// request of a batch is no longer than this, either.
const MOST_HELD: usize = 256 * 1024;
/// The longest key that is compared: `Operations` in escapes has 62 bytes.
const LONGEST_KEY: usize = 256;

/// Reads one body.
#[derive(Debug)]
pub(super) struct PossibleBulkReader {
    finding: Finding,
    scanner: MethodScanner,
    /// The reader for a batch, or why a batch can't be read.
    strict: Result<JsonReader, BatchRefusal>,
    /// The bytes that are not in the output yet.
    held: Vec<u8>,
    taken: usize,
    sent: usize,
}

/// Whether the body is a batch, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    Undecided,
    Batch,
    Other,
}

impl PossibleBulkReader {
    /// `strict` reads the body if it is a batch.
    pub(super) fn new(strict: Result<JsonReader, BatchRefusal>) -> Self {
        Self {
            finding: Finding::Undecided,
            scanner: MethodScanner::default(),
            strict,
            held: Vec::new(),
            taken: 0,
            sent: 0,
        }
    }

    pub(super) fn parts(&self) -> usize {
        self.strict.as_ref().map_or(0, JsonReader::parts)
    }

    pub(super) fn push(
        &mut self,
        input: &[u8],
        check: CheckPart<'_>,
        output: &mut Vec<u8>,
    ) -> Result<(), BatchRefusal> {
        let before = output.len();
        let result = match self.finding {
            Finding::Other => {
                output.extend_from_slice(input);
                Ok(())
            }
            Finding::Batch => self.read_batch(input, check, output),
            Finding::Undecided => self.look(input, check, output),
        };
        self.taken += input.len();
        self.sent += output.len() - before;
        result
    }

    pub(super) fn finish(&mut self, output: &mut Vec<u8>) -> Result<(), BatchRefusal> {
        output.append(&mut self.held);
        if self.finding != Finding::Batch {
            return Ok(());
        }
        // The body's length was announced, so that nothing can be left out.
        if self.sent != self.taken {
            return unreadable("has headers in it that are not forwarded");
        }
        match &self.strict {
            Ok(reader) => reader.finish(),
            Err(why) => Err(why.clone()),
        }
    }

    fn look(
        &mut self,
        input: &[u8],
        check: CheckPart<'_>,
        output: &mut Vec<u8>,
    ) -> Result<(), BatchRefusal> {
        let mut seen = self.taken;
        for byte in input {
            seen += 1;
            self.finding = self.scanner.next(*byte)?;
            if self.finding != Finding::Undecided {
                break;
            }
        }
        self.held.extend_from_slice(input);
        match self.finding {
            Finding::Batch if seen > MOST_HELD => {
                unreadable("has more than 256 KiB before the first of its operations")
            }
            Finding::Batch => {
                let held = std::mem::take(&mut self.held);
                self.read_batch(&held, check, output)
            }
            Finding::Undecided if self.held.len() <= MOST_HELD => Ok(()),
            Finding::Undecided | Finding::Other => {
                output.append(&mut self.held);
                Ok(())
            }
        }
    }

    fn read_batch(
        &mut self,
        input: &[u8],
        check: CheckPart<'_>,
        output: &mut Vec<u8>,
    ) -> Result<(), BatchRefusal> {
        match &mut self.strict {
            Ok(reader) => reader.push(input, check, output),
            Err(why) => Err(why.clone()),
        }
    }
}

/// Looks for the key `method` of a request in the list `Operations`.
#[derive(Debug, Default)]
struct MethodScanner {
    has_begun: bool,
    depth: usize,
    is_string: bool,
    is_escaped: bool,
    /// The last string, with its quotes, up to [`LONGEST_KEY`].
    word: Vec<u8>,
    /// Whether the member of the outer object is the list of requests.
    is_list: bool,
}

impl MethodScanner {
    fn next(&mut self, byte: u8) -> Result<Finding, BatchRefusal> {
        if self.is_string {
            self.is_string = byte != b'"' || self.is_escaped;
            self.is_escaped = byte == b'\\' && !self.is_escaped;
            if self.word.len() <= LONGEST_KEY {
                self.word.push(byte);
            }
            return Ok(Finding::Undecided);
        }
        match byte {
            // White space that some servers trim, and byte order marks.
            0..=b' ' | 0xef | 0xbb | 0xbf | 0xfe | 0xff if !self.has_begun => {}
            b'{' if !self.has_begun => {
                self.has_begun = true;
                self.depth = 1;
            }
            _ if !self.has_begun => return Ok(Finding::Other),
            b'"' => {
                self.is_string = true;
                self.word.clear();
                self.word.push(byte);
            }
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' if self.depth > 0 => self.depth -= 1,
            b':' if self.depth == 1 => self.is_list = self.is_key("OPERATIONS")?,
            b':' if self.is_list && self.depth <= 3 => {
                if self.is_key("METHOD")? {
                    return Ok(Finding::Batch);
                }
            }
            b' ' | b'\t' | b'\r' | b'\n' | b',' | b':' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' | b'E' => {}
            // The letters of `true`, `false`, `null`, and `NaN`, which some servers accept.
            b't' | b'r' | b'u' | b'e' | b'f' | b'a' | b'l' | b's' | b'n' | b'N' => {}
            // More lenient parsers accept this as JSON.
            _ => return unreadable("begins like JSON and is not JSON"),
        }
        Ok(Finding::Undecided)
    }

    /// Whether the last string is this word, however it is written.
    fn is_key(&self, word: &str) -> Result<bool, BatchRefusal> {
        if self.word.len() > LONGEST_KEY {
            return Ok(false);
        }
        let Ok(key) = serde_json::from_slice::<String>(&self.word) else {
            return unreadable("has a key that is not JSON");
        };
        let letters = key.chars().filter(|one| one.is_alphanumeric());
        Ok(letters.flat_map(char::to_uppercase).eq(word.chars()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::batch_check::kind::BatchKind;
    use crate::proxy::batch_check::part_request::PartRequest;

    /// Whether a body passes, and what of it is sent.
    fn outcome(body: &[u8], size: usize) -> (Result<(), BatchRefusal>, Vec<u8>) {
        let check: CheckPart<'_> = &|part: &PartRequest<'_>| match part.target {
            "/forbidden" => Err(BatchRefusal::Forbidden("no".to_owned())),
            _ => Ok(()),
        };
        let mut reader = PossibleBulkReader::new(Ok(JsonReader::new(BatchKind::Scim)));
        let mut output = Vec::new();
        let mut run = || {
            for chunk in body.chunks(size) {
                reader.push(chunk, check, &mut output)?;
            }
            reader.finish(&mut output)
        };
        (run(), output)
    }

    const BULK: &str = r#"{"schemas":["x"],"Operations":[{"path":"/x","method":"POST"},{"method":"PUT","path":"/y"}]}"#;

    #[test]
    fn a_batch_is_judged_as_one() {
        let forbidden = BULK.replace("/y", "/forbidden");
        let forbidden_first = BULK.replace("/x", "/forbidden");
        for size in [1, 7, usize::MAX] {
            assert_eq!(outcome(BULK.as_bytes(), size), (Ok(()), BULK.into()));
            for body in [&forbidden, &forbidden_first] {
                let (result, sent) = outcome(body.as_bytes(), size);
                assert_eq!(result, Err(BatchRefusal::Forbidden("no".to_owned())));
                let sent = String::from_utf8(sent).unwrap();
                assert!(body.starts_with(&sent) && !sent.contains("forbidden"), "{sent}");
            }
        }
    }

    #[test]
    fn a_batch_that_can_be_read_in_two_ways_is_refused() {
        let utf16 = |bytes: fn(u16) -> [u8; 2]| BULK.encode_utf16().flat_map(bytes).collect();
        let bodies: Vec<Vec<u8>> = vec![
            BULK.replace("Operations", "operations").into(),
            BULK.replace("Operations", "OPERATIONS").into(),
            BULK.replace("Operations", "Operations ").into(),
            BULK.replace("Operations", "Operation\u{17f}").into(),
            BULK.replace("Operations", "\\u006fperations").into(),
            BULK.replace("method", "Method").into(),
            BULK.replace("method", "\\u004dethod").into(),
            BULK.replace("\"Operations\"", "Operations").into(),
            BULK.replace('"', "'").into(),
            BULK.replace("Operations", "Oper\\ations").into(),
            BULK.replace("{\"schemas\"", "{/*\"*/\"schemas\"").into(),
            BULK.replace(":[\"x\"]", "=[1]").into(),
            format!("{BULK}{BULK}").into(),
            format!("{{}}\n{BULK}").into(),
            format!("\u{feff}{BULK}").into(),
            format!("\u{c}{BULK}").into(),
            BULK.replace("[{\"path\":\"/x\",\"method\":\"POST\"},", "").replace("}]}", "}}").into(),
            BULK.replace("}]}", "}],\"operations\":[]}").into(),
            utf16(u16::to_be_bytes),
            utf16(u16::to_le_bytes),
            [vec![0xff, 0xfe], utf16(u16::to_le_bytes)].concat(),
            BULK.trim_end_matches('}').into(),
            BULK.replace(
                "\"path\":\"/x\"",
                "\"path\":\"/x\",\"headers\":{\"Authorization\":\"x\"}",
            )
            .into(),
        ];
        for body in bodies {
            for size in [1, usize::MAX] {
                let (result, sent) = outcome(&body, size);
                let is_refused = matches!(result, Err(BatchRefusal::Unreadable(_)));
                assert!(is_refused, "{}: {result:?}", body.escape_ascii());
                assert!(sent.len() <= body.len(), "{}", body.escape_ascii());
            }
        }
        let long =
            BULK.replace("\"schemas\"", &format!("\"s\":\"{}\",\"schemas\"", "x".repeat(300_000)));
        for size in [1000, 50_000, usize::MAX] {
            let (result, sent) = outcome(long.as_bytes(), size);
            assert!(matches!(result, Err(BatchRefusal::Unreadable(_))), "{result:?}");
            assert!(sent.len() < long.len());
        }
    }

    #[test]
    fn what_is_no_batch_passes_byte_for_byte() {
        let long = "x".repeat(600_000);
        for body in [
            "",
            "{}",
            "{",
            " \n[1]",
            "a,b\n{\"Operations\":[{\"method\":1}]}",
            r#"[{"Operations":[{"method":"PUT"}]}]"#,
            r#"{"x":{"Operations":[{"method":"PUT"}]}}"#,
            r#"{"x":"Operations","y":"{\"","method":"PUT"}"#,
            r#"{"operations":["method",{"op":"add","path":"/x"}],"x":[{"method":1}]}"#,
            r#"{"operations":[{"op":"add","value":{"method":"card"}}],"y":NaN,"z":-1.5E+3}"#,
            "{\"a\":\"\u{e4}\"}\n{\"b\":true}\n",
            &format!(r#"{{"{long}":"{long}","z":1}}"#),
        ] {
            for size in [1, 70_000, usize::MAX] {
                assert!(outcome(body.as_bytes(), size) == (Ok(()), body.into()), "{size}");
            }
        }
    }
}
