//! How many records per CPU-second, client and server together, against a plain client that sends
//! upserts of 100 rows?
//!
//! Estimate: a row and its index entry cost the server some 7 us by a statement, and less by COPY, which
//! writes them by the page; parsing a row of 26 values from text costs it more than storing them. A row
//! that is written again costs it a new row, an index entry and a look for the old ones: 5 us, whoever asks
//! for it; where the page has room for it there is no index entry, and it is 3. The client spends 1 us on
//! the hash of the series and the row's bytes.
//! All write the same rows into the same kind of table, in rounds by turns, on one server. The plain client
//! is given the series' keys. It sends the rows as text, as most do, or as parameters of one prepared
//! statement, which is the best that a statement of 100 rows can do. Tidegate and the prepared statement
//! write into tables with room in their pages (`fillfactor = 50`) too.
//! Machine and figures: `benches/README.md`.

#![expect(clippy::print_stdout, reason = "the figures are the result")]

#[path = "../tests/common/mod.rs"]
mod common;
#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../tests/postgres/server.rs"]
mod server;

use std::fmt::Write as _;
use std::fs;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tidegate::base::clock::{Clock, SystemClock};
use tidegate::base::lsn::Lsn;
use tidegate::engine::catalog::{Catalog, TableSettings};
use tidegate::engine::postgres::{Options, Postgres};
use tidegate::engine::{EngineError, LogEnds, ShardId, TableEngine};
use tidegate::record::codec::{Payload, PayloadBuilder, RecordView};
use tidegate::record::request::{CommonAttributes, WriteRequest};
use tidegate::record::{Attribute, Dimension, Record, TableId, Value};
use tokio_postgres::NoTls;
use tokio_postgres::types::ToSql;

use server::Server;

const HOSTS: i64 = 500;
const STEPS: i64 = 20;
const ROUNDS: usize = 9;
/// Records of one turn of a shard.
const TURN_RECORDS: usize = 5_000;
const PLAIN_ROWS: usize = 100;
const TAGS: [&str; 10] =
    ["hostname", "region", "dc", "rack", "os", "arch", "team", "service", "ver", "env"];

/// Clock ticks a second of `/proc`. Source: `proc(5)`, `sysconf(_SC_CLK_TCK)`, 100 on Linux.
const TICKS: u64 = 100;

fn tag(at: usize, host: i64) -> String {
    match at {
        0 => format!("host_{host}"),
        3 => format!("{}", host % 100),
        7 => format!("{}", host % 20),
        _ => format!("eu-west-1-{at}"),
    }
}

fn time_ns(round: usize, step: i64) -> i64 {
    let round = i64::try_from(round).expect("few rounds");
    1_767_225_600_000_000_000 + (round * STEPS + step) * 10_000_000_000
}

/// The records of a round, a payload a turn.
fn payloads(round: usize, version: i64, table: TableId) -> Vec<Vec<u8>> {
    let all: Vec<(i64, i64)> =
        (0..STEPS).flat_map(|step| (0..HOSTS).map(move |host| (step, host))).collect();
    all.chunks(TURN_RECORDS)
        .map(|part| {
            let mut builder = PayloadBuilder::new(1);
            builder.start(0);
            let names: Vec<String> = (0..10).map(|at| format!("usage_{at}")).collect();
            for (step, host) in part {
                let values: Vec<String> = (0..10).map(|at| tag(at, *host)).collect();
                let mut dimensions: Vec<Dimension<'_>> = TAGS
                    .iter()
                    .zip(&values)
                    .map(|(name, value)| Dimension { name, value })
                    .collect();
                dimensions.sort_by_key(|dimension| dimension.name);
                let attributes = names
                    .iter()
                    .zip(0..)
                    .map(|(name, at)| Attribute { name, value: Value::Bigint((host + at) % 100) })
                    .collect();
                let record =
                    Record { measure_name: "cpu", dimensions, attributes, ..Record::default() };
                let ids = (builder.family(table, &record).0, builder.layout(&record).0);
                builder.push(ids, &record, time_ns(round, *step), version);
            }
            let mut bytes = Vec::new();
            builder.finish(&mut bytes);
            bytes
        })
        .collect()
}

/// Writes payloads as a shard does, a turn each.
fn write_all(engine: &Postgres, payloads: &[Vec<u8>], lsn: &mut Lsn) {
    for bytes in payloads {
        *lsn = lsn.next();
        while let Err(error) = turn(engine, bytes, *lsn) {
            assert!(matches!(error, EngineError::Undone { .. }), "{error}");
        }
    }
}

fn turn(engine: &Postgres, bytes: &[u8], lsn: Lsn) -> Result<(), EngineError> {
    let payload = Payload::open(bytes).expect("just built");
    let (mut families, mut layouts) = (Vec::new(), Vec::new());
    payload.dictionary(&mut families, &mut layouts).expect("just built");
    let views: Vec<RecordView<'_>> =
        payload.section(0, &families, &layouts).map(|view| view.expect("just built")).collect();
    let common = CommonAttributes::default();
    let mut outcomes = Vec::new();
    for records in views.chunks(engine.batch_records()) {
        let table = records[0].family.table;
        engine.write(
            ShardId(0),
            &WriteRequest { table, common: &common, records },
            &mut outcomes,
        )?;
    }
    assert_eq!(outcomes.len(), views.len());
    engine.commit(ShardId(0), lsn)
}

/// A client as many are: one prepared statement of 100 rows, committed by itself.
struct Plain {
    name: &'static str,
    columns: String,
    sets: String,
    runtime: tokio::runtime::Runtime,
    client: tokio_postgres::Client,
    statement: tokio_postgres::Statement,
}

impl Plain {
    fn new(server: &Server, name: &'static str, fillfactor: u8) -> Self {
        let mut table = format!(
            "CREATE TABLE {name} (series uuid, time timestamptz, version bigint, ns smallint, \
                         kind smallint, writes int not null default 0, measure_name text"
        );
        let (mut sets, mut columns) = (String::new(), String::new());
        for name in TAGS {
            write!(table, ", {name} text").expect("text");
            write!(columns, ", {name}").expect("text");
        }
        for at in 0..10 {
            write!(table, ", usage_{at} bigint").expect("text");
            write!(columns, ", usage_{at}").expect("text");
            write!(sets, ", usage_{at} = excluded.usage_{at}").expect("text");
        }
        let end = format!("PRIMARY KEY (series, time, ns)) WITH (fillfactor = {fillfactor})");
        server.sql(&format!("{table}, {end}"));
        let mut values = String::new();
        for row in 0..PLAIN_ROWS {
            let all: Vec<String> = (1..=26).map(|at| format!("${}", row * 26 + at)).collect();
            let comma = if row == 0 { "" } else { ", " };
            write!(values, "{comma}({})", all.join(", ")).expect("text");
        }
        let sql = format!(
            "INSERT INTO {name} (series, time, version, ns, kind, measure_name{columns}) VALUES {values} \
             ON CONFLICT (series, time, ns) DO UPDATE SET version = excluded.version{sets} \
             WHERE excluded.version > {name}.version"
        );
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(server.address().port()).user("tidegate").dbname("tidegate");
        let (client, statement) = runtime.block_on(async {
            let (client, connection) = config.connect(NoTls).await.expect("connected");
            tokio::spawn(connection);
            let statement = client.prepare(&sql).await.expect("a statement");
            (client, statement)
        });
        Self { name, columns, sets, runtime, client, statement }
    }

    /// The same rows as text in the statement, as clients send them that prepare nothing.
    fn write_text(&self, round: usize, version: i64) {
        for step in 0..STEPS {
            let hosts: Vec<i64> = (0..HOSTS).collect();
            for part in hosts.chunks(PLAIN_ROWS) {
                let mut values = String::new();
                for host in part {
                    let comma = if values.is_empty() { "" } else { ", " };
                    let series: String = series(*host)
                        .iter()
                        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
                    let seconds = time_ns(round, step) / 1_000_000_000;
                    write!(
                        values,
                        "{comma}('{series}', to_timestamp({seconds}), {version}, 0, 0, 'cpu'"
                    )
                    .expect("text");
                    for at in 0..10 {
                        write!(values, ", '{}'", tag(at, *host)).expect("text");
                    }
                    for at in 0..10 {
                        write!(values, ", {}", (host + at) % 100).expect("text");
                    }
                    values.push(')');
                }
                let (name, columns, sets) = (self.name, &self.columns, &self.sets);
                let sql = format!(
                    "INSERT INTO {name} (series, time, version, ns, kind, measure_name{columns}) VALUES \
                     {values} ON CONFLICT (series, time, ns) DO UPDATE SET version = \
                     excluded.version{sets} WHERE excluded.version > {name}.version"
                );
                self.runtime.block_on(self.client.batch_execute(&sql)).expect("written");
            }
        }
    }

    fn write_all(&self, round: usize, version: i64) {
        for step in 0..STEPS {
            let hosts: Vec<i64> = (0..HOSTS).collect();
            for part in hosts.chunks(PLAIN_ROWS) {
                let mut params: Vec<Box<dyn ToSql + Sync>> = Vec::with_capacity(part.len() * 26);
                for host in part {
                    params.push(Box::new(Uuid(series(*host))));
                    params.push(Box::new(Micros(time_ns(round, step) / 1_000)));
                    params.push(Box::new(version));
                    params.push(Box::new(0_i16));
                    params.push(Box::new(0_i16));
                    params.push(Box::new("cpu"));
                    for at in 0..10 {
                        params.push(Box::new(tag(at, *host)));
                    }
                    for at in 0..10 {
                        params.push(Box::new((host + at) % 100));
                    }
                }
                let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|p| &**p).collect();
                let sent = self.runtime.block_on(self.client.execute(&self.statement, &params));
                assert_eq!(sent.expect("written"), part.len() as u64);
            }
        }
    }
}

fn series(host: i64) -> [u8; 16] {
    let hash = Sha256::digest(host.to_le_bytes());
    hash[..16].try_into().expect("32 bytes have 16")
}

macro_rules! on_the_wire {
    ($name:ident, $inner:ty, $put:expr) => {
        #[derive(Debug)]
        struct $name($inner);

        impl ToSql for $name {
            fn to_sql(
                &self,
                _type: &tokio_postgres::types::Type,
                out: &mut bytes::BytesMut,
            ) -> Result<tokio_postgres::types::IsNull, Box<dyn std::error::Error + Sync + Send>>
            {
                let put: fn(&$inner, &mut bytes::BytesMut) = $put;
                put(&self.0, out);
                Ok(tokio_postgres::types::IsNull::No)
            }

            fn accepts(_type: &tokio_postgres::types::Type) -> bool {
                true
            }

            tokio_postgres::types::to_sql_checked!();
        }
    };
}
on_the_wire!(Uuid, [u8; 16], |uuid, out| out.extend_from_slice(uuid));
on_the_wire!(Micros, i64, |us, out| bytes::BufMut::put_i64(out, us - 946_684_800_000_000));

/// CPU-seconds of this process and of all of the server's. Those that live are counted in nanoseconds;
/// the server's that have ended, which are few, in ticks. Source: `proc(5)`, `schedstat` and `stat`.
fn cpu_seconds(postmaster: u32) -> (f64, f64) {
    let first = |text: String, at: usize| -> u64 {
        text.split(' ').nth(at).and_then(|field| field.parse().ok()).unwrap_or(0)
    };
    let read = |path: String| fs::read_to_string(path).unwrap_or_default();
    // Behind the name, which may hold anything: state, parent, ..
    let fields = |pid: &str| {
        let text = read(format!("/proc/{pid}/stat"));
        text.rsplit_once(") ").map(|(_, rest)| rest.to_owned()).unwrap_or_default()
    };
    let seconds = |ns: u64| std::time::Duration::from_nanos(ns).as_secs_f64();
    let entries = |dir: &str| fs::read_dir(dir).into_iter().flatten().flatten();
    let own = entries("/proc/self/task")
        .map(|task| first(read(task.path().join("schedstat").display().to_string()), 0))
        .sum();
    let root = fields(&postmaster.to_string());
    let ended = first(root.clone(), 13) + first(root, 14);
    let mut server = ended * (1_000_000_000 / TICKS);
    for entry in entries("/proc") {
        let pid = entry.file_name().to_string_lossy().into_owned();
        if first(fields(&pid), 1) == u64::from(postmaster) || pid == postmaster.to_string() {
            server += first(read(format!("/proc/{pid}/schedstat")), 0);
        }
    }
    (seconds(own), seconds(server))
}

/// Records, CPU-seconds of the client, of the server, seconds.
fn measured(server: &Server, work: impl FnOnce()) -> (f64, f64, f64) {
    let clock = SystemClock::new();
    let (before, begin) = (cpu_seconds(server.pid()), clock.monotonic());
    work();
    let took = clock.monotonic().saturating_sub(begin).as_secs_f64();
    let after = cpu_seconds(server.pid());
    (after.0 - before.0, after.1 - before.1, took)
}

fn median(all: &mut [f64]) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// An engine with a folder, a catalog and a table of its own.
struct Ours {
    _dir: tempfile::TempDir,
    engine: Postgres,
    table: TableId,
    lsn: Lsn,
}

impl Ours {
    fn new(server: &Server, database: &str, fillfactor: u8) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let catalog = Arc::new(Catalog::open(dir.path()).expect("a catalog"));
        let table = catalog.create(database, "t", &TableSettings::default()).expect("a table").id;
        let options = Options { port: server.address().port(), fillfactor, ..Options::default() };
        let log = LogEnds { checkpoint: Lsn::ZERO, durable: Lsn::ZERO };
        let engine = Postgres::open(options, (dir.path(), log), 1, catalog, SystemClock::shared());
        Self { _dir: dir, engine: engine.expect("an engine"), table, lsn: Lsn::ZERO }
    }

    fn write_all(&mut self, round: usize, version: i64) {
        write_all(&self.engine, &payloads(round, version, self.table), &mut self.lsn);
    }
}

const WRITERS: [&str; 5] =
    ["tidegate", "tidegate, fillfactor 50", "prepared", "prepared, fillfactor 50", "text"];

/// What the server does in the background, it does for what was written rounds ago, and for whoever is
/// measured by then.
const QUIET: [&str; 4] = [
    "ALTER SYSTEM SET autovacuum = off",
    "ALTER SYSTEM SET checkpoint_timeout = '1h'",
    "ALTER SYSTEM SET max_wal_size = '16GB'",
    "SELECT pg_reload_conf()",
];

fn main() {
    let server = Server::new();
    for setting in QUIET {
        server.sql(setting);
    }
    let mut ours = Ours::new(&server, "d", 100);
    let mut roomy = Ours::new(&server, "roomy", 50);
    let plain = Plain::new(&server, "plain", 100);
    let plain_roomy = Plain::new(&server, "plain_roomy", 50);
    let records = f64::from(u32::try_from(HOSTS * STEPS).expect("few records"));
    // Not measured: tables are made, statements prepared, pages touched.
    ours.write_all(ROUNDS, 1);
    roomy.write_all(ROUNDS, 1);
    plain.write_all(ROUNDS, 1);
    plain_roomy.write_all(ROUNDS, 1);
    for (what, version) in [("new records", 1), ("updated records", 2), ("updated again", 3)] {
        let mut all: [Vec<f64>; 5] = Default::default();
        println!("{what}, {records} a round:");
        for round in 0..ROUNDS {
            let of = |ours: &mut Ours| {
                let payloads = payloads(round, version, ours.table);
                measured(&server, || write_all(&ours.engine, &payloads, &mut ours.lsn))
            };
            let measures = [
                of(&mut ours),
                of(&mut roomy),
                measured(&server, || plain.write_all(round, version)),
                measured(&server, || plain_roomy.write_all(round, version)),
                measured(&server, || plain.write_text(round + ROUNDS + 1, version)),
            ];
            for ((name, (client, server, took)), rates) in
                WRITERS.iter().zip(measures).zip(&mut all)
            {
                let rate = records / (client + server);
                println!(
                    "  {name:23}  client {:5.2} us, server {:5.2} us a record; {rate:7.0} records per \
                     CPU-second, {:7.0} per second",
                    client / records * 1e6,
                    server / records * 1e6,
                    records / took
                );
                rates.push(rate);
            }
        }
        let medians = all.map(|mut rates| median(&mut rates));
        for (name, rate) in WRITERS.iter().zip(medians) {
            println!(
                "  median {name:23} {rate:7.0}: {:.2} times prepared statements, {:.2} times text",
                rate / medians[2],
                rate / medians[4]
            );
        }
    }
    ours.engine.close();
    roomy.engine.close();
}
