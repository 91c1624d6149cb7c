//! The real binary as a process: started, asked, killed, started again on the same folder.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::client::{Client, Reply};
use super::rows::{self, Rows};
use super::volume::Volume;
use super::{tell, wait_for};

/// Longest time until a server listens and has replayed its log, on a busy machine.
const START_MAX: Duration = Duration::from_mins(2);

/// Longest time until a server that was asked to stop has stopped.
const STOP_MAX: Duration = Duration::from_mins(2);

/// A folder for one test: settings, data, and what the server says. Kept when the test fails.
#[derive(Debug)]
pub(crate) struct Place {
    dir: TempDir,
    data: PathBuf,
    starts: AtomicU32,
}

/// A running server. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Gateway {
    child: Child,
    pub(crate) address: SocketAddr,
    log: Log,
}

/// What one server says. It stays when the server is gone.
#[derive(Debug, Clone)]
pub(crate) struct Log(PathBuf);

impl Log {
    /// All that it said so far.
    pub(crate) fn text(&self) -> String {
        fs::read_to_string(&self.0).unwrap_or_default()
    }

    /// How often it says `event` so far.
    pub(crate) fn count(&self, event: &str) -> usize {
        fs::read_to_string(&self.0).unwrap_or_default().matches(event).count()
    }
}

impl Place {
    /// A folder of its own, with `settings` as its `config.toml`.
    pub(crate) fn new(settings: &str) -> Self {
        Self::made(settings, |dir| dir.join("data"))
    }

    /// The same with its data in a file system of their own.
    pub(crate) fn on(volume: &Volume, settings: &str) -> Self {
        Self::made(settings, |_dir| volume.root().join("data"))
    }

    fn made(settings: &str, data: impl FnOnce(&Path) -> PathBuf) -> Self {
        // Below the build folder, which is on a real disk; the system's temporary folder may not be.
        let dir = TempDir::with_prefix_in("promise-", env!("CARGO_TARGET_TMPDIR"));
        let dir = dir.expect("the build folder can be written");
        let data = data(dir.path());
        let place = Self { dir, data, starts: AtomicU32::new(0) };
        place.configure(settings);
        place
    }

    /// Other settings for the next start.
    pub(crate) fn configure(&self, settings: &str) {
        fs::write(self.file("config.toml"), settings).expect("the settings can be written");
    }

    /// The data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.data.clone()
    }

    /// A file of the test's own.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command of the binary with this folder's settings and data.
    pub(crate) fn command(&self, name: &str) -> Command {
        let binary = std::env::var_os("TIDEGATE_TEST_BINARY")
            .unwrap_or_else(|| env!("CARGO_BIN_EXE_tidegate").into());
        let mut command = Command::new(binary);
        command.current_dir(self.dir.path()).stdin(Stdio::null()).arg(name);
        command.arg("--config").arg("config.toml").arg("--data").arg(self.data());
        without_settings(&mut command);
        command
    }

    /// Starts the server and returns at once, before it listens.
    pub(crate) fn spawn(&self) -> (Child, PathBuf) {
        self.spawn_with(&[])
    }

    /// The same with these environment variables.
    pub(crate) fn spawn_with(&self, variables: &[(&str, &str)]) -> (Child, PathBuf) {
        let number = self.starts.fetch_add(1, Ordering::Relaxed);
        let log = self.file(&format!("server-{number}.log"));
        let child = self
            .command("serve")
            .args(["--listen", "127.0.0.1:0"])
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a log file can be made"))
            .spawn()
            .expect("the binary starts");
        (child, log)
    }

    /// Starts the server and waits until it listens; whether it is ready is not asked.
    pub(crate) fn listening(&self) -> Gateway {
        Gateway::listening(self.spawn())
    }

    /// Starts the server and waits until it is ready.
    pub(crate) fn start(&self) -> Gateway {
        let mut gateway = self.listening();
        let mut client = gateway.client();
        wait_for("the server to be ready", START_MAX, || {
            assert_runs(&mut gateway.child, &gateway.log.0);
            client.get("/ready").ok().filter(|reply| reply.status == 200)
        });
        gateway
    }

    /// Runs a command of the binary to its end.
    pub(crate) fn run(&self, name: &str, arguments: &[&str]) -> Output {
        self.command(name).args(arguments).output().expect("the binary starts")
    }

    /// The records of a table as `tidegate export` writes them, from a folder without a server.
    pub(crate) fn exported(&self, database: &str, table: &str) -> Rows {
        let output = self.run("export", &["--database", database, "--table", table]);
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "export: {}: {complaints}", output.status);
        rows::parse(&output.stdout).expect("an export can be read back")
    }

    /// How often a server of this folder logged `event`.
    pub(crate) fn logged(&self, event: &str) -> usize {
        let logs = files_below(self.dir.path(), ".log");
        let texts = logs.iter().map(|log| fs::read_to_string(log).unwrap_or_default());
        texts.map(|text| text.matches(event).count()).sum()
    }

    /// All files below the data folder whose names end in `ending`, sorted, but for those that begin with a dot.
    pub(crate) fn files(&self, below: &str, ending: &str) -> Vec<PathBuf> {
        files_below(&self.data().join(below), ending)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.dir.disable_cleanup(true);
            tell(format!("kept for a look: {}", self.dir.path().display()));
        }
    }
}

impl Gateway {
    /// One that was spawned, once it listens.
    pub(crate) fn listening((mut child, log): (Child, PathBuf)) -> Self {
        let address = wait_for("the server to listen", START_MAX, || {
            assert_runs(&mut child, &log);
            address_in(&log)
        });
        Self { child, address, log: Log(log) }
    }

    /// What it says.
    pub(crate) fn log(&self) -> Log {
        self.log.clone()
    }

    /// A new connection to it.
    pub(crate) const fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// Writes line protocol, which must be taken, and returns the reply.
    pub(crate) fn write(&self, database: &str, lines: &str) -> Reply {
        let target = format!("/api/v2/write?bucket={database}&precision=ns");
        let reply =
            self.client().post(&target, &[], lines.as_bytes()).expect("a write is answered");
        assert_eq!(reply.status, 204, "{}", reply.text());
        reply
    }

    /// Waits until everything that was acknowledged so far is executed, and can be read: frames are
    /// executed in their order, so a write that is applied has all before it applied.
    pub(crate) fn settle(&self) {
        let headers = [("X-Tidegate-Durability", "applied")];
        let reply = self.client().post("/write?db=settled", &headers, b"settled,by=test is=true 1");
        let reply = reply.expect("a write is answered");
        assert_eq!(reply.status, 204, "{}", reply.text());
    }

    /// The records of a table as they stand; none where there is no such table.
    pub(crate) fn export(&self, database: &str, table: &str) -> Rows {
        self.export_by(database, table, rows::parse)
    }

    /// The same where measure names of their own were sent.
    pub(crate) fn export_any(&self, database: &str, table: &str) -> Rows {
        self.export_by(database, table, rows::parse_any)
    }

    fn export_by(
        &self,
        database: &str,
        table: &str,
        parse: impl Fn(&[u8]) -> Result<Rows, String>,
    ) -> Rows {
        let target = format!("/api/v1/export?db={database}&table={table}");
        let reply = self.client().get(&target).expect("an export is answered");
        if reply.status == 404 {
            return Rows::new();
        }
        assert_eq!(reply.status, 200, "{}", reply.text());
        parse(&reply.body).expect("an export can be read back")
    }

    /// The sum of a metric over its labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.client().get("/metrics").expect("metrics are answered").text();
        let of_it =
            |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let lines: Vec<&str> = text.lines().filter(of_it).collect();
        assert!(!lines.is_empty(), "no metric {name} in:\n{text}");
        let value = |line: &&str| line.rsplit(' ').next()?.parse::<f64>().ok();
        lines.iter().filter_map(value).sum()
    }

    /// Bytes of memory that are the process's alone: not the mapped log, which the system can take
    /// back at any time.
    pub(crate) fn private_bytes(&self) -> u64 {
        self.memory("RssAnon:")
    }

    /// Most bytes of memory that it ever had, the mapped log included.
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, key: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
        kib << 10
    }

    /// SIGKILL: not one more instruction of the process runs.
    pub(crate) fn kill(mut self) {
        kill(&mut self.child);
    }

    /// Waits until the process ends by itself.
    pub(crate) fn wait_end(&mut self, longest: Duration) -> ExitStatus {
        wait_for("the server to end", longest, || self.child.try_wait().expect("it is our child"))
    }

    /// Whether the process runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// Ends it as `end` does.
    pub(crate) fn end(mut self, end: impl FnOnce(&mut Child)) {
        end(&mut self.child);
    }

    /// Sends it a signal, and does not wait.
    pub(crate) fn signal(&self, signal: Signal) {
        self::signal(&self.child, signal);
    }

    /// SIGTERM, and waits until it has stopped well.
    pub(crate) fn stop(mut self) {
        let status = self.terminate();
        assert!(status.success(), "stopped with {status}:\n{}", end_of(&self.log.0));
    }

    fn terminate(&mut self) -> ExitStatus {
        signal(&self.child, Signal::TERM);
        wait_for("the server to stop", STOP_MAX, || self.child.try_wait().expect("it is our child"))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        kill(&mut self.child);
        if std::thread::panicking() {
            tell(format!("{}:\n{}", self.log.0.display(), end_of(&self.log.0)));
        }
    }
}

/// SIGKILL, and waits for the end.
pub(crate) fn kill(child: &mut Child) {
    // An error says that it has ended already.
    drop(child.kill());
    drop(child.wait());
}

/// SIGSTOP, and waits until no thread of the process can execute another instruction: from then on it
/// answers nobody. A sync under way may still end in the kernel.
pub(crate) fn freeze(child: &Child) {
    signal(child, Signal::STOP);
    wait_for("the server to freeze", STOP_MAX, || {
        let states = thread_states(child);
        // The first that is stopped has told all others; those in the kernel stop on their way out.
        let is_frozen =
            states.contains(&'T') && states.iter().all(|state| matches!(state, 'T' | 'D'));
        // One that has ended answers nobody either.
        (is_frozen || states.iter().all(|state| *state == 'Z')).then_some(())
    });
}

/// One letter a thread, as the kernel names its states.
fn thread_states(child: &Child) -> Vec<char> {
    let tasks = fs::read_dir(format!("/proc/{}/task", child.id()));
    let stats = tasks.into_iter().flatten().flatten().map(|task| task.path().join("stat"));
    let texts = stats.filter_map(|stat| fs::read_to_string(stat).ok());
    // The name before the state may hold anything, brackets too.
    texts.filter_map(|text| text.rsplit_once(") ")?.1.chars().next()).collect()
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process has a number"), signal).expect("it is our child");
}

/// All files below `dir` whose names end in `ending`, sorted, but for those that begin with a dot, as the name of
/// a reject sink's owner does.
pub(crate) fn files_below(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if path.is_dir() {
            files.extend(files_below(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn assert_runs(child: &mut Child, log: &Path) {
    let ended = child.try_wait().expect("it is our child");
    assert!(ended.is_none(), "the server ended: {ended:?}:\n{}", end_of(log));
}

/// Where it listens, once it says so.
pub(crate) fn address_in(log: &Path) -> Option<SocketAddr> {
    let text = fs::read_to_string(log).ok()?;
    let (_, rest) = text.split_once("local_addr=")?;
    // The line may be half written: an address ends in a blank.
    let (address, _) = rest.split_once(' ')?;
    address.parse().ok()
}

fn end_of(log: &Path) -> String {
    const LINES: usize = 40;
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// Keeps settings of the tests themselves, which the server would refuse as its own, out of what a command
/// starts.
pub(crate) fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEGATE_") {
            command.env_remove(name);
        }
    }
}
