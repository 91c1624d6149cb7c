//! Opening the magnetic store: completes what a crash interrupted, deletes what does not count.
//!
//! The manifest says which files count. What it lists is given its public name where a crash came
//! before that, and must be there in full. Of what it does not list, files of ours are deleted, and
//! nothing else. Tables that were deleted are taken out of the manifest before their files go, so
//! that a crash in between finds a manifest whose files are all there.
//!
//! A crash in here leaves what a crash before it could have left, with a part of the work done: each
//! step is one of those, and doing it again changes nothing. `tests/engine_crash.rs` stops after each.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base;
use crate::base::fs::TEMPORARY_SUFFIX;
use crate::engine::EngineError;
use crate::engine::catalog::{Catalog, Table};
use crate::record::ValueType;

use super::commit::CommitError;
use super::disk::Disk;
use super::files::Files;
use super::io_error;
use super::magnetic::{Magnetic, MagneticFile};
use super::manifest::{self, FileMeta, Manifest, TableEntry};
use super::partition::{day_dir, file_name, is_ours, table_dir, unpublished_name};

/// Opens the magnetic store in `dir`, and claims the columns of the files in the catalog.
pub(super) fn open(
    dir: &Path,
    cache_bytes_max: usize,
    catalog: &Catalog,
    disk: Arc<Disk>,
) -> Result<(Magnetic, Manifest), EngineError> {
    base::fs::create_dir_all(dir).map_err(|error| io_error("make", dir, error))?;
    let mut manifest = match Manifest::load(dir)? {
        Some(manifest) => settled(manifest, dir, &disk)?,
        None => begin(dir, catalog, &disk)?,
    };
    let unfinished = dir.join(format!("{}{TEMPORARY_SUFFIX}", manifest::FILE_NAME));
    if unfinished.exists() {
        disk.remove(&unfinished).map_err(|error| io_error("delete", &unfinished, error))?;
    }
    for log in manifest.strange_logs(dir)? {
        disk.remove(&log).map_err(|error| io_error("delete", &log, error))?;
    }
    forget_deleted(dir, catalog, &mut manifest, &disk)?;
    let mut files = Files::default();
    let mut opened = HashMap::default();
    for (&id, entry) in &manifest.tables {
        let table = catalog.get(id).ok_or_else(|| EngineError::Corrupt {
            path: dir.join(manifest::FILE_NAME).display().to_string(),
            what: format!("it has files of table {id}, which the catalog does not know"),
        })?;
        claim(dir, &table, entry)?;
        for meta in entry.files.values() {
            let path = settle(dir, &table, meta, &disk)?;
            files.put(Arc::new(MagneticFile::new(id, meta, path, &disk)));
        }
        let last = entry.files.values().map(|meta| meta.time_ns_max).max();
        opened.extend(last.map(|last| (id, last)));
    }
    for table in catalog.tables() {
        delete_strangers(&dir.join(table_dir(&table)), manifest.tables.get(&table.id), &disk)?;
    }
    delete_folders_of_the_deleted(dir, catalog, &disk)?;
    Ok((Magnetic::new(dir, files, opened, cache_bytes_max, disk), manifest))
}

/// The manifest of a folder that has none yet. Start-up deletes what no manifest lists, so a folder
/// whose manifest was lost must not be taken for a new one. It is written at once: from then on a
/// folder without one is known to be another folder, such as the place of a disk that is not mounted.
fn begin(dir: &Path, catalog: &Catalog, disk: &Arc<Disk>) -> Result<Manifest, EngineError> {
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
    let mut manifest = Manifest::default();
    write(&mut manifest, dir, disk)?;
    Ok(manifest)
}

/// The manifest that was found, durable. The last change of a server that was killed, or whose sync failed,
/// may be in the system's memory only, and what follows deletes files by it and lets the log go. So it is
/// written anew: to sync the file that is there could succeed without having written what failed before.
/// Where there is no room for another, it is synced all the same, so that a full disk does not keep the
/// server from reading.
fn settled(mut manifest: Manifest, dir: &Path, disk: &Arc<Disk>) -> Result<Manifest, EngineError> {
    manifest.tell_torn_end(dir);
    match manifest.write(dir, disk) {
        Ok(()) => Ok(manifest),
        Err(CommitError::Before(error)) if is_space(&error) => {
            let found = Manifest::load(dir)?.ok_or_else(|| EngineError::Corrupt {
                path: dir.join(manifest::FILE_NAME).display().to_string(),
                what: "it was there a moment ago".to_owned(),
            })?;
            found.sync(dir, disk).map_err(|cause| io_error("sync", dir, cause))?;
            Ok(found)
        }
        Err(CommitError::Before(error) | CommitError::During(error)) => Err(error),
    }
}

fn is_space(error: &EngineError) -> bool {
    let EngineError::Io { source, .. } = error else { return false };
    let source = source.downcast_ref::<std::io::Error>();
    source.is_some_and(|error| error.kind() == std::io::ErrorKind::StorageFull)
}

/// Writes a manifest where nothing goes on without it.
fn write(manifest: &mut Manifest, dir: &Path, disk: &Arc<Disk>) -> Result<(), EngineError> {
    manifest.write(dir, disk).map_err(|error| match error {
        CommitError::Before(error) | CommitError::During(error) => error,
    })
}

/// Takes deleted tables out of the manifest, durably.
fn forget_deleted(
    dir: &Path,
    catalog: &Catalog,
    manifest: &mut Manifest,
    disk: &Arc<Disk>,
) -> Result<(), EngineError> {
    let before = manifest.tables.len();
    // A number that the catalog never gave stays, and is damage: a catalog that lost its end must not
    // take the files of its tables along.
    manifest.tables.retain(|&table, _| !catalog.is_deleted(table));
    if manifest.tables.len() == before {
        return Ok(());
    }
    write(manifest, dir, disk)
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
fn settle(dir: &Path, table: &Table, meta: &FileMeta, disk: &Disk) -> Result<PathBuf, EngineError> {
    let folder = dir.join(table_dir(table)).join(day_dir(meta.day));
    let public = folder.join(file_name(meta.number));
    let hidden = folder.join(unpublished_name(meta.number, meta.generation));
    if hidden.exists() {
        disk.publish(&hidden, &public).map_err(|error| io_error("publish", &public, error))?;
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

/// Deletes the files in a table's folder that are ours and not listed, and the folders of days that
/// have nothing in them then.
fn delete_strangers(
    dir: &Path,
    entry: Option<&TableEntry>,
    disk: &Disk,
) -> Result<(), EngineError> {
    let listed: HashSet<PathBuf> = entry
        .into_iter()
        .flat_map(|entry| entry.files.values())
        .map(|meta| dir.join(day_dir(meta.day)).join(file_name(meta.number)))
        .collect();
    for day in entries_in(dir)? {
        let mut kept = 0;
        for path in entries_in(&day)? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
            if is_ours(name) && !listed.contains(&path) {
                tracing::info!(path = %path.display(), "file that does not count deleted");
                disk.remove(&path).map_err(|error| io_error("delete", &path, error))?;
            } else {
                kept += 1;
            }
        }
        if kept == 0 && day.is_dir() {
            disk.remove_dir(&day).map_err(|error| io_error("delete", &day, error))?;
        }
    }
    Ok(())
}

/// Deletes what is left of deleted tables.
fn delete_folders_of_the_deleted(
    dir: &Path,
    catalog: &Catalog,
    disk: &Disk,
) -> Result<(), EngineError> {
    for table in catalog.deleted_tables() {
        let folder = dir.join(table_dir(&table));
        delete_strangers(&folder, None, disk)?;
        // What somebody else put there stays, and so does the folder.
        if folder.is_dir() && entries_in(&folder)?.is_empty() {
            disk.remove_dir(&folder).map_err(|error| io_error("delete", &folder, error))?;
        }
    }
    Ok(())
}

/// The paths in a folder; none where there is no such folder.
pub(super) fn entries_in(dir: &Path) -> Result<Vec<PathBuf>, EngineError> {
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
