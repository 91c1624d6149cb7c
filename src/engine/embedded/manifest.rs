//! The manifest: which files the magnetic store has, and up to which frame they hold every record.
//!
//! # `manifest.json`, version 1
//!
//! One line: the CRC-32 of the JSON (8 lower-case hexadecimal digits), a space, the JSON, `\n`. It is
//! valid if and only if the checksum is right, `format` is 1, there is one mark a bucket, and file
//! numbers are below `next_file` and distinct. It is replaced as a whole, so that a crash leaves the
//! old one or the new one; that replacement is the moment at which a flush happens.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::fs::TEMPORARY_SUFFIX;
use crate::base::lsn::Lsn;
use crate::engine::EngineError;
use crate::engine::checked;
use crate::record::TableId;
use crate::record::codec::BUCKETS;

use super::commit::CommitError;
use super::disk::Disk;
use super::io_error;

pub(super) const FILE_NAME: &str = "manifest.json";
const FORMAT: u32 = 1;
/// What the magnetic store has.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    format: u32,
    /// Every file's number is below.
    pub(super) next_file: u64,
    /// For each bucket, the last frame whose records are all in the files.
    pub(super) stored: Vec<Lsn>,
    /// By number of the table.
    pub(super) tables: BTreeMap<TableId, TableEntry>,
}

/// A table's files.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TableEntry {
    /// Names and numbers of the types of all attributes in the files.
    pub(super) attributes: BTreeMap<String, u8>,
    /// The files, by number.
    pub(super) files: Vec<FileMeta>,
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
            next_file: 1,
            stored: vec![Lsn::ZERO; BUCKETS],
            tables: BTreeMap::new(),
        }
    }
}

impl Manifest {
    /// Reads the manifest in `dir`, if there is one.
    pub(super) fn load(dir: &Path) -> Result<Option<Self>, EngineError> {
        let path = dir.join(FILE_NAME);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(io_error("read", &path, error)),
        };
        parse(&bytes)
            .map(Some)
            .map_err(|what| EngineError::Corrupt { path: path.display().to_string(), what })
    }

    /// Replaces the manifest in `dir` by this one, durably.
    ///
    /// # Errors
    ///
    /// [`CommitError::Before`]: the old one stands. [`CommitError::During`]: whether the old or the
    /// new one is found after a crash is unknown.
    pub(super) fn write(&self, dir: &Path, disk: &Arc<Disk>) -> Result<(), CommitError> {
        let path = dir.join(FILE_NAME);
        assert_eq!(self.check(), Ok(()), "what is written is what may be read");
        let json = serde_json::to_vec(self).expect("numbers and names become JSON");
        let mut bytes = format!("{:08x} ", crc32fast::hash(&json)).into_bytes();
        bytes.extend_from_slice(&json);
        bytes.push(b'\n');
        let temporary = dir.join(format!("{FILE_NAME}{TEMPORARY_SUFFIX}"));
        let error = |error| io_error("replace", &path, error);
        let mut file =
            disk.create(&temporary).map_err(|cause| CommitError::Before(error(cause)))?;
        file.write_all(&bytes).map_err(|cause| CommitError::Before(error(cause)))?;
        // The bytes first: a name that points at bytes that were never synced reads as zeros.
        file.sync()
            .and_then(|_| disk.rename(&temporary, &path))
            .and_then(|()| disk.sync_dir(dir))
            .map_err(|cause| CommitError::During(error(cause)))
    }

    fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("manifest format {}, this build reads {FORMAT}", self.format));
        }
        if self.stored.len() != BUCKETS {
            return Err(format!("{} marks, expected {BUCKETS}", self.stored.len()));
        }
        let mut numbers = HashSet::new();
        for file in self.tables.values().flat_map(|table| &table.files) {
            if file.number >= self.next_file || !numbers.insert(file.number) {
                return Err(format!("file number {} is out of place", file.number));
            }
        }
        Ok(())
    }
}

fn parse(bytes: &[u8]) -> Result<Manifest, String> {
    let json = checked::json_of(bytes)?;
    let manifest: Manifest = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    manifest.check()?;
    Ok(manifest)
}
