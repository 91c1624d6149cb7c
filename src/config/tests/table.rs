//! Every documented key, tried below its least, above its most, with another type, empty, and with
//! nonsense. A key without a case fails, and so does a case that is taken.

use toml::{Table, Value};

use super::{Config, from_text};

/// A key; then values as they are written in a file, each with what must be told.
pub(super) type Case = (&'static str, &'static [(&'static str, &'static str)]);

pub(super) const CASES: &[Case] = &[
    ("data_dir", &[("\"\"", "name a folder"), ("3", "write ")]),
    (
        "server.listen",
        &[
            ("\"localhost:8086\"", "an address and a port"),
            ("\"127.0.0.1\"", "an address and a port"),
            ("\"127.0.0.1:99999\"", "an address and a port"),
            ("8086", "write "),
        ],
    ),
    (
        "server.body_bytes_max",
        &[
            ("\"100 B\"", "100 B is out of range: 1 KiB to 1 GiB"),
            ("\"2 GiB\"", "1 KiB to 1 GiB"),
            ("-1", "64 MiB"),
            ("\"many\"", "\"many\" is not a size"),
            ("\"\"", "is not a size"),
            ("true", "64 MiB"),
        ],
    ),
    ("server.inflated_bytes_max", &[("\"1 MiB\"", "32 MiB to 4 GiB"), ("\"5 GiB\"", "to 4 GiB")]),
    (
        "server.connections_max",
        &[("0", "1 to 1000000"), ("1000001", "1 to 1000000"), ("\"many\"", "write ")],
    ),
    (
        "server.header_timeout",
        &[
            ("\"1ms\"", "100ms to 10min"),
            ("\"11min\"", "100ms to 10min"),
            ("250", "250ms"),
            ("\"soon\"", "is not a time"),
        ],
    ),
    ("server.body_timeout", &[("\"0s\"", "1s to 1h"), ("\"2h\"", "1s to 1h")]),
    ("server.body_bytes_per_second_min", &[("\"2 GiB\"", "0 B to 1 GiB")]),
    ("server.body_grace", &[("\"1ms\"", "100ms to 10min"), ("\"11min\"", "100ms to 10min")]),
    ("server.idle_timeout", &[("\"1ms\"", "1s to 1h"), ("\"2h\"", "1s to 1h")]),
    ("server.request_timeout", &[("\"1ms\"", "1s to 1h"), ("\"2h\"", "1s to 1h")]),
    ("server.drain_timeout", &[("\"11min\"", "0s to 10min")]),
    ("server.stop_timeout", &[("\"1s\"", "25s to 1h"), ("\"2h\"", "to 1h")]),
    ("server.tls.cert_file", &[("\"/none.pem\"", "server.tls.key_file is empty"), ("3", "write ")]),
    ("server.tls.key_file", &[("\"/none.pem\"", "server.tls.cert_file is empty"), ("3", "write ")]),
    (
        "server.tls.client_ca_file",
        &[("\"/none\"", "server.tls.cert_file is empty"), ("3", "write ")],
    ),
    (
        "server.tls.handshake_timeout",
        &[("\"1ms\"", "100ms to 10min"), ("\"1h\"", "100ms to 10min")],
    ),
    ("server.tls.look_interval", &[("\"1ms\"", "100ms to 1d"), ("\"2d\"", "100ms to 1d")]),
    (
        "auth.tokens",
        &[
            ("[{ name = \"a\" }]", "exactly one of token and token_file"),
            ("[{ name = \"a\", token = \"\" }]", "is empty"),
            (
                "[{ name = \"a\", token = \"x\" }, { name = \"a\", token = \"y\" }]",
                "a name of its own, not \"a\"",
            ),
            (
                "[{ name = \"a\", token = \"x\" }, { name = \"b\", token = \"x\" }]",
                "\"a\" and \"b\" have the same token",
            ),
            ("[{ nme = \"a\" }]", "did you mean name?"),
            ("[{ name = 3 }]", "may hold a secret"),
            ("3", "may hold a secret"),
        ],
    ),
    (
        "auth.users",
        &[
            ("[{ name = \"a\" }]", "exactly one of password and password_file"),
            (
                "[{ name = \"a\", password = \"x\" }, { name = \"a\", password = \"y\" }]",
                "a name of its own, not \"a\"",
            ),
            ("\"a\"", "may hold a secret"),
        ],
    ),
    (
        "auth.access_keys",
        &[
            ("[{ id = \"a\" }]", "exactly one of secret and secret_file"),
            ("[{ id = \"\", secret = \"x\" }]", "an id of its own"),
            ("7", "may hold a secret"),
        ],
    ),
    (
        "auth.region",
        &[("\"eu west\"", "letters, digits and dashes"), ("3", "another type: write a text")],
    ),
    ("auth.anonymous", &[("\"yes\"", "another type: write true or false")]),
    ("ingest.version", &[("\"\"", "the name of a field"), ("3", "write ")]),
    ("ingest.create_tables", &[("\"yes\"", "write ")]),
    ("ingest.profile", &[("\"lax\"", "relaxed"), ("\"\"", "relaxed")]),
    ("ingest.measure_name", &[("3", "write ")]),
    ("ingest.default_dimension", &[("\"source\"", "name=value"), ("\"=x\"", "name=value")]),
    (
        "ingest.memory_bytes_max",
        &[("\"1 KiB\"", "1 MiB to 1 TiB"), ("\"2 TiB\"", "1 MiB to 1 TiB")],
    ),
    ("ingest.admit_wait", &[("\"2min\"", "0ms to"), ("-1", "250ms")]),
    ("wal.dir", &[("3", "write ")]),
    (
        "wal.durability",
        &[
            ("\"fsync\"", "\"memory\", \"interval\" or \"sync\""),
            ("\"\"", "\"sync\""),
            ("\"applied\"", "by its header"),
        ],
    ),
    (
        "wal.segment_bytes",
        &[
            ("\"48 MiB\"", "49160 KiB to 1 GiB"),
            ("\"2 GiB\"", "49160 KiB to 1 GiB"),
            ("\"60000001 B\"", "multiples of 4096"),
        ],
    ),
    ("wal.sync_interval", &[("\"0ms\"", "1ms to"), ("\"2min\"", "1ms to")]),
    ("wal.bytes_max", &[("\"100 MiB\"", "three segments"), ("\"2 gigs\"", "is not a size")]),
    ("wal.appender", &[("\"mmap\"", "\"map\"")]),
    ("wal.retain_bytes", &[("\"9 GiB\"", "less three segments")]),
    ("wal.retain_for", &[("\"4000d\"", "0s to 3650d")]),
    ("shards.count", &[("65", "0 to 64"), ("-1", "write "), ("1.5", "write ")]),
    ("batch.records_max", &[("0", "1 to 100"), ("101", "1 to 100")]),
    ("batch.linger", &[("\"11s\"", "0ms to 10s")]),
    ("engine.kind", &[("\"mysql\"", "\"postgres\""), ("\"\"", "\"embedded\"")]),
    ("engine.embedded.dir", &[("3", "write ")]),
    ("engine.embedded.memory_bytes_max", &[("\"1 B\"", "from 1 MiB"), ("\"17 TiB\"", "to 16 TiB")]),
    ("engine.embedded.flush_bytes", &[("\"1 KiB\"", "from 64 KiB"), ("\"1 GiB\"", "to 768 MiB")]),
    ("engine.embedded.flush_interval", &[("\"0ms\"", "from 100ms to 1d"), ("\"2d\"", "to 1d")]),
    ("engine.embedded.cache_bytes_max", &[("\"17 TiB\"", "to 16 TiB")]),
    ("engine.embedded.compact_files", &[("1", "from 2 to 64"), ("65", "from 2 to 64")]),
    ("engine.postgres.host", &[("\"\"", "names nothing"), ("3", "write ")]),
    (
        "engine.postgres.port",
        &[("0", "1 to 65535"), ("70000", "from 0 to 65535"), ("-1", "write ")],
    ),
    ("engine.postgres.database", &[("\"\"", "names nothing")]),
    ("engine.postgres.user", &[("\"\"", "names nothing")]),
    ("engine.postgres.password_file", &[("3", "may hold a secret")]),
    ("engine.postgres.sslmode", &[("\"on\"", "\"verify-full\"")]),
    ("engine.postgres.ca_file", &[("\"ca.pem\"", "sslmode is \"disable\"")]),
    ("engine.postgres.connect_timeout", &[("\"1ms\"", "100ms to 1d"), ("\"2d\"", "100ms to 1d")]),
    ("engine.postgres.statement_timeout", &[("\"1ms\"", "100ms to 1d"), ("\"2d\"", "to 1d")]),
    ("engine.postgres.lock_timeout", &[("\"1ms\"", "100ms to 1d"), ("\"2d\"", "100ms to 1d")]),
    ("engine.postgres.idle_timeout", &[("\"1ms\"", "100ms to 1d"), ("\"2d\"", "100ms to 1d")]),
    ("engine.postgres.statement_rows", &[("0", "1 to 10000"), ("10001", "1 to 10000")]),
    ("engine.postgres.fillfactor", &[("9", "10 to 100"), ("101", "10 to 100")]),
    ("engine.timestream.endpoint", &[("\"ftp://x\"", "http:// or https://")]),
    ("engine.timestream.region", &[("\"eu west\"", "letters, digits and dashes")]),
    ("engine.timestream.access_key", &[("\"A\"", "together or not at all")]),
    ("engine.timestream.secret_key_file", &[("\"f\"", "together or not at all")]),
    ("engine.timestream.ca_file", &[("3", "write ")]),
    ("engine.timestream.connect_timeout", &[("\"1ms\"", "100ms to 1min"), ("\"1h\"", "to 1min")]),
    ("engine.timestream.request_timeout", &[("\"1ms\"", "1s to 10min"), ("\"1h\"", "1s to 10min")]),
    ("engine.timestream.requests_max", &[("0", "1 to 64"), ("65", "1 to 64")]),
    ("engine.timestream.magnetic_writes", &[("\"yes\"", "write ")]),
    ("engine.timestream.dir", &[("3", "write ")]),
    (
        "rejects.url",
        &[
            ("\"ftp://x\"", "\"ftp://x\" is no place"),
            ("\"s3://\"", "names no bucket"),
            ("3", "write "),
        ],
    ),
    ("rejects.keep_for", &[("\"1h\"", "1d to 73000d"), ("\"73001d\"", "1d to 73000d")]),
    ("datazone.entities", &[("[\"x\"]", "domain/ASSET/entity"), ("\"x\"", "write ")]),
    ("datazone.points_max", &[("-1", "write "), ("\"many\"", "write ")]),
    ("datazone.retention_days", &[("0", "1 to 73000"), ("73001", "1 to 73000")]),
    ("datazone.tokens_max", &[("0", "1 to 100000000"), ("100000001", "1 to 100000000")]),
    (
        "batch_load.url",
        &[("\"ftp://x\"", "write a directory"), ("\"s3://bucket\"", "scheme alone")],
    ),
    ("batch_load.workers", &[("0", "1 to 10"), ("11", "1 to 10")]),
    ("batch_load.retry_for", &[("\"8d\"", "0ms to 7d")]),
    (
        "object.endpoint",
        &[("\"ftp://x\"", "http://HOST:PORT"), ("\"http://\"", "http://HOST:PORT")],
    ),
    ("object.region", &[("\"eu west\"", "letters, digits and dashes")]),
    ("object.access_key_id", &[("3", "write ")]),
    ("object.secret_access_key_file", &[("\"f\"", "has a secret of it")]),
    ("metrics.anonymous", &[("false", "nobody could say who they are"), ("\"no\"", "write ")]),
    (
        "log.level",
        &[("\"loud\"", "\"loud\" is not one of"), ("\"\"", "is not one of"), ("3", "write ")],
    ),
    ("log.format", &[("\"xml\"", "\"json\"")]),
];

/// Keys that hold any text, a name or a place of somebody else's choice.
pub(super) const TEXTS: &[&str] = &[
    "data_dir",
    "server.tls.cert_file",
    "server.tls.key_file",
    "server.tls.client_ca_file",
    "auth.region",
    "ingest.version",
    "ingest.measure_name",
    "ingest.default_dimension",
    "wal.dir",
    "engine.embedded.dir",
    "engine.postgres.host",
    "engine.postgres.database",
    "engine.postgres.user",
    "engine.postgres.password_file",
    "engine.postgres.ca_file",
    "engine.timestream.endpoint",
    "engine.timestream.region",
    "engine.timestream.access_key",
    "engine.timestream.secret_key_file",
    "engine.timestream.ca_file",
    "engine.timestream.dir",
    "rejects.url",
    "batch_load.url",
    "object.endpoint",
    "object.region",
    "object.access_key_id",
    "object.secret_access_key_file",
    "log.level",
];

/// Texts that look like something else.
const LOOKS: [&str; 9] =
    ["1234567890", "true", "1e5", "[x]", "\"half", "[]", "{ a = 1 }", "2026-01-01", "inf"];

/// What a file leads to, where it leads to anything but a start.
fn complaints(text: &str) -> String {
    match from_text(text) {
        Err(error) => error.to_string(),
        Ok(config) => config.problems().join("\n"),
    }
}

fn leaves(table: &Table, prefix: &str, all: &mut Vec<String>) {
    for (key, value) in table {
        match value {
            Value::Table(inner) => leaves(inner, &format!("{prefix}{key}."), all),
            _ => all.push(format!("{prefix}{key}")),
        }
    }
}

#[test]
fn every_documented_key_is_tried() {
    let mut documented = Vec::new();
    leaves(&toml::from_str(super::SHIPPED).unwrap(), "", &mut documented);
    documented.sort();
    let mut tried: Vec<String> = CASES.iter().map(|(key, _)| (*key).to_owned()).collect();
    tried.sort();
    assert_eq!(documented, tried);
}

#[test]
fn every_value_that_cannot_be_is_refused_with_its_key_and_what_would_be_right() {
    let mut count = 0;
    for (key, values) in CASES {
        let name = key.rsplit('.').next().unwrap_or_default();
        for (value, expected) in *values {
            let said = complaints(&format!("{key} = {value}\n"));
            assert!(said.contains(name) && said.contains(expected), "{key} = {value}: {said:?}");
            count += 1;
        }
    }
    assert!(count > 150, "{count} values");
}

/// Types and ranges together, in one run: the first value of each key that has one of its own.
#[test]
fn all_of_it_is_told_in_one_run() {
    // Right beside the others, or told only once every key can be read.
    const APART: [&str; 8] = [
        "metrics.anonymous",
        "server.inflated_bytes_max",
        "server.tls.key_file",
        "server.tls.client_ca_file",
        "engine.timestream.access_key",
        "engine.timestream.secret_key_file",
        "object.access_key_id",
        "object.secret_access_key_file",
    ];
    let told_together = || CASES.iter().filter(|(key, _)| !APART.contains(key));
    let text: String =
        told_together().flat_map(|(key, values)| [key, " = ", values[0].0, "\n"]).collect();
    let said = complaints(&text);
    for (key, _) in told_together() {
        let name = key.rsplit('.').next().unwrap_or_default();
        assert!(said.contains(name), "{key} is not in {said}");
    }
    assert!(said.contains("problems:"), "{said}");
}

#[test]
fn folders_that_are_one_or_lie_in_one_another_are_refused() {
    for (text, key, what) in [
        ("data_dir = \"d\"\nwal.dir = \"d/tables\"", "engine.embedded.dir", "is wal.dir too"),
        ("data_dir = \"d\"\nwal.dir = \"d\"", "wal.dir", "is data_dir itself"),
        ("data_dir = \"d\"\nwal.dir = \"./x/../d/.\"", "wal.dir", "is data_dir itself"),
        (
            "data_dir = \"d\"\nrejects.url = \"d/tables/r\"",
            "rejects.url",
            "lies in engine.embedded.dir",
        ),
        ("data_dir = \"d\"\nrejects.url = \"d/wal\"", "rejects.url", "is wal.dir too"),
        (
            "data_dir = \"d\"\nengine.embedded.dir = \"d/wal/t\"",
            "engine.embedded.dir",
            "lies in wal.dir",
        ),
        ("data_dir = \"a/d\"\nwal.dir = \"a\"", "wal.dir", "data_dir "),
        ("data_dir = \"d\"\nbatch_load.url = \"d\"", "batch_load.url", "is data_dir itself"),
        ("data_dir = \"a/d\"\nbatch_load.url = \"a\"", "batch_load.url", "data_dir "),
        (
            "data_dir = \"d\"\nbatch_load.url = \"d/rejects\"",
            "batch_load.url",
            "is rejects.url too",
        ),
        (
            "engine.kind = \"timestream\"\nengine.timestream.dir = \"x\"\nwal.dir = \"x\"",
            "engine.timestream.dir",
            "is wal.dir too",
        ),
    ] {
        let said = complaints(text);
        let line = said.lines().find(|line| line.starts_with(&format!("{key}: ")));
        assert!(line.is_some_and(|line| line.contains(what)), "{text}: {said}");
    }
    for fine in [
        "data_dir = \"d\"\nwal.dir = \"w\"\nrejects.url = \"r\"\nengine.embedded.dir = \"t\"",
        "data_dir = \"d\"\nrejects.url = \"s3://bucket/d\"",
        "data_dir = \"d\"\nwal.dir = \"d2\"",
        "engine.kind = \"postgres\"\nengine.embedded.dir = \"x\"\nwal.dir = \"x\"",
    ] {
        assert_eq!(complaints(fine), "", "{fine}");
    }
}

#[test]
fn metrics_may_be_kept_for_those_that_are_known() {
    let text = "metrics.anonymous = false\n[[auth.tokens]]\nname = \"prometheus\"\ntoken = \"x\"\n";
    assert_eq!(from_text(text).unwrap().problems(), Vec::<String>::new());
    assert!(!from_text(text).unwrap().metrics.anonymous);
    assert!(Config::default().metrics.anonymous);
}

#[test]
fn a_section_that_is_no_section_is_told_how_one_is_written() {
    for text in [
        "wal = 3",
        "server.tls = \"x\"",
        "engine = true",
        "wal = []",
        "[[wal]]",
        "[[engine.embedded]]",
    ] {
        let said = complaints(text);
        assert!(said.contains("its name in brackets") && !said.contains("struct"), "{said}");
    }
}

/// The type of a setting says what its value is, not what the value looks like.
#[test]
fn a_text_from_the_environment_is_that_text_whatever_it_looks_like() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut count = 0;
    for (key, _) in CASES {
        let path: Vec<&str> = key.split('.').collect();
        let default = at(&Config::default(), &path);
        let Some(_) = default.as_str() else {
            assert!(!TEXTS.contains(key), "{key} holds no text");
            continue;
        };
        let name = format!("TIDEGATE_{}", path.join("__").to_ascii_uppercase());
        for look in LOOKS {
            let variable = [(name.clone(), look.to_owned())].into_iter();
            let loaded = super::load(Some(file.path()), variable, &[]);
            if TEXTS.contains(key) {
                let found = at(&loaded.expect(key), &path);
                assert_eq!(found.as_str(), Some(look), "{key}");
                count += 1;
            } else if let Ok(config) = loaded {
                // One of a size is a count of bytes.
                assert_eq!(look, "1234567890", "{key}");
                assert_eq!(at(&config, &path).as_str(), Some("1234567890 B"), "{key}");
            } else {
                let told = loaded.unwrap_err().to_string();
                assert!(told.starts_with(&name), "{key}: {told}");
            }
        }
    }
    assert_eq!(count, TEXTS.len() * LOOKS.len());
}

pub(super) fn at(config: &Config, path: &[&str]) -> Value {
    let table = Value::Table(Table::try_from(config).unwrap());
    path.iter().fold(table, |inner, key| inner[*key].clone())
}

/// Docker hands on the quotation marks of its file of variables.
#[test]
fn a_value_may_come_in_quotation_marks() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for (name, text, key, expected) in [
        ("TIDEGATE_WAL__DIR", "\"/log of ours\"", "dir", "/log of ours"),
        ("TIDEGATE_WAL__DIR", "'12'", "dir", "12"),
        ("TIDEGATE_WAL__BYTES_MAX", "\"2 GiB\"", "bytes_max", "2 GiB"),
        ("TIDEGATE_WAL__SYNC_INTERVAL", "'10ms'", "sync_interval", "10ms"),
        ("TIDEGATE_WAL__DURABILITY", "\"interval\"", "durability", "interval"),
    ] {
        let variable = [(name.to_owned(), text.to_owned())].into_iter();
        let config = super::load(Some(file.path()), variable, &[]).unwrap();
        assert_eq!(at(&config, &["wal", key]).as_str(), Some(expected), "{name}");
    }
}
