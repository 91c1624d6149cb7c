//! Looking up the series of many records at once.

use super::*;
use crate::record::codec::{Payload, PayloadBuilder};
use crate::record::{Attribute, Dimension, Record, TableId};

/// Goal: of many series a batch's are found as each is alone. Method: a store that knows every other
/// host, and of some hosts another series with the same hash.
#[test]
fn many_series_are_found_as_each_is() {
    let mut builder = PayloadBuilder::new(1);
    builder.start(0);
    let hosts: Vec<String> = (0..500).map(|host| format!("host_{host}")).collect();
    for host in &hosts {
        let record = Record {
            measure_name: "m",
            dimensions: vec![Dimension { name: "host", value: host }],
            attributes: vec![Attribute { name: "v", value: Value::Bigint(1) }],
            ..Record::default()
        };
        let ids = (builder.family(TableId(1), &record).0, builder.layout(&record).0);
        builder.push(ids, &record, 1, 1);
    }
    let mut bytes = Vec::new();
    builder.finish(&mut bytes);
    let payload = Payload::open(&bytes).unwrap();
    let (mut families, mut layouts) = (Vec::new(), Vec::new());
    payload.dictionary(&mut families, &mut layouts).unwrap();
    let views: Vec<RecordView<'_>> =
        payload.section(0, &families, &layouts).collect::<Result<_, _>>().unwrap();
    let mut store = TableStore::default();
    for (at, view) in views.iter().enumerate().filter(|(at, _)| at % 2 == 0) {
        let id = store.series(&Wanted::of(view), || i64::MIN);
        if at % 3 == 0 {
            let family = Arc::clone(&store.keys().get(id).family);
            let other = SeriesKey::new(view.series_hash, family, b"\x05other");
            store.add_series(Arc::new(other), i64::MIN);
        }
    }
    let mut found = Vec::new();
    store.find_far(&views, &mut found);
    for (at, (view, found)) in views.iter().zip(&found).enumerate() {
        let alone = store.find_series(&Wanted::of(view));
        assert_eq!(alone.is_some(), at % 2 == 0);
        assert!(*found == alone || found.is_none() && at % 6 == 0, "record {at}");
    }
    assert!(found.iter().flatten().count() >= 150, "only where a hash is shared it may be unsure");
}
