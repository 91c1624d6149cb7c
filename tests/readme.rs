//! Promise: what the README prints works as it is printed. The pages in `docs` have `howto`.
//!
//! The blocks below "First write" and "Reading it back" are taken out of the text and run in order
//! against a server with default settings, its port put in place of the default one; what comes back
//! must be the printed answer.

#[path = "common/mod.rs"]
mod common;
mod docs_support;

use std::path::Path;
use std::process::Command;

use common::gateway::Place;
use docs_support::{blocks, interpret, links, run};

const README: &str = include_str!("../README.md");

#[test]
fn the_examples_work_as_printed() {
    let place = Place::new("");
    let server = place.start();
    let at = server.address.to_string();
    let mut printed = String::new();
    let mut ran = 0;
    for block in blocks(README) {
        if !matches!(&*block.heading, "First write" | "Reading it back") {
            continue;
        }
        let text = block.text.replace("127.0.0.1:8086", &at);
        match &*block.language {
            "sh" | "python" => printed = interpret(&block.language, &text),
            "text" => {
                for line in text.lines() {
                    assert!(printed.contains(line), "{line:?} is not in {printed:?}");
                }
            }
            "json" => assert_eq!(printed, text, "the export reads as printed"),
            other => panic!("a block of {other:?} that no test runs"),
        }
        // A write is acknowledged before it is readable.
        server.settle();
        ran += 1;
    }
    assert_eq!(ran, 6, "every block of the two sections ran");
}

/// Those of Amazon's clients, in order: they need boto3, and a server at the address that they name.
#[test]
fn the_examples_of_amazons_clients_work_as_printed() {
    let place = Place::new("");
    let server = place.start();
    let mut ran = 0;
    for heading in ["Coming from Amazon Timestream", "Amazon DataZone's time series"] {
        for block in blocks(README).iter().filter(|block| block.heading == heading) {
            assert_eq!(block.language, "python", "a block that no test runs");
            let text = block.text.replace("127.0.0.1:8086", &server.address.to_string());
            interpret("python", &format!("import boto3\n{text}"));
            ran += 1;
        }
    }
    assert_eq!(ran, 2);
    let mut client = server.client();
    let posted = client.get("/api/v1/export?db=_datazone&table=points").expect("it answers");
    assert!(posted.text().contains("dzd_demo"), "{}", posted.text());
}

/// Settings that are printed are settings that there are.
#[test]
fn the_settings_are_ones_that_there_are() {
    let mut count = 0;
    for block in blocks(README).into_iter().filter(|block| block.language == "toml") {
        let output = Place::new(&block.text).run("check", &[]);
        let complaints = String::from_utf8_lossy(&output.stderr);
        // Files of the reader's own may be missing here; keys may not.
        let is_read = output.status.success() || complaints.contains("problem");
        assert!(is_read && !complaints.contains("there is no "), "{}: {complaints}", block.text);
        count += 1;
    }
    assert!(count >= 2, "{count} blocks of settings");
}

/// The demo of the quick start, for a shorter time.
#[test]
fn the_commands_of_the_readme_are_commands() {
    let said = run(Place::new("").command("check"));
    assert!(said.contains("listen = \"127.0.0.1:8086\""), "the default that the README names");
    let blocks = blocks(README);
    let quick = blocks.iter().find(|block| block.heading == "Quick start").expect("a block");
    let commands = quick.text.lines().filter_map(|line| line.split(" -- ").nth(1));
    for command in commands {
        let name = command.split_whitespace().next().expect("a command");
        let mut help = Command::new(Place::new("").command("check").get_program());
        help.args([name, "--help"]);
        assert!(run(help).contains("Example"), "{name}");
    }
}

/// The part of the README below a heading.
fn part(heading: &str) -> &'static str {
    let (_, rest) =
        README.split_once(&format!("\n## {heading}\n")).expect("there is such a heading");
    rest.split_once("\n## ").map_or(rest, |(part, _)| part)
}

/// Whoever looks for a command or a path finds it, and finds none that there is not.
#[test]
fn the_tables_have_every_command_and_every_path() {
    let table = part("Commands");
    let of_help = |words: &[&str]| -> Vec<String> {
        let mut help = Command::new(Place::new("").command("check").get_program());
        let said = run({
            help.args(words).arg("--help");
            help
        });
        let (_, list) = said.split_once("Commands:\n").expect("a list of commands");
        let names = list.lines().take_while(|line| line.starts_with("  "));
        let names = names.filter_map(|line| line.split_whitespace().next());
        names.filter(|name| *name != "help").map(str::to_owned).collect()
    };
    let all = of_help(&[]);
    assert!(all.len() >= 15, "{all:?}");
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| `tidegate ")).collect();
    for name in &all {
        let is_named = |row: &&str| {
            row.contains(&format!("`tidegate {name}")) || row.contains(&format!("`{name}`"))
        };
        assert!(rows.iter().any(is_named), "README's commands lack {name}");
    }
    for group in ["wal", "rejects"] {
        let rows: String = rows
            .iter()
            .filter(|row| row.contains(&format!("`tidegate {group} ")))
            .copied()
            .collect();
        for name in of_help(&[group]) {
            let is_named =
                rows.contains(&format!("{group} {name}")) || rows.contains(&format!("`{name}`"));
            assert!(is_named, "README's commands lack {group} {name}");
        }
    }
    for row in &rows {
        let name =
            row.trim_start_matches("| `tidegate ").split([' ', '`']).next().unwrap_or_default();
        assert!(all.iter().any(|known| known == name), "README has a command {name}");
    }
    let routes = include_str!("../src/http/route.rs");
    let paths =
        routes.lines().filter_map(|line| line.trim().strip_prefix("route(\"")?.split('"').next());
    let paths: Vec<&str> = paths.collect();
    assert!(paths.len() >= 12, "{paths:?}");
    let table = part("Endpoints");
    for path in paths.into_iter().chain(["/api/v1/rejects", "/api/v1/rejects/resubmit", "/ "]) {
        let ends = ['`', '?', ' '].map(|end| format!(" {}{end}", path.trim_end()));
        assert!(ends.iter().any(|text| table.contains(text)), "README's endpoints lack {path}");
    }
}

#[test]
fn every_file_that_the_readme_names_is_there() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let links = links(README);
    assert!(links.len() >= 5, "the README names its proofs");
    for link in links {
        assert!(top.join(link).exists(), "README.md names {link}, which is not there");
    }
}

/// A promise without its proof beside it is only a sentence.
#[test]
fn each_bold_sentence_has_its_test_beside_it() {
    let promises = README.split("\n- ").filter(|item| item.starts_with("**"));
    let mut count = 0;
    for promise in promises {
        let own = promise.split("\n\n").next().unwrap_or_default();
        assert!(own.contains("](tests/"), "no test beside: {own}");
        count += 1;
    }
    assert!(count >= 5, "{count} promises found");
}
