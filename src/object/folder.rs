//! A directory as a store: which files are its objects, and that none of them lies elsewhere. A symbolic
//! link may stand for a file of the same directory; one that leads out is listed, so that whoever asks for
//! it hears of it, and is never read or written through. Links to directories are not followed: a tree that
//! holds itself would have no end.
//!
//! Whoever may exchange a directory for a link while it is used is stopped by the rights of the file
//! system, not here.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::{Level, Object};

/// The directory of a store.
#[derive(Debug)]
pub(super) struct Folder {
    /// Without links, so that what is within it begins with it.
    root: PathBuf,
}

/// What a directory has by some key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A file of it.
    File,
    /// A link to what is not within it, or not there; of so many bytes itself.
    Outside(u64),
}

impl Folder {
    pub(super) fn new(dir: &Path) -> io::Result<Self> {
        Ok(Self { root: dir.canonicalize()? })
    }

    /// Whether the directory is there. One that was moved away, or whose disk is, has not become empty, and
    /// nobody who would write to it means to make another.
    pub(super) fn is_there(&self) -> bool {
        self.root.is_dir()
    }

    /// Whether what the key names, or would name, is within the directory.
    pub(super) fn holds(&self, key: &str) -> bool {
        let mut path = self.root.join(key);
        loop {
            match path.canonicalize() {
                Ok(found) => return found.starts_with(&self.root),
                // What is not there yet is where its parent is; but a link to nothing may get a target.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if path == self.root {
                        return true;
                    }
                    if path.is_symlink() || !path.pop() {
                        return false;
                    }
                }
                // A file on the way, or no right to look: the same error meets whoever opens it.
                Err(_) => return true,
            }
        }
    }

    /// What is below `folder` and has a key that begins with `prefix`, sorted.
    ///
    /// # Errors
    ///
    /// When a directory cannot be read.
    pub(super) fn files(&self, folder: &str, prefix: &str) -> io::Result<Vec<(String, Found)>> {
        let mut found = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            let entries = match std::fs::read_dir(self.root.join(&folder)) {
                Err(error) if is_none(&error) => continue,
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name();
                let name = name.to_string_lossy();
                let key =
                    if folder.is_empty() { name.to_string() } else { format!("{folder}/{name}") };
                let kind = entry.file_type()?;
                let (is_of, leads_to) =
                    (key.starts_with(prefix), prefix.starts_with(&format!("{key}/")));
                if kind.is_dir() && (is_of || leads_to) {
                    folders.push(key);
                } else if kind.is_symlink() && (is_of || leads_to) {
                    found.extend(self.link(&entry.path()).map(|what| (key, what)));
                } else if kind.is_file() && is_of && !is_unfinished(&name) {
                    found.push((key, Found::File));
                }
            }
        }
        found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(found)
    }

    /// What stands in `folder` itself; nothing where it is none.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read.
    pub(super) fn level(&self, folder: &str) -> io::Result<Level> {
        let mut level = Level::default();
        let entries = match std::fs::read_dir(self.root.join(folder)) {
            Err(error) if is_none(&error) => return Ok(level),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let kind = entry.file_type()?;
            if kind.is_dir() {
                level.folders.push(name.to_string());
                continue;
            }
            let is_own = kind.is_file() && !is_unfinished(&name)
                || kind.is_symlink() && self.link(&entry.path()) == Some(Found::File);
            if is_own {
                // Gone since it was listed, it is of no size, and whoever reads it hears so.
                let (bytes, tag) =
                    entry.path().metadata().map(|file| of_file(&file)).unwrap_or_default();
                let key = if folder.is_empty() { name.into() } else { format!("{folder}/{name}") };
                level.objects.push(Object { key, bytes, tag });
            }
        }
        level.folders.sort_unstable();
        Ok(level)
    }

    /// Removes a directory if it is empty; whether it did.
    pub(super) fn remove_empty(&self, folder: &str) -> bool {
        !folder.is_empty() && std::fs::remove_dir(self.root.join(folder)).is_ok()
    }

    fn link(&self, path: &Path) -> Option<Found> {
        match path.canonicalize() {
            Ok(real) if real.starts_with(&self.root) => real.is_file().then_some(Found::File),
            _ => Some(Found::Outside(path.symlink_metadata().map_or(1, |link| link.len().max(1)))),
        }
    }
}

fn is_none(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The size and the tag of a file; the tag as `object_store` makes it, which asks for a part of an object by it.
fn of_file(file: &Metadata) -> (u64, String) {
    let since = file.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let (inode, time_us, bytes) = (file.ino(), since.unwrap_or_default().as_micros(), file.len());
    (bytes, format!("\"{inode:x}-{time_us:x}-{bytes:x}\""))
}

/// Whether the store is still writing the file: `NAME#NUMBER`.
fn is_unfinished(name: &str) -> bool {
    let number = name.split_once('#').map_or("", |(_, number)| number);
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::{Buckets, Object, Options, Store, Trouble};

    #[test]
    fn no_link_leads_out_of_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir_all(root.join("buckets/mine/a/deep")).unwrap();
        std::fs::create_dir_all(root.join("outside")).unwrap();
        std::fs::write(root.join("outside/secret"), b"secret").unwrap();
        let mine = root.join("buckets/mine");
        std::fs::write(mine.join("a/own"), b"own").unwrap();
        std::fs::write(mine.join("a/half#1"), b"half").unwrap();
        symlink("../../../outside/secret", mine.join("a/file")).unwrap();
        symlink(root.join("outside"), mine.join("a/folder")).unwrap();
        symlink(root.join("outside/none"), mine.join("a/nothing")).unwrap();
        symlink("../own", mine.join("a/deep/same")).unwrap();
        symlink("..", mine.join("a/deep/round")).unwrap();
        symlink(root.join("outside"), root.join("buckets/other")).unwrap();
        let buckets =
            Buckets::open(&root.join("buckets").display().to_string(), &Options::default());
        let buckets = buckets.unwrap();
        let error = buckets.bucket("other", None).unwrap_err();
        assert_eq!(error.plain(), "cannot open other: a symbolic link leads out of its folder");
        let store = buckets.bucket("mine", None).unwrap();
        let listed: Vec<String> =
            store.objects("a/", 10).unwrap().into_iter().map(|object| object.key).collect();
        assert_eq!(listed, ["a/deep/same", "a/file", "a/folder", "a/nothing", "a/own"]);
        assert_eq!(store.list("a").unwrap(), ["a/deep/same", "a/own"]);
        let trouble = |result: Result<(), super::super::ObjectError>| {
            let error = result.unwrap_err();
            assert!(error.plain().ends_with("a symbolic link leads out of its folder"));
            error.trouble()
        };
        for key in ["a/file", "a/folder/secret", "a/folder/new", "a/nothing", "a/nothing/new"] {
            let object = Object { key: key.to_owned(), bytes: 1, tag: String::new() };
            assert_eq!(trouble(store.get(key).map(drop)), Trouble::Invalid, "{key}");
            assert_eq!(
                trouble(store.get_range(&object, 0..1).map(drop)),
                Trouble::Invalid,
                "{key}"
            );
            assert_eq!(trouble(store.put(key, vec![1])), Trouble::Invalid, "{key}");
            let put = store.put_all(&[(key, vec![1].into())], |_| ());
            assert_eq!(trouble(put), Trouble::Invalid, "{key}");
        }
        assert_eq!(trouble(store.objects("a/folder/", 1).map(drop)), Trouble::Invalid);
        assert_eq!(trouble(store.list("a/folder").map(drop)), Trouble::Invalid);
        assert_eq!(store.get("a/deep/same").unwrap(), b"own");
        store.put("a/deep/new/er", b"x".to_vec()).unwrap();
        assert_eq!(std::fs::read_dir(root.join("outside")).unwrap().count(), 1);
        // The store's own directory may be reached by a link: who made it wrote the settings.
        symlink(&mine, root.join("way")).unwrap();
        assert_eq!(Store::in_directory(&root.join("way")).unwrap().get("a/own").unwrap(), b"own");
    }
}
