//! The values that a record can measure. Source: Timestream developer guide, "Data types".

use std::fmt;

/// The type of a measured value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ValueType {
    /// 64-bit IEEE 754; finite.
    Double = 1,
    /// 64-bit signed integer.
    Bigint = 2,
    /// True or false.
    Boolean = 3,
    /// UTF-8 text.
    Varchar = 4,
    /// A moment, in nanoseconds since 1970-01-01T00:00:00Z.
    Timestamp = 5,
}

/// One measured value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// A finite float.
    Double(f64),
    /// An integer.
    Bigint(i64),
    /// A truth value.
    Boolean(bool),
    /// A text.
    Varchar(&'a str),
    /// A moment, in nanoseconds since 1970-01-01T00:00:00Z.
    Timestamp(i64),
}

impl ValueType {
    /// Every type, in the order of their numbers.
    pub const ALL: [Self; 5] =
        [Self::Double, Self::Bigint, Self::Boolean, Self::Varchar, Self::Timestamp];

    /// The type with this number in a payload.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Double),
            2 => Some(Self::Bigint),
            3 => Some(Self::Boolean),
            4 => Some(Self::Varchar),
            5 => Some(Self::Timestamp),
            _ => None,
        }
    }

    /// Its number in a payload.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Its name in Timestream's API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Double => "DOUBLE",
            Self::Bigint => "BIGINT",
            Self::Boolean => "BOOLEAN",
            Self::Varchar => "VARCHAR",
            Self::Timestamp => "TIMESTAMP",
        }
    }

    /// The type with this name in Timestream's API.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|value_type| value_type.name() == name)
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Value<'_> {
    /// The value's type.
    pub const fn value_type(&self) -> ValueType {
        match self {
            Self::Double(_) => ValueType::Double,
            Self::Bigint(_) => ValueType::Bigint,
            Self::Boolean(_) => ValueType::Boolean,
            Self::Varchar(_) => ValueType::Varchar,
            Self::Timestamp(_) => ValueType::Timestamp,
        }
    }

    /// Whether two values are the same for the version rule: same type, same bits. Zero and minus
    /// zero differ, since they read back differently.
    pub fn is_same(&self, other: &Value<'_>) -> bool {
        match (self, other) {
            (Self::Double(a), Value::Double(b)) => a.to_bits() == b.to_bits(),
            (Self::Bigint(a), Value::Bigint(b)) | (Self::Timestamp(a), Value::Timestamp(b)) => {
                a == b
            }
            (Self::Boolean(a), Value::Boolean(b)) => a == b,
            (Self::Varchar(a), Value::Varchar(b)) => a == b,
            _ => false,
        }
    }

    /// The value as text that reads back as the same value of its type.
    pub fn to_text(&self) -> String {
        match self {
            Self::Double(value) => zmij::Buffer::new().format(*value).to_owned(),
            Self::Bigint(value) | Self::Timestamp(value) => value.to_string(),
            Self::Boolean(value) => value.to_string(),
            Self::Varchar(value) => (*value).to_owned(),
        }
    }
}

/// A value that outlives what it was copied from.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnedValue(Owned);

#[derive(Debug, Clone, PartialEq)]
enum Owned {
    Fixed(Value<'static>),
    Varchar(Box<str>),
}

impl OwnedValue {
    /// A copy of a value.
    pub fn of(value: &Value<'_>) -> Self {
        Self(match *value {
            Value::Double(value) => Owned::Fixed(Value::Double(value)),
            Value::Bigint(value) => Owned::Fixed(Value::Bigint(value)),
            Value::Boolean(value) => Owned::Fixed(Value::Boolean(value)),
            Value::Timestamp(value) => Owned::Fixed(Value::Timestamp(value)),
            Value::Varchar(value) => Owned::Varchar(value.into()),
        })
    }

    /// The value.
    pub fn value(&self) -> Value<'_> {
        match &self.0 {
            Owned::Fixed(value) => *value,
            Owned::Varchar(text) => Value::Varchar(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_lead_back_to_their_type() {
        for value_type in ValueType::ALL {
            assert_eq!(ValueType::from_number(value_type.number()), Some(value_type));
            assert_eq!(ValueType::from_name(value_type.name()), Some(value_type));
        }
        assert_eq!(ValueType::from_number(0), None);
        assert_eq!(ValueType::from_number(6), None);
        assert_eq!(ValueType::from_name("double"), None);
    }

    #[test]
    fn values_are_the_same_only_with_the_same_type_and_bits() {
        assert!(Value::Double(0.1).is_same(&Value::Double(0.1)));
        assert!(!Value::Double(0.0).is_same(&Value::Double(-0.0)));
        assert!(!Value::Bigint(1).is_same(&Value::Timestamp(1)));
        assert!(!Value::Bigint(1).is_same(&Value::Double(1.0)));
        assert!(Value::Varchar("a").is_same(&Value::Varchar("a")));
        assert!(!Value::Boolean(true).is_same(&Value::Boolean(false)));
    }
}
