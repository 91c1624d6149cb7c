//! Start and stop where something is not as it should be.

use std::time::Instant;

use super::*;
use crate::ingest::{Ask, Durability, Partial, Protocol, Receipt};
use crate::protocol::line;
use crate::record::TableId;

/// Far less than anything waits for in vain.
const STOP_MAX: Duration = Duration::from_mins(1);

fn config(dir: &Path) -> Config {
    let mut config = Config { data_dir: dir.to_owned(), ..Config::default() };
    config.shards.count = 1;
    config
}

fn write(core: &Core, text: &str, durability: Durability) -> Receipt {
    let received_ns = core.ingest.received_ns();
    let ask = Ask {
        protocol: Protocol::Line,
        database: "d",
        reading: None,
        received_ns,
        body_bytes: text.len(),
        durability: Some(durability),
        partial: Partial::Accept,
    };
    let options = line::Options::new("d", received_ns);
    let accepted = core.ingest.accept(&ask, |sink| line::decode(text.as_bytes(), &options, sink));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(accepted).unwrap()
}

/// Writes one record, and stops: it is in the files, and the checkpoint says so.
fn stopped_with_a_record(dir: &Path) {
    let mut core = Core::open(&config(dir), Purpose::Serve).unwrap();
    write(&core, "m,site=a v=1 1", Durability::Applied);
    core.close();
}

/// Writes one record that stays in the log alone.
fn killed_with_a_record(dir: &Path) {
    let core = Core::open(&config(dir), Purpose::Serve).unwrap();
    write(&core, "m,site=a v=1 1", Durability::Applied);
    // As SIGKILL would: nothing of it may be flushed.
    copy_of(dir, &dir.with_extension("copy"));
    drop(core);
    std::fs::remove_dir_all(dir).unwrap();
    copy_of(&dir.with_extension("copy"), dir);
}

fn copy_of(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_of(&entry.path(), &target);
        } else {
            // A file that a thread replaces meanwhile is not there in any image of a kill either.
            match std::fs::copy(entry.path(), target) {
                Err(gone) if gone.kind() == std::io::ErrorKind::NotFound => {}
                copied => drop(copied.unwrap()),
            }
        }
    }
}

fn refused(dir: &Path) -> StartError {
    Core::open(&config(dir), Purpose::Serve).map(drop).expect_err("it starts")
}

/// Its first frames would get the numbers of frames that are stored, and be left out as stored.
#[test]
fn a_log_that_ends_before_what_is_stored_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let (dir, other) = (place.path().join("data"), place.path().join("other"));
    stopped_with_a_record(&dir);
    drop(Core::open(&config(&other), Purpose::Serve).unwrap());
    std::fs::remove_dir_all(dir.join("wal")).unwrap();
    copy_of(&other.join("wal"), &dir.join("wal"));
    let StartError::LogBehind { stored, durable, .. } = refused(&dir) else { panic!() };
    assert_eq!((stored, durable), (Lsn(1), Lsn::ZERO));
}

/// What the lost log held would be missed by nobody.
#[test]
fn no_log_is_begun_beside_tables() {
    for end in [stopped_with_a_record, killed_with_a_record] {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("data");
        end(&dir);
        for name in ["checkpoint", "00000000000000000001.wal"] {
            assert!(dir.join("wal").join(name).is_file(), "{name}");
        }
        std::fs::remove_dir_all(dir.join("wal")).unwrap();
        // Twice: the first refusal makes nothing that a second start takes for a log.
        for _ in 0..2 {
            assert!(matches!(refused(&dir), StartError::LogMissing { .. }));
        }
        std::fs::create_dir(dir.join("wal")).unwrap();
        assert!(matches!(refused(&dir), StartError::LogMissing { .. }));
    }
}

#[test]
fn a_start_that_was_cut_between_log_and_catalog_is_gone_on_with() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("data");
    drop(Core::open(&config(&dir), Purpose::Serve).unwrap());
    std::fs::remove_file(dir.join("catalog.log")).unwrap();
    std::fs::remove_file(dir.join("tables/manifest.json")).unwrap();
    drop(Core::open(&config(&dir), Purpose::Serve).unwrap());
    std::fs::remove_dir_all(dir.join("wal")).unwrap();
    drop(Core::open(&config(&dir), Purpose::Serve).unwrap());
}

#[test]
fn no_tables_are_begun_where_the_log_says_that_there_are_some() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("data");
    stopped_with_a_record(&dir);
    let tables = config(&dir).placed().engine.embedded.dir;
    let away = place.path().join("away");
    copy_of(&tables, &away);
    std::fs::remove_dir_all(&tables).unwrap();
    let error = refused(&dir);
    assert!(matches!(&error, StartError::TablesMissing { stored: Lsn(1), .. }), "{error}");
    assert!(!tables.exists(), "nothing is made in the place of what may be mounted there");
    copy_of(&away, &tables);
    drop(Core::open(&config(&dir), Purpose::Serve).unwrap());
}

/// The next table would get the number, and the records with it.
#[test]
fn a_catalog_without_a_table_of_the_log_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("data");
    killed_with_a_record(&dir);
    let catalog = dir.join("catalog.log");
    let whole = std::fs::read(&catalog).unwrap();
    let lines = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let header = lines.map(|(at, _)| at + 1).next().unwrap();
    for cut in [None, Some(0), Some(header)] {
        match cut {
            None => std::fs::remove_file(&catalog).unwrap(),
            Some(bytes) => std::fs::write(&catalog, &whole[..bytes]).unwrap(),
        }
        let error = refused(&dir);
        let is_it =
            matches!(&error, StartError::CatalogBehind { lsn: Lsn(1), table: TableId(1), .. });
        assert!(is_it && error.to_string().contains("catalog.log"), "{cut:?}: {error}");
    }
    std::fs::write(&catalog, &whole).unwrap();
    let core = Core::open(&config(&dir), Purpose::Serve).unwrap();
    assert!(core.wait_replayed());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "what is measured is real time")]
fn a_stop_does_not_wait_for_a_sink_that_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let mut core = Core::open(&config(dir.path()), Purpose::Serve).unwrap();
    write(&core, "m,site=a v=1 1", Durability::Applied);
    let sink = dir.path().join("rejects");
    std::fs::remove_dir_all(&sink).unwrap();
    std::fs::write(&sink, b"in the way").unwrap();
    // Another value at the same version: the shard is left with a rejection that it cannot report.
    let lsn = write(&core, "m,site=a v=2 1", Durability::Sync).lsn.unwrap();
    while core.metrics.reject_retries.get() == 0 {
        core.clock.sleep(Duration::from_millis(2));
    }
    let started = Instant::now();
    core.close();
    assert!(started.elapsed() < STOP_MAX, "it took {:?}", started.elapsed());
    // Neither executed nor given up: the next start reports it.
    assert_eq!(core.wal.marks().applied, lsn.previous());
}
