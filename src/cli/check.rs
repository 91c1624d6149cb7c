//! `tidegate check`: are the settings right, and what are they?

use super::{Failure, SettingsArgs, out};

/// Prints the settings in effect, then every contradiction.
///
/// # Errors
///
/// [`Failure::Usage`] when they cannot be read, or contradict themselves.
pub fn run(args: &SettingsArgs) -> Result<(), Failure> {
    let config = args.load(Vec::new())?.placed();
    // Secrets serialise as "***".
    let text = toml::to_string(&config).map_err(Failure::failed)?;
    out::print(&text)?;
    let problems = config.problems();
    if problems.is_empty() {
        return Ok(());
    }
    let count =
        if problems.len() == 1 { "a problem" } else { &format!("{} problems", problems.len()) };
    Err(Failure::usage(format!("{count}:\n  {}", problems.join("\n  "))))
}
