//! Questions to a person. Answers come from standard input, one in each line, so that a script can
//! give them, too.

use anyhow::bail;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{BufRead, IsTerminal, Stdin, Write, stderr, stdin};
use zeroize::Zeroizing;

const ENDED: &str = "the input ended before all questions were answered; nothing was written";
/// What the keys for the end of the input, an interruption and a correction send.
const END: u8 = 0x04;
const INTERRUPT: u8 = 0x03;
const ERASE: [u8; 2] = [0x08, 0x7f];
const ERASE_LINE: u8 = 0x15;

/// A conversation on standard input and standard error.
pub(super) struct Questions {
    input: Stdin,
}

impl Questions {
    pub(super) fn on_terminal() -> Self {
        Self { input: stdin() }
    }

    /// Whether a person answers.
    pub(super) fn are_on_terminal(&self) -> bool {
        self.input.is_terminal()
    }

    /// Prints a line.
    pub(super) fn say(&self, text: &str) {
        // Without standard error, there is nowhere to write.
        let _ = writeln!(stderr(), "{text}");
    }

    /// Asks until the answer can be used. `parse` returns the value, or what is wrong with the
    /// answer.
    pub(super) fn ask<T>(
        &self,
        question: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> anyhow::Result<T> {
        loop {
            let answer = self.line(question)?;
            match parse(answer.trim()) {
                Ok(value) => return Ok(value),
                Err(_) if answer.trim().is_empty() => self.say("  A value is needed."),
                Err(fault) => self.say(&format!("  The value {fault}.")),
            }
        }
    }

    /// Asks for a secret, which the terminal does not show.
    pub(super) fn ask_secret(&self, question: &str) -> anyhow::Result<Zeroizing<String>> {
        loop {
            let answer = match Hidden::input(&self.input) {
                Some(hidden) => {
                    self.prompt(question);
                    let answer = hidden.line();
                    drop(hidden);
                    self.say("");
                    let Some(answer) = answer? else {
                        self.say("  A key was typed that is no character. Type or paste it again.");
                        continue;
                    };
                    answer
                }
                None => self.line(question)?,
            };
            let secret = answer.trim();
            if !secret.is_empty() {
                return Ok(Zeroizing::new(secret.to_owned()));
            }
            self.say("  A value is needed.");
        }
    }

    /// Asks a question of which Enter means the default.
    pub(super) fn confirm(&self, question: &str, default: bool) -> anyhow::Result<bool> {
        let choice = if default { "[Y/n]" } else { "[y/N]" };
        loop {
            let answer = self.line(&format!("{question} {choice}"))?;
            match &*answer.trim().to_ascii_lowercase() {
                "" => return Ok(default),
                "y" | "yes" => return Ok(true),
                "n" | "no" => return Ok(false),
                _ => self.say("  Answer y or n."),
            }
        }
    }

    fn prompt(&self, question: &str) {
        let mut output = stderr();
        let _ = write!(output, "{question} ");
        let _ = output.flush();
    }

    fn line(&self, question: &str) -> anyhow::Result<Zeroizing<String>> {
        self.prompt(question);
        let mut line = Zeroizing::new(String::new());
        if self.input.lock().read_line(&mut line)? == 0 {
            bail!(ENDED);
        }
        Ok(line)
    }
}

/// A terminal that does not show what is typed, until this is dropped. Its keys send no signal: one
/// would end the process and leave the terminal like this.
struct Hidden<'a> {
    terminal: &'a Stdin,
    before: Termios,
}

impl<'a> Hidden<'a> {
    /// `None` if the input is not a terminal.
    fn input(terminal: &'a Stdin) -> Option<Self> {
        let before = tcgetattr(terminal).ok()?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(terminal, OptionalActions::Flush, &hidden).ok()?;
        Some(Self { terminal, before })
    }

    /// Reads a line, byte by byte.
    /// `None` if a key was typed that is no character.
    fn line(&self) -> anyhow::Result<Option<Zeroizing<String>>> {
        let mut line = Zeroizing::new(Vec::new());
        let mut byte = [0];
        loop {
            if rustix::io::read(self.terminal, &mut byte)? == 0 {
                bail!(ENDED);
            }
            match byte {
                [b'\n' | b'\r'] => break,
                [INTERRUPT] => bail!("interrupted; nothing was written"),
                [END] => bail!(ENDED),
                [ERASE_LINE] => line.clear(),
                [key] if ERASE.contains(&key) => erase(&mut line),
                [key] => line.push(key),
            }
        }
        // An arrow key, for example, sends bytes that nobody sees.
        let is_text = |text: &&str| !text.contains(|key: char| key.is_control() && key != '\t');
        let text = std::str::from_utf8(&line).ok().filter(is_text).map(str::to_owned);
        Ok(text.map(Zeroizing::new))
    }
}

/// Removes the last character.
fn erase(line: &mut Vec<u8>) {
    const CONTINUES: u8 = 0b1000_0000;
    while line.pop().is_some_and(|byte| byte & 0b1100_0000 == CONTINUES) {}
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}
