//! Words that can be pasted into a POSIX shell, whatever is in them, and shown on a terminal that obeys none of it.
//!
//! | text | word |
//! |---|---|
//! | letters, digits, and what no shell reads anything into | as it is |
//! | any other that can be printed | in single quotes |
//! | with control characters or marks of direction | `"$(printf '..')"` with their bytes as octal numbers |
//!
//! A shell takes the ends of lines behind a command's output away: those at the end of a text stand as they are,
//! in quotes. No word of a command line can have a NUL: such a text cannot be pasted at all.

use std::fmt::Write as _;

/// Whether a terminal might obey a character: control characters, and marks that turn the order of what follows
/// around without being any.
pub fn is_obeyed(c: char) -> bool {
    let is_mark =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || is_mark
}

/// The word of a command line that a POSIX shell makes this text of.
pub fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    let body = text.trim_end_matches('\n');
    let ends = &text[body.len()..];
    let mut word = if body.chars().any(is_obeyed) { printed(body) } else { quoted(body) };
    if !ends.is_empty() {
        word.push_str(&quoted(ends));
    }
    word
}

/// A flag with its value, as one or two words.
pub fn flag(name: &str, value: &str) -> String {
    // What begins as a flag does is taken for one where it stands by itself.
    let between = if value.starts_with('-') { '=' } else { ' ' };
    format!("--{name}{between}{}", word(value))
}

/// A command that was made of [`word`]s, for a terminal: who reads it out of a file may find anything there.
pub fn shown(command: &str) -> String {
    let is_own_end = |at: usize| command[at + 1..].trim_start_matches('\n').starts_with('\'');
    let mut shown = String::with_capacity(command.len());
    for (at, c) in command.char_indices() {
        if is_obeyed(c) && !(c == '\n' && is_own_end(at)) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The text as the output of `printf`, without ends of lines at its own end.
fn printed(text: &str) -> String {
    let mut format = String::with_capacity(text.len() + 8);
    for (at, c) in text.char_indices() {
        match c {
            // Else it would be an option of `printf`.
            '-' if at == 0 => format.push_str(r"\055"),
            // Between double quotes some shells look for it in their history when it is typed.
            '!' => format.push_str(r"\041"),
            '%' => format.push_str("%%"),
            '\\' => format.push_str(r"\\"),
            '\n' => format.push_str(r"\n"),
            c if is_obeyed(c) => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    write!(format, "\\{byte:03o}").expect("a string takes everything");
                }
            }
            c => format.push(c),
        }
    }
    format!("\"$(printf {})\"", quoted(&format))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// What a shell makes of the words.
    fn by_a_shell(words: &str) -> Vec<u8> {
        let script = format!("printf '%s\\0' {words}");
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(output.status.success(), "{script:?}: {output:?}");
        output.stdout
    }

    /// Texts of what shells, `printf` and terminals read something into, by chance.
    fn texts(seed: u64, count: usize) -> Vec<String> {
        const PARTS: [&str; 40] = [
            " ",
            "'",
            "\"",
            "$",
            "\\",
            "\n",
            "\t",
            "`",
            "$(",
            ")",
            "%",
            "%s",
            "\\n",
            "\\0",
            "!",
            "*",
            "?",
            "[",
            "]",
            "~",
            "#",
            "&",
            "|",
            ";",
            "<",
            ">",
            "{a,b}",
            "a",
            "Grüße",
            "温",
            "\u{1b}[2J",
            "\r",
            "\u{7f}",
            "\u{9b}",
            "\u{202e}",
            "-",
            "--",
            "=",
            "$HOME",
            "\n\n",
        ];
        let mut state = seed;
        let mut next = |below: usize| {
            state = xxhash_rust::xxh3::xxh3_64(&state.to_le_bytes());
            usize::try_from(state % 1_000_003).unwrap() % below
        };
        let mut text = || (0..next(9)).map(|_| PARTS[next(PARTS.len())]).collect::<String>();
        (0..count).map(|_| text()).collect()
    }

    #[test]
    fn a_shell_makes_the_text_of_its_word() {
        let seed = std::env::var("TIDEGATE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or(0x5eed);
        println_seed(seed);
        for round in 0..20 {
            let texts = texts(seed + round, 100);
            let words: Vec<String> = texts.iter().map(|text| word(text)).collect();
            let expected: Vec<u8> = texts.iter().flat_map(|text| text.bytes().chain([0])).collect();
            let found = by_a_shell(&words.join(" "));
            assert!(
                found == expected,
                "seed {seed}: {:?}",
                texts
                    .iter()
                    .find(|text| by_a_shell(&word(text)) != [text.as_bytes(), &[0]].concat())
            );
            // What is shown of it is still the same word, and commands no terminal.
            for (text, word) in texts.iter().zip(&words) {
                let shown = shown(word);
                assert_eq!(&shown, word, "{text:?}");
                assert!(!shown.chars().any(|c| is_obeyed(c) && c != '\n'), "{text:?}");
            }
        }
    }

    #[expect(clippy::print_stderr, reason = "a seed is printed where its test fails")]
    fn println_seed(seed: u64) {
        eprintln!("TIDEGATE_TEST_SEED={seed}");
    }

    #[test]
    fn a_word_is_plain_where_it_can_be() {
        for (text, expected) in [
            ("version=next", "version=next"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("a\tb", r#""$(printf 'a\011b')""#),
            ("a\n", "'a''\n'"),
            ("-\t", r#""$(printf '\055\011')""#),
        ] {
            assert_eq!(word(text), expected);
        }
        assert_eq!(flag("line", "-m,a=b t=1"), "--line='-m,a=b t=1'");
        assert_eq!(flag("set", "version=2"), "--set version=2");
    }

    #[test]
    fn what_is_no_word_of_ours_commands_no_terminal_either() {
        assert_eq!(shown("a\nstate  open\u{1b}[2J"), "a\\u{a}state  open\\u{1b}[2J");
    }
}
