//! One level of a store: the folders and objects of a folder, and nothing below them.

use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};

use super::{Object, ObjectError, PUTS_MAX, Store};

/// What stands in a folder itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Level {
    /// The names of the folders in it, sorted; of a directory also those that are empty.
    pub folders: Vec<String>,
    /// The objects in it, in no order.
    pub objects: Vec<Object>,
}

impl Store {
    /// What stands in each of these folders, many asked for at once; in their order. A folder that there
    /// is not holds nothing.
    ///
    /// # Errors
    ///
    /// The first [`ObjectError`].
    pub fn levels(&self, folders: &[String]) -> Result<Vec<Level>, ObjectError> {
        let paths: Vec<Key> =
            folders.iter().map(|folder| self.key("list", folder)).collect::<Result<_, _>>()?;
        let one = |(path, folder): (Key, &String)| self.level(path, folder.clone());
        let asked: Vec<_> = paths.into_iter().zip(folders).map(one).collect();
        let all = futures_util::stream::iter(asked).buffered(PUTS_MAX);
        self.runtime.block_on(all.try_collect())
    }

    async fn level(&self, path: Key, folder: String) -> Result<Level, ObjectError> {
        if let Some(root) = &self.folder {
            let (root, key) = (std::sync::Arc::clone(root), path.to_string());
            let read = tokio::task::spawn_blocking(move || root.level(&key));
            let listed = async {
                let read = read.await?;
                let broken = |source| object_store::Error::Generic {
                    store: "directory",
                    source: Box::new(source),
                };
                read.map_err(broken)
            };
            return self.timed("list", &folder, listed).await;
        }
        let listed = self.inner.list_with_delimiter(Some(&path));
        let listed = self.timed("list", &folder, listed).await?;
        let name = |folder: &Key| folder.filename().map(str::to_owned);
        let mut folders: Vec<String> = listed.common_prefixes.iter().filter_map(name).collect();
        folders.sort_unstable();
        let objects = listed.objects.into_iter().map(Object::in_cloud).collect();
        Ok(Level { folders, objects })
    }

    /// Removes objects, many at once and in no order; one that is gone already is no error. Calls `removed`
    /// for each.
    ///
    /// # Errors
    ///
    /// The first [`ObjectError`]; others may be removed by then.
    pub fn delete_all(
        &self,
        keys: &[String],
        mut removed: impl FnMut(),
    ) -> Result<(), ObjectError> {
        let paths: Vec<Key> =
            keys.iter().map(|key| self.key("delete", key)).collect::<Result<_, _>>()?;
        let one = |(path, key): (Key, String)| async move {
            let deleted = async {
                match self.inner.delete(&path).await {
                    Err(object_store::Error::NotFound { .. }) => Ok(()),
                    deleted => deleted,
                }
            };
            self.timed("delete", &key, deleted).await
        };
        let asked: Vec<_> = paths.into_iter().zip(keys.iter().cloned()).map(one).collect();
        let mut all = futures_util::stream::iter(asked).buffer_unordered(PUTS_MAX);
        self.runtime.block_on(async {
            while let Some(deleted) = all.next().await {
                deleted?;
                removed();
            }
            Ok(())
        })
    }

    /// Removes the directory `folder` and those above it up to `top`, as far as they are empty; a cloud has
    /// none. What stands in the way is left.
    pub fn remove_empty(&self, folder: &str, top: &str) {
        let Some(root) = &self.folder else { return };
        let mut folder = folder;
        while folder.len() > top.len() && self.key("delete", folder).is_ok() {
            if !root.remove_empty(folder) {
                break;
            }
            folder = folder.rsplit_once('/').map_or("", |(above, _)| above);
        }
    }

    /// Whether it is a cloud, whose answers take a while.
    pub const fn is_cloud(&self) -> bool {
        self.folder.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_shows_what_stands_in_a_folder_and_nothing_below() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::in_directory(dir.path()).unwrap();
        for key in ["a/b/1", "a/b/2", "a/c/1", "a/x"] {
            store.put(key, b"abc".to_vec()).unwrap();
        }
        std::fs::write(dir.path().join("a/y#1"), b"half").unwrap();
        let levels = store.levels(&["a".to_owned(), "none".to_owned(), "a/b".to_owned()]).unwrap();
        let keys = |at: usize| {
            let objects = levels[at].objects.iter();
            let mut keys: Vec<_> =
                objects.map(|object| (object.key.as_str(), object.bytes)).collect();
            keys.sort_unstable();
            keys
        };
        assert_eq!(levels[0].folders, ["b", "c"]);
        assert_eq!(keys(0), [("a/x", 3)]);
        assert_eq!(levels[1], Level::default());
        assert_eq!(keys(2), [("a/b/1", 3), ("a/b/2", 3)]);
        let mut count = 0;
        store.delete_all(&["a/b/1".into(), "a/b/2".into(), "a/b/3".into()], || count += 1).unwrap();
        assert_eq!(count, 3, "what is gone already is no error");
        store.remove_empty("a/b", "a");
        store.remove_empty("a/c", "a");
        assert_eq!(store.levels(&["a".to_owned()]).unwrap()[0].folders, ["c"]);
    }

    #[test]
    fn a_folder_that_is_gone_is_no_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("sink");
        let store = Store::in_directory(&root).unwrap();
        store.put("a/b", b"abc".to_vec()).unwrap();
        let elsewhere = dir.path().join("elsewhere");
        crate::base::fs::publish(&root, &elsewhere).unwrap();
        let errors = [
            store.levels(&["a".to_owned()]).unwrap_err(),
            store.put("a/c", b"abc".to_vec()).unwrap_err(),
            store.get("a/b").unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.trouble(), crate::object::Trouble::Away);
            assert!(error.plain().contains("its folder is gone"), "{}", error.plain());
        }
        assert!(!root.exists(), "no other is made");
        crate::base::fs::publish(&elsewhere, &root).unwrap();
        assert_eq!(store.get("a/b").unwrap(), b"abc"[..]);
    }
}
