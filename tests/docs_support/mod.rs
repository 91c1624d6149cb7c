//! Pages of documentation as what stands in them: fenced blocks, links, and the tools that run blocks.

#![allow(dead_code, reason = "each test uses its own part")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// A fenced block: the heading that it stands below, its language, its text.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) heading: String,
    pub(crate) language: String,
    pub(crate) text: String,
}

/// All blocks of a page, in order.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut heading, mut is_open) = (String::new(), false);
    for line in page.lines() {
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

/// The files that a page links to.
pub(crate) fn links(page: &str) -> Vec<&str> {
    let targets = page.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let files = targets.filter_map(|(target, _)| target.split('#').next());
    files.filter(|file| !file.is_empty() && !file.starts_with("http")).collect()
}

/// Runs a command that must succeed, and returns what it printed.
pub(crate) fn run(mut command: Command) -> String {
    let output = command.output().expect("a command that tests/run.sh installs");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {complaints}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A program that `tests/run.sh` has put into `tests/.tools`.
pub(crate) fn tool(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.tools").join(name)
}

/// A program of the Python environment of the tests.
pub(crate) fn python(program: &str) -> PathBuf {
    let python = std::env::var_os("TIDEGATE_TEST_PYTHON")
        .map_or_else(|| tool("python/bin/python"), PathBuf::from);
    python.with_file_name(program)
}

/// Runs `text` by the interpreter of its language.
pub(crate) fn interpret(language: &str, text: &str) -> String {
    let mut command = match language {
        "sh" => Command::new("sh"),
        "python" => Command::new(python("python")),
        "micropython" => Command::new(python("micropython")),
        _ => Command::new(tool("node")),
    };
    let flag = if language == "sh" {
        "-euc"
    } else if language == "javascript" {
        "-e"
    } else {
        "-c"
    };
    command.args([flag, text]).env("NODE_PATH", tool("js/node_modules"));
    // Keys that the SDKs ask for; on loopback any will do.
    command.env("AWS_ACCESS_KEY_ID", "any").env("AWS_SECRET_ACCESS_KEY", "any");
    command.env("AWS_DEFAULT_REGION", "us-east-1");
    run(command)
}
