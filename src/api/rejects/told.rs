//! What is told of a rejection beside what the sink keeps of it: by the endpoint and by the command alike.

use std::borrow::Cow;

use crate::record::{Reason, Record};
use crate::reject::archive::Rejected;
use crate::reject::entry::{Moment, RecordJson};

/// Most characters of a key that is kept with a mark.
const KEY_CHARS_MAX: usize = 300;

/// What names a record, and when it was measured.
pub fn key(record: &RecordJson) -> String {
    let names = record.dimensions.iter().map(|one| (one.name.as_str(), one.value.as_str()));
    let time =
        record.time.parse().map_or_else(|_| record.time.clone(), |ns| Moment(ns).to_string());
    key_of(names, &record.measure_name, &time)
}

fn key_of<'n>(
    names: impl Iterator<Item = (&'n str, &'n str)>,
    measure_name: &str,
    time: &str,
) -> String {
    let names: Vec<String> = names.map(|(name, value)| format!("{name}={value}")).collect();
    format!("{} / {measure_name} / {time}", names.join(", "))
}

/// The key of what is sent for a rejection; `None` where it is the rejection's own.
pub(super) fn other_key(one: &Rejected, sent: &Record<'_>) -> Option<String> {
    let names = sent.dimensions.iter().map(|dimension| (dimension.name, dimension.value));
    let time = sent.time_ns.map(|ns| Moment(ns).to_string()).unwrap_or_default();
    let sent = key_of(names, sent.measure_name, &time);
    let is_own = one.entry.record.as_ref().is_some_and(|record| key(record) == sent);
    (!is_own).then(|| sent.chars().take(KEY_CHARS_MAX).collect())
}

/// What to do about a rejection that is not stored.
pub fn remedy(one: &Rejected) -> Cow<'static, str> {
    let is_version = matches!(one.reason(), Reason::VersionLower | Reason::VersionConflict);
    if is_version && one.version_reported() == Some(i64::MAX) {
        return format!("{HIGHEST} stands, and {NONE_ABOVE}.").into();
    }
    one.reason().remedy().into()
}

/// The highest version.
const HIGHEST: i64 = i64::MAX;

/// What whoever wants to be above the highest version is told.
pub(super) const NONE_ABOVE: &str = "there is no version above it, the highest: what stands stays. Leave it, or give \
                                     this record a key of its own: `--set time=TIME`, `--set dimension.NAME=VALUE`";
