//! A PostgreSQL server of the test's own: made in a scratch folder, stopped as a power cut would, started
//! again. `initdb` refuses root, so as root it runs as the user `postgres`.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::common::wait_for;

/// Longest time until a server answers, on a busy machine.
const START_MAX: Duration = Duration::from_mins(1);

/// A server, and the folder that it has.
#[derive(Debug)]
pub(crate) struct Server {
    dir: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Server {
    /// A new, running server with an empty database `tidegate`.
    pub(crate) fn new() -> Self {
        let dir = TempDir::with_prefix_in("postgres-", below());
        let dir = dir.expect("a folder can be made");
        let port =
            TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it").port();
        let mut server = Self { dir, port, child: None };
        if is_root() {
            let status = Command::new("chown").arg("postgres").arg(server.dir.path()).status();
            assert!(status.expect("chown runs").success(), "the user postgres is there");
        }
        let data = server.data();
        let output = server
            .program("initdb")
            .args(["--auth=trust", "--no-sync", "--username=tidegate", "--encoding=UTF8"])
            .arg("--pgdata")
            .arg(&data)
            .output()
            .expect("initdb starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // Not on the command line, which a bench could not change.
        let file = data.join("postgresql.conf");
        let before = fs::read_to_string(&file).expect("settings");
        fs::write(&file, before + "max_wal_size = 256MB\n").expect("settings can be written");
        server.start();
        server.sql_in("postgres", "CREATE DATABASE tidegate");
        server
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The process, to count its time.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Starts it, and waits until it answers.
    pub(crate) fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.dir.path().join("log"));
        let log = log.expect("a log can be made");
        let data = self.data();
        let child = self
            .program("postgres")
            .arg("-D")
            .arg(&data)
            .args(["-p", &self.port.to_string(), "-k", ""])
            // A crash of the process leaves the page cache; power cuts are other tests'.
            .args(["-c", "fsync=off", "-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "max_connections=60", "-c", "deadlock_timeout=200ms"])
            .args(["-c", "shared_buffers=64MB"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("the server starts"));
        wait_for("PostgreSQL to answer", START_MAX, || self.psql("postgres", "SELECT 1").ok());
    }

    /// Ends it at once, every transaction under way undone.
    pub(crate) fn stop(&mut self) {
        if self.child.is_none() {
            return;
        }
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process");
        kill_process(pid, Signal::QUIT).expect("it is our child");
        let child = self.child.take();
        child.expect("looked at above").wait().expect("it is our child");
    }

    /// Takes encrypted connections only from now on, with a certificate of its own for `localhost`.
    pub(crate) fn encrypt(&mut self) {
        for (name, of) in [("server", "/CN=localhost"), ("other", "/CN=other")] {
            let san = format!("subjectAltName=DNS:{}", &of[4..]);
            let output = self
                .program_at("openssl".into())
                .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", of])
                .args(["-addext", &san, "-addext", "basicConstraints=critical,CA:FALSE"])
                .args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.crt")])
                .output()
                .expect("openssl starts");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let (certificate, key) = (self.certificate("server.crt"), self.certificate("server.key"));
        let settings =
            format!("ssl = on\nssl_cert_file = '{certificate}'\nssl_key_file = '{key}'\n");
        let file = self.data().join("postgresql.conf");
        let before = fs::read_to_string(&file).expect("settings");
        fs::write(&file, before + &settings).expect("settings can be written");
        let rules = "hostssl all all all trust\n";
        fs::write(self.data().join("pg_hba.conf"), rules).expect("rules can be written");
        self.stop();
        self.start();
    }

    /// The path of a file that [`Self::encrypt`] has made.
    pub(crate) fn certificate(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).expect("a log")
    }

    /// Executes a statement in the database of the tests and returns what it shows, a row a line.
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.sql_in("tidegate", sql)
    }

    fn sql_in(&self, database: &str, sql: &str) -> String {
        let result = self.psql(database, sql);
        assert!(result.is_ok(), "{sql}: {result:?}");
        result.unwrap_or_default()
    }

    fn psql(&self, database: &str, sql: &str) -> Result<String, String> {
        let output = self
            .program("psql")
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
                "-U",
                "tidegate",
                "-d",
                database,
            ])
            .args(["-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-c", sql])
            .output()
            .expect("psql starts");
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn program(&self, name: &str) -> Command {
        self.program_at(binaries().join(name))
    }

    fn program_at(&self, path: PathBuf) -> Command {
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        // The home of whoever runs the tests is not the server's to read.
        command.current_dir(self.dir.path()).env("HOME", self.dir.path());
        command
    }
}

/// Where the server's folder is: the build folder, unless that lies below one which the user `postgres` may not
/// enter, such as the home of root.
fn below() -> &'static Path {
    let build = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let is_open = |dir: &Path| fs::metadata(dir).is_ok_and(|dir| dir.permissions().mode() & 1 != 0);
    if !is_root() || build.ancestors().all(is_open) { build } else { Path::new("/var/tmp") }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            crate::common::tell(lines[lines.len().saturating_sub(30)..].join("\n"));
        }
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The folder of the newest server that the system's packages have installed.
fn binaries() -> PathBuf {
    let all = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = all.map(|entry| entry.path().join("bin")).collect();
    found.retain(|bin| bin.join("initdb").is_file());
    found.sort();
    let newest = found.pop().filter(|bin| Path::is_dir(bin));
    newest.expect("PostgreSQL is installed: tests/run.sh does it")
}
