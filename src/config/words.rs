//! What is wrong with a value, for people: the words of the reader of TOML name types of Rust, and list
//! without saying what to do.

/// How the reader of TOML begins where a text is none of a few words.
pub(super) const NO_SUCH_WORD: &str = "unknown variant";

/// What would be right, where the reader of TOML says so; its own words where it says something else.
pub(super) fn right(message: &str) -> String {
    wanted(message).map_or_else(|| message.trim_end().to_owned(), |right| format!("write {right}"))
}

/// The same, or nothing, and never a word of what was found.
pub(super) fn wanted(message: &str) -> Option<String> {
    let message = message.trim_end();
    if message.contains("invalid socket address") {
        return Some("an address and a port, as in \"127.0.0.1:8086\"".to_owned());
    }
    let (found, expected) = message.rsplit_once(", expected ")?;
    if found.starts_with(NO_SUCH_WORD) {
        return Some(choice(expected));
    }
    let right = match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i32" | "i64" => "a whole number",
        "a boolean" => "true or false",
        "a string" | "path string" | "socket address" => "a text in quotation marks",
        "a sequence" => "a list in brackets",
        section if section.starts_with("struct ") => "its name in brackets, and its keys below",
        // Those of our own types say what to write.
        other => other,
    };
    Some(right.to_owned())
}

/// `` one of `a`, `b`, `c` `` and `` `a` or `b` `` as they are written in a file.
fn choice(expected: &str) -> String {
    let words: Vec<String> =
        expected.split('`').skip(1).step_by(2).map(|word| format!("{word:?}")).collect();
    match words.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} or {last}", before.join(", ")),
        Some((only, _)) => only.clone(),
        None => expected.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The left column is what the reader of TOML says.
    #[test]
    fn its_words_become_what_to_write() {
        for (message, told) in [
            (
                "unknown variant `applied`, expected one of `memory`, `interval`, `sync`",
                "write \"memory\", \"interval\" or \"sync\"",
            ),
            ("unknown variant `xml`, expected `text` or `json`", "write \"text\" or \"json\""),
            ("unknown variant `a, expected b`, expected `c`", "write \"c\""),
            ("invalid type: integer `3`, expected a string", "write a text in quotation marks"),
            ("invalid value: integer `-1`, expected usize", "write a whole number, 0 or more"),
            (
                "invalid type: boolean `true`, expected a size, as in \"64 MiB\"",
                "write a size, as in \"64 MiB\"",
            ),
            (
                "invalid type: integer `3`, expected struct Options",
                "write its name in brackets, and its keys below",
            ),
            (
                "invalid socket address syntax",
                "write an address and a port, as in \"127.0.0.1:8086\"",
            ),
            ("\"2 gigs\" is not a size", "\"2 gigs\" is not a size"),
        ] {
            assert_eq!(right(message), told, "{message}");
        }
    }

    #[test]
    fn what_was_found_is_not_among_what_is_wanted() {
        let message = "invalid type: string \"s3cret, expected s3cret\", expected a boolean";
        assert_eq!(wanted(message).as_deref(), Some("true or false"));
        assert_eq!(wanted("s3cret is no address"), None);
    }
}
