//! Promise: a table that was deleted and made again never shows a row of before, whatever crashes, and
//! whatever of it the log, the memory and the files still have.

#[path = "common/mod.rs"]
mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value as Json, json};

use common::gateway::{Gateway, Place};
use common::rows::Value;
use common::wait_for;

const TIME_NS: i64 = 1_793_491_200_000_000_001;

/// Longest time until rows are in a file, on a busy machine.
const FLUSH_MAX: Duration = Duration::from_mins(1);

/// Asks and returns the one result; the query must be understood.
fn query(server: &Gateway, database: &str, text: &str) -> Json {
    let form: String = format!("db={database}&q={}", text.replace(' ', "+"));
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    let reply = server.client().post("/query", &headers, form.as_bytes()).expect("an answer");
    assert_eq!(reply.status, 200, "{text}: {}", reply.text());
    serde_json::from_str::<Json>(&reply.text()).expect("JSON")["results"][0].take()
}

fn shown(server: &Gateway, database: &str, what: &str) -> Json {
    query(server, database, what).pointer("/series/0/values").cloned().unwrap_or_default()
}

/// Writes one row a site, with the field `g`; they can be read when this returns.
fn write(server: &Gateway, table: &str, generation: i64) {
    let line = |site| format!("{table},site={site} g={generation}i,f{generation}=1 {TIME_NS}");
    let lines: Vec<String> = (0..40).map(line).collect();
    let target = "/api/v2/write?bucket=iot&precision=ns";
    let applied = [("X-Tidegate-Durability", "applied")];
    let reply =
        server.client().post(target, &applied, lines.join("\n").as_bytes()).expect("an answer");
    assert_eq!(reply.status, 204, "{}", reply.text());
}

/// The values of `g` and the names of the fields that an export shows.
fn generations(server: &Gateway, table: &str) -> (usize, BTreeSet<String>) {
    let rows = server.export("iot", table);
    let fields = rows.values().flat_map(|row| &row.fields);
    let told = fields.map(|(name, value)| match value {
        Value::Bigint(generation) => format!("{name}={generation}"),
        _ => name.clone(),
    });
    (rows.len(), told.collect())
}

fn only(generation: i64) -> (usize, BTreeSet<String>) {
    (40, [format!("f{generation}"), format!("g={generation}")].into())
}

/// The same keys, at the same version, in one table name after the other; a crash in each place.
#[test]
fn a_table_made_again_shows_the_new_rows_only() {
    let place = Place::new("[shards]\ncount = 2\n");
    let mut server = place.start();
    for generation in 0..6 {
        write(&server, "weather", generation);
        if generation % 2 == 0 {
            server.kill();
            server = place.start();
        }
        assert_eq!(generations(&server, "weather"), only(generation), "before the delete");
        if generation % 3 == 0 {
            query(&server, "iot", "DROP DATABASE iot");
        } else {
            query(&server, "iot", "DROP MEASUREMENT weather");
        }
        assert_eq!(server.client().get("/api/v1/export?db=iot&table=weather").unwrap().status, 404);
        if generation == 3 {
            server.kill();
            server = place.start();
            assert_eq!(shown(&server, "iot", "SHOW DATABASES"), json!([]));
        }
    }
    write(&server, "weather", 6);
    server.kill();
    let server = place.start();
    assert_eq!(generations(&server, "weather"), only(6));
    server.stop();
    assert_eq!(place.exported("iot", "weather").len(), 40);
    let reports = place.files("rejects", ".json");
    assert!(reports.is_empty(), "what was deleted is not rejected: {reports:?}");
}

#[test]
fn rows_in_files_are_deleted_with_their_table_too() {
    let place = Place::new("[engine.embedded]\nflush_interval = \"100ms\"\n");
    let server = place.start();
    write(&server, "weather", 1);
    write(&server, "other", 1);
    wait_for("both tables to be in files", FLUSH_MAX, || {
        (place.files("tables", ".parquet").len() >= 2).then_some(())
    });
    query(&server, "iot", "DROP MEASUREMENT weather");
    write(&server, "weather", 2);
    assert_eq!(generations(&server, "weather"), only(2));
    server.kill();
    let server = place.start();
    assert_eq!(generations(&server, "weather"), only(2));
    assert_eq!(generations(&server, "other"), only(1), "its neighbour is whole");
    let of_the_deleted = |path: &&std::path::PathBuf| path.to_string_lossy().contains("weather-1/");
    let files = place.files("tables", ".parquet");
    assert_eq!(files.iter().find(of_the_deleted), None, "its files are deleted at the start");
    server.stop();
}

/// Every write that races with a delete is answered as one before it or one after it.
#[test]
fn writes_that_race_with_a_delete_get_a_clean_answer() {
    let place = Place::new("[shards]\ncount = 2\n");
    let server = place.start();
    let is_over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let (is_over, mut client) = (Arc::clone(&is_over), server.client());
            #[expect(clippy::disallowed_methods, reason = "a client of the server, not part of it")]
            std::thread::spawn(move || {
                let mut taken = 0_u32;
                while !is_over.load(Ordering::Relaxed) {
                    let line =
                        format!("weather,site=w{writer} v={taken}i {}", i64::from(taken) + 1);
                    let target = "/api/v2/write?bucket=iot&precision=ns";
                    let reply = client.post(target, &[], line.as_bytes()).expect("an answer");
                    assert_eq!(reply.status, 204, "{}", reply.text());
                    taken += 1;
                }
                taken
            })
        })
        .collect();
    for _ in 0..30 {
        query(&server, "iot", "DROP DATABASE iot");
    }
    is_over.store(true, Ordering::Relaxed);
    let taken: u32 = writers.into_iter().map(|writer| writer.join().expect("no panic")).sum();
    assert!(taken > 0);
    query(&server, "iot", "DROP DATABASE iot");
    assert_eq!(shown(&server, "iot", "SHOW DATABASES"), json!([]));
    // What was taken and deleted holds up nobody.
    write(&server, "weather", 1);
    server.kill();
    let server = place.start();
    assert_eq!(generations(&server, "weather"), only(1));
    server.stop();
}

#[test]
fn a_database_is_there_without_tables_and_lists_what_it_has() {
    let place = Place::new("");
    let server = place.start();
    query(&server, "", "CREATE DATABASE empty");
    write(&server, "weather", 1);
    write(&server, "pump", 1);
    server.client().post("/write?db=iot&rp=weekly", &[], b"weather,site=a v=1").unwrap();
    server.kill();
    let server = place.start();
    assert_eq!(shown(&server, "", "SHOW DATABASES"), json!([["empty"], ["iot"]]));
    assert_eq!(shown(&server, "iot", "SHOW MEASUREMENTS"), json!([["pump"], ["weather"]]));
    assert_eq!(shown(&server, "", "SHOW MEASUREMENTS ON empty"), Json::Null);
    let policies = shown(&server, "iot", "SHOW RETENTION POLICIES");
    assert_eq!((&policies[0][0], &policies[1][0]), (&json!("autogen"), &json!("weekly")));
    query(&server, "iot", "DROP DATABASE iot");
    query(&server, "iot", "DROP DATABASE iot");
    assert_eq!(shown(&server, "", "SHOW DATABASES"), json!([["empty"]]));
    server.stop();
}

/// The rules are held when a request is received, so that the answer can say it.
#[test]
fn a_strict_table_says_which_times_it_takes_and_shows_no_other() {
    let place = Place::new("[ingest]\nprofile = \"strict\"\n");
    let server = place.start();
    let now_ns = {
        use tidegate::base::clock::{Clock, SystemClock};
        SystemClock::new().wall_ns()
    };
    let hour_ns = 3_600_000_000_000;
    let late_ns = now_ns - 7 * hour_ns;
    let lines = format!("weather,site=a v=1 {now_ns}\nweather,site=a v=1 {late_ns}\n");
    let target = "/api/v2/write?bucket=iot&precision=ns";
    let reply = server.client().post(target, &[], lines.as_bytes()).expect("an answer");
    assert_eq!(reply.status, 400, "{}", reply.text());
    let text = reply.text();
    assert!(text.contains("The record timestamp is outside the time range ["), "{text}");
    assert!(text.contains("of the memory store."), "{text}");
    server.kill();
    // The replay finds the verdicts of the first run.
    let server = place.start();
    assert_eq!(server.export("iot", "weather").len(), 1);
    server.stop();
    let made = std::fs::read_to_string(place.data().join("catalog.log")).expect("a catalog");
    assert!(made.contains(r#""profile":"strict""#), "{made}");
}
