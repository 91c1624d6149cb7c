//! What does the whole way of a record cost in one process: text in, synced in the log, readable in
//! the engine?
//!
//! Estimate for a line of ten tags and ten fields (347 bytes): 400 ns to decode, 300 to encode, 30 to
//! log, 100 to batch, 300 to write: 1.1 us of CPU, on two cores about 1.5 million lines a second while
//! the syncs hide behind them. Machine and figures: `benches/README.md`.

#[path = "common/lines.rs"]
mod lines;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tidegate::config::Config;
use tidegate::ingest::{Ask, Durability, Partial, Protocol};
use tidegate::protocol::line;
use tidegate::server::{Core, Purpose};

const LINES: u64 = 5_000;

fn way(c: &mut Criterion) {
    let dir =
        tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder on the target's disk");
    let config = Config { data_dir: dir.path().to_owned(), ..Config::default() };
    let core = Core::open(&config, Purpose::Serve).expect("an empty folder opens");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut step = 0;
    let mut group = c.benchmark_group("way");
    for (name, durability) in [("synced", Durability::Sync), ("applied", Durability::Applied)] {
        group.throughput(Throughput::Elements(LINES));
        group.bench_function(name, |b| {
            b.iter_batched(
                || {
                    step += 1;
                    lines::body(step, LINES)
                },
                |text| {
                    let ask = Ask {
                        protocol: Protocol::Line,
                        database: "bench",
                        received_ns: core.ingest.received_ns(),
                        body_bytes: text.len(),
                        durability: Some(durability),
                        partial: Partial::Accept,
                        reading: None,
                    };
                    let options = line::Options::new("bench", ask.received_ns);
                    let accepted = core.ingest.accept(&ask, |sink| {
                        line::decode(text.as_bytes(), &options, sink);
                    });
                    let receipt = runtime.block_on(accepted).expect("the log takes it");
                    assert_eq!((receipt.accepted, receipt.refused), (LINES, 0));
                },
                criterion::BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, way);
criterion_main!(benches);
