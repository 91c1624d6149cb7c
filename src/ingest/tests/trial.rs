//! A trial says of records what the way in would, also of what several of them would make.

use super::*;
use crate::engine::catalog::Retention;
use crate::record::{MeasureKind, Origin};

/// The rounds' numbers, the same in every run: a linear congruence's.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn pick<'n>(&mut self, names: &[&'n str]) -> &'n str {
        names[usize::try_from(self.below(names.len() as u64)).unwrap()]
    }
}

fn record(numbers: &mut Numbers, number: u64) -> Record<'static> {
    let mut attributes: Vec<Attribute<'static>> = Vec::new();
    for name in ["a", "b", "c", "d", "e", "x"] {
        let value = match numbers.below(9) {
            0 => Value::Bigint(1),
            1 => Value::Double(1.5),
            2 => Value::Varchar("text"),
            _ => continue,
        };
        attributes.push(Attribute { name, value });
    }
    let table = numbers.pick(&["narrow", "strict", "missing", "another"]);
    let mut dimensions = vec![Dimension { name: "site", value: "a" }];
    if numbers.below(3) == 0 {
        dimensions.push(Dimension { name: numbers.pick(&["a", "b", "x", "y"]), value: "v" });
    }
    let origin = Origin { number, ..Origin::default() };
    let (database, measure_name) = ("d", numbers.pick(&["m", "n"]));
    let (kind, time_ns) = (MeasureKind::Multi, Some(NOW_NS));
    Record {
        origin,
        database,
        table,
        measure_name,
        dimensions,
        kind,
        attributes,
        time_ns,
        version: None,
    }
}

/// A way in with a table for three columns of each profile.
fn house(profile: Profile) -> House {
    let house = House::new(Options { profile, ..Options::default() });
    for (name, profile) in [("narrow", Profile::Relaxed), ("strict", Profile::Strict)] {
        let settings = TableSettings { columns_max: 3, profile, ..TableSettings::default() };
        house.parts.catalog.create("d", name, &settings).unwrap();
    }
    house
}

fn told(receipt: &Receipt) -> Vec<(u64, Reason, &str)> {
    let told = receipt.named.iter();
    told.map(|refusal| (refusal.number, refusal.reason, &*refusal.message)).collect()
}

/// One request in two gateways alike, taken as a whole or not at all in one of them.
#[test]
fn a_trial_refuses_of_a_request_what_the_way_in_refuses() {
    let mut reasons = BTreeMap::<Reason, usize>::new();
    for round in 0..60 {
        let profile = if round % 2 == 0 { Profile::Relaxed } else { Profile::Strict };
        let mut numbers = Numbers(round);
        let records: Vec<_> = (0..30).map(|number| record(&mut numbers, number)).collect();
        let show = |sink: &mut dyn RecordSink| records.iter().for_each(|one| sink.record(one));
        let taken = run(house(profile).ingest.accept(&ask(Partial::Accept), show)).unwrap();
        let tried = house(profile);
        let refused = run(tried.ingest.accept(&ask(Partial::Refuse), show)).unwrap();
        assert_eq!(told(&taken), told(&refused), "round {round}");
        assert_eq!(tried.parts.catalog.tables().len(), 2, "round {round}: a trial makes nothing");
        taken.named.iter().for_each(|one| *reasons.entry(one.reason).or_default() += 1);
    }
    assert!(
        reasons[&Reason::TypeConflict] > 50 && reasons[&Reason::TableLimit] > 50,
        "{reasons:?}"
    );
}

/// Whole rejections of several records are taken back where one of them is refused, as nothing of them is sent.
#[test]
fn what_is_taken_back_leaves_nothing() {
    let mut both = (0, 0);
    for round in 0..60 {
        let profile = if round % 2 == 0 { Profile::Relaxed } else { Profile::Strict };
        let mut numbers = Numbers(1_000 + round);
        let (tried, sent) = (house(profile), house(profile));
        let ask = ask(Partial::Accept);
        let mut trial = tried.ingest.trial(&ask);
        for number in 0..20 {
            let records: Vec<_> =
                (0..=numbers.below(3)).map(|_| record(&mut numbers, number)).collect();
            let checked: Vec<_> = records.iter().map(|one| trial.check(one)).collect();
            if let Some(Err(why)) = checked.into_iter().find(Result::is_err) {
                trial.take_back();
                both.1 += 1;
                // Else it would be refused without need: it is, by whoever has only what was sent.
                let mut again = sent.ingest.trial(&ask);
                let refused = records.iter().find_map(|one| again.check(one).err());
                assert_eq!(refused, Some(why), "round {round}, {number}");
            } else {
                trial.keep();
                both.0 += 1;
                for one in &records {
                    let receipt = run(sent.ingest.accept(&ask, |sink| sink.record(one))).unwrap();
                    assert_eq!(told(&receipt), [], "round {round}, {number}");
                }
            }
        }
    }
    assert!(both.0 > 200 && both.1 > 200, "{both:?}");
}

#[test]
fn a_refused_record_claims_none_of_its_columns() {
    let house = House::new(Options::default());
    let text = "m,site=a b=1 1\nm,site=a a=1i,b=\"x\" 2\nm,site=a a=2.5 3";
    let receipt = house.accept(Partial::Refuse, text).unwrap();
    assert_eq!((receipt.refused, &*reasons(&receipt)), (1, &[Reason::TypeConflict][..]));
}

/// The engine takes a record that is older than its table keeps any, and forgets it.
#[test]
fn what_a_table_would_forget_at_once_is_known() {
    let house = House::new(Options::default());
    let retention = Retention { memory_hours: 1, magnetic_days: 1, ..Retention::default() };
    let settings = TableSettings { retention, ..TableSettings::default() };
    house.parts.catalog.create("d", "short", &settings).unwrap();
    house.make("long");
    let ask = ask(Partial::Accept);
    let trial = house.ingest.trial(&ask);
    let kept = |table: &'static str, time_ns: i64| {
        let one = Record { database: "d", table, time_ns: Some(time_ns), ..Record::default() };
        trial.check_kept(&one).map_err(|(reason, _)| reason)
    };
    let first = NOW_NS - 25 * HOUR_NS;
    assert_eq!(kept("short", first), Ok(()));
    assert_eq!(kept("short", first - 1), Err(Reason::TimeOutsideWindow));
    assert_eq!(kept("long", 1), Ok(()));
    assert_eq!(kept("missing", 1), Ok(()));
}
