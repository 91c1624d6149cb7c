//! Start and stop where something is not as it should be.

use std::time::Instant;

use super::*;
use crate::ingest::{Ask, Durability, Partial, Protocol, Receipt};
use crate::protocol::line;

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

/// Its first frames would get the numbers of frames that are stored, and be left out as stored.
#[test]
fn a_log_that_ends_before_what_is_stored_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut core = Core::open(&config(dir.path())).unwrap();
    write(&core, "m,site=a v=1 1", Durability::Applied);
    core.close();
    drop(core);
    std::fs::remove_dir_all(dir.path().join("wal")).unwrap();
    let refused = Core::open(&config(dir.path())).map(drop);
    let Err(StartError::LogBehind { stored, durable, .. }) = refused else {
        panic!("started: {refused:?}")
    };
    assert_eq!((stored, durable), (Lsn(1), Lsn::ZERO));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "what is measured is real time")]
fn a_stop_does_not_wait_for_a_sink_that_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let mut core = Core::open(&config(dir.path())).unwrap();
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
