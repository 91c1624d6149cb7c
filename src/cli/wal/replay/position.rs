//! How far a replay got: a file that is replaced as a whole, or a line for each acknowledged request.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::super::Failure;
use super::super::super::client::Address;
use crate::base::fs;
use crate::base::lsn::Lsn;

/// Where a replay goes on.
#[derive(Debug)]
pub(super) struct Position {
    /// `None` prints it instead.
    file: Option<PathBuf>,
    written: Written,
    /// Whether the file was there.
    was_there: bool,
}

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    /// The first LSN that is not acknowledged with all its records.
    next_lsn: u64,
    /// The log's folder.
    log: PathBuf,
    /// The server.
    to: String,
    /// The segment of the last acknowledged frame: another log in the same folder has others.
    #[serde(default)]
    segment: Option<Life>,
}

/// A segment's number and the random number of its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Life {
    pub(super) number: u64,
    pub(super) generation: u64,
}

impl Position {
    /// Reads the position of a replay of `log` to the server at `to`.
    pub(super) fn open(file: Option<&Path>, log: &Path, to: &Address) -> Result<Self, Failure> {
        let log = log.canonicalize().unwrap_or_else(|_gone| log.to_owned());
        let own = Written { next_lsn: 0, log, to: to.to_string(), segment: None };
        let found = match file.map(std::fs::read) {
            None => None,
            Some(Ok(bytes)) => Some(bytes),
            Some(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => None,
            Some(Err(error)) => return Err(unusable(file, &error.to_string())),
        };
        let file_name = file.map(Path::to_owned);
        let Some(bytes) = found else {
            return Ok(Self { file: file_name, written: own, was_there: false });
        };
        let written: Written =
            serde_json::from_slice(&bytes).map_err(|error| unusable(file, &error.to_string()))?;
        if (&written.log, &written.to) != (&own.log, &own.to) {
            let what = format!("it is of {} to {}", written.log.display(), written.to);
            return Err(unusable(file, &what));
        }
        Ok(Self { file: file_name, written, was_there: true })
    }

    /// From where to go on; `None` where nothing was sent before.
    pub(super) fn next(&self) -> Option<Lsn> {
        self.was_there.then_some(Lsn(self.written.next_lsn))
    }

    /// The segment of the last acknowledged frame, where the file says it.
    pub(super) fn life(&self) -> Option<Life> {
        self.written.segment
    }

    /// Says that all before `next` is acknowledged, the last of it in the segment `life`. One that is
    /// not later than the last changes nothing.
    pub(super) fn set(&mut self, next: Lsn, life: Option<Life>) -> Result<(), Failure> {
        if next.0 <= self.written.next_lsn {
            return Ok(());
        }
        self.written.next_lsn = next.0;
        self.written.segment = life;
        let Some(file) = &self.file else {
            return super::super::print(&format!("go on from LSN {next}\n"));
        };
        let text = serde_json::to_string(&self.written).expect("texts and a number are JSON");
        fs::replace(file, (text + "\n").as_bytes())
            .map_err(|error| unusable(Some(file), &error.to_string()))
    }
}

fn unusable(file: Option<&Path>, what: &str) -> Failure {
    let file = file.unwrap_or_else(|| Path::new("")).display();
    Failure::failed(format!("--position {file}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::client::Trust;

    fn address(url: &str) -> Address {
        Address::parse("--to", url, &Trust::default()).unwrap()
    }

    #[test]
    fn a_position_reads_back_for_its_own_log_and_server_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("position.json");
        let (log, to) = (dir.path().join("wal"), address("http://a:1"));
        let mut position = Position::open(Some(&file), &log, &to).unwrap();
        assert_eq!(position.next(), None);
        position.set(Lsn(7), None).unwrap();
        let life = Some(Life { number: 2, generation: u64::MAX });
        position.set(Lsn(9), life).unwrap();
        assert_eq!(Position::open(Some(&file), &log, &to).unwrap().life(), life);
        assert_eq!(Position::open(Some(&file), &log, &to).unwrap().next(), Some(Lsn(9)));
        let other = [(dir.path().join("wal2"), to), (log.clone(), address("http://a:2"))];
        for (log, to) in other {
            let Err(Failure::Failed(error)) = Position::open(Some(&file), &log, &to) else {
                panic!("taken for {} to {to}", log.display())
            };
            assert!(error.to_string().contains("it is of"), "{error}");
        }
        std::fs::write(&file, b"{").unwrap();
        assert!(Position::open(Some(&file), &log, &address("http://a:1")).is_err());
    }
}
