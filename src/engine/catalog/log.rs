//! `catalog.log` on disk: its lines, and what a crash may leave of the last one.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::erasure::Erasure;
use super::settings::{DatabaseSettings, TableSettings};
use super::state::State;
use super::{CatalogError, checked};
use crate::base;
use crate::base::poison::Poison;
use crate::record::TableId;

/// The catalog's file in the data folder.
pub const FILE_NAME: &str = "catalog.log";

/// The format that this code writes. It reads the ones before it.
pub(super) const FORMAT: u32 = 4;

/// Bytes below which a log is never written anew.
const RENEW_BYTES_MIN: u64 = 1 << 20;

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Entry {
    /// The first line.
    Catalog { format: u32 },
    /// A table, and its database where there was none.
    Create { id: TableId, database: Box<str>, table: Box<str>, settings: TableSettings },
    /// A table's settings from now on, all of them.
    SetTable { id: TableId, settings: TableSettings },
    /// Names that records of a strict table were the first to use.
    Names { id: TableId, dimensions: Vec<Box<str>>, measures: Vec<Box<str>> },
    /// Several of the two before, in this order, of which a crash leaves all or none.
    Together { changes: Vec<Entry> },
    /// A table's end.
    DeleteTable { id: TableId },
    /// A database.
    CreateDatabase { database: Box<str>, settings: DatabaseSettings },
    /// A database's settings from now on, all of them.
    SetDatabase { database: Box<str>, settings: DatabaseSettings },
    /// A database's end.
    DeleteDatabase { database: Box<str> },
    /// A table that is deleted.
    Deleted { id: TableId, database: Box<str>, table: Box<str> },
    /// Numbers of tables that are deleted, and nothing more is known of them: all up to this one that
    /// no line before gives.
    Forgotten { to: TableId },
    /// Rows of a table that are no more.
    Erase { erasure: Erasure },
    /// Erasures that were carried out.
    Erased { numbers: Vec<i64> },
    /// An erasure of before, in a log that was written anew: whether it is in force, and whether its
    /// note is kept.
    KeptErasure { erasure: Erasure, in_force: bool, noted: bool },
    /// Every number of an erasure up to this one was given.
    GivenErasures { to: i64 },
}

/// The log, open for appending.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) file: File,
    /// Bytes of the lines that are synced.
    pub(super) length: u64,
    /// Bytes at which it is written anew.
    renew_at: u64,
    path: PathBuf,
    /// Thrown by the first sync that fails, and by a write that cannot be taken back.
    poison: Poison,
}

impl Log {
    /// Opens the log in `dir`, or begins one, and reads it; what was read is durable on return. Drops a
    /// line that a crash cut short, and writes a log of an older format anew in this one.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Damaged`]: nothing was changed. [`CatalogError::Io`].
    pub(super) fn open(dir: &Path) -> Result<(Self, State), CatalogError> {
        let path = dir.join(FILE_NAME);
        let io = |what| {
            let path = path.clone();
            move |source| CatalogError::Io { what, path, source }
        };
        base::fs::create_dir_all(dir).map_err(io("make the folder of"))?;
        let append = || OpenOptions::new().read(true).append(true).create(true).open(&path);
        let mut file = append().map_err(io("open"))?;
        base::fs::sync_dir(dir).map_err(io("sync the folder of"))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io("read"))?;
        let sound = checked::sound_length(&bytes);
        let (state, format) = replay(&path, &bytes[..sound])?;
        let unfinished = unfinished(&path);
        if unfinished.exists() {
            std::fs::remove_file(&unfinished).map_err(io("delete what was unfinished of"))?;
        }
        if sound < bytes.len() {
            let (path, dropped_bytes) = (path.display(), bytes.len() - sound);
            tracing::warn!(%path, kept_bytes = sound, dropped_bytes, "torn catalog line dropped");
            file.set_len(sound as u64).map_err(io("cut the torn end of"))?;
        }
        match format {
            None => {
                file.write_all(&header()).map_err(io("begin"))?;
                file.sync_all().map_err(io("sync"))?;
            }
            Some(FORMAT) => settle(&path, &bytes[..sound]).map_err(io("sync"))?,
            Some(older) => {
                tracing::info!(from = older, to = FORMAT, "catalog written anew in a newer format");
                base::fs::replace(&path, &in_this_format(&bytes[..sound])).map_err(io("renew"))?;
                file = append().map_err(io("open"))?;
            }
        }
        let length = file.metadata().map_err(io("measure"))?.len();
        // A log that was begun before logs were written anew is, at its first change.
        let renew_at = RENEW_BYTES_MIN;
        Ok((Self { file, length, renew_at, path, poison: Poison::new() }, state))
    }

    /// Writes the log anew as what it amounts to, if it has become large. A failure before the new log
    /// has the name leaves the old one, and is tried again when that has doubled.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Io`], and from then on [`CatalogError::Poisoned`]: which of the two logs is
    /// found after a restart is unknown. Both amount to `state`.
    pub(super) fn renew_if_large(&mut self, state: &State) -> Result<(), CatalogError> {
        if self.length < self.renew_at || self.poison.reason().is_some() {
            return Ok(());
        }
        let mut bytes = header();
        state.entries().iter().for_each(|entry| bytes.extend(line_of(entry)));
        let unfinished = unfinished(&self.path);
        let file = match write_beside(&unfinished, &bytes) {
            Ok(file) => file,
            Err(error) => {
                tracing::warn!(%error, "the catalog's log could not be written anew; it grows on");
                self.renew_at = self.length * 2;
                return Ok(());
            }
        };
        base::fs::publish(&unfinished, &self.path).map_err(|source| self.poisoned_by(source))?;
        let (before, after) = (self.length, bytes.len() as u64);
        tracing::info!(before, after, "the catalog's log was written anew");
        self.file = file;
        self.length = after;
        self.renew_at = RENEW_BYTES_MIN.max(after * 2);
        assert!(self.length < self.renew_at, "a new log is not written anew at once");
        Ok(())
    }

    /// Appends an entry. It is durable on return.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Unwritten`]: the log is as it was. [`CatalogError::Io`], and from then on
    /// [`CatalogError::Poisoned`]: whether the entry is found after a restart is unknown.
    pub(super) fn append(&mut self, entry: &Entry) -> Result<(), CatalogError> {
        if let Some(reason) = self.poison.reason() {
            return Err(CatalogError::Poisoned { reason: reason.to_owned() });
        }
        let line = line_of(entry);
        if let Err(source) = self.file.write_all(&line) {
            // No sync has failed, so the file can still be trusted: a full disk must not cost a restart.
            let cut = self.file.set_len(self.length).and_then(|()| self.file.sync_all());
            return Err(match cut {
                Ok(()) => CatalogError::Unwritten { path: self.path.clone(), source },
                Err(_worse) => self.poisoned_by(source),
            });
        }
        self.file.sync_data().map_err(|source| self.poisoned_by(source))?;
        self.length += line.len() as u64;
        Ok(())
    }

    /// Why what was taken back by a failure of somebody else's line is not in the log.
    pub(super) fn taken_back(&self) -> CatalogError {
        match self.poison.reason() {
            Some(reason) => CatalogError::Poisoned { reason: reason.to_owned() },
            None => CatalogError::Unwritten {
                path: self.path.clone(),
                source: std::io::Error::other("the line that it was written with found no room"),
            },
        }
    }

    fn poisoned_by(&self, source: std::io::Error) -> CatalogError {
        self.poison.throw(source.to_string());
        CatalogError::Io { what: "append to", path: self.path.clone(), source }
    }
}

/// Makes durable what was read. The last line of a server that was killed, or whose sync failed, may be in
/// the system's memory only, and frames with the number of its table are about to be taken. It is written
/// once more where it stands: to sync alone could succeed without having written what failed before. The
/// lines before it were synced before it was begun.
fn settle(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let last = bytes.split_inclusive(|&byte| byte == b'\n').next_back().unwrap_or_default();
    let file = OpenOptions::new().write(true).open(path)?;
    match file.write_all_at(last, (bytes.len() - last.len()) as u64) {
        // Where files share their blocks until they are written, to write over one takes room too: a disk
        // that is full does not keep the server from reading.
        Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {}
        written => written?,
    }
    file.sync_all()
}

/// The name of a log that is being written anew.
fn unfinished(path: &Path) -> PathBuf {
    path.with_file_name(format!("{FILE_NAME}{}", base::fs::TEMPORARY_SUFFIX))
}

/// A file with these bytes, synced, open for appending.
fn write_beside(path: &Path, bytes: &[u8]) -> std::io::Result<File> {
    if path.exists() {
        std::fs::remove_file(path)?;
    }
    let mut file = OpenOptions::new().read(true).append(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(file)
}

/// Reads the log in `dir` as it is; an empty state where there is none.
pub(super) fn read_only(dir: &Path) -> Result<State, CatalogError> {
    let path = dir.join(FILE_NAME);
    match std::fs::read(&path) {
        // What has no end may be a line that is being written.
        Ok(bytes) => Ok(replay(&path, &bytes[..checked::sound_length(&bytes)])?.0),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(State::default()),
        Err(source) => Err(CatalogError::Io { what: "read", path, source }),
    }
}

/// Whether there is a log in `dir` with a sound begin: a server makes it before its first table.
pub(super) fn is_begun(dir: &Path) -> Result<bool, CatalogError> {
    let path = dir.join(FILE_NAME);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(replay(&path, &bytes[..checked::sound_length(&bytes)])?.1.is_some()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(CatalogError::Io { what: "read", path, source }),
    }
}

pub(super) fn line_of(entry: &Entry) -> Vec<u8> {
    let json = serde_json::to_string(entry).expect("names and numbers become JSON");
    checked::line_of(&json)
}

fn header() -> Vec<u8> {
    line_of(&Entry::Catalog { format: FORMAT })
}

/// A sound log of an older format in this one: every entry of those means the same here.
fn in_this_format(bytes: &[u8]) -> Vec<u8> {
    let first = bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |at| at + 1);
    [&header(), &bytes[first..]].concat()
}

/// What the lines say, and the format that the first of them names.
fn replay(path: &Path, bytes: &[u8]) -> Result<(State, Option<u32>), CatalogError> {
    let mut state = State::default();
    let mut format = None;
    for (at, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
        let damaged = |what| CatalogError::Damaged { path: path.to_owned(), line: at + 1, what };
        let entry = parse_line(line).map_err(damaged)?;
        match (&entry, format) {
            (Entry::Catalog { format: found }, None) if (1..=FORMAT).contains(found) => {
                format = Some(*found);
            }
            (Entry::Catalog { format: found }, None) => {
                let what = format!("catalog format {found}, this build reads 1 to {FORMAT}");
                return Err(damaged(what));
            }
            (Entry::Catalog { .. }, Some(_)) | (_, None) => {
                return Err(damaged(format!("{entry:?} is out of place")));
            }
            (_, Some(_)) => state.execute(entry).map_err(damaged)?,
        }
    }
    Ok((state, format))
}

fn parse_line(line: &[u8]) -> Result<Entry, String> {
    serde_json::from_slice(checked::json_of(line)?).map_err(|error| error.to_string())
}
