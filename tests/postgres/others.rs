//! Databases that are not plain PostgreSQL. Timescale runs here, compiled to WebAssembly, which has one
//! session and no COPY from a client: it is given the statements that the engine sent to PostgreSQL. Of
//! Citus its refusals are what counts, and those a proxy makes; CockroachDB and YugabyteDB are not to be
//! had as packages, and untested.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use tidegate::engine::catalog::{Retention, TableSettings};
use tidegate::engine::postgres::ddl::{Flavour, statements};
use tidegate::record::TableId;
use tidegate::record::request::Outcome;

use crate::engine_support::{Bed, DAY, NOW, Owned, Rec};
use crate::proxy::Proxy;
use crate::retention::Days;
use crate::same::{Pg, told};
use crate::server::Server;

/// What Citus says to a lock that more than one of its shards would have to give.
const REFUSAL: &str = "
CREATE FUNCTION refuse(uuid[], timestamptz[], smallint[]) RETURNS int LANGUAGE plpgsql AS $$ BEGIN
  RAISE EXCEPTION 'could not run distributed query with FOR UPDATE/SHARE commands'
    USING ERRCODE = 'feature_not_supported';
END $$";

/// The first lock costs a turn; from then on they are taken a series at a time.
#[test]
fn a_server_that_locks_one_series_at_a_time_is_asked_so() {
    let server = Server::new();
    server.sql(REFUSAL);
    let proxy = Proxy::new(server.address());
    let (mut pg, mut bed) =
        (Pg::new(&server, 1, |options| options.port = proxy.address.port()), Bed::new(1));
    proxy.refuse_wide_locks();
    let table = pg.table("t");
    assert_eq!(table, bed.table("t"), "the same records go to both");
    let rec = |host: i64, time_ns: i64, version: i64, value: i64| {
        Rec::new(table, &format!("h{host}"), time_ns, version).with("v", Owned::Bigint(value))
    };
    for round in 0..4 {
        // Repeats, older versions, other values and two of one key; neighbours in the same microsecond.
        let records: Vec<Rec> = (0..40)
            .flat_map(|host| {
                let version = 5 + (host + round) % 3;
                [
                    rec(host, NOW, version, host),
                    rec(host, NOW + 1, 5, round),
                    rec(host, NOW, version + 1, host + round),
                ]
            })
            .collect();
        let (found, expected) = (pg.write(&records), bed.write(&records));
        let all = |outcomes: &[Outcome]| outcomes.iter().map(told).collect::<Vec<_>>();
        assert_eq!(all(&found), all(&expected), "round {round}");
        assert_eq!(pg.rows(table), bed.rows(table), "round {round}");
    }
    assert_eq!(proxy.locks_refused(), 1);
}

/// A table made by the SQL that we offer is a hypertable, and every statement of the engine's does there
/// what it does on PostgreSQL.
#[test]
fn timescale_takes_the_schema_and_every_statement_of_the_engine() {
    let server = Server::new();
    // Each by itself: neither may stand in a transaction with another.
    server.sql("ALTER SYSTEM SET log_statement = 'all'");
    server.sql("SELECT pg_reload_conf()");
    let clock = Arc::new(Days::at(NOW));
    let shared: Arc<Days> = Arc::clone(&clock);
    let mut pg = Pg::with_clock(&server, 1, shared, |_| {});
    let retention = Retention { memory_hours: 24, magnetic_days: 9, magnetic_writes: true };
    let settings = TableSettings { retention, ..TableSettings::default() };
    let table = pg.catalog.create("d", "t", &settings).unwrap().id;
    work(&mut pg, table);
    clock.set(NOW + 5 * DAY);
    pg.engine.tidy().unwrap();
    assert!(!pg.rows(table).is_empty());

    let rows = "SELECT series, (time AT TIME ZONE 'UTC')::text, ns, version, kind, host, a, b, \
                \"measure_value::double\" FROM d.t ORDER BY series, time, ns";
    let mut script = vec![statements(Flavour::Timescale, "d", "t")];
    script.extend(executed(&server.log()));
    for part in [
        "ON CONFLICT (series",
        "UPDATE \"d\".\"t\"",
        "FOR UPDATE OF t",
        "DELETE FROM \"d\"",
        "RECURSIVE",
    ] {
        assert!(script.iter().any(|sql| sql.contains(part)), "the engine has sent no {part}");
    }
    let chunks = "SELECT count(*) FROM timescaledb_information.chunks";
    let found = timescale(&[&script[..], &[rows.to_owned()]].concat());
    assert_eq!(found, server.sql(rows), "the same rows");
    script.push(chunks.to_owned());
    let count: u32 = timescale(&script).parse().unwrap();
    assert!(count >= 3, "{count} chunks: a day each");
}

/// All ways to write, on rows of some days.
fn work(pg: &mut Pg, table: TableId) {
    let all = |version: i64| -> Vec<Rec> {
        (0..60_i64)
            .map(|at| {
                let time_ns = NOW - at % 8 * DAY + at;
                let rec = Rec::new(table, &format!("h{}", at / 8), time_ns, version);
                rec.with("a", Owned::Bigint(at * version)).with("b", Owned::double(0.5))
            })
            .collect()
    };
    let first = all(1).remove(0);
    // A copied row that stands already: from now on nothing is copied.
    pg.write(std::slice::from_ref(&first));
    pg.write(&all(1)[..1]);
    let mut twice = all(2);
    twice[0].version = 3;
    pg.write(&twice[..1]);
    for version in [4, 5, 6] {
        pg.write(&all(version));
    }
    let mut mixed = all(7);
    mixed[3].version = 2;
    mixed[4].version = 6;
    mixed[5].attributes.remove(0);
    mixed.push(Rec::new(table, "scalar", NOW - DAY, 1).with("", Owned::double(1.5)));
    mixed.push(Rec::new(table, "scalar", NOW - DAY, 2).with("", Owned::double(2.5)));
    pg.write(&mixed);
}

/// The statements that a server's log names, with their parameters, but for COPY.
fn executed(log: &str) -> Vec<String> {
    let mut entries: Vec<String> = Vec::new();
    for line in log.lines() {
        match line.strip_prefix('\t') {
            Some(more) => {
                let entry = entries.last_mut().expect("a log begins with an entry");
                entry.push('\n');
                entry.push_str(more);
            }
            None => entries.push(line.to_owned()),
        }
    }
    let mut all = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        if let Some((_, sql)) = entry.split_once("LOG:  statement: ") {
            // The test's own go to one database or are of the server.
            if !sql.starts_with("SELECT 1") && !sql.contains("SYSTEM") && !sql.contains("pg_reload")
            {
                all.push(sql.to_owned());
            }
        } else if let Some((_, named)) = entry.split_once("LOG:  execute ") {
            let (_, sql) = named.split_once(": ").expect("a name and a statement");
            if sql.starts_with("COPY ") {
                continue;
            }
            let params = entries.get(at + 1).and_then(|e| e.split_once("DETAIL:  parameters: "));
            let params = params.map(|(_, params)| literals(params)).unwrap_or_default();
            let number = all.len();
            let params =
                if params.is_empty() { String::new() } else { format!("({})", params.join(", ")) };
            all.push(format!("PREPARE p{number} AS {sql}; EXECUTE p{number}{params}"));
        }
    }
    all
}

/// The values in `$1 = 'a', $2 = NULL`, as they stand there.
fn literals(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, value)) = rest.split_once(" = ") {
        let end = if value.starts_with('\'') {
            let mut end = 1;
            // A quote that is doubled is one of the text's.
            while !value[end..].starts_with('\'') || value[end + 1..].starts_with('\'') {
                let step = if value[end..].starts_with('\'') { 2 } else { 1 };
                end += step;
                while !value.is_char_boundary(end) {
                    end += 1;
                }
            }
            end + 1
        } else {
            value.find(',').unwrap_or(value.len())
        };
        found.push(value[..end].to_owned());
        rest = &value[end..];
    }
    found
}

/// Executes the statements on Timescale, and shows the rows of the last.
fn timescale(script: &[String]) -> String {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tools = top.join("tests/.tools");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), serde_json::to_vec(script).unwrap()).unwrap();
    let output = Command::new(tools.join("node"))
        .arg(top.join("tests/postgres/timescale.mjs"))
        .arg(tools.join("timescale"))
        .arg(file.path())
        .output()
        .expect("node is there; tests/run.sh installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
