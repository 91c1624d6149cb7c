//! What is told of the log's work, for metrics.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::super::disk::sim::{Kind, SimDisk};
use super::super::{Commit, Durability, Observer, locked, prepare};
use super::Machine;

/// Keeps what it hears.
#[derive(Debug, Default)]
struct Heard(Mutex<Vec<Commit>>);

impl Observer for Heard {
    fn committed(&self, commit: &Commit) {
        locked(&self.0).push(*commit);
    }
}

/// A rotation syncs the segment before and the header of the next, and a group waits for both: whoever looks at the latency of the disk must
/// see them.
#[test]
fn every_sync_that_a_group_waits_for_is_heard_of() {
    let disk = SimDisk::new(1);
    let heard = Arc::new(Heard::default());
    let mut machine = Machine::start_observed(&disk, Arc::<Heard>::clone(&heard)).unwrap();
    let syncs = || disk.counts().get(&Kind::Sync).copied().unwrap_or_default();
    let (mut waited_for, first) = (0, machine.committer.segment_number());
    for _ in 0..10 {
        prepare::step(&machine.log);
        // Four of them fill a segment, so that many a group lies in two.
        for _ in 0..3 {
            machine.append(&[7; 2000], Durability::Sync).unwrap();
        }
        machine.clock.advance(Duration::from_millis(1));
        let before = syncs();
        machine.committer.step();
        waited_for += syncs() - before;
        machine.log.checkpoint(machine.log.marks.get().durable).unwrap();
    }
    assert!(machine.committer.segment_number() > first + 3, "the log was rotated");
    let heard = locked(&heard.0);
    assert_eq!(heard.iter().filter(|commit| commit.sync.is_some()).count() as u64, waited_for);
    assert_eq!(heard.iter().map(|commit| commit.frames).sum::<u64>(), 30);
}
