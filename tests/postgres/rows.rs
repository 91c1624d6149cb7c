//! What becomes of a record, on both engines.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate::base::clock::{ManualClock, SharedClock};
use tidegate::base::lsn::Lsn;
use tidegate::engine::catalog::{Catalog, TableSettings};
use tidegate::engine::postgres::{Options, Postgres};
use tidegate::engine::{EngineError, LogEnds, ShardId, TableEngine, TimeRange};
use tidegate::record::codec::{Bucket, Payload, RecordView};
use tidegate::record::request::{CommonAttributes, Outcome, WriteRequest};
use tidegate::record::{Reason, TableId};

use crate::common::{tell, wait_for};
use crate::engine_support::{
    Bed, DAY, Key, NOW, Owned, Random, Rec, State, folder, payload, rows, rows_of,
};
use crate::server::Server;

/// An engine on a server.
pub(crate) struct Pg {
    /// Goes away with the engine.
    _dir: tempfile::TempDir,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) engine: Postgres,
    shards: usize,
    frames: u64,
}

impl Pg {
    pub(crate) fn new(server: &Server, shards: usize, change: impl FnOnce(&mut Options)) -> Self {
        Self::with_clock(server, shards, ManualClock::at(NOW), change)
    }

    pub(crate) fn with_clock(
        server: &Server,
        shards: usize,
        clock: SharedClock,
        change: impl FnOnce(&mut Options),
    ) -> Self {
        let dir = folder();
        let catalog = Arc::new(Catalog::open(dir.path()).unwrap());
        let address = server.address();
        let mut options =
            Options { host: address.ip().to_string(), port: address.port(), ..Options::default() };
        change(&mut options);
        let log = LogEnds { checkpoint: Lsn::ZERO, durable: Lsn::ZERO };
        let folder = (dir.path(), log);
        let engine = Postgres::open(options, folder, shards, Arc::clone(&catalog), clock).unwrap();
        assert!(engine.knows_stored(), "{:?}", engine.state().fault);
        Self { _dir: dir, catalog, engine, shards, frames: 0 }
    }

    pub(crate) fn table(&self, name: &str) -> TableId {
        self.catalog.create("d", name, &TableSettings::default()).unwrap().id
    }

    /// Executes the records as one frame, each shard's part again while the engine undoes it.
    pub(crate) fn write(&mut self, records: &[Rec]) -> Vec<Outcome> {
        self.frames += 1;
        let (lsn, bytes) = (Lsn(self.frames), payload(records, self.shards));
        let payload = Payload::open(&bytes).unwrap();
        let (mut families, mut layouts) = (Vec::new(), Vec::new());
        payload.dictionary(&mut families, &mut layouts).unwrap();
        let mut all = BTreeMap::new();
        for shard in 0..self.shards {
            let views: Vec<RecordView<'_>> =
                payload.section(shard, &families, &layouts).map(Result::unwrap).collect();
            assert!(views.iter().all(|v| Bucket::of(v.series_hash).shard(self.shards) == shard));
            let outcomes = wait_for("a turn to succeed", std::time::Duration::from_mins(1), || {
                match self.turn(ShardId(u16::try_from(shard).unwrap()), lsn, &views) {
                    Ok(outcomes) => Some(outcomes),
                    Err(error) => {
                        assert!(matches!(error, EngineError::Undone { .. }), "{error}");
                        None
                    }
                }
            });
            all.extend(outcomes);
        }
        self.engine.applied(lsn);
        assert_eq!(all.len(), records.len());
        all.into_values().collect()
    }

    fn turn(
        &self,
        shard: ShardId,
        lsn: Lsn,
        views: &[RecordView<'_>],
    ) -> Result<BTreeMap<u64, Outcome>, EngineError> {
        let mut all = BTreeMap::new();
        for records in views.chunk_by(|a, b| a.family.table == b.family.table) {
            let (table, common) = (records[0].family.table, CommonAttributes::default());
            let mut outcomes = Vec::new();
            let request = WriteRequest { table, common: &common, records };
            self.engine.write(shard, &request, &mut outcomes)?;
            all.extend(records.iter().map(|view| view.number).zip(outcomes));
        }
        self.engine.commit(shard, lsn)?;
        Ok(all)
    }

    pub(crate) fn rows(&self, table: TableId) -> BTreeMap<Key, State> {
        rows_of(&self.engine, table, TimeRange::ALL)
    }
}

/// An outcome without its words, which a server may say its own way.
pub(crate) fn told(outcome: &Outcome) -> (&'static str, Option<Reason>, Option<i64>) {
    match outcome {
        Outcome::Stored => ("stored", None, None),
        Outcome::Updated => ("updated", None, None),
        Outcome::Unchanged => ("unchanged", None, None),
        Outcome::Rejected(rejection) => {
            ("rejected", Some(rejection.reason), rejection.existing_version)
        }
    }
}

/// Each row: what stands, what arrives. Names and values of attributes; no name is a scalar.
#[test]
fn the_truth_table_is_the_same_on_both_engines() {
    let server = Server::new();
    let mut pg = Pg::new(&server, 1, |_| {});
    let mut bed = Bed::new(1);
    let (ours, theirs) = (pg.table("t"), bed.table("t"));
    assert_eq!(ours, theirs, "the same records go to both");
    let (int, text) = (Owned::Bigint, |text: &str| Owned::Varchar(text.to_owned()));
    let double = Owned::double;
    let fields = |all: &[(&str, Owned)]| {
        all.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect::<Vec<_>>()
    };
    let (a1, a2) = (fields(&[("a", int(1))]), fields(&[("a", int(2))]));
    let (a1_b1, a2_b1) =
        (fields(&[("a", int(1)), ("b", int(1))]), fields(&[("a", int(2)), ("b", int(1))]));
    let (b1, b1_c) =
        (fields(&[("b", int(1))]), fields(&[("b", int(1)), ("c", Owned::Boolean(true))]));
    let a_text = fields(&[("a", text("1"))]);
    let (zero, minus) = (fields(&[("", double(0.0))]), fields(&[("", double(-0.0))]));
    let scalar_int = fields(&[("", int(0))]);
    let time = fields(&[("t", Owned::Timestamp(i64::MAX))]);
    #[rustfmt::skip]
    let table = [
        ((1, &a1), (2, &a2)), ((1, &a1), (2, &a1)), ((1, &a1), (2, &b1)), ((1, &a1_b1), (2, &a2)),
        ((1, &a1), (2, &b1_c)), ((-5, &a1), (i64::MAX, &a2)),
        ((2, &a1), (2, &a1)), ((2, &a1_b1), (2, &b1)), ((2, &a1), (2, &b1)), ((2, &a1), (2, &a1_b1)),
        ((2, &a1), (2, &a2)), ((2, &a1), (2, &a2_b1)),
        ((2, &a1), (1, &a2)), ((2, &a1), (1, &a1)), ((2, &a1), (1, &b1)),
        ((1, &a1), (2, &a_text)), ((2, &a1), (2, &a_text)), ((2, &a1), (1, &a_text)),
        ((1, &zero), (2, &minus)), ((1, &zero), (2, &zero)), ((1, &zero), (2, &scalar_int)),
        ((1, &zero), (1, &zero)), ((1, &zero), (1, &minus)), ((1, &zero), (1, &scalar_int)),
        ((2, &zero), (1, &zero)), ((1, &scalar_int), (2, &zero)), ((2, &scalar_int), (2, &scalar_int)),
        ((1, &zero), (2, &a1)), ((1, &a1), (2, &zero)), ((1, &zero), (1, &a1)), ((2, &a1), (1, &zero)),
        ((1, &time), (1, &time)), ((1, &time), (1, &a1)), ((1, &a1), (0, &time)),
    ];
    // Both in one frame, so that they meet inside a statement; then each in its own.
    for is_together in [true, false] {
        for (at, ((old, stands), (new, arrives))) in table.iter().enumerate() {
            let record = |version: i64, attributes: &Vec<(String, Owned)>| {
                let host = format!("{is_together} {at}");
                let mut rec = Rec::new(ours, &host, NOW - 7, version);
                rec.attributes.clone_from(attributes);
                rec
            };
            let both = [record(*old, stands), record(*new, arrives)];
            let step = if is_together { 2 } else { 1 };
            for part in both.chunks(step) {
                let (found, expected) = (pg.write(part), bed.write(part));
                let all = |outcomes: &[Outcome]| outcomes.iter().map(told).collect::<Vec<_>>();
                assert_eq!(all(&found), all(&expected), "row {at}: {part:?}");
            }
        }
    }
    assert_eq!(pg.rows(ours), bed.rows(theirs));
}

/// Records with few keys, many versions and all types, in frames of any size: both engines answer the
/// same and show the same.
#[test]
fn whatever_is_written_both_engines_have_the_same() {
    let server = Server::new();
    for seed in [1, 2, u64::from(std::process::id())] {
        tell(format!("postgres: seed {seed}"));
        let mut random = Random::new(seed);
        let mut pg = Pg::new(&server, 3, |options| options.statement_rows = 7 + random.below(50));
        let mut bed = Bed::new(3);
        let name = format!("t{seed}");
        let tables = [(pg.table(&name), bed.table(&name)), (pg.table("u"), bed.table("u"))];
        for _ in 0..60 {
            let count = 1 + random.below(120);
            let records: Vec<Rec> = (0..count).map(|_| record(&mut random, tables[0].0)).collect();
            let (found, expected) = (pg.write(&records), bed.write(&records));
            for ((found, expected), rec) in found.iter().zip(&expected).zip(&records) {
                assert_eq!(told(found), told(expected), "seed {seed}: {rec:?}");
            }
        }
        for (ours, theirs) in tables {
            assert_eq!(pg.rows(ours), bed.rows(theirs), "seed {seed}");
        }
        let range = TimeRange { from_ns: NOW - 3 * DAY, to_ns: NOW + 1 };
        let found = rows_of(&pg.engine, tables[0].0, range);
        assert_eq!(found, rows(&bed.engine, tables[0].1, range), "seed {seed}");
        assert!(!found.is_empty());
        server.sql("DROP SCHEMA d CASCADE; DROP SCHEMA tidegate CASCADE");
    }
}

/// Where nearly all rows of a turn stand with a lower version they are updated, and those that do not are
/// told apart: new ones, repeats, older versions, other values, other kinds, several of one key.
#[test]
fn among_rows_that_mostly_stand_each_has_its_own_outcome() {
    let server = Server::new();
    let (mut pg, mut bed) = (Pg::new(&server, 1, |_| {}), Bed::new(1));
    let table = pg.table("t");
    assert_eq!(table, bed.table("t"), "the same records go to both");
    let mut send = |what: &str, records: &[Rec]| {
        let (found, expected) = (pg.write(records), bed.write(records));
        let all = |outcomes: &[Outcome]| outcomes.iter().map(told).collect::<Vec<_>>();
        assert_eq!(all(&found), all(&expected), "{what}");
        assert_eq!(pg.rows(table), bed.rows(table), "{what}");
        found
    };
    let rec = |host: usize, version: i64, value: i64| {
        Rec::new(table, &format!("h{host}"), NOW, version).with("v", Owned::Bigint(value))
    };
    let scalar = |host: usize, version: i64, value: Owned| {
        Rec::new(table, &format!("s{host}"), NOW, version).with("", value)
    };
    let all = |version: i64| {
        let mut records: Vec<Rec> = (0..300).map(|host| rec(host, version, version)).collect();
        records.extend((0..30).map(|host| scalar(host, version, Owned::Bigint(version))));
        records
    };
    for version in [1, 2, 3, 4] {
        send("every row once more", &all(version));
    }
    let mut mixed = all(5);
    mixed[3] = rec(1_000, 1, 7);
    mixed[40] = rec(40, 4, 4);
    mixed[77] = rec(77, 4, 99);
    mixed[78] = rec(78, 2, 2);
    mixed[100].attributes[0].1 = Owned::Varchar("not a number".to_owned());
    mixed[150] = rec(150, 5, 5).with("w", Owned::Boolean(true));
    mixed[200].attributes = vec![("x".to_owned(), Owned::Bigint(1))];
    mixed[299] = rec(298, 6, 6);
    mixed[310] = scalar(10, 5, Owned::Varchar("another type".to_owned()));
    mixed[311].attributes = vec![("v".to_owned(), Owned::Bigint(1))];
    mixed[312] = scalar(12, 4, Owned::Bigint(4));
    let outcomes = send("some are not", &mixed);
    let updated = outcomes.iter().filter(|outcome| **outcome == Outcome::Updated).count();
    assert!((300..330).contains(&updated), "{updated}");
    send("all the same again", &mixed);
    send("and on", &all(9));
}

fn record(random: &mut Random, table: TableId) -> Rec {
    let time_ns = match random.below(4) {
        0 => [i64::MIN + 2, i64::MAX - 1, -1, 0][random.below(4)],
        _ => NOW - i64::try_from(random.below(6)).unwrap() * DAY + [0, 1, -1, 999][random.below(4)],
    };
    let version = [1, 1, 2, 3, i64::MAX, i64::MIN][random.below(6)];
    let mut rec = Rec::new(table, &format!("h{}", random.below(4)), time_ns, version);
    if random.chance(20) {
        let name = ["a", "time", "zone", ""][random.below(4)];
        rec.dimensions.push((name.to_owned(), ["", "x", "ü\"'"][random.below(3)].to_owned()));
        rec.dimensions.sort();
    }
    if random.chance(10) {
        "other".clone_into(&mut rec.measure);
    }
    let value = |random: &mut Random, name: &str| match name {
        "a" => Owned::Bigint([0, -1, i64::MIN][random.below(3)]),
        "time" => Owned::double([0.0, -0.0, 1e300][random.below(3)]),
        "c" => Owned::Boolean(random.chance(50)),
        "d" => Owned::Varchar(["", "x", "longer, ä \\ \" {}"][random.below(3)].to_owned()),
        _ => Owned::Timestamp([0, -1, i64::MAX][random.below(3)]),
    };
    if random.chance(15) {
        let name = ["a", "time", "c", "d", "e"][random.below(5)];
        return rec.with("", value(random, name));
    }
    for name in ["d", "a", "c", "time", "e"] {
        if random.chance(40) {
            let value = value(random, name);
            rec = rec.with(name, value);
        }
    }
    if rec.attributes.is_empty() { rec.with("a", Owned::Bigint(7)) } else { rec }
}

/// The neighbours of a record that the server refuses are stored, and it is told why it is not.
#[test]
fn a_data_error_rejects_its_record_alone() {
    let server = Server::new();
    let mut pg = Pg::new(&server, 1, |_| {});
    let table = pg.table("t");
    let rec =
        |host: &str, value: i64| Rec::new(table, host, NOW, 1).with("v", Owned::Bigint(value));
    assert_eq!(pg.write(&[rec("first", 1)]), [Outcome::Stored]);
    server.sql("ALTER TABLE d.t ADD CONSTRAINT small CHECK (v < 1000)");
    let mut records: Vec<Rec> = (0..40).map(|at| rec(&format!("h{at}"), at)).collect();
    let bad = [3, 17, 39];
    for at in bad {
        records[at].attributes[0].1 = Owned::Bigint(1_000);
    }
    records[5].dimensions[0].1 = "a\0b".to_owned();
    records[6] = rec("h6", 6).with("s", Owned::Varchar("\0".to_owned()));
    records[7] = rec("h7", 7).with("a\0", Owned::Boolean(true));
    let outcomes = pg.write(&records);
    for (at, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Outcome::Rejected(rejection) if bad.contains(&at) => {
                assert_eq!(rejection.reason, Reason::InvalidValue);
                assert!(rejection.message.contains("23514") && rejection.message.contains("small"));
            }
            Outcome::Rejected(rejection) if (5..8).contains(&at) => {
                assert!(rejection.message.contains("U+0000"), "{}", rejection.message);
            }
            outcome => {
                assert_eq!(*outcome, Outcome::Stored, "{at}");
                assert!(!bad.contains(&at) && !(5..8).contains(&at));
            }
        }
    }
    assert_eq!(server.sql("SELECT count(*) FROM d.t"), "35");
    // One that speaks up at the COMMIT only.
    server.sql(
        "CREATE TABLE d.hosts (name text PRIMARY KEY); INSERT INTO d.hosts SELECT host FROM d.t; \
         ALTER TABLE d.t ADD FOREIGN KEY (host) REFERENCES d.hosts DEFERRABLE INITIALLY DEFERRED",
    );
    let outcomes = pg.write(&[rec("unknown", 1), rec("h35", 2).with("w", Owned::Bigint(1))]);
    assert!(
        matches!(&outcomes[0], Outcome::Rejected(r) if r.message.contains("23503")),
        "{outcomes:?}"
    );
}

/// A table that has all the columns that it can have refuses what would need more, and nothing else.
#[test]
fn a_full_table_refuses_what_needs_another_column() {
    let server = Server::new();
    let mut pg = Pg::new(&server, 1, |_| {});
    let settings = TableSettings { columns_max: 5_000, ..TableSettings::default() };
    let table = pg.catalog.create("d", "wide", &settings).unwrap().id;
    let wide = |from: usize, count: usize| {
        let rec = Rec::new(table, &format!("{from}"), NOW, 1);
        (from..from + count)
            .fold(rec, |rec, at| rec.with(&format!("f{at:05}"), Owned::Boolean(true)))
    };
    assert_eq!(pg.write(&[wide(0, 1_000)]), [Outcome::Stored]);
    let outcomes = pg.write(&[wide(1_000, 900), wide(0, 10), wide(2_000, 1)]);
    let reason = |outcome: &Outcome| match outcome {
        Outcome::Rejected(rejection) => Some(rejection.reason),
        _ => None,
    };
    assert_eq!(reason(&outcomes[0]), Some(Reason::TableLimit), "{outcomes:?}");
    assert_eq!(
        pg.rows(table)[&("m".to_owned(), vec![("host".to_owned(), "0".to_owned())], NOW)].2.len(),
        1_000
    );
    assert_eq!(outcomes.len(), 3);
}

/// Names that PostgreSQL cannot have, or means otherwise.
#[test]
fn any_name_finds_its_table_and_column() {
    let server = Server::new();
    let mut pg = Pg::new(&server, 1, |_| {});
    let long = "n".repeat(100);
    let names = ["t", "t_pkey", "pg_class", "select", "a\"b", &*long, "tidegate:x", "Ü", "T"];
    for (at, name) in names.into_iter().enumerate() {
        let table = pg.table(name);
        let mut rec = Rec::new(table, "h", NOW, 1);
        for name in ["ctid", "series", "time", &*long, "a\"b", "select"] {
            rec.dimensions.push((name.to_owned(), format!("{at}")));
            rec = rec.with(name, Owned::Bigint(i64::try_from(at).unwrap()));
        }
        rec.dimensions.sort();
        assert_eq!(pg.write(&[rec]), [Outcome::Stored], "{name}");
        let rows = pg.rows(table);
        let (key, state) = rows.iter().next().unwrap();
        assert_eq!((rows.len(), key.1.len(), state.2.len()), (1, 7, 6), "{name}");
    }
    for database in ["tidegate", "pg_toast", "information_schema", "public", "a/b"] {
        let table = pg.catalog.create(database, "t", &TableSettings::default()).unwrap().id;
        let rec = Rec::new(table, "h", NOW, 1).with("v", Owned::Bigint(1));
        assert_eq!(pg.write(&[rec]), [Outcome::Stored], "{database}");
        assert_eq!(pg.rows(table).len(), 1);
    }
}

/// A table that was deleted and made again shows no row of its earlier life; nor does one that is only
/// deleted stay behind.
#[test]
fn a_table_made_again_begins_empty() {
    let server = Server::new();
    let mut pg = Pg::new(&server, 2, |_| {});
    for life in 0..3 {
        let table = pg.table("t");
        let rec = |host: &str| {
            Rec::new(table, host, NOW, 1).with(&format!("v{life}"), Owned::Bigint(life))
        };
        assert!(pg.rows(table).is_empty(), "life {life}");
        assert_eq!(pg.write(&[rec("a"), rec("b"), rec("c")]), [const { Outcome::Stored }; 3]);
        assert_eq!(pg.rows(table).len(), 3);
        pg.catalog.delete_table("d", "t").unwrap();
        assert!(pg.rows(table).is_empty());
        let outcome = pg.write(&[rec("d")]).remove(0);
        assert!(matches!(outcome, Outcome::Rejected(r) if r.reason == Reason::TableDeleted));
    }
    pg.engine.tidy().unwrap();
    let left = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'd'";
    assert_eq!(server.sql(left), "0");
    assert_eq!(server.sql("SELECT count(*) FROM tidegate.columns"), "0");
}

/// What somebody changes behind the gateway's back is found and mended.
#[test]
fn a_table_that_somebody_dropped_or_put_back_is_made_whole_again() {
    let server = Server::new();
    let mut pg = Pg::new(&server, 1, |_| {});
    let table = pg.table("t");
    let rec = |host: &str| Rec::new(table, host, NOW, 1).with("v", Owned::Bigint(1));
    assert_eq!(pg.write(&[rec("a")]), [Outcome::Stored]);
    server.sql("DROP TABLE d.t");
    assert_eq!(pg.write(&[rec("a")]), [Outcome::Stored]);
    server.sql("ALTER TABLE d.t DROP COLUMN v");
    assert_eq!(pg.write(&[rec("b")]), [Outcome::Stored]);
    assert_eq!(pg.rows(table).len(), 2);
}
