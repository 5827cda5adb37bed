//! Questions to a person. Answers come from standard input, one in each line, so that a script can
//! give them, too.

use anyhow::bail;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{BufRead, IsTerminal, Stdin, Write, stderr, stdin};
use zeroize::Zeroizing;

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
            let hidden = Hidden::input(&self.input);
            let answer = self.line(question)?;
            if hidden.is_some() {
                // The line break of the answer was hidden, too.
                self.say("");
            }
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

    fn line(&self, question: &str) -> anyhow::Result<Zeroizing<String>> {
        let mut output = stderr();
        let _ = write!(output, "{question} ");
        let _ = output.flush();
        let mut line = Zeroizing::new(String::new());
        if self.input.lock().read_line(&mut line)? == 0 {
            bail!("the input ended before all questions were answered; nothing was written");
        }
        Ok(line)
    }
}

/// A terminal that does not show what is typed, until this is dropped.
struct Hidden<'a> {
    terminal: &'a Stdin,
    before: Termios,
}

impl<'a> Hidden<'a> {
    /// `None` if the input is not a terminal.
    fn input(terminal: &'a Stdin) -> Option<Self> {
        let before = tcgetattr(terminal).ok()?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(terminal, OptionalActions::Flush, &hidden).ok()?;
        Some(Self { terminal, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}
