//! What breaks between gateway and server while records flow in.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tidegate::base::clock::{Clock, SystemClock};

use crate::common::gateway::{Gateway, Place};
use crate::common::random::Random;
use crate::common::rows::Rows;
use crate::common::{tell, wait_for};
use crate::proxy::{Commits, Proxy};
use crate::server::Server;
use crate::traffic::{DATABASE, Levels, Writer};

/// Lives of a gateway unless the environment says otherwise.
const CYCLES: u64 = 8;

const WRITERS: usize = 4;

/// Longest time until a gateway has caught up, on a busy machine.
const CAUGHT_UP_MAX: Duration = Duration::from_mins(2);

const LEVELS: Levels = &[
    None,
    None,
    None,
    None,
    None,
    Some("sync"),
    Some("interval"),
    Some("memory"),
    Some("applied"),
];

/// Settings of a gateway whose server is at `address`.
pub(crate) fn settings(address: std::net::SocketAddr, shards: u64) -> String {
    format!(
        r#"
        [ingest]
        version = "_version"

        [shards]
        count = {shards}

        [wal]
        segment_bytes = "49 MiB"
        bytes_max = "245 MiB"
        sync_interval = "20ms"

        [engine]
        kind = "postgres"

        [engine.postgres]
        host = "{}"
        port = {}
        connect_timeout = "1s"
        statement_timeout = "5s"
        lock_timeout = "1s"
        idle_timeout = "2s"
        "#,
        address.ip(),
        address.port()
    )
}

/// What breaks while the load goes on.
fn break_something(random: &mut Random, proxy: &Proxy, server: &mut Server) {
    let clock = SystemClock::new();
    let pause = |random: &mut Random| clock.sleep(Duration::from_millis(random.within(50..400)));
    match random.below(6) {
        0 => proxy.cut(),
        1 => proxy.on_commit(Commits::CutBefore, 3),
        2 => proxy.on_commit(Commits::CutBehind, 3),
        3 => {
            server.stop();
            pause(random);
            server.start();
        }
        4 => {
            proxy.slow(Duration::from_millis(random.within(50..2_000)));
            pause(random);
            pause(random);
            proxy.slow(Duration::ZERO);
        }
        _ => {
            proxy.open(false);
            pause(random);
            proxy.open(true);
        }
    }
    pause(random);
}

/// Acknowledged records are there once and as they were sent, whatever breaks and however often; what is
/// in the reject sink was sent to end there.
#[test]
fn what_was_acknowledged_is_in_the_database_once_whatever_breaks() {
    let seed = Random::seed_from("TIDEGATE_PG_SEED");
    let given = std::env::var("TIDEGATE_PG_CYCLES").ok();
    let cycles = given.map_or(CYCLES, |text| text.parse().expect("TIDEGATE_PG_CYCLES is a number"));
    tell(format!("postgres: {cycles} cycles, TIDEGATE_PG_SEED={seed}"));
    let mut random = Random::new(seed);
    let mut server = Server::new();
    let proxy = Proxy::new(server.address());
    let place = Place::new(&settings(proxy.address, 2));
    let parts = (0..WRITERS as u64).map(|at| random.part(at));
    let mut writers: Vec<Writer> =
        parts.enumerate().map(|(at, part)| Writer::new(at, 1, LEVELS, part)).collect();
    let acknowledged = AtomicU64::new(0);
    let mut undone = 0.0;
    for cycle in 0..cycles {
        place.configure(&settings(proxy.address, random.within(1..4)));
        let gateway = place.start();
        std::thread::scope(|scope| {
            let address = gateway.address;
            for writer in &mut writers {
                let acknowledged = &acknowledged;
                scope.spawn(move || writer.run(address, acknowledged));
            }
            for _ in 0..random.within(2..6) {
                break_something(&mut random, &proxy, &mut server);
            }
            undone += gateway.metric("tidegate_engine_remote_undone_turns_total");
            gateway.kill();
        });
        proxy.on_commit(Commits::Pass, 0);
        let gateway = place.start();
        gateway.settle();
        let wrong = check(&gateway, &mut writers);
        assert!(wrong.is_empty(), "cycle {cycle}, seed {seed}:\n{}", wrong.join("\n"));
        gateway.kill();
    }
    let sent = |text: &str| writers.iter().any(|writer| writer.ledger.sent_conflict(text));
    let reported = crate::gateways::reported(&place);
    let invented: Vec<&String> = reported.keys().filter(|text| !sent(text)).collect();
    assert!(invented.is_empty(), "rejected, but nobody sent it to be: {invented:?}");
    let wrong: Vec<String> =
        writers.iter().flat_map(|writer| writer.ledger.settle_conflicts(&reported)).collect();
    assert!(wrong.is_empty(), "seed {seed}:\n{}", wrong.join("\n"));
    let acknowledged = acknowledged.into_inner();
    tell(format!(
        "postgres: {acknowledged} requests acknowledged, {undone} turns undone, {} COMMITs cut, {} \
         conflicts reported",
        proxy.commits_cut(),
        reported.len()
    ));
    assert!(acknowledged > 10 * cycles, "the load was too small to prove anything");
    assert!(undone > 0.0, "nothing broke in the middle of a turn");
}

/// Compares the tables with what the writers know.
fn check(gateway: &Gateway, writers: &mut [Writer]) -> Vec<String> {
    let mut by_writer: HashMap<String, Rows> = HashMap::new();
    for table in ["fleet_1", "bulk_1"] {
        for (key, row) in gateway.export(DATABASE, table) {
            let writer = key.tags.get("writer").cloned().unwrap_or_default();
            by_writer.entry(writer).or_default().insert(key, row);
        }
    }
    let mut wrong = Vec::new();
    for writer in writers {
        let found = by_writer.remove(&writer.name).unwrap_or_default();
        wrong.extend(writer.ledger.settle(&found));
    }
    wrong.extend(by_writer.into_keys().map(|name| format!("nobody is {name:?}")));
    wrong
}

/// One COMMIT after another is cut before the server gets it, and behind it: each row is there once, and
/// nothing is rejected as if it had been sent twice.
#[test]
fn a_lost_commit_is_neither_lost_nor_done_twice() {
    let server = Server::new();
    let proxy = Proxy::new(server.address());
    let place = Place::new(&settings(proxy.address, 1));
    let gateway = place.start();
    gateway.write("d", "t,host=a v=0i 1");
    gateway.settle();
    for (what, line) in
        [(Commits::CutBefore, "t,host=a v=1i 2"), (Commits::CutBehind, "t,host=a v=2i 3")]
    {
        let before = proxy.commits_cut();
        proxy.on_commit(what, 2);
        gateway.write("d", line);
        gateway.settle();
        assert_eq!(proxy.commits_cut(), before + 2, "{what:?}");
    }
    assert_eq!(gateway.export("d", "t").len(), 3);
    assert_eq!(server.sql("SELECT sum(writes) FROM d.t"), "0", "no row was written twice");
    gateway.stop();
    assert!(place.files("rejects", ".json").is_empty());
}

/// The gateway takes and acknowledges records while its database is away, from its very start.
#[test]
fn a_database_that_is_away_at_the_start_is_waited_for() {
    let mut server = Server::new();
    let place = Place::new(&settings(server.address(), 2));
    server.stop();
    let gateway = place.start();
    for at in 0..50 {
        gateway.write("d", &format!("t,host=h{at} v={at}i 1"));
    }
    let health = gateway.client().get("/health").expect("an answer").text();
    assert!(health.contains("PostgreSQL 127.0.0.1") && health.contains(" since "), "{health}");
    // Killed and started again, still away: the log has it all.
    gateway.kill();
    let (mut child, log) = place.spawn();
    let address = wait_for("the server to listen", CAUGHT_UP_MAX, || {
        crate::common::gateway::address_in(&log)
    });
    let mut client = crate::common::client::Client::new(address);
    assert_eq!(client.get("/ready").expect("an answer").status, 503, "frames wait");
    let reply = client.post("/write?db=d", &[], b"t,host=late v=1i 1").expect("an answer");
    assert_eq!(reply.status, 204, "{}", reply.text());
    server.start();
    wait_for("the gateway to catch up", CAUGHT_UP_MAX, || {
        client.get("/ready").ok().filter(|reply| reply.status == 200)
    });
    wait_for("the late record", CAUGHT_UP_MAX, || {
        let count = server.sql("SELECT count(*) FROM d.t");
        (count == "51").then_some(())
    });
    let health = client.get("/health").expect("an answer").text();
    assert!(!health.contains(" since "), "{health}");
    crate::common::gateway::kill(&mut child);
}

/// A database without the marks that the log counts on, and one with marks beyond the log's end.
#[test]
fn a_database_that_is_not_the_logs_refuses_the_start() {
    let server = Server::new();
    let place = Place::new(&settings(server.address(), 2));
    let gateway = place.start();
    gateway.write("d", "t,host=a v=1i 1");
    gateway.settle();
    gateway.stop();
    server.sql("ALTER SCHEMA tidegate RENAME TO away");
    let refused = place.run("serve", &["--listen", "127.0.0.1:0"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("has no marks of this gateway"), "{text}");
    server.sql("DROP SCHEMA tidegate CASCADE; ALTER SCHEMA away RENAME TO tidegate");
    place.start().stop();
    server.sql("UPDATE tidegate.marks SET lsn = 1000000");
    let refused = place.run("serve", &["--listen", "127.0.0.1:0"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("1000000"), "{text}");
}

/// Two processes with one gateway's name: the first finds out and writes nothing more.
#[test]
fn whoever_was_taken_over_writes_nothing_more() {
    let server = Server::new();
    let place = Place::new(&settings(server.address(), 1));
    let mut gateway = place.start();
    gateway.write("d", "t,host=a v=1i 1");
    gateway.settle();
    server.sql("UPDATE tidegate.gateways SET epoch = epoch + 1; UPDATE tidegate.marks SET epoch = epoch + 1");
    let late = gateway.client().post("/write?db=d", &[], b"t,host=b v=1i 1");
    assert_eq!(late.expect("an answer").status, 204, "the log takes it");
    assert!(!gateway.wait_end(CAUGHT_UP_MAX).success());
    assert_eq!(server.sql("SELECT count(*) FROM d.t"), "1");
    // The next start takes over in turn, and has what was acknowledged.
    let gateway = place.start();
    gateway.settle();
    assert_eq!(gateway.export("d", "t").len(), 2);
}

/// `require` encrypts; `verify-full` knows whose server it is, and refuses another's.
#[test]
fn a_connection_is_as_protected_as_it_was_asked_for() {
    let mut server = Server::new();
    let plain = settings(server.address(), 1);
    let place = Place::new("");
    server.encrypt();
    let (ca, other) = (server.certificate("server.crt"), server.certificate("other.crt"));
    let host_by_name = plain.replace("host = \"127.0.0.1\"", "host = \"localhost\"");
    let with = |settings: &str, mode: &str, ca: &str| {
        let ca = if ca.is_empty() { String::new() } else { format!("ca_file = \"{ca}\"\n") };
        format!("{settings}\nsslmode = \"{mode}\"\n{ca}")
    };
    for (settings, is_served) in [
        (plain.clone(), false),
        (with(&plain, "require", ""), true),
        (with(&plain, "require", &ca), true),
        (with(&plain, "require", &other), false),
        (with(&host_by_name, "verify-full", &ca), true),
        (with(&plain, "verify-full", &ca), false),
        (with(&host_by_name, "verify-full", &other), false),
        (with(&host_by_name, "verify-full", ""), false),
    ] {
        place.configure(&settings);
        let gateway = place.start();
        let health = gateway.client().get("/health").expect("an answer").text();
        assert_eq!(health.contains(" since "), !is_served, "{settings}\n{health}");
        gateway.kill();
    }
}
