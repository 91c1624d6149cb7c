//! Letting other files count: the one commit of flushes, merges and drops. Its steps, and why a crash
//! at any of them is safe, stand in [`super::magnetic`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use crate::base::lsn::Lsn;
use crate::engine::EngineError;
use crate::record::TableId;

use super::columns::ColumnSet;
use super::file_out::{Finished, Target};
use super::files::Files;
use super::io_error;
use super::magnetic::{Magnetic, MagneticFile};
use super::manifest::{Change, Manifest, WrittenFile};

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
    /// Changes the manifest, with these marks if it is a flush, and gives the files their public
    /// names. The caller holds the lock of `manifest`, as it did when it looked at the files.
    pub(super) fn commit(
        &self,
        magnetic: &Magnetic,
        manifest: &mut Manifest,
        marks: Option<&[Lsn]>,
    ) -> Result<(), CommitError> {
        let change = self.of_manifest(manifest, marks);
        sync_folders(magnetic, &self.folders_written()).map_err(CommitError::During)?;
        manifest.commit(change, &magnetic.dir, magnetic.disk())?;
        magnetic.change(|files| self.apply(files));
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

    /// What the manifest is told.
    fn of_manifest(&self, manifest: &Manifest, marks: Option<&[Lsn]>) -> Change {
        let mut change = Change { next_file: manifest.next_file, ..Change::default() };
        if let Some(marks) = marks {
            assert_eq!(marks.len(), manifest.stored.len(), "one mark a bucket");
            change.stored = (*marks != *manifest.stored).then(|| marks.to_vec());
        }
        for written in &self.written {
            let table = written.file.table;
            let known = manifest.tables.get(&table).map(|entry| &entry.attributes);
            let mut attributes = BTreeMap::new();
            for (name, value_type) in written.columns.attributes() {
                let number = value_type.number();
                match known.and_then(|known| known.get(name)) {
                    Some(known) => assert_eq!(*known, number, "a column has one type in all files"),
                    None => drop(attributes.insert(name.to_owned(), number)),
                }
            }
            let file = written.file.meta.clone();
            change.written.push(WrittenFile { table, attributes, file });
        }
        change.removed = self.removed.iter().map(|file| (file.table, file.meta.number)).collect();
        change.forgotten.clone_from(&self.forgotten);
        change
    }

    fn apply(&self, files: &mut Files) {
        for written in &self.written {
            files.put(Arc::clone(&written.file));
        }
        for file in &self.removed {
            let was_listed = files.remove(file.table, file.meta.day, file.meta.number);
            assert!(was_listed, "what is removed was listed");
        }
        self.forgotten.iter().for_each(|&table| files.forget(table));
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
