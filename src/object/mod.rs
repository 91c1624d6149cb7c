//! Floor 1: the object store: a local directory today, S3 and its kin by the same face.
//!
//! The `object_store` crate is asynchronous; its runtime is hidden here, and everybody else makes
//! blocking calls. Keys are made of [`encode`]d names joined by `/`, so no name can leave its folder.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use futures_util::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::runtime::Runtime;
use xxhash_rust::xxh3::xxh3_64;

use crate::base::class::Class;

/// Longest part of a key that [`encode`] makes: file systems take names of at most 255 bytes, and a
/// directory store adds an ending of its own while it writes.
pub const PART_BYTES_MAX: usize = 200;

/// What the end of a part that was cut takes: `=~` and 16 hexadecimal digits.
const HASH_BYTES: usize = 18;

/// A store of objects by key.
#[derive(Debug)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    runtime: Runtime,
    place: String,
}

/// An object could not be written or read.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {place}/{key}")]
pub struct ObjectError {
    what: &'static str,
    place: String,
    key: String,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl ObjectError {
    /// Who must act: a store that is away comes back, so the caller tries again.
    pub const fn class(&self) -> Class {
        Class::Busy
    }

    fn new(
        what: &'static str,
        place: &str,
        key: &str,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self { what, place: place.to_owned(), key: key.to_owned(), source: Box::new(source) }
    }
}

impl Store {
    /// The store in the directory `dir`, which is made where it is missing. An object is synced
    /// before [`Self::put`] returns.
    ///
    /// # Errors
    ///
    /// When the directory cannot be made or opened.
    pub fn in_directory(dir: &Path) -> Result<Self, ObjectError> {
        let place = dir.display().to_string();
        crate::base::fs::create_dir_all(dir)
            .map_err(|source| ObjectError::new("make", &place, "", source))?;
        let local = LocalFileSystem::new_with_prefix(dir)
            .map_err(|source| ObjectError::new("open", &place, "", source))?
            .with_automatic_cleanup(false)
            // Off by default in the crate: without it a report could vanish in a power cut after the
            // log has let its frame go.
            .with_fsync(true);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| ObjectError::new("open", &place, "", source))?;
        Ok(Self { inner: Arc::new(local), runtime, place })
    }

    /// Where the store is, for people.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Writes an object whole, replacing one of the same key. It is durable on return.
    ///
    /// # Errors
    ///
    /// [`ObjectError`]; whether the object stands is unknown, and writing it again is harmless.
    pub fn put(&self, key: &str, bytes: Vec<u8>) -> Result<(), ObjectError> {
        let path = self.key("write", key)?;
        self.runtime
            .block_on(self.inner.put(&path, bytes.into()))
            .map(drop)
            .map_err(|source| ObjectError::new("write", &self.place, key, source))
    }

    /// Reads an object whole.
    ///
    /// # Errors
    ///
    /// [`ObjectError`] when it is not there or cannot be read.
    pub fn get(&self, key: &str) -> Result<Vec<u8>, ObjectError> {
        let path = self.key("read", key)?;
        self.runtime
            .block_on(async { self.inner.get(&path).await?.bytes().await })
            .map(|bytes| bytes.to_vec())
            .map_err(|source| ObjectError::new("read", &self.place, key, source))
    }

    /// The keys below `prefix`, sorted.
    ///
    /// # Errors
    ///
    /// [`ObjectError`] when the store cannot be listed.
    pub fn list(&self, prefix: &str) -> Result<Vec<String>, ObjectError> {
        let path = self.key("list", prefix)?;
        let listed = self.inner.list(Some(&path)).map_ok(|object| object.location.to_string());
        let mut keys: Vec<String> = self
            .runtime
            .block_on(listed.try_collect())
            .map_err(|source| ObjectError::new("list", &self.place, prefix, source))?;
        keys.sort_unstable();
        Ok(keys)
    }

    fn key(&self, what: &'static str, key: &str) -> Result<Key, ObjectError> {
        Key::parse(key).map_err(|source| ObjectError::new(what, &self.place, key, source))
    }
}

/// A name as one part of a key: letters, digits, `-`, `_` and `.` stay, the rest becomes `=XX`, two
/// hexadecimal digits a byte; so does a leading `.`. A part that would be longer than
/// [`PART_BYTES_MAX`] is cut there and ends in `=~` and the hash of the name. Different names give
/// different parts, and none is empty, `.` or `..`.
pub fn encode(name: &str) -> String {
    let part = encode_whole(name);
    if part.len() <= PART_BYTES_MAX {
        return part;
    }
    // Every byte of a part is ASCII, so any cut is between characters.
    format!("{}=~{:016x}", &part[..PART_BYTES_MAX - HASH_BYTES], xxh3_64(name.as_bytes()))
}

fn encode_whole(name: &str) -> String {
    let mut part = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        let plain =
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || (byte == b'.' && at > 0);
        if plain {
            part.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            write!(part, "={byte:02X}").expect("a string takes everything");
        }
    }
    if part.is_empty() { "=".to_owned() } else { part }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_read_back_listed_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::in_directory(&dir.path().join("new/rejects")).unwrap();
        store.put("a/b.json", b"1".to_vec()).unwrap();
        store.put("a/a.json", b"2".to_vec()).unwrap();
        store.put("a/b.json", b"3".to_vec()).unwrap();
        assert_eq!(store.list("a").unwrap(), ["a/a.json", "a/b.json"]);
        assert_eq!(store.get("a/b.json").unwrap(), b"3");
        assert!(store.get("a/none").unwrap_err().to_string().starts_with("cannot read"));
        assert!(store.list("none").unwrap().is_empty());
    }

    #[test]
    fn no_name_leaves_its_folder() {
        for (name, part) in [
            ("plain-Name_1.x", "plain-Name_1.x"),
            ("..", "=2E."),
            (".", "=2E"),
            ("", "="),
            ("a/b", "a=2Fb"),
            ("a=b", "a=3Db"),
            ("\u{e9}\0", "=C3=A9=00"),
        ] {
            assert_eq!(encode(name), part);
            assert!(Key::parse(encode(name)).is_ok(), "{name:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        let store = Store::in_directory(dir.path()).unwrap();
        assert!(store.put("../out", Vec::new()).is_err());
    }

    #[test]
    fn a_long_name_is_cut_and_stays_apart_from_its_like() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::in_directory(dir.path()).unwrap();
        for name in ["x".repeat(256), "\u{6e29}".repeat(85)] {
            let part = encode(&name);
            assert_eq!(part.len(), PART_BYTES_MAX);
            let mut other = name.clone();
            other.push('y');
            assert_ne!(part, encode(&other));
            store.put(&format!("{part}/report.json"), b"1".to_vec()).unwrap();
        }
        assert_eq!(encode(&"x".repeat(PART_BYTES_MAX)), "x".repeat(PART_BYTES_MAX));
    }

    #[test]
    fn a_file_in_the_way_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, b"").unwrap();
        assert!(Store::in_directory(&path).is_err());
    }
}
