//! What was not taken, by file and reason, as ranges of lines: exact, and bounded. A file of which every
//! row is refused for the same reason is one range; where refused and taken rows alternate for ever,
//! ranges end at [`RANGES_MAX`] and the rest is counted.

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
        let at = match known {
            Some(at) => at,
            None if self.groups.len() < REASONS_MAX => {
                let reason = reason.chars().take(REASON_CHARS_MAX).collect();
                let (code, ranges) = (code.to_owned(), Vec::new());
                self.groups.push(Group { file, code, reason, ranges });
                self.groups.len() - 1
            }
            None => {
                self.omitted += 1;
                return;
            }
        };
        let ranges = &mut self.groups[at].ranges;
        match ranges.last_mut() {
            Some(last) if lines.0 <= last.1.saturating_add(1) => last.1 = last.1.max(lines.1),
            _ if self.ranges < RANGES_MAX => {
                ranges.push(lines);
                self.ranges += 1;
            }
            _ => self.omitted += 1,
        }
    }

    /// The report, as Timestream's are. Source: its developer guide, "Using batch load error reports".
    pub fn report(&self, id: &str, name_of: impl Fn(usize) -> String) -> Value {
        let mut files: Vec<(usize, Vec<Value>)> = Vec::new();
        for group in &self.groups {
            let error = json!({ "reason": group.reason, "lineRanges": group.ranges });
            match files.last_mut() {
                Some((file, errors)) if *file == group.file => errors.push(error),
                _ => files.push((group.file, vec![error])),
            }
        }
        let files: Vec<Value> = files
            .into_iter()
            .map(|(file, errors)| json!({ "fileName": name_of(file), "errors": errors }))
            .collect();
        json!({ "taskId": id, "taskErrors": self.of_task(), "fileErrors": files })
    }

    fn of_task(&self) -> Vec<String> {
        let mut errors = self.task.clone();
        if self.omitted > 0 {
            errors.push(format!(
                "{} more rows were not taken than the {RANGES_MAX} line ranges and {REASONS_MAX} \
                 reasons of a report can name; the counts have them all",
                self.omitted
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
            format!("{} {}{more}: {}", name_of(group.file), ranges.join(", "), group.reason)
        });
        self.of_task().into_iter().chain(groups).take(most).collect()
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
    fn what_a_report_names_is_bounded_and_the_rest_is_counted() {
        let mut findings = Findings::default();
        for row in 0..(RANGES_MAX as u64 + 5) {
            findings.add((0, "a"), (2 * row, 2 * row), "odd");
        }
        assert_eq!((findings.ranges, findings.omitted), (RANGES_MAX, 5));
        let text = findings.report("ID", |_| String::new())["taskErrors"][0].to_string();
        assert!(text.contains("5 more rows"), "{text}");
        for at in 0..=REASONS_MAX {
            findings.add((0, &format!("code {at}")), (1, 1), "x");
        }
        assert_eq!(findings.groups.len(), REASONS_MAX);
    }
}
