//! Floor 1: the object store: a local directory, S3 and its kin by one face.
//!
//! | URL | is |
//! |---|---|
//! | `file:///var/reports`, `/var/reports`, `reports` | a directory |
//! | `s3://bucket/prefix` | S3, or with [`Options::endpoint`] whatever speaks its protocol |
//! | `gs://bucket/prefix` | Google Cloud Storage |
//! | `az://container/prefix` | Azure Blob Storage |
//!
//! The `object_store` crate is asynchronous; its runtime is hidden here, and everybody else makes
//! blocking calls. Keys that are made of [`encode`]d names joined by `/` cannot leave their folder, and
//! a key that was given from outside is parsed: `..` and empty parts are refused, and so is every key of a
//! directory that a symbolic link leads out of it.
//!
//! [`Buckets`] stands for a whole service: buckets by name, which in a directory are its folders.

mod folder;
mod http;
mod level;
mod listing;
mod open;
mod error;

use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode};
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;

use folder::{Folder, Found};
use listing::Pages;

pub use error::{ObjectError, Trouble};
pub use level::Level;
pub use open::{Buckets, Options};

/// Longest part of a key that [`encode`] makes: file systems take names of at most 255 bytes, and a
/// directory store adds an ending of its own while it writes.
pub const PART_BYTES_MAX: usize = 200;

/// What the end of a part that was cut takes: `=~` and 32 hexadecimal digits. Names come from clients, and
/// two that met in one part would write over each other: a hash that nobody can find a pair for.
const HASH_BYTES: usize = 34;

/// Longest time that one call may take: a server that went silent is one that is away.
const CALL_MAX: Duration = Duration::from_mins(1);

/// Objects that one caller writes at once. A disk syncs many files in little more time than one, and a
/// service answers many requests in the time of one.
const PUTS_MAX: usize = 16;

/// Threads that a directory's files are written on, for all callers.
const FILE_THREADS_MAX: usize = 32;

/// A store of objects by key.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    runtime: Arc<Runtime>,
    place: String,
    /// The directory, where it is one.
    folder: Option<Arc<Folder>>,
    /// The listings of a cloud, where it is one.
    pages: Option<Pages>,
    /// Longest time that one call may take.
    call_max: Duration,
}

/// An object as a store lists it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Object {
    /// Its key.
    pub key: String,
    /// Its size.
    pub bytes: u64,
    /// What changes when its content does; empty where the store has no such thing.
    pub tag: String,
}

impl From<ObjectMeta> for Object {
    fn from(meta: ObjectMeta) -> Self {
        let tag = meta.e_tag.unwrap_or_default();
        Self { key: meta.location.to_string(), bytes: meta.size, tag }
    }
}

impl Object {
    /// What a cloud lists, by the key that it has there.
    fn in_cloud(meta: ObjectMeta) -> Self {
        Self { key: listing::plain(meta.location.as_ref()), ..Self::from(meta) }
    }
}

impl Store {
    /// What is wrong with the URL of a store, if something is; nobody is asked.
    pub fn problem(url: &str) -> Option<String> {
        open::problem(url)
    }

    /// The store at a URL; the module's page has its forms. A directory is made where it is missing.
    ///
    /// # Errors
    ///
    /// [`ObjectError`] for a URL of another form, and for a directory that cannot be made or opened. A
    /// service is not asked for anything yet.
    pub fn open(url: &str, options: &Options) -> Result<Self, ObjectError> {
        open::store(url, options)
    }

    /// The store in the directory `dir`, which is made where it is missing. An object is synced
    /// before [`Self::put`] returns.
    ///
    /// # Errors
    ///
    /// When the directory cannot be made or opened.
    pub fn in_directory(dir: &Path) -> Result<Self, ObjectError> {
        Self::in_directory_as(dir, dir.display().to_string())
    }

    /// The same, which is called `place`.
    fn in_directory_as(dir: &Path, place: String) -> Result<Self, ObjectError> {
        crate::base::fs::create_dir_all(dir)
            .map_err(|source| ObjectError::new("make", &place, "", source))?;
        let folder =
            Folder::new(dir).map_err(|source| ObjectError::new("open", &place, "", source))?;
        let local = LocalFileSystem::new_with_prefix(dir)
            .map_err(|source| ObjectError::of("open", &place, "", source))?
            .with_automatic_cleanup(false)
            // Off by default in the crate: without it a report could vanish in a power cut after the
            // log has let its frame go.
            .with_fsync(true);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(FILE_THREADS_MAX)
            .thread_name("object")
            .enable_all()
            .build()
            .map_err(|source| ObjectError::new("open", &place, "", source))?;
        let (inner, runtime) = (Arc::new(local), Arc::new(runtime));
        let (folder, call_max) = (Some(Arc::new(folder)), CALL_MAX);
        Ok(Self { inner, runtime, place, folder, pages: None, call_max })
    }

    /// The same store for a caller that does not wait for longer than `call_max`.
    #[must_use]
    pub fn within(&self, call_max: Duration) -> Self {
        Self { call_max: call_max.min(CALL_MAX), ..self.clone() }
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
        self.call("write", key, async { self.inner.put(&path, bytes.into()).await }).map(drop)
    }

    /// Writes an object that is not there yet, and none where there is one. It is durable on return.
    ///
    /// # Errors
    ///
    /// [`ObjectError`], also where there is one, and from a service that cannot promise it.
    pub fn put_new(&self, key: &str, bytes: Vec<u8>) -> Result<(), ObjectError> {
        let path = self.key("write", key)?;
        let put = async { self.inner.put_opts(&path, bytes.into(), PutMode::Create.into()).await };
        self.call("write", key, put).map(drop)
    }

    /// Writes objects whole, many at once and in no order, and calls `written` with the place of each
    /// that is durable. Without an error that is every one.
    ///
    /// # Errors
    ///
    /// The first [`ObjectError`]; nothing is begun after it. Writing the others again is harmless.
    pub fn put_all(
        &self,
        objects: &[(&str, Bytes)],
        mut written: impl FnMut(usize),
    ) -> Result<(), ObjectError> {
        let paths: Vec<Key> =
            objects.iter().map(|(key, _)| self.key("write", key)).collect::<Result<_, _>>()?;
        // A store that is away is not asked for each of hundreds of objects.
        let mut failed = None;
        self.runtime.block_on(async {
            let mut rest = 0..paths.len();
            let put = |at| self.put_one(at, &paths[at], &objects[at]);
            let mut running: FuturesUnordered<_> = rest.by_ref().take(PUTS_MAX).map(put).collect();
            while let Some((at, result)) = running.next().await {
                match result {
                    Ok(()) => written(at),
                    Err(error) => failed = failed.take().or(Some(error)),
                }
                if failed.is_none() {
                    running.extend(rest.next().map(put));
                }
            }
        });
        failed.map_or(Ok(()), Err)
    }

    async fn put_one(
        &self,
        at: usize,
        path: &Key,
        (key, bytes): &(&str, Bytes),
    ) -> (usize, Result<(), ObjectError>) {
        let put = self.inner.put(path, bytes.clone().into());
        (at, self.timed("write", key, put).await.map(drop))
    }

    /// Removes an object. That there is none is no error in a cloud, and one in a directory.
    ///
    /// # Errors
    ///
    /// [`ObjectError`]; whether the object stands is unknown.
    pub fn delete(&self, key: &str) -> Result<(), ObjectError> {
        let path = self.key("delete", key)?;
        self.call("delete", key, async { self.inner.delete(&path).await })
    }

    /// Reads an object whole.
    ///
    /// # Errors
    ///
    /// [`ObjectError`] when it is not there or cannot be read; [`Trouble::Invalid`] for a key that cannot be
    /// asked for, such as `a/`, though a cloud may have it.
    pub fn get(&self, key: &str) -> Result<Vec<u8>, ObjectError> {
        let path = self.key_itself("read", key)?;
        self.call("read", key, async { self.inner.get(&path).await?.bytes().await })
            .map(|bytes| bytes.to_vec())
    }

    /// Reads an object whole that has at most `bytes_max` bytes; `None` where it has more.
    ///
    /// # Errors
    ///
    /// As [`Self::get`].
    pub fn get_small(&self, key: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, ObjectError> {
        let path = self.key_itself("read", key)?;
        let read = async {
            let found = self.inner.get(&path).await?;
            let is_small = found.meta.size <= bytes_max;
            Ok(if is_small { Some(found.bytes().await?.to_vec()) } else { None })
        };
        self.call("read", key, read)
    }

    /// Reads a part of an object, which must still be the one that was listed.
    ///
    /// # Errors
    ///
    /// [`ObjectError`]; [`Trouble::Changed`] where it is another one by now, [`Trouble::Invalid`] where its
    /// key cannot be asked for.
    pub fn get_range(&self, object: &Object, range: Range<u64>) -> Result<Bytes, ObjectError> {
        let path = self.key_itself("read", &object.key)?;
        let wanted = range.end.saturating_sub(range.start);
        let if_match = Some(object.tag.clone()).filter(|tag| !tag.is_empty());
        let options = GetOptions { range: Some(range.into()), if_match, ..GetOptions::default() };
        let bytes = self.call("read", &object.key, async {
            let found = self.inner.get_opts(&path, options).await?;
            let is_same = found.meta.size == object.bytes;
            Ok((is_same, found.bytes().await?))
        });
        let (is_same, bytes) = bytes?;
        if !is_same || bytes.len() as u64 != wanted {
            return Err(ObjectError::changed(&self.place, &object.key));
        }
        Ok(bytes)
    }

    /// The keys below `prefix`, sorted, but for those that cannot be asked for.
    ///
    /// # Errors
    ///
    /// [`ObjectError`] when the store cannot be listed.
    pub fn list(&self, prefix: &str) -> Result<Vec<String>, ObjectError> {
        let path = self.key("list", prefix)?;
        if let Some(folder) = &self.folder {
            let files = files(folder, path.as_ref(), "");
            let files = self.call("list", prefix, files)?.into_iter();
            return Ok(files
                .filter(|(_, what)| *what == Found::File)
                .map(|(key, _)| key)
                .collect());
        }
        let listed =
            self.inner.list(Some(&path)).map_ok(|object| listing::plain(object.location.as_ref()));
        let collected = async { listed.try_collect::<Vec<String>>().await };
        let mut keys = self.call("list", prefix, collected)?;
        keys.retain(|key| !listing::is_odd(key));
        keys.sort_unstable();
        Ok(keys)
    }

    /// The objects whose keys begin with `prefix`, which need not end at a `/`; sorted by key. No more
    /// than `most` and one, which tells that there are more. A cloud's keys are what they are there, and
    /// reading one that cannot be asked for says so.
    ///
    /// # Errors
    ///
    /// [`ObjectError`] when the store cannot be listed.
    pub fn objects(&self, prefix: &str, most: usize) -> Result<Vec<Object>, ObjectError> {
        if let Some(pages) = &self.pages {
            return self.call("list", prefix, pages.objects(prefix, most));
        }
        let root = self.folder.as_ref().expect("what is no cloud is a directory");
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let folder = self.key("list", folder)?;
        self.call("list", prefix, self.objects_of(root, (folder.as_ref(), prefix), most))
    }

    /// Shows every object below the folder `folder`, in no order.
    ///
    /// # Errors
    ///
    /// [`ObjectError`] when the store cannot be listed; `each` may have seen objects by then.
    pub fn each(&self, folder: &str, mut each: impl FnMut(Object)) -> Result<(), ObjectError> {
        let path = self.key("list", folder)?;
        let mut listed = self.inner.list(Some(&path));
        let shown = async {
            while let Some(object) = listed.next().await.transpose()? {
                let is_file = self.folder.is_some();
                each(if is_file { object.into() } else { Object::in_cloud(object) });
            }
            Ok(())
        };
        self.call("list", folder, shown)
    }

    async fn objects_of(
        &self,
        root: &Arc<Folder>,
        (folder, prefix): (&str, &str),
        most: usize,
    ) -> object_store::Result<Vec<Object>> {
        let mut found = Vec::new();
        for (key, what) in files(root, folder, prefix).await? {
            if found.len() > most {
                break;
            }
            match what {
                Found::Outside(bytes) => found.push(Object { key, bytes, tag: String::new() }),
                Found::File => match self.inner.head(&Key::parse(&key)?).await {
                    // It was there a moment ago.
                    Err(object_store::Error::NotFound { .. }) => {}
                    meta => found.push(Object::from(meta?)),
                },
            }
        }
        Ok(found)
    }

    fn call<T>(
        &self,
        what: &'static str,
        key: &str,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, ObjectError> {
        self.runtime.block_on(async { self.timed(what, key, call).await })
    }

    async fn timed<T>(
        &self,
        what: &'static str,
        key: &str,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, ObjectError> {
        match tokio::time::timeout(self.call_max, call).await {
            Ok(result) => result.map_err(|source| ObjectError::of(what, &self.place, key, source)),
            Err(silent) => Err(ObjectError::new(what, &self.place, key, silent)),
        }
    }

    fn key(&self, what: &'static str, key: &str) -> Result<Key, ObjectError> {
        let path = Key::parse(key)
            .map_err(|source| ObjectError::of(what, &self.place, key, source.into()))?;
        match &self.folder {
            Some(folder) if !folder.is_there() => Err(ObjectError::gone(what, &self.place, key)),
            Some(folder) if !folder.holds(path.as_ref()) => {
                Err(ObjectError::outside(what, &self.place, key))
            }
            _ => Ok(path),
        }
    }

    /// The path of this key and of no other: a `/` at an end is dropped when a key is parsed.
    fn key_itself(&self, what: &'static str, key: &str) -> Result<Key, ObjectError> {
        let path = self.key(what, key)?;
        if path.as_ref() != key {
            let source = object_store::path::Error::EmptySegment { path: key.to_owned() };
            return Err(ObjectError::of(what, &self.place, key, source.into()));
        }
        Ok(path)
    }
}

/// The files of a directory, looked up where they may block.
async fn files(
    root: &Arc<Folder>,
    folder: &str,
    prefix: &str,
) -> object_store::Result<Vec<(String, Found)>> {
    let (root, folder, prefix) = (Arc::clone(root), folder.to_owned(), prefix.to_owned());
    let found = tokio::task::spawn_blocking(move || root.files(&folder, &prefix)).await?;
    found.map_err(|source| object_store::Error::Generic {
        store: "directory",
        source: Box::new(source),
    })
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
    let digest = Sha256::digest(name.as_bytes());
    let digest =
        digest[..HASH_BYTES / 2 - 1].iter().fold(0_u128, |all, byte| all << 8 | u128::from(*byte));
    format!("{}=~{digest:032x}", &part[..PART_BYTES_MAX - HASH_BYTES])
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
