//! The magnetic store: immutable Parquet files, the manifest that lists them, and looking things up
//! in them.
//!
//! # How other files come to count, and why a crash at any step is safe
//!
//! A flush, a compaction, a drop of expired days and of a deleted table are all the same commit
//! ([`super::commit`]) of new files and of such that are no more:
//!
//! 1. New files are written under names that no reader of the folder looks for
//!    (`.<number>-<generation>.parquet.tmp`) and synced, and so are their folders.
//! 2. The manifest is changed. **This is the moment of the commit**: before it, start-up deletes the
//!    new files, and the log or the old files have their records; after it, the new files are what
//!    counts.
//! 3. Each new file gets its public name by one rename. A file that was written anew without some
//!    rows keeps its number, so its rename replaces the old content at once: a reader of the folder
//!    sees one or the other, never none. Files that are no more get a hidden name.
//! 4. What is hidden is deleted when its last scan ends.
//!
//! Start-up completes step 3 for every file that the manifest lists (the hidden name with the listed
//! generation, if it exists, is the one that counts) and deletes every file of ours that is not
//! listed. The folders are synced once after step 3, for which nothing waits: with any part of the
//! names of that step start-up finds the same. `tests/engine_crash.rs` stops after every step, with
//! what was not synced lost in whole and in part.
//!
//! A foreign reader, who knows no manifest, can see the files before and after in one listing only
//! while step 3 lasts; new rows appear before the old versions of them vanish. Of a merge it may for
//! that moment see rows twice.
//!
//! # What a late record costs
//!
//! A record that may have a row in the files is looked for in those of its day whose times include
//! its own. The index of each ([`super::index`]) is kept from the writing; after a restart, or when it
//! was pushed out, it is made by decoding the file's keys once. It leads to the few rows of the series
//! in one row group, whose times and versions are decoded and kept: two columns, not those of the
//! names. Values are decoded only where the version rule needs them, for a repetition at the same
//! version and for an update that names a part of the attributes, and then those of one block
//! ([`super::points`]). All of it lives in one cache of bounded bytes. Records that walk through more
//! blocks than the cache holds, in an order that is not the files', pay a block's decoding each.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use foldhash::fast::RandomState;
use parquet::file::metadata::PageIndexPolicy;

use crate::engine::catalog::Table;
use crate::engine::upsert::Candidate;
use crate::engine::{EngineError, TimeRange};
use crate::record::{MeasureKind, TableId};

use super::cache::{Cache, Cached, Piece};
use super::columns::ColumnSet;
use super::disk::Disk;
use super::file_out::Target;
use super::files::Files;
use super::index::{FileIndex, IndexBuilder, IndexEntry};
use super::io_error;
use super::manifest::FileMeta;
use super::parquet_head::Head;
use super::parquet_read::{Part, Reader};
use super::partition::{day_dir, day_of, file_name, retired_name, table_dir, unpublished_name};
use super::points::{BLOCK_ROWS, Block, Stamps};
use super::series::Wanted;
use super::store::TableStore;

/// The part of the cache, one in so many, that the keys of one file's index may take. More of them
/// would push out what they lead to.
const INDEX_PART: usize = 16;

/// The magnetic store of one data folder.
#[derive(Debug)]
pub(super) struct Magnetic {
    pub(super) dir: PathBuf,
    /// Never held while files are read: who reads takes the list of a table or a day.
    files: RwLock<Files>,
    /// The latest time of each table's rows when the store was opened.
    opened: HashMap<TableId, i64, RandomState>,
    cache: Mutex<Cache>,
    /// Most bytes that the keys of one index may take.
    key_bytes_max: usize,
    /// Folders that files were taken out of.
    emptied: Mutex<BTreeSet<PathBuf>>,
    disk: Arc<Disk>,
}

/// One file that counts, or that a scan still reads.
#[derive(Debug)]
pub(super) struct MagneticFile {
    pub(super) table: TableId,
    pub(super) meta: FileMeta,
    /// Where it is now. Held while it is opened or renamed.
    path: Mutex<PathBuf>,
    is_retired: AtomicBool,
    disk: Arc<Disk>,
}

/// A row that a file has.
#[derive(Debug)]
pub(super) struct Found {
    file: Arc<MagneticFile>,
    index: Arc<FileIndex>,
    group: usize,
    /// Its place in the row group.
    row: usize,
    pub(super) version: i64,
}

impl Found {
    /// Whether the version rule can do without the row's values: a lower version is refused whatever
    /// stands, and of what a higher one covers nothing remains.
    pub(super) fn is_decided(&self, incoming: &Candidate<'_, '_>) -> bool {
        incoming.version < self.version
            || incoming.version > self.version
                && incoming.kind == MeasureKind::Multi
                && self.index.is_covered_by(incoming.attributes)
    }
}

impl Magnetic {
    /// A store of these files; see [`super::recover`].
    pub(super) fn new(
        dir: &Path,
        files: Files,
        opened: HashMap<TableId, i64, RandomState>,
        cache_bytes_max: usize,
        disk: Arc<Disk>,
    ) -> Self {
        let files = RwLock::new(files);
        let cache = Mutex::new(Cache::new(cache_bytes_max));
        let key_bytes_max = cache_bytes_max / INDEX_PART;
        let (dir, emptied) = (dir.to_owned(), Mutex::default());
        Self { dir, files, opened, cache, key_bytes_max, emptied, disk }
    }

    /// Looks at the files that count now; `look` reads none of them.
    pub(super) fn files<T>(&self, look: impl FnOnce(&Files) -> T) -> T {
        look(&self.files.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets other files count.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Files) -> T) -> T {
        change(&mut self.files.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where the next file of a table and day goes; makes the folder if it is missing.
    pub(super) fn target(
        &self,
        table: &Table,
        day: i32,
        number: u64,
        generation: u32,
    ) -> Result<Target, EngineError> {
        let folder = self.dir.join(table_dir(table)).join(day_dir(day));
        let made = self.disk.create_dir_all(&folder);
        made.map_err(|error| io_error("make", &folder, error))?;
        let path = folder.join(unpublished_name(number, generation));
        let names = [table.database.to_string(), table.name.to_string()];
        let key_bytes_max = self.key_bytes_max;
        Ok(Target { table: table.id, names, day, number, generation, path, key_bytes_max })
    }

    /// Hears that a file was taken out of a folder.
    pub(super) fn note_emptied(&self, folder: PathBuf) {
        self.emptied.lock().unwrap_or_else(PoisonError::into_inner).insert(folder);
    }

    /// The folders that files were taken out of since the last call.
    pub(super) fn take_emptied(&self) -> BTreeSet<PathBuf> {
        std::mem::take(&mut *self.emptied.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The disk that the files are on.
    pub(super) const fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// The latest time of the table's rows in files when the store was opened, if it had any.
    pub(super) fn time_ns_max_at_open(&self, table: TableId) -> Option<i64> {
        self.opened.get(&table).copied()
    }

    /// The row of a series at a time, if a file has it: its key and version.
    pub(super) fn find(
        &self,
        table: TableId,
        wanted: &Wanted<'_>,
        time_ns: i64,
    ) -> Result<Option<Found>, EngineError> {
        let Some(of_day) = self.files(|files| files.day(table, day_of(time_ns))) else {
            return Ok(None);
        };
        for file in &*of_day {
            let meta = &file.meta;
            let may_have = (meta.time_ns_min..=meta.time_ns_max).contains(&time_ns)
                && (meta.hash_min..=meta.hash_max).contains(&wanted.hash);
            if !may_have {
                continue;
            }
            let index = self.index(file)?;
            for entry in index.find(wanted, time_ns) {
                let group = entry.group as usize;
                let row = if index.has_keys() {
                    self.stamps(file, group)?.find(entry.row, entry.rows, time_ns)
                } else {
                    find_by_names(&*self.keys(file, group)?, wanted, time_ns)
                };
                if let Some((row, version)) = row {
                    let (file, index) = (Arc::clone(file), Arc::clone(&index));
                    return Ok(Some(Found { file, index, group, row, version }));
                }
            }
        }
        Ok(None)
    }

    /// The block in which a row that was found is, and its place there.
    pub(super) fn read(&self, found: &Found) -> Result<(Arc<Block>, usize), EngineError> {
        let (block, row) = (found.row / BLOCK_ROWS, found.row % BLOCK_ROWS);
        let (file, piece) = (&found.file, Piece::Block(found.group, block));
        if let Some(Cached::Block(block)) = self.cache().get(&file.meta, piece) {
            return Ok((block, row));
        }
        let block = Arc::new(self.open(file)?.block(found.group, block)?);
        assert!(row < block.rows(), "a file never changes, and it had the row");
        self.cache().put(&file.meta, piece, Cached::Block(Arc::clone(&block)));
        Ok((block, row))
    }

    /// The file's index; costs a decoding of its keys unless it is cached.
    pub(super) fn index(&self, file: &MagneticFile) -> Result<Arc<FileIndex>, EngineError> {
        if let Some(Cached::Index(index)) = self.cache().get(&file.meta, Piece::Index) {
            return Ok(index);
        }
        let reader = self.open(file)?;
        let mut builder = IndexBuilder::new(self.key_bytes_max);
        for group in 0..reader.groups() {
            let mut store = TableStore::default();
            reader.read(vec![group], Part::Keys, TimeRange::ALL, &mut store)?;
            index_group(&store, group, &mut builder);
        }
        let mut columns = ColumnSet::default();
        columns.see_specs(reader.specs());
        let index = Arc::new(builder.finish(&columns));
        self.remember_index(&file.meta, Arc::clone(&index));
        Ok(index)
    }

    /// Keeps the index of a file that was just written.
    pub(super) fn remember_index(&self, meta: &FileMeta, index: Arc<FileIndex>) {
        self.cache().put(meta, Piece::Index, Cached::Index(index));
    }

    /// Series, times and versions of a row group; costs a decoding unless they are cached.
    fn keys(&self, file: &MagneticFile, group: usize) -> Result<Arc<TableStore>, EngineError> {
        let piece = Piece::Keys(group);
        if let Some(Cached::Keys(store)) = self.cache().get(&file.meta, piece) {
            return Ok(store);
        }
        let mut store = TableStore::default();
        self.open(file)?.read(vec![group], Part::Keys, TimeRange::ALL, &mut store)?;
        store.seal();
        let store = Arc::new(store);
        self.cache().put(&file.meta, piece, Cached::Keys(Arc::clone(&store)));
        Ok(store)
    }

    /// Times and versions of a row group; costs a decoding unless they are cached.
    fn stamps(&self, file: &MagneticFile, group: usize) -> Result<Arc<Stamps>, EngineError> {
        let piece = Piece::Stamps(group);
        if let Some(Cached::Stamps(stamps)) = self.cache().get(&file.meta, piece) {
            return Ok(stamps);
        }
        let stamps = Arc::new(self.open(file)?.stamps(group)?);
        self.cache().put(&file.meta, piece, Cached::Stamps(Arc::clone(&stamps)));
        Ok(stamps)
    }

    /// Opens a file for a look-up: there will be others, so what it says of itself is kept.
    fn open(&self, file: &MagneticFile) -> Result<Reader, EngineError> {
        let opened = |path: &Path| File::open(path).map_err(|error| io_error("open", path, error));
        // Not in the condition, which would hold the cache's lock while the file is opened.
        let cached = self.cache().get(&file.meta, Piece::Head);
        if let Some(Cached::Head(head)) = cached {
            let path = file.path();
            return Ok(Reader::with_head(opened(&path)?, &path, file.table, head));
        }
        let path = file.path();
        let at = opened(&path)?;
        let head = Arc::new(Head::read(&at, &path, PageIndexPolicy::Optional)?);
        let reader = Reader::with_head(at, &path, file.table, Arc::clone(&head));
        drop(path);
        self.cache().put(&file.meta, Piece::Head, Cached::Head(head));
        Ok(reader)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place in its row group of a row, and its version, by the row group's names.
fn find_by_names(keys: &TableStore, wanted: &Wanted<'_>, time_ns: i64) -> Option<(usize, i64)> {
    let id = keys.find_row(keys.find_series(wanted)?, time_ns)?;
    let row = keys.row(id);
    // Rows were appended in their order in the row group, all of it.
    Some((row.chunk.arrivals[row.row] as usize, row.version()))
}

/// Adds the entries of a row group to an index; `store` has its keys.
fn index_group(store: &TableStore, group: usize, index: &mut IndexBuilder) {
    let group = u32::try_from(group).expect("row groups are counted in 16 bits");
    let rows = store.chunks().flat_map(|chunk| chunk.series.iter().zip(&chunk.times));
    let mut entry: Option<(u32, IndexEntry)> = None;
    for (row, (&series, &time_ns)) in (0_u32..).zip(rows) {
        match &mut entry {
            Some((of, entry)) if *of == series => {
                entry.time_ns_max = time_ns;
                entry.rows += 1;
            }
            _ => {
                let hash = store.keys()[series as usize].hash;
                let (time_ns_min, time_ns_max) = (time_ns, time_ns);
                let next = IndexEntry { hash, time_ns_min, time_ns_max, group, row, rows: 1 };
                if let Some((series, done)) = entry.replace((series, next)) {
                    index.push(done, || &store.keys()[series as usize]);
                }
            }
        }
    }
    if let Some((series, done)) = entry {
        index.push(done, || &store.keys()[series as usize]);
    }
}

impl MagneticFile {
    pub(super) fn new(table: TableId, meta: &FileMeta, path: PathBuf, disk: &Arc<Disk>) -> Self {
        let (path, is_retired) = (Mutex::new(path), AtomicBool::new(false));
        Self { table, meta: meta.clone(), path, is_retired, disk: Arc::clone(disk) }
    }

    /// Opens the file, wherever it is.
    pub(super) fn open(&self) -> Result<Reader, EngineError> {
        let path = self.path();
        let file = File::open(&*path).map_err(|error| io_error("open", &path, error))?;
        Reader::open(file, &path, self.table)
    }

    /// Gives the file, which was written under a hidden name, its public one; replaces `old`, its
    /// generation before, which scans may still read under a hidden name. The folder's sync is the
    /// caller's.
    pub(super) fn publish(&self, old: Option<&Self>) -> Result<(), EngineError> {
        let mut path = self.path();
        let public = path.with_file_name(file_name(self.meta.number));
        let error = |error| io_error("publish", &public, error);
        if let Some(old) = old {
            assert_eq!(old.meta.number, self.meta.number, "a file replaces its own generation");
            let mut old_path = old.path();
            let hidden =
                old_path.with_file_name(retired_name(old.meta.number, old.meta.generation));
            self.disk.link(&old_path, &hidden).map_err(error)?;
            *old_path = hidden;
            // Relaxed: the last owner reads it, and dropping an `Arc` synchronises its owners.
            old.is_retired.store(true, Ordering::Relaxed);
        }
        self.disk.rename(&path, &public).map_err(error)?;
        *path = public;
        Ok(())
    }

    /// Takes the file, which counts no more, from the readers of the folder. The folder's sync is the
    /// caller's.
    pub(super) fn retire(&self) -> Result<(), EngineError> {
        let mut path = self.path();
        let hidden = path.with_file_name(retired_name(self.meta.number, self.meta.generation));
        self.disk.rename(&path, &hidden).map_err(|error| io_error("hide", &path, error))?;
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
            if let Err(error) = self.disk.remove(&path) {
                tracing::warn!(path = %path.display(), %error, "old file stays until the next start");
            }
        }
    }
}
