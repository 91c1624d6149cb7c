//! Whose a sink is, from the first look to the last number.

use super::*;
use crate::base::clock::ManualClock;
use crate::base::fs::publish;

struct Sink {
    dir: tempfile::TempDir,
    store: Arc<Store>,
    clock: Arc<ManualClock>,
}

fn sink() -> Sink {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::in_directory(dir.path()).unwrap());
    Sink { dir, store, clock: ManualClock::at(0) }
}

impl Sink {
    /// The claim of a gateway whose log ends at `ended`.
    fn claim_of(&self, gateway: &str, ended: u64) -> Claim {
        let clock = Arc::clone(&self.clock) as SharedClock;
        Claim::new(Arc::clone(&self.store), gateway.to_owned(), Lsn(ended), clock)
    }

    fn claim(&self, gateway: &str) -> Claim {
        self.claim_of(gateway, 0)
    }

    fn owner(&self) -> Owner {
        match look(&self.store).unwrap() {
            Found::Owner(owner) => owner,
            other => panic!("{other:?}"),
        }
    }

    fn write(&self, bytes: &[u8]) {
        std::fs::write(self.dir.path().join(OWNER), bytes).unwrap();
    }
}

fn trouble(result: Result<(), ObjectError>) -> Option<Trouble> {
    result.err().map(|error| error.trouble())
}

/// What the operator is told.
fn told(result: Result<(), ObjectError>) -> String {
    let error = result.expect_err("it is refused");
    std::error::Error::source(&error).expect("it says why").to_string()
}

#[test]
fn the_first_has_it_and_another_is_told_whose_it_is() {
    let sink = sink();
    sink.claim("one").hold(Lsn(7)).unwrap();
    sink.claim_of("one", 7).check().unwrap();
    let other = sink.claim("other");
    assert_eq!(trouble(other.check()), Some(Trouble::Taken));
    assert_eq!(trouble(other.check_read()), Some(Trouble::Taken));
    let told = told(other.hold(Lsn(1)));
    for part in ["the reject sink of gateway one on ", "since 1970-01-01T00:00:00Z", "prefix"] {
        assert!(told.contains(part), "{told}");
    }
    let client = other.hold(Lsn(1)).unwrap_err().plain();
    assert!(!client.contains("one"), "a client is not told who else there is: {client}");
}

#[test]
fn of_many_at_once_one_gets_it() {
    let sink = sink();
    let claims: Vec<Claim> = (0..8).map(|n| sink.claim(&n.to_string())).collect();
    let held = std::thread::scope(|scope| {
        let threads: Vec<_> =
            claims.iter().map(|claim| scope.spawn(|| claim.hold(Lsn(1)).is_ok())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).filter(|held| *held).count()
    });
    assert_eq!(held, 1);
}

/// The promise that names never meet: no number is written that is not reserved in the sink itself.
#[test]
fn no_number_is_held_that_is_not_reserved_and_whoever_takes_over_begins_behind_it() {
    let sink = sink();
    let claim = sink.claim("one");
    claim.check().unwrap();
    assert_eq!((sink.owner().reported, sink.owner().reserved), (Some(Lsn(0)), Lsn(0)));
    let mut writes = 0;
    let mut before = sink.owner();
    for lsn in (1..5_000_000).step_by(997).map(Lsn) {
        claim.hold(lsn).unwrap();
        let owner = sink.owner();
        assert!(lsn <= owner.reserved && owner.reported <= Some(lsn), "{lsn} of {owner:?}");
        assert_eq!(Block::of(owner.reserved).last(), owner.reserved, "whole blocks");
        writes += usize::from(owner != before);
        before = owner;
    }
    assert!(writes <= 6, "{writes} writes");
    // A block of the new log has none of the old one's frames, nor of those that it may reserve meanwhile.
    let begun = behind(before.reserved);
    assert!(Block::of(begun.next()) > Block::of(ahead_of(before.reserved)));
    assert!(behind(Lsn(Lsn::LIMIT.0 - 1)) < Lsn::LIMIT, "no number is too large");
    let other = sink.claim_of("other", begun.0);
    other.take(begun).unwrap();
    other.check().unwrap();
    other.hold(begun.next()).unwrap();
}

#[test]
fn a_gateway_whose_sink_was_taken_over_notices_with_a_later_write() {
    let sink = sink();
    let (one, other) = (sink.claim("one"), sink.claim_of("other", 10));
    one.hold(Lsn(1)).unwrap();
    other.take(Lsn(10)).unwrap();
    other.hold(Lsn(11)).unwrap();
    sink.clock.advance(LOOK_AGAIN.saturating_sub(Duration::from_nanos(1)));
    one.hold(Lsn(2)).expect("a look holds good for a while");
    // Beyond what it has reserved it asks at once.
    assert_eq!(trouble(one.hold(Lsn(RESERVED_AHEAD * 3))), Some(Trouble::Taken));
    assert_eq!(trouble(one.hold(Lsn(2))), Some(Trouble::Taken), "a refusal is not forgotten");
    let idle = sink.claim_of("other", 11);
    idle.hold(Lsn(12)).unwrap();
    sink.claim_of("third", 20).take(Lsn(20)).unwrap();
    sink.clock.advance(LOOK_AGAIN);
    assert_eq!(trouble(idle.hold(Lsn(12))), Some(Trouble::Taken));
}

/// Its folder was lost and made again, or put back from an older copy.
#[test]
fn a_log_that_ends_before_what_is_reported_is_refused() {
    let sink = sink();
    sink.claim("one").hold(Lsn(500)).unwrap();
    let error = told(sink.claim_of("one", 499).check());
    assert!(
        error.contains("reports of frames up to 500 at least, and the log ends at 499"),
        "{error}"
    );
    assert!(told(sink.claim_of("one", 499).hold(Lsn(499))).contains("the log ends at 499"));
    let again = sink.claim_of("one", 500);
    again.check().unwrap();
    // What this process reports itself is beyond where its log ended at the start.
    again.hold(Lsn(RESERVED_AHEAD * 5)).unwrap();
    sink.clock.advance(LOOK_AGAIN);
    again.hold(Lsn(501)).unwrap();
}

#[test]
fn the_sink_is_told_of_the_first_new_frame_and_at_the_end() {
    let sink = sink();
    sink.claim("one").hold(Lsn(3)).unwrap();
    let claim = sink.claim_of("one", 3);
    // What a start replays is nothing new.
    claim.hold(Lsn(3)).unwrap();
    claim.hold(Lsn(4)).unwrap();
    assert_eq!(sink.owner().reported, Some(Lsn(4)));
    claim.hold(Lsn(5)).unwrap();
    claim.hold(Lsn(6)).unwrap();
    assert_eq!(sink.owner().reported, Some(Lsn(4)), "not each of them");
    claim.tell();
    assert_eq!(sink.owner().reported, Some(Lsn(6)));
    claim.hold(Lsn(7)).unwrap();
    sink.clock.advance(LOOK_AGAIN);
    claim.hold(Lsn(8)).unwrap();
    assert_eq!(sink.owner().reported, Some(Lsn(8)));
    // Whoever reports nothing tells nothing, and does not ask.
    let idle = sink.claim_of("two", 0);
    idle.tell();
    assert_eq!(sink.owner().gateway, "one");
}

/// As the message on one that cannot be read says.
#[test]
fn of_an_owner_that_was_written_by_hand_the_reports_tell() {
    let sink = sink();
    let report = format!("lines/d/2026/11/22/{:020}-0.json", 300);
    sink.store.put(&report, b"{}".to_vec()).unwrap();
    sink.write(b"{\"gateway\":\"one\"}");
    assert!(told(sink.claim_of("one", 299).check()).contains("frames up to 300 at least"));
    let claim = sink.claim_of("one", 300);
    claim.check().unwrap();
    assert_eq!(sink.owner().reported, Some(Lsn(300)), "it is looked for once");
    claim.hold(Lsn(301)).unwrap();
}

/// Sinks that were made before there were owners.
#[test]
fn a_sink_without_an_owner_goes_to_the_log_that_gave_its_numbers() {
    let sink = sink();
    let report = format!("lines/d/2026/11/22/{:020}-0.json", 300);
    sink.store.put(&report, b"{}".to_vec()).unwrap();
    assert!(told(sink.claim_of("new", 0).check()).contains("frames up to 300 at least"));
    assert!(matches!(look(&sink.store).unwrap(), Found::Nobody), "it has not become anybody's");
    sink.claim_of("old", 300).check().unwrap();
    assert_eq!((sink.owner().gateway.as_str(), sink.owner().reported), ("old", Some(Lsn(300))));
}

#[test]
fn a_sink_that_is_away_passes_a_start_and_takes_no_report() {
    let sink = sink();
    let claim = sink.claim("one");
    let away = sink.dir.path().with_extension("away");
    publish(sink.dir.path(), &away).unwrap();
    claim.check().unwrap();
    claim.check_read().unwrap();
    assert_eq!(trouble(claim.hold(Lsn(1))), Some(Trouble::Away));
    publish(&away, sink.dir.path()).unwrap();
    claim.hold(Lsn(1)).unwrap();
}

#[test]
fn what_is_no_owner_is_refused_and_not_written_over() {
    let sink = sink();
    let large = vec![b' '; 5_000];
    for bytes in
        [&b"mine"[..], b"", b"{}", b"{\"gateway\":7}", b"{\"gateway\":\" \"}", b"\xff\xfe", &large]
    {
        sink.write(bytes);
        let error = told(sink.claim("one").check());
        assert!(error.contains("cannot be read: "), "{error}");
        assert_eq!(std::fs::read(sink.dir.path().join(OWNER)).unwrap(), bytes);
    }
    // The name alone is enough, and what a later version adds is passed over.
    sink.write(b"{\"gateway\":\"one\",\"since\":\"soon\",\"more\":[1]}");
    sink.claim("one").check().unwrap();
    sink.write(b"{\"gateway\":\"o\\u001b[2Jne\\n\",\"host\":\"\\u001b]0;x\\u0007\"}");
    let error = told(sink.claim("one").check());
    assert!(error.contains("gateway o2Jne on 0x") || error.contains("gateway o2Jne"), "{error}");
    assert!(!error.contains(|c: char| c.is_control()), "{error:?}");
}

/// One that is slow makes nobody wait for more than its own look.
#[test]
fn those_who_wait_for_a_look_hear_what_it_came_to() {
    let sink = sink();
    sink.claim("one").hold(Lsn(1)).unwrap();
    let other = sink.claim("other");
    std::thread::scope(|scope| {
        for lsn in 0..16 {
            let other = &other;
            scope.spawn(move || assert_eq!(trouble(other.hold(Lsn(lsn))), Some(Trouble::Taken)));
        }
    });
    assert!(!other.state().is_asking, "nobody is left to wait for");
}
