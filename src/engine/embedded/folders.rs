//! Empty folders of days and tables whose files are gone.
//!
//! A folder is removed by `rmdir`, which refuses one that has anything in it: no file can be lost, be
//! it ours or somebody else's. Whoever makes a folder to write a file into it holds the manifest's
//! lock, which is held here too, or is the thread that tidies, which does this: so no folder vanishes
//! between its making and its first file. A power cut may bring a removed folder back, with hidden
//! files that were deleted; start-up removes them again ([`super::recover`]).
//!
//! A file that a scan still reads keeps its folder until a later pass. Folders in which only
//! somebody else's files are left stay.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::engine::EngineError;

use super::flusher::{Inner, lock};
use super::io_error;
use super::partition::is_ours;
use super::recover::entries_in;

/// What became of a folder.
#[derive(Debug, PartialEq, Eq)]
enum Removal {
    /// It is gone.
    Gone,
    /// A file that counts no more is still read.
    Later,
    /// It has something that stays.
    Stays,
}

impl Inner {
    /// Removes folders that files were taken out of, where they are empty now, and their tables'
    /// folders.
    pub(super) fn remove_empty_folders(&self) -> Result<(), EngineError> {
        let folders = self.magnetic.take_emptied();
        if folders.is_empty() {
            return Ok(());
        }
        let _nobody_makes_folders = lock(&self.manifest);
        let mut tables: BTreeSet<PathBuf> = BTreeSet::new();
        for folder in folders {
            assert!(folder.starts_with(&self.magnetic.dir), "a folder of ours");
            match self.remove_folder(&folder)? {
                Removal::Gone => tables.extend(folder.parent().map(Path::to_owned)),
                Removal::Later => self.magnetic.note_emptied(folder),
                Removal::Stays => {}
            }
        }
        for table in tables {
            self.remove_folder(&table)?;
        }
        Ok(())
    }

    fn remove_folder(&self, folder: &Path) -> Result<Removal, EngineError> {
        match self.magnetic.disk().remove_dir(folder) {
            Ok(()) => Ok(Removal::Gone),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Removal::Gone),
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {
                let is_hidden = |path: &PathBuf| {
                    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
                    name.starts_with('.') && is_ours(name)
                };
                let has_hidden = entries_in(folder)?.iter().any(is_hidden);
                Ok(if has_hidden { Removal::Later } else { Removal::Stays })
            }
            Err(error) => Err(io_error("remove", folder, error)),
        }
    }
}
