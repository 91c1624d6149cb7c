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
    let (requests, highest) = plans(seed);
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

type Highest = HashMap<(u64, u64), u64>;

/// What each gateway is sent, and the highest version of each record, by host and time.
fn plans(seed: u64) -> (Vec<Vec<String>>, Highest) {
    let mut highest = Highest::new();
    let mut requests: Vec<Vec<String>> = Vec::new();
    for at in 0..GATEWAYS as u64 {
        let mut random = Random::new(seed).part(at);
        let mut all = Vec::new();
        for _ in 0..60 {
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
