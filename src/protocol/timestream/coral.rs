//! Violated constraints of a request's shape, in the words of the framework that Amazon's services are
//! built on: clients print them, and tools search them.
//!
//! ```text
//! 2 validation errors detected: Value '' at 'measureName' failed to satisfy constraint: Member must
//! have length greater than or equal to 1; Value null at 'records.3.member.time' failed ..
//! ```
//!
//! A path counts the members of a list from 1. Source: error texts of Timestream in public bug reports.

use std::fmt::{Display, Write as _};
use std::ops::RangeInclusive;

/// Most violations that a message tells; its number counts all.
const TOLD_MAX: usize = 10;

/// Most characters of a value that a message quotes. The framework quotes all, a hundred records too.
const QUOTED_CHARS_MAX: usize = 128;

/// Names of databases and tables as they may be made. Source: Timestream API, `ResourceCreateAPIName`.
pub const NAME_PATTERN: &str = "[a-zA-Z0-9_.-]+";

/// The violations of one request.
#[derive(Debug, Default)]
pub struct Violations {
    told: String,
    count: usize,
}

impl Violations {
    /// Adds one: the value at `path` (nothing is null) does not satisfy `constraint`.
    pub fn add(&mut self, path: impl Display, value: Option<&str>, constraint: impl Display) {
        self.count = self.count.saturating_add(1);
        if self.count > TOLD_MAX {
            return;
        }
        let separator = if self.count > 1 { "; " } else { "" };
        let failed = "failed to satisfy constraint";
        let told = &mut self.told;
        match value {
            None => write!(told, "{separator}Value null at '{path}' {failed}: {constraint}"),
            Some(value) => {
                let value = Quoted(value);
                write!(told, "{separator}Value '{value}' at '{path}' {failed}: {constraint}")
            }
        }
        .expect("a String takes all");
    }

    /// A member that must be there.
    pub fn required(&mut self, path: impl Display) {
        self.add(path, None, "Member must not be null");
    }

    /// Checks a number, or how many `what` are, for a message that shows `value`.
    pub fn range(
        &mut self,
        path: impl Display,
        found: i64,
        range: &RangeInclusive<i64>,
        value: Option<&str>,
    ) {
        let shown = value.map_or_else(|| found.to_string(), str::to_owned);
        let what = if value.is_some() { "length" } else { "value" };
        if found < *range.start() {
            let least = range.start();
            self.add(
                path,
                Some(&shown),
                format_args!("Member must have {what} greater than or equal to {least}"),
            );
        } else if found > *range.end() {
            let most = range.end();
            self.add(
                path,
                Some(&shown),
                format_args!("Member must have {what} less than or equal to {most}"),
            );
        }
    }

    /// Checks a text's length in characters.
    pub fn length(&mut self, path: impl Display, text: &str, range: &RangeInclusive<i64>) {
        // Bytes are at least as many as characters, and most texts are short: no need to count.
        let least = usize::try_from(*range.start()).unwrap_or_default();
        let is_short = i64::try_from(text.len()).is_ok_and(|bytes| bytes <= *range.end());
        if is_short && (least == 0 || least == 1 && !text.is_empty()) {
            return;
        }
        let chars = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
        self.range(path, chars, range, Some(text));
    }

    /// A value that is none of a list's.
    pub fn not_in(&mut self, path: impl Display, value: &str, all: &[&str]) {
        let all = all.join(", ");
        self.add(path, Some(value), format_args!("Member must satisfy enum value set: [{all}]"));
    }

    /// A text that does not have the form that it must have.
    pub fn no_match(&mut self, path: impl Display, text: &str, pattern: &str) {
        let constraint = format_args!("Member must satisfy regular expression pattern: {pattern}");
        self.add(path, Some(text), constraint);
    }

    /// Whether nothing was found.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The message.
    ///
    /// # Errors
    ///
    /// The message, if there is anything in it to tell.
    pub fn finish(self) -> Result<(), String> {
        match self.count {
            0 => Ok(()),
            1 => Err(format!("1 validation error detected: {}", self.told)),
            count => Err(format!("{count} validation errors detected: {}", self.told)),
        }
    }
}

/// The beginning of a text, on one line.
pub struct Quoted<'t>(pub &'t str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut chars = self.0.chars();
        for char in chars.by_ref().take(QUOTED_CHARS_MAX) {
            f.write_char(if char.is_control() { ' ' } else { char })?;
        }
        f.write_str(if chars.as_str().is_empty() { "" } else { ".." })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_violation_and_several_are_told_as_the_framework_does() {
        let mut one = Violations::default();
        one.not_in("records.1.member.dimensions.1.member.dimensionValueType", "X", &["VARCHAR"]);
        assert_eq!(
            one.finish().unwrap_err(),
            "1 validation error detected: Value 'X' at \
             'records.1.member.dimensions.1.member.dimensionValueType' failed to satisfy constraint: \
             Member must satisfy enum value set: [VARCHAR]"
        );
        let mut two = Violations::default();
        two.range("records", 101, &(1..=100), Some("101 records"));
        two.required("tableName");
        let message = two.finish().unwrap_err();
        assert!(message.starts_with("2 validation errors detected: Value '101 records' at"));
        assert!(message.contains("at 'records' failed to satisfy constraint: Member must have length less than or equal to 100; Value null at 'tableName'"));
    }

    #[test]
    fn lengths_count_characters_and_hold_at_their_bounds() {
        for (text, violations) in [("", 1), ("a", 0), ("äö", 0), ("äöü", 1), ("abc", 1)] {
            let mut found = Violations::default();
            found.length("a", text, &(1..=2));
            assert_eq!(found.count, violations, "{text:?}");
        }
        assert!(Violations::default().finish().is_ok());
    }

    #[test]
    fn a_flood_is_counted_and_not_repeated() {
        let mut all = Violations::default();
        for at in 0..1000 {
            all.add(at, Some(&"x".repeat(1000)), "no");
        }
        let message = all.finish().unwrap_err();
        assert!(message.starts_with("1000 validation errors detected") && message.len() < 4000);
    }
}
