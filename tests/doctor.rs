//! Promise: `tidegate doctor` finds what would go wrong, says what to do, and leaves nothing behind.
//!
//! Each fault is made for real: file systems of the test's own that are read-only or full, a port that is
//! taken, a limit of open files, engines and sinks that are away. Needs root and loop devices, as
//! `full_disk` does. A clock of another age and a slow disk are unit tests.

#[path = "common/mod.rs"]
mod common;
#[expect(dead_code, reason = "shared with other tests")]
#[path = "postgres/server.rs"]
mod server;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output};

use rustix::fs::{FallocateFlags, fallocate};
use serde_json::Value as Json;

use common::gateway::{Place, without_settings};
use common::volume::{Kind, Volume, run};

/// A port of its own, so that no test finds another's server.
const SETTINGS: &str = "[server]\nlisten = \"127.0.0.1:0\"\n";

/// An address that nobody listens at.
fn closed() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address").port()
}

/// What was found, and the exit code.
#[derive(Debug)]
struct Examined {
    code: Option<i32>,
    findings: Vec<Json>,
}

impl Examined {
    fn of(output: &Output) -> Self {
        let parsed: Result<Json, _> = serde_json::from_slice(&output.stdout);
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(parsed.is_ok(), "{parsed:?}: {complaints}");
        let report = parsed.unwrap_or_default();
        let findings = report["findings"].as_array().expect("findings").clone();
        let code = output.status.code();
        let is_well = !findings.iter().any(|finding| finding["mark"] == "fault");
        assert_eq!(report["well"], is_well);
        assert_eq!(code == Some(0), is_well, "{findings:#?}");
        Self { code, findings }
    }

    /// Asserts that a check has a finding with this mark, whose text has this in it, and that it says
    /// what to do unless all is well.
    fn has(&self, check: &str, mark: &str, text: &str) {
        let found = self.findings.iter().find(|finding| {
            finding["check"] == check
                && finding["mark"] == mark
                && finding["found"].as_str().is_some_and(|found| found.contains(text))
        });
        let all = &self.findings;
        assert!(found.is_some(), "{mark} {check} {text:?} in {all:#?}");
        let finding = found.expect("there is one");
        assert_eq!(finding["remedy"] == "", mark == "ok", "{finding}");
    }

    fn faults(&self) -> Vec<&str> {
        let faults = self.findings.iter().filter(|finding| finding["mark"] == "fault");
        faults.filter_map(|finding| finding["check"].as_str()).collect()
    }
}

fn examine(place: &Place) -> Examined {
    Examined::of(&place.run("doctor", &["--json"]))
}

fn examine_with(settings: &str) -> Examined {
    examine(&Place::new(&format!("{SETTINGS}{settings}")))
}

#[test]
fn a_machine_without_faults_is_well_and_left_as_it_was() {
    let place = Place::new(SETTINGS);
    let found = examine(&place);
    assert_eq!((found.code, found.faults()), (Some(0), vec![]), "{found:#?}");
    found.has("settings", "ok", "data_dir");
    found.has("log", "ok", "data/wal on ");
    found.has("engine", "ok", "embedded");
    found.has("reject sink", "ok", "first start");
    found.has("port", "ok", "is free");
    found.has("files", "ok", "no certificate");
    for check in ["sync", "space", "open files", "memory", "swap", "clock"] {
        assert!(found.findings.iter().any(|finding| finding["check"] == check), "{check}");
    }
    let left: Vec<_> = fs::read_dir(place.file("")).expect("a folder").flatten().collect();
    assert_eq!(left.len(), 1, "only the settings: {left:?}");
    let output = place.run("doctor", &[]);
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(lines.contains("\nok       port         127.0.0.1:0 is free\n"), "{lines}");
    assert!(lines.trim_end().ends_with(" 0 faults"), "{lines}");
}

/// The log has its room elsewhere, and says that all is well.
#[test]
fn tables_without_room_for_a_flush_are_found() {
    let volume = Volume::new(Kind::Ext4, 300 << 20);
    let tables = volume.root().join("tables").display().to_string();
    let found = examine_with(&format!("[engine.embedded]\ndir = {tables:?}\n"));
    found.has("space", "warning", "less than one flush of 384.0 MiB");
    assert!(found.faults().is_empty(), "{found:#?}");
    let smaller = "[engine.embedded]\nflush_bytes = \"64 MiB\"\nmemory_bytes_max = \"128 MiB\"\n";
    let found = examine_with(&format!("{smaller}dir = {tables:?}\n"));
    found.has("space", "ok", "free for ");
}

#[test]
fn a_folder_that_is_read_only_or_full_is_found() {
    let volume = Volume::new(Kind::Ext4, 640 << 20);
    let place = Place::on(&volume, SETTINGS);
    // More than there is could be written into the log.
    let small = examine(&place);
    small.has("space", "warning", "of at most 8.0 GiB");
    small.has("log", "ok", "ext4, /dev/loop");
    let ballast = volume.root().join("ballast");
    let file = File::create(&ballast).expect("there is space for a name");
    let mut bytes = 0;
    for step in [1 << 26, 1 << 20, 1 << 16, 1 << 12] {
        while fallocate(&file, FallocateFlags::empty(), bytes, step).is_ok() {
            bytes += step;
        }
    }
    let full = examine(&place);
    full.has("space", "fault", "a start needs 192.0 MiB");
    full.has("writable", "fault", "No space left on device");
    drop(file);
    fs::remove_file(ballast).expect("it was made");
    run(Command::new("mount").args(["-o", "remount,ro"]).arg(volume.root()));
    let read_only = examine(&place);
    read_only.has("log", "fault", "read-only");
    read_only.has("writable", "fault", "Read-only file system");
    read_only.has("reject sink", "fault", "cannot be made in ");
    run(Command::new("mount").args(["-o", "remount,rw"]).arg(volume.root()));
    assert!(examine(&place).faults().is_empty(), "it is well again");
    let left: Vec<_> = fs::read_dir(volume.root()).expect("a folder").flatten().collect();
    assert!(left.iter().all(|entry| entry.file_name() == "lost+found"), "{left:?}");
}

#[test]
fn a_log_that_is_no_log_on_its_file_system_is_found() {
    let memory = examine_with("[wal]\ndir = \"/dev/shm/tidegate-doctor/wal\"\n");
    memory.has("log", "warning", "in memory");
    memory.has("sync", "fault", "THE DISK LIES");
    let none = examine_with("[wal]\ndir = \"/proc/tidegate\"\n");
    none.has("log", "fault", "on proc");
}

#[test]
fn a_port_that_is_taken_is_found_and_a_server_of_ours_is_known() {
    let place = Place::new("");
    let server = place.start();
    let listen = |address: &dyn std::fmt::Display| format!("[server]\nlisten = \"{address}\"\n");
    place.configure(&listen(&server.address));
    let beside = examine(&place);
    beside.has("port", "ok", "a Tidegate answers");
    assert!(beside.faults().is_empty(), "beside a running server: {beside:#?}");
    server.write("iot", "m,site=a v=1 1");
    server.stop();

    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = other.local_addr().expect("its address");
    place.configure(&listen(&address));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = other.accept().expect("it is asked");
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                .expect("it listens");
        });
        examine(&place).has("port", "fault", "taken by another program");
    });
    // One that says nothing at all.
    examine(&place).has("port", "fault", "taken by another program");
    place.configure("[server]\nlisten = \"192.0.2.1:8086\"\n[auth]\nanonymous = true\n");
    let elsewhere = examine(&place);
    elsewhere.has("port", "fault", "192.0.2.1:8086");
    elsewhere.has("settings", "warning", "everybody who reaches");
}

#[test]
fn a_low_limit_of_open_files_is_found() {
    let place = Place::new(SETTINGS);
    for (limit, mark) in [(100, "fault"), (1024, "warning"), (20_000, "ok")] {
        let inner = place.command("doctor");
        let mut limited = Command::new("sh");
        without_settings(&mut limited);
        limited.args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\"")]);
        limited.arg(inner.get_program()).args(inner.get_args()).arg("--json");
        limited.current_dir(place.file(""));
        let found = Examined::of(&limited.output().expect("sh is there"));
        found.has("open files", mark, &format!("at most {limit};"));
    }
}

#[test]
fn more_memory_than_there_is_is_found() {
    let found = examine_with("[engine.embedded]\nmemory_bytes_max = \"16 TiB\"\n");
    found.has("memory", "fault", "the settings allow 16");
}

#[test]
fn an_engine_that_is_away_is_found_and_one_that_is_there_is_known() {
    let port = closed();
    let away =
        examine_with(&format!("[engine]\nkind = \"postgres\"\n[engine.postgres]\nport = {port}\n"));
    away.has("engine", "fault", "refused");
    let postgres = server::Server::new();
    let port = postgres.address().port();
    let settings = |user: &str| {
        format!(
            "[engine]\nkind = \"postgres\"\n[engine.postgres]\nport = {port}\nuser = \"{user}\"\n"
        )
    };
    examine_with(&settings("tidegate")).has("engine", "ok", "PostgreSQL ");
    postgres.sql("CREATE USER guest");
    examine_with(&settings("guest")).has("engine", "fault", "GRANT CREATE ON DATABASE");
    examine_with(&settings("nobody")).has("engine", "fault", "nobody");

    let place = Place::new("");
    let upstream = place.start();
    fs::write(place.file("secret"), "secret").expect("it can be written");
    let secret = place.file("secret").display().to_string();
    let settings = |endpoint: &dyn std::fmt::Display| {
        format!(
            "[engine]\nkind = \"timestream\"\n[engine.timestream]\nendpoint = \"http://{endpoint}\"\n\
             region = \"eu-west-1\"\naccess_key = \"AKID\"\nsecret_key_file = \"{secret}\"\n"
        )
    };
    let there = examine_with(&settings(&upstream.address));
    there.has("engine", "ok", "http://127.0.0.1:");
    examine_with(&settings(&format!("127.0.0.1:{}", closed()))).has(
        "engine",
        "fault",
        "127.0.0.1:",
    );
}

#[test]
fn a_sink_that_takes_nothing_is_found() {
    let place = Place::new(SETTINGS);
    fs::create_dir_all(place.data().join("rejects")).expect("it can be made");
    let well = examine(&place);
    well.has("reject sink", "ok", "takes objects");
    let left = fs::read_dir(place.data().join("rejects")).expect("a folder").count();
    assert_eq!(left, 0, "the probe is gone");
    fs::remove_dir(place.data().join("rejects")).expect("it is empty");
    fs::write(place.data().join("rejects"), b"in the way").expect("it can be written");
    examine(&place).has("reject sink", "fault", "rejects");
    let secret = place.file("secret");
    fs::write(&secret, "secret").expect("it can be written");
    let cloud = format!(
        "[rejects]\nurl = \"s3://rejects/here\"\n[object]\nendpoint = \"http://127.0.0.1:{}\"\n\
         access_key_id = \"AKID\"\nsecret_access_key_file = \"{}\"\n",
        closed(),
        secret.display()
    );
    examine_with(&cloud).has("reject sink", "fault", "s3://rejects/here");
}

/// One that is not there may lie elsewhere; only where nothing was served yet there is none.
#[test]
fn a_sink_that_is_not_there_is_made_by_the_first_start_only() {
    let place = Place::new(SETTINGS);
    examine(&place).has("reject sink", "ok", "is made by the first start");
    place.start().stop();
    examine(&place).has("reject sink", "ok", "takes objects and lets them go");
    rustix::fs::rename(place.data().join("rejects"), place.file("moved")).expect("it was made");
    let moved = examine(&place);
    moved.has("reject sink", "warning", "was served from before");
    assert!(!place.data().join("rejects").exists(), "nothing is left behind");
    let file = place.file("file");
    fs::write(&file, "no folder").expect("it can be written");
    for (url, text) in [
        (file.display().to_string(), "is a file and no folder"),
        (format!("file://{}", file.display()), "is a file and no folder"),
        (format!("{}/below", file.display()), "cannot be looked at: Not a directory"),
    ] {
        place.configure(&format!("{SETTINGS}[rejects]\nurl = {url:?}\n"));
        examine(&place).has("reject sink", "fault", text);
    }
}

#[test]
fn a_sink_of_another_gateway_is_found_and_left_alone() {
    let (theirs, ours) = (Place::new(SETTINGS), Place::new(SETTINGS));
    theirs.start().stop();
    let sink = theirs.data().join("rejects");
    ours.configure(&format!("{SETTINGS}[rejects]\nurl = {:?}\n", sink.display().to_string()));
    for _ in ["nothing has begun there", "with a name of its own"] {
        let found = examine(&ours);
        found.has("reject sink", "fault", "it is the reject sink of gateway ");
        fs::create_dir_all(ours.data()).expect("it can be made");
        fs::write(ours.data().join("gateway-id"), "0b7c\n").expect("it can be written");
    }
    examine(&theirs).has("reject sink", "ok", "takes objects and lets them go");
    let left: Vec<_> = fs::read_dir(&sink).expect("a folder").flatten().collect();
    assert!(
        left.iter().all(|one| !one.file_name().to_string_lossy().contains("doctor")),
        "{left:?}"
    );
}

/// Goal: log, tables and rejections that each fit by themselves, and not together. Method: a volume with room for
/// the log and a flush, and a file among the rejections as large as a day of many of them.
#[test]
fn what_grows_on_one_disk_is_added_up() {
    let volume = Volume::new(Kind::Ext4, 1 << 30);
    let place = Place::on(&volume, &format!("{SETTINGS}[wal]\nbytes_max = \"300 MiB\"\n"));
    examine(&place).has("room", "ok", "free for all of it: the log may take 300.0 MiB more");
    let rejects = place.data().join("rejects");
    fs::create_dir_all(&rejects).expect("it can be made");
    let file = File::create(rejects.join("many.json")).expect("it can be made");
    fallocate(&file, FallocateFlags::empty(), 0, 60 << 20).expect("there is room");
    let crowded = examine(&place);
    crowded.has("room", "warning", "rejections hold 60.0 MiB (60.0 MiB of the last day)");
    crowded.has("room", "warning", "like the last");
    place.configure(&format!("{SETTINGS}[wal]\nbytes_max = \"700 MiB\"\n"));
    let full = examine(&place);
    full.has("space", "ok", "of at most 700.0 MiB");
    full.has("room", "warning", "together that is more");
}

#[test]
fn a_file_where_a_folder_is_to_be_is_found() {
    let place = Place::new(SETTINGS);
    fs::write(place.data(), "no folder").expect("it can be written");
    examine(&place).has("log", "fault", "data is a file and no folder");
    let output = place.run("selftest", &["--kills", "1"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("is a file and no folder"), "{said}");
}

#[test]
fn settings_that_cannot_work_are_found() {
    let broken = Place::new("[wal]\nsegmnt_bytes = 1\n").run("doctor", &["--json"]);
    let broken = Examined::of(&broken);
    broken.has("settings", "fault", "segmnt_bytes");
    assert_eq!((broken.code, broken.findings.len()), (Some(2), 1));
    let found = examine_with("[batch]\nrecords_max = 101\n[shards]\ncount = 65\n");
    found.has("settings", "fault", "batch.records_max");
    found.has("settings", "fault", "shards.count");
    found.has("port", "ok", "is free");
}

#[test]
fn files_with_secrets_are_readable_full_and_not_everybodys() {
    let place = Place::new("");
    let path = place.file("fleet.token");
    place.configure(&format!(
        "{SETTINGS}[auth]\ntokens = [{{ name = \"fleet\", token_file = \"{}\", read = [], write = [\"iot\"] }}]\n",
        path.display()
    ));
    examine(&place).has("files", "fault", "cannot be read");
    let write = |text: &str, mode: u32| {
        fs::write(&path, text).expect("it can be written");
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(Path::new(&path), permissions).expect("it is ours");
    };
    write("", 0o600);
    examine(&place).has("files", "fault", "is empty");
    write("a-token-of-some-length", 0o644);
    examine(&place).has("files", "warning", "by everybody");
    write("a-token-of-some-length", 0o640);
    let well = examine(&place);
    well.has("files", "ok", "fleet.token can be read");
    let all = well.findings.iter().map(ToString::to_string).collect::<String>();
    assert!(!all.contains("a-token-of-some-length"), "no secret is shown: {all}");
}

#[test]
fn a_certificate_is_read_and_its_last_days_are_told() {
    let place = Place::new("");
    let (cert, key) = (place.file("cert.pem"), place.file("key.pem"));
    let settings = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[server.tls]\ncert_file = \"{}\"\nkey_file = \"{}\"\n",
        cert.display(),
        key.display()
    );
    place.configure(&settings);
    let absent = examine(&place);
    absent.has("files", "fault", "server.tls.cert_file");
    absent.has("settings", "fault", "cert.pem");
    for (days, mark) in [("3", "warning"), ("400", "ok")] {
        let mut openssl = Command::new("openssl");
        openssl.args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=t", "-days", days,
        ]);
        run(openssl.arg("-keyout").arg(&key).arg("-out").arg(&cert));
        let found = examine(&place);
        found.has("certificate", mark, "it expires in ");
        found.has("files", "ok", "server.tls.key_file");
        assert!(found.faults().is_empty(), "{found:#?}");
    }
}

/// Renamed over, a device such as `/dev/full` would be gone for the whole machine.
#[test]
fn a_bundle_is_written_into_a_pipe_and_through_a_link_and_replaces_neither() {
    let place = Place::new("");
    let [pipe, link, target] = ["pipe", "link", "target"].map(|name| place.file(name));
    run(Command::new("mkfifo").arg(&pipe));
    // Open for both, nobody waits for the other end.
    let mut reader = File::options().read(true).write(true).open(&pipe).expect("it opens");
    fs::write(&target, vec![b'x'; 1 << 20]).expect("it can be written");
    std::os::unix::fs::symlink("target", &link).expect("a link can be made");
    for name in ["pipe", "link"] {
        let said = place.run("doctor", &["--bundle", name]).stdout;
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(said.contains(&format!("written: {name}")), "{said}");
    }
    let kind = |path: &Path| fs::symlink_metadata(path).expect("it is there").file_type();
    assert!(kind(&pipe).is_fifo() && kind(&link).is_symlink());
    let mut begin = [0; 2];
    reader.read_exact(&mut begin).expect("the pipe has it");
    assert_eq!(begin, [0x1f, 0x8b], "gzip");
    run(Command::new("tar").arg("-tzf").arg(&target));
}

/// Secrets are planted in every place that the bundle is made of.
#[test]
fn the_bundle_has_what_a_helper_needs_and_no_secret() {
    let place = Place::new("");
    let token_file = place.file("token");
    fs::write(&token_file, "pl4nted-in-a-file\n").expect("it can be written");
    let token_file = token_file.display().to_string();
    let settings = |listen: &str| {
        format!(
            "server.listen = {listen:?}\nobject.endpoint = \"http://ada:pl4nted-url@127.0.0.1:1\"\n\
             object.region = \"pl4nted-env\"\n\
             [[auth.tokens]]\nname = \"a\"\ntoken = \"pl4nted-token\"\n\
             [[auth.tokens]]\nname = \"b\"\ntoken_file = {token_file:?}\nread = [\"*\"]\n\
             [[auth.users]]\nname = \"c\"\npassword = \"pl4nted-password\"\n\
             [[auth.access_keys]]\nid = \"AKID\"\nsecret = \"pl4nted-key\"\n"
        )
    };
    place.configure(&settings("127.0.0.1:0"));
    let server = place.start();
    place.configure(&settings(&server.address.to_string()));
    let mut command = place.command("doctor");
    command.args(["--bundle", "b.tar.gz", "--token-file", &token_file]);
    let output = command.env("AWS_SECRET_ACCESS_KEY", "pl4nted-env").output().expect("started");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.contains("written: b.tar.gz"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    server.stop();
    run(Command::new("tar").current_dir(place.file(".")).args(["-xzf", "b.tar.gz"]));
    let read = |name: &str| {
        let path = place.file("tidegate-doctor").join(name);
        fs::read_to_string(&path).expect(name)
    };
    for (name, part) in [
        ("doctor.json", "\"findings\""),
        ("settings.toml", "records_max = 100"),
        ("segments.txt", "checkpoint "),
        ("health.json", "\"status\":\"pass\""),
        ("status.json", "\"accepted\""),
        ("metrics.txt", "tidegate_wal_durable_lsn"),
        ("system.txt", "MemTotal"),
    ] {
        let text = read(name);
        assert!(text.contains(part), "{name} lacks {part}: {text}");
        assert!(!text.contains("pl4nted"), "{name} shows a secret: {text}");
    }
    // Without a server it says so, and with a place that is none nothing is looked at.
    let away = place.run("doctor", &["--bundle", "c.tar.gz"]);
    assert!(String::from_utf8_lossy(&away.stdout).contains("written: c.tar.gz"));
    let nowhere = place.run("doctor", &["--bundle", "none/c.tar.gz"]);
    assert_eq!((nowhere.status.code(), nowhere.stdout.len()), (Some(2), 0));
}
