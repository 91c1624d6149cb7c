//! Letting other files count: the one commit of flushes, merges and drops. Its steps, and why a crash
//! at any of them is safe, stand in [`super::magnetic`].

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use crate::base::lsn::Lsn;
use crate::engine::EngineError;
use crate::record::TableId;

use super::columns::ColumnSet;
use super::file_out::{Finished, Target};
use super::io_error;
use super::magnetic::{Files, Magnetic, MagneticFile};
use super::manifest::Manifest;

/// Why a commit failed, and whether it happened all the same.
#[derive(Debug)]
pub(super) enum CommitError {
    /// It did not happen: the same can be tried again.
    Before(EngineError),
    /// Whether it happened is known after a restart only.
    During(EngineError),
}

/// A file that shall count.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) file: Arc<MagneticFile>,
    /// Its generation before.
    pub(super) replaces: Option<Arc<MagneticFile>>,
    columns: ColumnSet,
}

/// What a commit is about to change.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) written: Vec<Written>,
    /// Files that shall count no more.
    pub(super) removed: Vec<Arc<MagneticFile>>,
    /// Tables that are no more; their files are among the removed ones.
    pub(super) forgotten: Vec<TableId>,
}

impl Written {
    /// A file that was just written, and whose index is remembered.
    pub(super) fn new(
        magnetic: &Magnetic,
        target: &Target,
        replaces: Option<Arc<MagneticFile>>,
        finished: Finished,
    ) -> Self {
        let Finished { meta, index, columns } = finished;
        magnetic.remember_index(&meta, Arc::new(index));
        let file = MagneticFile::new(target.table, &meta, target.path.clone(), magnetic.disk());
        Self { file: Arc::new(file), replaces, columns }
    }
}

impl Changes {
    /// Replaces the manifest, with these marks if it is a flush, and gives the files their public
    /// names. The caller holds the lock of `manifest`, as it did when it looked at the files.
    pub(super) fn commit(
        &self,
        magnetic: &Magnetic,
        manifest: &mut Manifest,
        marks: Option<&[Lsn]>,
    ) -> Result<(), CommitError> {
        let mut next = manifest.clone();
        if let Some(marks) = marks {
            assert_eq!(marks.len(), next.stored.len(), "one mark a bucket");
            for (old, new) in next.stored.iter_mut().zip(marks) {
                assert!(*old <= *new, "a bucket's mark never goes back");
                *old = *new;
            }
        }
        let mut files = Files::clone(&magnetic.files());
        self.apply(&mut next, &mut files);
        sync_folders(magnetic, &self.folders_written()).map_err(CommitError::During)?;
        next.write(&magnetic.dir, magnetic.disk())?;
        *manifest = next;
        magnetic.install(files);
        self.rename(magnetic).map_err(CommitError::During)
    }

    /// Step 3: the public names, and hidden ones for what counts no more.
    fn rename(&self, magnetic: &Magnetic) -> Result<(), EngineError> {
        let mut folders = self.folders_written();
        folders.extend(self.removed.iter().filter_map(|file| file.folder()));
        for written in &self.written {
            written.file.publish(written.replaces.as_deref())?;
        }
        for file in &self.removed {
            file.retire()?;
            if let Some(folder) = file.folder() {
                magnetic.note_emptied(folder);
            }
        }
        sync_folders(magnetic, &folders)
    }

    fn folders_written(&self) -> BTreeSet<PathBuf> {
        self.written.iter().filter_map(|written| written.file.folder()).collect()
    }

    fn apply(&self, manifest: &mut Manifest, files: &mut Files) {
        for written in &self.written {
            let (table, meta) = (written.file.table, &written.file.meta);
            let entry = manifest.tables.entry(table).or_default();
            for (name, value_type) in written.columns.attributes() {
                let number = entry.attributes.entry(name.to_owned()).or_insert(value_type.number());
                assert_eq!(*number, value_type.number(), "a column has one type in all files");
            }
            entry.files.retain(|old| old.number != meta.number);
            entry.files.push(meta.clone());
            let day = files.tables.entry(table).or_default().entry(meta.day).or_default();
            day.retain(|old| old.meta.number != meta.number);
            day.push(Arc::clone(&written.file));
        }
        for file in &self.removed {
            let (table, meta) = (file.table, &file.meta);
            let entry = manifest.tables.get_mut(&table).expect("the file was listed");
            let before = entry.files.len();
            entry.files.retain(|old| old != meta);
            assert_eq!(entry.files.len() + 1, before, "what is removed was listed as it is");
            let days = files.tables.get_mut(&table).expect("the file was listed");
            let day = days.get_mut(&meta.day).expect("the file was listed");
            day.retain(|old| old.meta.number != meta.number);
            if day.is_empty() {
                days.remove(&meta.day);
            }
        }
        for table in &self.forgotten {
            let entry = manifest.tables.remove(table);
            assert!(entry.is_none_or(|entry| entry.files.is_empty()), "its files were removed");
            files.tables.remove(table);
        }
    }

    /// Deletes the files of a commit that did not happen; start-up would too.
    pub(super) fn discard(&self) {
        for written in &self.written {
            written.file.discard();
        }
    }
}

/// The manifest may name a file only when its name would survive a crash.
fn sync_folders(magnetic: &Magnetic, folders: &BTreeSet<PathBuf>) -> Result<(), EngineError> {
    for folder in folders {
        magnetic.disk().sync_dir(folder).map_err(|error| io_error("sync", folder, error))?;
    }
    Ok(())
}
