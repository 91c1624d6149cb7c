//! Promise: what was acknowledged survives `kill -9`, exactly once and equal in value, and nothing is
//! there that nobody sent.
//!
//! Writers load the real binary over every way in, each with a ledger of what was acknowledged to it.
//! At random moments the process is killed, sometimes again while it recovers, started on the same
//! folder, and everything is exported and compared. Log segments, engine memory and flush interval are
//! small, so that kills fall into rotations, checkpoints, flushes and Parquet files too; shards are
//! as many as chance wants. A cycle in which too little was acknowledged proves little and does not
//! count.
//!
//! `TIDEGATE_KILL_CYCLES` sets the number of kills, `TIDEGATE_KILL_SEED` repeats the choices of a run
//! (not its timing), `TIDEGATE_TEST_BINARY` names another binary.

#[path = "common/mod.rs"]
mod common;
#[path = "kill/ledger.rs"]
mod ledger;
#[path = "kill/traffic.rs"]
mod traffic;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use serde_json::Value as Json;
use tidegate::base::clock::{Clock, SystemClock};

use common::gateway::{self, Gateway, Place};
use common::random::Random;
use common::rows::Rows;
use common::tell;
use traffic::{DATABASE, Writer};

/// Kills unless the environment says otherwise.
const CYCLES: u32 = 20;

/// Connections that write at once.
const WRITERS: usize = 6;

/// Requests that must be acknowledged in a cycle, or it does not count.
const ACKNOWLEDGED_MIN: u64 = 20;

/// Cycles of one generation: then new writers begin with new tables, so that what is read back after
/// each crash stays bounded.
const GENERATION_CYCLES: u32 = 10;

/// What the server logs when it goes over to another segment.
const ROTATED: &str = "the log goes on in a new segment";

/// Longest life of a server under load, ms; one in five lives longer, until its log is rotated.
const LIFE_MS_MAX: u64 = 1_200;
const LONG_LIFE_MS_MAX: u64 = 6_000;

/// Longest life of a server that is killed while it recovers, ms.
const RECOVERY_MS_MAX: u64 = 150;

fn settings(shards: u64) -> String {
    format!(
        r#"
        [ingest]
        version = "_version"

        [shards]
        count = {shards}

        [wal]
        segment_bytes = "49 MiB"
        bytes_max = "245 MiB"
        sync_interval = "20ms"

        [engine.embedded]
        memory_bytes_max = "16 MiB"
        flush_bytes = "2 MiB"
        flush_interval = "300ms"
        "#
    )
}

/// The test as it goes on.
struct Run {
    place: Place,
    random: Random,
    generation: u32,
    writers: Vec<Writer>,
    /// Writers of earlier generations.
    retired: Vec<(u32, Vec<Writer>)>,
    acknowledged: u64,
    slowest_start: Duration,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut run = Self {
            place: Place::new(&settings(2)),
            random: Random::new(seed),
            generation: 0,
            writers: Vec::new(),
            retired: Vec::new(),
            acknowledged: 0,
            slowest_start: Duration::ZERO,
        };
        run.next_generation();
        run
    }

    fn next_generation(&mut self) {
        let before = std::mem::take(&mut self.writers);
        if !before.is_empty() {
            self.retired.push((self.generation, before));
        }
        self.generation += 1;
        let parts = (0..WRITERS as u64).map(|at| self.random.part(at));
        self.writers = parts
            .enumerate()
            .map(|(at, random)| Writer::new(at, self.generation, random))
            .collect();
        self.random.next();
    }

    /// Starts the server, sometimes after killing it once or twice while it recovered.
    fn start(&mut self) -> Gateway {
        let clock = SystemClock::new();
        self.place.configure(&settings(self.random.within(1..5)));
        while self.random.is_one_of(25) {
            let (mut child, _) = self.place.spawn();
            clock.sleep(Duration::from_millis(self.random.within(0..RECOVERY_MS_MAX)));
            gateway::kill(&mut child);
        }
        let begin = clock.monotonic();
        let server = self.place.start();
        self.slowest_start = self.slowest_start.max(clock.monotonic().saturating_sub(begin));
        server
    }

    /// Loads the server until `end` ends it at a random moment. Returns how many requests were
    /// acknowledged.
    fn load(&mut self, server: Gateway, end: fn(Gateway)) -> u64 {
        let clock = SystemClock::new();
        let acknowledged = AtomicU64::new(0);
        let longest = if self.random.is_one_of(20) { LONG_LIFE_MS_MAX } else { LIFE_MS_MAX };
        let life = Duration::from_millis(self.random.within(20..longest));
        let address = server.address;
        std::thread::scope(|scope| {
            for writer in &mut self.writers {
                scope.spawn(|| writer.run(address, &acknowledged));
            }
            // Not to wait for anything: the moment of the crash is what is random here.
            clock.sleep(life);
            end(server);
        });
        let acknowledged = acknowledged.into_inner();
        self.acknowledged += acknowledged;
        acknowledged
    }

    /// Compares everything of this generation.
    fn check(&mut self, server: &Gateway) -> Vec<String> {
        check(server, self.generation, &mut self.writers)
    }

    /// Compares everything of all generations, and the reject sink.
    fn check_all(&mut self, server: &Gateway) -> (usize, Vec<String>) {
        self.next_generation();
        let mut wrong = Vec::new();
        let mut records = 0;
        let reported = reported_conflicts(&self.place);
        for (generation, writers) in &mut self.retired {
            wrong.extend(check(server, *generation, writers));
            wrong.extend(writers.iter().flat_map(|w| w.ledger.settle_conflicts(&reported)));
            records += writers.iter().map(|w| w.ledger.stands().len()).sum::<usize>();
        }
        let is_sent = |text: &String| {
            let mut all = self.retired.iter().flat_map(|(_, writers)| writers);
            all.any(|writer| writer.ledger.sent_conflict(text))
        };
        let invented = reported.keys().filter(|text| !is_sent(text));
        wrong.extend(invented.map(|text| format!("rejected, but nobody sent it: {text}")));
        (records, wrong)
    }
}

/// Compares the tables of a generation with what its writers know.
fn check(server: &Gateway, generation: u32, writers: &mut [Writer]) -> Vec<String> {
    let mut by_writer: HashMap<String, Rows> = HashMap::new();
    for table in ["fleet", "bulk"] {
        for (key, row) in server.export(DATABASE, &format!("{table}_{generation}")) {
            let writer = key.tags.get("writer").cloned().unwrap_or_default();
            by_writer.entry(writer).or_default().insert(key, row);
        }
    }
    let mut wrong = Vec::new();
    for writer in writers {
        let found = by_writer.remove(&writer.name).unwrap_or_default();
        wrong.extend(writer.ledger.settle(&found));
    }
    wrong.extend(by_writer.into_keys().map(|name| format!("nobody is {name:?}")));
    wrong
}

/// How many frames reported each conflict. Another number of shards after a crash may report the
/// same frame under another key, which is the same report.
fn reported_conflicts(place: &Place) -> HashMap<String, u32> {
    let mut frames: BTreeSet<(u64, String)> = BTreeSet::new();
    for path in place.files("rejects/records", ".json") {
        let bytes = std::fs::read(&path).expect("a report can be read");
        let report: Json = serde_json::from_slice(&bytes).expect("a report is JSON");
        let lsn = report["lsn"].as_u64().expect("a report names its frame");
        for record in report["records"].as_array().expect("a report lists records") {
            let text = record["record"]["MeasureValues"][0]["Value"].as_str();
            frames.insert((lsn, text.expect("a record as it came").to_owned()));
        }
    }
    let mut reported = HashMap::new();
    for (_, text) in frames {
        *reported.entry(text).or_default() += 1;
    }
    reported
}

fn cycles() -> u32 {
    let given = std::env::var("TIDEGATE_KILL_CYCLES").ok();
    given.map_or(CYCLES, |text| text.parse().expect("TIDEGATE_KILL_CYCLES is a number"))
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let seed = Random::seed_from("TIDEGATE_KILL_SEED");
    let cycles = cycles();
    tell(format!("kill: {cycles} cycles, TIDEGATE_KILL_SEED={seed}"));
    let mut run = Run::new(seed);
    let (mut counted, mut tried) = (0, 0);
    let mut server = run.start();
    // A slow machine goes on until its load has turned the log over too.
    while counted < cycles || run.place.logged(ROTATED) == 0 {
        tried += 1;
        assert!(tried <= 2 * cycles + 10, "only {counted} cycles were busy enough");
        let acknowledged = run.load(server, Gateway::kill);
        counted += u32::from(acknowledged >= ACKNOWLEDGED_MIN);
        server = run.start();
        let wrong = run.check(&server);
        assert!(wrong.is_empty(), "cycle {tried}, seed {seed}:\n{}", wrong.join("\n"));
        if tried % GENERATION_CYCLES == 0 {
            run.next_generation();
        }
    }
    // Stopped under load: requests under way are answered or not, as in a crash.
    run.load(server, Gateway::stop);
    let server = run.start();
    let (records, wrong) = run.check_all(&server);
    assert!(wrong.is_empty(), "in the end, seed {seed}:\n{}", wrong.join("\n"));
    let files = server.metric("tidegate_engine_files");
    let rotations = run.place.logged(ROTATED);
    tell(format!(
        "kill: {counted} kills, {} requests acknowledged, {records} records read back; {rotations} \
         rotations under load, {files} Parquet files, slowest start {:?}",
        run.acknowledged, run.slowest_start
    ));
    assert!(files > 0.0, "nothing was flushed; the load was too small to prove anything");
}

/// The control: a server that forgets everything must not pass.
#[test]
fn a_server_that_lost_its_data_is_found_out() {
    let mut run = Run::new(7);
    let server = run.start();
    let acknowledged = run.load(server, Gateway::kill);
    assert!(acknowledged > 0, "nothing was acknowledged, so nothing can be lost");
    std::fs::remove_dir_all(run.place.data()).unwrap();
    let server = run.start();
    assert!(!run.check(&server).is_empty(), "the loss was not noticed");
}
