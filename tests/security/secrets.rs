//! No secret is ever shown: not in the log at its most talkative, not in an error, not in `check`, not on
//! any page.

use std::fmt::Write as _;
use std::fs;

use base64::Engine as _;

use super::common::gateway::{Place, files_below};
use super::common::tell;
use super::wire::{Signed, encode, exchange};

/// Each stands for one that somebody has.
const SECRETS: [&str; 6] = [
    "s3cret-token-1",
    "s3cret-token-file",
    "s3cret:pass word",
    "signing-secret",
    "wr0ng-token",
    "wr0ng:pass word",
];

const SETTINGS: &str = r#"
[log]
level = "trace"

[[auth.tokens]]
name = "agent"
token = "s3cret-token-1"
read = ["d"]
write = ["d"]

[[auth.tokens]]
name = "file"
token_file = "token"
read = ["d"]
write = ["d"]

[[auth.users]]
name = "ada"
password = "s3cret:pass word"
read = ["d"]
write = ["d"]

[[auth.access_keys]]
id = "AKIDFLEET"
secret = "signing-secret"
read = ["*"]
write = ["*"]
"#;

/// Each family of answers, good ones and errors.
const PATHS: [(&str, &str); 10] = [
    ("POST", "/write?db=d&"),
    ("POST", "/write?precision=wrong&db=d&"),
    ("POST", "/api/v2/write?bucket=d&"),
    ("POST", "/api/v3/write_lp?db=d&"),
    ("POST", "/api/v1/write?db=d&"),
    ("GET", "/api/v1/export?db=d&table=none&"),
    ("GET", "/query?q=SHOW+DATABASES&"),
    ("GET", "/query?q=SELECT+1&"),
    ("PUT", "/nowhere?"),
    ("POST", "/?"),
];

/// Every form in which a secret may stand in a text.
fn forms(secret: &str) -> Vec<String> {
    let base64 = |text: String| base64::engine::general_purpose::STANDARD.encode(text);
    vec![
        secret.to_owned(),
        encode(secret),
        secret.replace(' ', "+"),
        secret.replace(' ', "%20"),
        base64(secret.to_owned()),
        base64(format!("ada:{secret}")),
    ]
}

/// Every way to show it.
fn headers(secret: &str) -> [String; 8] {
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("ada:{secret}"));
    [
        format!("Authorization: Token {secret}"),
        format!("Authorization: Bearer {secret}"),
        format!("Authorization: Token ada:{secret}"),
        format!("Authorization: Basic {basic}"),
        // Refused by their form, which no error may quote.
        format!("Authorization: {secret}"),
        format!("Authorization: Basic {secret}"),
        format!("Authorization: AWS4-HMAC-SHA256 {secret}"),
        "X-A: b".to_owned(),
    ]
}

fn assert_silent(place: &str, text: &str) {
    for secret in SECRETS {
        for form in forms(secret) {
            let found = text.lines().find(|line| line.contains(&form));
            assert_eq!(found, None, "{place} shows {secret:?}");
        }
    }
}

#[test]
fn no_secret_is_shown_at_any_level_in_any_error_or_on_any_page() {
    let place = Place::new(SETTINGS);
    fs::write(place.file("token"), "s3cret-token-file\n").expect("it can be written");
    let server = place.start();
    let mut answers = 0;
    for secret in SECRETS {
        let (plus, percent) = (secret.replace(' ', "+"), encode(secret));
        for header in headers(secret) {
            for query in [
                String::new(),
                format!("u=ada&p={plus}"),
                format!("u=ada&p={percent}"),
                format!("p={percent}"),
            ] {
                for (method, path) in PATHS {
                    // The last line is none, so that an error is answered.
                    let request = format!(
                        "{method} {path}{query} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{header}\r\n\
                         Content-Length: 14\r\n\r\nm,s=a v=1i 1\n,"
                    );
                    assert_silent(path, &exchange(server.address, request.as_bytes()));
                    answers += 1;
                }
            }
        }
    }
    let call = Signed::call("ListDatabases", "{}");
    assert_eq!(call.send(server.address), 200);
    assert_silent("a signature", &call.send_changed(server.address, |_, body| body.push(' ')).1);
    for page in ["/metrics", "/health", "/ready", "/ping?verbose=true", "/", "/api/v1/status"] {
        assert_silent(page, &server.client().get(page).expect("it is answered").text());
    }
    let log = server.log();
    server.stop();
    let said = log.text();
    assert!(
        said.contains("DEBUG") && said.contains("endpoint"),
        "the log says little: {said:.2000}"
    );
    assert_silent("the log", &said);
    let checked = place.run("check", &[]);
    assert!(checked.status.success());
    let text = String::from_utf8_lossy(&checked.stdout);
    assert!(text.contains("***"), "{text}");
    assert_silent("check", &text);
    for file in files_below(&place.data(), "") {
        let bytes = fs::read(&file).expect("it can be read");
        assert_silent(&file.display().to_string(), &String::from_utf8_lossy(&bytes));
    }
    tell(format!("secrets: {answers} answers and {} bytes of log, no secret in them", said.len()));
}

#[test]
fn settings_that_cannot_be_read_do_not_show_the_secrets_in_them() {
    let place = Place::new("");
    for text in [
        "[[auth.tokens]]\nname = \"a\"\ntoken = \"s3cret-token-1",
        "[[auth.tokens]]\nname = \"a\"\ntoken = \"s3cret-token-1\" \"x\"",
        "[[auth.tokens]]\nname = \"a\"\ntokn = \"s3cret-token-1\"",
        "[[auth.tokens]]\nname = \"a\"\ntoken = [\"s3cret-token-1\"]",
        "[auth]\ntokens = [{ name = \"a\", token = \"s3cret-token-1\", write = 7 }]",
        "[auth]\ntokens = \"s3cret-token-1\"",
        "[auth]\nanonymous = \"s3cret-token-1\"",
        "auth = \"s3cret-token-1\"",
        "auth.tokens = \"s3cret-token-1\"",
        "[auth]\nusers = [\n  { name = \"a\",\n    password = \"s3cret:pass word\",\n",
        "[auth]\naccess_keys = [\n  { id = \"a\",\n    secret = \"signing-secret\" }\n  nonsense\n]",
        "[[auth.tokens]]\nname = \"a\"\ntoken = \"s3cret-token-1\"\ntoken_file = \"b\"",
    ] {
        place.configure(text);
        for command in ["check", "serve"] {
            let output = place.run(command, &[]);
            assert_eq!(output.status.code(), Some(2), "{text}");
            let mut said = String::from_utf8_lossy(&output.stderr).into_owned();
            write!(said, "{}", String::from_utf8_lossy(&output.stdout))
                .expect("a string takes all");
            assert_silent(text, &said);
            assert!(said.len() > 30, "it says what is wrong: {said}");
        }
    }
    place.configure("");
    let mut command = place.command("check");
    command.env("TIDEGATE_AUTH__TOKENS", "s3cret-token-1");
    let output = command.output().expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("TIDEGATE_AUTH__TOKENS"), "{said}");
    assert_silent("a variable", &said);
}
