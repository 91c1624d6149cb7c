//! What became of all that a command has sent, page after page.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::show;
use crate::cli::Failure;
use crate::cli::out::print;

/// Whether anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Run {
    Real,
    Dry,
}

/// What became of all that was sent.
#[derive(Debug)]
pub(super) struct Tally {
    is: Run,
    /// How many have which outcome.
    outcomes: BTreeMap<String, u64>,
    /// Texts of no known table.
    untold: u64,
}

impl Tally {
    pub(super) const fn new(is: Run) -> Self {
        Self { is, outcomes: BTreeMap::new(), untold: 0 }
    }

    /// Whether anything is written.
    pub(super) const fn is(&self) -> Run {
        self.is
    }

    /// Prints an answer, and counts it.
    pub(super) fn told(&mut self, answer: &Value) -> Result<(), Failure> {
        self.untold += answer["untold"].as_u64().unwrap_or(0);
        for result in answer["results"].as_array().into_iter().flatten() {
            let outcome = result["outcome"].as_str().unwrap_or("unknown");
            *self.outcomes.entry(outcome.to_owned()).or_default() += 1;
            print(&show::outcome(result, outcome))?;
        }
        Ok(())
    }

    /// Whether any has this outcome.
    pub(super) fn has(&self, outcome: &str) -> bool {
        self.of(&[outcome]) > 0
    }

    fn of(&self, names: &[&str]) -> u64 {
        names.iter().filter_map(|name| self.outcomes.get(*name)).sum()
    }

    fn stored(&self) -> u64 {
        self.of(&["stored", "would_be_stored"])
    }

    /// Taken before, as it would be now.
    fn already(&self) -> u64 {
        self.of(&["resubmitted"])
    }

    /// Of a dry run: nobody can tell.
    fn unknown(&self) -> u64 {
        if self.is == Run::Dry { self.of(&["unknown"]) } else { 0 }
    }

    /// How many are not stored, whatever became of them.
    fn left(&self) -> u64 {
        let all: u64 = self.outcomes.values().sum();
        all - self.stored() - self.already() - self.unknown()
    }

    /// What became of all, in a line: the parts add up to what was asked for.
    pub(super) fn counts(&self) -> String {
        let would = if self.is == Run::Dry { "would be " } else { "" };
        let mut text = format!("{} {would}stored, {} not", self.stored(), self.left());
        let is_counted = |name: &str| {
            let is_unknown = name == "unknown" && self.is == Run::Dry;
            matches!(name, "stored" | "would_be_stored" | "resubmitted") || is_unknown
        };
        let left = self.outcomes.iter().filter(|(name, _)| !is_counted(name));
        let left: Vec<String> =
            left.map(|(name, count)| format!("{count} {}", in_words(name))).collect();
        if !left.is_empty() {
            write!(text, " ({})", left.join(", ")).expect("a string takes everything");
        }
        for (count, what) in [(self.already(), "already taken"), (self.unknown(), "unknown")] {
            if count > 0 {
                write!(text, ", {count} {what}").expect("a string takes everything");
            }
        }
        text
    }

    /// Prints what became of all. Ends well where all of it is stored.
    pub(super) fn end(&self) -> Result<(), Failure> {
        print(&(self.counts() + "\n"))?;
        show::untold(self.untold);
        let well = self.verdict();
        if self.has("under_way") {
            let hint = "what is under way is taken or refused once the engine has executed it";
            return well
                .map_err(|failure| Failure::failed(format!("{}; {hint}", failure.into_error())));
        }
        well
    }

    fn verdict(&self) -> Result<(), Failure> {
        match (self.left(), self.unknown(), self.is) {
            (0, 0, _) => Ok(()),
            (0, unknown, _) => Err(Failure::failed(format!(
                "of {unknown} nobody can tell whether they would be stored"
            ))),
            (1, _, Run::Dry) => Err(Failure::failed("1 would not be stored")),
            (left, _, Run::Dry) => Err(Failure::failed(format!("{left} would not be stored"))),
            (1, _, Run::Real) => Err(Failure::failed("1 is not stored")),
            (left, _, Run::Real) => Err(Failure::failed(format!("{left} are not stored"))),
        }
    }
}

/// An outcome in words.
fn in_words(outcome: &str) -> String {
    match outcome {
        "would_be_refused" => "refused".to_owned(),
        "taken_otherwise" => "taken in another way".to_owned(),
        other => other.replace('_', " "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(is: Run, outcomes: &[(&str, u64)]) -> Tally {
        let outcomes = outcomes.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        Tally { is, outcomes, untold: 0 }
    }

    #[test]
    fn the_parts_add_up_to_what_was_asked_for() {
        for (is, outcomes, told) in [
            (Run::Real, &[("stored", 2)][..], "2 stored, 0 not"),
            (
                Run::Real,
                &[("stored", 1), ("under_way", 100), ("not_sent", 3), ("resubmitted", 2)],
                "1 stored, 103 not (3 not sent, 100 under way), 2 already taken",
            ),
            (Run::Real, &[("unknown", 1)], "0 stored, 1 not (1 unknown)"),
            (
                Run::Dry,
                &[("would_be_stored", 4), ("would_be_refused", 1), ("unknown", 5)],
                "4 would be stored, 1 not (1 refused), 5 unknown",
            ),
        ] {
            assert_eq!(tally(is, outcomes).counts(), told);
        }
        let told = |is, outcomes: &[(&str, u64)]| {
            tally(is, outcomes).verdict().err().map(|failure| failure.into_error().to_string())
        };
        assert_eq!(
            told(Run::Dry, &[("would_be_refused", 1)]).as_deref(),
            Some("1 would not be stored")
        );
        assert_eq!(told(Run::Real, &[("refused", 2)]).as_deref(), Some("2 are not stored"));
        assert_eq!(told(Run::Real, &[("resubmitted", 2)]), None);
    }
}
