//! `tidegate check`: are the settings right, and what are they?

use std::io::{self, Write};

use super::{Failure, SettingsArgs};

/// Prints the settings in effect, then every contradiction.
///
/// # Errors
///
/// [`Failure::Usage`] when they cannot be read, or contradict themselves.
pub fn run(args: &SettingsArgs) -> Result<(), Failure> {
    let config = args.load(Vec::new())?.placed();
    // Secrets serialise as "***".
    let text = toml::to_string(&config).map_err(Failure::failed)?;
    write!(io::stdout(), "{text}").map_err(Failure::failed)?;
    let problems = config.problems();
    if problems.is_empty() {
        return Ok(());
    }
    Err(Failure::usage(format!("{} problems:\n  {}", problems.len(), problems.join("\n  "))))
}
