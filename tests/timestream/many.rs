//! As many tables as there may be.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate::base::clock::{Clock as _, SystemClock};
use tidegate::record::limits::TABLES_MAX;

use super::catalog::call;
use super::common::gateway::{Gateway, Place};
use super::common::{tell, wait_for};

const CONNECTIONS: usize = 16;

/// Tables that are written into: enough to reach all over the list, in seconds.
const WRITTEN: usize = 2_000;

/// Most memory of the process with all tables made, none of them written into: a kilobyte each, and what
/// any process has.
const PRIVATE_BYTES_MAX: u64 = 96 << 20;

fn name(number: usize) -> String {
    format!("table-{number:05}")
}

/// Asks for `input` of each number below `count`, on several connections; each must be answered by 200.
fn each(server: &Gateway, count: usize, operation: &str, input: impl Fn(usize) -> Value + Sync) {
    thread::scope(|scope| {
        for connection in 0..CONNECTIONS {
            let input = &input;
            scope.spawn(move || {
                let mut client = server.client();
                for number in (connection..count).step_by(CONNECTIONS) {
                    let answer = call(&mut client, operation, &input(number));
                    let (status, body) = answer.expect("it is answered");
                    assert_eq!(status, 200, "{operation} {number}: {body}");
                }
            });
        }
    });
}

/// The names of all tables, page by page, each of them full but for the last.
fn listed(server: &Gateway) -> BTreeSet<String> {
    let (mut found, mut token) = (BTreeSet::new(), Value::Null);
    let mut client = server.client();
    loop {
        let input = json!({ "DatabaseName": "many", "NextToken": token });
        let (status, page) = call(&mut client, "ListTables", &input).expect("it is answered");
        assert_eq!(status, 200, "{page}");
        let tables = page["Tables"].as_array().expect("a list");
        for table in tables {
            let name = table["TableName"].as_str().expect("a name").to_owned();
            assert!(found.insert(name), "{table} is listed twice");
        }
        token = page["NextToken"].clone();
        if token.is_null() {
            return found;
        }
        assert_eq!(tables.len(), 20);
    }
}

#[test]
fn as_many_tables_as_there_may_be_are_made_listed_written_and_there_after_a_crash() {
    let place = Place::new("");
    let server = place.start();
    let clock = SystemClock::new();
    let names = |number| json!({ "DatabaseName": "many", "TableName": name(number) });
    let (status, body) =
        call(&mut server.client(), "CreateDatabase", &json!({ "DatabaseName": "many" })).unwrap();
    assert_eq!(status, 200, "{body}");
    let begun = clock.monotonic();
    each(&server, TABLES_MAX, "CreateTable", names);
    let made = clock.monotonic();
    let one_more = names(TABLES_MAX);
    let (status, body) = call(&mut server.client(), "CreateTable", &one_more).unwrap();
    assert_eq!(status, 402, "{body}");
    assert!(body["__type"].as_str().unwrap().ends_with("#ServiceQuotaExceededException"));
    let expected: BTreeSet<String> = (0..TABLES_MAX).map(name).collect();
    assert!(listed(&server) == expected, "the list is that of the tables that were made");
    let private = server.private_bytes();
    assert!(private < PRIVATE_BYTES_MAX, "{private} bytes for {TABLES_MAX} tables");
    // Listing again leaves nothing behind.
    assert_eq!(listed(&server).len(), TABLES_MAX);
    let grown = server.private_bytes().saturating_sub(private);
    assert!(grown < 8 << 20, "{grown} bytes more for a second list");
    let time_ms = SystemClock::new().wall_ns() / 1_000_000;
    each(&server, WRITTEN, "WriteRecords", |number| {
        let record = json!({
            "Dimensions": [{ "Name": "host", "Value": "1" }], "MeasureName": "m",
            "MeasureValue": number.to_string(), "MeasureValueType": "BIGINT",
            "Time": time_ms.to_string(),
        });
        // All over the list.
        let table = name(number * (TABLES_MAX / WRITTEN));
        json!({ "DatabaseName": "many", "TableName": table, "Records": [record] })
    });
    server.kill();
    let (killed, server) = (clock.monotonic(), place.start());
    wait_for("the replay", Duration::from_mins(1), || {
        server.client().get("/ready").is_ok_and(|reply| reply.status == 200).then_some(())
    });
    let [making, starting] = [made.saturating_sub(begun), clock.monotonic().saturating_sub(killed)]
        .map(|time| time.as_secs_f64());
    tell(format!(
        "timestream: {TABLES_MAX} tables made in {making:.1} s, {private} bytes; started again in \
         {starting:.1} s"
    ));
    assert!(listed(&server) == expected, "they are there after a crash");
    let last = name((WRITTEN - 1) * (TABLES_MAX / WRITTEN));
    let stored = server.client().get(&format!("/api/v1/export?db=many&table={last}")).unwrap();
    assert_eq!((stored.status, stored.text().lines().count()), (200, 1), "{}", stored.text());
    let (status, body) = call(&mut server.client(), "CreateTable", &one_more).unwrap();
    assert_eq!(status, 402, "{body}");
    server.kill();
}
