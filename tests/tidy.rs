//! The house rules that no lint knows, held against the source of this repository.
//!
//! Each rule is a function from a file to what is wrong with it, and is shown to bite on a file that
//! breaks it. What rustc and clippy can check (lengths of functions, `unwrap`, missing docs) is theirs.

#[path = "tidy/code.rs"]
mod code;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use code::{code_of, crate_modules, has_word};

/// Longest file that is not a test.
const FILE_LINES_MAX: usize = 600;

/// Modules that may name the runtime; `object` hides one of its own behind blocking calls.
const ASYNC_MODULES: [&str; 5] = ["server", "http", "api", "ingest", "object"];

/// The files that hide a client's runtime behind blocking calls.
const ASYNC_FILES: [&str; 3] = [
    "src/engine/postgres/session.rs",
    "src/engine/postgres/tls.rs",
    "src/engine/timestream/client.rs",
];

/// The one file that may hold `unsafe`.
const UNSAFE_FILE: &str = "src/wal/map.rs";

/// The one file that names metrics.
const METRICS_FILE: &str = "src/metrics/catalog.rs";

/// A file of the repository.
struct Source {
    /// From the repository's top, with slashes.
    path: String,
    text: String,
    /// The text without comments and literals, where it is Rust.
    code: String,
}

impl Source {
    fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        let is_rust = Path::new(&path).extension().is_some_and(|extension| extension == "rs");
        let code = if is_rust { code_of(&text) } else { String::new() };
        Self { path, text, code }
    }

    /// The module of the library that the file belongs to.
    fn module(&self) -> Option<&str> {
        let inner = self.path.strip_prefix("src/")?;
        let module = inner.split('/').next()?.trim_end_matches(".rs");
        (!matches!(module, "lib" | "main")).then_some(module)
    }

    fn is_test(&self) -> bool {
        self.path.split('/').any(|part| part == "tests" || part == "tests.rs")
    }

    fn wrong(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }

    /// One complaint for each line of `text` that `is_wrong`.
    fn lines_where(&self, text: &str, is_wrong: impl Fn(&str) -> bool, what: &str) -> Vec<String> {
        let lines = text.lines().enumerate().filter(|(_, line)| is_wrong(line));
        lines.map(|(at, _)| self.wrong(at + 1, what)).collect()
    }
}

/// The floor of each module, from the table on the first page of the library.
fn floors(first_page: &str) -> BTreeMap<String, u32> {
    let mut floors = BTreeMap::new();
    for line in first_page.lines() {
        let mut cells = line.trim_start_matches("//!").split('|').map(str::trim).skip(1);
        let (Some(floor), Some(modules)) = (cells.next(), cells.next()) else { continue };
        let Ok(floor) = floor.parse() else { continue };
        for module in modules.split("[`").skip(1) {
            let name = module.split('`').next().unwrap_or_default();
            floors.insert(name.to_owned(), floor);
        }
    }
    floors
}

/// A module uses itself and floors below its own: no neighbour, nothing above.
fn falls_down(source: &Source, floors: &BTreeMap<String, u32>) -> Vec<String> {
    let Some(module) = source.module() else { return Vec::new() };
    let Some(own) = floors.get(module) else {
        return vec![source.wrong(1, &format!("{module} is not in the table of src/lib.rs"))];
    };
    let mut wrong = Vec::new();
    let used: BTreeSet<&str> = crate_modules(&source.code).into_iter().collect();
    for other in used.into_iter().filter(|other| *other != module) {
        match floors.get(other) {
            None => wrong.push(source.wrong(1, &format!("uses {other}, which no floor has"))),
            Some(floor) if floor >= own => {
                wrong.push(source.wrong(1, &format!("floor {own} uses {other} on floor {floor}")));
            }
            Some(_) => {}
        }
    }
    wrong
}

/// Below the doors there are threads and blocking calls, no tasks.
fn is_blocking(source: &Source) -> Vec<String> {
    if ASYNC_FILES.contains(&source.path.as_str()) {
        return Vec::new();
    }
    let Some(module) = source.module().filter(|module| !ASYNC_MODULES.contains(module)) else {
        return Vec::new();
    };
    if ASYNC_FILES.contains(&&*source.path) {
        return Vec::new();
    }
    let is_async = |line: &str| ["tokio", "async", "await"].iter().any(|word| has_word(line, word));
    source.lines_where(&source.code, is_async, &format!("{module} is below the runtime"))
}

fn is_safe(source: &Source) -> Vec<String> {
    if source.path == UNSAFE_FILE {
        return Vec::new();
    }
    let what = format!("unsafe stands in {UNSAFE_FILE} only");
    source.lines_where(&source.code, |line| has_word(line, "unsafe"), &what)
}

fn says_what_it_is(source: &Source) -> Vec<String> {
    if source.text.starts_with("//!") {
        return Vec::new();
    }
    vec![source.wrong(1, "a file opens with //! and what it is")]
}

fn fits(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    if lines <= FILE_LINES_MAX || source.is_test() {
        return Vec::new();
    }
    vec![source.wrong(lines, &format!("{lines} lines; {FILE_LINES_MAX} is the wall"))]
}

fn promises_nothing(source: &Source) -> Vec<String> {
    // In two parts, or this file would be the first to break the rule.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let is_promise = |line: &str| marks.iter().any(|mark| has_word(line, mark));
    source.lines_where(&source.text, is_promise, "do it, or make it an issue")
}

fn names_no_metric(source: &Source) -> Vec<String> {
    if source.module().is_none() || source.path == METRICS_FILE || source.is_test() {
        return Vec::new();
    }
    let is_name = |line: &str| line.contains("\"tidegate_") && !line.trim().starts_with("//");
    // Tests at the end of a file may look for what /metrics prints.
    let code = source.text.split("#[cfg(test)]").next().unwrap_or_default();
    source.lines_where(code, is_name, &format!("metrics are named in {METRICS_FILE} only"))
}

/// Every dependency of a manifest tells on its own line why it is there.
fn depends_for_a_reason(source: &Source) -> Vec<String> {
    let mut is_dependency = false;
    let mut wrong = Vec::new();
    for (at, line) in source.text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            is_dependency = line.trim_end_matches(']').ends_with("dependencies");
        } else if is_dependency && line.contains('=') && !line.starts_with('#') {
            let reason = line.rsplit_once('#').map_or("", |(_, reason)| reason.trim());
            if reason.is_empty() {
                wrong.push(source.wrong(at + 1, "a dependency without its reason"));
            }
        }
    }
    wrong
}

/// The repository builds on every machine, so it names no folder and no mirror of ours.
fn names_no_machine(source: &Source) -> Vec<String> {
    let places = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("--index", "-url"),
        concat!("py", "pi.org"),
        concat!("static.", "crates.io"),
        concat!("replace", "-with"),
    ];
    let is_named = |line: &str| places.iter().any(|place| line.contains(place));
    source.lines_where(&source.text, is_named, "names a place that only one machine has")
}

/// Every public function that can fail says how, and what state that leaves.
fn tells_its_errors(source: &Source) -> Vec<String> {
    if source.module().is_none() {
        return Vec::new();
    }
    let lines: Vec<&str> = source.text.lines().collect();
    let code: Vec<&str> = source.code.lines().collect();
    let mut wrong = Vec::new();
    for (at, line) in code.iter().enumerate() {
        if !line.trim().starts_with("pub ") || !has_word(line, "fn") {
            continue;
        }
        let rest = code[at..].join("\n");
        let signature = rest.split('{').next().unwrap_or_default();
        let returned = signature.rsplit_once("->").map_or("", |(_, returned)| returned);
        let is_of_it = |line: &&str| {
            line.starts_with("///") || !line.is_empty() && !line.ends_with(['}', ';', '{'])
        };
        let mut above = lines[..at].iter().rev().map(|line| line.trim()).take_while(is_of_it);
        let is_told = above.any(|line| line == "/// # Errors");
        // `io::Result<()>` as well, but not an iterator of results: its caller sees each.
        let name = returned.trim().split('<').next().unwrap_or_default();
        if has_word(name, "Result") && name != "fmt::Result" && !is_told {
            wrong.push(source.wrong(at + 1, "can fail, and has no # Errors"));
        }
    }
    wrong
}

/// All files below `dir` that `is_wanted`, sorted by path.
fn files_below(dir: &Path, is_wanted: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if !is_wanted(&path) {
            continue;
        }
        if path.is_dir() {
            files.extend(files_below(&path, is_wanted));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn sources(dir: &str, is_wanted: &dyn Fn(&Path) -> bool) -> Vec<Source> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = files_below(&top.join(dir), is_wanted);
    let text_of = |path: &PathBuf| fs::read_to_string(path).ok();
    let name_of = |path: &PathBuf| path.strip_prefix(top).unwrap_or(path).display().to_string();
    files.iter().filter_map(|path| Some(Source::new(name_of(path), text_of(path)?))).collect()
}

fn rust(dir: &str) -> Vec<Source> {
    // A package below `tests` may have been built in its own folder, and what tests/run.sh installs is not
    // ours: a hundred thousand files.
    let is_source = |path: &Path| path.extension().is_some_and(|e| e == "rs");
    let is_ours = |path: &Path| !path.ends_with("target") && !path.ends_with(".tools");
    sources(dir, &|path| if path.is_dir() { is_ours(path) } else { is_source(path) })
}

/// Everything that people wrote: not what is built, installed or copied from other projects.
fn written_by_people() -> Vec<Source> {
    let foreign = ["target", ".git", ".tools", "data", "tidegate-data", "__pycache__"];
    let is_foreign = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        foreign.contains(&name)
    };
    sources("", &|path| !is_foreign(path))
}

fn assert_tidy(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_module_uses_only_floors_below_its_own() {
    let all = rust("src");
    let first_page = all.iter().find(|source| source.path == "src/lib.rs").unwrap();
    let floors = floors(&first_page.text);
    assert!(floors.len() >= 10, "the table of src/lib.rs was not found: {floors:?}");
    let there: BTreeSet<&str> = all.iter().filter_map(Source::module).collect();
    let listed: BTreeSet<&str> = floors.keys().map(String::as_str).collect();
    assert_eq!(there, listed, "the modules there are, and those in the table of src/lib.rs");
    assert_tidy(&all.iter().flat_map(|source| falls_down(source, &floors)).collect::<Vec<_>>());
}

#[test]
fn source_files_keep_the_rules() {
    let rules = [is_blocking, says_what_it_is, fits, names_no_metric, tells_its_errors];
    let all = rust("src");
    assert!(all.len() > 20, "the source was not found");
    assert_tidy(&all.iter().flat_map(|s| rules.iter().flat_map(|r| r(s))).collect::<Vec<_>>());
}

#[test]
fn tests_benches_and_examples_keep_the_rules_that_are_theirs() {
    let rules = [says_what_it_is, is_safe, promises_nothing];
    let all = ["src", "tests", "benches", "examples"].into_iter().flat_map(rust);
    assert_tidy(&all.flat_map(|s| rules.map(|rule| rule(&s))).flatten().collect::<Vec<_>>());
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest = sources("", &|path| path.ends_with("Cargo.toml"));
    assert_eq!(manifest.len(), 1, "one manifest");
    assert_tidy(&depends_for_a_reason(&manifest[0]));
}

#[test]
fn nothing_names_the_machine_it_was_written_on() {
    let all = written_by_people();
    assert!(all.iter().any(|source| source.path == "Cargo.toml"), "the repository was not found");
    assert_tidy(&all.iter().flat_map(names_no_machine).collect::<Vec<_>>());
}

#[cfg(test)]
mod bites {
    use super::*;

    const FIRST_PAGE: &str = "//! | floor | modules |\n//! |---|---|\n\
                              //! | 2 | [`wal`] [`engine`] |\n//! | 0 | [`base`] |";

    fn wal(text: &str) -> Source {
        Source::new("src/wal/mod.rs", text)
    }

    #[test]
    fn the_table_of_floors_is_read() {
        let floors = floors(FIRST_PAGE);
        let found: Vec<_> = floors.iter().map(|(name, floor)| (name.as_str(), *floor)).collect();
        assert_eq!(found, [("base", 0), ("engine", 2), ("wal", 2)]);
    }

    #[test]
    fn a_neighbour_a_higher_floor_and_an_unknown_module_are_found() {
        let floors = floors(FIRST_PAGE);
        let found = |source: &Source| falls_down(source, &floors).len();
        assert_eq!(found(&wal("use crate::base::fs; use crate::wal::map; // crate::engine")), 0);
        assert_eq!(found(&wal("use crate::{base, engine::upsert};")), 1);
        assert_eq!(found(&wal("fn f() { crate::attic::g() }")), 1);
        assert_eq!(found(&Source::new("src/base/fs.rs", "use crate::wal::Wal;")), 1);
        assert_eq!(found(&Source::new("src/cellar.rs", "")), 1);
    }

    type Rule = fn(&Source) -> Vec<String>;

    #[test]
    fn each_rule_finds_what_breaks_it_and_nothing_else() {
        let long = "//! x\n".repeat(FILE_LINES_MAX + 1);
        let told = "/// A.\n///\n/// # Errors\n///\n/// Never.\npub fn a(\n) -> Result<(), E> {}";
        let untold = "/// # Errors\npub fn a() {}\n\n/// B.\npub fn b(\n) -> io::Result<()> {}";
        let unknown_number = format!("// {} later", concat!("TO", "DO"));
        let path = format!("let a = \"{}a\";", concat!("/wo", "rk/"));
        let cases: [(Rule, &str, &str); 8] = [
            (is_blocking, "async fn a() {}", "// tokio"),
            (is_safe, "unsafe { a() }", "#![deny(unsafe_code)] // unsafe"),
            (says_what_it_is, "fn a() {}", "//! What it is."),
            (fits, &long, "//! x"),
            (promises_nothing, &unknown_number, "// done"),
            (names_no_metric, "a(\"tidegate_wal_syncs\")", "a(\"wal\") // tidegate_wal_syncs"),
            (tells_its_errors, untold, told),
            (names_no_machine, &path, "let a = \"/tmp/a\";"),
        ];
        for (rule, bad, good) in cases {
            assert_eq!(rule(&wal(bad)).len(), 1, "{bad}");
            assert_eq!(rule(&wal(good)), Vec::<String>::new(), "{good}");
        }
    }

    #[test]
    fn an_exception_is_for_its_own_file() {
        assert!(is_safe(&Source::new(UNSAFE_FILE, "unsafe { a() }")).is_empty());
        assert!(is_blocking(&Source::new("src/http/mod.rs", "async fn a() {}")).is_empty());
        assert!(names_no_metric(&Source::new(METRICS_FILE, "\"tidegate_x\"")).is_empty());
        let long = "//! x\n".repeat(FILE_LINES_MAX + 1);
        assert!(fits(&Source::new("src/wal/tests.rs", long)).is_empty());
    }

    #[test]
    fn a_dependency_without_its_reason_is_found() {
        let manifest = "[package]\nname = \"a\"\n[dependencies]\nb = \"1\" # why\nc = \"1\"\n\
                        [dev-dependencies]\nd = \"1\"\n[lints.rust]\ne = \"deny\"";
        assert_eq!(depends_for_a_reason(&Source::new("Cargo.toml", manifest)).len(), 2);
    }
}
