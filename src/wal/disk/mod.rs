//! The seam between the log and its directory: every file operation of the log goes through
//! [`Disk`] and [`DiskFile`], so that a test can lose, tear or fail any of them. [`RealDisk`] is the
//! machine's.

#[cfg(test)]
mod fault;
mod real;
#[cfg(test)]
pub(super) mod sim;

pub use real::RealDisk;

use std::fmt::Debug;
use std::io;
use std::path::PathBuf;

use super::map::{Access, Map};

/// The log's directory. Names are file names without a path.
pub trait Disk: Debug + Send + Sync {
    /// The names of all files, in no order.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes an empty file; one of that name is emptied.
    ///
    /// # Errors
    ///
    /// When it cannot be made; nothing, or an empty file, may be left.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file.
    ///
    /// # Errors
    ///
    /// `NotFound`, and what else the system says.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Renames a file whose bytes are synced, in place of what had the name, and makes the new name
    /// durable.
    ///
    /// # Errors
    ///
    /// When the rename or the sync of the directory fails; then either name may be found after a
    /// crash.
    fn publish(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Not durable before [`Disk::sync_names`].
    ///
    /// # Errors
    ///
    /// When there is no such file, or the system refuses.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes all names durable as they are.
    ///
    /// # Errors
    ///
    /// When the directory cannot be synced; which names survive a crash is unknown.
    fn sync_names(&self) -> io::Result<()>;

    /// A number that nobody can foresee, for the generation of a segment.
    fn random(&self) -> u64;

    /// Where a file is, for messages.
    fn path(&self, name: &str) -> PathBuf;
}

/// An open file. Callers on several threads read while one writes.
pub trait DiskFile: Debug + Send + Sync {
    /// Its length.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn bytes(&self) -> io::Result<u64>;

    /// When it was last written, in nanoseconds of wall time since 1970.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn modified_ns(&self) -> io::Result<i64>;

    /// Gives the file `bytes` bytes with blocks behind all of them, so that writing them later needs
    /// no new space.
    ///
    /// # Errors
    ///
    /// `StorageFull` when there is not so much; the file may have got a part.
    fn allocate(&self, bytes: u64) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`. Not durable before [`DiskFile::sync`].
    ///
    /// # Errors
    ///
    /// What the system says; a part may be written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Reads from `offset` on until `buffer` is full or the file ends; returns the bytes read.
    ///
    /// # Errors
    ///
    /// What the system says, for instance of a sector that cannot be read.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Makes the bytes and the length durable.
    ///
    /// # Errors
    ///
    /// What the system says. What reached the device is then unknown, and a second call that
    /// succeeds proves nothing.
    fn sync(&self) -> io::Result<()>;

    /// Drops what the page cache holds of the file, so that reading shows what the device has. After
    /// a failed write-back the cache holds bytes that the device never got.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn forget_cached(&self) -> io::Result<()>;

    /// Maps the first `bytes`; `None` on a disk without maps, where the log reads with
    /// [`DiskFile::read_at`].
    ///
    /// # Errors
    ///
    /// When the file is shorter or the system refuses.
    fn map(&self, bytes: u64, access: Access) -> io::Result<Option<Map>>;
}
