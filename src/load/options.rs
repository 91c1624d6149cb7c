//! The section `batch_load` of the settings.

use crate::base::units::Span;

/// Settings of the section `batch_load`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Where the buckets are that requests name: a directory whose folders stand for buckets, or
    /// `s3://`, `gs://`, `az://` for those of a cloud (see the section `object`). Empty: `buckets` in the
    /// data folder.
    pub url: String,
    /// How many tasks are loaded at once, 1 to 10; the others wait. Each takes a thread, and up to 40 MiB
    /// where rows are long. Few: a long task holds up a short one. Many: they share the same disk.
    pub workers: usize,
    /// How long a source, or the place of a report, may be away before its task stops: 0ms to 7d, and 3 s
    /// for the last answer. It can be resumed then. Short: a restart of the object store stops tasks. Long: nobody notices.
    pub retry_for: Span,
}

impl Default for Options {
    fn default() -> Self {
        Self { url: String::new(), workers: 2, retry_for: Span::secs(120) }
    }
}

/// Longest wait for a source.
const RETRY_FOR_MAX: Span = Span::secs(7 * 24 * 3600);

impl Options {
    /// Every contradiction in the section, as `key: what is wrong`.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let most = super::ACTIVE_MAX;
        if !(1..=most).contains(&self.workers) {
            problems.push(format!("batch_load.workers: {} is not in 1 to {most}", self.workers));
        }
        if self.retry_for > RETRY_FOR_MAX {
            let found = self.retry_for;
            problems
                .push(format!("batch_load.retry_for: {found} is not in 0ms to {RETRY_FOR_MAX}"));
        }
        let buckets = crate::object::Buckets::open(&self.url, &crate::object::Options::default());
        if let Some(error) = buckets.err().filter(|_| !self.url.is_empty()) {
            problems.push(format!("batch_load.url: {}", crate::base::class::chain(&error)));
        }
        problems
    }
}
