//! Failing operations: each of them, once and for ever, in one scenario that opens, appends, rotates,
//! recycles, reads, checkpoints, closes and opens again, with either appender.
//!
//! `TIDEGATE_FAULT_SEEDS` tries every operation on as many disks, which differ in what a failing
//! operation gets done, in what arrives of it, and in the payloads.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;

use super::super::disk::sim::{Fault, Kind, Lie, Random, SimDisk};
use super::super::{Appender, Durability, FullCause, Options, WalError, locked, prepare};
use super::{Machine, SEGMENT_BYTES, append, number_from, tell};
use crate::base::class::Class;
use crate::base::lsn::Lsn;
use crate::base::units::Bytes;

const APPENDERS: [Appender; 2] = [Appender::Pwrite, Appender::Map];

/// What must have failed somewhere; what the scenario does not do proves nothing.
const MET: [Kind; 8] = [
    Kind::Create,
    Kind::Allocate,
    Kind::Write,
    Kind::Sync,
    Kind::Rename,
    Kind::SyncNames,
    Kind::Remove,
    Kind::Map,
];

/// Appends of a life.
const APPENDS: u64 = 40;

/// What the scenario was told.
#[derive(Debug, Default)]
struct Told {
    acknowledged: BTreeMap<Lsn, Vec<u8>>,
    refused_as_full: usize,
    refused: usize,
    unreadable: usize,
    poisoned: bool,
}

/// A way through the scenario.
#[derive(Debug, Clone, Copy)]
struct Way {
    seed: u64,
    appender: Appender,
}

impl Way {
    /// All that are asked for.
    fn all() -> impl Iterator<Item = Self> {
        let seeds = number_from("TIDEGATE_FAULT_SEEDS").unwrap_or(1);
        (1..=seeds).flat_map(|seed| APPENDERS.map(|appender| Self { seed, appender }))
    }

    /// How operation `n` fails. Where nothing else is asked for, each appender meets half of it.
    fn faults(self, n: u64) -> Vec<Fault> {
        use ErrorKind::{Other, StorageFull};
        let halves = [
            [Fault::Once(Other), Fault::Forever(StorageFull)],
            [Fault::Forever(Other), Fault::Once(StorageFull)],
        ];
        if number_from("TIDEGATE_FAULT_SEEDS").is_some() {
            return halves.concat();
        }
        halves[usize::from((self.appender == Appender::Map) == n.is_multiple_of(2))].to_vec()
    }

    const USUAL: Self = Self { seed: 1, appender: Appender::Pwrite };

    fn disk(self) -> SimDisk {
        SimDisk::new(self.seed)
    }

    fn start(self, disk: &SimDisk) -> Result<Machine, WalError> {
        let options = Options {
            segment_bytes: Bytes(SEGMENT_BYTES),
            bytes_max: Bytes(6 * SEGMENT_BYTES),
            appender: self.appender,
            ..Options::default()
        };
        Machine::start_as(disk, &options)
    }

    /// How many operations the scenario takes when none fails, of each kind.
    fn operations(self) -> BTreeMap<Kind, u64> {
        let disk = self.disk();
        let mut told = Told::default();
        scenario(self, &disk, &mut told).unwrap();
        let refused = (told.refused_as_full, told.refused, told.unreadable);
        assert_eq!((told.acknowledged.len(), refused, told.poisoned), (80, (0, 0, 0), false));
        assert!(disk.recycled() > 3, "the scenario recycles");
        disk.counts()
    }
}

fn payload_of(n: u64) -> Vec<u8> {
    let length = usize::try_from(200 + n * 131 % 1500).unwrap();
    n.to_le_bytes().into_iter().cycle().take(length).collect()
}

/// Two lives of a log. An operation that fails ends a life; nothing may be acknowledged after it.
fn scenario(way: Way, disk: &SimDisk, told: &mut Told) -> Result<(), WalError> {
    for life in 0..2 {
        let mut machine = way.start(disk)?;
        for n in 0..APPENDS {
            prepare::step(&machine.log);
            let payload = payload_of(way.seed * 1000 + life * 100 + n);
            match machine.append(&payload, Durability::Sync) {
                Ok(lsn) => {
                    machine.committer.step();
                    let (_, _, answer) = locked(&machine.answers).pop().expect("everybody is told");
                    if answer.is_ok() {
                        assert!(!told.poisoned, "frame {lsn} was acknowledged after the poison");
                        told.acknowledged.insert(lsn, payload);
                    } else {
                        told.refused += 1;
                    }
                }
                Err(WalError::Full { .. }) => told.refused_as_full += 1,
                Err(error) => {
                    assert_eq!(error.class(), Class::Fault, "{error}");
                    told.refused += 1;
                }
            }
            told.poisoned |= machine.log.poison.is_thrown();
            if n % 8 == 7 {
                read_and_checkpoint(&machine, told);
            }
        }
        let poison = machine.log.poison.clone();
        machine.close();
        told.poisoned |= poison.is_thrown();
        if told.poisoned {
            break;
        }
    }
    Ok(())
}

/// Reads all that is there, and says of most of it that it is stored elsewhere.
fn read_and_checkpoint(machine: &Machine, told: &mut Told) {
    let marks = machine.log.marks.get();
    match machine.read(marks.checkpoint.next()) {
        Ok(found) => {
            let expected = told.acknowledged.range(marks.checkpoint.next()..=marks.durable);
            assert!(expected.eq(&found), "what is served is what was acknowledged");
        }
        // Nothing that is read wrong is served: the reader says so, and who reads stops there.
        Err(error) => {
            assert!(matches!(error, WalError::Io { .. }), "{error}");
            told.unreadable += 1;
        }
    }
    // A failure throws the poison, which is looked at.
    machine.log.checkpoint(Lsn(marks.durable.0.saturating_sub(3))).ok();
}

/// Opens what is left, without a fault, and holds it against what was acknowledged.
fn check(disk: &SimDisk, told: &Told, when: &str) {
    let machine = Machine::start(disk).unwrap_or_else(|error| panic!("{when}: {error}"));
    let checkpoint = machine.log.marks.get().checkpoint;
    let found = machine.read(checkpoint.next()).unwrap_or_else(|error| panic!("{when}: {error}"));
    for (lsn, payload) in told.acknowledged.range(checkpoint.next()..) {
        assert_eq!(found.get(lsn), Some(payload), "{when}: frame {lsn}");
    }
}

fn operations_of_the_scenario() -> u64 {
    Way::USUAL.operations().values().sum()
}

#[test]
fn whatever_fails_nothing_acknowledged_is_lost() {
    let mut met: BTreeMap<Kind, u64> = BTreeMap::new();
    let mut scenarios = 0;
    for way in Way::all() {
        let operations: u64 = way.operations().values().sum();
        assert!(operations > 300, "the scenario does something: {operations}");
        let cases = (0..operations).flat_map(|n| way.faults(n).into_iter().map(move |f| (n, f)));
        for (n, fault) in cases {
            let when = format!("{way:?}, operation {n}, {fault:?}");
            let disk = way.disk();
            disk.fail_after(n, fault);
            let mut told = Told::default();
            let opened = scenario(way, &disk, &mut told);
            let failed = disk.failed().unwrap_or_else(|| panic!("{when}: nothing failed"));
            assert!(
                is_noticed(opened.is_err(), failed, fault, &told),
                "{when}: {failed:?}: {told:?}"
            );
            // The power first: it takes the page cache, which the other start must not believe.
            check(&disk.after_power_cut(&mut Random::new(n)), &told, &format!("{when}, power cut"));
            check(&disk.after_kill(), &told, &format!("{when}, restart"));
            *met.entry(failed).or_default() += 1;
            scenarios += 1;
        }
    }
    tell(&format!("faults: {scenarios} scenarios; what failed first: {met:?}"));
    for kind in MET {
        assert!(met.contains_key(&kind), "the scenario has a {kind:?}: {met:?}");
    }
}

/// Whether a failure shows where it must.
fn is_noticed(refused_to_open: bool, failed: Kind, fault: Fault, told: &Told) -> bool {
    let lives = if told.poisoned { 1 } else { 2 };
    let answered = told.acknowledged.len() + told.refused + told.refused_as_full;
    let all_are_answered = answered as u64 >= APPENDS * lives;
    let noticed = told.poisoned || told.unreadable > 0;
    // A file that is not needed and cannot be removed is a warning; a segment that finds no space is
    // made when there is some.
    let may_pass = failed == Kind::Remove
        || matches!(fault, Fault::Once(ErrorKind::StorageFull))
        || told.refused_as_full > 0;
    refused_to_open || (all_are_answered && (noticed || may_pass))
}

#[test]
fn a_start_that_believes_the_page_cache_after_a_failed_sync_is_caught() {
    let operations = operations_of_the_scenario();
    let believed = |n: &u64| {
        let disk = Way::USUAL.disk();
        disk.lie(Lie::Cache);
        disk.fail_after(*n, Fault::Once(ErrorKind::Other));
        let mut told = Told::default();
        if scenario(Way::USUAL, &disk, &mut told).is_err() {
            return false;
        }
        // Opens, and says that all it serves is durable; then the power goes.
        let disk = disk.after_kill();
        let machine = Machine::start(&disk).unwrap();
        let last = machine.log.marks.get().durable;
        let rest = disk.after_power_cut(&mut Random::new(*n));
        Machine::start(&rest).map_or(true, |found| found.log.marks.get().durable < last)
    };
    let caught = (0..operations).filter(believed).count();
    assert!(caught > 5, "only {caught} starts served what the device never had");
}

#[test]
fn a_start_never_serves_what_the_device_does_not_have() {
    let operations = operations_of_the_scenario();
    for n in 0..operations {
        let disk = SimDisk::new(1);
        disk.fail_after(n, Fault::Once(ErrorKind::Other));
        let mut told = Told::default();
        if scenario(Way::USUAL, &disk, &mut told).is_err() {
            continue;
        }
        let disk = disk.after_kill();
        let machine = Machine::start(&disk).unwrap();
        let served = machine.read(machine.log.marks.get().checkpoint.next()).unwrap();
        let rest = Machine::start(&disk.after_power_cut(&mut Random::new(n))).unwrap();
        let found = rest.read(rest.log.marks.get().checkpoint.next()).unwrap();
        assert_eq!(found, served, "operation {n}");
    }
}

#[test]
fn a_full_disk_is_busy_and_not_poison_and_passes() {
    let operations = operations_of_the_scenario();
    for n in 0..operations {
        for fault in [Fault::FullOnce, Fault::FullForever] {
            let when = format!("operation {n}, {fault:?}");
            let disk = SimDisk::new(1);
            disk.fail_after(n, fault);
            let mut told = Told::default();
            let opened = scenario(Way::USUAL, &disk, &mut told);
            assert!(!told.poisoned, "{when}");
            assert!(opened.is_ok() || told.acknowledged.len() <= 40, "{when}");
            check(&disk.after_power_cut(&mut Random::new(n)), &told, &when);
            let disk = disk.after_kill();
            check(&disk, &told, &when);
            let mut machine = Machine::start(&disk).unwrap();
            machine.commit(b"space is back");
        }
    }
}

#[test]
fn a_log_on_a_full_disk_goes_on_when_space_returns() {
    let disk = SimDisk::new(1);
    let mut machine = Machine::start(&disk).unwrap();
    disk.set_space(SEGMENT_BYTES + 8192);
    assert!(!prepare::step(&machine.log), "no room for a second segment");
    let cause = fill(&mut machine);
    assert_eq!(cause, FullCause::Disk);
    assert!(
        disk.segments().len() == 1,
        "a failed allocation leaves nothing: {:?}",
        disk.segments()
    );
    disk.set_space(u64::MAX);
    assert!(prepare::step(&machine.log));
    machine.commit(b"room again");
}

#[test]
fn a_log_that_holds_all_it_may_goes_on_after_a_checkpoint() {
    let disk = SimDisk::new(1);
    let mut machine = Machine::start(&disk).unwrap();
    let cause = fill(&mut machine);
    assert_eq!(cause, FullCause::BytesMax);
    assert_eq!(machine.log.state().bytes_total, 6 * SEGMENT_BYTES);
    let last = machine.log.marks.get().durable;
    machine.log.checkpoint(Lsn(last.0 / 2)).unwrap();
    assert!(prepare::step(&machine.log));
    let lsn = machine.commit(b"room again");
    assert_eq!(lsn, last.next(), "no number was lost");
    assert!(machine.log.state().bytes_total < 6 * SEGMENT_BYTES, "surplus files are removed");
}

#[test]
fn a_file_that_finds_no_space_to_be_used_again_does_not_stay_uncounted() {
    for (seed, n) in (0..8).flat_map(|seed| (0..6).map(move |n| (seed, n))) {
        let disk = SimDisk::new(seed);
        let mut machine = Machine::start(&disk).unwrap();
        assert_eq!(fill(&mut machine), FullCause::BytesMax);
        machine.log.checkpoint(machine.log.marks.get().durable).unwrap();
        disk.fail_after(n, Fault::Once(ErrorKind::StorageFull));
        assert!(!prepare::step(&machine.log), "seed {seed}, operation {n}");
        assert!(!machine.log.poison.is_thrown(), "seed {seed}, operation {n}");
        assert_eq!(fill(&mut machine), FullCause::BytesMax);
        let files = disk.image().keys().filter(|name| name.contains(".wal")).count() as u64;
        let counted = machine.log.state().bytes_total;
        assert_eq!(files * SEGMENT_BYTES, counted, "seed {seed}, operation {n}");
    }
}

/// Appends until the log is full.
fn fill(machine: &mut Machine) -> FullCause {
    for n in 0..1000 {
        prepare::step(&machine.log);
        match machine.append(&payload_of(n), Durability::Sync) {
            Ok(_) => machine.committer.step(),
            Err(WalError::Full { cause }) => return cause,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("it never filled up");
}

/// Two frames: one that fills the first segment, and one that needs a second, which is appended while
/// the prepare thread is still filling it.
fn append_into_a_segment_that_is_being_made(disk: &SimDisk) -> Machine {
    let machine = Machine::start(disk).unwrap();
    let large = vec![1; 7000];
    machine.append(&large, Durability::Sync).unwrap();
    let (log, answers) = (Arc::clone(&machine.log), Arc::clone(&machine.answers));
    disk.interrupt(move || {
        append(&log, &answers, &large, Durability::Sync).unwrap();
    });
    machine
}

#[test]
fn frames_may_gather_for_a_segment_that_is_being_made() {
    let disk = SimDisk::new(1);
    let mut machine = append_into_a_segment_that_is_being_made(&disk);
    assert!(prepare::step(&machine.log));
    assert_eq!(machine.log.marks.get().appended, Lsn(2));
    machine.committer.step();
    assert_eq!(machine.log.marks.get().durable, Lsn(2));
    assert_eq!(machine.read(Lsn(1)).unwrap().len(), 2);
}

#[test]
fn who_waits_for_a_segment_that_fails_to_be_made_is_told() {
    let operations = {
        let disk = SimDisk::new(1);
        let machine = append_into_a_segment_that_is_being_made(&disk);
        let before = disk.operations();
        prepare::step(&machine.log);
        disk.operations() - before
    };
    for n in 2..operations {
        for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
            let disk = SimDisk::new(1);
            let mut machine = append_into_a_segment_that_is_being_made(&disk);
            disk.fail_after(n, Fault::Once(kind));
            prepare::step(&machine.log);
            machine.committer.step();
            let answers: Vec<_> =
                locked(&machine.answers).iter().map(|(lsn, _, a)| (*lsn, a.is_ok())).collect();
            // For want of space too: the blocks were there, so a disk that says so now is broken.
            assert_eq!(answers, [(Lsn(1), false), (Lsn(2), false)], "operation {n}, {kind}");
            assert!(machine.log.poison.is_thrown(), "operation {n}, {kind}");
        }
    }
}

#[test]
fn after_the_poison_everybody_is_told_and_nothing_is_tried_again() {
    let disk = SimDisk::new(1);
    let mut machine = Machine::start(&disk).unwrap();
    machine.commit(b"before");
    disk.fail_after(1, Fault::Once(ErrorKind::Other));
    for durability in [Durability::Memory, Durability::Sync, Durability::Sync] {
        machine.append(b"x", durability).unwrap();
    }
    machine.committer.step();
    let answers: Vec<_> =
        locked(&machine.answers).drain(1..).map(|(_, d, a)| (d, a.is_ok())).collect();
    // The write succeeded, so who asked for no more has it; the sync failed.
    let expected =
        [(Durability::Memory, true), (Durability::Sync, false), (Durability::Sync, false)];
    assert_eq!(answers, expected);
    assert_eq!(machine.log.marks.get().durable, Lsn(1));
    let before = disk.operations();
    machine.committer.step();
    assert!(!prepare::step(&machine.log));
    let refused = machine.append(b"x", Durability::Memory).unwrap_err();
    assert!(
        matches!(&refused, WalError::Poisoned { reason } if reason.contains("cannot sync /sim/"))
    );
    machine.close();
    assert_eq!(disk.operations(), before, "a poisoned log leaves the disk alone");
}
