//! Standard output. Whoever reads it may have enough, as in `| head`: then a command ends at once and
//! without a word, as others do that the system ends for it.

use std::io::{self, Write};

use super::Failure;

/// Writes a text, all of it.
///
/// # Errors
///
/// [`Failure::Unread`] when nobody reads any more, [`Failure::Unwritten`] when it cannot be written.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout();
    // What stays in its buffer would be lost in silence at the end of the process.
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// The same with an end of line.
///
/// # Errors
///
/// As of [`print()`].
pub fn say(line: &str) -> Result<(), Failure> {
    print(&format!("{line}\n"))
}

/// Says on standard output, or where that takes no more on standard error, what must not be lost with the
/// output: where the evidence lies.
pub fn say_somewhere(line: &str) {
    if say(line).is_err() {
        // Neither takes it: there is nobody left to tell.
        drop(writeln!(io::stderr(), "{line}"));
    }
}

/// Whether a terminal that shows this may be given colours. Source: no-color.org; terminfo's "dumb".
pub fn has_colours(is_terminal: bool) -> bool {
    let asks_for_none = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    is_terminal && !asks_for_none && std::env::var_os("TERM").is_none_or(|kind| kind != "dumb")
}

/// Whether a terminal of this locale shows more than ASCII. Source: POSIX.1-2017, "Environment Variables": of
/// `LC_ALL`, `LC_CTYPE` and `LANG` the first that is set and not empty counts.
pub fn has_signs() -> bool {
    let mut locales = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(std::env::var_os);
    let locale = locales.find(|locale| !locale.is_empty()).unwrap_or_default();
    let locale = locale.to_string_lossy().to_ascii_lowercase();
    locale.ends_with("utf-8") || locale.ends_with("utf8")
}

/// A line in place of the one before, on a terminal. What is too long for it is cut off there, since a line
/// that is broken cannot be written over.
pub fn in_place(line: &str) -> String {
    format!("\r\x1b[K\x1b[?7l{line}\x1b[?7h")
}

/// What an attempt to write to standard output means for the command.
///
/// # Errors
///
/// As of [`print()`].
pub fn written(result: io::Result<()>) -> Result<(), Failure> {
    result.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::Unread,
        _ => Failure::Unwritten(error),
    })
}
