//! The order in which rows of stores go to files: by day, in a day by stretches of time, in a stretch
//! by series and time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::engine::{EngineError, TimeRange};
use crate::record::TableId;

use super::names::{SeriesNames, Sorted};
use super::parquet_write::Pick;
use super::partition::{day_begin, day_end, day_of};
use super::store::{SeriesId, TableStore, index};

/// Of how many rows one is looked at to cut a day into files of about equal size.
const SAMPLE_EVERY: usize = 64;

/// A file may have more rows than its bound where it would have fewer than so many of a series. Names,
/// keys and index cost a series as much in each file, and a file cut by time has each series again.
const ROWS_OF_SERIES_MIN: usize = 8;

/// A file is at most so many times as large for that: a late record may have to write all of it anew.
const LARGEST_FILE: usize = 4;

/// Fewest series of a table whose order is kept until the next flush.
const KEPT_SERIES_MIN: usize = 1 << 10;

/// Series whose rows are found together, so that the waits for memory overlap.
const WARMED_SERIES: usize = 64;

/// Stores of one table, oldest first, and their series in order.
pub(super) struct Ordered<'s> {
    pub(super) sources: Vec<&'s TableStore>,
    order: Arc<SeriesOrder>,
    /// For each directory, the stores that have it.
    of_directories: Vec<Vec<u32>>,
}

/// The series of some directories in order.
#[derive(Debug)]
pub(super) struct SeriesOrder {
    /// Number and series of each directory.
    directories: Vec<(u64, usize)>,
    /// By place.
    names: SeriesNames,
    /// Where each series is, series in order, directories ascending.
    places: Vec<Place>,
}

/// A series of one of the directories.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    directory: u32,
    series: SeriesId,
    /// Its place in the order.
    at: u32,
    /// Whether the place before is of the same series.
    is_again: bool,
}

impl SeriesOrder {
    /// Of the series that `sources` know.
    fn of(sources: &[&TableStore]) -> Self {
        let last = last_of_directories(sources);
        let keys: Vec<_> = last.iter().map(|source| source.keys()).collect();
        let names = SeriesNames::new(keys.iter().flat_map(|keys| keys.iter()));
        let mut begins = Vec::with_capacity(last.len());
        let mut count = 0;
        for keys in &keys {
            begins.push(count);
            count += keys.len();
        }
        let sorted = names.sorted();
        let place = |(at, sorted): (u32, &Sorted)| {
            // Of directories without series the last counts, which begin where the next does.
            let directory = begins.partition_point(|&begin| begin <= sorted.place) - 1;
            let series = SeriesId(index(sorted.place - begins[directory]));
            Place { directory: index(directory), series, at, is_again: sorted.is_again }
        };
        let places: Vec<Place> = (0..).zip(&sorted).map(place).collect();
        assert!(!places.first().is_some_and(|first| first.is_again), "nothing is before it");
        let directories = directories_of(&last);
        Self { directories, names: names.in_order(&sorted), places }
    }
}

/// Of the stores with one directory the last, which knows all series of the others.
fn last_of_directories<'s>(sources: &[&'s TableStore]) -> Vec<&'s TableStore> {
    let mut last: Vec<&TableStore> = Vec::new();
    for &source in sources {
        let number = source.directory().number();
        match last.iter_mut().find(|known| known.directory().number() == number) {
            Some(known) => *known = source,
            None => last.push(source),
        }
    }
    last
}

fn directories_of(last: &[&TableStore]) -> Vec<(u64, usize)> {
    last.iter().map(|store| (store.directory().number(), store.keys().len())).collect()
}

/// The order of each large table's series as the last flush that was tried left it: an order
/// is true of its series whatever became of their rows. A fleet whose series are all known
/// is put in order once, and not at each flush.
#[derive(Debug, Default)]
pub(super) struct Orders {
    of_tables: HashMap<TableId, Arc<SeriesOrder>>,
}

impl Orders {
    /// The order of the series that `sources`, stores of `table`, know.
    pub(super) fn of(&mut self, table: TableId, sources: &[&TableStore]) -> Arc<SeriesOrder> {
        if let Some(known) = self.of_tables.get(&table)
            && known.directories == directories_of(&last_of_directories(sources))
        {
            return Arc::clone(known);
        }
        // Before another is made: both would be in memory.
        self.of_tables.remove(&table);
        let order = Arc::new(SeriesOrder::of(sources));
        // A directory that nobody was passed ends here, and no later store has its number.
        let lasts = last_of_directories(sources);
        let is_usable = lasts.iter().all(|store| store.directory().is_passed_on());
        if is_usable && order.places.len() >= KEPT_SERIES_MIN {
            self.of_tables.insert(table, Arc::clone(&order));
        }
        order
    }

    /// Lets go of the order of tables that are not wanted.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(TableId) -> bool) {
        self.of_tables.retain(|&table, _| is_wanted(table));
    }
}

impl<'s> Ordered<'s> {
    #[cfg(test)]
    pub(super) fn new(sources: Vec<&'s TableStore>) -> Self {
        let order = Arc::new(SeriesOrder::of(&sources));
        Self::by(sources, order)
    }

    /// With an order of their series that was made before.
    pub(super) fn by(sources: Vec<&'s TableStore>, order: Arc<SeriesOrder>) -> Self {
        let mut of_directories = vec![Vec::new(); order.directories.len()];
        for (at, source) in (0..).zip(&sources) {
            let number = source.directory().number();
            let place = order.directories.iter().position(|known| known.0 == number);
            let place = place.expect("the order is of all directories");
            assert!(source.keys().len() <= order.directories[place].1, "and of all series");
            of_directories[place].push(at);
        }
        Self { sources, order, of_directories }
    }

    /// The names of the series.
    pub(super) fn names(&self) -> &SeriesNames {
        &self.order.names
    }

    /// Shows the series in order, each with its places in the directories.
    pub(super) fn each_series(
        &self,
        mut each: impl FnMut(&[Place]) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let mut warm = 0;
        for (begin, places) in chunks_of(&self.order.places) {
            if begin >= warm {
                warm = begin + WARMED_SERIES;
                self.warm(&self.order.places[begin..warm.min(self.order.places.len())]);
            }
            each(places)?;
        }
        Ok(())
    }

    /// Looks at some series: one after the other, with their rows, each would be waited for.
    fn warm(&self, places: &[Place]) {
        let rows = |place: &Place| {
            let of_directory = self.of_directories[place.directory as usize].iter();
            of_directory.map(|&at| self.sources[at as usize].row_count(place.series)).sum::<usize>()
        };
        std::hint::black_box(places.iter().map(rows).sum::<usize>());
    }

    /// The stretches of time that go to a file each, of about `rows_max` rows, and their days: of more
    /// where there would be fewer than [`ROWS_OF_SERIES_MIN`] of a series.
    pub(super) fn stretches(&self, rows_max: usize) -> Vec<(i32, TimeRange)> {
        let days = self.days();
        let used: usize = self.sources.iter().map(|source| source.used()).sum();
        let rows_of_series = used * ROWS_OF_SERIES_MIN;
        let rows_max = rows_max.max(rows_of_series.min(rows_max * LARGEST_FILE));
        let mut stretches = Vec::new();
        for (&day, &rows) in &days {
            let whole = if days.len() == 1 {
                // Nothing needs to be looked for in any series then.
                TimeRange::ALL
            } else {
                TimeRange { from_ns: day_begin(day), to_ns: day_end(day) }
            };
            let files = rows.div_ceil(rows_max);
            stretches.extend(self.slices(day, whole, files).into_iter().map(|range| (day, range)));
        }
        stretches
    }

    /// The days of the rows, and about how many rows each has: dead ones of older stores count too.
    fn days(&self) -> BTreeMap<i32, usize> {
        let (mut first, mut last) = (i64::MAX, i64::MIN);
        for chunk in self.sources.iter().flat_map(|source| source.chunks()) {
            (first, last) = (first.min(chunk.time_ns_min), last.max(chunk.time_ns_max));
        }
        if first > last {
            return BTreeMap::new();
        }
        if day_of(first) == day_of(last) {
            // The usual case, and a walk through the rows of a million series is not cheap.
            let rows = self.sources.iter().map(|source| source.rows() as usize).sum();
            return BTreeMap::from([(day_of(first), rows)]);
        }
        self.count_days()
    }

    fn count_days(&self) -> BTreeMap<i32, usize> {
        let mut days = BTreeMap::new();
        for source in &self.sources {
            for series in (0..index(source.keys().len())).map(SeriesId) {
                count_days_of(source, series, &mut days);
            }
        }
        days
    }

    /// Cuts `whole`, the rows of a day, into stretches of about as many rows for each of `files`.
    fn slices(&self, day: i32, whole: TimeRange, files: usize) -> Vec<TimeRange> {
        if files <= 1 {
            return vec![whole];
        }
        let chunks = self.sources.iter().flat_map(|source| source.chunks());
        let of_day =
            chunks.flat_map(|chunk| &chunk.times).filter(|&&time_ns| day_of(time_ns) == day);
        let mut times: Vec<i64> = of_day.step_by(SAMPLE_EVERY).copied().collect();
        times.sort_unstable();
        assert!(!times.is_empty(), "a day has rows");
        let mut cuts: Vec<i64> = (1..files).map(|at| times[at * times.len() / files]).collect();
        cuts.dedup();
        cuts.retain(|&cut| cut > times[0]);
        let begins = std::iter::once(whole.from_ns).chain(cuts.iter().copied());
        let ends = cuts.iter().copied().chain(std::iter::once(whole.to_ns));
        begins.zip(ends).map(|(from_ns, to_ns)| TimeRange { from_ns, to_ns }).collect()
    }

    /// Shows the rows of one series in `range`, in order of time; of rows with one time the newest.
    pub(super) fn rows_of(
        &self,
        places: &[Place],
        range: TimeRange,
        each: &mut dyn FnMut(Pick) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let first = places[0].at;
        if let [Place { directory, series, .. }] = *places
            && let [at] = *self.of_directories[directory as usize]
        {
            let source = self.sources[at as usize];
            for &row in source.rows_between(series, range.from_ns, range.to_ns) {
                each(Pick { source: at, series: first, row })?;
            }
            return Ok(());
        }
        let mut rows = Vec::new();
        for &Place { directory, series, .. } in places {
            for &at in &self.of_directories[directory as usize] {
                let source = self.sources[at as usize];
                for &row in source.rows_between(series, range.from_ns, range.to_ns) {
                    let pick = Pick { source: at, series: first, row };
                    rows.push((source.row(row).time_ns(), pick));
                }
            }
        }
        rows.sort_unstable_by_key(|(time_ns, pick)| (*time_ns, pick.source));
        for same in rows.chunk_by(|a, b| a.0 == b.0) {
            each(same[same.len() - 1].1)?;
        }
        Ok(())
    }
}

/// Places of one series each, and which of all the first is.
fn chunks_of(places: &[Place]) -> impl Iterator<Item = (usize, &[Place])> {
    let mut begin = 0;
    places.chunk_by(|_, next| next.is_again).map(move |places| {
        begin += places.len();
        (begin - places.len(), places)
    })
}

/// Counts the rows of a series by their days.
fn count_days_of(source: &TableStore, series: SeriesId, days: &mut BTreeMap<i32, usize>) {
    let mut rest = source.rows_of(series);
    while let Some(&first) = rest.first() {
        let day = day_of(source.row(first).time_ns());
        let end = day_end(day);
        // The last day has no end inside 64 bits, so that its rows are all that are left.
        let rows = rest.partition_point(|&row| end == i64::MAX || source.row(row).time_ns() < end);
        assert!(rows > 0, "a row is before the end of its day");
        *days.entry(day).or_insert(0) += rows;
        rest = &rest[rows..];
    }
}

#[cfg(test)]
mod tests {
    use super::super::partition::DAY_NS;
    use super::super::series::{FamilyKey, SeriesKey};
    use super::super::store::{Keep, Stamp};
    use super::*;
    use crate::record::{MeasureKind, Value, varint};
    use std::collections::BTreeSet;

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
                let stretches = ordered.stretches(rows_max);
                assert!(stretches.iter().all(|(day, _)| *day == 0));
                assert!(rows_max < rows || stretches.len() == 1);
                let slices: Vec<TimeRange> = stretches.iter().map(|(_, range)| *range).collect();
                assert_eq!(slices[0].from_ns, i64::MIN, "no other day has rows");
                assert_eq!(slices[slices.len() - 1].to_ns, i64::MAX);
                assert!(slices.windows(2).all(|pair| pair[0].to_ns == pair[1].from_ns));
                assert!(slices.iter().all(|slice| slice.from_ns < slice.to_ns));
                let mut found = 0;
                for slice in slices {
                    let each = &mut |_| {
                        found += 1;
                        Ok(())
                    };
                    ordered.each_series(|places| ordered.rows_of(places, slice, each)).unwrap();
                }
                assert_eq!(found, rows);
            }
        }
    }

    #[test]
    fn an_order_is_kept_while_its_directory_goes_on() {
        let table = TableId(1);
        for (keep, is_kept) in [(Keep::Series, true), (Keep::Nothing, false)] {
            let mut store = TableStore::default();
            for host in 0..index(KEPT_SERIES_MIN) {
                let family = Arc::new(FamilyKey::of(table, "m", std::iter::once("host")));
                let mut values = Vec::new();
                varint::put_bytes(&mut values, format!("h{host}").as_bytes());
                let key = Arc::new(SeriesKey::of(family, &values));
                let series = store.add_series(key, i64::MIN);
                let stamp = Stamp { time_ns: 1, version: 1 };
                let row =
                    store.append(series, stamp, MeasureKind::Scalar, &[("", Value::Bigint(1))]);
                store.index_late(series, row, 1);
            }
            store.seal();
            store.followed_by(keep, |_, _| {});
            let mut orders = Orders::default();
            let first = orders.of(table, &[&store]);
            assert_eq!(orders.of_tables.contains_key(&table), is_kept);
            assert_eq!(Arc::ptr_eq(&first, &orders.of(table, &[&store])), is_kept);
        }
    }

    #[test]
    fn days_are_told_apart_at_their_ends() {
        let times = [-1, 0, DAY_NS - 1, DAY_NS, DAY_NS + 1, i64::MAX];
        let store = store(times.into_iter());
        let ordered = Ordered::new(vec![&store]);
        let last = day_of(i64::MAX);
        assert_eq!(ordered.days(), BTreeMap::from([(-1, 1), (0, 2), (1, 2), (last, 1)]));
        let stretches = ordered.stretches(1);
        assert!(stretches.iter().all(|(day, range)| {
            *range == TimeRange { from_ns: day_begin(*day), to_ns: day_end(*day) }
                || *day == 0 && day_of(range.from_ns) == 0
                || *day == 1 && day_of(range.from_ns) == 1
        }));
        let mut found = Vec::new();
        for (day, range) in stretches {
            let each = &mut |pick: Pick| {
                found.push((day, store.row(pick.row).time_ns()));
                Ok(())
            };
            ordered.each_series(|places| ordered.rows_of(places, range, each)).unwrap();
        }
        assert_eq!(found, times.map(|time_ns| (day_of(time_ns), time_ns)));
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
        ordered.each_series(|places| ordered.rows_of(places, TimeRange::ALL, each)).unwrap();
        assert_eq!(found, [(1, 0), (2, 1), (3, 0), (4, 1)]);
    }
}
