//! Records that are refused for every reason and by every way, each with the remedy that has it stored.

use std::collections::BTreeSet;
use std::process::Output;

use serde_json::{Value as Json, json};
use tidegate::record::Reason;

use super::common::gateway::{Gateway, Place};
use super::common::rows::{Key, Row};
use super::{TIME_NS, TIME_S, call, listed};

/// How a record comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Line,
    Json,
    /// `WriteRecords` of Timestream's API.
    Api,
}

/// A record that is refused, and what `rejects resubmit` is told to have it stored.
pub(crate) struct Case {
    pub(crate) reason: Reason,
    way: Way,
    database: &'static str,
    table: &'static str,
    body: Vec<u8>,
    remedy: Vec<String>,
    /// What is stored then: how many records, the time of each unless it is that of the receipt, and a part of them.
    stored: (usize, Option<i64>, &'static str),
}

pub(crate) fn case(
    (reason, way): (Reason, Way),
    table: &'static str,
    body: impl Into<Vec<u8>>,
    remedy: &[&str],
) -> Case {
    let remedy = remedy.iter().map(|&part| part.to_owned()).collect();
    let stored = (1, Some(TIME_NS), "");
    Case { reason, way, database: "iot", table, body: body.into(), remedy, stored }
}

impl Case {
    fn holds(self, part: &'static str) -> Self {
        Self { stored: (self.stored.0, self.stored.1, part), ..self }
    }

    /// The record's time is that of its receipt.
    pub(crate) fn untimed(self) -> Self {
        Self { stored: (self.stored.0, None, self.stored.2), ..self }
    }

    pub(crate) fn strict(self) -> Self {
        Self { database: "fleet", ..self }.untimed()
    }

    /// Sends the record, and gives the number of its rejection.
    pub(crate) fn refused(&self, server: &Gateway, token: Option<&str>) -> String {
        let database = self.database;
        let (path, kind) = match self.way {
            Way::Line => (format!("/write?db={database}&precision=s"), "text/plain"),
            Way::Json => (format!("/api/v1/write?db={database}&precision=s"), "application/json"),
            Way::Api => ("/".to_owned(), "application/x-amz-json-1.0"),
        };
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut headers = vec![("X-Tidegate-Durability", "applied"), ("Content-Type", kind)];
        if self.way == Way::Api {
            headers.push(("X-Amz-Target", "Timestream_20181101.WriteRecords"));
        }
        headers.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
        let reply = server.client().post(&path, &headers, &self.body).expect("it is answered");
        let link = reply.header("x-tidegate-rejects").map(str::to_owned);
        let link = link.unwrap_or_else(|| panic!("{}: {}", self.table, reply.text()));
        let found = listed(server, link.split_once('?').expect("a query").1, token);
        let of_reason: Vec<&Json> =
            found.iter().filter(|one| one["reason"] == self.reason.code()).collect();
        let [one] = of_reason[..] else { panic!("{:?} {}: {found:?}", self.reason, self.table) };
        one["id"].as_str().expect("a number").to_owned()
    }

    /// Carries out the remedy, which must be one that is told.
    pub(crate) fn mend(&self, place: &Place, server: &Gateway, id: &str) {
        for (at, part) in self.remedy.iter().enumerate().filter(|(_, part)| part.starts_with("--"))
        {
            let value = self.remedy.get(at + 1).map_or("", String::as_str);
            let end = value.find(['.', '=']).map_or(0, |end| end + 1);
            let told =
                if part == "--set" { format!("--set {}", &value[..end]) } else { part.clone() };
            assert!(self.reason.remedy().contains(&told), "{told}: {}", self.reason.remedy());
        }
        let url = format!("http://{}", server.address);
        let remedy: Vec<&str> = self.remedy.iter().map(String::as_str).collect();
        let before = server.export_any(self.database, self.table).len();
        let sent = place.run("rejects", &[&["resubmit", "--url", &url, id][..], &remedy].concat());
        assert!(sent.status.success(), "{:?} {}: {}", self.reason, self.table, text(&sent));
        let rows = server.export_any(self.database, self.table);
        let (count, time_ns, part) = self.stored;
        let shown: Vec<String> = rows.iter().map(shown).collect();
        assert_eq!(rows.len() - before, count, "{:?} {}: {shown:?}", self.reason, self.table);
        if let Some(time_ns) = time_ns {
            let times: BTreeSet<i64> = rows.keys().map(|key| key.time_ns).collect();
            assert_eq!(times, [time_ns].into(), "{:?} {}: {shown:?}", self.reason, self.table);
        }
        assert!(shown.iter().any(|row| row.contains(part)), "{part:?} is not in {shown:?}");
    }
}

fn shown((key, row): (&Key, &Row)) -> String {
    format!("{:?} {:?} {:?} version {}", key.measurement, key.tags, row.fields, row.version)
}

pub(crate) fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat()
}

/// A flat record of JSON with this in the place of a whole one's members.
pub(crate) fn flat(table: &str, members: &Json) -> String {
    let mut record = json!({"measurement": table, "tags": {"site": "a"}, "fields": {"t": 1.5},
        "timestamp": TIME_S});
    for (name, value) in members.as_object().expect("members") {
        record[name] = value.clone();
    }
    record.to_string()
}

/// A request of Timestream's shape, whose record has half of its members from all.
fn shaped(database: &str, table: &str, common: &Json, record: &Json) -> String {
    let mut all = json!({"Dimensions": [{"Name": "site", "Value": "a"}], "TimeUnit": "SECONDS",
        "MeasureName": "t", "MeasureValueType": "DOUBLE"});
    for (name, value) in common.as_object().expect("members") {
        all[name] = value.clone();
    }
    json!({"DatabaseName": database, "TableName": table, "CommonAttributes": all,
        "Records": [record]})
    .to_string()
}

/// What cannot be decoded, but for limits.
pub(crate) fn undecodable() -> Vec<Case> {
    use Reason::{
        InvalidSyntax, InvalidTime, InvalidUtf8, InvalidValue, InvalidVersion, NoMeasure,
    };
    let time = TIME_S.to_string();
    let time_ns = format!("time={TIME_NS}");
    let good = |table: &str| format!("{table},site=a t=1.5 {time}");
    let good_json = |table: &str| flat(table, &json!({}));
    let record = |members: Json| {
        let mut record = json!({"Time": time, "MeasureValue": "1.5"});
        for (name, value) in members.as_object().expect("members") {
            record[name] = value.clone();
        }
        record
    };
    let of_shape = |table: &str, members: Json| shaped("iot", table, &json!({}), &record(members));
    vec![
        case((InvalidSyntax, Way::Line), "s1", format!("s1,site t=1 {time}"), &["--line", &good("s1")]),
        case((InvalidSyntax, Way::Json), "s2", "{\"measurement\":\"s2\"", &["--json", &good_json("s2")]),
        case((InvalidUtf8, Way::Line), "u1", [b"u1,site=\xff t=1.5 ", time.as_bytes()].concat(), &["--line", &good("u1")]),
        case((InvalidUtf8, Way::Json), "u2", b"{\"measurement\":\"\xff\"}", &["--json", &good_json("u2")]),
        case((NoMeasure, Way::Line), "m1", "m1,site=a", &["--set", "measure.t:DOUBLE=1.5"]).untimed(),
        case((NoMeasure, Way::Json), "m2", flat("m2", &json!({"fields": null})), &["--set", "measure.t:DOUBLE=1.5"]),
        case((NoMeasure, Way::Json), "m3", of_shape("m3", json!({"MeasureValue": null})), &["--set", "measure.t:DOUBLE=1.5"]),
        case((InvalidValue, Way::Line), "v1", format!("v1,site=a t=abc,n=2i {time}"), &["--set", "measure.t=1.5"]).holds("BIGINT 2"),
        case((InvalidValue, Way::Line), "v2", format!("v2,site=a t=99999999999999999999i {time}"), &["--set", "measure.t=7"]).holds("BIGINT 7"),
        case((InvalidValue, Way::Json), "v3", flat("v3", &json!({"fields": {"t": [], "n": -0.0}})), &["--set", "measure.t=1.5"]).holds("DOUBLE -0.0"),
        case((InvalidValue, Way::Json), "v4", flat("v4", &json!({"tags": {"site": []}})), &["--set", "dimension.site=b c"]).holds("b c"),
        case((InvalidValue, Way::Json), "v5", of_shape("v5", json!({"MeasureValue": "abc"})), &["--set", "measure.t=1.5"]),
        case((InvalidValue, Way::Json), "v6", of_shape("v6", json!({"MeasureValue": null, "MeasureValueType": "MULTI",
            "MeasureValues": [{"Name": "a", "Value": "x", "Type": "BIGINT"}, {"Name": "b", "Value": "y", "Type": "VARCHAR"}]})),
            &["--set", "measure.a=4"]).holds("BIGINT 4"),
        case((InvalidTime, Way::Line), "t1", "t1,site=a t=1.5 9999999999999999", &["--set", &time_ns]),
        case((InvalidTime, Way::Line), "t2", format!("t2,site=a t=1.5 {TIME_S}000"), &["--precision", "ms"]),
        case((InvalidTime, Way::Json), "t3", flat("t3", &json!({"timestamp": "noon"})), &["--set", &time_ns]),
        case((InvalidTime, Way::Json), "t4", flat("t4", &json!({"timestamp": TIME_S * 1_000_000})), &["--precision", "us"]),
        case((InvalidTime, Way::Json), "t5", of_shape("t5", json!({"Time": "noon"})), &["--set", &time_ns]),
        case((InvalidTime, Way::Json), "t6", of_shape("t6", json!({"TimeUnit": "DAYS"})), &["--set", &time_ns]),
        case((InvalidVersion, Way::Line), "n1", format!("n1,site=a t=1.5,_version=0i {time}"), &["--set", "version=5"]).holds("version 5"),
        case((InvalidVersion, Way::Json), "n2", flat("n2", &json!({"version": "high"})), &["--set", "version=5"]).holds("version 5"),
        case((InvalidVersion, Way::Json), "n3", of_shape("n3", json!({"Version": 0})), &["--set", "version=5"]).holds("version 5"),
    ]
}

/// Dimensions, names, and limits.
#[expect(clippy::too_many_lines, reason = "a table, a case a row")]
pub(crate) fn beyond_limits(place: &Place) -> Vec<Case> {
    use Reason::{
        DuplicateDimension, InvalidName, NameTooLong, NoDimension, RecordTooLarge,
        TooManyDimensions, TooManyMeasures, ValueTooLong,
    };
    let time = TIME_S.to_string();
    let good = |table: &str| format!("{table},site=a t=1.5 {time}");
    let good_json = |table: &str| flat(table, &json!({}));
    let numbered = |count: usize, name: &str, value: &str| {
        (0..count).map(|n| format!("{name}{n}={value}")).collect::<Vec<_>>().join(",")
    };
    let members = |count: usize, value: Json| -> Json {
        (0..count)
            .map(|n| (format!("n{n}"), value.clone()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let long = "x".repeat((1 << 20) + 1);
    let large = "y".repeat(900 << 10);
    let file = place.file("split.txt");
    let halves = [numbered(600, "f", "1"), numbered(400, "g", "1")]
        .map(|fields| format!("w1,site=a {fields} {time}\n"));
    std::fs::write(&file, halves.concat().replacen("site=a", "site=b", 1)).expect("a file");
    let file = file.display().to_string();
    let twice = flat("d2", &json!({})).replace("\"site\":\"a\"", "\"site\":\"a\",\"site\":\"b\"");
    let common = json!({"Dimensions": [{"Name": "site", "Value": "a"}]});
    let own =
        json!({"Time": time, "MeasureValue": "1", "Dimensions": [{"Name": "site", "Value": "b"}]});
    let none = json!({"Dimensions": null});
    let bare = json!({"Time": time, "MeasureValue": "1"});
    vec![
        case(
            (DuplicateDimension, Way::Line),
            "d1",
            format!("d1,site=a,x=y,site=b t=1.5 {time}"),
            &["--set", "dimension.site=b"],
        )
        .holds("\"site\": \"b\""),
        case((DuplicateDimension, Way::Json), "d2", twice, &["--set", "dimension.site=b"])
            .holds("\"site\": \"b\""),
        case(
            (DuplicateDimension, Way::Json),
            "d3",
            shaped("iot", "d3", &common, &own),
            &["--set", "dimension.site=b"],
        )
        .holds("\"site\": \"b\""),
        case(
            (NoDimension, Way::Line),
            "o1",
            format!("o1 t=1.5 {time}"),
            &["--set", "dimension.site=a"],
        )
        .holds("\"site\": \"a\""),
        case(
            (NoDimension, Way::Json),
            "o2",
            flat("o2", &json!({"tags": {}})),
            &["--set", "dimension.site=a"],
        )
        .holds("\"site\": \"a\""),
        case(
            (NoDimension, Way::Json),
            "o3",
            shaped("iot", "o3", &none, &bare),
            &["--set", "dimension.site=a"],
        )
        .holds("\"site\": \"a\""),
        case(
            (InvalidName, Way::Line),
            "i1",
            format!("i1,time=a t=1.5 {time}"),
            &["--line", &good("i1")],
        ),
        case((InvalidName, Way::Json), "i2", flat("", &json!({})), &["--json", &good_json("i2")]),
        case(
            (NameTooLong, Way::Line),
            "l1",
            format!("l1,{}=a t=1.5 {time}", &long[..70_000]),
            &["--line", &good("l1")],
        ),
        case(
            (NameTooLong, Way::Json),
            "l2",
            flat(&long[..300], &json!({})),
            &["--json", &good_json("l2")],
        ),
        case(
            (ValueTooLong, Way::Line),
            "e1",
            format!("e1,site=a t=1.5,s=\"{long}\" {time}"),
            &["--set", "measure.s=short"],
        )
        .holds("short"),
        case(
            (ValueTooLong, Way::Json),
            "e2",
            flat("e2", &json!({"fields": {"s": long}})),
            &["--set", "measure.s=short"],
        )
        .holds("short"),
        case(
            (TooManyDimensions, Way::Line),
            "x1",
            format!("x1,{} t=1.5 {time}", numbered(129, "n", "v")),
            &["--line", &good("x1")],
        ),
        case(
            (TooManyDimensions, Way::Json),
            "x2",
            flat("x2", &json!({"tags": members(129, "v".into())})),
            &["--json", &good_json("x2")],
        ),
        Case {
            stored: (2, Some(TIME_NS), ""),
            ..case(
                (TooManyMeasures, Way::Line),
                "w1",
                format!("w1,site=a {} {time}", numbered(1025, "f", "1")),
                &["--line-file", &file],
            )
        },
        case(
            (RecordTooLarge, Way::Line),
            "r1",
            format!("r1,site=a {} {time}", numbered(5, "s", &format!("\"{large}\""))),
            &["--set", "measure.s0=short"],
        )
        .holds("short"),
        case(
            (RecordTooLarge, Way::Json),
            "r2",
            flat("r2", &json!({"fields": members(5, large.into())})),
            &["--set", "measure.n0=short"],
        )
        .holds("short"),
    ]
}

/// What a table or the engine refuses. The tables of `fleet` are strict.
#[expect(clippy::too_many_lines, reason = "a table, a case a row")]
pub(crate) fn refused_by_tables(server: &Gateway) -> Vec<Case> {
    use Reason::{
        PartitionKeyMissing, TableLimit, TimeOutsideWindow, TypeConflict, VersionConflict,
        VersionLower,
    };
    call(server, "CreateDatabase", &json!({"DatabaseName": "fleet"}));
    let key = json!([{"Type": "DIMENSION", "Name": "host", "EnforcementInRecord": "REQUIRED"}]);
    for (table, schema) in [
        ("cpu", json!(null)),
        ("old", json!(null)),
        ("api", json!(null)),
        ("keyed", json!({"CompositePartitionKey": key})),
    ] {
        let mut body = json!({"DatabaseName": "fleet", "TableName": table});
        if !schema.is_null() {
            body["Schema"] = schema;
        }
        call(server, "CreateTable", &body);
    }
    let now = format!("time={}", jiff::Timestamp::now().as_nanosecond());
    for table in ["k1", "k2", "c1", "c2", "h1"] {
        server.write("iot", &format!("{table},site=z t=1.5,_version=7i {TIME_NS}"));
    }
    let stored = |case: Case| Case { stored: (0, case.stored.1, case.stored.2), ..case };
    let record = json!({"Time": "86400", "MeasureValue": "1.5"});
    vec![
        case(
            (TypeConflict, Way::Line),
            "k1",
            format!("k1,site=a t=\"warm\" {TIME_S}"),
            &["--set", "measure.t:DOUBLE=2.5"],
        )
        .holds("DOUBLE 2.5"),
        case(
            (TypeConflict, Way::Json),
            "k2",
            flat("k2", &json!({"fields": {"t": "warm"}})),
            &["--set", "measure.t:DOUBLE=2.5"],
        )
        .holds("DOUBLE 2.5"),
        case((TableLimit, Way::Line), "cpu", "cpu,host=a host=1", &["--line", "cpu,host=a load=1"])
            .strict(),
        stored(case(
            (VersionLower, Way::Line),
            "h1",
            format!("h1,site=z t=2.5,_version=6i {TIME_S}"),
            &["--set", "version=next"],
        ))
        .holds("version 8"),
        stored(case(
            (VersionConflict, Way::Line),
            "c1",
            format!("c1,site=z t=2.5,_version=7i {TIME_S}"),
            &["--set", "version=next"],
        ))
        .holds("DOUBLE 2.5"),
        stored(case(
            (VersionConflict, Way::Json),
            "c2",
            flat("c2", &json!({"tags": {"site": "z"}, "fields": {"t": 2.5}, "version": 7})),
            &["--set", "version=next"],
        ))
        .holds("DOUBLE 2.5"),
        case((TimeOutsideWindow, Way::Line), "old", "old,host=a t=1 86400", &["--set", &now])
            .strict(),
        case(
            (TimeOutsideWindow, Way::Api),
            "api",
            shaped("fleet", "api", &json!({}), &record),
            &["--set", &now],
        )
        .strict(),
        case(
            (PartitionKeyMissing, Way::Line),
            "keyed",
            "keyed,site=a t=1",
            &["--set", "dimension.host=h"],
        )
        .strict(),
    ]
}
