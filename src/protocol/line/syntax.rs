//! What is wrong with a line that does not follow the grammar.

use nom::error::{ErrorKind, ParseError};

use crate::record::Reason;

/// What a parser of the grammar returns.
pub(super) type Parsed<'a, T> = nom::IResult<&'a str, T, SyntaxError<'a>>;

/// The first byte that the grammar does not allow, and what it wanted there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SyntaxError<'a> {
    /// The body from the wrong byte on; empty where the body ends too early.
    pub(super) at: &'a str,
    /// What would have been right.
    pub(super) wanted: Wanted,
}

/// What the grammar wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Measurement,
    AfterMeasurement,
    TagKey,
    TagEquals,
    TagValue,
    AfterTag,
    Fields,
    FieldKey,
    FieldEquals,
    FieldValue,
    Digits,
    Exponent,
    Boolean,
    ClosingQuote,
    IntegerInRange,
    UnsignedInRange,
    FloatInRange,
    AfterField,
    Time,
    TimeInRange,
    AfterTime,
}

impl Wanted {
    /// Whether it is wanted before the first field, where quotes have no meaning.
    pub(super) const fn is_before_fields(self) -> bool {
        matches!(
            self,
            Self::Measurement
                | Self::AfterMeasurement
                | Self::TagKey
                | Self::TagEquals
                | Self::TagValue
                | Self::AfterTag
                | Self::Fields
        )
    }

    const fn reason(self) -> Reason {
        match self {
            Self::Fields => Reason::NoMeasure,
            Self::FieldValue
            | Self::Digits
            | Self::Exponent
            | Self::Boolean
            | Self::IntegerInRange
            | Self::UnsignedInRange
            | Self::FloatInRange => Reason::InvalidValue,
            Self::Time | Self::TimeInRange | Self::AfterTime => Reason::InvalidTime,
            _ => Reason::InvalidSyntax,
        }
    }

    /// What would be right, as the end of a sentence.
    const fn rule(self) -> &'static str {
        match self {
            Self::Measurement => "a line starts with the name of its measurement",
            Self::AfterMeasurement => {
                "a measurement is followed by ',' and a tag, or by a space and a field"
            }
            Self::TagKey => "',' among the tags is followed by a tag key",
            Self::TagEquals => "a tag key is followed by '=' and a value",
            Self::TagValue => "a tag has a value that is not empty",
            Self::AfterTag => {
                "a tag value is followed by ',' and a tag, or by a space and a field; ',', '=' and space inside it need a '\\' before them"
            }
            Self::Fields => "a line has at least one field, key=value, after a space",
            Self::FieldKey => "each field starts with a key",
            Self::FieldEquals => "a field key is followed by '=' and a value",
            Self::FieldValue => {
                "a field value is a number, true, false or a string in double quotes"
            }
            Self::Digits => "a number has at least one digit",
            Self::Exponent => "an exponent has at least one digit",
            Self::Boolean => "a truth value is one of t T true True TRUE f F false False FALSE",
            Self::ClosingQuote => "a string ends with a double quote",
            Self::IntegerInRange => {
                "an integer lies between -9223372036854775808 and 9223372036854775807"
            }
            Self::UnsignedInRange => "an unsigned integer lies between 0 and 18446744073709551615",
            Self::FloatInRange => "a float is finite, below 1.8e308",
            Self::AfterField => {
                "a field value is followed by ',' and a field, by a space and a timestamp, or by the end of the line"
            }
            Self::Time => "a timestamp is an integer without quotes, point, exponent or unit",
            Self::TimeInRange => "a timestamp fits into 64 bits",
            Self::AfterTime => "a timestamp is the last thing in its line",
        }
    }
}

impl<'a> SyntaxError<'a> {
    /// Builds the error that a parser returns.
    pub(super) const fn new(at: &'a str, wanted: Wanted) -> nom::Err<Self> {
        nom::Err::Error(Self { at, wanted })
    }

    /// The error inside of nom's. No parser here asks for more input; were one to, the line would be
    /// refused at its start, not lost.
    pub(super) fn from_nom(error: &nom::Err<Self>, input: &'a str) -> Self {
        match error {
            nom::Err::Error(error) | nom::Err::Failure(error) => *error,
            nom::Err::Incomplete(_) => Self { at: input, wanted: Wanted::Measurement },
        }
    }

    /// The same error, of a combinator, with what was wanted.
    pub(super) const fn wants(self, wanted: Wanted) -> Self {
        Self { wanted, ..self }
    }

    /// Why, for programs.
    pub(super) const fn reason(&self) -> Reason {
        self.wanted.reason()
    }

    /// Why, for people: what was found and what would be right.
    pub(super) fn message(&self) -> String {
        format!("found {}, but {}", self.found(), self.wanted.rule())
    }

    fn found(&self) -> String {
        match self.wanted {
            Wanted::ClosingQuote => return "a string that never ends".to_owned(),
            Wanted::IntegerInRange
            | Wanted::UnsignedInRange
            | Wanted::FloatInRange
            | Wanted::TimeInRange => return self.found_number(),
            _ => {}
        }
        let end_of_line = self.at.starts_with('\n') || self.at.starts_with("\r\n");
        match self.at.chars().next() {
            None => "the end of the body".to_owned(),
            Some(_) if end_of_line => "the end of the line".to_owned(),
            Some(' ') => "a space".to_owned(),
            Some(found) if found.is_ascii_control() => {
                format!("the control character {:#04x}", u32::from(found))
            }
            Some(found) => format!("'{found}'"),
        }
    }

    /// The number at fault, cut to what a reader can take in.
    fn found_number(&self) -> String {
        const QUOTED_CHARS_MAX: usize = 40;
        let end = |byte: char| matches!(byte, ',' | ' ' | '\n' | '\r');
        self.at.chars().take_while(|byte| !end(*byte)).take(QUOTED_CHARS_MAX).collect()
    }
}

impl<'a> ParseError<&'a str> for SyntaxError<'a> {
    // Only the combinators of the boolean parser come here; whoever calls them names what it wanted.
    fn from_error_kind(at: &'a str, _: ErrorKind) -> Self {
        Self { at, wanted: Wanted::FieldValue }
    }

    fn append(_: &'a str, _: ErrorKind, other: Self) -> Self {
        other
    }
}
