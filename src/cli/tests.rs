//! The command line: what is refused, and that every help has an example that can be typed.

use super::*;

#[test]
fn options_before_a_command_are_refused_and_not_passed_over() {
    for refused in [
        &["tidegate", "-c", "c.toml", "serve"][..],
        &["tidegate", "--data", "d", "check"],
        &["tidegate", "--listen", "127.0.0.1:1", "wal", "ls"],
    ] {
        let error = Cli::try_parse_from(refused).unwrap_err().to_string();
        assert!(error.contains("cannot be used with"), "{refused:?}: {error}");
    }
    for taken in [
        &["tidegate"][..],
        &["tidegate", "-c", "c.toml", "--data", "d"],
        &["tidegate", "serve", "-c", "c.toml"],
        &["tidegate", "check", "--data", "d"],
    ] {
        assert!(Cli::try_parse_from(taken).is_ok(), "{taken:?}");
    }
}

/// A command with the words that lead to it.
fn all_commands() -> Vec<(String, clap::Command)> {
    fn put(command: &clap::Command, path: &str, all: &mut Vec<(String, clap::Command)>) {
        let path = format!("{path} {}", command.get_name()).trim().to_owned();
        all.push((path.clone(), command.clone()));
        for below in command.get_subcommands() {
            put(below, &path, all);
        }
    }
    let mut all = Vec::new();
    put(&command(), "", &mut all);
    all
}

/// The words of each example: lines that begin with two blanks, a `\` at the end going on in the next.
fn examples(help: &str) -> Vec<Vec<String>> {
    let joined = help.replace("\\\n", " ");
    let lines = joined.lines().filter(|line| line.starts_with("  "));
    lines.map(|line| words(line.trim())).collect()
}

/// A line as a shell takes it apart, from our name up to a redirection, a pipe or a comment.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars().chain([' ']) {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, ' ') if word.is_empty() => {}
            (None, ' ') => words.push(std::mem::take(&mut word)),
            (_, c) => word.push(c),
        }
    }
    let begin = words.iter().position(|word| word == "tidegate").unwrap_or_default();
    let ours = words.split_off(begin);
    ours.into_iter().take_while(|word| !matches!(&**word, "|" | ">" | "&" | "#")).collect()
}

#[test]
fn every_help_has_examples_that_are_commands() {
    let mut count = 0;
    for (path, command) in all_commands() {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains("Example"), "{path} --help shows no example");
        let examples = examples(&help);
        assert!(!examples.is_empty(), "{path}: {help}");
        let mut own = 0;
        for example in examples {
            assert_eq!(example[0], "tidegate", "{path}: {example:?}");
            let parsed = Cli::try_parse_from(&example);
            assert!(parsed.is_ok(), "{path}: {example:?}: {}", parsed.unwrap_err());
            let is_own = example.iter().zip(path.split(' ')).all(|(word, own)| word == own);
            own += u32::from(is_own);
            count += 1;
        }
        assert!(own > 0, "{path} shows none of its own");
    }
    assert!(count >= 20, "{count} examples");
}
