//! The order in which rows of stores go to files: by day, in a day by stretches of time, in a stretch
//! by series and time.

use std::collections::BTreeMap;

use crate::engine::{EngineError, TimeRange};

use super::parquet_write::Pick;
use super::partition::{day_begin, day_end, day_of};
use super::series::rank;
use super::store::{SeriesId, TableStore};

/// Of how many rows one is looked at to cut a day into files of about equal size.
const SAMPLE_EVERY: usize = 64;

/// Stores of one table, oldest first, and their series in order.
pub(super) struct Ordered<'s> {
    pub(super) sources: Vec<&'s TableStore>,
    /// For each series, in order, where it is: sources ascending.
    pub(super) series: Vec<Vec<(u32, SeriesId)>>,
}

impl<'s> Ordered<'s> {
    pub(super) fn new(sources: Vec<&'s TableStore>) -> Self {
        let (ranks, distinct) = rank(sources.iter().flat_map(|source| source.keys()));
        let mut series = vec![Vec::new(); distinct.len()];
        let mut ranks = ranks.into_iter();
        for (at, source) in sources.iter().enumerate() {
            let at = u32::try_from(at).expect("few stores are flushed at once");
            for (id, rank) in (0..source.keys().len()).zip(&mut ranks) {
                let id = u32::try_from(id).expect("series ids are 32 bits");
                series[rank as usize].push((at, SeriesId(id)));
            }
        }
        Self { sources, series }
    }

    /// The days of the rows, and about how many rows each has: dead ones of older stores count too.
    pub(super) fn days(&self) -> BTreeMap<i32, usize> {
        let mut days = BTreeMap::new();
        for &(source, id) in self.series.iter().flatten() {
            let source = self.sources[source as usize];
            let mut rest = source.rows_of(id);
            while let Some(&first) = rest.first() {
                let day = day_of(source.row(first).time_ns());
                let end = day_end(day);
                // The last day has no end inside 64 bits, so that its rows are all that are left.
                let rows =
                    rest.partition_point(|&row| end == i64::MAX || source.row(row).time_ns() < end);
                assert!(rows > 0, "a row is before the end of its day");
                *days.entry(day).or_insert(0) += rows;
                rest = &rest[rows..];
            }
        }
        days
    }

    /// Cuts a day of about `rows` rows into stretches for one file each, of about `rows_max` rows.
    pub(super) fn slices(&self, day: i32, rows: usize, rows_max: usize) -> Vec<TimeRange> {
        let whole = TimeRange { from_ns: day_begin(day), to_ns: day_end(day) };
        let files = rows.div_ceil(rows_max);
        if files <= 1 {
            return vec![whole];
        }
        let mut times = Vec::with_capacity(rows / SAMPLE_EVERY + 1);
        let mut seen = 0;
        for &(source, id) in self.series.iter().flatten() {
            let source = self.sources[source as usize];
            for &row in source.rows_between(id, whole.from_ns, whole.to_ns) {
                if seen % SAMPLE_EVERY == 0 {
                    times.push(source.row(row).time_ns());
                }
                seen += 1;
            }
        }
        times.sort_unstable();
        let mut cuts: Vec<i64> = (1..files).map(|at| times[at * times.len() / files]).collect();
        cuts.dedup();
        cuts.retain(|&cut| cut > whole.from_ns);
        let begins = std::iter::once(whole.from_ns).chain(cuts.iter().copied());
        let ends = cuts.iter().copied().chain(std::iter::once(whole.to_ns));
        begins.zip(ends).map(|(from_ns, to_ns)| TimeRange { from_ns, to_ns }).collect()
    }

    /// Shows the rows of one series in `range`, in order of time; of rows with one time the newest.
    pub(super) fn rows_of(
        &self,
        places: &[(u32, SeriesId)],
        range: TimeRange,
        each: &mut dyn FnMut(Pick) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        if let [(at, series)] = *places {
            let source = self.sources[at as usize];
            for &row in source.rows_between(series, range.from_ns, range.to_ns) {
                each(Pick { source: at, series, row })?;
            }
            return Ok(());
        }
        let mut rows = Vec::new();
        for &(at, series) in places {
            let source = self.sources[at as usize];
            for &row in source.rows_between(series, range.from_ns, range.to_ns) {
                rows.push((source.row(row).time_ns(), Pick { source: at, series, row }));
            }
        }
        rows.sort_unstable_by_key(|(time_ns, pick)| (*time_ns, pick.source));
        for same in rows.chunk_by(|a, b| a.0 == b.0) {
            each(same[same.len() - 1].1)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::partition::DAY_NS;
    use super::super::series::{FamilyKey, SeriesKey};
    use super::super::store::Stamp;
    use super::*;
    use crate::record::{MeasureKind, TableId, Value};
    use std::collections::BTreeSet;
    use std::sync::Arc;

    fn store(times: impl Iterator<Item = i64>) -> TableStore {
        let mut store = TableStore::default();
        let family = Arc::new(FamilyKey::of(TableId(1), "m", std::iter::empty()));
        let series = store.add_series(Arc::new(SeriesKey::of(family, &[])), i64::MIN);
        for time_ns in times {
            let stamp = Stamp { time_ns, version: 1 };
            let value = [("", Value::Bigint(1))];
            let row = store.append(series, stamp, MeasureKind::Scalar, &value);
            store.index_late(series, row, time_ns);
        }
        store.seal();
        store
    }

    #[test]
    fn a_day_is_cut_into_stretches_that_hold_each_row_once() {
        let cases: [Vec<i64>; 3] = [
            (0..10_000).map(|at| at * 1000).collect(),
            // Nearly all rows in one moment, which no cut can part.
            std::iter::once(0).chain((0..10_000).map(|at| DAY_NS / 2 + at / 9_000)).collect(),
            (0..200).map(|at| DAY_NS - 1 - at).collect(),
        ];
        for times in cases {
            let store = store(times.iter().copied().collect::<BTreeSet<_>>().into_iter());
            let rows = store.rows() as usize;
            let ordered = Ordered::new(vec![&store]);
            assert_eq!(ordered.days(), BTreeMap::from([(0, rows)]));
            for rows_max in [64, 1000, rows] {
                let slices = ordered.slices(0, rows, rows_max);
                assert_eq!(slices[0].from_ns, 0);
                assert_eq!(slices[slices.len() - 1].to_ns, DAY_NS);
                assert!(slices.windows(2).all(|pair| pair[0].to_ns == pair[1].from_ns));
                assert!(slices.iter().all(|slice| slice.from_ns < slice.to_ns));
                let mut found = 0;
                for slice in slices {
                    let each = &mut |_| {
                        found += 1;
                        Ok(())
                    };
                    ordered.rows_of(&ordered.series[0], slice, each).unwrap();
                }
                assert_eq!(found, rows);
            }
        }
    }

    #[test]
    fn of_rows_with_one_key_the_newest_store_has_the_last_word() {
        let stores = [store([1, 2, 3].into_iter()), store([2, 4].into_iter())];
        let ordered = Ordered::new(stores.iter().collect());
        let mut found = Vec::new();
        let each = &mut |pick: Pick| {
            let time_ns = stores[pick.source as usize].row(pick.row).time_ns();
            found.push((time_ns, pick.source));
            Ok(())
        };
        ordered.rows_of(&ordered.series[0], TimeRange::ALL, each).unwrap();
        assert_eq!(found, [(1, 0), (2, 1), (3, 0), (4, 1)]);
    }
}
