//! A run of crashes: writers load a server, it ends at a random moment, starts again on the same
//! folder, and everything is read back and compared.

use std::collections::{BTreeSet, HashMap};
use std::process::Child;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use serde_json::Value as Json;
use tidegate::base::clock::{Clock, SystemClock};

use crate::common::gateway::{self, Gateway, Place};
use crate::common::random::Random;
use crate::common::rows::Rows;
use crate::common::volume::Volume;
use crate::common::wait_for;
use crate::traffic::{DATABASE, Levels, Writer};

/// Connections that write at once.
const WRITERS: usize = 6;

/// Requests that must be acknowledged in a cycle, or it does not count.
pub(crate) const ACKNOWLEDGED_MIN: u64 = 20;

/// Cycles of one generation: then new writers begin with new tables, so that what is read back after
/// each crash stays bounded.
pub(crate) const GENERATION_CYCLES: u32 = 10;

/// What the server logs when it goes over to another segment.
pub(crate) const ROTATED: &str = "the log goes on in a new segment";

/// Longest life of a server under load, ms.
const LIFE_MS_MAX: u64 = 1_200;

/// Of so many lives the second goes on until the load has rotated the log, however slow the machine
/// is, and then for at most so many ms: otherwise a run may never meet the crash that follows a
/// rotation, and would not say so.
pub(crate) const ROTATION_LIVES: u32 = 10;
const ROTATED_MS_MAX: u64 = 150;

/// Longest time until the load has rotated the log, on a busy machine.
const ROTATION_MAX: Duration = Duration::from_mins(3);

/// Longest life of a server that is killed while it recovers, ms.
const RECOVERY_MS_MAX: u64 = 150;

/// Small segments, memory and intervals, so that a short life meets every kind of moment.
pub(crate) fn settings(shards: u64) -> String {
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
pub(crate) struct Run {
    pub(crate) place: Place,
    /// Below the data; then a crash is a power cut.
    volume: Option<Volume>,
    levels: Levels,
    random: Random,
    generation: u32,
    writers: Vec<Writer>,
    /// Writers of earlier generations.
    retired: Vec<(u32, Vec<Writer>)>,
    /// Servers that were loaded.
    lives: u32,
    /// How often the log was rotated under load.
    pub(crate) rotations: usize,
    /// Requests.
    pub(crate) acknowledged: u64,
    pub(crate) slowest_start: Duration,
}

impl Run {
    /// A run whose requests ask for one of `levels`; on a `volume`, whose power is then cut.
    pub(crate) fn new(levels: Levels, volume: Option<Volume>, seed: u64) -> Self {
        let settings = settings(2);
        let place = match &volume {
            Some(volume) => Place::on(volume, &settings),
            None => Place::new(&settings),
        };
        let mut run = Self {
            place,
            volume,
            levels,
            random: Random::new(seed),
            generation: 0,
            writers: Vec::new(),
            retired: Vec::new(),
            lives: 0,
            rotations: 0,
            acknowledged: 0,
            slowest_start: Duration::ZERO,
        };
        run.next_generation();
        run
    }

    /// Begins new writers with new tables.
    pub(crate) fn next_generation(&mut self) {
        let before = std::mem::take(&mut self.writers);
        if !before.is_empty() {
            self.retired.push((self.generation, before));
        }
        self.generation += 1;
        let parts = (0..WRITERS as u64).map(|at| self.random.part(at));
        self.writers = parts
            .enumerate()
            .map(|(at, random)| Writer::new(at, self.generation, self.levels, random))
            .collect();
        self.random.next();
    }

    /// Starts the server, sometimes after a crash or two while it recovered.
    pub(crate) fn start(&mut self) -> Gateway {
        let clock = SystemClock::new();
        self.place.configure(&settings(self.random.within(1..5)));
        while self.random.is_one_of(25) {
            let (mut child, _) = self.place.spawn();
            clock.sleep(Duration::from_millis(self.random.within(0..RECOVERY_MS_MAX)));
            self.crash(&mut child);
        }
        let begin = clock.monotonic();
        let server = self.place.start();
        self.slowest_start = self.slowest_start.max(clock.monotonic().saturating_sub(begin));
        server
    }

    /// Ends a server by SIGKILL; on a volume by a power cut.
    fn crash(&self, child: &mut Child) {
        let Some(volume) = &self.volume else { return gateway::kill(child) };
        cut(child, volume);
    }

    /// Loads the server until it crashes at a random moment. Returns how many requests were
    /// acknowledged.
    pub(crate) fn load_and_crash(&mut self, server: Gateway) -> u64 {
        self.load(server, |run, server| server.end(|child| run.crash(child)))
    }

    /// Loads the server until it is asked to stop at a random moment: requests under way are answered
    /// or not, as in a crash.
    pub(crate) fn load_and_stop(&mut self, server: Gateway) -> u64 {
        self.load(server, |_run, server| server.stop())
    }

    fn load(&mut self, server: Gateway, end: impl FnOnce(&Self, Gateway)) -> u64 {
        let clock = SystemClock::new();
        let acknowledged = AtomicU64::new(0);
        self.lives += 1;
        let waits = self.lives % ROTATION_LIVES == 2;
        let longest = if waits { ROTATED_MS_MAX } else { LIFE_MS_MAX };
        let life = Duration::from_millis(self.random.within(20..longest));
        let (address, log) = (server.address, server.log());
        let begun = log.count(ROTATED);
        let mut writers = std::mem::take(&mut self.writers);
        std::thread::scope(|scope| {
            for writer in &mut writers {
                scope.spawn(|| writer.run(address, &acknowledged));
            }
            if waits {
                let rotated = || (log.count(ROTATED) > begun).then_some(());
                wait_for("the load to rotate the log", ROTATION_MAX, rotated);
            }
            // Not to wait for anything: the moment of the crash is what is random here.
            clock.sleep(life);
            end(self, server);
        });
        self.writers = writers;
        self.rotations += log.count(ROTATED) - begun;
        let acknowledged = acknowledged.into_inner();
        self.acknowledged += acknowledged;
        acknowledged
    }

    /// Compares everything of this generation.
    pub(crate) fn check(&mut self, server: &Gateway) -> Vec<String> {
        check(server, self.generation, &mut self.writers)
    }

    /// Compares everything of all generations, and the reject sink.
    pub(crate) fn check_all(&mut self, server: &Gateway) -> (usize, Vec<String>) {
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

/// Cuts the power of the volume below a server, and mounts it again.
pub(crate) fn cut(child: &mut Child, volume: &Volume) {
    // Frozen first: what it answers after the cut would look like a loss, since a sync under way may
    // end well while the file system shuts down.
    gateway::freeze(child);
    volume.cut();
    gateway::kill(child);
    volume.remount();
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
        for record in report["records"].as_array().expect("a report lists records") {
            let lsn = record["lsn"].as_u64().expect("a rejection names its frame");
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
