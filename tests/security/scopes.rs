//! Who may do what: each endpoint against each kind of token and key.

use serde_json::{Value, json};

use super::common::gateway::{Gateway, Place};
use super::wire::{Signed, encode, statuses};

pub(crate) const SETTINGS: &str = r#"
[[auth.tokens]]
name = "reader"
token = "reads-d"
read = ["d"]

[[auth.tokens]]
name = "writer"
token = "writes-d"
write = ["d"]

[[auth.tokens]]
name = "stranger"
token = "has-e"
read = ["e"]
write = ["e"]

[[auth.tokens]]
name = "admin"
token = "has-all"
read = ["*"]
write = ["*"]

[[auth.users]]
name = "ada:x"
password = "with:colon"
write = ["d"]

[[auth.access_keys]]
id = "AKIDFLEET"
secret = "signing-secret"
read = ["d"]
write = ["d"]

[[auth.access_keys]]
id = "AKIDREADER"
secret = "signing-secret"
read = ["d"]

[[auth.access_keys]]
id = "AKIDALL"
secret = "signing-secret"
read = ["*"]
write = ["*"]
"#;

/// In the order of the columns below.
const TOKENS: [Option<&str>; 6] =
    [None, Some("wrong"), Some("reads-d"), Some("writes-d"), Some("has-e"), Some("has-all")];

fn ask(
    server: &Gateway,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: &str,
) -> (u16, String) {
    let header = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![("Content-Type", "application/json")];
    headers.extend(header.as_deref().map(|header| ("Authorization", header)));
    let reply = server.client().request(method, path, &headers, body.as_bytes());
    let reply = reply.expect("it is answered");
    (reply.status, reply.text())
}

#[test]
fn each_endpoint_serves_whom_it_is_for_and_nobody_else() {
    let place = Place::new(SETTINGS);
    let server = place.start();
    let admin = Some("has-all");
    for database in ["d", "e"] {
        let path = format!("/api/v2/write?bucket={database}");
        assert_eq!(ask(&server, "POST", &path, admin, "m,s=a v=1i 1").0, 204);
    }
    let flat = r#"{"measurement":"m","tags":{"s":"b"},"fields":{"v":1},"timestamp":1}"#;
    let line = "m,s=b v=1i 1";
    let filter_d = r#"{"filter":{"db":"d"}}"#;
    let query = |text: &str| format!("/query?q={}", encode(text));
    //                                               nobody wrong reads writes other all
    for (method, path, body, expected) in [
        ("POST", "/write?db=d".to_owned(), line, [401, 401, 403, 204, 403, 204]),
        // A retention policy is under its database.
        ("POST", "/write?db=d&rp=p".to_owned(), line, [401, 401, 403, 204, 403, 204]),
        ("POST", "/write?db=d2".to_owned(), line, [401, 401, 403, 403, 403, 204]),
        ("POST", "/api/v2/write?bucket=d".to_owned(), line, [401, 401, 403, 204, 403, 204]),
        ("POST", "/api/v3/write_lp?db=d".to_owned(), line, [401, 401, 403, 204, 403, 204]),
        ("POST", "/api/v1/write?db=d".to_owned(), flat, [401, 401, 403, 200, 403, 200]),
        ("GET", "/api/v1/export?db=d&table=m".to_owned(), "", [401, 401, 200, 403, 403, 200]),
        ("GET", "/api/v1/export?db=e&table=m".to_owned(), "", [401, 401, 403, 403, 200, 200]),
        // Whether a table is there is nobody's business who may not read it.
        ("GET", "/api/v1/export?db=d&table=no".to_owned(), "", [401, 401, 404, 403, 403, 404]),
        ("POST", query("CREATE DATABASE d"), "", [401, 401, 403, 200, 403, 200]),
        ("POST", query("DROP MEASUREMENT none") + "&db=d", "", [401, 401, 403, 200, 403, 200]),
        ("POST", query("SHOW DATABASES"), "", [401, 401, 200, 200, 200, 200]),
        ("GET", "/api/v1/status".to_owned(), "", [401, 401, 200, 200, 200, 200]),
        // A list shows what its reader may see; that of a database is its readers' alone.
        ("GET", "/api/v1/rejects".to_owned(), "", [401, 401, 200, 200, 200, 200]),
        ("GET", "/api/v1/rejects?db=d".to_owned(), "", [401, 401, 200, 403, 403, 200]),
        ("GET", "/api/v1/rejects?db=e".to_owned(), "", [401, 401, 403, 403, 200, 200]),
        ("GET", "/api/v1/rejects/1-1".to_owned(), "", [401, 401, 404, 404, 404, 404]),
        ("POST", "/api/v1/rejects/resubmit".to_owned(), filter_d, [401, 401, 200, 403, 403, 200]),
        ("GET", "/ping".to_owned(), "", [204; 6]),
        ("GET", "/health".to_owned(), "", [200; 6]),
        ("GET", "/ready".to_owned(), "", [200; 6]),
        ("GET", "/metrics".to_owned(), "", [200; 6]),
        ("OPTIONS", "/write".to_owned(), "", [204; 6]),
        ("DELETE", "/write?db=d".to_owned(), "", [405; 6]),
    ] {
        let found = TOKENS.map(|token| ask(&server, method, &path, token, body).0);
        assert_eq!(found, expected, "{method} {path}");
    }
    // A list shows what its reader may see.
    for (token, is_shown) in
        [("reads-d", [true, false]), ("has-e", [false, true]), ("has-all", [true; 2])]
    {
        let (_, text) = ask(&server, "POST", &query("SHOW DATABASES"), Some(token), "");
        assert_eq!(
            ["[\"d\"]", "[\"e\"]"].map(|name| text.contains(name)),
            is_shown,
            "{token}: {text}"
        );
    }
    server.stop();
}

/// A sound input of an operation.
fn input(operation: &str, database: &str) -> Value {
    let record = json!({
        "Dimensions": [{ "Name": "s", "Value": "a" }], "MeasureName": "m", "MeasureValue": "1",
        "Time": (jiff::Timestamp::now().as_millisecond()).to_string(),
    });
    let source = json!({ "BucketName": "bucket", "ObjectKeyPrefix": "key" });
    match operation {
        "WriteRecords" => {
            json!({ "DatabaseName": database, "TableName": "table", "Records": [record] })
        }
        "CreateBatchLoadTask" => json!({
            "TargetDatabaseName": database, "TargetTableName": "table",
            "DataSourceConfiguration": { "DataFormat": "CSV", "DataSourceS3Configuration": source },
            "ReportConfiguration": { "ReportS3Configuration": source },
            "DataModelConfiguration": { "DataModel": {
                "DimensionMappings": [{ "SourceColumn": "s" }], "TimeColumn": "t",
                "MultiMeasureMappings": { "TargetMultiMeasureName": "m",
                    "MultiMeasureAttributeMappings": [
                        { "SourceColumn": "v", "MeasureValueType": "DOUBLE" }] } } },
        }),
        "ListTagsForResource" => {
            json!({ "ResourceARN": format!("arn:aws:timestream:eu-west-1:0:database/{database}") })
        }
        "CreateDatabase" | "DescribeDatabase" | "DeleteDatabase" | "ListTables" => {
            json!({ "DatabaseName": database })
        }
        _ => json!({ "DatabaseName": database, "TableName": "table" }),
    }
}

#[test]
fn each_operation_of_timestream_is_held_to_the_scope_of_its_key() {
    let place = Place::new(SETTINGS);
    let server = place.start();
    let call = |key: &str, operation: &str, database: &str| {
        let body = input(operation, database).to_string();
        Signed { key: key.to_owned(), ..Signed::call(operation, &body) }.send(server.address)
    };
    for database in ["ddd", "eee"] {
        assert_eq!(call("AKIDALL", "CreateDatabase", database), 200);
        assert_eq!(call("AKIDALL", "CreateTable", database), 200);
    }
    // The keys are for database d, whose name is too short for this API: here they may do nothing.
    for operation in [
        "WriteRecords",
        "DescribeTable",
        "UpdateTable",
        "DeleteTable",
        "CreateTable",
        "ListTables",
        "CreateDatabase",
        "DescribeDatabase",
        "DeleteDatabase",
        "CreateBatchLoadTask",
        "ListTagsForResource",
    ] {
        for key in ["AKIDFLEET", "AKIDREADER"] {
            assert_eq!(call(key, operation, "ddd"), 403, "{key} {operation}");
        }
    }
    assert_eq!(call("AKIDALL", "WriteRecords", "ddd"), 200);
    assert_eq!(call("AKIDNOBODY", "WriteRecords", "ddd"), 403);
    let datazone = "/v2/domains/dzd-a/entities/ASSET/e/time-series-data-points?formName=f";
    let found = TOKENS.map(|token| ask(&server, "GET", datazone, token, "").0);
    assert_eq!(found[..5], [401, 401, 403, 403, 403]);
    assert!(!matches!(found[5], 401 | 403), "who may do all is let in: {found:?}");
    server.stop();
}

/// Forms of credentials that are none, or that only just are.
#[test]
fn hostile_credentials_are_401_and_odd_ones_are_read_as_they_are_meant() {
    use base64::Engine as _;
    let basic =
        |text: &str| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text));
    let place = Place::new(SETTINGS);
    let server = place.start();
    let long = "a".repeat(20_000);
    for (header, expected) in [
        ("Token writes-d".to_owned(), 204),
        ("token   writes-d  ".to_owned(), 204),
        ("Bearer writes-d".to_owned(), 204),
        (basic("anybody:writes-d"), 204),
        (basic(":writes-d"), 204),
        // The first colon ends the name, as RFC 7617 has it: this user can come by `u` and `p` only.
        (basic("ada:x:with:colon"), 401),
        ("Token ".to_owned(), 401),
        ("Token".to_owned(), 401),
        ("Token writes-d,writes-d".to_owned(), 401),
        ("Token writes-d\tx".to_owned(), 401),
        ("Token WRITES-D".to_owned(), 401),
        ("Token writes-".to_owned(), 401),
        ("Token writes-d\u{200b}".to_owned(), 401),
        (format!("Token {long}"), 401),
        (format!("Token {}", ":".repeat(1000)), 401),
        ("Basic ====".to_owned(), 401),
        ("Basic /w==".to_owned(), 401),
        (basic("no colon"), 401),
        (basic("\0:\0"), 401),
        ("Digest username=\"writes-d\"".to_owned(), 401),
        ("Negotiate writes-d".to_owned(), 401),
        ("writes-d".to_owned(), 401),
        (" ".to_owned(), 401),
    ] {
        let request = format!(
            "POST /write?db=d HTTP/1.1\r\nHost: t\r\nConnection: close\r\nAuthorization: {header}\r\n\
             Content-Length: 12\r\n\r\nm,s=a v=1i 1"
        );
        let answer = super::wire::exchange(server.address, request.as_bytes());
        assert_eq!(statuses(&answer), [expected], "{header:.80}: {answer}");
    }
    let query = format!("/write?db=d&u={}&p={}", encode("ada:x"), encode("with:colon"));
    assert_eq!(server.client().post(&query, &[], b"m,s=a v=1i 1").expect("answered").status, 204);
    // Two headers contradict each other, whichever comes first.
    for (one, other) in [("wrong", "writes-d"), ("writes-d", "wrong"), ("writes-d", "writes-d")] {
        let request = format!(
            "POST /write?db=d HTTP/1.1\r\nHost: t\r\nConnection: close\r\nAuthorization: Token {one}\r\n\
             Authorization: Token {other}\r\nContent-Length: 12\r\n\r\nm,s=a v=1i 1"
        );
        let answer = super::wire::exchange(server.address, request.as_bytes());
        assert_eq!(statuses(&answer), [401], "{one} {other}");
    }
    server.stop();
}
