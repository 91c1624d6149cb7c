//! The unit under a systemd that is really there: the first process of a container which `systemd-nspawn` makes
//! of this machine's programs, with nothing else of the machine: settings, data, network and users are its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::common::gateway::{Place, kill};
use crate::common::wait_for;

/// Longest time for a change of state, on a busy machine; the watchdog's half a minute is in it.
const CHANGE_MAX: Duration = Duration::from_mins(3);

const UNIT: &str = include_str!("../../packaging/systemd/tidegate.service");

/// A machine of the test's own. It is gone when dropped.
struct Machine {
    nspawn: Child,
    place: Place,
    /// Its systemd, as this machine numbers it.
    first: u32,
}

impl Machine {
    fn start() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test starts a container with systemd: run it as root"
        );
        let place = Place::new("");
        let [root, programs, state] =
            ["system", "programs", "state"].map(|name| place.file("machine").join(name));
        for folder in
            ["etc/tidegate", "etc/systemd/system", "usr", "var", "proc", "sys", "dev", "run"]
        {
            fs::create_dir_all(root.join(folder)).expect("it can be made");
        }
        fs::create_dir_all(programs.join("bin")).expect("it can be made");
        fs::create_dir_all(&state).expect("it can be made");
        for folder in ["bin", "sbin", "lib", "lib64"] {
            std::os::unix::fs::symlink(format!("usr/{folder}"), root.join(folder)).expect("a link");
        }
        let binary = PathBuf::from(place.command("check").get_program());
        fs::copy(binary, programs.join("bin/tidegate")).expect("it can be copied");
        for (file, text) in [
            ("passwd", "root:x:0:0:root:/root:/bin/sh\n"),
            ("group", "root:x:0:\nsecrets:x:900:\n"),
            ("nsswitch.conf", "passwd: files systemd\ngroup: files systemd\nhosts: files\n"),
            ("machine-id", ""),
            ("systemd/system/tidegate.service", UNIT),
            ("tidegate/config.toml", ""),
        ] {
            fs::write(root.join("etc").join(file), text).expect("it can be written");
        }
        let nspawn = spawn(&place, &root, &programs, &state);
        let mut machine = Self { nspawn, place, first: 0 };
        wait_for("systemd", CHANGE_MAX, || {
            let ended = machine.nspawn.try_wait().expect("it is our child");
            let said = || fs::read_to_string(machine.place.file("nspawn.log")).unwrap_or_default();
            assert!(ended.is_none(), "systemd-nspawn ends with {ended:?}: {}", said());
            // Its first child only makes the one that stays.
            machine.first = machine.child_of_nspawn().unwrap_or_default();
            (machine.say("systemctl is-system-running") == "running").then_some(())
        });
        machine
    }

    fn child_of_nspawn(&self) -> Option<u32> {
        let id = self.nspawn.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    fn sh(&self, script: &str) -> Output {
        let mut shell = Command::new("nsenter");
        shell.args(["--target", &self.first.to_string()]);
        shell.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"]);
        shell.args(["sh", "-euc", script]).env_clear().env("PATH", "/usr/sbin:/usr/bin");
        shell.output().expect("nsenter starts")
    }

    /// What a script prints, whatever becomes of it.
    fn say(&self, script: &str) -> String {
        let output = self.sh(script);
        let [out, err] =
            [output.stdout, output.stderr].map(|b| String::from_utf8(b).expect("text"));
        format!("{out}{err}").trim_end().to_owned()
    }

    /// What a script prints, which must end well.
    fn run(&self, script: &str) -> String {
        let output = self.sh(script);
        let told = [output.stdout.clone(), output.stderr].concat();
        let journal = || self.say("journalctl --unit tidegate --no-pager --output cat --lines 20");
        let told = String::from_utf8_lossy(&told);
        assert!(output.status.success(), "{script}: {}: {told}\n{}", output.status, journal());
        String::from_utf8(output.stdout).expect("text").trim_end().to_owned()
    }

    /// What systemd says of the service.
    fn property(&self, name: &str) -> String {
        self.run(&format!("systemctl show --value --property {name} tidegate"))
    }

    /// Waits until systemd has started the server `times` times by itself and it is ready.
    fn wait_for_restart(&self, times: u32) {
        wait_for("systemd to start it again", CHANGE_MAX, || {
            let is_there = self.property("NRestarts") == times.to_string();
            (is_there && self.property("ActiveState") == "active").then_some(())
        });
    }

    /// The status of a write of one record, and of whatever `more` asks curl for.
    fn write(&self, time: u32, more: &str) -> String {
        self.run(&format!(
            "curl -s -o /dev/null -w '%{{http_code}}' {more} 'http://127.0.0.1:8086/write?db=d' \
             --data-binary 'm,s=a v={time}i {time}'"
        ))
    }

    fn exported(&self, more: &str) -> String {
        self.run(&format!(
            "curl -sSf {more} 'http://127.0.0.1:8086/api/v1/export?db=d&table=m&format=line'"
        ))
    }

    fn configure(&self, settings: &str) {
        let file = self.place.file("machine/system/etc/tidegate/config.toml");
        fs::write(file, settings).expect("it can be written");
    }

    /// Adds to the unit as `systemctl edit` does.
    fn edit(&self, service: &str) {
        let folder = self.place.file("machine/system/etc/systemd/system/tidegate.service.d");
        fs::create_dir_all(&folder).expect("it can be made");
        fs::write(folder.join("override.conf"), format!("[Service]\n{service}\n"))
            .expect("written");
        self.run("systemctl daemon-reload");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // With the first process all others of the container end, and nspawn when they have.
        let first = self.child_of_nspawn().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = first.and_then(Pid::from_raw)
            && kill_process(pid, Signal::KILL).is_ok()
        {
            self.nspawn.wait().ok();
        }
        kill(&mut self.nspawn);
    }
}

fn spawn(place: &Place, root: &Path, programs: &Path, state: &Path) -> Child {
    let mut nspawn = Command::new("systemd-nspawn");
    nspawn.args(["--quiet", "--register=no", "--private-network", "--console=pipe"]);
    if !Path::new("/run/systemd/system").exists() {
        // Nobody is there who could give it a unit of its own.
        nspawn.arg("--keep-unit");
    }
    nspawn.arg(format!("--machine=tidegate-{}", std::process::id()));
    nspawn.arg("--directory").arg(root);
    nspawn.arg(format!("--overlay=/usr:{}:/usr", programs.display()));
    // The log needs a real file system, where a state folder of a dynamic user is.
    nspawn.arg(format!("--bind={}:/var/lib/private", state.display()));
    nspawn.args(["/lib/systemd/systemd", "--unit=basic.target"]);
    let log = File::create(place.file("nspawn.log")).expect("it can be made");
    let said = log.try_clone().expect("a file has two handles");
    let child = nspawn.stdin(Stdio::null()).stdout(said).stderr(log).spawn();
    child.expect("systemd-nspawn, which tests/run.sh installs")
}

#[test]
fn systemd_starts_watches_reloads_and_stops_it_as_the_unit_says() {
    let machine = Machine::start();
    machine.run("systemctl start tidegate");
    assert!(machine.property("StatusText").starts_with("serving on "), "it has told how it is");
    let pid = machine.property("MainPID");
    let owner = machine.run(&format!("stat --format %u /proc/{pid}"));
    assert!(owner.parse::<u32>().expect("a number") >= 61184, "a dynamic user: {owner}");
    assert_eq!(machine.write(1, ""), "204");

    machine.run("systemctl kill --signal KILL tidegate");
    machine.wait_for_restart(1);
    assert_eq!(machine.write(2, ""), "204");
    // One that hangs is ended by the watchdog.
    machine.run("systemctl kill --signal STOP tidegate");
    machine.wait_for_restart(2);
    assert!(machine.say("journalctl --unit tidegate --output cat").contains("result 'watchdog'"));
    assert_eq!(machine.exported(""), "m,s=a v=1i 1\nm,s=a v=2i 2");

    machine.run("systemctl stop tidegate");
    assert_eq!(machine.property("Result"), "success");
    assert!(machine.say("journalctl --unit tidegate --output cat").contains("server: stopped"));

    // Settings do not mend themselves: one start, and the reason is the last that is said.
    machine.configure("[log]\ncolour = \"blue\"\n");
    assert!(!machine.sh("systemctl start tidegate").status.success());
    assert_eq!(machine.property("ExecMainStatus"), "2");
    assert_eq!(machine.property("ActiveState"), "failed");
    wait_for("the reason", CHANGE_MAX, || {
        let told = machine.say("systemctl status --no-pager --full --lines 20 tidegate");
        told.contains("no key \"colour\" in [log]").then_some(())
    });
}

/// As the unit's own comment has it: a group that may read them.
#[test]
fn secrets_of_a_group_are_read_again_by_a_reload() {
    let machine = Machine::start();
    machine.edit("SupplementaryGroups=secrets");
    machine.configure(
        "[[auth.tokens]]\nname = \"t\"\ntoken_file = \"/etc/tidegate/token\"\nread = [\"d\"]\nwrite = [\"d\"]\n",
    );
    let change = |token: &str| {
        machine.run(&format!(
            "printf %s {token} > /etc/tidegate/token; chgrp secrets /etc/tidegate/token; \
             chmod 640 /etc/tidegate/token"
        ));
    };
    change("first-token");
    machine.run("systemctl start tidegate");
    assert_eq!(machine.write(1, ""), "401");
    assert_eq!(machine.write(1, "-H 'Authorization: Token first-token'"), "204");
    change("second-token");
    machine.run("systemctl reload tidegate");
    wait_for("the new token", CHANGE_MAX, || {
        (machine.write(2, "-H 'Authorization: Token second-token'") == "204").then_some(())
    });
    assert_eq!(machine.write(2, "-H 'Authorization: Token first-token'"), "401");
}

/// Goal: an operator's own command does not lock the service out. Method: the server is killed with records in
/// its log alone, so that root's command, which reads the folder as the server would, writes files.
#[test]
fn what_roots_own_commands_leave_behind_does_not_stop_the_service() {
    let machine = Machine::start();
    machine.edit("Restart=no");
    machine.run("systemctl start tidegate");
    assert_eq!(machine.write(1, ""), "204");
    machine.run("systemctl kill --signal KILL tidegate");
    wait_for("its end", CHANGE_MAX, || (machine.property("ActiveState") == "failed").then_some(()));
    let command = "tidegate export --data /var/lib/tidegate --database d --table m --format line";
    assert_eq!(machine.run(&format!("{command} 2>/dev/null")), "m,s=a v=1i 1");
    let of_root = "find /var/lib/private/tidegate -user root";
    assert_ne!(machine.run(of_root), "", "the command has left nothing behind: nothing is proven");
    machine.run("systemctl start tidegate");
    assert_eq!(machine.run(of_root), "");
    assert_eq!(machine.write(2, ""), "204");
    assert_eq!(machine.exported(""), "m,s=a v=1i 1\nm,s=a v=2i 2");
}
