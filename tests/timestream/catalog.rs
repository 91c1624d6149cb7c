//! The catalog survives `kill -9`: what was acknowledged is there, what was refused is not, and a
//! delete stays one.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate::base::clock::{Clock as _, SystemClock};

use super::common::client::Client;
use super::common::gateway::{Gateway, Place};
use super::common::random::Random;
use super::common::tell;

/// Kills of one run.
const KILLS: usize = 6;

/// One call, as an SDK sends it.
pub(crate) fn call(
    client: &mut Client,
    operation: &str,
    body: &Value,
) -> std::io::Result<(u16, Value)> {
    let target = format!("Timestream_20181101.{operation}");
    let headers =
        [("X-Amz-Target", target.as_str()), ("Content-Type", "application/x-amz-json-1.0")];
    let reply = client.post("/", &headers, body.to_string().as_bytes())?;
    Ok((reply.status, reply.json()))
}

/// What was acknowledged of each table: its hours of retention, or that it was deleted.
type Ledger = BTreeMap<String, Option<u64>>;

/// Changes the catalog until the server is gone. What was under way then is in doubt, and returned.
fn change(client: &mut Client, ledger: &mut Ledger, random: &mut Random, round: usize) -> String {
    for number in 0.. {
        let known: Vec<String> = ledger.keys().cloned().collect();
        let pick = random.below(10);
        let name = match pick {
            0..6 => format!("t{round}-{number}"),
            _ if known.is_empty() => continue,
            _ => random.pick(&known).clone(),
        };
        let hours = random.within(1..100);
        let retention = json!({
            "MemoryStoreRetentionPeriodInHours": hours, "MagneticStoreRetentionPeriodInDays": 1,
        });
        let mut body = json!({ "DatabaseName": "kept", "TableName": name });
        let operation = match pick {
            0..7 => "CreateTable",
            7..9 => "UpdateTable",
            _ => "DeleteTable",
        };
        if operation != "DeleteTable" {
            body["RetentionProperties"] = retention;
        }
        let Ok((status, answer)) = call(client, operation, &body) else { return name };
        let stands = ledger.get(&name).copied().flatten();
        match (operation, stands) {
            ("CreateTable", Some(_)) => assert_eq!(status, 409, "{answer}"),
            (_, None) if operation != "CreateTable" => assert_eq!(status, 404, "{answer}"),
            ("DeleteTable", _) => {
                assert_eq!(status, 200, "{answer}");
                ledger.insert(name, None);
            }
            _ => {
                assert_eq!(status, 200, "{answer}");
                ledger.insert(name, Some(hours));
            }
        }
    }
    unreachable!("numbers do not end")
}

/// The tables there are, with their hours.
fn found(server: &Gateway) -> BTreeMap<String, u64> {
    let mut client = server.client();
    let (mut all, mut token) = (BTreeMap::new(), Value::Null);
    loop {
        let body = json!({ "DatabaseName": "kept", "NextToken": token });
        let (status, answer) = call(&mut client, "ListTables", &body).expect("it is answered");
        assert_eq!(status, 200, "{answer}");
        for table in answer["Tables"].as_array().expect("a list") {
            let hours = &table["RetentionProperties"]["MemoryStoreRetentionPeriodInHours"];
            let name = table["TableName"].as_str().expect("a name").to_owned();
            all.insert(name, hours.as_u64().expect("a number"));
        }
        token = answer["NextToken"].clone();
        if token.is_null() {
            return all;
        }
    }
}

#[test]
fn an_acknowledged_change_of_the_catalog_survives_kill_9_and_a_refused_one_does_not() {
    let seed = Random::seed_from("TIDEGATE_KILL_SEED");
    tell(format!("timestream: TIDEGATE_KILL_SEED={seed}"));
    let mut random = Random::new(seed);
    let place = Place::new("");
    let mut ledger = Ledger::new();
    let mut changes = 0;
    let mut server = place.start();
    let (status, _) =
        call(&mut server.client(), "CreateDatabase", &json!({ "DatabaseName": "kept" })).unwrap();
    assert_eq!(status, 200);
    for round in 0..KILLS {
        let pause = Duration::from_millis(random.within(20..170));
        let before = ledger.clone();
        let doubt = std::thread::scope(|scope| {
            let mut client = server.client();
            let (ledger, random) = (&mut ledger, &mut random);
            let changing = scope.spawn(move || change(&mut client, ledger, random, round));
            // The moment of the kill is the experiment; nothing waits for it.
            SystemClock::new().sleep(pause);
            server.kill();
            changing.join().expect("every answer was right")
        });
        changes += ledger.iter().filter(|(name, state)| before.get(*name) != Some(state)).count();
        server = place.start();
        let found = found(&server);
        for (name, state) in ledger.iter().filter(|(name, _)| **name != doubt) {
            assert_eq!(found.get(name), state.as_ref(), "{name} after kill {round}");
        }
        let stranger = found.keys().find(|name| !ledger.contains_key(*name) && **name != doubt);
        assert_eq!(stranger, None, "nobody was told of it");
        // From here on it is what was found.
        match found.get(&doubt) {
            Some(hours) => drop(ledger.insert(doubt, Some(*hours))),
            None => drop(ledger.remove(&doubt)),
        }
    }
    tell(format!("timestream: {KILLS} kills, {changes} changes acknowledged and found"));
    assert!(changes > KILLS, "too few changes to prove anything");
}
