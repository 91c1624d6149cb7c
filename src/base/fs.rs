//! File operations whose durability matters: names as well as bytes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The ending of a file that is being written; start-up may delete any it finds.
pub const TEMPORARY_SUFFIX: &str = ".tmp";

/// Replaces the file at `path` by `bytes`, so that a reader after a crash finds either the old bytes
/// or the new, whole.
///
/// # Errors
///
/// Any failure of write, sync or rename. The old file stands unless only the directory's sync
/// failed; then either may be found after a crash.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary_beside(path);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&temporary)?;
    file.write_all(bytes)?;
    // The bytes first: a name that points at bytes that were never synced reads as zeros.
    file.sync_all()?;
    drop(file);
    publish(&temporary, path)
}

/// Gives the file at `from`, whose bytes are synced already, the name `to` in the same directory,
/// and syncs the directory.
///
/// # Errors
///
/// When the rename or the directory's sync fails; in the second case either name may be found after
/// a crash.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that renames, and it syncs the directory"
)]
pub fn publish(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)?;
    sync_dir(parent_of(to))
}

/// Makes the names in a directory durable.
///
/// # Errors
///
/// When the directory cannot be opened or synced; which of its new names survive a crash is unknown.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes a directory and every missing one above it, durably.
///
/// # Errors
///
/// When a directory cannot be made or synced; those already made stay.
pub fn create_dir_all(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = parent_of(dir);
    create_dir_all(parent)?;
    match std::fs::create_dir(dir) {
        Ok(()) => sync_dir(parent),
        // Somebody was faster; whoever made it syncs it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    }
}

fn temporary_beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(TEMPORARY_SUFFIX);
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_holds_the_new_bytes_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("marks.json");
        replace(&path, b"old").unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn missing_directories_are_made_once_and_found_the_second_time() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        create_dir_all(&deep).unwrap();
        create_dir_all(&deep).unwrap();
        assert!(deep.is_dir());
    }

    #[test]
    fn a_file_in_the_way_of_a_directory_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), b"").unwrap();
        assert!(create_dir_all(&dir.path().join("a/b")).is_err());
    }
}
