//! The machine's own files.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, FallocateFlags, FlockOperation};

use super::{Disk, DiskFile};
use crate::base::fs as base_fs;
use crate::wal::WalError;
use crate::wal::map::{Access, Map};

/// The file whose lock keeps a second process out; it holds the process number of the owner.
const LOCK_NAME: &str = "lock";

/// File systems by the number `statfs` gives, that can keep the log's promises. On `tmpfs` a sync
/// means nothing, since a power cut takes all of it: it is for tests.
const ACCEPTED: [(i64, &str); 3] = [(0xef53, "ext4"), (0x5846_5342, "XFS"), (0x0102_1994, "tmpfs")];

/// Others that are likely to be met. Copy-on-write ones need space to rewrite what is allocated, so
/// a store into a map can end the process; on the rest a map and a write do not agree, or a sync is
/// not one.
const REFUSED: [(i64, &str); 8] = [
    (0x9123_683e, "btrfs"),
    (0x2fc1_2fc1, "ZFS"),
    (0x6969, "NFS"),
    (0x794c_7630, "overlayfs"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9p"),
    (0xff53_4d42, "CIFS"),
    (0xf2f5_2010, "F2FS"),
];

/// A directory of this machine.
#[derive(Debug)]
pub struct RealDisk {
    dir: PathBuf,
    /// Held, and with it the lock, until the last segment that came from here is dropped. `None` for
    /// reading only.
    lock: Option<File>,
}

impl RealDisk {
    /// Takes the directory `dir` for a log, and makes it if it is missing.
    ///
    /// # Errors
    ///
    /// [`WalError::FileSystem`] on one that cannot keep the promises; [`WalError::Locked`] when
    /// another log has it; [`WalError::Io`].
    pub fn lock(dir: &Path) -> Result<Self, WalError> {
        let failed = |what| move |error| WalError::io(what, dir.to_owned(), error);
        base_fs::create_dir_all(dir).map_err(failed("create"))?;
        refuse_file_system(dir)?;
        let path = dir.join(LOCK_NAME);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| WalError::io("open", path.clone(), error))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(WalError::Locked { path, holder: holder(&mut lock) });
            }
            Err(error) => return Err(WalError::io("lock", path, error.into())),
        }
        write_holder(&lock).map_err(|error| WalError::io("write", path, error))?;
        Ok(Self { dir: dir.to_owned(), lock: Some(lock) })
    }

    /// The directory `dir`, for reading beside whoever has it. Everything that writes fails.
    pub fn read_only(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), lock: None }
    }

    fn writable(&self) -> io::Result<()> {
        match self.lock {
            Some(_) => Ok(()),
            None => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }
}

impl Disk for RealDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            // Names of ours are ASCII; another one is nobody we know.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.writable()?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        Ok(Box::new(RealFile(options.open(self.path(name))?)))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(self.lock.is_some());
        Ok(Box::new(RealFile(options.open(self.path(name))?)))
    }

    fn publish(&self, from: &str, to: &str) -> io::Result<()> {
        self.writable()?;
        base_fs::publish(&self.path(from), &self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.writable()?;
        std::fs::remove_file(self.path(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        base_fs::sync_dir(&self.dir)
    }

    fn random(&self) -> u64 {
        // The standard library seeds each of these from the system's entropy.
        RandomState::new().build_hasher().finish()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// A file of this machine.
#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn modified_ns(&self) -> io::Result<i64> {
        let metadata = self.0.metadata()?;
        // A time beyond what 64 bits hold is as good as the last one that fits.
        Ok(metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec()))
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let allocate = || rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, bytes);
        Ok(rustix::io::retry_on_intr(allocate)?)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn forget_cached(&self) -> io::Result<()> {
        Ok(rustix::fs::fadvise(&self.0, 0, None, Advice::DontNeed)?)
    }

    fn map(&self, bytes: u64, access: Access) -> io::Result<Option<Map>> {
        Map::new(&self.0, bytes, access).map(Some)
    }
}

fn refuse_file_system(dir: &Path) -> Result<(), WalError> {
    let stat = rustix::fs::statfs(dir)
        .map_err(|error| WalError::io("ask the file system of", dir.to_owned(), error.into()))?;
    let magic = stat.f_type;
    if ACCEPTED.iter().any(|(accepted, _)| *accepted == magic) {
        return Ok(());
    }
    let found = REFUSED
        .iter()
        .find(|(refused, _)| *refused == magic)
        .map_or_else(|| format!("file system {magic:#x}"), |(_, name)| (*name).to_owned());
    Err(WalError::FileSystem { path: dir.to_owned(), found })
}

fn write_holder(lock: &File) -> io::Result<()> {
    // Cut off first: the number before may have been longer. The lock is no segment: nobody maps it.
    lock.set_len(0)?;
    lock.write_all_at(std::process::id().to_string().as_bytes(), 0)
}

fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    match lock.read_to_string(&mut text) {
        Ok(_) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
            format!("process {text}")
        }
        _ => "another process".to_owned(),
    }
}
