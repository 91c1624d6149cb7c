//! Promise: the image's server runs with nothing but what the image has, without root, and says how it is.
//!
//! Its Dockerfile is linted, and built and run by a Docker engine on stand-ins for its bases ([`docker`]). Beside
//! that the last stage is made by hand: a folder with the binary, its libraries and nothing else, entered as
//! the user, in the working folder and with the environment that the Dockerfile says; start, health check and
//! stop are its own lines. Needs root, for `chroot`. The compose file is read as YAML and held against
//! what it names, and brought up with its Prometheus ([`compose`]).

#[path = "common/mod.rs"]
mod common;
#[path = "container/compose.rs"]
mod compose;
#[path = "container/docker.rs"]
mod docker;
mod docs_support;

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value as Json;

use common::gateway::{Place, kill};
use common::wait_for;
use docs_support::{python, run};

/// Longest time until a server has started or stopped, on a busy machine.
const CHANGE_MAX: Duration = Duration::from_mins(1);

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn dockerfile() -> String {
    let path = top().join("packaging/docker/Dockerfile");
    fs::read_to_string(path).expect("there is one").replace("\\\n", " ")
}

/// What an instruction of the last stage says.
fn said(instruction: &str) -> Vec<String> {
    let file = dockerfile();
    let (_, stage) = file.rsplit_once("\nFROM ").expect("there are stages");
    let lines = stage.lines().filter_map(|line| line.strip_prefix(instruction)?.strip_prefix(' '));
    lines.map(str::to_owned).collect()
}

fn one(instruction: &str) -> String {
    let said = said(instruction);
    assert_eq!(said.len(), 1, "one {instruction}: {said:?}");
    said[0].clone()
}

/// A list in JSON at the end of an instruction, as a container runs it: without a shell.
fn words(text: &str) -> Vec<String> {
    let begin = text.find('[').expect("a list");
    serde_json::from_str(&text[begin..]).expect("a list of words")
}

/// The last stage as a folder.
struct Image {
    place: Place,
    root: PathBuf,
    port: u16,
}

impl Image {
    fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test enters a folder by chroot: run it as root"
        );
        let place = Place::new("");
        let root = place.file("root");
        let binary = PathBuf::from(place.command("check").get_program());
        let owner = one("USER");
        for copied in said("COPY") {
            let to =
                copied.rsplit(' ').next().expect("a target").trim_start_matches('/').to_owned();
            let target = root.join(&to);
            if to.ends_with("bin/tidegate") {
                copy(&binary, &target);
            } else {
                fs::create_dir_all(&target).expect("it can be made");
            }
            if copied.contains("--chown=") {
                assert!(copied.contains(&format!("--chown={owner} ")), "{copied}");
                run(chown(&owner, &target));
            }
        }
        // What the base image has: the C library.
        copy_libraries(&binary, &root);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        Self { place, root, port }
    }

    /// A command of the container.
    fn command(&self, words: &[String]) -> Command {
        let (user, group) =
            one("USER").split_once(':').map(|(u, g)| (u.to_owned(), g.to_owned())).expect("both");
        let mut command = Command::new("unshare");
        command.arg("--root").arg(&self.root).args(["--wd", &one("WORKDIR")]);
        command.args(["--setgid", &group, "--setuid", &user]).args(words).env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        for pair in one("ENV").split_whitespace() {
            let (name, value) = pair.split_once('=').expect("a pair");
            // Its port may be somebody else's here.
            command.env(name, value.replace(":8086", &format!(":{}", self.port)));
        }
        command
    }

    fn start(&self, variables: &[(&str, &str)]) -> Child {
        let words = [words(&one("ENTRYPOINT")), words(&one("CMD"))].concat();
        let log = File::create(self.place.file("container.log")).expect("it can be made");
        let mut command = self.command(&words);
        command.envs(variables.iter().copied());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("unshare starts")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.place.file("container.log")).unwrap_or_default()
    }

    fn is_healthy(&self) -> bool {
        let check = said("HEALTHCHECK").remove(0);
        self.command(&words(&check)).output().expect("unshare starts").status.success()
    }
}

/// Copies the libraries of a program to their places below `root`.
fn copy_libraries(program: &Path, root: &Path) {
    // It names each as `name => /path (address)`.
    let mut ldd = Command::new("ldd");
    ldd.arg(program);
    for word in run(ldd).split_whitespace().filter(|word| word.starts_with('/')) {
        copy(Path::new(word), &root.join(word.trim_start_matches('/')));
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().expect("a folder")).expect("it can be made");
    fs::copy(from, to).expect("it can be copied");
}

fn chown(owner: &str, path: &Path) -> Command {
    let mut chown = Command::new("chown");
    chown.arg(owner).arg(path);
    chown
}

#[test]
fn the_dockerfile_has_no_fault_that_a_linter_knows() {
    let mut hadolint = Command::new(python("hadolint"));
    hadolint.arg(top().join("packaging/docker/Dockerfile"));
    assert_eq!(run(hadolint), "");
    assert!(words(&one("ENTRYPOINT")).len() == 1 && one("USER") != "root" && one("USER") != "0");
    assert_eq!(one("STOPSIGNAL"), "SIGTERM");
    let data = one("ENV")
        .split_whitespace()
        .find_map(|pair| pair.strip_prefix("TIDEGATE_DATA_DIR=").map(str::to_owned));
    assert_eq!(data.as_deref(), Some(&*one("VOLUME")), "the data is in the volume");
    // The build stage's own command, but for the building: the target that it copies is one of ours.
    assert!(dockerfile().contains("cargo build --release --locked --bin tidegate"));
}

#[test]
fn the_server_runs_with_what_the_image_has_and_stops_when_it_is_told() {
    let image = Image::new();
    assert!(!image.is_healthy(), "nobody is there yet");
    let mut child =
        image.start(&[("TIDEGATE_AUTH__ANONYMOUS", "true"), ("TIDEGATE_SERVICE_HOST", "10.0.0.1")]);
    wait_for("the container to be healthy", CHANGE_MAX, || {
        let ended = child.try_wait().expect("it is our child");
        assert!(ended.is_none(), "{ended:?}: {}", image.log());
        image.is_healthy().then_some(())
    });
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it runs");
    assert!(status.contains("\nUid:\t65532\t65532\t65532\t65532\n"), "no root: {status}");
    let mut client = common::client::Client::new(([127, 0, 0, 1], image.port).into());
    let reply = client.post("/write?db=iot", &[], b"m,site=a v=1 1").expect("it answers");
    assert_eq!(reply.status, 204, "{}", reply.text());
    let volume = image.root.join(one("VOLUME").trim_start_matches('/'));
    assert!(volume.join("wal").is_dir(), "the data is in the volume");
    let pid =
        i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process has a number");
    kill_process(pid, Signal::TERM).expect("it is our child");
    let status = wait_for("the container to stop", CHANGE_MAX, || {
        child.try_wait().expect("it is our child")
    });
    assert!(status.success(), "{status}: {}", image.log());
}

#[test]
fn a_container_that_nobody_said_who_may_use_does_not_start() {
    let image = Image::new();
    let mut child = image.start(&[]);
    let status = wait_for("the refusal", CHANGE_MAX, || child.try_wait().expect("it is our child"));
    kill(&mut child);
    assert_eq!(status.code(), Some(2));
    assert!(image.log().contains("auth.anonymous"), "{}", image.log());
}

#[test]
fn the_compose_file_names_what_is_there() {
    let folder = top().join("packaging/docker");
    let read = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    let yaml = |path: &Path| -> Json {
        let mut command = Command::new(python("python"));
        command.args(["-c", read]).arg(path);
        serde_json::from_str(&run(command)).expect("JSON")
    };
    let compose = yaml(&folder.join("compose.yaml"));
    let services = compose["services"].as_object().expect("services");
    assert_eq!(services.keys().collect::<Vec<_>>(), ["grafana", "prometheus", "tidegate"]);
    for (name, service) in services {
        let strings = |key: &str| -> Vec<String> {
            let list = service[key].as_array().into_iter().flatten();
            list.filter_map(|entry| entry.as_str().map(str::to_owned)).collect()
        };
        for port in strings("ports") {
            assert!(port.starts_with("127.0.0.1:"), "{name} is for this machine only: {port}");
        }
        for mount in strings("volumes") {
            let source = mount.split(':').next().unwrap_or_default();
            let is_there = if source.starts_with('.') {
                folder.join(source).exists()
            } else {
                compose["volumes"].as_object().is_some_and(|volumes| volumes.contains_key(source))
            };
            assert!(is_there, "{name} mounts {source}, which is not there");
        }
        let image = service["image"].as_str().expect("an image");
        assert!(
            name == "tidegate" || image.contains(":v") || image.split(':').count() == 2,
            "{image}"
        );
    }
    let build = &services["tidegate"]["build"];
    let context = folder.join(build["context"].as_str().expect("a context"));
    assert!(context.join(build["dockerfile"].as_str().expect("a file")).is_file());
    // Its settings, with those of the image, are ones that a start takes.
    let place = Place::new("");
    let mut check = place.command("check");
    for pair in one("ENV").split_whitespace() {
        let (name, value) = pair.split_once('=').expect("a pair");
        check.env(name, value);
    }
    for (name, value) in services["tidegate"]["environment"].as_object().expect("variables") {
        check.env(name, value.as_str().expect("text"));
    }
    run(check);
    let prometheus = yaml(&folder.join("prometheus.yml"));
    let target = &prometheus["scrape_configs"][0]["static_configs"][0]["targets"][0];
    assert_eq!(target, "tidegate:8086", "the service and the port that the image exposes");
    assert_eq!(one("EXPOSE"), "8086");
}
