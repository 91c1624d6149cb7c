//! The magnetic store: immutable Parquet files, the manifest that lists them, and looking things up
//! in them.
//!
//! # How a flush becomes visible, and why a crash at any step is safe
//!
//! 1. New files are written under names that no reader of the folder looks for
//!    (`.<number>-<generation>.parquet.tmp`) and synced, and so are their folders.
//! 2. The manifest is replaced. **This is the moment of the flush**: before it, start-up deletes the
//!    new files and the log has their records; after it, the new files are what counts.
//! 3. Each new file gets its public name by one rename. A file that was written anew without some
//!    rows keeps its number, so its rename replaces the old content at once: a reader of the folder
//!    sees one or the other, never none. Files that are no more get a hidden name.
//! 4. What is hidden is deleted when its last scan ends.
//!
//! Start-up completes step 3 for every file that the manifest lists (the hidden name with the listed
//! generation, if it exists, is the one that counts) and deletes every file of ours that is not
//! listed. A foreign reader, who knows no manifest, can see a flush's files before and after in one
//! listing only while step 3 lasts; new rows appear before the old versions of them vanish.
//!
//! # What a late record costs
//!
//! A record that may have a row in the files is looked for in those of its day whose times include
//! its own. For each, the index (which row group has which series, from when to when) is made once,
//! by decoding the keys, or kept from the writing; then the row group that may have it is decoded, some
//! ten milliseconds, and kept. Both live in a cache of bounded bytes. Records that walk through more
//! row groups than the cache holds, in an order that is not the files', pay a decoding each.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use foldhash::fast::RandomState;

use crate::base;
use crate::engine::catalog::{Catalog, Table};
use crate::engine::{EngineError, TimeRange};
use crate::record::{TableId, ValueType};

use super::column::RowId;
use super::io_error;
use super::manifest::{self, FileMeta, Manifest, TableEntry};
use super::parquet_read::{Part, Reader};
use super::partition::{
    day_dir, day_of, file_name, is_ours, retired_name, table_dir, unpublished_name,
};
use super::series::Wanted;
use super::store::{SeriesId, TableStore};

/// The magnetic store of one data folder.
#[derive(Debug)]
pub(super) struct Magnetic {
    pub(super) dir: PathBuf,
    /// Swapped as a whole by a flush; never held while files are read.
    files: RwLock<Arc<Files>>,
    /// The latest time of each table's rows when the store was opened.
    opened: HashMap<TableId, i64, RandomState>,
    cache: Mutex<Cache>,
}

/// The files that count at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Files {
    pub(super) tables: HashMap<TableId, BTreeMap<i32, Vec<Arc<MagneticFile>>>, RandomState>,
}

/// One file that counts, or that a scan still reads.
#[derive(Debug)]
pub(super) struct MagneticFile {
    pub(super) table: TableId,
    pub(super) meta: FileMeta,
    /// Where it is now. Held while it is opened or renamed.
    path: Mutex<PathBuf>,
    is_retired: AtomicBool,
}

/// Which row group of a file has a series, and from when to when.
#[derive(Debug, Clone, Copy)]
pub(super) struct IndexEntry {
    pub(super) hash: u64,
    pub(super) time_ns_min: i64,
    pub(super) time_ns_max: i64,
    pub(super) group: u32,
}

/// All entries of a file, by hash.
#[derive(Debug)]
pub(super) struct FileIndex {
    entries: Box<[IndexEntry]>,
}

impl FileIndex {
    pub(super) fn new(mut entries: Vec<IndexEntry>) -> Self {
        entries.sort_unstable_by_key(|entry| (entry.hash, entry.group));
        Self { entries: entries.into_boxed_slice() }
    }

    /// The row groups that may have a row of the series at the time.
    pub(super) fn groups(&self, hash: u64, time_ns: i64) -> impl Iterator<Item = usize> {
        let begin = self.entries.partition_point(|entry| entry.hash < hash);
        self.entries[begin..]
            .iter()
            .take_while(move |entry| entry.hash == hash)
            .filter(move |entry| entry.time_ns_min <= time_ns && time_ns <= entry.time_ns_max)
            .map(|entry| entry.group as usize)
    }

    const fn bytes(&self) -> usize {
        size_of::<Self>() + std::mem::size_of_val(&*self.entries)
    }
}

/// A file's number and generation, and a row group or [`INDEX`].
type CacheKey = (u64, u32, u32);

/// What stands for the index among row groups.
const INDEX: u32 = u32::MAX;

/// What was read from files, up to a number of bytes.
#[derive(Debug)]
struct Cache {
    entries: HashMap<CacheKey, CacheEntry, RandomState>,
    bytes: usize,
    bytes_max: usize,
    /// Counts uses, to find what was not used for longest.
    uses: u64,
}

#[derive(Debug)]
struct CacheEntry {
    cached: Cached,
    bytes: usize,
    used: u64,
}

#[derive(Debug, Clone)]
enum Cached {
    Index(Arc<FileIndex>),
    Group(Arc<TableStore>),
}

impl Cache {
    fn get(&mut self, key: CacheKey) -> Option<Cached> {
        self.uses += 1;
        let entry = self.entries.get_mut(&key)?;
        entry.used = self.uses;
        Some(entry.cached.clone())
    }

    fn put(&mut self, key: CacheKey, cached: Cached) {
        let bytes = match &cached {
            Cached::Index(index) => index.bytes(),
            Cached::Group(group) => group.bytes(),
        };
        self.uses += 1;
        let entry = CacheEntry { cached, bytes, used: self.uses };
        self.bytes += bytes;
        if let Some(before) = self.entries.insert(key, entry) {
            self.bytes -= before.bytes;
        }
        // What was just put stays, however large: the next record most likely needs it again.
        while self.bytes > self.bytes_max && self.entries.len() > 1 {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used);
            let oldest = *oldest.expect("there are entries").0;
            let entry = self.entries.remove(&oldest).expect("just found");
            self.bytes -= entry.bytes;
        }
    }
}

impl Magnetic {
    /// Opens the magnetic store in `dir`: completes what a crash interrupted, deletes what does not
    /// count, and claims the columns of the files in the catalog.
    pub(super) fn open(
        dir: &Path,
        cache_bytes_max: usize,
        catalog: &Catalog,
    ) -> Result<(Self, Manifest), EngineError> {
        base::fs::create_dir_all(dir).map_err(|error| io_error("make", dir, error))?;
        let mut manifest = match Manifest::load(dir)? {
            Some(manifest) => manifest,
            None => begin(dir, catalog)?,
        };
        manifest.tables.retain(|&table, _| !catalog.is_deleted(table));
        for table in catalog.deleted_tables() {
            delete_strangers(&dir.join(table_dir(&table)), None)?;
        }
        let mut files = Files::default();
        let mut opened = HashMap::default();
        for (&id, entry) in &manifest.tables {
            let table = catalog.get(id).ok_or_else(|| EngineError::Corrupt {
                path: dir.join(manifest::FILE_NAME).display().to_string(),
                what: format!("it has files of table {id}, which the catalog does not know"),
            })?;
            claim(dir, &table, entry)?;
            let mut days: BTreeMap<i32, Vec<Arc<MagneticFile>>> = BTreeMap::new();
            for meta in &entry.files {
                let path = settle(dir, &table, meta)?;
                days.entry(meta.day).or_default().push(Arc::new(MagneticFile::new(id, meta, path)));
            }
            let last = entry.files.iter().map(|meta| meta.time_ns_max).max();
            opened.extend(last.map(|last| (id, last)));
            files.tables.insert(id, days);
        }
        for table in catalog.tables() {
            delete_strangers(&dir.join(table_dir(&table)), manifest.tables.get(&table.id))?;
        }
        let cache =
            Cache { entries: HashMap::default(), bytes: 0, bytes_max: cache_bytes_max, uses: 0 };
        let magnetic = Self {
            dir: dir.to_owned(),
            files: RwLock::new(Arc::new(files)),
            opened,
            cache: Mutex::new(cache),
        };
        Ok((magnetic, manifest))
    }

    /// The files that count now.
    pub(super) fn files(&self) -> Arc<Files> {
        Arc::clone(&self.files.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets other files count.
    pub(super) fn install(&self, files: Files) {
        *self.files.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(files);
    }

    /// The latest time of the table's rows in files when the store was opened, if it had any.
    pub(super) fn time_ns_max_at_open(&self, table: TableId) -> Option<i64> {
        self.opened.get(&table).copied()
    }

    /// The row of a series at a time, if a file has it.
    pub(super) fn find(
        &self,
        table: TableId,
        wanted: &Wanted<'_>,
        time_ns: i64,
    ) -> Result<Option<(Arc<TableStore>, RowId)>, EngineError> {
        let files = self.files();
        let of_day = files.tables.get(&table).and_then(|days| days.get(&day_of(time_ns)));
        for file in of_day.into_iter().flatten() {
            let meta = &file.meta;
            let may_have = (meta.time_ns_min..=meta.time_ns_max).contains(&time_ns)
                && (meta.hash_min..=meta.hash_max).contains(&wanted.hash);
            if !may_have {
                continue;
            }
            let index = self.index(file)?;
            for group in index.groups(wanted.hash, time_ns) {
                let store = self.group(file, group)?;
                let row =
                    store.find_series(wanted).and_then(|series| store.find_row(series, time_ns));
                if let Some(row) = row {
                    return Ok(Some((store, row)));
                }
            }
        }
        Ok(None)
    }

    /// The file's index; costs a decoding of its keys unless it is cached.
    pub(super) fn index(&self, file: &MagneticFile) -> Result<Arc<FileIndex>, EngineError> {
        let key = (file.meta.number, file.meta.generation, INDEX);
        if let Some(Cached::Index(index)) = self.cache().get(key) {
            return Ok(index);
        }
        let reader = file.open()?;
        let mut entries = Vec::new();
        for group in 0..reader.groups() {
            let mut store = TableStore::default();
            reader.read(vec![group], Part::Keys, TimeRange::ALL, &mut store)?;
            entries.extend(entries_of(&store, group));
        }
        let index = Arc::new(FileIndex::new(entries));
        self.remember_index(&file.meta, Arc::clone(&index));
        Ok(index)
    }

    /// Keeps the index of a file that was just written.
    pub(super) fn remember_index(&self, meta: &FileMeta, index: Arc<FileIndex>) {
        let key = (meta.number, meta.generation, INDEX);
        self.cache().put(key, Cached::Index(index));
    }

    fn group(&self, file: &MagneticFile, group: usize) -> Result<Arc<TableStore>, EngineError> {
        let number = u32::try_from(group).expect("row groups are counted in 16 bits");
        let key = (file.meta.number, file.meta.generation, number);
        if let Some(Cached::Group(store)) = self.cache().get(key) {
            return Ok(store);
        }
        let mut store = TableStore::default();
        file.open()?.read(vec![group], Part::Whole, TimeRange::ALL, &mut store)?;
        store.seal();
        let store = Arc::new(store);
        self.cache().put(key, Cached::Group(Arc::clone(&store)));
        Ok(store)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The index entries of one row group.
pub(super) fn entries_of(store: &TableStore, group: usize) -> Vec<IndexEntry> {
    let group = u32::try_from(group).expect("row groups are counted in 16 bits");
    let mut entries: Vec<IndexEntry> = store
        .keys()
        .iter()
        .map(|key| IndexEntry {
            hash: key.hash,
            time_ns_min: i64::MAX,
            time_ns_max: i64::MIN,
            group,
        })
        .collect();
    for chunk in store.chunks() {
        for (&series, &time_ns) in chunk.series.iter().zip(&chunk.times) {
            let entry = &mut entries[SeriesId(series).0 as usize];
            entry.time_ns_min = entry.time_ns_min.min(time_ns);
            entry.time_ns_max = entry.time_ns_max.max(time_ns);
        }
    }
    entries
}

impl MagneticFile {
    pub(super) fn new(table: TableId, meta: &FileMeta, path: PathBuf) -> Self {
        let (path, is_retired) = (Mutex::new(path), AtomicBool::new(false));
        Self { table, meta: meta.clone(), path, is_retired }
    }

    /// Opens the file, wherever it is.
    pub(super) fn open(&self) -> Result<Reader, EngineError> {
        let path = self.path();
        let file = File::open(&*path).map_err(|error| io_error("open", &path, error))?;
        Reader::open(file, &path, self.table)
    }

    /// Gives the file, which was written under a hidden name, its public one; replaces `old`, its
    /// generation before, which scans may still read under a hidden name.
    pub(super) fn publish(&self, old: Option<&Self>) -> Result<(), EngineError> {
        let mut path = self.path();
        let public = path.with_file_name(file_name(self.meta.number));
        let error = |error| io_error("publish", &public, error);
        if let Some(old) = old {
            assert_eq!(old.meta.number, self.meta.number, "a file replaces its own generation");
            let mut old_path = old.path();
            let hidden =
                old_path.with_file_name(retired_name(old.meta.number, old.meta.generation));
            std::fs::hard_link(&*old_path, &hidden).map_err(error)?;
            *old_path = hidden;
            // Relaxed: the last owner reads it, and dropping an `Arc` synchronises its owners.
            old.is_retired.store(true, Ordering::Relaxed);
        }
        base::fs::publish(&path, &public).map_err(error)?;
        *path = public;
        Ok(())
    }

    /// Takes the file, which counts no more, from the readers of the folder.
    pub(super) fn retire(&self) -> Result<(), EngineError> {
        let mut path = self.path();
        let hidden = path.with_file_name(retired_name(self.meta.number, self.meta.generation));
        base::fs::publish(&path, &hidden).map_err(|error| io_error("hide", &path, error))?;
        *path = hidden;
        self.is_retired.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Deletes a file of a flush that did not happen.
    pub(super) fn discard(&self) {
        self.is_retired.store(true, Ordering::Relaxed);
    }

    /// The folder that it is in.
    pub(super) fn folder(&self) -> Option<PathBuf> {
        self.path().parent().map(Path::to_owned)
    }

    fn path(&self) -> MutexGuard<'_, PathBuf> {
        self.path.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for MagneticFile {
    fn drop(&mut self) {
        if self.is_retired.load(Ordering::Relaxed) {
            let path = self.path();
            if let Err(error) = std::fs::remove_file(&*path) {
                tracing::warn!(path = %path.display(), %error, "old file stays until the next start");
            }
        }
    }
}

/// The manifest of a folder that has none yet. Start-up deletes what no manifest lists, so a folder
/// whose manifest was lost must not be taken for a new one.
fn begin(dir: &Path, catalog: &Catalog) -> Result<Manifest, EngineError> {
    for table in catalog.tables() {
        for day in entries_in(&dir.join(table_dir(&table)))? {
            let public = |path: &PathBuf| path.extension().is_some_and(|end| end == "parquet");
            if let Some(path) = entries_in(&day)?.into_iter().find(public) {
                return Err(EngineError::Corrupt {
                    path: dir.join(manifest::FILE_NAME).display().to_string(),
                    what: format!("it is missing, but there is {}", path.display()),
                });
            }
        }
    }
    Ok(Manifest::default())
}

/// Claims the columns of a table's files, so that nobody writes them with another type.
fn claim(dir: &Path, table: &Table, entry: &TableEntry) -> Result<(), EngineError> {
    let corrupt = |what: String| EngineError::Corrupt {
        path: dir.join(manifest::FILE_NAME).display().to_string(),
        what,
    };
    let mut attributes = Vec::new();
    for (name, &number) in &entry.attributes {
        let value_type = ValueType::from_number(number)
            .ok_or_else(|| corrupt(format!("attribute {name:?} has the unknown type {number}")))?;
        attributes.push((&**name, value_type));
    }
    table.claim_attributes(&attributes).map_err(|error| corrupt(error.to_string()))
}

/// Completes the publication of a listed file and checks that it is there. Returns where it is.
fn settle(dir: &Path, table: &Table, meta: &FileMeta) -> Result<PathBuf, EngineError> {
    let folder = dir.join(table_dir(table)).join(day_dir(meta.day));
    let public = folder.join(file_name(meta.number));
    let hidden = folder.join(unpublished_name(meta.number, meta.generation));
    if hidden.exists() {
        base::fs::publish(&hidden, &public).map_err(|error| io_error("publish", &public, error))?;
    }
    let found = std::fs::metadata(&public).map_err(|error| io_error("find", &public, error))?.len();
    if found == meta.bytes {
        Ok(public)
    } else {
        Err(EngineError::Corrupt {
            path: public.display().to_string(),
            what: format!("it has {found} bytes, the manifest says {}", meta.bytes),
        })
    }
}

/// Deletes the files in a table's folder that are ours and not listed.
fn delete_strangers(dir: &Path, entry: Option<&TableEntry>) -> Result<(), EngineError> {
    let listed: std::collections::HashSet<PathBuf> = entry
        .into_iter()
        .flat_map(|entry| &entry.files)
        .map(|meta| dir.join(day_dir(meta.day)).join(file_name(meta.number)))
        .collect();
    for day in entries_in(dir)? {
        for path in entries_in(&day)? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
            if is_ours(name) && !listed.contains(&path) {
                tracing::info!(path = %path.display(), "file of an unfinished flush deleted");
                std::fs::remove_file(&path).map_err(|error| io_error("delete", &path, error))?;
            }
        }
    }
    Ok(())
}

/// The paths in a folder; none where there is no such folder.
fn entries_in(dir: &Path) -> Result<Vec<PathBuf>, EngineError> {
    let error = |error| io_error("list", dir, error);
    match std::fs::read_dir(dir) {
        Ok(entries) => {
            entries.map(|entry| entry.map(|entry| entry.path()).map_err(error)).collect()
        }
        Err(cause)
            if matches!(
                cause.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(Vec::new())
        }
        Err(cause) => Err(error(cause)),
    }
}
