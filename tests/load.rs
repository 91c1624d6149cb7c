//! Promise: `tidegate load` counts what it did. Every line that it reports is in the server, once; a busy
//! server is asked again; answers in pieces and connections that end are nothing unusual; an answer that
//! says no ends the run.
#![expect(clippy::panic, reason = "helpers of tests")]

#[path = "common/mod.rs"]
mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Output;
use std::thread;

use common::gateway::Place;

/// The lines that a run says it sent.
fn sent(output: &Output) -> u64 {
    let said = String::from_utf8_lossy(&output.stdout);
    let lines = said.lines().find_map(|line| line.strip_prefix("lines "));
    let lines = lines.expect("a run that reports");
    lines.split_whitespace().next().expect("a count").parse().expect("a count")
}

/// Each wire, with more connections than threads: what is reported is what is there.
#[test]
fn every_line_that_is_reported_is_in_the_server_once() {
    for (wire, batch) in [("line", "1"), ("line", "700"), ("timestream", "10")] {
        let place = Place::new("");
        let server = place.start();
        let url = format!("http://{}", server.address);
        let flags = ["--url", &url, "--protocol", wire, "--batch", batch, "--lines", "3000"];
        let more = ["--connections", "7", "--threads", "2", "--series", "50", "--seconds", "60"];
        let output = load(&[&flags[..], &more[..]].concat());
        assert!(output.status.success(), "{wire} {batch}: {output:?}");
        assert!(sent(&output) >= 3000, "{wire} {batch}: {output:?}");
        server.settle();
        assert_eq!(server.export("load", "cpu").len() as u64, sent(&output), "{wire} {batch}");
        server.stop();
    }
}

fn load(flags: &[&str]) -> Output {
    let binary = std::env::var_os("TIDEGATE_TEST_BINARY")
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_tidegate").into());
    let mut command = std::process::Command::new(binary);
    command.arg("load").args(flags).output().expect("the binary starts")
}

/// A server that gives these answers, one a request, each piece by itself, and then hangs up where an
/// answer says so. The requests' bodies as they came.
fn serve(answers: &'static [&'static [&'static str]]) -> (String, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let served = thread::Builder::new().spawn(move || {
        let mut bodies = Vec::new();
        let mut stream = None;
        for answer in answers {
            let mut open: BufReader<TcpStream> = match stream.take() {
                Some(open) => open,
                None => BufReader::new(listener.accept().expect("a client").0),
            };
            open.get_ref().set_nodelay(true).expect("a socket");
            bodies.push(body(&mut open).expect("a request"));
            for piece in *answer {
                let sent = open.get_mut().write_all(piece.as_bytes());
                sent.unwrap_or_else(|error| panic!("{error} at {piece:?}, after {bodies:?}"));
            }
            if !answer.concat().contains("close") {
                stream = Some(open);
            }
        }
        bodies
    });
    (url, served.expect("a thread"))
}

fn body(stream: &mut impl BufRead) -> std::io::Result<String> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.trim().parse().expect("a length");
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(String::from_utf8(body).expect("text"))
}

#[test]
fn a_busy_server_is_asked_again_and_pieces_and_ends_are_nothing_unusual() {
    let (url, served) = serve(&[
        &["HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\n", "no"],
        &["HTTP/1.1 204 No Content\r\n\r\n"],
        &["HTTP/1.1 20", "4 No Content\r\nDate: x\r\n", "\r\n"],
        &["HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"],
        &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n", "{}\r\n0\r\n\r\n"],
        &["HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"],
        &["HTTP/1.1 204 No Content\r\n\r\n"],
    ]);
    let output = load(&["--url", &url, "--batch", "1", "--connections", "1", "--lines", "5"]);
    let bodies = served.join().expect("the server ends");
    // It looks for the server's marks at the end, and finds nobody.
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said.contains("refused") || said.contains("reset") || said.contains("end"), "{said}");
    assert_eq!(bodies.len(), 7);
    assert_eq!((&bodies[0], &bodies[3]), (&bodies[1], &bodies[4]), "busy: the same again");
    let mut different = bodies.clone();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), 5, "no line is sent twice otherwise: {bodies:?}");
}

#[test]
fn an_answer_that_says_no_ends_the_run() {
    let (url, served) = serve(&[
        &["HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"],
        // The marks, which it looks for at the end.
        &["HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"],
    ]);
    let output = load(&["--url", &url, "--batch", "1", "--connections", "1", "--seconds", "5"]);
    assert_eq!(served.join().expect("the server ends").len(), 2);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the server answered 400"), "{said}");
}
