//! Promise: the server is safe on a network. Slow and idle clients cost little and hold up nobody; what
//! is too large, too long or not what it seems is refused in bounded memory; no name leads out of the
//! data folder; nobody does what they may not; no secret is shown.
//!
//! Ten thousand connections at once have a process of their own: `security_crowd.rs`.

#[path = "security/bodies.rs"]
mod bodies;
#[path = "common/mod.rs"]
mod common;
#[path = "security/gone.rs"]
mod gone;
#[path = "security/names.rs"]
mod names;
#[path = "security/scopes.rs"]
mod scopes;
#[path = "security/secrets.rs"]
mod secrets;
#[path = "security/signatures.rs"]
mod signatures;
#[path = "security/slow.rs"]
mod slow;
#[path = "security/wire.rs"]
mod wire;

use std::path::Path;

/// The files that compare secrets, and how often each does so in constant time.
const COMPARING: [(&str, usize); 2] = [("src/http/auth.rs", 1), ("src/http/auth/sigv4.rs", 1)];

/// What a secret is called in these files.
const SECRET_WORDS: [&str; 4] = ["secret", "password", "signature", "token"];

/// Goal: how long a comparison takes tells nothing of a secret. Method: the code is read; a time that is
/// measured over a network proves nothing either way.
#[test]
fn secrets_are_compared_in_constant_time() {
    for (name, times) in COMPARING {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let text = std::fs::read_to_string(path).expect("it is there");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        assert_eq!(code.matches(".ct_eq(").count(), times, "{name}");
        for line in code.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
            let is_comparison =
                [" == ", " != ", ".eq(", ".cmp("].iter().any(|sign| line.contains(sign));
            let line_has = |word: &&str| line.to_ascii_lowercase().contains(*word);
            let found = SECRET_WORDS.iter().find(|word| is_comparison && line_has(word));
            assert_eq!(found, None, "{name}: {line}");
        }
    }
}
