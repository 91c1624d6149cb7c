//! `tidegate completions`: what a shell needs to complete our commands, made of the commands themselves.

use std::collections::BTreeSet;

use clap::{Args, ValueEnum};
use clap_complete::{Generator, Shell};

use super::{Failure, out};

/// What stands below `completions --help`.
pub const EXAMPLES: &str = "Examples:
  tidegate completions bash > /etc/bash_completion.d/tidegate
  tidegate completions zsh > /usr/local/share/zsh/site-functions/_tidegate
  tidegate completions fish > /etc/fish/completions/tidegate.fish";

/// Flags of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: Kind,
}

/// A shell that is completed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Bash,
    Zsh,
    Fish,
}

impl Kind {
    const fn shell(self) -> Shell {
        match self {
            Self::Bash => Shell::Bash,
            Self::Zsh => Shell::Zsh,
            Self::Fish => Shell::Fish,
        }
    }
}

/// Writes the script to standard output.
///
/// # Errors
///
/// [`Failure::Failed`] when nobody takes it.
pub fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut command = super::command();
    command.set_bin_name("tidegate");
    command.build();
    let mut script = Vec::new();
    args.shell.shell().generate(&command, &mut script);
    let script = without(&String::from_utf8_lossy(&script), &hidden(&command));
    out::print(&script)
}

/// The long names of flags that no command shows.
fn hidden(command: &clap::Command) -> BTreeSet<String> {
    fn put(command: &clap::Command, shown: &mut BTreeSet<String>, hidden: &mut BTreeSet<String>) {
        for arg in command.get_arguments() {
            let set = if arg.is_hide_set() { &mut *hidden } else { &mut *shown };
            set.extend(arg.get_long().map(str::to_owned));
        }
        for below in command.get_subcommands() {
            put(below, shown, hidden);
        }
    }
    let (mut shown, mut hidden) = (BTreeSet::new(), BTreeSet::new());
    put(command, &mut shown, &mut hidden);
    hidden.retain(|name| !shown.contains(name));
    hidden
}

/// A script without hidden flags: those for zsh and fish have each on a line of its own, that for bash has
/// all flags of a command in one.
fn without(script: &str, hidden: &BTreeSet<String>) -> String {
    let forms =
        |name: &String| [format!("'--{name}["), format!("'--{name}=["), format!(" -l {name} ")];
    let forms: Vec<String> = hidden.iter().flat_map(forms).collect();
    let mut kept = String::with_capacity(script.len());
    for line in script.lines().filter(|line| !forms.iter().any(|form| line.contains(form))) {
        let mut line = line.to_owned();
        if line.trim_start().starts_with("opts=") {
            for name in hidden {
                line = line.replace(&format!(" --{name} "), " ");
            }
        }
        kept.push_str(&line);
        kept.push('\n');
    }
    kept
}
