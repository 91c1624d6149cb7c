//! What a query string asks and an endpoint of our own has not is refused, so that no slip puts records where
//! nobody looks for them; those of `InfluxDB` pass over it, as `InfluxDB` does.

use super::http_support::{Reply, Running, start};

const JSON: &[u8] = br#"{"measurement":"m","tags":{"s":"a"},"fields":{"v":1},"timestamp":1}"#;
const LINE: &[u8] = b"m,s=a v=1i 1";

/// An endpoint, how it is asked rightly, and what it has beside that.
struct Case {
    method: &'static str,
    path: &'static str,
    right: &'static str,
    known: &'static [&'static str],
    content: Option<(&'static str, &'static [u8])>,
}

const OURS: [Case; 4] = [
    Case {
        method: "POST",
        path: "/api/v1/write",
        right: "db=d",
        known: &["db", "table", "precision", "accept_partial"],
        content: Some(("application/json", JSON)),
    },
    Case {
        method: "POST",
        path: "/api/v1/write",
        right: "db=d",
        known: &["db", "table", "precision", "accept_partial"],
        content: Some(("text/plain", LINE)),
    },
    Case {
        method: "GET",
        path: "/api/v1/export",
        right: "db=d&table=m",
        known: &["db", "table", "from", "to", "format"],
        content: None,
    },
    Case { method: "GET", path: "/api/v1/status", right: "", known: &[], content: None },
];

/// A known name with its last two letters swapped, or one more: as it is written in haste.
fn slips(name: &str) -> [String; 2] {
    let mut letters: Vec<char> = name.chars().collect();
    let last = letters.len() - 1;
    letters.swap(last - 1, last);
    [letters.into_iter().collect(), format!("{name}s")]
}

fn ask(server: &Running, case: &Case, query: &str) -> Reply {
    let target = format!("{}?{query}", case.path);
    match case.content {
        None => server.send(case.method, &target, &[], b""),
        Some((kind, body)) => server.send(case.method, &target, &[("Content-Type", kind)], body),
    }
}

#[test]
fn what_our_own_endpoints_have_not_is_refused_with_what_they_have() {
    let server = start(|_| {});
    let first = server.post("/api/v1/write?db=d", LINE);
    assert_eq!(first.status, 415, "no content type, nothing stored yet");
    let mut count = 0;
    for case in &OURS {
        let told = format!("{} {}", case.method, case.path);
        let wrong: Vec<String> = case.known.iter().flat_map(|name| slips(name)).collect();
        for name in wrong.iter().map(String::as_str).chain(["database", "bucket", "TABLE", "x"]) {
            let reply = ask(&server, case, &format!("{}&{name}=s3cret", case.right));
            let said = reply.text();
            assert_eq!(reply.status, 400, "{told} {name}: {said}");
            assert!(said.contains(&format!("there is no parameter \\\"{name}\\\" here")), "{said}");
            assert!(case.known.iter().all(|known| said.contains(known)), "{told} {name}: {said}");
            assert!(!said.contains("s3cret"), "{said}");
            count += 1;
        }
        for pair in case.right.split('&').filter(|pair| !pair.is_empty()) {
            let reply = ask(&server, case, &format!("{}&{pair}x", case.right));
            assert_eq!(reply.status, 400, "{told}: of two one would be passed over");
            assert!(reply.text().contains("comes twice: send one"), "{}", reply.text());
        }
        if case.path == "/api/v1/write" {
            let stored = server.get("/api/v1/export?db=d&table=m");
            assert_eq!(stored.status, 404, "{told}: nothing of what was refused is stored");
        }
    }
    assert!(count > 30, "{count}");
    // And what they have is taken, with who somebody is beside it.
    for case in &OURS {
        let reply = ask(&server, case, &format!("{}&u=me&p=s3cret", case.right));
        assert_eq!(reply.status, 200, "{} {}: {}", case.method, case.path, reply.text());
    }
}

#[test]
fn what_the_endpoints_of_influxdb_have_not_is_passed_over_as_there() {
    let server = start(|_| {});
    for path in ["/write?db=d", "/api/v2/write?bucket=d", "/api/v3/write_lp?db=d"] {
        let reply = server.post(&format!("{path}&unheard=of&orgID=1"), LINE);
        assert_eq!(reply.status, 204, "{path}: {}", reply.text());
    }
}
