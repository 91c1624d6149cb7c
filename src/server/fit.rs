//! Whether log, catalog and tables belong together, asked before anything is made or executed.
//!
//! Each of the three is told by the others that it is missing, or that it is an older one:
//!
//! | what is not there | who tells | refused as |
//! |---|---|---|
//! | the log's folder, or what is in it | the catalog has tables, which are made behind a log | [`StartError::LogMissing`] |
//! | the tables' folder, or what is in it | the log's checkpoint says that frames are stored | [`StartError::TablesMissing`] |
//! | the end of the log | the tables' marks are beyond it | [`StartError::LogBehind`] |
//! | the catalog, or its end | frames to be replayed name numbers of tables that it never gave | [`StartError::CatalogBehind`] |
//! | the catalog's end, all else in files | the manifest names tables that it never gave | the engine's own |
//!
//! What no start can see: tables of an older copy than the log's checkpoint. The marks of a part of the
//! series that gets no rows advance in memory and are written with the next flush only, so a sound
//! manifest may well be older than the checkpoint.

use std::path::Path;
use std::time::Duration;

use crate::base::lsn::Lsn;
use crate::config::Config;
use crate::engine::TableEngine;
use crate::engine::catalog::{self, Catalog};
use crate::engine::embedded;
use crate::record::codec::{Bucket, Payload};
use crate::wal::Wal;
use crate::wal::inspect;

use super::StartError;

/// Refuses to begin a log beside tables that were made behind one. Without a lock: where a server has
/// the folder, there is a log.
pub(super) fn check_log_is_there(config: &Config) -> Result<(), StartError> {
    let dir = &config.wal.dir;
    if inspect::has_log(dir)? || Catalog::read_only(&config.data_dir)?.is_empty() {
        return Ok(());
    }
    Err(StartError::LogMissing { dir: dir.clone(), data: config.data_dir.clone() })
}

/// Refuses to begin tables where the log says that there were some.
pub(super) fn check_tables_are_there(wal: &Wal, tables: &Path) -> Result<(), StartError> {
    let stored = wal.marks().checkpoint;
    if stored == Lsn::ZERO || embedded::stored_in(tables)?.is_some() {
        return Ok(());
    }
    Err(StartError::TablesMissing { dir: tables.to_owned(), stored })
}

/// Refuses a log that ends before what the engine has stored of it.
pub(super) fn check_log_of(
    engine: &dyn TableEngine,
    wal: &Wal,
    dir: &Path,
) -> Result<(), StartError> {
    let stored = Bucket::all().map(|bucket| engine.stored(bucket)).max().unwrap_or_default();
    let durable = wal.marks().durable;
    if stored <= durable {
        return Ok(());
    }
    Err(StartError::LogBehind { dir: dir.to_owned(), stored, durable })
}

/// Refuses a catalog that never gave a number which a frame to be replayed names: new tables would get
/// it, and the frame's records with it. Reads every such frame once, but of each only what its tables
/// are; the replay finds it in the page cache.
pub(super) fn check_catalog_of(
    wal: &Wal,
    catalog: &Catalog,
    data: &Path,
) -> Result<(), StartError> {
    let marks = wal.marks();
    let mut reader = wal.reader(marks.checkpoint.next());
    let (mut seen, mut found) = (marks.checkpoint, None);
    while seen < marks.durable {
        let Some(frame) = reader.next(Duration::ZERO)? else { break };
        let payload = Payload::open(frame.payload())
            .map_err(|source| StartError::Frame { lsn: frame.lsn(), source })?;
        let (mut families, mut layouts) = (Vec::new(), Vec::new());
        payload
            .dictionary(&mut families, &mut layouts)
            .map_err(|source| StartError::Frame { lsn: frame.lsn(), source })?;
        found = families.iter().map(|family| family.table).find(|id| !catalog.has_numbered(*id));
        if let Some(table) = found {
            let path = data.join(catalog::FILE_NAME);
            return Err(StartError::CatalogBehind { path, lsn: frame.lsn(), table });
        }
        seen = frame.lsn();
    }
    assert_eq!((seen, found), (marks.durable, None), "every durable frame was looked at");
    Ok(())
}
