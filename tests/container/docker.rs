//! The image as a Docker engine of the test's own builds and runs it, by the Dockerfile as it stands.
//!
//! The tests reach no registry of images, so both bases are stand-ins under the names that the Dockerfile has:
//! a folder with what the build stage calls, whose `cargo` hands over the binary of this build instead of
//! compiling it, and a folder with the C library. All else is the engine's: what of the folder is sent to the
//! build, each instruction, the owner of a new volume, the health check, signals.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value as Json;
use tempfile::TempDir;

use crate::common::gateway::{Place, kill};
use crate::common::wait_for;
use crate::docs_support::run;
use crate::{CHANGE_MAX, copy, copy_libraries, dockerfile, one, top};

/// What `RUN` lines call, beside `cargo`.
const CALLED: [&str; 5] = ["sh", "mkdir", "cp", "install", "rm"];

/// As compose.yaml runs it, on a network of its own that leads nowhere.
const AS_IN_COMPOSE: [&str; 9] = [
    "--network=none",
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges:true",
    "--ulimit=nofile=16384",
    "--env=TIDEGATE_AUTH__ANONYMOUS=true",
    "--volume=tidegate:/var/lib/tidegate",
    "--detach",
    "tidegate",
];

/// Stands for the compiler: the image's build must call it as it does, and be given what is compiled, and no
/// more. What stands in the README is shown by the program.
const CARGO: &str = r#"#!/bin/sh
set -eu
[ "$*" = "build --release --locked --bin tidegate" ] || { echo "cargo $*" >&2; exit 1; }
for needed in Cargo.toml Cargo.lock src/main.rs README.md; do
    [ -e "$needed" ] || { echo "$needed is not given to the build" >&2; exit 1; }
done
for other in .git target tests fuzz docs/howto.md; do
    [ ! -e "$other" ] || { echo "$other is given to the build" >&2; exit 1; }
done
mkdir -p target/release
cp /built target/release/tidegate
"#;

/// A Docker engine with a folder of its own. Its containers and itself end when dropped.
pub(crate) struct Engine {
    child: Child,
    pub(crate) place: Place,
    /// Sockets, whose names may not be long.
    state: TempDir,
}

impl Engine {
    /// One whose containers reach nothing and nobody.
    fn start() -> Self {
        let mut daemon = Command::new("dockerd");
        daemon.arg("--bridge=none");
        Self::of(daemon)
    }

    /// One whose containers may reach each other, in a network that the machine does not see.
    pub(crate) fn start_with_networks() -> Self {
        let mut daemon = Command::new("unshare");
        let begin = "ip link set lo up && exec dockerd \"$@\"";
        daemon.args(["--net", "sh", "-c", begin, "sh", "--bridge=none"]);
        Self::of(daemon)
    }

    fn of(mut daemon: Command) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test starts a Docker engine: run it as root"
        );
        let place = Place::new("");
        let state = TempDir::with_prefix("tidegate-").expect("a folder can be made");
        let log = File::create(place.file("dockerd.log")).expect("it can be made");
        // Nothing of the machine's network, nor of another engine on it, is touched.
        daemon.args(["--iptables=false", "--ip6tables=false", "--ip-forward=false"]);
        daemon.args(["--containerd-namespace=tidegate-test"]);
        daemon.args(["--containerd-plugins-namespace=tidegate-test-plugins"]);
        for (option, path) in [
            ("--data-root", place.file("docker")),
            ("--exec-root", state.path().join("exec")),
            ("--pidfile", state.path().join("pid")),
        ] {
            daemon.arg(option).arg(path);
        }
        daemon.arg("--host").arg(format!("unix://{}/socket", state.path().display()));
        let child = daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let child = child.expect("dockerd, which tests/run.sh installs");
        let mut engine = Self { child, place, state };
        wait_for("the Docker engine", CHANGE_MAX, || {
            let ended = engine.child.try_wait().expect("it is our child");
            let said = || fs::read_to_string(engine.place.file("dockerd.log")).unwrap_or_default();
            assert!(ended.is_none(), "dockerd ends with {ended:?}: {}", said());
            let asked = engine.docker(&["version"]).output().expect("docker starts");
            asked.status.success().then_some(())
        });
        engine
    }

    /// Debian's client, which knows the builder that reads `Dockerfile.dockerignore`.
    fn docker(&self, words: &[&str]) -> Command {
        let mut docker = Command::new("/usr/bin/docker");
        docker.env("DOCKER_BUILDKIT", "1").env("DOCKER_CONFIG", self.place.file("client"));
        docker.arg("--host").arg(self.socket());
        docker.args(words);
        docker
    }

    /// Where clients find it.
    pub(crate) fn socket(&self) -> String {
        format!("unix://{}/socket", self.state.path().display())
    }

    /// A program in its network.
    pub(crate) fn within(&self, program: &str) -> Command {
        let mut within = Command::new("nsenter");
        within.args(["--target", &self.child.id().to_string(), "--net", program]);
        within
    }

    /// Makes an image of a folder.
    fn import(&self, folder: &Path, name: &str) {
        self.import_changed(folder, name, &[]);
    }

    /// The same with instructions of a Dockerfile.
    pub(crate) fn import_changed(&self, folder: &Path, name: &str, instructions: &[&str]) {
        let archive = self.place.file("base.tar");
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(folder).arg("-cf").arg(&archive).arg(".");
        run(tar);
        let path = "ENV PATH=/usr/local/bin:/usr/bin:/bin";
        let mut import = self.docker(&["import", "--change", path]);
        for instruction in instructions {
            import.args(["--change", instruction]);
        }
        import.arg(&archive).arg(name);
        run(import);
        fs::remove_file(&archive).expect("it was made");
    }

    fn inspect(&self, what: &str) -> Json {
        let said = run(self.docker(&["inspect", what]));
        let mut said: Vec<Json> = serde_json::from_str(&said).expect("JSON");
        said.remove(0)
    }

    /// Starts a container on the volume, and waits until the engine calls it healthy.
    fn start_container(&self) -> String {
        let id = run(self.docker(&[&["run"][..], &AS_IN_COMPOSE].concat()));
        let id = id.trim().to_owned();
        self.wait_until_healthy(&id);
        id
    }

    fn wait_until_healthy(&self, id: &str) {
        wait_for("the container to be healthy", CHANGE_MAX, || {
            let state = &self.inspect(id)["State"];
            let said = || run(self.docker(&["logs", id]));
            assert_eq!(state["Running"], true, "{state}: {}", said());
            (state["Health"]["Status"] == "healthy").then_some(())
        });
    }

    /// What curl gets from inside the container's network.
    fn curl(&self, id: &str, words: &[&str]) -> String {
        let pid = self.inspect(id)["State"]["Pid"].to_string();
        let mut curl = Command::new("nsenter");
        curl.args(["--target", &pid, "--net", "curl", "--silent", "--show-error", "--fail"]);
        curl.args(words);
        run(curl)
    }

    fn write(&self, id: &str, line: &str) {
        let url = "http://127.0.0.1:8086/write?db=iot";
        let head = self.curl(id, &["--include", url, "--data-binary", line]);
        assert!(head.contains("x-tidegate-durability: sync"), "{head}");
    }

    fn exported(&self, id: &str) -> String {
        let url = "http://127.0.0.1:8086/api/v1/export?db=iot&table=m&format=line";
        // Healthy, and not ready before the log is replayed.
        wait_for("the container to be ready", CHANGE_MAX, || {
            let mut ready =
                self.docker(&["exec", id, "/usr/local/bin/tidegate", "health", "--ready"]);
            ready.output().expect("docker starts").status.success().then_some(())
        });
        self.curl(id, &[url])
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // A test that failed must not leave containers behind: they would outlive the engine.
        let listed = self.docker(&["ps", "--all", "--quiet"]).output();
        let listed = listed.map(|output| output.stdout).unwrap_or_default();
        for id in String::from_utf8_lossy(&listed).split_whitespace() {
            drop(self.docker(&["rm", "--force", "--volumes", id]).output());
        }
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM).ok();
        }
        let is_over = || self.child.try_wait().ok().flatten().is_some();
        if !ends_within(CHANGE_MAX, is_over) {
            kill(&mut self.child);
        }
    }
}

/// Whether it comes true; a destructor must not panic.
fn ends_within(longest: Duration, mut is_over: impl FnMut() -> bool) -> bool {
    use tidegate::base::clock::{Clock as _, SystemClock};
    let clock = SystemClock::new();
    let begin = clock.monotonic();
    while clock.monotonic().saturating_sub(begin) < longest {
        if is_over() {
            return true;
        }
        clock.sleep(Duration::from_millis(20));
    }
    false
}

/// A program by its name, where Debian keeps those that every system has.
fn program(name: &str) -> PathBuf {
    let of = |folder: &str| Path::new(folder).join(name);
    ["/bin", "/usr/bin"].map(of).into_iter().find(|path| path.exists()).expect("it is there")
}

/// The stand-ins of both bases, in the order of the stages.
fn make_bases(engine: &Engine) {
    let binary = PathBuf::from(engine.place.command("check").get_program());
    let [build, last] = ["build", "last"].map(|name| engine.place.file(name));
    for name in CALLED {
        copy(&program(name), &build.join("usr/bin").join(name));
        copy_libraries(&program(name), &build);
    }
    copy(&program("sh"), &build.join("bin/sh"));
    let cargo = build.join("usr/local/bin/cargo");
    fs::create_dir_all(cargo.parent().expect("a folder")).expect("it can be made");
    fs::write(&cargo, CARGO).expect("it can be written");
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).expect("it is ours");
    // Names of functions for panics are most of a test's binary, and each stage copies it.
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(build.join("built")).arg(&binary);
    run(strip);
    copy_libraries(&binary, &last);
    for (folder, stage) in [(&build, 0), (&last, 1)] {
        let file = dockerfile();
        let from = file.lines().filter_map(|line| line.strip_prefix("FROM ")).nth(stage);
        let name = from.and_then(|from| from.split(' ').next()).expect("a base");
        engine.import(folder, name);
    }
}

/// Builds the image under the name that it has everywhere.
pub(crate) fn build(engine: &Engine) {
    make_bases(engine);
    let mut build =
        engine.docker(&["build", "--network=none", "--progress=plain", "--tag=tidegate"]);
    build.arg("--file").arg(top().join("packaging/docker/Dockerfile")).arg(top());
    run(build);
}

#[test]
fn a_docker_engine_builds_it_and_what_it_keeps_outlives_its_containers() {
    let engine = Engine::start();
    build(&engine);
    let image = engine.inspect("tidegate");
    assert_eq!(image["Config"]["User"], one("USER"));
    let size = image["Size"].as_u64().expect("a size");
    assert!(size < 200 << 20, "an image of {size} bytes has more than the binary in it");

    let refused = engine.docker(&["run", "--rm", "--network=none", "tidegate"]).output();
    let refused = refused.expect("docker starts");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "nobody said who may use it: {said}");
    assert!(said.contains("auth.anonymous"), "{said}");

    let first = engine.start_container();
    engine.write(&first, "m,site=a v=1i 1");
    run(engine.docker(&["stop", "--time=90", &first]));
    let state = &engine.inspect(&first)["State"];
    assert_eq!(state["ExitCode"], 0, "SIGTERM ends it well: {state}");
    let folder = engine.inspect(&first)["Mounts"][0]["Source"].clone();
    let folder = PathBuf::from(folder.as_str().expect("a folder of the host"));
    let owner = fs::metadata(folder.join("wal")).expect("the log is in the volume").uid();
    assert_eq!(format!("{owner}:{owner}"), one("USER"), "a new volume is its user's");

    let second = engine.start_container();
    assert_eq!(engine.exported(&second), "m,site=a v=1i 1\n", "another container has it");
    engine.write(&second, "m,site=a v=2i 2");
    run(engine.docker(&["kill", &second]));
    assert_eq!(engine.inspect(&second)["State"]["ExitCode"], 137);
    run(engine.docker(&["start", &second]));
    engine.wait_until_healthy(&second);
    assert_eq!(engine.exported(&second), "m,site=a v=1i 1\nm,site=a v=2i 2\n");
}

/// What is run above is what compose.yaml says.
#[test]
fn the_container_is_as_closed_as_in_the_compose_file() {
    let compose = include_str!("../../packaging/docker/compose.yaml");
    for said in [
        "read_only: true",
        "cap_drop: [ALL]",
        "no-new-privileges:true",
        "nofile: 16384",
        "TIDEGATE_AUTH__ANONYMOUS: \"true\"",
        "tidegate:/var/lib/tidegate",
    ] {
        assert!(compose.contains(said), "{said}");
    }
}
