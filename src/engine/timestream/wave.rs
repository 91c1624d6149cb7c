//! Which requests of a turn may be under way at once.
//!
//! The records of a series reach the upstream in their order: a request waits for the answer to every one
//! before it that has a record of one of its series. All others need not wait, and an upstream that takes
//! 50 ms to answer is waited for once a wave and not once a request.

use std::collections::HashSet;
use std::ops::Range;

use foldhash::fast::RandomState;

use crate::record::request::WriteRequest;

/// Cuts `requests` into waves of at most `max`, none with a series twice.
pub(super) fn waves(requests: &[WriteRequest<'_>], max: usize) -> Vec<Range<usize>> {
    assert!(max > 0, "checked with the settings");
    let mut waves = Vec::new();
    let mut begin = 0;
    // A hash that two series share makes one of them wait without need.
    let mut met: HashSet<u64, RandomState> = HashSet::default();
    for (at, request) in requests.iter().enumerate() {
        let is_met = request.records.iter().any(|record| met.contains(&record.series_hash));
        if at > begin && (is_met || at - begin >= max) {
            waves.push(begin..at);
            begin = at;
            met.clear();
        }
        met.extend(request.records.iter().map(|record| record.series_hash));
    }
    if begin < requests.len() {
        waves.push(begin..requests.len());
    }
    waves
}
