//! Faults of a configuration, each with its place and a solution.

use std::fmt;

/// The origin of a configured value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line and a column of the file.
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
    /// No place: the value is missing, or is a default.
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

/// One error in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The place of the wrong value.
    pub place: Place,
    /// The key path, for example `clients.technical-user.wait`; empty for the whole file.
    pub path: String,
    /// The text that says what is wrong and what to do. Never holds a secret's value.
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

/// All faults, in the order of the text. Not empty in an `Err`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// Adds a fault.
    pub(crate) fn push(&mut self, place: &Place, path: &str, message: impl Into<String>) {
        self.0.push(Fault { place: place.clone(), path: path.to_owned(), message: message.into() });
    }

    /// Returns `Ok` if there are no faults, otherwise the faults in the order of the text.
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
