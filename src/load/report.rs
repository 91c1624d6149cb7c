//! The error report of a task: where it goes, and what a task says of it.

use super::Shared;
use super::source::{GivenUp, Patience};
use super::task::{Task, Work};
use super::worker::Left;
use crate::object::Buckets;

/// The end of every report's key. What ends so is no source of a load.
pub(super) const NAME: &str = "error-report.json";

/// Longest message of a task, in characters. Source: Timestream API, `ErrorMessage`.
const MESSAGE_CHARS_MAX: usize = 2_048;

/// Findings that a message tells.
const TOLD_MAX: usize = 3;

/// The key of a task's report: the same whenever it is written, so that a second writing replaces the
/// first.
fn key(prefix: &str, id: &str) -> String {
    let prefix = prefix.trim_matches('/');
    if prefix.is_empty() { format!("{id}/{NAME}") } else { format!("{prefix}/{id}/{NAME}") }
}

/// Writes the report where it was asked for, and says where it is, or why it is not there.
///
/// # Errors
///
/// [`Left`]: the place is away, and the task stops until it is resumed.
pub(super) fn write(
    shared: &Shared,
    task: &Task,
    work: &Work,
    patience: &Patience,
) -> Result<String, Left> {
    let Some(location) = &task.spec.report else { return Ok(String::new()) };
    let buckets = match &task.spec.buckets {
        None => Ok(shared.buckets.clone()),
        Some(url) => Buckets::open(url, &shared.object_options),
    };
    let buckets = buckets.map_err(|error| Left::Failed(error.plain()))?;
    let report = work.findings.report(&task.id, |file| name_of(work, file));
    let bytes = serde_json::to_vec(&report).expect("a report has text keys and no failing parts");
    let key = key(&location.at.prefix, &task.id);
    let written = patience.until_done(|most| {
        let store = buckets.bucket(&location.at.bucket, location.kms_key.as_deref())?;
        store.within(most).put(&key, bytes.clone())?;
        Ok(store.place().to_owned())
    });
    match written {
        Ok(place) => Ok(format!("the error report is {place}/{key}")),
        Err(GivenUp::Refused(why)) => Ok(format!("the error report could not be written: {why}")),
        Err(given_up) => Err(given_up.into()),
    }
}

/// What a failed task says.
pub(super) fn message(task: &Task, work: &Work, place: &str) -> String {
    let progress = &task.progress;
    let failed = progress.parse_failures + progress.record_ingestion_failures;
    let mut parts = Vec::new();
    if failed > 0 || progress.file_failures > 0 {
        parts.push(format!(
            "{failed} of {} records were not ingested, {} files failed",
            progress.records_processed, progress.file_failures
        ));
    }
    if !place.is_empty() {
        parts.push(place.to_owned());
    }
    parts.extend(work.findings.told(TOLD_MAX, |file| name_of(work, file)));
    cut(parts.join("; "))
}

/// A message that is short enough.
pub(super) fn cut(message: String) -> String {
    if message.chars().count() <= MESSAGE_CHARS_MAX {
        return message;
    }
    message.chars().take(MESSAGE_CHARS_MAX).collect()
}

/// The key of a file.
pub(super) fn name_of(work: &Work, file: usize) -> String {
    let files = work.files.as_deref().unwrap_or_default();
    files.get(file).map_or_else(String::new, |object| object.key.clone())
}
