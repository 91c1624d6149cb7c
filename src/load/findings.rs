//! What was not taken, by file and reason, as ranges of lines: exact, and bounded. A file of which every
//! row is refused for the same reason is one range; where refused and taken rows alternate for ever,
//! ranges end at [`RANGES_MAX`], and what is behind is counted, and where it begins is told: the report is
//! one object, and what it takes is kept with the task's state while the task is under way.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Most ranges of a task.
pub const RANGES_MAX: usize = 20_000;

/// Most reasons of a task, over all files.
pub const REASONS_MAX: usize = 2_000;

/// Most characters of a reason.
const REASON_CHARS_MAX: usize = 600;

/// What was not taken of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// What is wrong with the task as a whole.
    pub task: Vec<String>,
    /// By file and reason, in the order in which they were met.
    groups: Vec<Group>,
    /// Rows that are in no range, since there are too many.
    omitted: u64,
    /// File and line of the first of them: up to there all are named.
    #[serde(default)]
    omitted_from: Option<(usize, u64)>,
    ranges: usize,
}

/// The rows of one file that were not taken for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Group {
    file: usize,
    /// What is the same for all of them.
    code: String,
    /// The reason of the first, in words.
    reason: String,
    /// Whether another of them has other words: the same rule, with other values.
    #[serde(default)]
    differs: bool,
    /// First and last line, from 1, ascending.
    ranges: Vec<(u64, u64)>,
}

impl Findings {
    /// Whether all was taken.
    pub fn is_empty(&self) -> bool {
        self.task.is_empty() && self.groups.is_empty() && self.omitted == 0
    }

    /// Adds the lines of a row. Rows of one file come in their order; `reason` is asked for the first of
    /// its kind.
    pub fn add(&mut self, (file, code): (usize, &str), lines: (u64, u64), reason: &str) {
        // From the back: rows of one file have few reasons, and its groups are the last.
        let known = self.groups.iter().rposition(|group| group.file == file && group.code == code);
        let chars = reason.chars().take(REASON_CHARS_MAX);
        let at = match known {
            Some(at) => {
                let group = &mut self.groups[at];
                group.differs = group.differs || !group.reason.chars().eq(chars);
                at
            }
            None if self.groups.len() < REASONS_MAX => {
                let (code, reason, ranges) = (code.to_owned(), chars.collect(), Vec::new());
                self.groups.push(Group { file, code, reason, differs: false, ranges });
                self.groups.len() - 1
            }
            None => return self.omit(file, lines.0),
        };
        let ranges = &mut self.groups[at].ranges;
        match ranges.last_mut() {
            Some(last) if lines.0 <= last.1.saturating_add(1) => last.1 = last.1.max(lines.1),
            _ if self.ranges < RANGES_MAX => {
                ranges.push(lines);
                self.ranges += 1;
            }
            _ => self.omit(file, lines.0),
        }
    }

    fn omit(&mut self, file: usize, line: u64) {
        self.omitted += 1;
        self.omitted_from = self.omitted_from.or(Some((file, line)));
    }

    /// The report, as Timestream's are. Source: its developer guide, "Using batch load error reports".
    pub fn report(&self, id: &str, name_of: impl Fn(usize) -> String) -> Value {
        let mut files: Vec<(usize, Vec<Value>)> = Vec::new();
        for group in &self.groups {
            let error = json!({ "reason": group.words(), "lineRanges": group.ranges });
            match files.last_mut() {
                Some((file, errors)) if *file == group.file => errors.push(error),
                _ => files.push((group.file, vec![error])),
            }
        }
        let files: Vec<Value> = files
            .into_iter()
            .map(|(file, errors)| json!({ "fileName": name_of(file), "errors": errors }))
            .collect();
        json!({ "taskId": id, "taskErrors": self.of_task(&name_of), "fileErrors": files })
    }

    fn of_task(&self, name_of: impl Fn(usize) -> String) -> Vec<String> {
        let mut errors = self.task.clone();
        if let Some((file, line)) = self.omitted_from {
            errors.push(format!(
                "the report names {RANGES_MAX} line ranges and {REASONS_MAX} reasons at most: {} more rows, \
                 from line {line} of {} on, were not taken and are in no range; the counts have them all",
                self.omitted,
                name_of(file)
            ));
        }
        errors
    }

    /// The first findings in a few words each, at most `most`.
    pub fn told(&self, most: usize, name_of: impl Fn(usize) -> String) -> Vec<String> {
        let groups = self.groups.iter().map(|group| {
            let ranges = group.ranges.iter().take(most).map(|(first, last)| {
                if first == last {
                    format!("line {first}")
                } else {
                    format!("lines {first} to {last}")
                }
            });
            let ranges: Vec<String> = ranges.collect();
            let more = if group.ranges.len() > most { ", .." } else { "" };
            format!("{} {}{more}: {}", name_of(group.file), ranges.join(", "), group.words())
        });
        self.of_task(&name_of).into_iter().chain(groups).take(most).collect()
    }
}

impl Group {
    /// The reason, as it is true of every row of the group.
    fn words(&self) -> String {
        let Self { reason, .. } = self;
        if self.differs {
            format!("these lines break one rule with different values; the first: {reason}")
        } else {
            reason.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_rows_of_one_reason_are_one_range_and_reasons_stay_apart() {
        let mut findings = Findings::default();
        assert!(findings.is_empty());
        for (code, lines) in [
            ("a", (2, 2)),
            ("b", (3, 4)),
            ("a", (3, 4)),
            ("a", (3, 4)),
            ("a", (5, 5)),
            ("a", (9, 9)),
        ] {
            findings.add((0, code), lines, code);
        }
        findings.add((1, "a"), (2, 2), "other file");
        let report = findings.report("ID", |file| format!("f{file}"));
        assert_eq!(
            report,
            json!({"taskId": "ID", "taskErrors": [], "fileErrors": [
                {"fileName": "f0", "errors": [
                    {"reason": "a", "lineRanges": [[2, 5], [9, 9]]},
                    {"reason": "b", "lineRanges": [[3, 4]]}]},
                {"fileName": "f1", "errors": [{"reason": "other file", "lineRanges": [[2, 2]]}]}]})
        );
        assert_eq!(findings.told(1, |file| format!("f{file}")), ["f0 lines 2 to 5, ..: a"]);
    }

    #[test]
    fn no_value_of_one_line_stands_for_all_lines() {
        let mut findings = Findings::default();
        for (line, value) in [(2, "x"), (3, "x"), (4, "y"), (5, "x")] {
            findings.add((0, "a"), (line, line), &format!("{value:?} is no DOUBLE"));
            if line <= 3 {
                assert_eq!(
                    findings.told(1, |_| "f".to_owned())[0].split(": ").last(),
                    Some("\"x\" is no DOUBLE")
                );
            }
        }
        let error = &findings.report("ID", |_| String::new())["fileErrors"][0]["errors"][0];
        assert_eq!(error["lineRanges"], json!([[2, 5]]));
        let words =
            "these lines break one rule with different values; the first: \"x\" is no DOUBLE";
        assert_eq!(error["reason"], words);
    }

    #[test]
    fn what_a_report_names_is_bounded_and_the_rest_is_counted() {
        let mut findings = Findings::default();
        for row in 0..(RANGES_MAX as u64 + 5) {
            findings.add((0, "a"), (2 * row, 2 * row), "odd");
        }
        assert_eq!((findings.ranges, findings.omitted), (RANGES_MAX, 5));
        let name_of = |file| format!("f{file}");
        let text = findings.report("ID", name_of)["taskErrors"][0].to_string();
        let from = format!("5 more rows, from line {} of f0 on", 2 * RANGES_MAX);
        assert!(text.contains(&from), "{text}");
        assert!(
            findings.told(1, name_of)[0].contains(&from),
            "the message of the task says so too"
        );
        for at in 0..=REASONS_MAX {
            findings.add((0, &format!("code {at}")), (1, 1), "x");
        }
        assert_eq!(findings.groups.len(), REASONS_MAX);
    }
}
