//! The engine against a map: whatever is written, flushed, crashed and replayed, both have the same.
//!
//! `TIDEGATE_MODEL_OPERATIONS` sets how many records are written (20,000 by default),
//! `TIDEGATE_MODEL_SEED` repeats a run.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod engine_support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use engine_support::{Bed, Key, Owned, Random, Rec, State, copy_dir, open, replay, rows};
use tidegate::base::units::Bytes;
use tidegate::engine::embedded::Options;
use tidegate::engine::{TableEngine, TimeRange};
use tidegate::record::request::Outcome;
use tidegate::record::{MeasureKind, Reason, TableId};

const DAY: i64 = 86_400_000_000_000;

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

struct Source {
    random: Random,
    newest: i64,
}

impl Source {
    fn record(&mut self, table: TableId) -> Rec {
        let random = &mut self.random;
        self.newest += i64::try_from(random.below(600_000)).unwrap() * 1_000_000;
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
        options.cache_bytes_max = Bytes([0, 1 << 20][usize::try_from(seed % 2).unwrap()]);
    });
    let tables = [bed.table("one"), bed.table("two")];
    let mut models: [BTreeMap<Key, State>; 2] = Default::default();
    let mut source = Source { random: Random::new(seed + 1), newest: 20_000 * DAY };
    let mut written = 0;
    while written < operations {
        let count = 1 + random.below(60);
        let mut expected = Vec::new();
        let records: Vec<Rec> = (0..count)
            .map(|_| {
                let at = usize::from(random.chance(20));
                let rec = source.record(tables[at]);
                expected.push(expect(&mut models[at], &rec));
                rec
            })
            .collect();
        let outcomes = bed.write(&records);
        for ((outcome, expected), rec) in outcomes.iter().zip(&expected).zip(&records) {
            check(outcome, expected, rec);
        }
        written += count;
        let action = random.below(100);
        match action {
            0..6 => bed.engine.flush().unwrap(),
            6..8 => bed.crash(1 + random.below(5)),
            8 => crash_at_every_step(&mut bed, tables, &models),
            9..14 => compare(&bed, tables, &models),
            _ => {}
        }
    }
    compare(&bed, tables, &models);
    bed.engine.close();
    compare(&bed, tables, &models);
    bed.crash(2);
    compare(&bed, tables, &models);
}

#[expect(clippy::print_stderr, reason = "a failed run is repeated by its seed")]
fn eprintln_seed(seed: u64, operations: usize) {
    eprintln!("TIDEGATE_MODEL_SEED={seed} TIDEGATE_MODEL_OPERATIONS={operations}");
}

fn compare(bed: &Bed, tables: [TableId; 2], models: &[BTreeMap<Key, State>; 2]) {
    for (table, model) in tables.into_iter().zip(models) {
        assert_eq!(&bed.rows(table), model);
    }
    let table = tables[0];
    let range = TimeRange { from_ns: 20_000 * DAY, to_ns: 20_001 * DAY };
    let part: BTreeMap<Key, State> = models[0]
        .iter()
        .filter(|(key, _)| range.from_ns <= key.2 && key.2 < range.to_ns)
        .map(|(key, state)| (key.clone(), state.clone()))
        .collect();
    assert_eq!(rows(&bed.engine, table, range), part);
}

fn crash_at_every_step(bed: &mut Bed, tables: [TableId; 2], models: &[BTreeMap<Key, State>; 2]) {
    let copies: Copies = Arc::default();
    let (of_hook, dir) = (Arc::clone(&copies), bed.dir.path().to_owned());
    bed.engine.on_flush_step(move |_| {
        let copy = tempfile::tempdir().unwrap();
        copy_dir(&dir, copy.path());
        of_hook.lock().unwrap().push(copy);
    });
    bed.engine.flush().unwrap();
    bed.engine.on_flush_step(|_| {});
    for copy in std::mem::take(&mut *copies.lock().unwrap()) {
        let options = Options { dir: copy.path().to_owned(), ..bed.options.clone() };
        let (_catalog, engine) = open(&options, bed.shards);
        replay(&engine, bed.shards, &bed.frames);
        for (table, model) in tables.into_iter().zip(models) {
            assert_eq!(&rows(&engine, table, TimeRange::ALL), model);
        }
    }
}

#[test]
fn the_engine_does_what_a_map_would() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let operations = number("TIDEGATE_MODEL_OPERATIONS").unwrap_or(20_000);
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
