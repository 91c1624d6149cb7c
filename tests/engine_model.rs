//! The engine against a map: whatever is written, flushed, crashed and replayed, both have the same.
//!
//! Three tables: one keeps its rows for ever, one for two days by a clock that moves with the newest
//! record, one is deleted and made again. Between writes the engine is flushed, compacted, crashed
//! (and started with another number of shards, from its marks), and copied after every step of the
//! work on its files. Every record's outcome is compared with the model's, every few frames one key,
//! and now and then everything.
//!
//! `TIDEGATE_MODEL_OPERATIONS` sets how many records are written (100,000 by default),
//! `TIDEGATE_MODEL_SEED` repeats a run.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod engine_support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine_support::{
    Bed, DAY, Key, NOW, Owned, Random, Rec, State, copy_dir, folder, open_at, replay, rows,
};
use tidegate::base::clock::{Clock, SharedClock};
use tidegate::base::units::Bytes;
use tidegate::engine::catalog::{Retention, TableSettings};
use tidegate::engine::embedded::{FileStep, Options};
use tidegate::engine::{TableEngine, TimeRange};
use tidegate::record::request::Outcome;
use tidegate::record::{MeasureKind, Reason, TableId};

/// What a row of the second table lives: an hour and two days.
const LIFE_NS: i64 = 49 * 3_600_000_000_000;

/// Longest time between two records in order.
const STEP_MS_MAX: usize = 600_000;

/// The version rule once more, as plainly as it can be said.
fn expect(model: &mut BTreeMap<Key, State>, rec: &Rec) -> Result<&'static str, (Reason, i64)> {
    let key = (rec.measure.clone(), rec.dimensions.clone(), rec.time_ns);
    let new: BTreeMap<String, Owned> = rec.attributes.iter().cloned().collect();
    let Some((kind, version, old)) = model.get_mut(&key) else {
        model.insert(key, (rec.kind(), rec.version, new));
        return Ok("stored");
    };
    if rec.version < *version {
        return Err((Reason::VersionLower, *version));
    }
    if *kind != rec.kind() {
        let reason =
            if rec.version > *version { Reason::TypeConflict } else { Reason::VersionConflict };
        return Err((reason, *version));
    }
    if rec.version > *version {
        if *kind == MeasureKind::Scalar {
            *old = new;
        } else {
            old.extend(new);
        }
        *version = rec.version;
        return Ok("updated");
    }
    if new.iter().any(|(name, value)| old.get(name).is_some_and(|old| old != value)) {
        return Err((Reason::VersionConflict, *version));
    }
    let before = old.len();
    old.extend(new);
    Ok(if old.len() > before { "updated" } else { "unchanged" })
}

fn check(outcome: &Outcome, expected: &Result<&'static str, (Reason, i64)>, rec: &Rec) {
    let found = match outcome {
        Outcome::Stored => Ok("stored"),
        Outcome::Updated => Ok("updated"),
        Outcome::Unchanged => Ok("unchanged"),
        Outcome::Rejected(rejection) => {
            Err((rejection.reason, rejection.existing_version.unwrap_or(i64::MIN)))
        }
    };
    assert_eq!(found, *expected, "{rec:?}");
}

fn value(random: &mut Random, name: &str) -> Owned {
    match name {
        "a" => Owned::Bigint(i64::try_from(random.below(3)).unwrap() - 1),
        "b" => Owned::double([0.0, -0.0, 1.5, 1e300][random.below(4)]),
        "c" => Owned::Boolean(random.chance(50)),
        "d" => Owned::Varchar(["", "x", "a longer text, ä"][random.below(3)].to_owned()),
        _ => Owned::Timestamp([0, -1, i64::MAX][random.below(3)]),
    }
}

/// A table and what it should hold.
struct Expected {
    id: TableId,
    rows: BTreeMap<Key, State>,
    /// How long its rows live.
    life_ns: Option<i64>,
}

impl Expected {
    fn new(id: TableId, life_ns: Option<i64>) -> Self {
        Self { id, rows: BTreeMap::new(), life_ns }
    }

    /// Forgets the rows that do not live at `now_ns`. Returns from when on rows do.
    fn expire(&mut self, now_ns: i64) -> i64 {
        let Some(life_ns) = self.life_ns else { return i64::MIN };
        self.rows.retain(|key, _| key.2 >= now_ns - life_ns);
        now_ns - life_ns
    }
}

struct Source {
    random: Random,
    newest: i64,
}

impl Source {
    fn record(&mut self, table: TableId) -> Rec {
        let random = &mut self.random;
        self.newest += i64::try_from(random.below(STEP_MS_MAX)).unwrap() * 1_000_000;
        let time_ns = match random.below(10) {
            0..4 => self.newest,
            4..8 => self.newest - i64::try_from(random.below(40)).unwrap() * 60_000_000_000,
            // Few times, so that keys meet again and again.
            8 => i64::try_from(random.below(40)).unwrap() * DAY / 8 - DAY,
            _ => [i64::MIN + 2, i64::MAX - 1, 0][random.below(3)],
        };
        let host = format!("h{}", random.below(6));
        let version = [1, 1, 1, 2, 3, i64::MAX, 0][random.below(7)];
        let mut rec = Rec::new(table, &host, time_ns, version);
        if random.chance(20) {
            rec.dimensions.push(("zone".to_owned(), ["", "a"][random.below(2)].to_owned()));
        }
        if random.chance(10) {
            "other".clone_into(&mut rec.measure);
        }
        if random.chance(15) {
            let name = ["a", "b", "c", "d", "e"][random.below(5)];
            return rec.with("", value(random, name));
        }
        let names: Vec<&str> =
            ["d", "a", "c", "b", "e"].into_iter().filter(|_| random.chance(50)).collect();
        let names = if names.is_empty() { vec!["a"] } else { names };
        for name in names {
            let value = value(random, name);
            rec = rec.with(name, value);
        }
        rec
    }
}

/// Copies of the data folder, each as one step of a flush left it.
type Copies = Arc<Mutex<Vec<tempfile::TempDir>>>;

fn run(seed: u64, operations: usize) {
    eprintln_seed(seed, operations);
    let mut random = Random::new(seed);
    let mut bed = Bed::with(1 + random.below(3), |options| {
        options.memory_bytes_max = Bytes::mib(1);
        options.flush_bytes = Bytes(100_000 + (seed % 7) * 50_000);
        options.cache_bytes_max = Bytes([1 << 16, 1 << 20][usize::try_from(seed % 2).unwrap()]);
        options.compact_files = [2, 3, 8][usize::try_from(seed % 3).unwrap()];
    });
    let retention = Retention { memory_hours: 1, magnetic_days: 2, ..Retention::default() };
    let settings = TableSettings { retention, ..TableSettings::default() };
    let expiring = bed.catalog.create("d", "two", &settings).unwrap().id;
    let mut tables = [
        Expected::new(bed.table("one"), None),
        Expected::new(expiring, Some(LIFE_NS)),
        Expected::new(bed.table("three"), None),
    ];
    let mut source = Source { random: Random::new(seed + 1), newest: NOW };
    let mut written = 0;
    while written < operations {
        written += write(&mut bed, &mut source, &mut random, &mut tables);
        match random.below(1000) {
            0..60 => bed.engine.flush().unwrap(),
            60..100 => bed.engine.tidy().unwrap(),
            100..110 => bed.crash(1 + random.below(5)),
            110 => crash_at_every_step(&mut bed, &mut tables),
            111..121 => compare(&bed, &mut tables),
            121..125 => {
                bed.catalog.delete_table("d", "three").unwrap();
                assert!(bed.rows(tables[2].id).is_empty());
                tables[2] = Expected::new(bed.table("three"), None);
            }
            _ => {}
        }
    }
    compare(&bed, &mut tables);
    bed.engine.close();
    compare(&bed, &mut tables);
    bed.crash(2);
    compare(&bed, &mut tables);
}

/// Writes one frame to engine and model and compares every outcome; and now and then one key.
fn write(
    bed: &mut Bed,
    source: &mut Source,
    random: &mut Random,
    tables: &mut [Expected; 3],
) -> usize {
    let count = 1 + random.below(60);
    let records: Vec<(usize, Rec)> = (0..count)
        .map(|_| {
            let at = [0, 0, 0, 1, 1, 2][random.below(6)];
            (at, source.record(tables[at].id))
        })
        .collect();
    let later = source.newest - bed.clock.wall_ns();
    bed.clock.advance(Duration::from_nanos(u64::try_from(later).unwrap()));
    let expected: Vec<_> = records
        .iter()
        .map(|(at, rec)| {
            let alive_from_ns = tables[*at].expire(source.newest);
            if rec.time_ns < alive_from_ns {
                Ok("stored")
            } else {
                expect(&mut tables[*at].rows, rec)
            }
        })
        .collect();
    let records: Vec<Rec> = records.into_iter().map(|(_, rec)| rec).collect();
    let outcomes = bed.write(&records);
    for ((outcome, expected), rec) in outcomes.iter().zip(&expected).zip(&records) {
        check(outcome, expected, rec);
    }
    if random.chance(10) {
        let rec = &records[random.below(count)];
        let table = tables.iter().find(|table| table.id == rec.table).unwrap();
        compare_range(bed, table, TimeRange { from_ns: rec.time_ns, to_ns: rec.time_ns + 1 });
    }
    count
}

#[expect(clippy::print_stderr, reason = "a failed run is repeated by its seed")]
fn eprintln_seed(seed: u64, operations: usize) {
    eprintln!("TIDEGATE_MODEL_SEED={seed} TIDEGATE_MODEL_OPERATIONS={operations}");
}

fn compare(bed: &Bed, tables: &mut [Expected; 3]) {
    for table in tables.iter_mut() {
        table.expire(bed.clock.wall_ns());
        assert_eq!(bed.rows(table.id), table.rows);
    }
    compare_range(bed, &tables[0], TimeRange { from_ns: 20_000 * DAY, to_ns: 20_001 * DAY });
}

fn compare_range(bed: &Bed, table: &Expected, range: TimeRange) {
    let inside = |key: &Key| range.from_ns <= key.2 && key.2 < range.to_ns;
    let part = table.rows.iter().filter(|(key, _)| inside(key));
    let part: BTreeMap<Key, State> =
        part.map(|(key, state)| (key.clone(), state.clone())).collect();
    assert_eq!(rows(&bed.engine, table.id, range), part);
}

fn crash_at_every_step(bed: &mut Bed, tables: &mut [Expected; 3]) {
    let copies: Copies = Arc::default();
    let (of_hook, dir) = (Arc::clone(&copies), bed.dir.path().to_owned());
    bed.engine.on_file_step(move |step, _| {
        if step != FileStep::BytesWritten {
            let copy = folder();
            copy_dir(&dir, copy.path());
            of_hook.lock().unwrap().push(copy);
        }
    });
    bed.engine.flush().unwrap();
    bed.engine.tidy().unwrap();
    bed.engine.on_file_step(|_, _| {});
    let mut copies = std::mem::take(&mut *copies.lock().unwrap());
    // Of many some: that each step is safe by itself is the promise of `engine_crash`.
    while copies.len() > 5 {
        copies.swap_remove(bed.frames.len() % copies.len());
    }
    for copy in copies {
        let options = Options { dir: copy.path().to_owned(), ..bed.options.clone() };
        let clock = Arc::clone(&bed.clock) as SharedClock;
        let (_catalog, engine) = open_at(&options, bed.shards, clock);
        replay(&engine, bed.shards, &bed.frames);
        for table in tables.iter_mut() {
            table.expire(bed.clock.wall_ns());
            assert_eq!(rows(&engine, table.id, TimeRange::ALL), table.rows);
        }
    }
}

#[test]
fn the_engine_does_what_a_map_would() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let operations = number("TIDEGATE_MODEL_OPERATIONS").unwrap_or(100_000);
    let operations = usize::try_from(operations).unwrap();
    if let Some(seed) = number("TIDEGATE_MODEL_SEED") {
        return run(seed, operations);
    }
    for seed in 0..5 {
        run(seed, operations / 5);
    }
    // One that nobody has seen before.
    run(u64::from(std::process::id()), operations / 5);
}
