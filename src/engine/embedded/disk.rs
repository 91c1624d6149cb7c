//! The engine's work on its files, one step at a time.
//!
//! Whatever the engine changes on the disk (a name, bytes, what is durable of them) it changes here,
//! and each change is one [`FileStep`]: a test that looks at the folder after every step has seen
//! every state that a crash can leave, and one that remembers what was synced has seen what a power
//! cut can leave.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::base;

/// What was done to a file or folder, for tests that stop there.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileStep {
    /// A folder was made.
    FolderMade,
    /// An empty file was made.
    FileCreated,
    /// Bytes were appended to a file.
    BytesWritten,
    /// A file's bytes were made durable.
    FileSynced,
    /// A folder's names were made durable.
    FolderSynced,
    /// A file got a second name.
    FileLinked,
    /// A file got another name.
    FileRenamed,
    /// A name was removed.
    FileRemoved,
    /// An empty folder was removed.
    FolderRemoved,
}

pub(super) type Hook = dyn Fn(FileStep, &Path) + Send + Sync;

/// The disk, as the engine uses it.
#[derive(Default)]
pub(super) struct Disk {
    /// Told of each step, after it.
    hook: Mutex<Option<Arc<Hook>>>,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Disk")
    }
}

impl Disk {
    /// Calls `hook` after each step from now on.
    pub(super) fn set_hook(&self, hook: Box<Hook>) {
        *self.hook.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::from(hook));
    }

    fn did(&self, step: FileStep, path: &Path) {
        // Called without the lock: a hook may stop the thread for good.
        let hook = self.hook.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(hook) = hook {
            hook(step, path);
        }
    }

    /// Makes a folder and every missing one above it, durably.
    pub(super) fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        if !dir.is_dir() {
            base::fs::create_dir_all(dir)?;
            self.did(FileStep::FolderMade, dir);
        }
        Ok(())
    }

    /// Makes an empty file, or empties the one that is there. Its name is durable after
    /// [`Disk::sync_dir`] only.
    pub(super) fn create(self: &Arc<Self>, path: &Path) -> io::Result<DiskFile> {
        let file = File::create(path)?;
        self.did(FileStep::FileCreated, path);
        Ok(DiskFile {
            file,
            path: path.to_owned(),
            disk: Arc::clone(self),
            #[cfg(test)]
            room_bytes: usize::MAX,
        })
    }

    /// Gives a file another name, in place of what had it. Durable after [`Disk::sync_dir`] only.
    #[expect(
        clippy::disallowed_methods,
        reason = "several names of one folder change before it is synced, once"
    )]
    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)?;
        self.did(FileStep::FileRenamed, to);
        Ok(())
    }

    /// Gives a file another name in its folder, durably.
    pub(super) fn publish(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.rename(from, to)?;
        self.sync_dir(to.parent().expect("a file is in a folder"))
    }

    /// Gives a file a second name. Durable after [`Disk::sync_dir`] only.
    pub(super) fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)?;
        self.did(FileStep::FileLinked, to);
        Ok(())
    }

    /// Removes a file's name. Durable after [`Disk::sync_dir`] only.
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)?;
        self.did(FileStep::FileRemoved, path);
        Ok(())
    }

    /// Removes an empty folder. Durable after [`Disk::sync_dir`] of the one above only.
    pub(super) fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        std::fs::remove_dir(dir)?;
        self.did(FileStep::FolderRemoved, dir);
        Ok(())
    }

    /// Makes the names in a folder durable.
    pub(super) fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        base::fs::sync_dir(dir)?;
        self.did(FileStep::FolderSynced, dir);
        Ok(())
    }
}

/// A file that is being written.
#[derive(Debug)]
pub(super) struct DiskFile {
    file: File,
    path: PathBuf,
    disk: Arc<Disk>,
    #[cfg(test)]
    room_bytes: usize,
}

impl DiskFile {
    /// Makes its bytes durable and says how many there are.
    pub(super) fn sync(&self) -> io::Result<u64> {
        self.file.sync_all()?;
        self.disk.did(FileStep::FileSynced, &self.path);
        Ok(self.file.metadata()?.len())
    }

    /// Takes back what stands behind `length`, durably.
    pub(super) fn cut(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)?;
        self.sync().map(drop)
    }

    /// Takes no more than `room_bytes` from now on, as a disk that is almost full.
    #[cfg(test)]
    pub(super) fn fill_after(&mut self, room_bytes: usize) {
        self.room_bytes = room_bytes;
    }
}

impl Write for DiskFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        #[cfg(test)]
        let bytes = {
            let taken = &bytes[..bytes.len().min(self.room_bytes)];
            if taken.is_empty() && !bytes.is_empty() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room_bytes -= taken.len();
            taken
        };
        let written = self.file.write(bytes)?;
        self.disk.did(FileStep::BytesWritten, &self.path);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
