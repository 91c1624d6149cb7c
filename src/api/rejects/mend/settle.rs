//! What is set in a text, put into it before it is decoded: else the decoder would refuse the text for the
//! very part that is mended. What stands in the way is taken out, or replaced by something of the right type; what
//! is meant is set in the record afterwards ([`super::Set::apply`]).

use super::{Measure, Set, TYPES};
use crate::api::rejects::shell::word;
use crate::record::{Reading, Reason, ValueType};

/// Why something cannot be set, for programs and people.
pub(in crate::api::rejects) type Why = (Reason, String);

/// A refused text with what is part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::api::rejects) struct Draft {
    /// The text.
    pub(in crate::api::rejects) text: Vec<u8>,
    /// What stood around it: see [`Reading::within`].
    pub(in crate::api::rejects) within: Option<String>,
    /// Whether it is JSON.
    pub(in crate::api::rejects) is_json: bool,
}

impl Draft {
    /// The text as it came.
    pub(in crate::api::rejects) fn new(
        text: Vec<u8>,
        reading: Option<&Reading<'_>>,
        is_json: bool,
    ) -> Self {
        let within = reading.and_then(|reading| reading.within.as_deref()).map(str::to_owned);
        Self { text, within: within.filter(|_| is_json), is_json }
    }

    /// Makes room for what `set` sets, whose measures have their types afterwards. A text that does not
    /// fall into parts stays as it is, for the decoder to refuse.
    ///
    /// # Errors
    ///
    /// [`Why`]: the type of a measure cannot be told.
    pub(in crate::api::rejects) fn make_room(
        &mut self,
        set: &mut Set,
        version_field: Option<&str>,
    ) -> Result<(), Why> {
        if *set == Set::default() {
            return Ok(());
        }
        if self.is_json {
            super::json::make_room(self, set)
        } else {
            self.in_line(set, version_field)
        }
    }

    fn in_line(&mut self, set: &mut Set, version_field: Option<&str>) -> Result<(), Why> {
        match super::line::make_room(&self.text, set, version_field)? {
            Some(text) => self.text = text,
            None => return Ok(()),
        }
        Ok(())
    }

    /// The whole document, or the line.
    pub(in crate::api::rejects) fn whole(&self) -> Vec<u8> {
        let Some(within) = &self.within else { return self.text.clone() };
        let head = within.strip_suffix('}').unwrap_or("{");
        let comma = if head.ends_with('{') { "" } else { "," };
        [head.as_bytes(), comma.as_bytes(), b"\"Records\":[", &self.text, b"]}"].concat()
    }
}

impl Measure {
    /// Finds the type: the one that is asked for, that of what stands there (`found`), or that of the value
    /// itself in the words of the text's protocol.
    pub(super) fn settle(
        &mut self,
        found: Option<ValueType>,
        literal: impl Fn(&str) -> Option<(ValueType, String)>,
    ) -> Result<ValueType, Why> {
        if let Some(known) = self.value_type.or(found) {
            self.value_type = Some(known);
            return Ok(known);
        }
        let (value_type, value) = literal(&self.value).ok_or_else(|| {
            let (name, value) = (&self.name, &self.value);
            let right = word(&format!("measure.{name}:TYPE={value}"));
            let message = format!(
                "what stands at {name:?} has no type, and {value:?} could be a text: write {right}, TYPE being one \
                 of {TYPES}"
            );
            (Reason::InvalidValue, message)
        })?;
        (self.value_type, self.value) = (Some(value_type), value);
        Ok(value_type)
    }
}
