//! What a client can rely on, whatever it sends: over real sockets, against a whole server.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::panic, reason = "helpers of tests")]

mod http_support;
#[path = "http_promises/parameters.rs"]
mod parameters;

use std::io::{Read, Write};

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use serde_json::json;
use tidegate::api::EXPORTS_MAX;
use tidegate::base::units::{Bytes, Span};

use http_support::{Running, read_reply, request, start};

const LINE: &[u8] = b"cpu,host=a v=1i 1700000000000000001";

/// The table as the export shows it, when everything sent so far is applied.
fn exported(server: &Running, table: &str) -> Vec<String> {
    let sent = server.send(
        "POST",
        "/write?db=d",
        &[("X-Tidegate-Durability", "applied")],
        b"barrier,host=a v=1i 1",
    );
    assert_eq!(sent.status, 204);
    let reply = server.get(&format!("/api/v1/export?db=d&table={table}"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.text().lines().map(str::to_owned).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn every_write_is_204_without_a_body_and_says_how_durable_it_is_and_where() {
    let server = start(|_| {});
    for path in ["/write?db=d", "/api/v2/write?bucket=d&org=o", "/api/v3/write_lp?db=d"] {
        let reply = server.post(path, LINE);
        assert_eq!((reply.status, reply.body.len()), (204, 0), "{path}");
        assert_eq!(reply.header("x-tidegate-durability"), Some("sync"));
        assert!(reply.header("x-tidegate-lsn").unwrap().parse::<u64>().unwrap() > 0);
        for name in ["Date", "Request-Id", "X-Request-Id", "X-Influxdb-Version", "X-Influxdb-Build"]
        {
            assert!(reply.header(name).is_some(), "{path} {name}");
        }
    }
    let reply = server.post("/api/v3/write_lp?db=d&no_sync=true", LINE);
    assert_eq!(reply.header("x-tidegate-durability"), Some("memory"));
    let reply = server.post("/write?db=d", b"");
    assert_eq!((reply.status, reply.header("x-tidegate-lsn")), (204, None));
    let own = server.send("POST", "/write?db=d", &[("X-Request-Id", "mine-1")], LINE);
    assert_eq!(own.header("request-id"), Some("mine-1"));
}

#[test]
fn bodies_come_in_any_framing_and_encoding() {
    let server = start(|_| {});
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(b"enc,host=zlib v=1i 1").unwrap();
    let mut raw = DeflateEncoder::new(Vec::new(), Compression::fast());
    raw.write_all(b"enc,host=raw v=1i 1").unwrap();
    let members = [gzip(b"enc,host=gz1 v=1i 1\n"), gzip(b"enc,host=gz2 v=1i 1")].concat();
    let zstd = zstd::stream::encode_all(&b"enc,host=zstd v=1i 1"[..], 1).unwrap();
    for (encoding, body) in [
        ("identity", b"enc,host=plain v=1i 1".to_vec()),
        ("gzip", members),
        ("deflate", zlib.finish().unwrap()),
        ("deflate", raw.finish().unwrap()),
        ("zstd", zstd),
    ] {
        let plain = server.send("POST", "/write?db=d", &[("Content-Encoding", encoding)], &body);
        assert_eq!(plain.status, 204, "{encoding}: {}", plain.text());
        let headers = [("Content-Encoding", encoding), ("Transfer-Encoding", "chunked")];
        assert_eq!(server.send("POST", "/write?db=d", &headers, &body).status, 204, "{encoding}");
    }
    let old = b"POST /write?db=d HTTP/1.0\r\nContent-Length: 20\r\n\r\nenc,host=old v=1i 1\n";
    assert_eq!(server.raw(old).status, 204);
    // Sent twice each, stored once.
    assert_eq!(exported(&server, "enc").len(), 7);
}

#[test]
fn what_is_not_what_its_encoding_says_is_400_and_an_unknown_encoding_415() {
    let server = start(|_| {});
    let whole = gzip(LINE);
    for (encoding, body, status) in [
        ("gzip", LINE, 400),
        ("gzip", &whole[..whole.len() - 3], 400),
        ("zstd", LINE, 400),
        ("br", LINE, 415),
        ("gzip, gzip", &whole[..], 415),
    ] {
        for path in ["/write?db=d", "/api/v2/write?bucket=d"] {
            let reply = server.send("POST", path, &[("Content-Encoding", encoding)], body);
            assert_eq!(reply.status, status, "{path} {encoding}: {}", reply.text());
        }
    }
}

#[test]
fn what_is_too_large_on_the_wire_or_inflated_is_413() {
    let server = start(|config| {
        config.server.body_bytes_max = Bytes(4096);
        config.server.inflated_bytes_max = Bytes(8192);
    });
    let comment = vec![b'#'; 9000];
    let reply = server.post("/write?db=d", &comment);
    assert_eq!(reply.status, 413);
    assert!(reply.json()["error"].as_str().unwrap().contains("4096"));
    let chunked = [("Transfer-Encoding", "chunked")];
    assert_eq!(server.send("POST", "/write?db=d", &chunked, &comment).status, 413);
    let bomb = gzip(&vec![b'#'; 256 << 10]);
    assert!(bomb.len() < 4096);
    let reply =
        server.send("POST", "/api/v2/write?bucket=d", &[("Content-Encoding", "gzip")], &bomb);
    assert_eq!(reply.status, 413);
    assert_eq!(reply.json()["code"], "request too large");
    let fits = gzip(&comment[..8192]);
    let reply = server.send("POST", "/write?db=d", &[("Content-Encoding", "gzip")], &fits);
    assert_eq!(reply.status, 204, "{}", reply.text());
}

#[test]
fn the_good_lines_beside_bad_ones_are_stored_and_the_bad_ones_named() {
    let server = start(|_| {});
    let body = b"part,host=a v=1i 1\npart,host=b v=\npart,host=c v=3i 3";
    for (path, error) in [
        ("/write?db=d", "partial write: unable to parse 'part,host=b v=': "),
        ("/api/v2/write?bucket=d", "partial write: 1 of 3 lines rejected; first at line 2"),
        ("/api/v3/write_lp?db=d&precision=ns", "partial write of line protocol occurred"),
    ] {
        let reply = server.post(path, body);
        assert_eq!(reply.status, 400, "{path}");
        let json = reply.json();
        assert!(json["error"].as_str().unwrap().starts_with(error), "{json}");
        assert_eq!(json["data"][0]["line_number"], 2);
        assert_eq!(json["data"][0]["original_line"], "part,host=b v=");
        assert_eq!(json["rejections"]["stored"], 2);
        assert_eq!(reply.header("x-tidegate-durability"), Some("sync"));
    }
    assert_eq!(exported(&server, "part").len(), 2);
    let reply = server.post("/write?db=d", b"nothing\ngood_here");
    assert_eq!(reply.status, 400);
    assert!(!reply.text().contains("partial write"), "{}", reply.text());
    let all_or_nothing = b"none,host=a v=1i 1\nnone";
    let reply = server.post("/api/v3/write_lp?db=d&accept_partial=false", all_or_nothing);
    assert_eq!((reply.status, &reply.json()["rejections"]["stored"]), (400, &0.into()));
    // The table may have been made; nothing is in it.
    let none = server.get("/api/v1/export?db=d&table=none");
    assert!(none.status == 404 || none.body.is_empty(), "{}", none.text());
}

#[test]
fn json_is_answered_with_a_receipt() {
    let server = start(|_| {});
    let json = [("Content-Type", "application/json")];
    let body = br#"[{"measurement":"w","tags":{"s":"a"},"fields":{"t":21.0,"n":3},"timestamp":1},
                    {"measurement":"w","tags":{"s":"a"},"fields":{"t":{}}}]"#;
    let reply = server.send("POST", "/api/v1/write?db=d", &json, body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let receipt = reply.json();
    assert_eq!((&receipt["accepted"], &receipt["rejected_count"]), (&1.into(), &1.into()));
    assert_eq!(receipt["rejected"][0]["index"], 1);
    assert_eq!(receipt["rejected"][0]["reason"], "invalid_value");
    assert_eq!(reply.header("x-tidegate-lsn").unwrap(), receipt["lsn"].to_string());
    let reply = server.send("POST", "/api/v1/write?db=d", &json, b"{");
    assert_eq!((reply.status, &reply.json()["accepted"]), (400, &0.into()));
    let lines = [("Content-Type", "text/plain")];
    let reply = server.send("POST", "/api/v1/write?db=d", &lines, b"w,s=b t=1\nbad");
    assert_eq!((reply.status, &reply.json()["rejected"][0]["line"]), (200, &2.into()));
    assert_eq!(server.post("/api/v1/write?db=d", b"{}").status, 415);
}

#[test]
fn an_export_shows_values_types_and_nanoseconds_as_they_were_sent() {
    let server = start(|_| {});
    let sent = "m,host=a\\ b b=true,d=21,i=-3i,s=\"a \\\"b\\\"\" 1700000000000000001\n\
                m,host=z d=0.5 1700000000000000002";
    assert_eq!(server.post("/write?db=d", sent.as_bytes()).status, 204);
    assert_eq!(
        exported(&server, "m"),
        [
            r#"{"measurement":"m","tags":{"host":"a b"},"fields":{"b":true,"d":21.0,"i":-3,"s":"a \"b\""},"timestamp":1700000000000000001,"version":1}"#,
            r#"{"measurement":"m","tags":{"host":"z"},"fields":{"d":0.5},"timestamp":1700000000000000002,"version":1}"#,
        ]
    );
    let export = "/api/v1/export?db=d&table=m";
    let lines = server.get(&format!("{export}&format=line")).text();
    assert_eq!(
        lines.lines().next(),
        Some(r#"m,host=a\ b b=true,d=21.0,i=-3i,s="a \"b\"" 1700000000000000001"#)
    );
    let csv = server.get(&format!("{export}&format=csv"));
    assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8"));
    assert_eq!(csv.text().lines().count(), 1 + 5);
    let file = server.get(&format!("{export}&format=parquet"));
    assert_eq!(file.header("content-type"), Some("application/vnd.apache.parquet"));
    assert!(file.body.starts_with(b"PAR1") && file.body.ends_with(b"PAR1"));
    let later = server.get(&format!("{export}&from=2023-11-14T22:13:20.000000002Z")).text();
    assert_eq!(later.lines().count(), 1);
    let earlier = server.get(&format!("{export}&to=1700000000000000002")).text();
    assert_eq!(earlier.lines().count(), 1);
    for (query, status) in [
        ("db=d&table=none", 404),
        ("db=d", 400),
        ("db=d&table=m&from=yesterday", 400),
        ("db=d&table=m&from=2&to=1", 400),
        ("db=d&table=m&format=xml", 400),
    ] {
        assert_eq!(server.get(&format!("/api/v1/export?{query}")).status, status, "{query}");
    }
}

/// Rows of a table that is larger than the buffers of both sockets, so that its export cannot end
/// while nobody reads.
const BIG_ROWS: usize = 300;

const BIG_EXPORT: &str = "/api/v1/export?db=d&table=big";

fn write_big_table(server: &Running) {
    let text = "x".repeat(60_000);
    let lines: Vec<String> =
        (0..BIG_ROWS).map(|n| format!("big,host=a s=\"{text}\" {n}\n")).collect();
    let body = gzip(lines.concat().as_bytes());
    let headers = [("Content-Encoding", "gzip"), ("X-Tidegate-Durability", "applied")];
    let reply = server.send("POST", "/write?db=d", &headers, &body);
    assert_eq!(reply.status, 204, "{}", reply.text());
}

#[test]
fn an_export_ends_when_its_reader_is_gone() {
    let server = start(|_| {});
    write_big_table(&server);
    // One more than run at once: each must end when its reader hangs up after the first bytes.
    for _ in 0..=EXPORTS_MAX {
        loop {
            let mut stream = server.connect();
            stream.write_all(&request("GET", BIG_EXPORT, &[], b"")).unwrap();
            let mut start = [0; 12];
            stream.read_exact(&mut start).unwrap();
            if &start == b"HTTP/1.1 200" {
                break;
            }
            // Those before have not noticed yet.
            assert_eq!(&start, b"HTTP/1.1 503");
        }
    }
    let whole = loop {
        let reply = server.get(BIG_EXPORT);
        if reply.status == 200 {
            break reply;
        }
        assert_eq!((reply.status, reply.header("retry-after")), (503, Some("5")));
    };
    assert_eq!(whole.text().lines().count(), BIG_ROWS);
}

#[test]
fn an_export_that_is_not_read_is_broken_off_so_that_it_cannot_pass_for_whole() {
    let server = start(|config| config.server.idle_timeout = Span::secs(1));
    write_big_table(&server);
    let mut stalled = server.connect();
    stalled.write_all(&request("GET", BIG_EXPORT, &[], b"")).unwrap();
    let mut all = vec![0; 12];
    stalled.read_exact(&mut all).unwrap();
    assert_eq!(all, b"HTTP/1.1 200");
    // The only connection left is the one that asks.
    while !server.get("/metrics").text().contains("\ntidegate_http_connections 1\n") {}
    // By an end or by an error; what matters is that the last chunk is missing.
    drop(stalled.read_to_end(&mut all));
    assert!(!all.ends_with(b"0\r\n\r\n"));
}

#[test]
fn whoever_is_not_known_is_refused_before_the_body_is_read() {
    let server = start(|config| {
        config.auth = toml::from_str(
            "[[tokens]]\nname = \"agent\"\ntoken = \"s3cret\"\nwrite = [\"d\"]\nread = [\"d\"]",
        )
        .unwrap();
    });
    // The body never comes, and the answer does.
    let head =
        "POST /api/v2/write?bucket=d HTTP/1.1\r\nHost: t\r\nContent-Length: 30000000\r\n\r\n";
    let reply = server.raw(head.as_bytes());
    assert_eq!(reply.status, 401);
    assert_eq!(reply.text(), r#"{"code":"unauthorized","message":"unauthorized access"}"#);
    assert!(reply.header("www-authenticate").is_some() && reply.header("request-id").is_some());
    let token = [("Authorization", "Token s3cret")];
    assert_eq!(server.send("POST", "/write?db=d", &token, LINE).status, 204);
    assert_eq!(server.post("/write?db=d&u=any&p=s3cret", LINE).status, 204);
    assert_eq!(server.send("POST", "/write?db=other", &token, LINE).status, 403);
    assert_eq!(server.send("GET", "/api/v1/export?db=other&table=m", &token, b"").status, 403);
    assert_eq!(server.get("/ping").status, 204);
    // A record that names a database of its own does not slip through.
    let headers = [token[0], ("Content-Type", "application/json")];
    let body =
        br#"{"db":"other","measurement":"m","tags":{"h":"a"},"fields":{"v":1},"timestamp":1}"#;
    let reply = server.send("POST", "/api/v1/write?db=d", &headers, body);
    assert_eq!((reply.status, &reply.json()["rejected"][0]["reason"]), (400, &"forbidden".into()));
}

#[test]
fn clients_that_stand_still_are_cut_off_and_idle_ones_are_not() {
    let server = start(|config| {
        config.server.header_timeout = Span::ms(200);
        config.server.body_grace = Span::ms(200);
        config.server.body_bytes_per_second_min = Bytes(1 << 20);
    });
    let mut idle = server.connect();
    let mut slow_header = server.connect();
    slow_header.write_all(b"POST /write?db=d HTT").unwrap();
    let mut rest = Vec::new();
    // Whether by an end or by an error: the connection is over, and nothing was answered.
    let ended = slow_header.read_to_end(&mut rest);
    assert!(rest.is_empty(), "{ended:?}");
    let slow_body = b"POST /write?db=d HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\ncpu";
    assert_eq!(server.raw(slow_body).status, 408);
    // Idle for longer than a header may take by now.
    idle.write_all(&request("POST", "/write?db=d", &[], LINE)).unwrap();
    assert_eq!(read_reply(&mut idle).status, 204);
}

/// Goal: memory for requests is bounded, and no agent drops its data for that. Method: one body that
/// never ends holds all of the memory there is.
#[test]
fn overload_ends_in_503_with_a_time_to_come_back_and_passes() {
    let server = start(|config| {
        config.server.body_bytes_max = Bytes::mib(1);
        config.server.inflated_bytes_max = Bytes::mib(1);
        config.ingest.memory_bytes_max = Bytes::mib(1);
        config.ingest.admit_wait = Span::ms(20);
    });
    let mut hog = server.connect();
    let head = "POST /write?db=d HTTP/1.1\r\nHost: t\r\nContent-Length: 1048576\r\n\r\ncpu,";
    hog.write_all(head.as_bytes()).unwrap();
    // Nobody else may ask for memory before the hog has all of it, or the hog is the one refused.
    while !server.get("/metrics").text().contains("\ntidegate_ingest_in_flight_bytes 1048576\n") {}
    for path in ["/write?db=d", "/api/v2/write?bucket=d", "/api/v3/write_lp?db=d"] {
        let busy = server.post(path, LINE);
        assert_eq!(busy.status, 503, "{path}");
        assert!(busy.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
        for word in ["partial write", "unable to parse"] {
            assert!(!busy.text().contains(word), "{}", busy.text());
        }
    }
    drop(hog);
    while server.post("/write?db=d", LINE).status != 204 {}
}

#[test]
fn a_request_with_two_lengths_cannot_hide_another_behind_it() {
    let server = start(|_| {});
    for lengths in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Content-Length: +5\r\n",
    ] {
        let mut stream = server.connect();
        let two = format!(
            "POST /write?db=d HTTP/1.1\r\nHost: t\r\n{lengths}\r\n0\r\n\r\nGET /ping?verbose=true HTTP/1.1\r\nHost: t\r\n\r\n"
        );
        stream.write_all(two.as_bytes()).unwrap();
        let mut all = Vec::new();
        // The connection may end by a reset, since the second request is never read.
        drop(stream.read_to_end(&mut all));
        let all = String::from_utf8(all).unwrap();
        assert_eq!(all.matches("HTTP/1.1 ").count(), 1, "{lengths}: {all}");
        assert!(!all.contains("version\":"), "{lengths}: {all}");
    }
}

#[test]
fn who_asks_first_is_told_to_send_and_who_need_not_send_is_told_at_once() {
    let server = start(|_| {});
    let mut stream = server.connect();
    let head = "POST /write?db=d HTTP/1.1\r\nHost: t\r\nContent-Length: 35\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(LINE).unwrap();
    assert_eq!(read_reply(&mut stream).status, 204);
    let too_much = head.replace("35", "99999999999");
    assert_eq!(server.raw(too_much.as_bytes()).status, 413);
    assert_eq!(server.raw(head.replace("db=d", "").as_bytes()).status, 400);
}

/// As `nc` does, and whatever else says by the end of its half that the request is whole. With `applied`
/// the answer comes long after that end was seen.
#[test]
fn who_closes_its_half_of_the_connection_is_answered() {
    let server = start(|_| {});
    for durability in ["sync", "applied"] {
        let mut stream = server.connect();
        let headers = [("X-Tidegate-Durability", durability)];
        stream.write_all(&request("POST", "/write?db=d", &headers, LINE)).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let reply = read_reply(&mut stream);
        assert_eq!((reply.status, reply.header("x-tidegate-durability")), (204, Some(durability)));
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "the connection ends with the answer");
    }
}

#[test]
fn one_connection_too_many_waits_for_its_turn() {
    let server = start(|config| config.server.connections_max = 1);
    let mut first = server.connect();
    let ping = b"GET /ping HTTP/1.1\r\nHost: t\r\n\r\n";
    first.write_all(ping).unwrap();
    assert_eq!(read_reply(&mut first).status, 204);
    let mut second = server.connect();
    second.write_all(ping).unwrap();
    second.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    assert!(second.read(&mut [0]).is_err(), "not served while the first is open");
    drop(first);
    second.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    assert_eq!(read_reply(&mut second).status, 204);
}

#[test]
fn a_stop_answers_what_was_begun_and_accepts_nothing_more() {
    let server = start(|_| {});
    let addr = server.addr();
    let mut idle = server.connect();
    let mut begun = server.connect();
    let whole = request("POST", "/write?db=d", &[], LINE);
    let (head, tail) = whole.split_at(whole.len() - 5);
    begun.write_all(head).unwrap();
    // Answered on another connection, so the first has been accepted.
    assert_eq!(server.get("/ping").status, 204);
    let sender = std::sync::mpsc::channel();
    #[expect(clippy::disallowed_methods, reason = "the stop waits, and the test goes on")]
    let stopping = std::thread::spawn(move || {
        sender.0.send(()).unwrap();
        server.server.stop();
    });
    sender.1.recv().unwrap();
    // The idle connection is closed as soon as the stop has begun.
    assert_eq!(idle.read(&mut [0]).unwrap(), 0);
    begun.write_all(tail).unwrap();
    assert_eq!(read_reply(&mut begun).status, 204);
    stopping.join().unwrap();
    assert!(std::net::TcpStream::connect(addr).is_err());
}

#[test]
fn each_statement_of_a_query_has_a_result_and_what_is_not_understood_executes_none() {
    let server = start(|_| {});
    let ask = |text: &str| {
        let form = [("Content-Type", "application/x-www-form-urlencoded")];
        let reply = server.send("POST", "/query", &form, format!("q={text}").as_bytes());
        (reply.status, reply.json())
    };
    let databases = || ask("SHOW DATABASES").1["results"][0]["series"][0]["values"].clone();
    let (status, answer) = ask("CREATE DATABASE a; CREATE DATABASE \"b;c\";SHOW DATABASES");
    let results = answer["results"].as_array().unwrap();
    assert_eq!((status, results.len()), (200, 3), "{answer}");
    assert_eq!(results[..2], [json!({ "statement_id": 0 }), json!({ "statement_id": 1 })]);
    assert_eq!(results[2]["statement_id"], 2);
    assert_eq!(results[2]["series"][0]["values"], json!([["a"], ["b;c"]]));
    for text in [
        "DROP DATABASE a; SELECT 1",
        "DROP DATABASE a; DROP MEASUREMENT m",
        "DROP DATABASE a; DROP DATABASE _datazone",
        "CREATE DATABASE d WITH DURATION 1h",
        "CREATE DATABASE d e",
    ] {
        let (status, answer) = ask(text);
        assert!(matches!(status, 400 | 403) && answer["error"].is_string(), "{text}: {answer}");
        assert_eq!(databases(), json!([["a"], ["b;c"]]), "{text}");
    }
    // Found only when it is executed: there is no database of that name.
    let text = "DROP+DATABASE+a;DROP+MEASUREMENT+m;CREATE+DATABASE+e";
    let reply = server.send("POST", &format!("/query?db=none&q={text}"), &[], b"");
    let results = &reply.json()["results"];
    assert_eq!((reply.status, &results[0]), (200, &json!({ "statement_id": 0 })));
    assert!(results[1]["error"].as_str().unwrap().contains("none"), "{results}");
    assert_eq!(results[2], json!({ "statement_id": 2, "error": "not executed" }));
    assert_eq!(databases(), json!([["b;c"]]));
}

#[test]
fn what_clients_ask_on_connecting_is_answered() {
    let server = start(|_| {});
    let created = server.get("/query?q=CREATE+DATABASE+%22d%22");
    // As InfluxDB 1 does: a change by GET is made, with a warning; by POST without one.
    let warning = "deprecated use of 'CREATE DATABASE d' in a read only context, please use a POST \
                   request instead";
    let result = json!({
        "statement_id": 0, "messages": [{ "level": "warning", "text": warning }]
    });
    let expected = json!({ "results": [result] });
    assert_eq!((created.status, created.json()), (200, expected));
    let posted = server.send("POST", "/query?q=CREATE+DATABASE+%22d%22", &[], b"");
    assert_eq!((posted.status, posted.text()), (200, r#"{"results":[{"statement_id":0}]}"#.into()));
    assert_eq!(server.post("/write?db=d", LINE).status, 204);
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let shown = server.send("POST", "/query", &form, b"q=SHOW+DATABASES");
    assert_eq!(shown.json()["results"][0]["series"][0]["values"], json!([["d"]]));
    let other = server.get("/query?q=SELECT+1");
    assert_eq!(other.status, 400);
    assert!(other.json()["error"].as_str().unwrap().contains("/api/v1/export"));
    assert_eq!(server.get("/ready").status, 200);
    assert_eq!(server.get("/ping?verbose=true").status, 200);
    let metrics = server.get("/metrics").text();
    assert!(metrics.contains(r#"tidegate_http_requests_total{code="204",endpoint="write_v1"} 1"#));
    let wrong = server.send("PUT", "/write", &[], b"");
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("OPTIONS, POST")));
    assert!(server.get("/").text().contains("/api/v1/export"));
}

#[test]
fn a_head_that_cannot_be_read_is_answered_without_a_body() {
    let server = start(|_| {});
    let many = "x: a\r\n".repeat(120);
    let long = format!("x: {}\r\n", "a".repeat(40_000));
    for (head, status) in [
        (format!("GET /ping HTTP/1.1\r\nHost: t\r\n{many}\r\n"), 431),
        (format!("GET /ping HTTP/1.1\r\nHost: t\r\n{long}\r\n"), 431),
        ("nonsense\r\n\r\n".to_owned(), 400),
    ] {
        let reply = server.raw(head.as_bytes());
        assert_eq!(
            (reply.status, reply.body.len()),
            (status, 0),
            "{}",
            &head[..20.min(head.len())]
        );
        assert_eq!((reply.header("connection"), reply.header("request-id")), (Some("close"), None));
    }
}
