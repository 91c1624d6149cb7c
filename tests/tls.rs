//! Promise: producers can speak TLS to the server, real clients do, and its certificate can be renewed
//! while it runs: a good one is used by the next handshake, a bad one changes nothing.
//!
//! Certificates are made by `openssl`; clients are those of `tests/clients.rs` and `tests/timestream.rs`.
#![expect(clippy::panic, reason = "helpers of tests")]

#[path = "tls/authority.rs"]
mod authority;
#[path = "tls/commands.rs"]
mod commands;
#[path = "common/mod.rs"]
mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tidegate::base::clock::{Clock as _, SystemClock};

use authority::{Authority, Key, ask, der};
use common::gateway::{Gateway, Place};
use common::volume::run;
use common::{tell, wait_for};

const LONG: Duration = Duration::from_secs(30);

fn settings((cert, key): &(PathBuf, PathBuf), more: &str) -> String {
    let (cert, key) = (cert.display(), key.display());
    format!("[server.tls]\ncert_file = \"{cert}\"\nkey_file = \"{key}\"\n{more}")
}

fn url(server: &Gateway) -> String {
    format!("https://{}", server.address)
}

fn metric(authority: &Authority, server: &Gateway, name: &str) -> f64 {
    let mut stream = authority.connect(server.address, None).expect("a handshake");
    let text = ask(&mut stream, "GET /metrics HTTP/1.1\r\nHost: t\r\n\r\n").expect("an answer");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}

fn tool(variable: &str, installed: &str, folder: &str) -> Command {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = std::env::var_os(variable)
        .map_or_else(|| top.join("tests/.tools").join(installed), PathBuf::from);
    assert!(program.exists(), "there is no {}: run tests/run.sh", program.display());
    let mut command = Command::new(program);
    command.current_dir(top.join("tests").join(folder));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    command
}

#[test]
fn curl_influxdb_client_boto3_and_the_sdk_for_javascript_write_over_tls() {
    let authority = Authority::new();
    let place = Place::new(&settings(&authority.sign("server", Key::Pkcs8, 30), ""));
    let server = place.listening();
    let ca = authority.ca();
    let curl = |arguments: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail", "--cacert"]).arg(&ca).args(arguments);
        run(&mut command)
    };
    curl(&[
        "--data-binary",
        "curl,host=a v=1i 1",
        &format!("{}/api/v2/write?bucket=d&precision=ns", url(&server)),
    ]);
    let mut influx = tool("TIDEGATE_TEST_PYTHON", "python/bin/python", "tls");
    tell(run(influx.args(["influx.py", &url(&server)]).arg(&ca).arg("d")).trim());
    // By discovery: the address that is found must be one that speaks TLS.
    let mut boto3 = tool("TIDEGATE_TEST_PYTHON", "python/bin/python", "timestream");
    boto3.args(["operations.py", "discover", "boto3"]);
    tell(run(boto3.env("AWS_ENDPOINT_URL", url(&server)).env("AWS_CA_BUNDLE", &ca)).trim());
    let mut node = tool("TIDEGATE_TEST_NODE", "node", "timestream");
    node.args(["operations.mjs", "discover", "node"]).env("NODE_EXTRA_CA_CERTS", &ca);
    tell(run(node.env("AWS_ENDPOINT_URL_TIMESTREAM_WRITE", url(&server))).trim());
    let rows = |table: &str| {
        curl(&[&format!("{}/api/v1/export?db=d&table={table}", url(&server))]).lines().count()
    };
    wait_for("the records to be applied", LONG, || (rows("py") == 100).then_some(()));
    assert_eq!(rows("curl"), 1);
    server.stop();
}

#[test]
fn every_form_of_a_key_is_read_and_nothing_older_than_1_2_or_newer_than_http_1_is_spoken() {
    let authority = Authority::new();
    for (name, key) in
        [("p8", Key::Pkcs8), ("sec1", Key::Sec1), ("rsa", Key::Rsa), ("ed", Key::Ed25519)]
    {
        let files = authority.sign(name, key, 30);
        let place = Place::new(&settings(&files, ""));
        let server = place.listening();
        assert_eq!(authority.shown(server.address), der(&files.0), "{name}");
        let connect = server.address.to_string();
        let s_client = |arguments: &[&str]| {
            let output = Command::new("openssl")
                .args(["s_client", "-connect", &connect, "-CAfile"])
                .arg(authority.ca())
                .args(arguments)
                .stdin(Stdio::null())
                .output()
                .expect("openssl runs");
            (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
        };
        for version in ["-tls1_2", "-tls1_3"] {
            let (went_well, said) = s_client(&[version, "-alpn", "h2,http/1.1"]);
            assert!(went_well && said.contains("ALPN protocol: http/1.1"), "{version}: {said}");
        }
        assert!(!s_client(&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]).0);
        assert!(!s_client(&["-alpn", "h2"]).0, "a client that speaks HTTP/2 alone is not misled");
        server.stop();
    }
}

/// What `check` and `serve` say, which both must refuse the settings.
fn refused(place: &Place, text: &str) -> String {
    place.configure(text);
    let checked = place.run("check", &[]);
    assert_eq!(checked.status.code(), Some(2), "{text}");
    let served = place.run("serve", &["--listen", "127.0.0.1:0"]);
    assert_eq!(served.status.code(), Some(2), "{text}");
    let [checked, served] =
        [checked, served].map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
    for said in [&checked, &served] {
        assert!(said.contains("server.tls"), "{text}: {said}");
    }
    checked + &served
}

#[test]
fn files_that_cannot_be_used_are_named_before_anything_starts_and_no_key_is_shown() {
    let authority = Authority::new();
    let (cert, key) = authority.sign("server", Key::Pkcs8, 30);
    let other = authority.sign("other", Key::Rsa, 30).1;
    authority.openssl(&[
        "pkcs8",
        "-topk8",
        "-in",
        "server.key",
        "-passout",
        "pass:x",
        "-out",
        "encrypted.key",
    ]);
    let write = |name: &str, bytes: &[u8]| {
        fs::write(authority.file(name), bytes).expect("it can be written");
        authority.file(name)
    };
    let text = fs::read_to_string(&key).expect("openssl wrote it");
    let secret = text.lines().nth(1).expect("the key itself").to_owned();
    let cut = write("cut.key", &text.as_bytes()[..text.len() / 2]);
    let bent = write("bent.key", text.replace(&secret[..8], "!!!!!!!!").as_bytes());
    let empty = write("empty.pem", b"");
    let noise = write("noise.pem", &[0xff; 300]);
    let huge = write("huge.pem", &vec![b'#'; 2 << 20]);
    let gone = authority.file("gone.pem");
    let place = Place::new("");
    for (cert, key, what) in [
        (&cert, &other, "is not that of the first certificate"),
        (&cert, &authority.file("encrypted.key"), "not encrypted"),
        (&cert, &cut, "no private key in PEM"),
        (&cert, &bent, "no private key in PEM"),
        (&cert, &cert, "no private key in PEM"),
        (&cert, &gone, "cannot read"),
        (&gone, &key, "cannot read"),
        (&empty, &key, "holds no certificate"),
        (&key, &key, "holds no certificate"),
        (&noise, &key, "certificate"),
        (&huge, &key, "too large"),
        (&PathBuf::new(), &key, "cert_file is empty"),
        (&cert, &PathBuf::new(), "key_file is empty"),
    ] {
        let said = refused(&place, &settings(&(cert.clone(), key.clone()), ""));
        assert!(said.contains(what), "{cert:?} {key:?}: {said}");
        assert!(!said.contains(&secret), "the key is shown: {said}");
    }
    let range = settings(&(cert.clone(), key.clone()), "handshake_timeout = \"1ms\"");
    assert!(refused(&place, &range).contains("100ms to 10min"));
    place.configure(&settings(&(cert, key), ""));
    let checked = place.run("check", &[]);
    assert!(checked.status.success());
    assert!(!String::from_utf8_lossy(&checked.stdout).contains(&secret));
}

#[test]
fn a_renewed_certificate_is_used_at_once_and_a_bad_one_changes_nothing() {
    let authority = Authority::new();
    let (cert, key) = authority.sign("server", Key::Pkcs8, 30);
    let place = Place::new(&settings(&(cert.clone(), key.clone()), "look_interval = \"100ms\""));
    let server = place.listening();
    let first = der(&cert);
    assert_eq!(authority.shown(server.address), first);
    let end = authority.openssl(&[
        "x509",
        "-in",
        "server.pem",
        "-noout",
        "-enddate",
        "-dateopt",
        "iso_8601",
    ]);
    let end = end.trim().trim_start_matches("notAfter=").replace(' ', "T");
    let end: jiff::Timestamp = end.parse().expect("a time");
    let told = metric(&authority, &server, "tidegate_http_certificate_expiry_seconds");
    assert_eq!(told.to_string(), end.as_second().to_string(), "{end}");
    let mut open = authority.connect(server.address, None).expect("a handshake");
    let ping = "GET /ping HTTP/1.1\r\nHost: t\r\n\r\n";
    assert!(ask(&mut open, ping).expect("an answer").starts_with("HTTP/1.1 204"));

    // Found by looking: the key first, then its certificate, as tools that renew write them.
    let next = authority.sign("next", Key::Rsa, 60);
    fs::copy(&next.1, &key).expect("it can be written");
    fs::copy(&next.0, &cert).expect("it can be written");
    wait_for("the renewed certificate", LONG, || {
        (authority.shown(server.address) == der(&next.0)).then_some(())
    });
    assert!(ask(&mut open, ping).expect("the old connection goes on").starts_with("HTTP/1.1 204"));
    let later = metric(&authority, &server, "tidegate_http_certificate_expiry_seconds");
    assert!(later > told + 86_400.0, "{later} is not later than {told}");

    let failures = || metric(&authority, &server, "tidegate_server_reload_failures_total");
    let before = failures();
    fs::write(&cert, "nothing").expect("it can be written");
    wait_for("the bad certificate to be refused", LONG, || (failures() > before).then_some(()));
    assert_eq!(authority.shown(server.address), der(&next.0), "the one in use stays");
    let asked = failures();
    server.signal(Signal::HUP);
    wait_for("the reload to be refused", LONG, || (failures() > asked).then_some(()));
    assert_eq!(authority.shown(server.address), der(&next.0));
    let said = server.log().text();
    assert!(said.contains("holds no certificate") && said.contains("cert_file"), "{said}");
    server.stop();
}

#[test]
fn a_certificate_is_renewed_by_a_signal_without_waiting_for_a_look() {
    let authority = Authority::new();
    let (cert, key) = authority.sign("server", Key::Pkcs8, 30);
    let place = Place::new(&settings(&(cert.clone(), key.clone()), "look_interval = \"1d\""));
    let server = place.listening();
    let next = authority.sign("next", Key::Sec1, 60);
    fs::copy(&next.1, &key).expect("it can be written");
    fs::copy(&next.0, &cert).expect("it can be written");
    assert_ne!(authority.shown(server.address), der(&next.0), "nobody has asked for it yet");
    server.signal(Signal::HUP);
    wait_for("the renewed certificate", LONG, || {
        (authority.shown(server.address) == der(&next.0)).then_some(())
    });
    assert_eq!(metric(&authority, &server, "tidegate_server_reloads_total").to_string(), "1");
    server.stop();
}

#[test]
fn handshakes_that_stand_still_hold_up_nobody_and_end() {
    let authority = Authority::new();
    let files = authority.sign("server", Key::Pkcs8, 30);
    let place = Place::new(&settings(&files, "handshake_timeout = \"1s\""));
    let server = place.listening();
    let clock = SystemClock::new();
    let stalled: Vec<TcpStream> = (0..200)
        .map(|number| {
            let mut stream = TcpStream::connect(server.address).expect("it listens");
            // Half of them begin one: a record's header, and nothing behind it.
            if number % 2 == 0 {
                stream.write_all(&[22, 3, 1, 2, 0]).expect("it is open");
            }
            stream
        })
        .collect();
    let mut open = authority.connect(server.address, None).expect("others are served meanwhile");
    let ping = "GET /ping HTTP/1.1\r\nHost: t\r\n\r\n";
    assert!(ask(&mut open, ping).expect("an answer").starts_with("HTTP/1.1 204"));
    for mut stream in stalled {
        stream.set_read_timeout(Some(LONG)).expect("it is a socket");
        // By an end or by an error.
        drop(stream.read_to_end(&mut Vec::new()));
    }
    tell(format!("tls: 200 stalled handshakes were ended after {:?}", clock.monotonic()));
    assert!(clock.monotonic() < LONG);
    let failures = metric(&authority, &server, "tidegate_http_handshake_failures_total");
    assert_eq!(failures.to_string(), "200");
    server.stop();
}

#[test]
fn who_speaks_clear_text_to_tls_is_told_so() {
    let authority = Authority::new();
    let place = Place::new(&settings(&authority.sign("server", Key::Pkcs8, 30), ""));
    let server = place.listening();
    let reply = server.client().get("/ping").expect("an answer");
    assert_eq!(reply.status, 400);
    assert!(reply.text().contains("https://"), "{}", reply.text());
    server.stop();
}

#[test]
fn with_an_authority_for_clients_nobody_else_reaches_any_path() {
    let authority = Authority::new();
    let strangers = Authority::new();
    let files = authority.sign("server", Key::Pkcs8, 30);
    authority.sign("agent", Key::Pkcs8, 30);
    let ca = format!("client_ca_file = \"{}\"", authority.ca().display());
    let place = Place::new(&settings(&files, &ca));
    let server = place.listening();
    let ping = "GET /ping HTTP/1.1\r\nHost: t\r\n\r\n";
    let mut known = authority.connect(server.address, Some("agent")).expect("a handshake");
    assert!(ask(&mut known, ping).expect("an answer").starts_with("HTTP/1.1 204"));
    // With version 1.3 a client learns of the refusal when it reads.
    let refused = authority.connect(server.address, None).and_then(|mut s| ask(&mut s, ping));
    assert!(refused.is_err(), "{refused:?}");
    strangers.sign("agent", Key::Pkcs8, 30);
    for end in ["pem", "key"] {
        fs::copy(strangers.file(&format!("agent.{end}")), authority.file(&format!("bad.{end}")))
            .expect("it can be copied");
    }
    let refused =
        authority.connect(server.address, Some("bad")).and_then(|mut s| ask(&mut s, ping));
    assert!(refused.is_err(), "{refused:?}");
    server.stop();
}
