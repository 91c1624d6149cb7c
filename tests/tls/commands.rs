//! Every command that talks to a server does so over TLS, and says plainly what is wrong where it cannot.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use super::authority::{Authority, Key};
use super::common::gateway::{Gateway, Place, without_settings};
use super::common::wait_for;
use super::{LONG, ask, settings, url};

/// A command of the binary without a folder of its own.
fn plain(place: &Place, words: &[&str]) -> Output {
    let mut command = Command::new(place.command("check").get_program());
    without_settings(&mut command);
    command.env_remove("INFLUX_TOKEN").current_dir(place.file(".")).args(words);
    command.output().expect("the binary starts")
}

fn texts(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// What a command says that must end with this code.
fn said(output: &Output, code: i32) -> String {
    let said = texts(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

fn text(path: PathBuf) -> String {
    path.into_os_string().into_string().expect("a plain path")
}

/// Certificate and key whose names and time are the test's own.
fn signed(authority: &Authority, name: &str, (names, days): (&str, &str)) -> (PathBuf, PathBuf) {
    let (pem, key) = authority.sign(name, Key::Pkcs8, 30);
    fs::write(authority.file("own-names"), format!("subjectAltName={names}\n")).expect("written");
    let [csr, out] = [format!("{name}.csr"), format!("{name}.pem")];
    authority.openssl(&[
        "x509",
        "-req",
        "-in",
        &csr,
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        days,
        "-extfile",
        "own-names",
        "-out",
        &out,
    ]);
    (pem, key)
}

const MODEL: &str = r#"{"TimeColumn":"time","TimeUnit":"SECONDS",
  "DimensionMappings":[{"SourceColumn":"site"}],
  "MultiMeasureMappings":{"TargetMultiMeasureName":"weather","MultiMeasureAttributeMappings":[
    {"SourceColumn":"t","MeasureValueType":"DOUBLE"}]}}"#;

#[test]
fn every_command_that_talks_to_a_server_speaks_tls() {
    let authority = Authority::new();
    let place = Place::new("");
    let token = place.file("token");
    fs::write(&token, "s3cret-token\n").expect("it can be written");
    let token = text(token);
    let more = format!(
        "[auth]\ntokens = [{{ name = \"t\", token_file = {token:?}, read = [\"*\"], write = [\"*\"] }}]\n"
    );
    place.configure(&settings(&authority.sign("server", Key::Pkcs8, 30), &more));
    let server = ready(&authority, &place);
    let (to, ca) = (url(&server), text(authority.ca()));
    let secure = ["--ca-file", &ca, "--token-file", &token];
    let with = |words: &[&str]| plain(&place, &[words, &secure[..]].concat());

    let health = plain(&place, &["health", "--url", &to, "--ca-file", &ca, "--ready"]);
    said(&health, 0);
    for (protocol, batch) in [("line", "5000"), ("timestream", "100")] {
        // More than the socket takes at once.
        let words = format!(
            "load --url {to} --protocol {protocol} --database {protocol} --batch {batch} \
             --connections 4 --threads 2 --lines 20000 --seconds 60"
        );
        let load = with(&words.split_whitespace().collect::<Vec<_>>());
        let told = said(&load, 0);
        let lines: u64 = told
            .lines()
            .find_map(|line| line.strip_prefix("lines "))
            .and_then(|line| line.split_whitespace().next()?.parse().ok())
            .expect("it counts");
        assert!(lines >= 20_000, "{told}");
    }

    let buckets = place.data().join("buckets/archive");
    fs::create_dir_all(&buckets).expect("a folder can be made");
    fs::write(buckets.join("a.csv"), "time,site,t\n1700000000,a,1.5\n").expect("written");
    fs::write(place.file("model.json"), MODEL).expect("written");
    let words = format!(
        "batch-load --url {to} --source archive/a.csv --model model.json --database iot --table weather"
    );
    let loaded = with(&words.split_whitespace().collect::<Vec<_>>());
    assert!(said(&loaded, 0).contains("\"RecordsIngested\": 1"), "{}", texts(&loaded));

    conflict(&authority, &server);
    let listed = said(&with(&["rejects", "ls", "--url", &to]), 0);
    let row = listed.lines().find(|line| line.contains("version_conflict")).expect("it is listed");
    let id = row.split('\t').next().unwrap_or_default();
    assert!(said(&with(&["rejects", "show", "--url", &to, id]), 0).contains("version_conflict"));
    let mend = ["rejects", "resubmit", id, "--set", "version=next"];
    assert!(said(&with(&[&mend[..], &["--url", &to]].concat()), 0).contains("1 stored, 0 not"));
    server.stop();

    let replayed = Place::new(&settings(&authority.sign("other", Key::Rsa, 30), ""));
    let second = ready(&authority, &replayed);
    let replay = ["wal", "replay", "--data", &text(place.data()), "--to", &url(&second)];
    // The conflict is one there, too.
    let told = said(&plain(&place, &[&replay[..], &["--ca-file", &ca]].concat()), 1);
    assert!(told.contains("sent       ") && told.contains("refused    1 records"), "{told}");
    second.stop();
    assert_eq!(replayed.exported("iot", "weather").len(), 1);
}

/// A server that takes writes.
fn ready(authority: &Authority, place: &Place) -> Gateway {
    let server = place.listening();
    wait_for("the server to be ready", LONG, || {
        let mut stream = authority.connect(server.address, None).ok()?;
        let answer = ask(&mut stream, "GET /ready HTTP/1.1\r\nHost: t\r\n\r\n").ok()?;
        answer.starts_with("HTTP/1.1 200").then_some(())
    });
    server
}

/// Has the server refuse one record.
fn conflict(authority: &Authority, server: &Gateway) {
    for value in ["1i", "2i"] {
        let body = format!("w,site=a v={value} 1");
        let request = format!(
            "POST /api/v2/write?bucket=c HTTP/1.1\r\nHost: t\r\nAuthorization: Token s3cret-token\r\n\
             X-Tidegate-Durability: applied\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = authority.connect(server.address, None).expect("a handshake");
        ask(&mut stream, &request).expect("an answer");
    }
}

/// As the health check of a container does, which has no flags: the certificate need not name loopback.
#[test]
fn the_server_of_the_settings_is_found_whatever_its_certificate_names() {
    let authority = Authority::new();
    let files = signed(&authority, "server", ("DNS:tide.example", "30"));
    let place = Place::new(&settings(&files, ""));
    let server = place.listening();
    place.configure(&settings(&files, &format!("[server]\nlisten = \"{}\"\n", server.address)));
    assert!(said(&place.run("health", &[]), 0).contains("\"status\":\"pass\""));
    let told = texts(&place.run("doctor", &[]));
    assert!(told.contains("a Tidegate answers at"), "{told}");
    // It is known by the file, so nobody else is sent the token.
    let told = said(&place.run("rejects", &["resubmit", "--all"]), 0);
    assert!(told.contains("0 stored, 0 not"), "{told}");
    let others = signed(&authority, "others", ("DNS:tide.example", "30"));
    place.configure(&settings(&others, &format!("[server]\nlisten = \"{}\"\n", server.address)));
    let told = said(&place.run("rejects", &["resubmit", "--all"]), 1);
    assert!(told.contains("is not the one in") && told.contains("others.pem"), "{told}");
    server.stop();
}

#[test]
fn what_is_wrong_with_a_certificate_is_told_with_what_to_do() {
    let (authority, strangers) = (Authority::new(), Authority::new());
    let place = Place::new("");
    let ca = text(authority.ca());
    let health = |server: &Gateway, more: &[&str]| {
        plain(&place, &[&["health", "--url", &url(server)][..], more].concat())
    };
    for (name, (names, days), trusted, what) in [
        ("stranger", ("IP:127.0.0.1", "30"), text(strangers.ca()), "from no authority in "),
        ("expired", ("IP:127.0.0.1", "-1"), ca.clone(), "has expired"),
        ("elsewhere", ("DNS:tide.example", "30"), ca.clone(), "tide.example"),
    ] {
        let home = Place::new(&settings(&signed(&authority, name, (names, days)), ""));
        let server = home.listening();
        let told = said(&health(&server, &["--ca-file", &trusted]), 1);
        assert!(told.contains(what) && told.contains("127.0.0.1"), "{name}: {told}");
        server.stop();
    }
    // What most make who have one machine: a certificate that is its own authority.
    authority.openssl(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-keyout",
        "own.key",
        "-out",
        "own.pem",
        "-days",
        "30",
        "-subj",
        "/CN=own",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]);
    let own = (authority.file("own.pem"), authority.file("own.key"));
    let home = Place::new(&settings(&own, ""));
    let server = home.listening();
    said(&health(&server, &["--ca-file", &text(own.0)]), 0);
    let told = said(&health(&server, &["--ca-file", &ca]), 1);
    assert!(told.contains("from no authority in "), "{told}");
    for (file, text) in [("gone.pem", None), ("empty.pem", Some("")), ("noise.pem", Some("x"))] {
        if let Some(text) = text {
            fs::write(authority.file(file), text).expect("it can be written");
        }
        let told = said(&health(&server, &["--ca-file", &self::text(authority.file(file))]), 2);
        assert!(told.contains("--ca-file") && told.contains(file), "{told}");
    }
    server.stop();
}

#[test]
fn clear_text_and_tls_that_meet_are_told_apart() {
    let authority = Authority::new();
    let ca = text(authority.ca());
    let encrypted = Place::new(&settings(&authority.sign("server", Key::Pkcs8, 30), ""));
    let clear = Place::new("");
    let (to_tls, to_clear) = (encrypted.listening(), clear.start());
    // Something to replay.
    to_clear.write("d", "m,site=a v=1i 1");
    let at = |scheme: &str, server: &Gateway| format!("{scheme}://{}", server.address);
    let http = at("http", &to_tls);
    let https = at("https", &to_clear);
    for words in [
        &["health", "--url"][..],
        &["load", "--seconds", "1", "--series", "1", "--batch", "1", "--url"],
        &["rejects", "ls", "--url"],
        &["wal", "replay", "--data", &text(clear.data()), "--to"],
    ] {
        let told = said(&plain(&clear, &[words, &[&http]].concat()), 1);
        assert!(told.contains("speaks TLS: write https://"), "{words:?}: {told}");
        let told = said(&plain(&clear, &[words, &[&https, "--ca-file", &ca]].concat()), 1);
        assert!(told.contains("does not speak TLS: write http://"), "{words:?}: {told}");
    }
    to_tls.stop();
    to_clear.stop();
}

#[test]
fn a_server_that_asks_for_a_certificate_is_shown_one() {
    let authority = Authority::new();
    let files = authority.sign("server", Key::Pkcs8, 30);
    let more = format!("client_ca_file = \"{}\"", authority.ca().display());
    let place = Place::new(&settings(&files, &more));
    let server = place.listening();
    let (ca, to) = (text(authority.ca()), url(&server));
    let (cert, key) = authority.sign("agent", Key::Ed25519, 30);
    let (cert, key) = (text(cert), text(key));
    let ask = ["health", "--url", &to, "--ca-file", &ca];
    let told = said(&plain(&place, &ask), 1);
    assert!(told.contains("--cert-file"), "{told}");
    let shown = [&ask[..], &["--cert-file", &cert, "--key-file", &key]].concat();
    said(&plain(&place, &shown), 0);
    let told = said(&plain(&place, &[&ask[..], &["--cert-file", &cert]].concat()), 2);
    assert!(told.contains("--key-file"), "{told}");
    server.stop();
}

/// Says on standard output where it listens, then of each connection what came, decrypted.
const LISTENER: &str = r#"
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    client, _ = listener.accept()
    try:
        with context.wrap_socket(client, server_side=True) as stream:
            print(stream.recv(65536), flush=True)
            stream.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    except OSError as error:
        print("no handshake:", error, flush=True)
"#;

/// Whoever has taken the port may have a certificate from the same authority and for the same address: the
/// token is for the server of these settings, which has theirs. The first row is the control.
#[test]
fn a_bundles_token_is_sent_to_nobody_but_who_has_the_certificate_of_the_settings() {
    let authority = Authority::new();
    let ours = signed(&authority, "server", ("IP:127.0.0.1", "30"));
    let others = signed(&authority, "others", ("IP:127.0.0.1", "30"));
    let place = Place::new("");
    fs::write(place.file("token"), "s3cret-token\n").expect("it can be written");
    for (shown, is_sent) in [(&ours, true), (&others, false)] {
        let mut listener = Command::new("python3");
        listener.args(["-c", LISTENER]).arg(&shown.0).arg(&shown.1);
        let mut child = listener.stdout(Stdio::piped()).spawn().expect("python3 is there");
        let mut said = BufReader::new(child.stdout.take().expect("it was asked for"));
        let mut port = String::new();
        said.read_line(&mut port).expect("it says where");
        let listen = format!("[server]\nlisten = \"127.0.0.1:{}\"\n", port.trim());
        place.configure(&settings(&ours, &listen));
        let mut doctor = place.command("doctor");
        doctor.env_remove("INFLUX_TOKEN").args(["--bundle", "b.tar.gz", "--token-file", "token"]);
        let told = texts(&doctor.output().expect("the binary starts"));
        assert!(told.contains("written: b.tar.gz"), "{told}");
        child.kill().expect("it runs");
        child.wait().expect("it is our child");
        let mut heard = String::new();
        said.read_to_string(&mut heard).expect("it can be read");
        assert!(heard.contains("GET /health"), "it was asked who it is: {heard}");
        assert_eq!(heard.contains("s3cret-token"), is_sent, "{heard}");
        assert_eq!(heard.contains("no handshake"), !is_sent, "{heard}");
    }
}
