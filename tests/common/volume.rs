//! A file system of the test's own, in a file: it can be full, and its power can be cut.
//!
//! The cut is the shutdown ioctl of ext4 and XFS without a flush of the journal: from then on not one
//! byte reaches the device, and what it does not have is gone with the mount. The file system replays
//! its journal at the next mount, as after a real power cut.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::tell;

/// `_IOR('X', 125, __u32)` with "no log flush", on the folder named by the first argument. Python has
/// the call without `unsafe`, and the tests need Python anyway.
const SHUTDOWN: &str = "import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";

/// Where it is mounted is removed with it; mounted file systems are not left behind.
#[derive(Debug)]
pub(crate) struct Volume {
    dir: TempDir,
    device: String,
}

/// What is made on a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ext4,
    Xfs,
}

impl Volume {
    /// A new, empty file system of `bytes`, mounted. Its file is sparse.
    ///
    /// Fails the test where nothing may be mounted: a promise that was not tried is not kept.
    pub(crate) fn new(kind: Kind, bytes: u64) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test mounts file systems, to cut their power and to fill them: run it as root, with \
             loop devices (in a container: --privileged)"
        );
        let dir = Self::folder();
        let image = dir.path().join("image");
        let file = File::create(&image).expect("the build folder can be written");
        file.set_len(bytes).expect("a sparse file takes no space");
        Self::in_file(kind, dir, &image)
    }

    /// A new folder for the file behind a volume: in the build folder, or where `TIDEGATE_VOLUMES` says.
    /// In memory (`/dev/shm`) a sync takes no time, and more of everything falls into a run.
    pub(crate) fn folder() -> TempDir {
        let below = std::env::var_os("TIDEGATE_VOLUMES");
        let below = below.unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into());
        TempDir::with_prefix_in("volume-", below).expect("the folder of volumes can be written")
    }

    /// A new, empty file system in the file or device `image`, mounted in `dir`.
    pub(crate) fn in_file(kind: Kind, dir: TempDir, image: &Path) -> Self {
        let device = run(Command::new("losetup").args(["--find", "--show"]).arg(image));
        let volume = Self { dir, device: device.trim().to_owned() };
        fs::create_dir(volume.root()).expect("the build folder can be written");
        let mut make = match kind {
            Kind::Ext4 => Command::new("mkfs.ext4"),
            Kind::Xfs => Command::new("mkfs.xfs"),
        };
        run(make.arg("-q").arg(&volume.device));
        volume.mount();
        volume
    }

    /// Its root folder.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("mounted")
    }

    /// Writes everything back, so that nothing but what follows is dirty.
    pub(crate) fn settle(&self) {
        run(Command::new("sync").arg("--file-system").arg(self.root()));
    }

    /// Cuts the power. Everything that still runs on it gets errors.
    pub(crate) fn cut(&self) {
        run(Command::new("python3").args(["-c", SHUTDOWN]).arg(self.root()));
    }

    /// Takes it off and mounts it again, which forgets every cached page. Nothing may have it open.
    pub(crate) fn remount(&self) {
        run(Command::new("umount").arg(self.root()));
        self.mount();
    }

    fn mount(&self) {
        run(Command::new("mount").arg(&self.device).arg(self.root()));
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.root()).stderr(Stdio::null()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            tell(format!("{} is not mounted any more", self.root().display()));
        }
        if std::thread::panicking() {
            self.dir.disable_cleanup(true);
            tell(format!("kept for a look: {}", self.dir.path().display()));
        }
        // A device that is in use is freed when its last user goes.
        drop(Command::new("losetup").arg("--detach").arg(&self.device).status());
    }
}

/// Runs a tool that must succeed; what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let problem = output.as_ref().err();
    assert!(problem.is_none(), "{name} cannot be run ({problem:?}); tests/run.sh installs it");
    let output = output.expect("looked at above");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {complaints}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
