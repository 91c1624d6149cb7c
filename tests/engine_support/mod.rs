//! What the tests of the engine share: records that own their texts, frames, and a log to replay.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]
#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::missing_docs_in_private_items,
    reason = "each test uses its own part"
)]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use tidegate::base::clock::{ManualClock, SharedClock};
use tidegate::base::lsn::Lsn;
use tidegate::base::units::Bytes;
use tidegate::engine::catalog::{Catalog, TableSettings};
use tidegate::engine::embedded::{Embedded, Options};
use tidegate::engine::{ShardId, TableEngine, TimeRange};
use tidegate::record::codec::{BUCKETS, Bucket, Payload, PayloadBuilder, RecordView};
use tidegate::record::request::{CommonAttributes, Outcome, WriteRequest};
use tidegate::record::{Attribute, Dimension, MeasureKind, Origin, Record, TableId, Value};

pub(crate) mod image;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owned {
    Double(u64),
    Bigint(i64),
    Boolean(bool),
    Varchar(String),
    Timestamp(i64),
}

impl Owned {
    pub(crate) fn double(value: f64) -> Self {
        Self::Double(value.to_bits())
    }

    pub(crate) fn of(value: &Value<'_>) -> Self {
        match value {
            Value::Double(v) => Self::Double(v.to_bits()),
            Value::Bigint(v) => Self::Bigint(*v),
            Value::Boolean(v) => Self::Boolean(*v),
            Value::Varchar(v) => Self::Varchar((*v).to_owned()),
            Value::Timestamp(v) => Self::Timestamp(*v),
        }
    }

    pub(crate) fn value(&self) -> Value<'_> {
        match self {
            Self::Double(v) => Value::Double(f64::from_bits(*v)),
            Self::Bigint(v) => Value::Bigint(*v),
            Self::Boolean(v) => Value::Boolean(*v),
            Self::Varchar(v) => Value::Varchar(v),
            Self::Timestamp(v) => Value::Timestamp(*v),
        }
    }
}

/// A record to write.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rec {
    pub(crate) table: TableId,
    pub(crate) measure: String,
    pub(crate) dimensions: Vec<(String, String)>,
    pub(crate) attributes: Vec<(String, Owned)>,
    pub(crate) time_ns: i64,
    pub(crate) version: i64,
}

impl Rec {
    pub(crate) fn new(table: TableId, host: &str, time_ns: i64, version: i64) -> Self {
        let dimensions = vec![("host".to_owned(), host.to_owned())];
        Self { table, measure: "m".to_owned(), dimensions, attributes: vec![], time_ns, version }
    }

    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: Owned) -> Self {
        self.attributes.push((name.to_owned(), value));
        self
    }

    pub(crate) fn kind(&self) -> MeasureKind {
        match &self.attributes[..] {
            [(name, _)] if name.is_empty() => MeasureKind::Scalar,
            _ => MeasureKind::Multi,
        }
    }
}

/// Measure name, dimensions, time.
pub(crate) type Key = (String, Vec<(String, String)>, i64);

/// Kind, version, attributes.
pub(crate) type State = (MeasureKind, i64, BTreeMap<String, Owned>);

/// A payload for `shards` shards.
pub(crate) fn payload(records: &[Rec], shards: usize) -> Vec<u8> {
    let mut builder = PayloadBuilder::new(shards);
    builder.start(1_000);
    for (number, rec) in records.iter().enumerate() {
        let record = Record {
            origin: Origin { number: number as u64, text: b"", ..Origin::default() },
            database: "d",
            table: "t",
            measure_name: &rec.measure,
            dimensions: rec
                .dimensions
                .iter()
                .map(|(name, value)| Dimension { name, value })
                .collect(),
            kind: rec.kind(),
            attributes: rec
                .attributes
                .iter()
                .map(|(name, value)| Attribute { name, value: value.value() })
                .collect(),
            time_ns: None,
            version: None,
        };
        let family = builder.family(rec.table, &record).0;
        let layout = builder.layout(&record).0;
        builder.push((family, layout), &record, rec.time_ns, rec.version);
    }
    let mut bytes = Vec::new();
    builder.finish(&mut bytes);
    bytes
}

/// Executes a frame as the shards would, without the records that `stored` has. Returns the outcome
/// of each record that was written, by its number.
pub(crate) fn execute(
    engine: &Embedded,
    shards: usize,
    lsn: Lsn,
    bytes: &[u8],
    stored: &[Lsn],
) -> BTreeMap<u64, Outcome> {
    let payload = Payload::open(bytes).unwrap();
    let (mut families, mut layouts) = (Vec::new(), Vec::new());
    payload.dictionary(&mut families, &mut layouts).unwrap();
    let mut all = BTreeMap::new();
    for shard in 0..shards {
        let id = ShardId(u16::try_from(shard).unwrap());
        let views: Vec<RecordView<'_>> = (0..payload.sections())
            .flat_map(|at| payload.section(at, &families, &layouts))
            .map(Result::unwrap)
            .filter(|view| Bucket::of(view.series_hash).shard(shards) == shard)
            .filter(|view| stored[Bucket::of(view.series_hash).0 as usize] < lsn)
            .collect();
        for run in views.chunk_by(|a, b| a.family.table == b.family.table) {
            for records in run.chunks(100) {
                let table = records[0].family.table;
                let common = CommonAttributes::default();
                let request = WriteRequest { table, common: &common, records };
                let mut outcomes = Vec::new();
                engine.write(id, &request, &mut outcomes).unwrap();
                assert_eq!(outcomes.len(), records.len());
                all.extend(records.iter().map(|view| view.number).zip(outcomes));
            }
        }
        engine.commit(id, lsn).unwrap();
    }
    engine.applied(lsn);
    all
}

/// Nanoseconds of a day.
pub(crate) const DAY: i64 = 86_400_000_000_000;

/// What the clock of a test says at first.
pub(crate) const NOW: i64 = 20_000 * DAY + 5;

/// An engine with the frames that its log would have.
#[derive(Debug)]
pub(crate) struct Bed {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) options: Options,
    pub(crate) shards: usize,
    pub(crate) frames: Vec<Vec<u8>>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) engine: Embedded,
    /// Stands still, so that nothing happens in the background but what a test wants.
    pub(crate) clock: Arc<ManualClock>,
}

/// A folder that goes away with its test; in memory where the system has such a place. A process that
/// is killed leaves the page cache as it is, so these tests need no disk, and syncs cost nothing there.
pub(crate) fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

pub(crate) fn small(dir: &Path) -> Options {
    Options {
        dir: dir.to_owned(),
        memory_bytes_max: Bytes::mib(16),
        flush_bytes: Bytes::mib(8),
        ..Options::default()
    }
}

pub(crate) fn open(options: &Options, shards: usize) -> (Arc<Catalog>, Embedded) {
    open_at(options, shards, ManualClock::at(NOW))
}

pub(crate) fn open_at(
    options: &Options,
    shards: usize,
    clock: SharedClock,
) -> (Arc<Catalog>, Embedded) {
    let catalog = Arc::new(Catalog::open(&options.dir).unwrap());
    let engine = Embedded::open(options.clone(), shards, Arc::clone(&catalog), clock).unwrap();
    (catalog, engine)
}

impl Bed {
    pub(crate) fn new(shards: usize) -> Self {
        Self::with(shards, |_| {})
    }

    pub(crate) fn with(shards: usize, change: impl FnOnce(&mut Options)) -> Self {
        let dir = folder();
        let mut options = small(dir.path());
        change(&mut options);
        let clock = ManualClock::at(NOW);
        let (catalog, engine) = open_at(&options, shards, Arc::clone(&clock) as SharedClock);
        Self { dir, options, shards, frames: Vec::new(), catalog, engine, clock }
    }

    pub(crate) fn table(&self, name: &str) -> TableId {
        self.catalog.create("d", name, &TableSettings::default()).unwrap().id
    }

    pub(crate) fn write(&mut self, records: &[Rec]) -> Vec<Outcome> {
        self.frames.push(payload(records, self.shards));
        let lsn = Lsn(self.frames.len() as u64);
        let none = [Lsn::ZERO; BUCKETS];
        let outcomes = execute(&self.engine, self.shards, lsn, self.frames.last().unwrap(), &none);
        assert_eq!(outcomes.len(), records.len());
        outcomes.into_values().collect()
    }

    pub(crate) fn write_one(&mut self, record: Rec) -> Outcome {
        self.write(&[record]).remove(0)
    }

    /// Opens the engine again with this many shards, as after a crash: replays the frames.
    pub(crate) fn crash(&mut self, shards: usize) {
        let elsewhere = folder();
        let (catalog, engine) = open(&small(elsewhere.path()), 1);
        drop(std::mem::replace(&mut self.engine, engine));
        drop(std::mem::replace(&mut self.catalog, catalog));
        self.shards = shards;
        let clock = Arc::clone(&self.clock) as SharedClock;
        let (catalog, engine) = open_at(&self.options, shards, clock);
        (self.catalog, self.engine) = (catalog, engine);
        replay(&self.engine, shards, &self.frames);
    }

    pub(crate) fn rows(&self, table: TableId) -> BTreeMap<Key, State> {
        rows(&self.engine, table, TimeRange::ALL)
    }
}

/// Executes the frames that the engine has not stored.
pub(crate) fn replay(engine: &Embedded, shards: usize, frames: &[Vec<u8>]) {
    let stored: Vec<Lsn> =
        (0..BUCKETS).map(|at| engine.stored(Bucket(u8::try_from(at).unwrap()))).collect();
    for (at, frame) in frames.iter().enumerate() {
        let lsn = Lsn(at as u64 + 1);
        if lsn > engine.checkpoint() {
            execute(engine, shards, lsn, frame, &stored);
        }
    }
}

/// The rows of a table; checks their order and that each key stands once.
pub(crate) fn rows(engine: &Embedded, table: TableId, range: TimeRange) -> BTreeMap<Key, State> {
    rows_of(engine, table, range)
}

/// The same of any engine.
pub(crate) fn rows_of(
    engine: &dyn TableEngine,
    table: TableId,
    range: TimeRange,
) -> BTreeMap<Key, State> {
    let mut all = BTreeMap::new();
    let mut last: Option<(i64, Key)> = None;
    engine
        .scan(table, range, &mut |row| {
            let dimensions: Vec<(String, String)> =
                row.dimensions.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            let key = (row.measure_name.to_owned(), dimensions, row.time_ns);
            let place = (row.time_ns, key.clone());
            if let Some(last) = &last {
                assert!(*last < place, "{last:?} before {place:?}");
            }
            last = Some(place);
            assert!(row.attributes.is_sorted_by(|a, b| a.0 < b.0), "{row:?}");
            let attributes =
                row.attributes.iter().map(|(n, v)| ((*n).to_owned(), Owned::of(v))).collect();
            let before = all.insert(key, (row.kind, row.version, attributes));
            assert!(before.is_none(), "one row a key: {row:?}");
            ControlFlow::Continue(())
        })
        .unwrap();
    all
}

/// Copies a folder with all that is in it.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A small generator of pseudo-random numbers (xorshift64*), since a run must be repeatable.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From 0 to before `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from((self.next() >> 33) % end as u64).unwrap()
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}
