//! What is wrong with a configuration: every fault with its place and the way out.

use std::fmt;

/// Where a configured value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line and column of the file, both counted from 1.
    File {
        /// The file's name as the user gave it.
        name: String,
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
        column: u64,
    },
    /// An environment variable.
    Environment(String),
    /// A command line flag.
    Flag(&'static str),
    /// Nowhere: the value is missing, or a default.
    Nowhere,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, line, column } => write!(formatter, "{name}:{line}:{column}"),
            Self::Environment(name) => write!(formatter, "environment {name}"),
            Self::Flag(name) => write!(formatter, "flag {name}"),
            Self::Nowhere => formatter.write_str("configuration"),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where the offending value stands.
    pub place: Place,
    /// The key path, such as `clients.technical-user.wait`; empty for the whole file.
    pub path: String,
    /// What is wrong and what to do. Never holds a secret's value.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: ", self.place)?;
        if !self.path.is_empty() {
            write!(formatter, "{}: ", self.path)?;
        }
        formatter.write_str(&self.message)
    }
}

/// All that is wrong, in the order of the text. Never empty when it is an `Err`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// Notes one more fault.
    pub(crate) fn push(&mut self, place: &Place, path: &str, message: impl Into<String>) {
        self.0.push(Fault { place: place.clone(), path: path.to_owned(), message: message.into() });
    }

    /// `Ok` when nothing is wrong.
    pub(crate) fn into_result(mut self) -> Result<(), Self> {
        if self.0.is_empty() {
            return Ok(());
        }
        self.0.sort_by_key(|fault| match fault.place {
            Place::File { line, column, .. } => (0, line, column),
            Place::Environment(_) => (1, 0, 0),
            Place::Flag(_) => (2, 0, 0),
            Place::Nowhere => (3, 0, 0),
        });
        Err(self)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            write!(formatter, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
