//! Promise: the commands are pleasant: a shell completes them, `man` shows them, a container asks one of
//! them for its health; whoever ends them, or reads no further, leaves nothing behind that misleads.

#[path = "common/mod.rs"]
mod common;
#[path = "commands/ended.rs"]
mod ended;

use std::fs;
use std::process::{Command, Output, Stdio};

use common::gateway::{Place, without_settings};

/// What bash does when the key is pressed: the words, where the cursor is, the function that is registered.
const PRESS: &str = r#"
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
registered=$(complete -p tidegate); [[ $registered =~ -F\ ([^ ]+) ]]
"${BASH_REMATCH[1]}" tidegate "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\n' "${COMPREPLY[@]}""#;

/// The binary without settings of a test's own.
fn tidegate(arguments: &[&str]) -> Output {
    let binary = Place::new("").command("check").get_program().to_owned();
    let mut command = Command::new(binary);
    without_settings(&mut command);
    command.args(arguments).output().expect("the binary starts")
}

fn printed(output: &Output) -> String {
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {complaints}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn bash_completes_commands_and_flags() {
    let place = Place::new("");
    let script = place.file("completions.bash");
    fs::write(&script, printed(&tidegate(&["completions", "bash"]))).expect("it can be written");
    for (words, expected) in [
        (&["tidegate", "exp"][..], &["explain", "export"][..]),
        (&["tidegate", "wal", "v"], &["verify"]),
        (&["tidegate", "demo", "--k"], &["--keep"]),
        (&["tidegate", "completions", "f"], &["fish"]),
    ] {
        let mut bash = Command::new("bash");
        bash.args(["-euc", PRESS, "press"]).arg(&script).args(words);
        let completed = printed(&bash.output().expect("bash is there"));
        let mut completed: Vec<&str> = completed.lines().collect();
        completed.sort_unstable();
        assert_eq!(completed, expected, "{words:?}");
    }
}

#[test]
fn every_shell_has_completions_of_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&tidegate(&["completions", shell]));
        for command in ["serve", "doctor", "demo", "batch-load", "salvage"] {
            assert!(script.contains(command), "{shell} has no {command}");
        }
        assert!(!script.contains("plant-loss"), "what is for tests is hidden");
    }
    assert_eq!(tidegate(&["completions", "basic"]).status.code(), Some(2));
}

#[test]
fn every_command_has_a_manual_page_that_renders_without_a_warning() {
    let place = Place::new("");
    let dir = place.file("man");
    let arguments = ["man", "--dir", dir.to_str().expect("a plain path")];
    printed(&tidegate(&arguments));
    fs::write(dir.join("stdout.1"), printed(&tidegate(&["man"]))).expect("it can be written");
    let mut pages: Vec<_> = fs::read_dir(&dir).expect("it was made").flatten().collect();
    pages.sort_by_key(fs::DirEntry::path);
    let names: Vec<String> =
        pages.iter().map(|page| page.file_name().to_string_lossy().into_owned()).collect();
    for name in ["tidegate.1", "tidegate-demo.1", "tidegate-wal.1", "tidegate-wal-replay.1"] {
        assert!(names.iter().any(|found| found == name), "{name} in {names:?}");
    }
    for page in pages {
        let mut groff = Command::new("groff");
        // As plain text: bold is printed twice otherwise.
        groff
            .args(["-man", "-Tutf8", "-ww", "-P-c", "-P-b", "-P-u"])
            .arg(page.path())
            .stdin(Stdio::null());
        let output = groff.output().expect("groff, which tests/run.sh installs");
        let warnings = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && warnings.is_empty(), "{page:?}: {warnings}");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("NAME") && text.contains("Example"), "{page:?}: {text}");
    }
}

#[test]
fn health_says_by_its_exit_code_whether_a_server_is_well() {
    let place = Place::new("");
    let server = place.start();
    let url = format!("http://{}", server.address);
    let well = printed(&place.run("health", &["--url", &url]));
    assert!(well.contains("\"status\":\"pass\""), "{well}");
    let ready = printed(&place.run("health", &["--url", &url, "--ready"]));
    assert!(ready.contains("ready"), "{ready}");
    // The settings name the server, too; on every address it is asked on the machine's own.
    let address = server.address.to_string().replace("127.0.0.1", "0.0.0.0");
    place.configure(&format!("[server]\nlisten = \"{address}\"\n"));
    printed(&place.run("health", &[]));
    server.kill();
    let gone = place.run("health", &["--url", &url]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("/health"), "{gone:?}");
    assert_eq!(place.run("health", &["--url", "nowhere"]).status.code(), Some(2));
}

/// What Kubernetes puts into a pod beside a service of our name does not stop a start, and a setting that
/// is written wrong does.
#[test]
fn links_to_services_in_the_environment_are_no_settings() {
    let place = Place::new("");
    let mut pod = place.command("check");
    pod.env("TIDEGATE_SERVICE_HOST", "10.96.0.7").env("TIDEGATE_SERVICE_PORT", "8086");
    pod.env("TIDEGATE_PORT", "tcp://10.96.0.7:8086");
    pod.env("TIDEGATE_PORT_8086_TCP_ADDR", "10.96.0.7");
    pod.env("TIDEGATE_WAL__DURABILITY", "interval");
    let effective = printed(&pod.output().expect("the binary starts"));
    assert!(effective.contains("durability = \"interval\""), "{effective}");
    let mut wrong = place.command("check");
    let output = wrong.env("TIDEGATE_WAL_DURABILITY", "interval").output().expect("it starts");
    assert_eq!(output.status.code(), Some(2));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.contains("TIDEGATE_WAL__DURABILITY"), "{complaint}");
}

/// To look into a folder that is none of ours makes nothing in it.
#[test]
fn a_folder_that_is_no_data_folder_stays_as_it_was() {
    let place = Place::new("");
    fs::create_dir(place.data()).expect("it can be made");
    fs::write(place.data().join("notes.txt"), "mine").expect("it can be written");
    for (name, arguments, code) in [
        ("export", &["--database", "d", "--table", "t"][..], 1),
        ("explain", &["weather t=1"], 0),
        ("explain", &[""], 2),
        ("wal", &["ls"], 1),
        ("wal", &["dump"], 1),
        ("rejects", &["ls"], 1),
        ("cost", &[], 1),
        ("doctor", &[], 0),
        ("check", &[], 0),
    ] {
        let output = place.run(name, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{name} {arguments:?}: {said}");
        assert!(code == 0 || said.starts_with("tidegate: "), "{name} {arguments:?}: {said}");
        let left = fs::read_dir(place.data()).expect("a folder").count();
        assert_eq!(left, 1, "{name} {arguments:?} made something");
    }
}

/// What a command asks of the settings beside the folders that it looks into.
///
/// | command | asks of the settings |
/// |---|---|
/// | `serve`, `check`, `doctor` | all of them |
/// | `export`, `batch-load` of a folder, `explain` | what opens a data folder: all but the socket's certificates, who may come, and the metrics |
/// | `wal`, `cost`, `rejects`, `selftest` | where log and sink are |
/// | `schema`, `load`, `demo`, `completions`, `man` | nothing |
///
/// So whoever may read the data need not be able to read the server's key.
#[test]
fn a_command_asks_for_no_setting_that_it_does_not_use() {
    let place = Place::new("");
    let server = place.start();
    server.write("d", "t,site=a v=1 1");
    let headers = [("X-Tidegate-Durability", "applied")];
    let reply = server.client().post("/write?db=d", &headers, b"t,site=a v=2 1");
    assert_eq!(reply.expect("an answer").status, 400, "the sink has something");
    // Killed: a stop would let the log go, and leave nothing to look at.
    server.kill();
    fs::create_dir(place.file("csv")).expect("it can be made");
    fs::write(place.file("csv/a.csv"), "time,site,v\n5,a,1.5\n").expect("it can be written");
    let model = r#"{"TimeColumn":"time","TimeUnit":"NANOSECONDS",
        "DimensionMappings":[{"SourceColumn":"site"}],
        "MultiMeasureMappings":{"TargetMultiMeasureName":"t","MultiMeasureAttributeMappings":
            [{"SourceColumn":"v","MeasureValueType":"DOUBLE"}]}}"#;
    fs::write(place.file("model.json"), model).expect("it can be written");
    // No such file anywhere, an address of another machine's, and nobody who could say who he is.
    place.configure(
        "[server]\nlisten = \"203.0.113.9:8086\"\n[server.tls]\ncert_file = \"/none/cert.pem\"\n\
         key_file = \"/none/key.pem\"\nclient_ca_file = \"/none/ca.pem\"\n\
         [[auth.tokens]]\nname = \"a\"\ntoken_file = \"/none/token\"\n\
         [[auth.users]]\nname = \"b\"\npassword_file = \"/none/password\"\n\
         [[auth.access_keys]]\nid = \"c\"\nsecret_file = \"/none/secret\"\n",
    );
    let batch_load =
        ["--source", "csv/a.csv", "--model", "model.json", "--database", "d", "--table", "t"];
    for (name, arguments, said) in [
        ("wal", &["ls"][..], "LSN"),
        ("wal", &["verify"], ""),
        ("wal", &["dump", "--from", "1"], "\"v\":1"),
        ("export", &["--database", "d", "--table", "t"], "\"v\":1"),
        ("batch-load", &batch_load, "SUCCEEDED"),
        ("explain", &["--database", "d", "t,site=a v=1 1"], "unchanged"),
        ("rejects", &["ls"], "version_conflict"),
        ("cost", &[], ""),
        ("selftest", &["--kills", "1"], "0 lost"),
    ] {
        let output = place.run(name, arguments);
        let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{name} {arguments:?}: {complaints}");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(said), "{name} {arguments:?}: {text}{complaints}");
    }
    for (name, arguments) in [("serve", &[][..]), ("check", &[]), ("doctor", &[])] {
        let output = place.run(name, arguments);
        assert!(!output.status.success(), "{name}");
        let told = [output.stdout, output.stderr].concat();
        let told = String::from_utf8_lossy(&told);
        for file in ["/none/cert.pem", "/none/token", "/none/password", "/none/secret"] {
            assert!(told.contains(file), "{name} does not tell of {file}: {told}");
        }
    }
}

/// Whatever is one of a few words: what was found, of which option, and what there is.
#[test]
fn a_word_that_an_option_has_not_is_told_with_those_that_it_has() {
    let to = ["--url", "http://127.0.0.1:1"];
    let table = ["--database", "d", "--table", "t"];
    for (words, found, option, right) in [
        (
            [&["load", "--durability", "fsync"], &to[..]].concat(),
            "fsync",
            "--durability",
            "applied",
        ),
        ([&["load", "--protocol", "mqtt"], &to[..]].concat(), "mqtt", "--protocol", "timestream"),
        ([&["export", "--format", "xml"], &table[..]].concat(), "xml", "--format", "parquet"),
        (vec!["explain", "--precision", "weeks", "m v=1"], "weeks", "--precision", "ns"),
        (vec!["wal", "dump", "--format", "xml"], "xml", "--format", "line"),
        (
            [&["schema", "postgres", "--for", "oracle"], &table[..]].concat(),
            "oracle",
            "--for",
            "citus",
        ),
        (vec!["completions", "tcsh"], "tcsh", "SHELL", "fish"),
        (vec!["cost", "--since", "later"], "later", "--since", "250ms"),
    ] {
        let output = tidegate(&words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
        assert!([found, option, right].iter().all(|part| said.contains(part)), "{words:?}: {said}");
    }
}

#[test]
fn a_folder_that_a_server_has_is_told_with_what_to_ask_of_it() {
    let place = Place::new("");
    let server = place.start();
    server.write("d", "t,site=a v=1 1");
    let model = r#"{"TimeColumn":"time","TimeUnit":"SECONDS",
        "DimensionMappings":[{"SourceColumn":"site"}],"MultiMeasureMappings":{"TargetMultiMeasureName":"t",
        "MultiMeasureAttributeMappings":[{"SourceColumn":"v","MeasureValueType":"DOUBLE"}]}}"#;
    fs::write(place.file("model.json"), model).expect("it can be written");
    fs::create_dir(place.file("csv")).expect("it can be made");
    fs::write(place.file("csv/a.csv"), "time,site,v\n5,a,1.5\n").expect("it can be written");
    let table = ["--database", "d", "--table", "t"];
    let source = ["--source", "csv/a.csv", "--model", "model.json"];
    for (name, arguments, told) in [
        ("export", table.to_vec(), "/api/v1/export?db=d&table=t'"),
        ("batch-load", [&source[..], &table].concat(), "by --url"),
    ] {
        let output = place.run(name, &arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        assert!(said.contains("is in use by process ") && said.contains(told), "{name}: {said}");
    }
    server.stop();
}

/// Whoever types in haste is told what there is, and nothing that cannot be is begun.
#[test]
fn what_is_written_wrong_is_told_with_what_would_be_right() {
    let table = ["--database", "d", "--table", "t"];
    for (words, told) in [
        (&["exprot"][..], "Did you mean export?"),
        (&["wal", "replya"], "Did you mean replay?"),
        (&["serve", "--lisen", "127.0.0.1:0"], "Did you mean --listen?"),
        (&["export", "--tabel", "t"], "Did you mean --table?"),
        (&["wal", "dump", "--fromat", "line"], "Did you mean --format?"),
        (&["serve", "--listen", "localhost:8086"], "an address and a port, as in 127.0.0.1:8086"),
        (&["cost", "--price", "nan"], "a number, 0 or more, as in 0.50"),
        (&["schema", "postgres", "--database", "", "--table", "t"], "--database: empty"),
        (&["doctor", "--bundle", "/none/x.tar.gz"], "there is no folder /none"),
        (&["doctor", "--bundle", "/tmp"], "it is a folder; name a file in it"),
        (
            &[&["export", "--from", "5", "--to", "-3"], &table[..]].concat(),
            "--from 5 lies after --to -3",
        ),
    ] {
        let output = tidegate(words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
        assert!(said.contains(told), "{words:?}: {said}");
    }
    for (words, not) in
        [(&["zzzzzz"][..], "Did you mean"), (&["demo", "--plant-los"], "plant-loss?")]
    {
        let output = tidegate(words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && !said.contains(not), "{words:?}: {said}");
    }
}

/// Runs a command of the binary whose standard error is a terminal; what that shows.
fn on_a_terminal(place: &Place, name: &str, arguments: &[&str]) -> String {
    let command = place.command(name);
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    let line = format!("{} {} > /dev/null", words.join(" "), arguments.join(" "));
    let mut terminal = Command::new("script");
    without_settings(&mut terminal);
    terminal.args(["--quiet", "--return", "--command", &line, "/dev/null"]).stdin(Stdio::null());
    printed(&terminal.current_dir(place.file(".")).output().expect("script, of util-linux"))
}

#[test]
fn a_terminal_whose_locale_has_no_signs_is_shown_words() {
    let place = Place::new("");
    let command = place.command("doctor");
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let line: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    for (variable, locale, has_signs) in [
        ("LC_ALL", "C", false),
        ("LC_ALL", "C.UTF-8", true),
        ("LANG", "de_DE.utf8", true),
        ("LANG", "", false),
    ] {
        let mut terminal = Command::new("script");
        without_settings(&mut terminal);
        terminal
            .env_remove("LC_ALL")
            .env_remove("LC_CTYPE")
            .env_remove("LANG")
            .env(variable, locale);
        terminal.args(["--quiet", "--return", "--command", &line.join(" "), "/dev/null"]);
        let said = printed(
            &terminal.stdin(Stdio::null()).current_dir(place.file(".")).output().expect("script"),
        );
        assert_eq!(said.is_ascii(), !has_signs, "{variable}={locale}: {said}");
        assert_eq!(said.contains("ok       "), !has_signs, "{variable}={locale}: {said}");
    }
}

#[test]
fn long_work_tells_how_far_it_is_in_place_on_a_terminal_and_in_lines_elsewhere() {
    let place = Place::new("");
    let server = place.start();
    let url = format!("http://{}", server.address);
    // A plain line comes every five seconds.
    let binary = place.command("load").get_program().to_owned();
    let mut load = Command::new(&binary);
    load.args(["load", "--url", &url, "--connections", "2", "--batch", "500", "--seconds", "6"]);
    let output = load.output().expect("the binary starts");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    assert!(told.contains("sending, lines: ") && told.ends_with('\n'), "{told:?}");
    assert!(!told.contains('\r') && !told.contains('\x1b'), "a pipe is no terminal: {told:?}");
    server.stop();
    let told = on_a_terminal(&place, "export", &["--database", "load", "--table", "cpu"]);
    assert!(told.contains("\r\x1b[K\x1b[?7lexporting, records: ["), "{told:?}");
    assert!(told.contains('#') && told.contains(" % ("), "{told:?}");
}
