//! Rust source without its comments and the contents of its literals, so that a rule about code never
//! reads prose.

use std::iter::Peekable;
use std::str::Chars;

/// `text` with every comment and the content of every literal left out. Lines stay where they are.
pub(crate) fn code_of(text: &str) -> String {
    let mut walk = Walk { rest: text.chars().peekable(), code: String::with_capacity(text.len()) };
    while let Some(c) = walk.rest.next() {
        walk.step(c);
    }
    walk.code
}

struct Walk<'t> {
    rest: Peekable<Chars<'t>>,
    code: String,
}

impl Walk<'_> {
    fn step(&mut self, c: char) {
        match c {
            '/' if self.rest.peek() == Some(&'/') => self.line_comment(),
            '/' if self.rest.peek() == Some(&'*') => self.block_comment(),
            '"' => self.string(),
            'r' if !self.is_in_word() && matches!(self.rest.peek(), Some('"' | '#')) => self.raw(),
            '\'' => self.quote(),
            _ => self.code.push(c),
        }
    }

    /// Whether the next character continues a word: the `r` of `for"` is not a raw string's.
    fn is_in_word(&self) -> bool {
        // `br` is a raw string's too; no word of Rust ends in `br` right before a quote.
        self.code.ends_with(|c: char| c != 'b' && (c.is_alphanumeric() || c == '_'))
    }

    fn line_comment(&mut self) {
        while self.rest.next_if(|c| *c != '\n').is_some() {}
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        let mut before = '/';
        for c in self.rest.by_ref() {
            match (before, c) {
                ('/', '*') => depth += 1,
                ('*', '/') => depth -= 1,
                (_, '\n') => self.code.push('\n'),
                _ => {}
            }
            if depth == 0 {
                return;
            }
            // The slash that ends one comment does not begin the next.
            before = if (before, c) == ('*', '/') { ' ' } else { c };
        }
    }

    fn string(&mut self) {
        self.code.push('"');
        while let Some(c) = self.rest.next() {
            match c {
                // What is escaped ends nothing; a line's end stays one.
                '\\' => self.code.extend(self.rest.next().filter(|escaped| *escaped == '\n')),
                '\n' => self.code.push('\n'),
                '"' => break,
                _ => {}
            }
        }
        self.code.push('"');
    }

    fn raw(&mut self) {
        let mut hashes = 0;
        while self.rest.next_if_eq(&'#').is_some() {
            hashes += 1;
        }
        if self.rest.next_if_eq(&'"').is_none() {
            // `r#type` is a word.
            self.code.push('r');
            return;
        }
        self.code.push('"');
        while let Some(c) = self.rest.next() {
            if c == '\n' {
                self.code.push('\n');
            }
            if c == '"' && (0..hashes).all(|_| self.rest.next_if_eq(&'#').is_some()) {
                break;
            }
        }
        self.code.push('"');
    }

    /// A character, or a lifetime.
    fn quote(&mut self) {
        self.code.push('\'');
        let mut ahead = self.rest.clone();
        let (first, second) = (ahead.next(), ahead.next());
        if first == Some('\\') {
            self.rest.next();
            self.rest.next();
            while self.rest.next().is_some_and(|c| c != '\'') {}
            self.code.push('\'');
        } else if second == Some('\'') {
            self.rest.next();
            self.rest.next();
            self.code.push('\'');
        }
    }
}

/// Whether `code` has `word` as a word of its own.
pub(crate) fn has_word(code: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        !code[..at].ends_with(is_part) && !code[at + word.len()..].starts_with(is_part)
    })
}

/// Every module named behind `crate::` in `code`, groups in braces included.
pub(crate) fn crate_modules(code: &str) -> Vec<&str> {
    let mut modules = Vec::new();
    for (at, found) in code.match_indices("crate::") {
        let before = &code[..at];
        // `$crate::` in a macro is ours as well; `mycrate::` is not.
        if !before.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            heads(&code[at + found.len()..], &mut modules);
        }
    }
    modules
}

/// The first words of a path, or of every path of a group in braces.
fn heads<'c>(path: &'c str, modules: &mut Vec<&'c str>) {
    let path = path.trim_start();
    let Some(group) = path.strip_prefix('{') else {
        let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
        modules.push(&path[..end]);
        return;
    };
    let (mut depth, mut begin) = (0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                if !group[begin..at].trim().is_empty() {
                    heads(&group[begin..at], modules);
                }
                begin = at + 1;
                if c == '}' {
                    return;
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_not_code() {
        let cases = [
            ("a // b\nc", "a \nc"),
            ("a /* b /* c */ d */ e", "a  e"),
            (r#"f("x \" // y") g"#, r#"f("") g"#),
            (r##"r#"a " b"# c"##, r#""" c"#),
            ("b\"x\" br\"y\"", "b\"\" b\"\""),
            (r"'\'' 'x' 'static", "'' '' 'static"),
            ("\"a\nb\" c", "\"\n\" c"),
            ("r#type", "rtype"),
            ("'\"' x", "'' x"),
        ];
        for (text, code) in cases {
            assert_eq!(code_of(text), code, "{text}");
        }
    }

    #[test]
    fn groups_are_searched_for_modules() {
        let code = "use crate::{a, b::c, d::{e, f}};\nuse crate::g::h; let x = $crate::i::j();\n\
                    pub(crate) fn k() {} use mycrate::l; use crate::{\n m::{self},\n};";
        assert_eq!(crate_modules(code), ["a", "b", "d", "g", "i", "m"]);
    }
}
