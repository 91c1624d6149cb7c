//! Tasks on disk: a file each, replaced whole, so that counts and the position that they belong to are
//! never apart.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::error;

use super::task::{Task, Work};
use crate::base::fs;

/// The form of the files.
const FORMAT: u32 = 1;

const ENDING: &str = "json";

/// The folder of the tasks.
#[derive(Debug, Clone)]
pub(super) struct Book {
    dir: PathBuf,
}

#[derive(Serialize)]
struct Written<'t> {
    format: u32,
    task: &'t Task,
    work: &'t Work,
}

#[derive(Deserialize)]
struct Read {
    format: u32,
    task: Task,
    work: Work,
}

impl Book {
    /// The tasks in `dir`, which is made where it is missing. A file that cannot be read is told and left
    /// as it is: it is one task's, and the others go on.
    pub(super) fn open(dir: &Path) -> io::Result<(Self, Vec<Task>)> {
        fs::create_dir_all(dir)?;
        let book = Self { dir: dir.to_owned() };
        let mut tasks = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == &fs::TEMPORARY_SUFFIX[1..]) {
                std::fs::remove_file(&path)?;
            } else if path.extension().is_some_and(|ending| ending == ENDING) {
                match read(&path) {
                    Ok((task, _work)) => tasks.push(task),
                    Err(error) => {
                        let file = path.display();
                        error!(%file, %error, "the file of a load task cannot be read; it is left out");
                    }
                }
            }
        }
        tasks.sort_by(|a: &Task, b| (a.created_ns, &a.id).cmp(&(b.created_ns, &b.id)));
        Ok((book, tasks))
    }

    /// Writes a task whole; it is durable on return.
    pub(super) fn save(&self, task: &Task, work: &Work) -> io::Result<()> {
        let written = Written { format: FORMAT, task, work };
        fs::replace(&self.path(&task.id), &serde_json::to_vec(&written)?)
    }

    pub(super) fn load(&self, id: &str) -> io::Result<(Task, Work)> {
        read(&self.path(id))
    }

    pub(super) fn forget(&self, id: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(id))
    }

    fn path(&self, id: &str) -> PathBuf {
        self.dir.join(id).with_extension(ENDING)
    }
}

fn read(path: &Path) -> io::Result<(Task, Work)> {
    let read: Read = serde_json::from_slice(&std::fs::read(path)?)?;
    if read.format != FORMAT {
        let found = read.format;
        return Err(io::Error::other(format!("form {found}, and this build reads {FORMAT}")));
    }
    Ok((read.task, read.work))
}
