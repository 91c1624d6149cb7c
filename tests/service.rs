//! Promise: the server is a good service: SIGHUP reads its settings again or changes nothing, SIGTERM
//! ends it in a bounded time without losing what was acknowledged, a service manager hears how it is,
//! and the unit for systemd that comes with it is sound and hardened.
#![expect(clippy::panic, reason = "helpers of tests")]

#[path = "common/mod.rs"]
mod common;
#[path = "service/live.rs"]
mod live;

use std::collections::HashSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tidegate::base::clock::{Clock as _, SystemClock, machine_monotonic};
use tidegate::config::Config;

use common::gateway::{Gateway, Place, without_settings};
use common::volume::run;
use common::{tell, wait_for};

const LONG: Duration = Duration::from_mins(1);

/// Highest exposure that `systemd-analyze security` may find, in tenths: 0 is none, 10 all.
const EXPOSURE_TENTHS_MAX: u32 = 15;

fn write_as(server: &Gateway, token: &str, body: &[u8]) -> u16 {
    let token = format!("Token {token}");
    let headers = [("Authorization", token.as_str())];
    server.client().post("/write?db=d", &headers, body).expect("it is answered").status
}

fn settings(token: &str, more: &str) -> String {
    format!("{more}\n[[auth.tokens]]\nname = \"t\"\ntoken = \"{token}\"\nwrite = [\"d\"]\n")
}

/// Reads the settings again, and waits until that went as `counter` says.
fn reload(server: &Gateway, counter: &str) {
    let before = server.metric(counter);
    server.signal(Signal::HUP);
    wait_for(counter, LONG, || (server.metric(counter) > before).then_some(()));
}

const RELOADS: &str = "tidegate_server_reloads_total";
const FAILURES: &str = "tidegate_server_reload_failures_total";

#[test]
fn a_reload_applies_what_it_can_and_names_what_waits_for_a_restart() {
    let place = Place::new(&settings("first-token", ""));
    let server = place.start();
    let line = b"m,s=a v=1 1";
    assert_eq!(write_as(&server, "first-token", line), 204);
    let more = "[server]\nbody_bytes_max = \"1 KiB\"\nconnections_max = 77\n\
                [wal]\nbytes_max = \"4 GiB\"\n[log]\nlevel = \"debug\"";
    place.configure(&settings("second-token", more));
    reload(&server, RELOADS);
    assert_eq!(write_as(&server, "first-token", line), 401);
    assert_eq!(write_as(&server, "second-token", line), 204);
    assert_eq!(write_as(&server, "second-token", &vec![b'#'; 2000]), 413);
    let said = server.log().text();
    let (_, told) = said.split_once("settings reloaded").expect("the reload is logged");
    let told = told.lines().next().expect("a line");
    let waiting = "needs_restart=\"server.connections_max, wal.bytes_max\"";
    assert!(told.contains(waiting), "{told}");
    for applied in ["auth", "log.level", "server.body_bytes_max"] {
        assert!(told.contains(applied), "{told}");
    }
    assert!(said.contains("DEBUG"), "the level holds at once");
    assert!(!said.contains("-token"), "no secret is logged");
    server.stop();
}

#[test]
fn settings_that_cannot_be_used_change_nothing_and_are_counted() {
    let place = Place::new(&settings("first-token", ""));
    let server = place.start();
    for (bad, told) in [
        ("[server\n".to_owned(), "line"),
        ("[[auth.tokens]]\nname = \"t\"\ntoken = \"second-token\nwrite = []".to_owned(), "secret"),
        ("auth = { tokens = \"second-token\" }".to_owned(), "secret"),
        (settings("second-token", "[server]\nbody_bytes_mx = 1"), "body_bytes_mx"),
        (settings("second-token", "[server]\nidle_timeout = \"1ms\""), "server.idle_timeout"),
        (settings("second-token", "[log]\nlevel = \"a=b=c\""), "log.level"),
        (settings("", ""), "is empty"),
        (settings("second-token", "[server.tls]\ncert_file = \"gone.pem\""), "server.tls"),
        // Sound by itself, but the memory for it comes with the restart only.
        (
            settings(
                "second-token",
                "[server]\ninflated_bytes_max = \"512 MiB\"\n[ingest]\nmemory_bytes_max = \"1 GiB\"",
            ),
            "before a restart",
        ),
    ] {
        place.configure(&bad);
        let said = server.log().text().len();
        reload(&server, FAILURES);
        assert_eq!(write_as(&server, "first-token", b"m,s=a v=1 1"), 204, "{bad}");
        assert_eq!(write_as(&server, "second-token", b"m,s=a v=1 1"), 401, "{bad}");
        let said = server.log().text().split_off(said);
        assert!(said.contains("WARN") && said.contains(told), "{bad}: {said}");
        assert!(!said.contains("second-token"), "a secret is logged: {said}");
    }
    fs::remove_file(place.file("config.toml")).expect("it is there");
    reload(&server, FAILURES);
    place.configure(&settings("second-token", ""));
    reload(&server, RELOADS);
    assert_eq!(write_as(&server, "second-token", b"m,s=a v=1 1"), 204, "a good one is taken again");
    server.stop();
}

/// Goal: who protects a server by a file that it finds by itself is not left open by its loss. Method: a
/// server that was started in the file's folder, without a word of it.
#[test]
fn settings_that_were_found_and_are_gone_are_missed() {
    let place = Place::new(&settings("first-token", ""));
    let log = place.file("found.log");
    let mut found = Command::new(place.command("serve").get_program());
    without_settings(&mut found);
    let child = found
        .current_dir(place.file("."))
        .args(["serve", "--listen", "127.0.0.1:0"])
        .stderr(fs::File::create(&log).expect("it can be made"))
        .spawn()
        .expect("the binary starts");
    let server = Gateway::listening((child, log));
    fs::remove_file(place.file("config.toml")).expect("it is there");
    reload(&server, FAILURES);
    let reply = server.client().post("/write?db=d", &[], b"m,s=a v=1 1").expect("it is answered");
    assert_eq!(reply.status, 401, "nobody is let in without a token");
    server.stop();
}

/// Writes records one after another, each by its own request, until nobody answers.
fn load(server: &Gateway, acknowledged: &Mutex<HashSet<i64>>, first: i64, is_over: &AtomicBool) {
    let mut client = server.client();
    for time_ns in first.. {
        let line = format!("m,s=a v={time_ns}i {time_ns}");
        match client.post("/write?db=d", &[], line.as_bytes()) {
            Ok(reply) if reply.status == 204 => {
                acknowledged.lock().expect("nobody panicked").insert(time_ns);
            }
            // Not acknowledged, so nothing is promised.
            Ok(_) | Err(_) if is_over.load(Ordering::Relaxed) => return,
            Ok(reply) => assert_eq!(reply.status, 503, "{}", reply.text()),
            Err(_broken) => {}
        }
    }
}

#[test]
fn a_stop_under_load_ends_well_in_time_and_loses_nothing_that_was_acknowledged() {
    const CONNECTIONS: i64 = 8;
    const BEFORE: usize = 400;
    let place = Place::new("[server]\ndrain_timeout = \"5s\"\nstop_timeout = \"20s\"");
    let mut server = place.start();
    let acknowledged = Mutex::new(HashSet::new());
    let is_over = AtomicBool::new(false);
    let clock = SystemClock::new();
    let mut took = Duration::ZERO;
    std::thread::scope(|scope| {
        let shared = &server;
        let (acknowledged, is_over) = (&acknowledged, &is_over);
        for connection in 0..CONNECTIONS {
            scope.spawn(move || load(shared, acknowledged, connection << 40, is_over));
        }
        wait_for("writes to be under way", LONG, || {
            (acknowledged.lock().expect("nobody panicked").len() > BEFORE).then_some(())
        });
        let began = clock.monotonic();
        is_over.store(true, Ordering::Relaxed);
        server.signal(Signal::TERM);
        wait_for("the server to say so", LONG, || {
            (server.log().count("stopped") > 0).then_some(())
        });
        took = clock.monotonic().checked_sub(began).expect("time goes on");
    });
    assert!(server.wait_end(LONG).success());
    assert!(took < Duration::from_secs(20), "it took {took:?}");
    let rows = place.exported("d", "m");
    let found: HashSet<i64> = rows.keys().map(|key| key.time_ns).collect();
    let acknowledged = acknowledged.into_inner().expect("nobody panicked");
    let lost: Vec<&i64> = acknowledged.difference(&found).collect();
    tell(format!(
        "stop under load: {} acknowledged, {} lost, {took:?}",
        acknowledged.len(),
        lost.len()
    ));
    assert!(acknowledged.len() > BEFORE && lost.is_empty(), "{lost:?}");
}

/// A connection whose request never ends.
fn held(server: &Gateway) -> TcpStream {
    let mut held = TcpStream::connect(server.address).expect("it listens");
    let begun = "POST /write?db=d HTTP/1.1\r\nHost: t\r\nContent-Length: 1000000\r\n\r\nm,s=";
    held.write_all(begun.as_bytes()).expect("it is open");
    wait_for("the request to be seen", LONG, || {
        (server.metric("tidegate_http_requests_in_flight") > 1.0).then_some(())
    });
    held
}

/// A repeat within a second, as GNU `timeout` sends one, is no second signal.
#[test]
fn a_second_signal_ends_the_stop_at_once_and_the_next_start_replays() {
    let settings = "[server]\ndrain_timeout = \"10min\"\nstop_timeout = \"1h\"\nbody_timeout = \"1h\"\n\
                    body_bytes_per_second_min = \"0 B\"";
    let place = Place::new(settings);
    for second in [Signal::TERM, Signal::INT] {
        let mut server = place.start();
        server.write("d", &format!("m,s=a v=1i {}", second.as_raw()));
        let _held = held(&server);
        let clock = SystemClock::new();
        server.signal(Signal::TERM);
        wait_for("the drain", LONG, || {
            (server.log().count("draining connections") > 0).then_some(())
        });
        server.signal(second);
        let repeated = clock.monotonic();
        wait_for("a second to be over", LONG, || {
            (clock.monotonic() > repeated + Duration::from_secs(1)).then_some(())
        });
        // On a machine that is so busy that the repeat came late it was none.
        assert!(server.runs() || repeated >= Duration::from_secs(1), "it waits for the request");
        let begun = clock.monotonic();
        server.signal(second);
        assert_eq!(server.wait_end(LONG).code(), Some(0));
        let took = clock.monotonic().checked_sub(begun).expect("time goes on");
        tell(format!("second signal: ended after {took:?}"));
        assert!(took < Duration::from_secs(5));
        assert_eq!(server.log().count("a second SIG"), 1);
    }
    let server = place.start();
    assert_eq!(server.export("d", "m").len(), 2);
    server.stop();
}

/// What GNU `timeout` does: one to the process, one to its group, where it is once more.
#[test]
fn two_signals_at_once_are_one_and_what_is_under_way_is_answered() {
    const BODY: &[u8] = b"m,s=a v=1i 1\n";
    let place = Place::new("");
    for gap_ms in [0, 1, 5, 20, 100] {
        let mut server = place.start();
        let mut client = TcpStream::connect(server.address).expect("it listens");
        let length = BODY.len();
        let head = format!(
            "POST /write?db=d HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        client.write_all(head.as_bytes()).expect("it is open");
        wait_for("the request to be seen", LONG, || {
            (server.metric("tidegate_http_requests_in_flight") > 1.0).then_some(())
        });
        server.signal(Signal::TERM);
        let clock = SystemClock::new();
        clock.sleep(Duration::from_millis(gap_ms));
        server.signal(Signal::TERM);
        wait_for("the drain", LONG, || {
            (server.log().count("draining connections") > 0).then_some(())
        });
        client.write_all(BODY).expect("it is open");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("it is answered");
        assert!(answer.starts_with("HTTP/1.1 204 "), "{gap_ms} ms: {answer:?}");
        assert_eq!(server.wait_end(LONG).code(), Some(0));
        assert_eq!(server.log().count("ending at once"), 0, "{gap_ms} ms");
    }
    assert_eq!(place.exported("d", "m").len(), 1);
}

#[test]
fn a_stop_that_is_held_up_ends_in_its_time() {
    let settings = "[server]\ndrain_timeout = \"1s\"\nstop_timeout = \"1s\"\nbody_timeout = \"1h\"\n\
                    body_bytes_per_second_min = \"0 B\"";
    let place = Place::new(settings);
    let mut server = place.start();
    server.write("d", "m,s=a v=1i 1");
    let _held = held(&server);
    let clock = SystemClock::new();
    server.signal(Signal::TERM);
    assert_eq!(server.wait_end(LONG).code(), Some(0));
    assert!(clock.monotonic() >= Duration::from_secs(1), "the request had its time");
    assert!(clock.monotonic() < Duration::from_secs(5), "it took {:?}", clock.monotonic());
    assert_eq!(place.start().export("d", "m").len(), 1);
}

/// What the service manager would hear.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    heard: Vec<String>,
}

impl Manager {
    fn new(place: &Place) -> Self {
        let path = place.file("notify");
        let socket = UnixDatagram::bind(&path).expect("the folder can be written");
        socket.set_read_timeout(Some(LONG)).expect("it is a socket");
        Self { socket, path, heard: Vec::new() }
    }

    /// Listens until a message has `line`.
    fn hear(&mut self, line: &str) -> String {
        loop {
            let mut buffer = [0; 512];
            let length = self.socket.recv(&mut buffer);
            let length =
                length.unwrap_or_else(|error| panic!("{error}: {line} after {:?}", self.heard));
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            self.heard.push(message.clone());
            if message.lines().any(|said| said.starts_with(line)) {
                return message;
            }
        }
    }
}

#[test]
fn a_service_manager_hears_of_recovery_readiness_reloads_watchdog_and_stop() {
    let place = Place::new("");
    let mut manager = Manager::new(&place);
    let socket = manager.path.display().to_string();
    let variables = [("NOTIFY_SOCKET", socket.as_str()), ("WATCHDOG_USEC", "400000")];
    let mut server = Gateway::listening(place.spawn_with(&variables));
    assert_eq!(manager.hear("STATUS="), "STATUS=recovering the log");
    let ready = manager.hear("READY=1");
    assert!(ready.contains(&format!("STATUS=serving on {}", server.address)), "{ready}");
    assert_eq!(server.client().get("/ready").expect("an answer").status, 200);
    for _ in 0..3 {
        manager.hear("WATCHDOG=1");
    }
    let before = machine_monotonic().as_micros();
    server.signal(Signal::HUP);
    let reloading = manager.hear("RELOADING=1");
    let usec = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    let usec: u128 = usec.expect("it is asked for").parse().expect("a number");
    assert!(before <= usec && usec <= machine_monotonic().as_micros());
    manager.hear("READY=1");
    server.signal(Signal::TERM);
    manager.hear("STOPPING=1");
    assert!(server.wait_end(LONG).success());
}

/// The database that would take the records is away, so the replay stands still.
#[test]
fn a_service_manager_hears_how_far_a_replay_is_and_is_not_told_that_it_is_over() {
    let settings =
        "[engine]\nkind = \"postgres\"\n[engine.postgres]\nport = 1\nconnect_timeout = \"100ms\"";
    let place = Place::new(settings);
    let first = place.start();
    first.write("d", "m,s=a v=1i 1");
    first.kill();
    let mut manager = Manager::new(&place);
    let socket = manager.path.display().to_string();
    let variables = [("NOTIFY_SOCKET", socket.as_str()), ("WATCHDOG_USEC", "100000")];
    let mut server = Gateway::listening(place.spawn_with(&variables));
    let message = manager.hear("EXTEND_TIMEOUT_USEC=");
    assert!(message.contains("STATUS=replaying the log: frame 0 of 1"), "{message}");
    manager.hear("WATCHDOG=1");
    manager.hear("EXTEND_TIMEOUT_USEC=");
    assert_eq!(server.client().get("/ready").expect("an answer").status, 503);
    server.signal(Signal::TERM);
    manager.hear("STOPPING=1");
    assert!(server.wait_end(LONG).success());
    assert!(
        !manager.heard.iter().any(|message| message.contains("READY=1")),
        "{:?}",
        manager.heard
    );
}

const UNIT: &str = include_str!("../packaging/systemd/tidegate.service");

fn value_of(key: &str) -> &'static str {
    let line = UNIT.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("the unit has no {key}"))
}

/// Runs `systemd-analyze` on the unit with the binary of this build.
fn analyze(arguments: &[&str]) -> String {
    let dir = tempfile::tempdir().expect("a folder can be made");
    let unit = dir.path().join("tidegate.service");
    let text = UNIT.replace("/usr/bin/tidegate", env!("CARGO_BIN_EXE_tidegate"));
    // Documentation is looked for as well, and is not installed here.
    let text = text.replace("file:///usr/share/doc/tidegate/README.md", "https://localhost/");
    fs::write(&unit, text).expect("it can be written");
    run(Command::new("systemd-analyze").args(arguments).arg(&unit))
}

#[test]
fn the_unit_is_sound_and_hardened() {
    analyze(&["verify", "--man=no"]);
    let threshold = format!("--threshold={EXPOSURE_TENTHS_MAX}");
    let text = analyze(&["security", "--offline=true", "--no-pager", &threshold]);
    let overall = text.lines().find(|line| line.contains("Overall exposure level"));
    tell(overall.unwrap_or_else(|| panic!("no verdict in {text}")));
}

#[test]
fn the_unit_and_the_settings_fit_each_other() {
    let defaults = Config::default();
    let seconds: u64 = value_of("TimeoutStopSec").parse().expect("seconds");
    assert!(Duration::from_secs(seconds) > defaults.server.stop_timeout.0);
    let files: usize = value_of("LimitNOFILE").parse().expect("a number");
    assert!(files > 2 * defaults.server.connections_max);
    assert!(value_of("ExecStart").contains(&format!("/var/lib/{}", value_of("StateDirectory"))));
    let arguments = value_of("ExecStart").split(' ').skip(1);
    let output =
        Command::new(env!("CARGO_BIN_EXE_tidegate")).args(arguments).arg("--help").output();
    assert!(output.expect("the binary runs").status.success(), "every flag of ExecStart is known");
}

/// Under systemd, whose journal gives each line its time; and nowhere else, even where the variable has been
/// inherited from a service.
#[test]
fn lines_of_the_log_have_no_time_of_their_own_in_the_journal_alone() {
    use std::os::unix::fs::MetadataExt as _;
    for (is_journal, first) in [(true, false), (false, true)] {
        let place = Place::new("");
        // The file that it is to write to, whose inode stays when it is emptied.
        let log = fs::File::create(place.file("server-0.log")).expect("it can be made");
        let stat = log.metadata().expect("it is there");
        let inode = stat.ino() + u64::from(!is_journal);
        let stream = format!("{}:{inode}", stat.dev());
        let server = Gateway::listening(place.spawn_with(&[("JOURNAL_STREAM", &stream)]));
        let said = server.log().text();
        let line = said.lines().find(|line| line.contains("listening")).expect("it says so");
        assert_eq!(line.starts_with("20"), first, "{line}");
        assert!(line.trim_start_matches(|c| c != ' ').trim_start().starts_with("INFO"), "{line}");
        server.stop();
    }
}
