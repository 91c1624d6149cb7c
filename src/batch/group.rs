//! Which records go into one request, so that what they share is said once and fewest bytes are sent.
//!
//! Only a whole request has common attributes, so records should share as much as possible with *all*
//! others of theirs. Two orders are tried, and cut into requests:
//!
//! - **by series**: all records of a series together, like series beside each other. Best where a turn
//!   holds many records a series, as after an upstream was away: a request of one series says its
//!   dimensions once.
//! - **by round**: the first record of every series, then the second of every series, and so on; in a
//!   round what is alike together, and time is one more thing that records share. Best for a fleet that
//!   reports in step.
//!
//! Alike: dimensions, measure name and, in a round, time are columns; records are sorted by them, the
//! column with the fewest different texts first, as region stands before rack before host. The sort is
//! stable and both orders keep the records of one series in their order.
//!
//! A request is cut where the bytes that it saves, less those that a request costs by itself, are most
//! a record: greedy, from the front. The order that saves more wins.
//!
//! A request never holds one record's key twice: what Timestream does then is documented nowhere.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

use crate::record::codec::RecordView;

type Map<K, V> = HashMap<K, V, RandomState>;

/// Bytes that a request costs beside its records: its header with the signature, the answer, and the half
/// of a KiB by which it is rounded up on average where it is metered.
const REQUEST_BYTES: i64 = 1_400;

/// Bytes that Timestream's JSON takes around a dimension, a measure name and a time of 13 digits.
const DIMENSION_AROUND_BYTES: usize = 23;
const NAME_AROUND_BYTES: usize = 17;
const TIME_BYTES: u32 = 23;

/// The text of a column in a record: a number for each different one, 0 for none.
type Symbol = u32;

/// What the records of a table are, as far as grouping cares.
struct Table {
    /// A row of symbols for each series; the columns in the order of their first appearance.
    series: Vec<Vec<Symbol>>,
    /// The series of each record.
    of: Vec<u32>,
    /// How many records of its series came before each.
    round: Vec<u32>,
    /// The bytes that each symbol of each column saves for a record that need not say it.
    bytes: Vec<Vec<u32>>,
}

/// A cut: the first record that is not in the request any more.
struct Cuts {
    ends: Vec<usize>,
    saved: i64,
}

/// Requests of at most `max` records: places in `records`, each once.
pub(super) fn groups(records: &[RecordView<'_>], max: usize) -> Vec<Vec<usize>> {
    assert!(max > 0, "a request has a record");
    let table = Table::of(records);
    let mut best: Option<(Vec<usize>, Cuts)> = None;
    let orders = [table.by_series(), table.by_round(records)];
    // Where every series came once, both are rounds.
    let orders = orders.into_iter().skip(usize::from(!table.repeats()));
    for order in orders {
        let cuts = table.cut(records, &order, max);
        if best.as_ref().is_none_or(|(_, other)| cuts.saved > other.saved) {
            best = Some((order, cuts));
        }
    }
    let (order, cuts) = best.expect("one order is always tried");
    let mut from = 0;
    let groups: Vec<Vec<usize>> = cuts
        .ends
        .iter()
        .map(|&end| order[std::mem::replace(&mut from, end)..end].to_vec())
        .collect();
    assert_eq!(from, records.len(), "every record is in a request");
    groups
}

impl Table {
    fn of(records: &[RecordView<'_>]) -> Self {
        let mut table =
            Self { series: Vec::new(), of: Vec::new(), round: Vec::new(), bytes: vec![vec![0]] };
        let mut known: Map<(u64, &[u8], &[u8]), u32> = Map::default();
        let mut columns: Map<&str, usize> = Map::default();
        // The measure name is the first column.
        let mut symbols: Vec<Map<&str, Symbol>> = vec![Map::default()];
        let mut seen: Vec<u32> = Vec::new();
        for record in records {
            let key = (record.series_hash, record.family.bytes, record.series_values);
            let series = *known.entry(key).or_insert_with(|| {
                let row = table.row(record, &mut columns, &mut symbols);
                table.series.push(row);
                seen.push(0);
                u32::try_from(seen.len() - 1).expect("a turn has fewer")
            });
            table.of.push(series);
            table.round.push(seen[series as usize]);
            seen[series as usize] += 1;
        }
        let width = table.bytes.len();
        assert_eq!(symbols.len(), width, "each column has its symbols and their bytes");
        table.series.iter_mut().for_each(|row| row.resize(width, 0));
        table
    }

    /// The symbols of a record's series.
    fn row<'a>(
        &mut self,
        record: &RecordView<'a>,
        columns: &mut Map<&'a str, usize>,
        symbols: &mut Vec<Map<&'a str, Symbol>>,
    ) -> Vec<Symbol> {
        let mut row = vec![0; self.bytes.len()];
        let name = record.family.measure_name;
        row[0] = symbol(&mut symbols[0], &mut self.bytes[0], name, NAME_AROUND_BYTES + name.len());
        for (name, value) in record.dimensions() {
            let column = *columns.entry(name).or_insert_with(|| {
                symbols.push(Map::default());
                self.bytes.push(vec![0]);
                symbols.len() - 1
            });
            if row.len() <= column {
                row.resize(column + 1, 0);
            }
            let bytes = DIMENSION_AROUND_BYTES + name.len() + value.len();
            row[column] = symbol(&mut symbols[column], &mut self.bytes[column], value, bytes);
        }
        row
    }

    fn repeats(&self) -> bool {
        self.series.len() < self.of.len()
    }

    /// The columns, those of few different texts first.
    fn columns(&self) -> Vec<usize> {
        let mut columns: Vec<usize> = (0..self.bytes.len()).collect();
        columns.sort_by_key(|&column| self.bytes[column].len());
        columns
    }

    /// The place of each series where like ones stand beside each other.
    fn ranks(&self, columns: &[usize]) -> Vec<u32> {
        let mut sorted: Vec<u32> = (0..).take(self.series.len()).collect();
        let key = |at: u32| columns.iter().map(move |&column| self.series[at as usize][column]);
        sorted.sort_by(|&a, &b| key(a).cmp(key(b)));
        let mut ranks = vec![0; sorted.len()];
        for (rank, at) in (0..).zip(sorted) {
            ranks[at as usize] = rank;
        }
        ranks
    }

    fn by_series(&self) -> Vec<usize> {
        let ranks = self.ranks(&self.columns());
        let mut order: Vec<usize> = (0..self.of.len()).collect();
        order.sort_by_key(|&at| ranks[self.of[at] as usize]);
        order
    }

    fn by_round(&self, records: &[RecordView<'_>]) -> Vec<usize> {
        let ranks = self.ranks(&self.columns());
        let mut times: Vec<i64> = records.iter().map(|record| record.time_ns).collect();
        times.sort_unstable();
        times.dedup();
        // Few times are shared by many; where nearly each record has its own, they tell nothing.
        let are_shared = times.len() * 4 <= records.len();
        let mut order: Vec<usize> = (0..self.of.len()).collect();
        order.sort_by_key(|&at| {
            let time_ns = if are_shared { records[at].time_ns } else { 0 };
            (self.round[at], time_ns, ranks[self.of[at] as usize])
        });
        order
    }

    /// Cuts an order into requests.
    fn cut(&self, records: &[RecordView<'_>], order: &[usize], max: usize) -> Cuts {
        let mut cuts = Cuts { ends: Vec::new(), saved: 0 };
        let mut from = 0;
        while from < order.len() {
            let (length, saved) = self.best_cut(records, &order[from..], max);
            assert!((1..=max).contains(&length), "a request has a record and has room");
            from += length;
            cuts.ends.push(from);
            cuts.saved += saved;
        }
        cuts
    }

    /// How many records from the front make the best request, and the bytes that it saves.
    fn best_cut(&self, records: &[RecordView<'_>], order: &[usize], max: usize) -> (usize, i64) {
        let first = order[0];
        let mut shared: Vec<(usize, Symbol)> =
            self.series[self.of[first] as usize].iter().copied().enumerate().collect();
        shared.retain(|(_, symbol)| *symbol != 0);
        let mut each: u32 = shared.iter().map(|&(c, s)| self.bytes[c][s as usize]).sum();
        let (mut time, mut series) = (TIME_BYTES, self.of[first]);
        let mut best = (1, -REQUEST_BYTES);
        let mut keys: HashSet<(u32, i64), RandomState> = HashSet::default();
        for (at, &record) in order.iter().enumerate().take(max) {
            if self.repeats() && !keys.insert((self.of[record], records[record].time_ns)) {
                break;
            }
            if self.of[record] != series {
                series = self.of[record];
                let row = &self.series[series as usize];
                shared.retain(|&(column, symbol)| row[column] == symbol);
                each = shared.iter().map(|&(c, s)| self.bytes[c][s as usize]).sum();
            }
            if records[record].time_ns != records[first].time_ns {
                time = 0;
            }
            let saved = i64::from(each + time) * i64::try_from(at).unwrap_or(0) - REQUEST_BYTES;
            let length = i64::try_from(at + 1).unwrap_or(1);
            // A longer one wins where both are as good: fewer requests.
            if saved * i64::try_from(best.0).unwrap_or(1) >= best.1 * length {
                best = (at + 1, saved);
            }
        }
        best
    }
}

fn symbol<'a>(
    known: &mut Map<&'a str, Symbol>,
    bytes: &mut Vec<u32>,
    text: &'a str,
    saved: usize,
) -> Symbol {
    *known.entry(text).or_insert_with(|| {
        bytes.push(u32::try_from(saved).unwrap_or(u32::MAX));
        Symbol::try_from(bytes.len() - 1).expect("a turn has fewer")
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::codec::{Payload, PayloadBuilder};
    use crate::record::{Attribute, Dimension, Record, TableId, Value};

    type Point = (&'static str, Vec<(&'static str, String)>, i64);

    /// Packs points and gives them to `check` as views.
    fn with_views(points: &[Point], check: impl FnOnce(&[RecordView<'_>])) {
        let mut builder = PayloadBuilder::new(1);
        builder.start(0);
        for (measure_name, dimensions, time_ns) in points {
            let record = Record {
                measure_name,
                dimensions: dimensions
                    .iter()
                    .map(|(name, value)| Dimension { name, value })
                    .collect(),
                attributes: vec![Attribute { name: "v", value: Value::Bigint(1) }],
                ..Record::default()
            };
            let ids = (builder.family(TableId(1), &record).0, builder.layout(&record).0);
            builder.push(ids, &record, *time_ns, 1);
        }
        let mut bytes = Vec::new();
        builder.finish(&mut bytes);
        let payload = Payload::open(&bytes).unwrap();
        let (mut families, mut layouts) = (Vec::new(), Vec::new());
        payload.dictionary(&mut families, &mut layouts).unwrap();
        let views: Vec<_> =
            payload.section(0, &families, &layouts).collect::<Result<_, _>>().unwrap();
        check(&views);
    }

    fn host(host: usize, region: usize, time_ns: i64) -> Point {
        let region = format!("region-{region}-with-a-long-name");
        ("cpu", vec![("host", format!("host-{host}")), ("region", region)], time_ns)
    }

    #[test]
    fn a_fleet_that_comes_mixed_is_sorted_by_what_it_shares() {
        let points: Vec<Point> = (0..400).map(|at| host(at, at % 4, 7)).collect();
        with_views(&points, |views| {
            let groups = groups(views, 100);
            assert_eq!(groups.len(), 4);
            for group in groups {
                assert!(group.iter().all(|at| at % 4 == group[0] % 4), "one region: {group:?}");
            }
        });
    }

    #[test]
    fn many_records_of_few_series_make_requests_of_one_series() {
        let points: Vec<Point> =
            (0..400).map(|at| host(at % 4, at % 4, i64::try_from(at / 4).unwrap())).collect();
        with_views(&points, |views| {
            let groups = groups(views, 100);
            assert_eq!(groups.len(), 4);
            for group in groups {
                assert!(group.iter().all(|at| at % 4 == group[0] % 4), "one series: {group:?}");
                assert!(group.is_sorted(), "in the order of arrival");
            }
        });
    }

    #[test]
    fn a_fleet_in_step_shares_its_time() {
        let points: Vec<Point> =
            (0..300).map(|at| host(at % 100, 1, i64::try_from(at / 100).unwrap())).collect();
        with_views(&points, |views| {
            for group in groups(views, 100) {
                let time_ns = views[group[0]].time_ns;
                assert!(group.iter().all(|&at| views[at].time_ns == time_ns));
            }
        });
    }

    #[test]
    fn one_key_never_stands_twice_in_a_request() {
        let points = vec![host(1, 1, 5); 3];
        with_views(&points, |views| assert_eq!(groups(views, 100), [[0], [1], [2]]));
    }

    proptest! {
        /// Every record is in one request, no request is too large or has a key twice, and the records
        /// of a series keep their order.
        #[test]
        fn whatever_comes_nothing_is_left_out_and_no_series_is_reordered(
            points in prop::collection::vec((0..4_usize, 0..12_usize, 0..3_usize, 0..6_i64), 1..200),
            max in 1..30_usize,
        ) {
            const NAMES: [&str; 4] = ["cpu", "mem", "a", "b"];
            let points: Vec<Point> = points.into_iter().map(|(name, host, extra, time_ns)| {
                let dimensions = [
                    ("host", host.to_string()), ("x", extra.to_string()), ("y", "same".to_owned()),
                ];
                (NAMES[name], dimensions[..=(host % 3)].to_vec(), time_ns)
            }).collect();
            with_views(&points, |views| {
                let groups = groups(views, max);
                let mut seen = vec![false; points.len()];
                let mut last: HashMap<(&str, String), usize> = HashMap::new();
                for group in &groups {
                    assert!((1..=max).contains(&group.len()));
                    let mut keys = std::collections::HashSet::new();
                    for &at in group {
                        assert!(!std::mem::replace(&mut seen[at], true), "once");
                        let (name, dimensions, time_ns) = &points[at];
                        let series = (*name, format!("{dimensions:?}"));
                        assert!(keys.insert((series.clone(), *time_ns)), "a key twice");
                        assert!(last.insert(series, at).is_none_or(|before| before < at), "order");
                    }
                }
                assert!(seen.iter().all(|seen| *seen), "nothing is left out");
            });
        }
    }
}
