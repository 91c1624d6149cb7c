//! What a table has no room for, cannot hold or would forget is foreseen, also of several records together.

use serde_json::{Value as Json, json};

use super::common::gateway::{Gateway, Place};
use super::{JSON, TIME_NS, asked, lines, post, server, verdict};

/// The open rejections, oldest first.
fn open(server: &Gateway) -> Vec<String> {
    let found = server.client().get("/api/v1/rejects?order=oldest&limit=100");
    let found = found.expect("a list").json();
    let found = found["rejections"].as_array().expect("a list");
    found.iter().map(|one| one["id"].as_str().expect("a number").to_owned()).collect()
}

/// What is said of each, which is the same dry and not.
fn told(server: &Gateway, ids: &[String], set: &Json) -> Vec<(String, String)> {
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let set = set.as_object().expect("corrections");
    let dry = asked(server, &ids, set, true);
    let real = asked(server, &ids, set, false);
    let verdicts = |answer: &Json| -> Vec<_> {
        answer["results"].as_array().expect("results").iter().map(verdict).collect()
    };
    assert_eq!(verdicts(&dry), verdicts(&real), "{dry}\n{real}");
    verdicts(&real).into_iter().map(|(outcome, reason, _)| (outcome, reason)).collect()
}

fn said(outcome: &str, reason: &str) -> (String, String) {
    (outcome.to_owned(), reason.to_owned())
}

/// Each of two new dimensions has room in the table, and both have not.
#[test]
fn rejections_that_have_no_room_together_are_told_so() {
    let place = Place::new("[ingest]\nprofile = \"strict\"\n[shards]\ncount = 1\n");
    let server = place.start();
    let now = jiff::Timestamp::now().as_nanosecond();
    let tags: Vec<String> = (0..127).map(|at| format!("d{at}=v")).collect();
    let full = format!("cells,{} t=1 {now}\n", tags.join(","));
    let texts =
        format!("cells,one=a t=abc {now}\ncells,two=a t=abc {now}\ncells,d1=a t=abc {now}\n");
    lines(&server, &(full + &texts), "applied");
    let ids = open(&server);
    assert_eq!(ids.len(), 3);
    let found = told(&server, &ids, &json!({"measure.t": 2.5}));
    let refused = said("refused", "\"table_limit\"");
    assert_eq!(found, [said("stored", "null"), refused, said("stored", "null")]);
    assert_eq!(open(&server), ids[1..2], "there is no second rejection of it");
    server.stop();
}

/// A text of two records is not sent for the sake of one, and then the other claims no column's type either.
#[test]
fn a_text_that_is_refused_in_part_is_no_reason_to_refuse_another() {
    let place = Place::new("");
    let server = place.start();
    // No JSON: each body is refused as a whole.
    let bodies = [
        format!("cells,site=a a=1i {TIME_NS}\ncells,site=a b= {TIME_NS}\n"),
        format!("cells,site=b a=2.5 {TIME_NS}\ncells,site=c a=3.5 {TIME_NS}\n"),
    ];
    for body in &bodies {
        post(&server, "/api/v1/write?db=iot", &[("X-Tidegate-Durability", "applied"), JSON], body);
    }
    let ids = open(&server);
    assert_eq!(ids.len(), 2);
    let request = |is_dry: bool| {
        let body = json!({"ids": ids, "format": "line", "precision": "ns", "dry_run": is_dry});
        let body = body.to_string();
        let reply = server.client().post("/api/v1/rejects/resubmit", &[JSON], body.as_bytes());
        let results = reply.unwrap().json()["results"].clone();
        results.as_array().expect("results").iter().map(verdict).collect::<Vec<_>>()
    };
    let (dry, real) = (request(true), request(false));
    assert_eq!(dry, real);
    assert_eq!((&*real[0].0, &*real[1].0), ("refused", "stored"), "{real:?}");
    server.stop();
}

/// The engine takes what is older than its table keeps anything, and forgets it: marked, it would be gone.
#[test]
fn what_its_table_would_forget_at_once_stays_open() {
    let place = Place::new("");
    let server = place.start();
    let text = format!("cells,site=a t=abc {TIME_NS}\n");
    lines(&server, &format!("cells,site=b t=1 {TIME_NS}\n{text}{text}"), "applied");
    let body = json!({"DatabaseName": "iot", "TableName": "cells", "RetentionProperties":
        {"MemoryStoreRetentionPeriodInHours": 1, "MagneticStoreRetentionPeriodInDays": 1}});
    let target = [("X-Amz-Target", "Timestream_20181101.UpdateTable")];
    let reply = server.client().post("/", &target, body.to_string().as_bytes()).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    let ids = open(&server);
    assert_eq!(ids.len(), 2);
    // Two of one key and version that contradict each other, were they kept.
    let found = told(&server, &ids, &json!({"measure.t": 2.5}));
    assert_eq!(found, vec![said("refused", "\"time_outside_window\""); 2]);
    assert_eq!(open(&server), ids, "nothing is closed, and nothing is added");
    let now = jiff::Timestamp::now().as_nanosecond();
    let found = told(&server, &ids[..1], &json!({"measure.t": 2.5, "time": now.to_string()}));
    assert_eq!(found, [said("stored", "null")]);
    server.stop();
}

/// PostgreSQL has no text with U+0000, be its table and column there or not.
#[test]
fn a_text_that_postgresql_cannot_store_is_refused_wherever_it_goes() {
    let database = server::Server::new();
    let address = database.address();
    let place = Place::new(&format!(
        "[engine]\nkind = \"postgres\"\n[engine.postgres]\nhost = \"{}\"\nport = {}\n",
        address.ip(),
        address.port()
    ));
    let server = place.start();
    let texts = format!("fresh,site=a t=abc {TIME_NS}\nthere,site=a t=abc {TIME_NS}\n");
    lines(&server, &format!("there,site=a u=1 {TIME_NS}\n{texts}"), "applied");
    let ids = open(&server);
    assert_eq!(ids.len(), 2);
    let refused = said("refused", "\"invalid_value\"");
    // Its table is missing, then one of its columns, then nothing.
    for measure in ["measure.t:VARCHAR", "measure.s:VARCHAR"] {
        let found = told(&server, &ids, &json!({measure: "a\u{0}b"}));
        assert_eq!(found, vec![refused.clone(); 2], "{measure}");
    }
    let found = told(&server, &ids, &json!({"measure.t:VARCHAR": "ab"}));
    assert_eq!(found[0], said("stored", "null"), "{found:?}");
    server.stop();
}
