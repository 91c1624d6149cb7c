//! The manifest: which files the magnetic store has, and up to which frame they hold every record.
//!
//! What a commit changes is appended to a file of changes, so that a flush costs the same beside ten
//! files and beside a hundred thousand; when the changes have become as long as the whole, the whole is
//! written anew. So a byte that a commit writes is written once or twice more, and a start reads twice
//! what there is at most.
//!
//! # `manifest.json`, version 2
//!
//! One line: the CRC-32 of the JSON (8 lower-case hexadecimal digits), a space, the JSON, `\n`. It is
//! valid if and only if the checksum is right, `format` is 1 or 2, there is one mark a bucket, and file
//! numbers are below `next_file` and distinct. It is replaced as a whole, so that a crash leaves the
//! old one or the new one. `sequence` counts these replacements; version 1 has none, and no changes.
//!
//! # `manifest-<sequence>.log`
//!
//! The changes since the manifest of that `sequence`: lines of the same form, the first a [`Head`], the
//! others a [`Change`] each. It counts if and only if the manifest has its `sequence`, and must be
//! there then. A last line that has zeros, or no end, is one that a crash cut short, and does not
//! count; but one that lacks nothing else than its `\n` does, since no crash takes back the last byte
//! of what was synced, and who edits a file may. Any other that is not as written is damage.
//!
//! # Why a crash at any step is safe
//!
//! | step | a crash after it finds |
//! |---|---|
//! | append a change | the manifest before; the line is not whole, or it is and the commit happened |
//! | sync it: the moment of the commit | the manifest with the change |
//! | make the next log with its head, sync it and its name | the manifest before; start-up deletes a log of another sequence |
//! | write the next manifest beside, sync | the same |
//! | rename it, sync the name: the moment of the commit | the old manifest and its log, or the new ones |
//! | delete the log before | the same; start-up deletes it |
//!
//! Nothing is appended behind a line that is not whole: after a start, and after a write that failed,
//! the whole is written anew; after a start at once, before anything is deleted by what was read, since
//! the last line may never have been synced.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::fs::TEMPORARY_SUFFIX;
use crate::base::lsn::Lsn;
use crate::engine::EngineError;
use crate::engine::checked;
use crate::record::TableId;
use crate::record::codec::BUCKETS;

use super::commit::CommitError;
use super::disk::{Disk, DiskFile};
use super::io_error;

pub(super) const FILE_NAME: &str = "manifest.json";

/// The format that this code writes. It reads the one before it.
const FORMAT: u32 = 2;

/// Bytes of changes below which the whole is not written anew.
const CHANGES_BYTES_MIN: u64 = 64 << 10;

/// What the magnetic store has.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    format: u32,
    /// How often it was written as a whole.
    #[serde(default)]
    sequence: u64,
    /// Every file's number is below.
    pub(super) next_file: u64,
    /// For each bucket, the last frame whose records are all in the files.
    pub(super) stored: Vec<Lsn>,
    /// By number of the table.
    pub(super) tables: BTreeMap<TableId, TableEntry>,
    /// Where changes are appended; `None`: the next commit writes the whole.
    #[serde(skip)]
    log: Option<Log>,
    /// What is to be told of the end of the changes that were read.
    #[serde(skip)]
    torn: Option<Torn>,
}

/// An end of a file of changes that is not as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Torn {
    /// Bytes before its last line.
    kept_bytes: usize,
    /// Bytes of that.
    line_bytes: usize,
    /// Whether the change counts.
    counts: bool,
}

/// The file of changes, open for appending.
#[derive(Debug)]
struct Log {
    file: DiskFile,
    bytes: u64,
    /// Bytes at which the whole is written anew.
    bytes_max: u64,
}

/// The first line of a file of changes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    /// That of the manifest that it changes.
    sequence: u64,
}

/// What a commit changes: first what counts from now on, then what does not any more.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    pub(super) next_file: u64,
    /// The marks, if they are others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stored: Option<Vec<Lsn>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) written: Vec<WrittenFile>,
    /// Tables and numbers of files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) removed: Vec<(TableId, u64)>,
    /// Tables that are no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) forgotten: Vec<TableId>,
}

/// A file that counts, in place of its generation before if there is one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenFile {
    pub(super) table: TableId,
    /// Attributes that no file of the table had before, and numbers of their types.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) attributes: BTreeMap<String, u8>,
    pub(super) file: FileMeta,
}

/// A table's files.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TableEntry {
    /// Names and numbers of the types of all attributes in the files.
    pub(super) attributes: BTreeMap<String, u8>,
    /// The files, by number; a list of them in the file.
    #[serde(with = "by_number")]
    pub(super) files: BTreeMap<u64, FileMeta>,
}

mod by_number {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::FileMeta;

    pub(super) fn serialize<S: Serializer>(
        files: &BTreeMap<u64, FileMeta>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(files.values())
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(
        deserializer: D,
    ) -> Result<BTreeMap<u64, FileMeta>, D::Error> {
        let mut files = BTreeMap::new();
        for file in Vec::<FileMeta>::deserialize(deserializer)? {
            let number = file.number;
            if files.insert(number, file).is_some() {
                return Err(serde::de::Error::custom(format!(
                    "file number {number} is there twice"
                )));
            }
        }
        Ok(files)
    }
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileMeta {
    /// Its number, never used again.
    pub(super) number: u64,
    /// How often it was written anew under its number.
    pub(super) generation: u32,
    /// The day of its records, counted from 1970-01-01.
    pub(super) day: i32,
    /// Its rows.
    pub(super) rows: u64,
    /// Its bytes.
    pub(super) bytes: u64,
    /// The earliest time of a row, ns.
    pub(super) time_ns_min: i64,
    /// The latest time of a row, ns.
    pub(super) time_ns_max: i64,
    /// The least hash of a series.
    pub(super) hash_min: u64,
    /// The greatest hash of a series.
    pub(super) hash_max: u64,
}

impl Default for Manifest {
    fn default() -> Self {
        Self {
            format: FORMAT,
            sequence: 0,
            next_file: 1,
            stored: vec![Lsn::ZERO; BUCKETS],
            tables: BTreeMap::new(),
            log: None,
            torn: None,
        }
    }
}

impl Manifest {
    /// Reads the manifest in `dir`, if there is one.
    ///
    /// # Errors
    ///
    /// [`EngineError::Io`]: it cannot be read. [`EngineError::Corrupt`]: it is not what was written, or
    /// its changes are not, or they are missing.
    pub(super) fn load(dir: &Path) -> Result<Option<Self>, EngineError> {
        let path = dir.join(FILE_NAME);
        let corrupt = |path: &Path, what: String| {
            Err(EngineError::Corrupt { path: path.display().to_string(), what })
        };
        let mut whole = read(&path)?;
        loop {
            let Some(bytes) = whole else { return Ok(None) };
            let mut manifest = match parse(&bytes) {
                Ok(manifest) => manifest,
                Err(what) => return corrupt(&path, what),
            };
            if manifest.sequence == 0 {
                return Ok(Some(manifest));
            }
            let log = dir.join(log_name(manifest.sequence));
            if let Some(lines) = read(&log)? {
                let (lines, torn) = without_torn_end(lines);
                return match manifest.replay(&lines) {
                    Ok(()) => Ok(Some(Self { torn, ..manifest })),
                    Err(what) => corrupt(&log, what),
                };
            }
            // Who reads beside a server may come just when it has written the whole anew.
            whole = read(&path)?;
            if whole.as_ref() == Some(&bytes) {
                return corrupt(&log, format!("it is missing, but {FILE_NAME} goes on in it"));
            }
        }
    }

    /// Applies the changes of a log to the manifest that it belongs to.
    fn replay(&mut self, lines: &[u8]) -> Result<(), String> {
        let mut lines = (1..).zip(lines.split_inclusive(|&byte| byte == b'\n'));
        let head: Head = lines.next().ok_or("it has no first line").and_then(|(_, line)| {
            let json = checked::json_of(line).map_err(|_damaged| "its first line is damaged")?;
            serde_json::from_slice(json).map_err(|_other| "its first line is no head")
        })?;
        if head.sequence != self.sequence {
            return Err(format!("it is of manifest {}, not {}", head.sequence, self.sequence));
        }
        for (at, line) in lines {
            let change = checked::json_of(line)
                .and_then(|json| serde_json::from_slice(json).map_err(|error| error.to_string()))
                .and_then(|change: Change| self.fits(&change).map(|()| change))
                .map_err(|what| format!("line {at} {what}"))?;
            self.apply(change);
        }
        Ok(())
    }

    /// Makes a change, durably.
    ///
    /// # Errors
    ///
    /// [`CommitError::Before`]: the manifest is as it was. [`CommitError::During`]: whether it is
    /// found as before or with the change after a crash is unknown.
    pub(super) fn commit(
        &mut self,
        change: Change,
        dir: &Path,
        disk: &Arc<Disk>,
    ) -> Result<(), CommitError> {
        assert_eq!(self.fits(&change), Ok(()), "what is written is what may be read");
        // It comes back when the change is durable, and not after an error or a panic: nothing may come
        // behind a line of which nobody knows whether it counts.
        let Some(mut log) = self.log.take().filter(|log| log.bytes < log.bytes_max) else {
            let mut next = self.without_log();
            next.apply(change);
            next.write(dir, disk)?;
            *self = next;
            return Ok(());
        };
        let line = line_of(&change);
        let path = dir.join(log_name(self.sequence));
        let error = |cause| io_error("append to", &path, cause);
        if let Err(cause) = log.file.write_all(&line) {
            // All of it but the `\n` may be there, which would count, though its files are discarded.
            return Err(match log.file.cut(log.bytes) {
                Ok(()) => CommitError::Before(error(cause)),
                Err(_worse) => CommitError::During(error(cause)),
            });
        }
        log.file.sync().map_err(|cause| CommitError::During(error(cause)))?;
        log.bytes += line.len() as u64;
        self.log = Some(log);
        self.apply(change);
        Ok(())
    }

    /// Replaces the manifest in `dir` by this one as a whole, durably, and begins its log.
    ///
    /// # Errors
    ///
    /// As of [`Self::commit`].
    pub(super) fn write(&mut self, dir: &Path, disk: &Arc<Disk>) -> Result<(), CommitError> {
        let path = dir.join(FILE_NAME);
        let before = std::mem::replace(&mut self.format, FORMAT);
        assert!((1..=FORMAT).contains(&before), "checked when it was read");
        self.sequence += 1;
        assert_eq!(self.check(), Ok(()), "what is written is what may be read");
        let bytes = line_of(self);
        let error = |cause| io_error("replace", &path, cause);
        let log = begin_log(self.sequence, dir, disk);
        let mut log = log.map_err(|cause| CommitError::Before(error(cause)))?;
        let temporary = dir.join(format!("{FILE_NAME}{TEMPORARY_SUFFIX}"));
        let mut file =
            disk.create(&temporary).map_err(|cause| CommitError::Before(error(cause)))?;
        file.write_all(&bytes).map_err(|cause| CommitError::Before(error(cause)))?;
        // The bytes first: a name that points at bytes that were never synced reads as zeros.
        file.sync()
            .and_then(|_| disk.rename(&temporary, &path))
            .and_then(|()| disk.sync_dir(dir))
            .map_err(|cause| CommitError::During(error(cause)))?;
        log.bytes_max = CHANGES_BYTES_MIN.max(bytes.len() as u64);
        self.log = Some(log);
        let old = dir.join(log_name(self.sequence - 1));
        if let Err(error) = disk.remove(&old)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %old.display(), %error, "old log stays until the next start");
        }
        Ok(())
    }

    /// Tells of an end that was not as it was written. Of a start only: who reads beside a server may see
    /// a line that is being written.
    pub(super) fn tell_torn_end(&self, dir: &Path) {
        let Some(Torn { kept_bytes, line_bytes, counts }) = self.torn else { return };
        let path = dir.join(log_name(self.sequence));
        let path = path.display();
        if counts {
            tracing::warn!(%path, kept_bytes, line_bytes, "the last line has no end, but is whole: it counts");
        } else {
            tracing::warn!(%path, kept_bytes, dropped_bytes = line_bytes, "torn line of the manifest dropped");
        }
    }

    /// Makes durable what was read, where it lies.
    pub(super) fn sync(&self, dir: &Path, disk: &Arc<Disk>) -> io::Result<()> {
        std::fs::File::open(dir.join(FILE_NAME))?.sync_all()?;
        if self.sequence > 0 {
            std::fs::File::open(dir.join(log_name(self.sequence)))?.sync_all()?;
        }
        disk.sync_dir(dir)
    }

    /// Files of changes in `dir` that belong to another manifest.
    pub(super) fn strange_logs(&self, dir: &Path) -> Result<Vec<PathBuf>, EngineError> {
        let own = log_name(self.sequence);
        let is_strange = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
            let number = name.strip_prefix(LOG_PREFIX).and_then(|n| n.strip_suffix(LOG_SUFFIX));
            number.is_some_and(|n| n.parse::<u64>().is_ok()) && name != own
        };
        Ok(super::recover::entries_in(dir)?.into_iter().filter(is_strange).collect())
    }

    fn without_log(&self) -> Self {
        let (stored, tables) = (self.stored.clone(), self.tables.clone());
        Self { stored, tables, log: None, ..*self }
    }

    fn check(&self) -> Result<(), String> {
        if !(1..=FORMAT).contains(&self.format) {
            return Err(format!("manifest format {}, this build reads 1 to {FORMAT}", self.format));
        }
        if (self.format > 1) != (self.sequence > 0) {
            return Err(format!("sequence {} in format {}", self.sequence, self.format));
        }
        check_marks(&self.stored)?;
        let mut numbers = HashSet::new();
        for &number in self.tables.values().flat_map(|table| table.files.keys()) {
            if number >= self.next_file || !numbers.insert(number) {
                return Err(format!("file number {number} is out of place"));
            }
        }
        Ok(())
    }

    /// Whether the change is one of this manifest.
    fn fits(&self, change: &Change) -> Result<(), String> {
        if change.next_file < self.next_file {
            return Err(format!("gives file number {} once more", change.next_file));
        }
        if let Some(marks) = &change.stored {
            check_marks(marks)?;
            if self.stored.iter().zip(marks).any(|(old, new)| old > new) {
                return Err("takes a mark back".to_owned());
            }
        }
        if let Some(written) = change.written.iter().find(|w| w.file.number >= change.next_file) {
            return Err(format!("has file number {}, which was not given", written.file.number));
        }
        for (table, number) in &change.removed {
            if !self.tables.get(table).is_some_and(|entry| entry.files.contains_key(number)) {
                return Err(format!("removes file {number} of table {table}, which is not there"));
            }
        }
        Ok(())
    }

    fn apply(&mut self, change: Change) {
        self.next_file = change.next_file;
        self.stored = change.stored.unwrap_or(std::mem::take(&mut self.stored));
        for WrittenFile { table, attributes, file } in change.written {
            let entry = self.tables.entry(table).or_default();
            entry.attributes.extend(attributes);
            entry.files.insert(file.number, file);
        }
        for (table, number) in change.removed {
            let entry = self.tables.get_mut(&table).expect("the change fits");
            entry.files.remove(&number).expect("the change fits");
        }
        for table in &change.forgotten {
            self.tables.remove(table);
        }
        assert_eq!(self.stored.len(), BUCKETS, "one mark a bucket");
    }
}

const LOG_PREFIX: &str = "manifest-";
const LOG_SUFFIX: &str = ".log";

/// The name of the changes of a manifest.
fn log_name(sequence: u64) -> String {
    format!("{LOG_PREFIX}{sequence}{LOG_SUFFIX}")
}

/// Makes a file of changes that has none yet, durably.
fn begin_log(sequence: u64, dir: &Path, disk: &Arc<Disk>) -> io::Result<Log> {
    let mut file = disk.create(&dir.join(log_name(sequence)))?;
    let head = line_of(&Head { sequence });
    file.write_all(&head)?;
    file.sync()?;
    disk.sync_dir(dir)?;
    Ok(Log { file, bytes: head.len() as u64, bytes_max: CHANGES_BYTES_MIN })
}

/// The lines that count, and what is odd about the last.
fn without_torn_end(mut lines: Vec<u8>) -> (Vec<u8>, Option<Torn>) {
    let (kept_bytes, all_bytes) = (checked::sound_length(&lines), lines.len());
    if kept_bytes == all_bytes {
        return (lines, None);
    }
    let ended = [&lines[kept_bytes..], b"\n"].concat();
    let counts = checked::json_of(&ended).is_ok();
    if counts {
        lines.push(b'\n');
    } else {
        lines.truncate(kept_bytes);
    }
    let line_bytes = all_bytes - kept_bytes;
    assert!(line_bytes > 0, "told of a line");
    (lines, Some(Torn { kept_bytes, line_bytes, counts }))
}

fn line_of(of: &impl Serialize) -> Vec<u8> {
    checked::line_of(&serde_json::to_string(of).expect("numbers and names become JSON"))
}

fn check_marks(marks: &[Lsn]) -> Result<(), String> {
    if marks.len() == BUCKETS {
        return Ok(());
    }
    Err(format!("{} marks, expected {BUCKETS}", marks.len()))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, EngineError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", path, error)),
    }
}

fn parse(bytes: &[u8]) -> Result<Manifest, String> {
    let json = checked::json_of(bytes)?;
    let manifest: Manifest = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    manifest.check()?;
    Ok(manifest)
}

#[cfg(test)]
mod tests;
