//! Several gateways in front of one server.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value as Json;

use crate::breaks::settings;
use crate::common::gateway::Place;
use crate::common::random::Random;
use crate::common::rows::Value;
use crate::common::{tell, wait_for};
use crate::server::Server;

const GATEWAYS: usize = 3;
const HOSTS: u64 = 40;
const TIMES: u64 = 5;

/// How many frames reported each conflict, by the text that it was sent with.
pub(crate) fn reported(place: &Place) -> HashMap<String, u32> {
    let mut frames: BTreeSet<(u64, String)> = BTreeSet::new();
    for path in place.files("rejects/records", ".json") {
        let bytes = std::fs::read(&path).expect("a report can be read");
        let report: Json = serde_json::from_slice(&bytes).expect("a report is JSON");
        for record in report["records"].as_array().expect("a report lists records") {
            let lsn = record["lsn"].as_u64().expect("a rejection names its frame");
            let text = record["record"]["MeasureValues"][0]["Value"].as_str();
            frames.insert((lsn, text.expect("a record as it came").to_owned()));
        }
    }
    let mut reported = HashMap::new();
    for (_, text) in frames {
        *reported.entry(text).or_default() += 1;
    }
    reported
}

/// Every gateway writes every record, each in its own order, with versions that are different from any
/// other's; tables and columns are made by whoever needs them first.
#[test]
fn three_gateways_end_in_the_highest_version_of_each_record() {
    let seed = Random::seed_from("TIDEGATE_PG_SEED");
    tell(format!("postgres: gateways, TIDEGATE_PG_SEED={seed}"));
    let server = Server::new();
    let places: Vec<Place> =
        (0..GATEWAYS).map(|_| Place::new(&settings(server.address(), 2))).collect();
    let gateways: Vec<_> = places.iter().map(Place::start).collect();
    let (requests, highest) = plans(seed, 60);
    std::thread::scope(|scope| {
        for (gateway, requests) in gateways.iter().zip(&requests) {
            scope.spawn(move || {
                for lines in requests {
                    gateway.write("shared", lines);
                }
            });
        }
    });
    for gateway in &gateways {
        gateway.settle();
    }
    let undone: f64 =
        gateways.iter().map(|g| g.metric("tidegate_engine_remote_undone_turns_total")).sum();
    tell(format!("postgres: {undone} turns undone among {GATEWAYS} gateways"));
    let rows = gateways[0].export("shared", "t");
    assert_eq!(rows.len(), highest.len(), "seed {seed}");
    for (key, row) in rows {
        let host: u64 = key.tags["host"][1..].parse().expect("a number");
        let time = u64::try_from(key.time_ns).expect("a small number");
        let expected = i64::try_from(highest[&(host, time)]).expect("a small number");
        assert_eq!(row.version, expected, "seed {seed}: {key:?}");
        assert_eq!(row.fields["v"], Value::Bigint(expected), "seed {seed}: {key:?}");
    }
    for (gateway, place) in gateways.into_iter().zip(&places) {
        let shown = gateway.export("shared", "t").len();
        assert_eq!(shown, highest.len(), "every gateway shows the same table");
        gateway.stop();
        for path in place.files("rejects/records", ".json") {
            let text = std::fs::read_to_string(&path).expect("a report");
            let report: Json = serde_json::from_str(&text).expect("JSON");
            let wrong: Vec<&Json> = report["records"]
                .as_array()
                .expect("records")
                .iter()
                .filter(|record| record["reason"] != "version_lower")
                .collect();
            assert!(wrong.is_empty(), "seed {seed}: only older versions are refused: {wrong:?}");
        }
    }
}

/// Two gateways that lock rows in another order wait for each other, and the server ends one of them
/// (40P01); a distributed one also ends what it could not bring into an order (40001), at a statement or at
/// the COMMIT, which here a trigger does in its place. That costs turns, and no record is lost, doubled,
/// refused that should not be, or counted twice.
#[test]
fn deadlocks_and_failed_serializations_cost_turns_and_nothing_else() {
    let seed = Random::seed_from("TIDEGATE_PG_SEED");
    tell(format!("postgres: deadlocks, TIDEGATE_PG_SEED={seed}"));
    let server = Server::new();
    // Rows are sorted within a statement, so statements of few rows meet in any order.
    let settings = format!("{}\nstatement_rows = 3\n", settings(server.address(), 2));
    let places: Vec<Place> = (0..GATEWAYS).map(|_| Place::new(&settings)).collect();
    let gateways: Vec<_> = places.iter().map(Place::start).collect();
    gateways[0].write("shared", "t,host=first v=1i,_version=1i 1");
    gateways[0].settle();
    server.sql(FAILURES);
    let (requests, highest) = plans(seed, 30);
    let sent: usize = requests.iter().flatten().map(|lines| lines.lines().count()).sum();
    std::thread::scope(|scope| {
        for (gateway, requests) in gateways.iter().zip(&requests) {
            scope.spawn(move || {
                for lines in requests {
                    gateway.write("shared", lines);
                }
            });
        }
    });
    for gateway in &gateways {
        gateway.settle();
    }
    let sum = |name: &str| gateways.iter().map(|gateway| gateway.metric(name)).sum::<f64>();
    let undone = sum("tidegate_engine_remote_undone_turns_total");
    let failures: f64 =
        server.sql("SELECT last_value FROM failures WHERE is_called").parse().expect("a number");
    let deadlocks = wait_for("a deadlock to be counted", Duration::from_mins(1), || {
        let count = "SELECT deadlocks FROM pg_stat_database WHERE datname = 'tidegate'";
        let count: f64 = server.sql(count).parse().expect("a number");
        (count > 0.0).then_some(count)
    });
    tell(format!("postgres: {undone} turns undone, {deadlocks} deadlocks, {failures} failures"));
    assert!(undone >= failures, "seed {seed}: {undone} turns undone, {failures} failures");
    let mut rows = gateways[0].export("shared", "t");
    rows.retain(|key, _| key.tags["host"] != "first");
    assert_eq!(rows.len(), highest.len(), "seed {seed}");
    for (key, row) in rows {
        let host: u64 = key.tags["host"][1..].parse().expect("a number");
        let time = u64::try_from(key.time_ns).expect("a small number");
        let expected = i64::try_from(highest[&(host, time)]).expect("a small number");
        assert_eq!(row.version, expected, "seed {seed}: {key:?}");
        assert_eq!(row.fields["v"], Value::Bigint(expected), "seed {seed}: {key:?}");
    }
    // Every record has one outcome, however often its turn was undone, and every rejection one report.
    let told = sum("tidegate_shard_records_total");
    // The first of all, and those that waited for the others.
    let sent = float(sent + 1 + (1 + GATEWAYS));
    assert!((told - sent).abs() < 0.5, "seed {seed}: {told} outcomes of {sent}");
    let counted = sum("tidegate_reject_records_total");
    for gateway in gateways {
        gateway.stop();
    }
    let reports = places.iter().flat_map(|place| place.files("rejects/records", ".json"));
    let kept: usize = reports
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("a report");
            let report: Json = serde_json::from_str(&text).expect("JSON");
            report["records"].as_array().expect("records").len()
        })
        .sum();
    assert!((counted - float(kept)).abs() < 0.5, "seed {seed}: {counted} counted, {kept} kept");
}

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("a test counts less"))
}

/// Fails few statements, and few COMMITs, as a server does that could not serialize them: one in so many
/// rows, which is more than a turn has and fewer than all have. A sequence is not undone with its
/// transaction.
const FAILURES: &str = "
CREATE SEQUENCE rows;
CREATE SEQUENCE failures;
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF nextval('rows') % 5003 = 0 THEN
    PERFORM nextval('failures');
    RAISE EXCEPTION 'could not serialize access' USING ERRCODE = 'serialization_failure';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER at_once BEFORE INSERT OR UPDATE ON shared.t FOR EACH ROW EXECUTE FUNCTION fail();
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT OR UPDATE ON shared.t DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION fail()";

type Highest = HashMap<(u64, u64), u64>;

/// What each gateway is sent, so many requests, and the highest version of each record, by host and time.
fn plans(seed: u64, each: u64) -> (Vec<Vec<String>>, Highest) {
    let mut highest = Highest::new();
    let mut requests: Vec<Vec<String>> = Vec::new();
    for at in 0..GATEWAYS as u64 {
        let mut random = Random::new(seed).part(at);
        let mut all = Vec::new();
        for _ in 0..each {
            let mut lines = String::new();
            for _ in 0..random.within(1..200) {
                let (host, time) = (random.within(0..HOSTS), random.within(0..TIMES));
                let version = random.within(1..100_000) * 10 + at;
                let most = highest.entry((host, time)).or_default();
                *most = version.max(*most);
                // The value tells the version, and each gateway brings columns of its own.
                let fields = format!("v={version}i,f{at}{}={version}i", version % 7);
                writeln!(lines, "t,host=h{host} {fields},_version={version}i {time}")
                    .expect("text");
            }
            all.push(lines);
        }
        requests.push(all);
    }
    (requests, highest)
}

/// A table that one gateway deletes is gone for the others too, and made anew by whoever writes next;
/// nothing that is written then lands in a column of another meaning.
#[test]
fn a_table_that_another_gateway_deletes_is_made_anew() {
    let server = Server::new();
    let places: Vec<Place> = (0..2).map(|_| Place::new(&settings(server.address(), 2))).collect();
    let (first, second) = (places[0].start(), places[1].start());
    first.write("d", "t,host=a x=\"attribute\" 1");
    first.settle();
    second.write("d", "t,host=b x=\"attribute\" 1");
    second.settle();
    assert_eq!(first.export("d", "t").len(), 2);
    let form = b"db=d&q=DROP+MEASUREMENT+t";
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    assert_eq!(first.client().post("/query", &headers, form).expect("an answer").status, 200);
    // In its next life `x` is a dimension first.
    first.write("d", "t,x=dimension y=1 1");
    first.settle();
    second.write("d", "t,host=c x=\"attribute\" 2");
    second.settle();
    let rows = wait_for("both to show it", Duration::from_mins(1), || {
        let rows = second.export("d", "t");
        (rows.len() == 2).then_some(rows)
    });
    let of = |host: &str| rows.iter().find(|(key, _)| key.tags.values().any(|v| v == host));
    let (_, row) = of("c").expect("the second gateway's");
    assert_eq!(row.fields["x"], Value::Varchar("attribute".to_owned()));
    assert!(of("dimension").is_some());
}
