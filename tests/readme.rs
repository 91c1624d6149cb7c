//! Promise: what the README prints works as it is printed.
//!
//! The blocks below "First write" and "Reading it back" are taken out of the text and run in order
//! against a server with default settings, its port put in place of the default one; what comes back
//! must be the printed answer.

#[path = "common/mod.rs"]
mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::gateway::Place;

const README: &str = include_str!("../README.md");

/// A fenced block: its language, its text, and the heading that it stands below.
struct Block {
    heading: String,
    language: String,
    text: String,
}

fn blocks() -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut heading, mut is_open) = (String::new(), false);
    for line in README.lines() {
        if let Some(language) = line.strip_prefix("```") {
            if !is_open {
                let (language, text) = (language.to_owned(), String::new());
                blocks.push(Block { heading: heading.clone(), language, text });
            }
            is_open = !is_open;
        } else if is_open {
            let block = blocks.last_mut().expect("a block is open");
            block.text.push_str(line);
            block.text.push('\n');
        } else if let Some(title) = line.strip_prefix("## ") {
            title.clone_into(&mut heading);
        }
    }
    blocks
}

fn run(mut command: Command) -> String {
    let output = command.output().expect("a command that tests/run.sh installs");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {complaints}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn python() -> PathBuf {
    std::env::var_os("TIDEGATE_TEST_PYTHON").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.tools/python/bin/python"),
        PathBuf::from,
    )
}

#[test]
fn the_examples_work_as_printed() {
    let place = Place::new("");
    let server = place.start();
    let at = server.address.to_string();
    let mut printed = String::new();
    let mut ran = 0;
    for block in blocks() {
        if !matches!(&*block.heading, "First write" | "Reading it back") {
            continue;
        }
        let text = block.text.replace("127.0.0.1:8086", &at);
        match &*block.language {
            "sh" => {
                let mut shell = Command::new("sh");
                shell.args(["-euc", &text]);
                printed = run(shell);
            }
            "python" => {
                let mut interpreter = Command::new(python());
                interpreter.args(["-c", &text]);
                printed = run(interpreter);
            }
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

#[test]
fn every_file_that_the_readme_names_is_there() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let links: Vec<&str> = README
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target)
        .filter(|target| !target.starts_with("http"))
        .collect();
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
