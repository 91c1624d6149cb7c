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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::codec::{Payload, PayloadBuilder, RecordView};
    use crate::record::request::CommonAttributes;
    use crate::record::{Attribute, Dimension, Origin, Record, TableId, Value};

    /// Waves of requests whose series are named by letters: the first of each, and the first behind it.
    fn waves_of(requests: &[&str], max: usize) -> Vec<(usize, usize)> {
        let mut builder = PayloadBuilder::new(1);
        builder.start(0);
        for (letter, number) in requests.iter().flat_map(|request| request.chars()).zip(0..) {
            let host = letter.to_string();
            let record = Record {
                origin: Origin { number, text: b"", ..Origin::default() },
                measure_name: "m",
                dimensions: vec![Dimension { name: "host", value: &host }],
                attributes: vec![Attribute { name: "v", value: Value::Bigint(1) }],
                ..Record::default()
            };
            let ids = (builder.family(TableId(1), &record).0, builder.layout(&record).0);
            builder.push(ids, &record, 1, 1);
        }
        let mut bytes = Vec::new();
        builder.finish(&mut bytes);
        let payload = Payload::open(&bytes).unwrap();
        let (mut families, mut layouts) = (Vec::new(), Vec::new());
        payload.dictionary(&mut families, &mut layouts).unwrap();
        let mut views: Vec<RecordView<'_>> =
            payload.section(0, &families, &layouts).map(Result::unwrap).collect();
        // As they were pushed.
        views.sort_by_key(|view| view.number);
        let common = CommonAttributes::default();
        let mut rest = &views[..];
        let requests: Vec<WriteRequest<'_>> = requests
            .iter()
            .map(|request| {
                let (records, after) = rest.split_at(request.len());
                rest = after;
                WriteRequest { table: TableId(1), common: &common, records }
            })
            .collect();
        waves(&requests, max).into_iter().map(|wave| (wave.start, wave.end)).collect()
    }

    #[test]
    fn a_request_waits_for_those_of_its_series_and_for_room() {
        assert!(waves_of(&[], 4).is_empty());
        assert_eq!(waves_of(&["ab", "cd", "e"], 4), [(0, 3)]);
        assert_eq!(waves_of(&["ab", "cd", "eb", "f"], 4), [(0, 2), (2, 4)]);
        assert_eq!(waves_of(&["a", "a", "a"], 4), [(0, 1), (1, 2), (2, 3)]);
        assert_eq!(waves_of(&["a", "b", "c", "d", "e"], 2), [(0, 2), (2, 4), (4, 5)]);
        // Not with one behind one that waits: what follows that may be of its series, too.
        assert_eq!(waves_of(&["a", "ab", "c"], 8), [(0, 1), (1, 3)]);
        assert_eq!(waves_of(&["aa", "b"], 8), [(0, 2)]);
    }
}
