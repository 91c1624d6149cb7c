//! What a crash or a power cut would leave of a folder, after each step of the work on its files.
//!
//! The files are real ones. [`Disk`] hears of every step, and remembers of each folder the names it
//! had, and of each file the bytes it had, when they were last synced. Files are told apart by their
//! inodes, which it keeps open so that none is used again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tidegate::engine::embedded::FileStep;

use super::Random;

/// What is lost of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Loss {
    /// Nothing: the process was killed.
    Nothing,
    /// All of it.
    All,
    /// The bytes, while every name is as it was.
    Bytes,
    /// The names of some folders, and all bytes.
    SomeNames,
}

impl Loss {
    pub(crate) const ALL: [Self; 4] = [Self::Nothing, Self::All, Self::Bytes, Self::SomeNames];
}

type Names = BTreeMap<OsString, u64>;

/// The files of an image, by their paths from its top.
pub(crate) type Files = BTreeMap<PathBuf, Vec<u8>>;

#[derive(Debug, Default)]
pub(crate) struct Disk {
    root: PathBuf,
    /// Of each folder, what was synced.
    names: BTreeMap<PathBuf, Names>,
    /// Of each file, what was synced.
    bytes: HashMap<u64, Vec<u8>>,
    open: Vec<File>,
}

/// What a folder's disk had of it at a moment, apart from what the system's memory showed.
#[derive(Debug, Clone)]
pub(crate) struct Durable {
    /// The files that there were, by their paths from the top.
    shown: BTreeMap<PathBuf, u64>,
    /// By the folders' paths from the top.
    names: BTreeMap<PathBuf, Names>,
    bytes: HashMap<u64, Vec<u8>>,
}

impl Disk {
    /// What a copy of a folder is after its process was killed, and the machine runs on: it shows all that
    /// was written, and `durable` of it is safe from a power cut.
    pub(crate) fn after_kill(root: &Path, durable: &Durable) -> Self {
        let inode = |path: &PathBuf| fs::metadata(root.join(path)).unwrap().ino();
        let mut copied: HashMap<u64, u64> =
            durable.shown.iter().map(|(path, before)| (*before, inode(path))).collect();
        // Files whose names were removed, which a power cut may bring back, get numbers that none has.
        let mut number_of = |before: u64| {
            let next = u64::MAX - copied.len() as u64;
            *copied.entry(before).or_insert(next)
        };
        let mut disk = Self { root: root.to_owned(), ..Self::default() };
        for (folder, names) in &durable.names {
            let names = names.iter().map(|(name, before)| (name.clone(), number_of(*before)));
            disk.names.insert(root.join(folder), names.collect());
        }
        for (before, bytes) in &durable.bytes {
            disk.bytes.insert(number_of(*before), bytes.clone());
        }
        for path in durable.shown.keys() {
            disk.open.push(File::open(root.join(path)).unwrap());
        }
        disk
    }

    /// What is durable now.
    pub(crate) fn durable(&self) -> Durable {
        let below = |path: &Path| path.strip_prefix(&self.root).unwrap().to_owned();
        let mut shown = BTreeMap::new();
        for folder in folders(&self.root) {
            let names = names_in(&folder);
            shown.extend(names.into_iter().map(|(name, inode)| (below(&folder).join(name), inode)));
        }
        let names = self.names.iter().map(|(path, names)| (below(path), names.clone())).collect();
        Durable { shown, names, bytes: self.bytes.clone() }
    }

    /// What is in the folder now counts as synced.
    pub(crate) fn of(root: &Path) -> Self {
        let root = root.to_owned();
        let mut disk = Self { root, ..Self::default() };
        for folder in folders(&disk.root) {
            for name in names_in(&folder).keys() {
                disk.saw(FileStep::FileCreated, &folder.join(name));
                disk.saw(FileStep::FileSynced, &folder.join(name));
            }
            disk.saw(FileStep::FolderSynced, &folder);
        }
        disk
    }

    pub(crate) fn saw(&mut self, step: FileStep, path: &Path) {
        match step {
            FileStep::FileCreated => self.open.push(File::open(path).unwrap()),
            FileStep::FileSynced => {
                let inode = fs::metadata(path).unwrap().ino();
                self.bytes.insert(inode, fs::read(path).unwrap());
            }
            FileStep::FolderSynced => {
                self.names.insert(path.to_owned(), names_in(path));
                // That a folder below was removed is durable now.
                self.names.retain(|below, _| below.parent() != Some(path) || below.is_dir());
            }
            _ => {}
        }
    }

    /// What the next start finds.
    pub(crate) fn image(&self, loss: Loss, random: &mut Random) -> Files {
        let mut files = Files::new();
        // Also folders that were removed, which a power cut may bring back.
        let all: BTreeSet<PathBuf> =
            folders(&self.root).into_iter().chain(self.names.keys().cloned()).collect();
        for folder in all {
            let below = folder.strip_prefix(&self.root).unwrap();
            let now = if folder.is_dir() { names_in(&folder) } else { Names::new() };
            let is_lost = match loss {
                Loss::Nothing | Loss::Bytes => false,
                Loss::All => true,
                Loss::SomeNames => random.chance(50),
            };
            let names = if is_lost { self.names.get(&folder).cloned() } else { Some(now.clone()) };
            for (name, inode) in names.unwrap_or_default() {
                let path = folder.join(&name);
                // The catalog's own durability is not what is tried here.
                let bytes = if loss == Loss::Nothing || name == "catalog.log" {
                    fs::read(path).unwrap()
                } else {
                    self.bytes.get(&inode).cloned().unwrap_or_default()
                };
                files.insert(below.join(name), bytes);
            }
        }
        files
    }
}

pub(crate) fn write_image(files: &Files, root: &Path) {
    for (path, bytes) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// The folder and all below it.
fn folders(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    let mut at = 0;
    while at < found.len() {
        let below = fs::read_dir(&found[at]).unwrap().map(|entry| entry.unwrap().path());
        let below: Vec<PathBuf> = below.filter(|path| path.is_dir()).collect();
        found.extend(below);
        at += 1;
    }
    found
}

fn names_in(folder: &Path) -> Names {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    files.map(|entry| (entry.file_name(), entry.metadata().unwrap().ino())).collect()
}
