//! `tidegate man`: the manual pages, made of the commands themselves.

use std::path::PathBuf;

use clap::Args;
use clap_mangen::Man;

use super::{Failure, out};

/// What stands below `man --help`.
pub const EXAMPLES: &str = "Examples:
  tidegate man | man -l -
  tidegate man --dir /usr/local/share/man/man1";

/// Flags of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// A folder for a page of every command; without it the page of tidegate goes to standard output.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Writes the pages, each named as `git` names its own: `tidegate-wal-ls.1`.
///
/// # Errors
///
/// [`Failure::Failed`] when they cannot be written.
pub fn run(args: &ManArgs) -> Result<(), Failure> {
    let command = super::command();
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        // Help is in every page already.
        let man = Man::new(command.disable_help_subcommand(true));
        man.render(&mut page).map_err(Failure::failed)?;
        return out::print(&String::from_utf8_lossy(&page));
    };
    let failed = |error| Failure::failed(format!("{}: {error}", dir.display()));
    std::fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(command, dir).map_err(failed)
}
