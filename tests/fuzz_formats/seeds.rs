//! Sound inputs, of which mutations are made.

use tidegate::record::codec::PayloadBuilder;
use tidegate::record::{
    Attribute, Dimension, MeasureKind, Origin, Reason, Record, Refusal, TableId, Value,
};

/// A frame as it stands in a segment, checks missing.
pub(crate) fn frame(lsn: u64, kind: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 4];
    frame.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
    frame.extend_from_slice(&lsn.to_le_bytes());
    frame.extend_from_slice(&(lsn - 1).to_le_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(&kind.to_le_bytes());
    frame.extend_from_slice(payload);
    frame.resize(frame.len().next_multiple_of(8), 0);
    frame
}

/// Frames as they stand in a segment, checks missing, which `targets::segment_with_checks` adds.
pub(crate) fn frames() -> Vec<Vec<u8>> {
    let small = [frame(1, 1, b"a"), frame(2, 1, b"abcdefgh"), frame(3, 1, b""), frame(4, 2, b"")];
    let torn = [frame(1, 1, &[7; 100]), vec![0; 40], frame(3, 1, &[9; 30]), vec![0; 200]];
    let nested = [frame(1, 1, &frame(2, 1, b"a frame in a frame")), frame(2, 1, b"b")];
    vec![small.concat(), torn.concat(), nested.concat()]
}

/// Payloads with every form in them.
pub(crate) fn payloads() -> Vec<Vec<u8>> {
    [1, 3].into_iter().map(payload).collect()
}

fn payload(sections: usize) -> Vec<u8> {
    let mut builder = PayloadBuilder::new(sections);
    builder.start(1_700_000_000_000_000_000);
    for n in 0..12_i64 {
        let host = format!("h{}", n % 4);
        let mut record = Record {
            origin: Origin { number: n.unsigned_abs(), text: b"", ..Origin::default() },
            measure_name: "cpu",
            dimensions: vec![
                Dimension { name: "host", value: &host },
                Dimension { name: "dc", value: "é" },
            ],
            ..Record::default()
        };
        if n % 3 == 0 {
            record.kind = MeasureKind::Scalar;
            record.attributes = vec![Attribute { name: "", value: Value::Double(0.5) }];
        } else {
            let value = |name, value| Attribute { name, value };
            record.attributes = vec![
                value("i", Value::Bigint(i64::MIN + n)),
                value("b", Value::Boolean(true)),
                value("s", Value::Varchar("text")),
                value("t", Value::Timestamp(-n)),
            ];
        }
        let (family, _) = builder.family(TableId(7), &record);
        let (layout, _) = builder.layout(&record);
        builder.push((family, layout), &record, 1_700_000_000_000_000_000 - n, n);
    }
    let refusal = Refusal {
        origin: Origin { number: 9, text: b"cpu \xff", ..Origin::default() },
        column: 5,
        reason: Reason::InvalidUtf8,
        message: "found byte 0xff".to_owned(),
    };
    builder.push_refused(("db", ""), &refusal);
    let mut bytes = Vec::new();
    builder.finish(&mut bytes);
    bytes
}

/// Bodies of line protocol.
pub(crate) fn lines() -> Vec<Vec<u8>> {
    [
        "cpu,host=a,dc=b load=0.5,count=3i,up=t,note=\"x \\\" y\" 1700000000000000000\n",
        "# comment\n\nm\\ n,t\\,a\\=g=v\\ w f=1u,g=-1e-3,version=4i -5\r\nm f=\"a\nb\"\n",
        "cpu a=1,a=2 99999999999999999999\ncpu,=x a=\nnan a=nan\nq \"=1",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// Bodies of JSON: flat, with measures, as Timestream's API, as lines.
pub(crate) fn json() -> Vec<Vec<u8>> {
    [
        r#"[{"measurement":"cpu","tags":{"host":"a"},"fields":{"load":0.5,"n":3,"up":true,"s":"\u00e9\ud83d\ude00"},"timestamp":1700000000000}]"#,
        r#"{"DatabaseName":"d","TableName":"t","CommonAttributes":{"Dimensions":[{"Name":"a","Value":"b"}],"Time":"1","TimeUnit":"SECONDS"},"Records":[{"MeasureName":"m","MeasureValue":"1.5","MeasureValueType":"DOUBLE","Version":2},{"MeasureName":"m","MeasureValueType":"MULTI","MeasureValues":[{"Name":"x","Value":"1","Type":"BIGINT"}]}]}"#,
        "{\"measurement\":\"m\",\"fields\":{\"a\":-1e3}}\n\n{\"measurement\":\"m\",\"time\":\"2024-01-01T00:00:00Z\",\"fields\":{\"a\":[{}]}}\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
