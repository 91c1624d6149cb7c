//! What no SDK shows: broken connections, and refusals of the floor below the API.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Barrier;
use std::thread;

use serde_json::{Value, json};
use tidegate::base::clock::{Clock as _, SystemClock};

use super::catalog::call;
use super::common::gateway::{Gateway, Place};

/// A server with one table, and records for it.
fn with_table(settings: &str) -> (Place, Gateway) {
    let place = Place::new(settings);
    let server = place.start();
    let names = json!({ "DatabaseName": "db1", "TableName": "cpu" });
    for operation in ["CreateDatabase", "CreateTable"] {
        let (status, answer) =
            call(&mut server.client(), operation, &names).expect("it is answered");
        assert_eq!(status, 200, "{answer}");
    }
    (place, server)
}

fn record(host: &str, value: u64, version: u64) -> Value {
    json!({
        "Dimensions": [{ "Name": "host", "Value": host }], "MeasureName": "m",
        "MeasureValue": value.to_string(), "MeasureValueType": "BIGINT",
        "Time": (SystemClock::new().wall_ns() / 3_600_000_000_000 * 3_600_000).to_string(),
        "Version": version,
    })
}

const WRITE: &str = "Timestream_20181101.WriteRecords";

/// The second record supersedes the first, so that a second execution would refuse the first.
#[test]
fn a_request_whose_connection_broke_is_repeated_with_success() {
    let (_place, server) = with_table("");
    for round in 0..20 {
        let host = round.to_string();
        let records = [record(&host, 1, 1), record(&host, 2, 2)];
        let body = json!({ "DatabaseName": "db1", "TableName": "cpu", "Records": records });
        let (body, id) = (body.to_string(), format!("call-{round}"));
        let head = format!(
            "POST / HTTP/1.1\r\nHost: t\r\nX-Amz-Target: {WRITE}\r\namz-sdk-invocation-id: {id}\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        let mut broken = TcpStream::connect(server.address).unwrap();
        broken.write_all(format!("{head}{body}").as_bytes()).unwrap();
        if round % 2 == 0 {
            // The answer is on its way, and never heard.
            broken.read_exact(&mut [0]).unwrap();
        }
        drop(broken);
        let headers = [("X-Amz-Target", WRITE), ("amz-sdk-invocation-id", &*id)];
        let reply = server.client().post("/", &headers, body.as_bytes()).unwrap();
        assert_eq!(reply.status, 200, "round {round}: {}", reply.text());
        assert_eq!(reply.json()["RecordsIngested"]["Total"], 2);
    }
    let stands = server.client().get("/api/v1/export?db=db1&table=cpu").unwrap().text();
    let second = stands.lines().filter(|line| line.contains("\"version\":2"));
    assert_eq!((stands.lines().count(), second.count()), (20, 20), "one record a host:\n{stands}");
}

/// Repetitions over new connections while the first is executed; a second execution would refuse the first
/// of the two records, and have another LSN.
#[test]
fn a_call_that_is_repeated_while_it_is_executed_is_executed_once() {
    const EACH: usize = 6;
    const ROUNDS: usize = 20;
    let (_place, server) = with_table("");
    for round in 0..ROUNDS {
        let (host, id) = (format!("host-{round}"), format!("call-{round}"));
        let records = [record(&host, 1, 1), record(&host, 2, 2)];
        let body = json!({ "DatabaseName": "db1", "TableName": "cpu", "Records": records });
        let body = body.to_string();
        let barrier = Barrier::new(EACH);
        let call = || {
            let headers = [("X-Amz-Target", WRITE), ("amz-sdk-invocation-id", &*id)];
            barrier.wait();
            let reply = server.client().post("/", &headers, body.as_bytes());
            let reply = reply.expect("it is answered");
            (reply.status, reply.text(), reply.header("x-tidegate-lsn").map(str::to_owned))
        };
        let replies: Vec<_> = thread::scope(|scope| {
            let all: Vec<_> = (0..EACH).map(|_| scope.spawn(call)).collect();
            all.into_iter().map(|one| one.join().expect("it does not panic")).collect()
        });
        let (status, text, lsn) = &replies[0];
        assert!(*status == 200 && lsn.is_some(), "round {round}: {text}");
        assert!(replies.iter().all(|reply| *reply == replies[0]), "round {round}: {replies:?}");
    }
    let executed = server.metric("tidegate_ingest_records_total");
    let repeated = server.metric("tidegate_api_repeated_writes_total");
    let expected = [2 * ROUNDS, (EACH - 1) * ROUNDS].map(|count| count.to_string());
    assert_eq!([executed.to_string(), repeated.to_string()], expected);
}

/// Each operation changes what its second execution would find, and some then refuse; the answers of the
/// updates tell the time of the execution.
#[test]
fn a_change_that_is_repeated_hears_the_first_answer_and_is_made_once() {
    let (_place, server) = with_table("");
    let mut client = server.client();
    let mut send = |operation: &str, id: &str, body: &Value| {
        let target = format!("Timestream_20181101.{operation}");
        let headers = [("X-Amz-Target", target.as_str()), ("amz-sdk-invocation-id", id)];
        let reply = client.post("/", &headers, body.to_string().as_bytes()).unwrap();
        (reply.status, reply.text())
    };
    let table = json!({ "DatabaseName": "db2", "TableName": "mem" });
    let database = json!({ "DatabaseName": "db2" });
    let arn = "arn:aws:timestream:us-east-1:000000000000:database/db1/table/cpu";
    let tags = json!({ "ResourceARN": arn, "Tags": [{ "Key": "a", "Value": "b" }] });
    let keyed = json!({ "DatabaseName": "db2", "KmsKeyId": "key" });
    for (operation, body, again) in [
        ("CreateDatabase", &database, 409),
        ("CreateTable", &table, 409),
        ("UpdateDatabase", &keyed, 200),
        ("UpdateTable", &table, 200),
        ("TagResource", &tags, 200),
        ("UntagResource", &json!({ "ResourceARN": arn, "TagKeys": ["a"] }), 200),
        ("DeleteTable", &table, 404),
        ("DeleteDatabase", &database, 404),
    ] {
        // One id: an SDK's own is another for each call, and what is asked counts all the same.
        let first = send(operation, "id", body);
        assert_eq!(first.0, 200, "{operation}: {}", first.1);
        assert_eq!(send(operation, "id", body), first, "{operation}");
        assert_eq!(send(operation, "other", body).0, again, "{operation}");
    }
    // What was made and deleted since is not made again, and what only shows is asked anew.
    assert_eq!(send("CreateDatabase", "id", &database).0, 200);
    assert_eq!(send("DescribeDatabase", "id", &database).0, 404);
    assert_eq!(send("CreateDatabase", "new", &database).0, 200);
    assert_eq!(send("DescribeDatabase", "id", &database).0, 200);
}

#[test]
fn a_table_that_no_record_or_report_could_reach_is_refused() {
    let (_place, server) = with_table("");
    let mut client = server.client();
    let mut create = |member: &str, value: Value| {
        let mut body = json!({ "DatabaseName": "db1", "TableName": "other" });
        body[member] = value;
        let (status, answer) = call(&mut client, "CreateTable", &body).unwrap();
        assert_eq!(status, 400, "{body}: {answer}");
        let kind = answer["__type"].as_str().unwrap().rsplit('#').next().unwrap().to_owned();
        (kind, answer["Message"].as_str().unwrap().to_owned())
    };
    for name in ["time", "a:b", "measure_value", "ts_x", &"x".repeat(61)] {
        let key = json!({ "Type": "DIMENSION", "Name": name });
        let (kind, message) = create("Schema", json!({ "CompositePartitionKey": [key] }));
        assert_eq!(kind, "ValidationException", "{name}");
        assert!(message.contains("dimension name"), "{message}");
    }
    for (bucket, prefix, named) in [
        ("Bucket", "late", "bucketName"),
        ("a_b", "late", "bucketName"),
        ("-ab", "late", "bucketName"),
        ("bucket", "x", "objectKeyPrefix"),
        ("bucket", "/late", "objectKeyPrefix"),
        ("bucket", "a b", "objectKeyPrefix"),
    ] {
        let s3 = json!({ "BucketName": bucket, "ObjectKeyPrefix": prefix });
        let (kind, message) = create(
            "MagneticStoreWriteProperties",
            json!({
                "EnableMagneticStoreWrites": true,
                "MagneticStoreRejectedDataLocation": { "S3Configuration": s3 },
            }),
        );
        assert_eq!(kind, "ValidationException");
        let right = format!("s3Configuration.{named}' failed to satisfy constraint");
        assert!(message.contains(&right), "{bucket} {prefix}: {message}");
    }
    // Structures are objects, whatever their members' order is.
    for (member, value) in [
        ("RetentionProperties", json!([7, 8])),
        ("MagneticStoreWriteProperties", json!([true])),
        ("Schema", json!([[{ "Type": "MEASURE" }]])),
        (
            "MagneticStoreWriteProperties",
            json!({ "EnableMagneticStoreWrites": true, "MagneticStoreRejectedDataLocation": [{}] }),
        ),
        (
            "MagneticStoreWriteProperties",
            json!({
                "EnableMagneticStoreWrites": true,
                "MagneticStoreRejectedDataLocation": { "S3Configuration": ["bucket"] },
            }),
        ),
    ] {
        assert_eq!(create(member, value).0, "SerializationException", "{member}");
    }
}

#[test]
fn a_structure_of_a_batch_load_is_an_object_too() {
    let (_place, server) = with_table("");
    let mut client = server.client();
    let (status, answer) = call(
        &mut client,
        "CreateBatchLoadTask",
        &json!({ "DataModelConfiguration": { "DataModel": { "DimensionMappings": [["a", "b"]] } } }),
    )
    .unwrap();
    assert!(
        status == 400 && answer["__type"].as_str().unwrap().ends_with("#SerializationException")
    );
}

#[test]
fn what_the_floor_below_refuses_has_the_shape_that_sdks_read_and_repeat() {
    let limits = "[server]\nbody_bytes_max = \"1 MiB\"\ninflated_bytes_max = \"1 MiB\"\n\
                  [ingest]\nmemory_bytes_max = \"1 MiB\"\nadmit_wait = \"0ms\"";
    let (_place, server) = with_table(limits);
    let headers = [("X-Amz-Target", WRITE)];
    let large = vec![b' '; (1 << 20) + 1];
    let reply = server.client().post("/", &headers, &large).unwrap();
    assert_eq!(reply.status, 413);
    assert!(reply.json()["__type"].as_str().unwrap().ends_with("#RequestEntityTooLargeException"));
    assert_eq!(reply.header("x-amzn-requestid").map(str::len), Some(26));
    // Somebody holds the memory.
    let mut holding = TcpStream::connect(server.address).unwrap();
    let head = "POST / HTTP/1.1\r\nHost: t\r\nX-Amz-Target: Timestream_20181101.WriteRecords\r\n\
                Content-Length: 1000000\r\n\r\n ";
    holding.write_all(head.as_bytes()).unwrap();
    let is_held = || server.metric("tidegate_ingest_in_flight_bytes") >= 1_000_000.0;
    super::common::wait_for("the memory to be held", std::time::Duration::from_mins(1), || {
        is_held().then_some(())
    });
    let reply = server.client().post("/", &headers, &large[..500_000]).unwrap();
    assert_eq!(reply.status, 429);
    assert_eq!(reply.json()["__type"], "com.amazonaws.timestream.v20181101#ThrottlingException");
    assert_eq!(reply.header("x-amz-retry-after"), Some("1000"));
    assert_eq!(reply.header("content-type"), Some("application/x-amz-json-1.0"));
    drop(holding);
}

#[test]
fn a_browser_still_gets_the_page() {
    let (_place, server) = with_table("");
    let reply = server.client().get("/").unwrap();
    assert_eq!(reply.status, 200);
    assert!(reply.text().contains("Timestream"));
}
