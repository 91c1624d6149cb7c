//! What is wrong between sections that are right by themselves.

use std::path::{Component, Path, PathBuf};

use super::Config;
use crate::engine::Kind;

/// Every contradiction that stands in the way of a socket only, as `key: what is wrong`.
pub(super) fn of_the_socket(config: &Config) -> Vec<String> {
    let mut problems = Vec::new();
    let (inflated, memory) = (config.server.inflated_bytes_max, config.ingest.memory_bytes_max);
    if inflated > memory {
        problems.push(format!(
            "ingest.memory_bytes_max: {memory} is less than server.inflated_bytes_max {inflated}, so the \
             largest request could never be admitted"
        ));
    }
    let (auth, listen) = (&config.auth, config.server.listen);
    if !auth.is_sufficient_for(listen) {
        problems.push(format!(
            "server.listen: {listen} can be reached from other machines, and nobody has to say who they are: \
             set auth.tokens, auth.users or auth.access_keys, or write auth.anonymous = true"
        ));
    }
    if !config.metrics.anonymous && !auth.names_bearers() {
        problems.push(
            "metrics.anonymous: false, and nobody could say who they are: set auth.tokens or auth.users"
                .to_owned(),
        );
    }
    if !config.metrics.anonymous && auth.anonymous {
        problems.push(
            "metrics.anonymous: false, but auth.anonymous = true lets everybody in: leave one of them out"
                .to_owned(),
        );
    }
    problems
}

/// Whether a URL of a store is a folder, and which.
fn folder_of(url: &str) -> Option<&Path> {
    let path = url.strip_prefix("file://").unwrap_or(url);
    (!path.contains("://")).then(|| Path::new(path))
}

/// Folders that are one another, or lie in one another: each has files that another one would take for
/// its own, remove or serve.
pub(super) fn folders(config: &Config) -> Vec<String> {
    let config = config.clone().placed();
    let data = settled(&config.data_dir);
    let mut own = vec![("wal.dir", config.wal.dir.as_path())];
    match config.engine.kind {
        Kind::Embedded => own.push(("engine.embedded.dir", &config.engine.embedded.dir)),
        Kind::Timestream => own.push(("engine.timestream.dir", &config.engine.timestream.dir)),
        Kind::Postgres => {}
    }
    for (key, url) in
        [("rejects.url", &config.rejects.url), ("batch_load.url", &config.batch_load.url)]
    {
        own.extend(folder_of(url).map(|folder| (key, folder)));
    }
    let own: Vec<(&str, PathBuf)> = own.into_iter().map(|(key, dir)| (key, settled(dir))).collect();
    let mut problems = Vec::new();
    for (at, (key, dir)) in own.iter().enumerate() {
        let shown = dir.display();
        if data == *dir {
            problems.push(format!("{key}: {shown} is data_dir itself; name a folder of its own"));
        } else if data.starts_with(dir) {
            problems.push(format!("{key}: data_dir {} lies in {shown}", data.display()));
        }
        for (other, theirs) in &own[..at] {
            let shown_theirs = theirs.display();
            let what = match (dir == theirs, dir.starts_with(theirs), theirs.starts_with(dir)) {
                (true, ..) => format!("{shown} is {other} too"),
                (_, true, _) => format!("{shown} lies in {other}, {shown_theirs}"),
                (_, _, true) => format!("{other}, {shown_theirs}, lies in {shown}"),
                _ => continue,
            };
            problems.push(format!("{key}: {what}; each needs a folder of its own"));
        }
    }
    problems
}

/// A path as far as it can be known before it is there: absolute, without links and without `..`.
fn settled(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_empty| path.to_owned());
    let mut settled = PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::ParentDir => drop(settled.pop()),
            part => settled.push(part),
        }
        // Where there is nothing yet, there is no link either.
        settled = settled.canonicalize().unwrap_or(settled);
    }
    settled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_settled_through_links_and_steps_back() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("a")).unwrap();
        std::os::unix::fs::symlink(real.join("a"), real.join("link")).unwrap();
        for (path, expected) in
            [("link/new", "a/new"), ("new/../a", "a"), ("a/./b", "a/b"), ("link/..", "")]
        {
            let found = settled(&real.join(path));
            assert_eq!(
                found.components().collect::<PathBuf>(),
                real.join(expected).components().collect::<PathBuf>()
            );
        }
    }
}
