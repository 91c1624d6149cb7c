//! Promise: what was acknowledged survives `kill -9`, exactly once and equal in value, and nothing is
//! there that nobody sent.
//!
//! Writers load the real binary over every way in, each with a ledger of what was acknowledged to it.
//! At random moments the process is killed, sometimes again while it recovers, started on the same
//! folder, and everything is exported and compared. Log segments, engine memory and flush interval are
//! small, so that kills fall into rotations, checkpoints, flushes and Parquet files too; one life in
//! ten lasts until the load has rotated the log, so that a run on a slow machine meets that as well.
//! Shards are as many as chance wants. A cycle in which too little was acknowledged proves little and
//! does not count.
//!
//! `TIDEGATE_KILL_CYCLES` sets the number of kills, `TIDEGATE_KILL_SEED` repeats the choices of a run
//! (not its timing), `TIDEGATE_TEST_BINARY` names another binary.

#[path = "common/mod.rs"]
mod common;
#[path = "kill/ledger.rs"]
mod ledger;
#[path = "kill/run.rs"]
mod run;
#[path = "kill/traffic.rs"]
mod traffic;

use common::random::Random;
use common::tell;
use run::{ACKNOWLEDGED_MIN, GENERATION_CYCLES, ROTATION_LIVES, Run};
use traffic::Levels;

/// Kills unless the environment says otherwise.
const CYCLES: u32 = 20;

/// Every way to ask how durable a write is; half of them say nothing.
const LEVELS: Levels =
    &[None, None, None, Some("memory"), Some("interval"), Some("sync"), Some("applied")];

fn cycles() -> u32 {
    let given = std::env::var("TIDEGATE_KILL_CYCLES").ok();
    given.map_or(CYCLES, |text| text.parse().expect("TIDEGATE_KILL_CYCLES is a number"))
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let seed = Random::seed_from("TIDEGATE_KILL_SEED");
    let cycles = cycles();
    tell(format!("kill: {cycles} cycles, TIDEGATE_KILL_SEED={seed}"));
    let mut run = Run::new(LEVELS, None, seed);
    let (mut counted, mut tried) = (0, 0);
    let mut server = run.start();
    while counted < cycles {
        tried += 1;
        assert!(tried <= 2 * cycles + 10, "only {counted} cycles were busy enough");
        let acknowledged = run.load_and_crash(server);
        counted += u32::from(acknowledged >= ACKNOWLEDGED_MIN);
        server = run.start();
        let wrong = run.check(&server);
        assert!(wrong.is_empty(), "cycle {tried}, seed {seed}:\n{}", wrong.join("\n"));
        if tried % GENERATION_CYCLES == 0 {
            run.next_generation();
        }
    }
    run.load_and_stop(server);
    let server = run.start();
    let (records, wrong) = run.check_all(&server);
    assert!(wrong.is_empty(), "in the end, seed {seed}:\n{}", wrong.join("\n"));
    let files = server.metric("tidegate_engine_files");
    let rotations = run.rotations;
    tell(format!(
        "kill: {counted} kills, {} requests acknowledged, {records} records read back; {rotations} \
         rotations under load, {files} Parquet files, slowest start {:?}",
        run.acknowledged, run.slowest_start
    ));
    assert!(files > 0.0, "nothing was flushed; the load was too small to prove anything");
    let rotations_min = usize::try_from(counted.div_ceil(ROTATION_LIVES)).expect("a small number");
    assert!(rotations >= rotations_min, "only {rotations} rotations under load");
}

/// The control: a server that forgets everything must not pass.
#[test]
fn a_server_that_lost_its_data_is_found_out() {
    let mut run = Run::new(LEVELS, None, 7);
    let server = run.start();
    let acknowledged = run.load_and_crash(server);
    assert!(acknowledged > 0, "nothing was acknowledged, so nothing can be lost");
    std::fs::remove_dir_all(run.place.data()).unwrap();
    let server = run.start();
    assert!(!run.check(&server).is_empty(), "the loss was not noticed");
}
