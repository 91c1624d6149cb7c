//! The promise: what clients of other servers read in an answer is there, in the shape that they read, and what
//! is not known is left out.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::panic, reason = "helpers of tests")]

mod http_support;

use serde_json::{Value, json};
use tidegate::base::clock::{Clock as _, SystemClock};

use http_support::{Running, start};

/// The first refusal of a write, as `family` names it.
fn refused(server: &Running, path: &str, kind: &str, body: &str) -> Value {
    let reply = server.send("POST", path, &[("Content-Type", kind)], body.as_bytes());
    let answer = reply.json();
    let native = &answer["rejected"][0];
    if native.is_null() { answer["data"][0].clone() } else { native.clone() }
}

const LINES: &str = "text/plain";

/// Every way of writing lines, with and without the other lines of a request.
const LINE_PATHS: [&str; 5] = [
    "/write?db=d",
    "/api/v2/write?bucket=d",
    "/api/v3/write_lp?db=d",
    "/api/v3/write_lp?db=d&accept_partial=false",
    "/api/v1/write?db=d",
];

#[test]
fn a_type_conflict_names_the_column_of_the_value() {
    let server = start(|_| {});
    assert_eq!(server.post("/write?db=d", b"m,s=a good=1i,v=1i,a\\ b=1i,w=1 1").status, 204);
    for path in LINE_PATHS {
        for (line, column) in [
            ("m,s=a v=2.5 2", Some(9)),
            ("m,s=a good=2i,v=2.5 2", Some(17)),
            ("m,s=v v=\"v=2\" 2", Some(9)),
            ("m,s=\u{e4} good=2i,v=t 2", Some(18)),
            ("m,s=a w=1,v=2.5,good=t 2", Some(13)),
            // A key with an escape is stored without it, elsewhere.
            ("m,s=a a\\ b=2.5 2", None),
        ] {
            let found = refused(&server, path, LINES, line);
            assert_eq!(found["reason"], "type_conflict", "{path} {line}: {found}");
            let expected = column.map(Value::from);
            assert_eq!(found.get("column"), expected.as_ref(), "{path} {line}: {found}");
        }
    }
    let within = refused(&server, "/api/v1/write?db=d", LINES, "fresh,s=a v=1 1\nfresh,s=a v=1i 2");
    assert_eq!((&within["line"], &within["column"]), (&json!(2), &json!(13)));
}

#[test]
fn a_refusal_without_a_place_has_no_column() {
    let server = start(|_| {});
    assert_eq!(server.post("/write?db=d", b"m,s=a v=1i 1").status, 204);
    let path = "/api/v1/write?db=d";
    let record = r#"[{"measurement":"m","tags":{"s":"a"},"fields":{"v":2.5},"timestamp":2}]"#;
    let found = refused(&server, path, "application/json", record);
    assert_eq!((&found["reason"], found.get("column")), (&json!("type_conflict"), None), "{found}");
    let found = refused(&server, "/write?db=_datazone", LINES, "m,s=a v=1i 1");
    assert_eq!(found.get("column"), None, "{found}");
    // What the grammar refuses has one.
    for path in LINE_PATHS {
        assert_eq!(refused(&server, path, LINES, "m,s=a v= 1")["column"], 9, "{path}");
    }
}

fn names(server: &Running, query: &str) -> Value {
    let reply = server.get(&format!("/query?q={query}"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["results"][0]["series"][0]["values"].clone()
}

#[test]
fn databases_are_listed_without_their_policies_and_without_the_gateways_own() {
    let server = start(|_| {});
    for path in
        ["/write?db=iot", "/write?db=iot&rp=weekly", "/write?db=iot&rp=daily", "/write?db=p&rp=raw"]
    {
        assert_eq!(server.post(path, b"m,s=a v=1i 1").status, 204);
    }
    let form = json!({ "formName": "f", "typeIdentifier": "t", "timestamp": now_s() });
    let point = json!({ "forms": [form] });
    let path = "/v2/domains/dzd_a/entities/ASSET/e/time-series-data-points";
    let posted = server.post(path, point.to_string().as_bytes());
    assert_eq!(posted.status, 201, "{}", posted.text());
    assert_eq!(names(&server, "SHOW+DATABASES"), json!([["iot"], ["p"]]));
    let policies = names(&server, "SHOW+RETENTION+POLICIES+ON+iot");
    let policies: Vec<&Value> = policies.as_array().unwrap().iter().map(|row| &row[0]).collect();
    assert_eq!(policies, ["autogen", "daily", "weekly"]);
}

/// Seconds since 1970.
fn now_s() -> i64 {
    SystemClock::new().wall_ns() / 1_000_000_000
}

#[test]
fn ready_says_since_when_and_for_how_long() {
    let server = start(|_| {});
    let answer = server.get("/ready").json();
    assert_eq!(answer["status"], "ready");
    let started: String = answer["started"].as_str().unwrap().into();
    assert!(started.ends_with('Z') && started[..10].split('-').count() == 3, "{started}");
    let up = answer["up"].as_str().unwrap();
    assert!(up.ends_with('s') && up.len() <= "10m59s".len(), "{up}");
}

#[test]
fn a_query_in_a_form_of_parts_is_told_which_form_is_read() {
    let server = start(|_| {});
    let body =
        b"--x\r\nContent-Disposition: form-data; name=\"q\"\r\n\r\nSHOW DATABASES\r\n--x--\r\n";
    let parts = [("Content-Type", "multipart/form-data; boundary=x")];
    let reply = server.send("POST", "/query", &parts, body);
    assert_eq!(reply.status, 400);
    assert!(reply.text().contains("application/x-www-form-urlencoded"), "{}", reply.text());
    assert_eq!(server.send("POST", "/query?q=SHOW+DATABASES", &parts, body).status, 200);
}

#[test]
fn who_asks_for_messagepack_gets_it_and_who_takes_json_gets_json() {
    let server = start(|_| {});
    assert_eq!(server.post("/query?q=CREATE+DATABASE+d", b"").status, 200);
    let ask = |accept| server.send("GET", "/query?q=SHOW+DATABASES", &[("Accept", accept)], b"");
    let packed = ask("application/x-msgpack");
    assert_eq!(packed.header("content-type"), Some("application/x-msgpack"));
    assert!(packed.body.starts_with(b"\xdf\0\0\0\x01\xdb\0\0\0\x07results\xdd\0\0\0\x01\xdf"));
    assert!(packed.body.windows(6).any(|six| six == b"\xdb\0\0\0\x01d"));
    for accept in ["*/*", "application/json", "application/x-msgpack, application/json"] {
        assert_eq!(ask(accept).json()["results"][0]["series"][0]["values"], json!([["d"]]));
    }
    // An error is JSON in any case, and says so.
    let packed = [("Accept", "application/x-msgpack")];
    let wrong = server.send("GET", "/query?q=SELECT+1", &packed, b"");
    assert_eq!(wrong.status, 400);
    assert!(wrong.json()["error"].is_string());
}

#[test]
fn timestamps_in_nanoseconds_under_another_precision_are_told_from_wrong_ones() {
    let server = start(|_| {});
    // What the Go client for InfluxDB 1 sends for the precision "us".
    let reply = server.post("/write?db=d&precision=us", b"m,s=a v=1i 1767225600000000000");
    let text = reply.text();
    assert_eq!(reply.status, 400);
    assert!(text.contains("(us)") && text.contains("send precision=ns"), "{text}");
    assert_eq!(server.post("/write?db=d&precision=us", b"m,s=a v=1i 1767225600000000").status, 204);
}

/// Goal: the software kits show why, in the shape of their service. Method: paths of its other operations.
#[test]
fn other_operations_of_datazone_are_refused_in_its_shape() {
    let server = start(|_| {});
    for (method, path) in [
        ("GET", "/v2/domains"),
        ("POST", "/v2/domains"),
        ("GET", "/v2/domains?maxResults=5"),
        ("GET", "/v2/domains/dzd_a"),
        ("GET", "/v2/domains/dzd_a/projects"),
        ("POST", "/v2/domains/dzd_a/form-types"),
        ("PUT", "/v2/domains/dzd_a/entities/ASSET/e/x"),
    ] {
        let reply = server.send(method, path, &[], b"{}");
        assert_eq!(reply.status, 404, "{path}");
        assert_eq!(reply.header("x-amzn-errortype"), Some("ResourceNotFoundException"), "{path}");
        assert!(reply.header("x-amzn-requestid").is_some(), "{path}");
        let message = reply.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(path.split('?').next().unwrap()), "{message}");
        assert!(message.contains("PostTimeSeriesDataPoints"), "{message}");
    }
}

/// What `docs/not-promised.md` says of names, numbers, sign-in and policies.
#[test]
fn what_is_not_promised_is_refused_with_its_reason() {
    let server = start(|_| {});
    for (line, reason) in [
        ("m,s=a v=9223372036854775808u 1", "invalid_value"),
        ("m,s=a\tb v=1i 1", "invalid_syntax"),
        ("m\u{1b},s=a v=1i 1", "invalid_syntax"),
    ] {
        let found = refused(&server, "/api/v1/write?db=d", LINES, line);
        assert_eq!(found["reason"], reason, "{line:?}: {found}");
    }
    assert_eq!(server.post("/write?db=d", b"m,s=a v=9223372036854775807u 1").status, 204);
    let signed_in = server.post("/api/v2/signin", b"");
    assert_eq!((signed_in.status, &signed_in.json()["code"]), (404, &json!("not found")));
    let made =
        server.post("/query?q=CREATE+RETENTION+POLICY+w+ON+d+DURATION+1d+REPLICATION+1", b"");
    assert_eq!(made.status, 400, "{}", made.text());
    assert_eq!(server.post("/write?db=d&rp=w", b"m,s=a v=1i 1").status, 204);
    let policies = names(&server, "SHOW+RETENTION+POLICIES+ON+d");
    assert_eq!(policies[1][0], "w");
}
