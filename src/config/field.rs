//! The form of a documented key.

/// One documented key.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) key: &'static str,
    pub(crate) form: Form,
    pub(crate) default: Fallback,
    /// Value in the reference if there is no default.
    pub(crate) example: &'static str,
    pub(crate) doc: &'static str,
}

/// The form of a value, for the JSON Schema. The reader of a key checks more than this.
#[derive(Debug)]
pub(crate) enum Form {
    /// Any text.
    Text,
    /// on or off, true or false.
    Switch,
    /// A whole number between these.
    Number(u32, u32),
    /// This word, or a whole number between these.
    NumberOr(&'static str, u32, u32),
    /// A fraction from 0.1 to 0.9.
    Fraction,
    /// A duration with a unit.
    Duration,
    /// A day.
    Date,
    /// One of these words.
    Words(&'static [&'static str]),
    /// A list; a single value counts as a list of one.
    List(&'static Self),
    /// Names of the user's choice, each with a text.
    Pairs,
    /// A mapping with these keys.
    Section(&'static [Field]),
    /// Mappings with these keys, each under a name of the user's choice, and an example of a name.
    Named(&'static str, &'static [Field]),
    /// A list of mappings with these keys.
    Sections(&'static [Field]),
    /// A text, a mapping with these keys, or a list of both.
    TextsOrSections(&'static [Field]),
}

/// The effect of a missing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// A fault: the key must be given.
    Required,
    /// No value: the feature is off, or its value is derived.
    Absent,
    /// No value, but one key of a group must be given. The reference shows this one.
    OneOf,
    /// The value of this text.
    Text(&'static str),
    /// The defaults of a section.
    Nested,
}

/// A documented key.
pub(super) const fn field(
    key: &'static str,
    form: Form,
    default: Fallback,
    example: &'static str,
    doc: &'static str,
) -> Field {
    Field { key, form, default, example, doc }
}
