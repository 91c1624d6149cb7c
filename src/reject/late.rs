//! Reports of conflicts in the magnetic store of a strict table, at the location that the table names.
//!
//! Timestream documents neither their layout nor their keys. The layout is that of its reports of
//! scheduled queries, the closest relative of which real ones are public: names in lower camel case,
//! `null` for what is not there, times in nanoseconds, errors grouped by their reason. Readers of those
//! find their way here.

use std::collections::BTreeMap;

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_128;

use super::entry::RecordJson;
use super::report::{Content, Place, Report, ReportedRecord};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReportJson<'r> {
    report_id: String,
    errors: Vec<ErrorJson<'r>>,
}

#[derive(Serialize)]
struct ErrorJson<'r> {
    reason: &'r str,
    records: Vec<LateJson<'r>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LateJson<'r> {
    dimensions: Vec<DimensionJson<'r>>,
    measure_name: &'r str,
    measure_value: Option<&'r str>,
    measure_values: Option<Vec<MeasureJson<'r>>>,
    measure_value_type: &'r str,
    time: &'r str,
    time_unit: &'r str,
    version: Option<i64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DimensionJson<'r> {
    name: &'r str,
    value: &'r str,
    /// Always absent, as in the reports that this layout is taken from.
    dimension_value_type: Option<&'r str>,
}

#[derive(Serialize)]
struct MeasureJson<'r> {
    name: &'r str,
    value: &'r str,
    r#type: &'r str,
}

/// The report's number: 32 upper-case hexadecimal digits, made of what it is of. A replay finds the
/// same rejections under the same number and overwrites the report.
pub(super) fn report_id(report: &Report<'_>) -> String {
    let Content::Records { place: Place::Location { id, .. }, shard, .. } = &report.content else {
        unreachable!("only reports at a table's location have a number");
    };
    let ((shard, shards), part) = (shard, report.part);
    let of = format!("{id} {} {shard} {shards} {part}", report.lsn);
    format!("{:032X}", xxh3_128(of.as_bytes()))
}

/// The report as JSON.
pub(super) fn to_json(report: &Report<'_>, records: &[ReportedRecord]) -> Vec<u8> {
    let mut by_reason: BTreeMap<&str, Vec<LateJson<'_>>> = BTreeMap::new();
    for record in records {
        by_reason.entry(&record.message).or_default().push(LateJson::of(&record.record));
    }
    let errors =
        by_reason.into_iter().map(|(reason, records)| ErrorJson { reason, records }).collect();
    let json = ReportJson { report_id: report_id(report), errors };
    serde_json::to_vec_pretty(&json).expect("strings and numbers always serialise")
}

impl<'r> LateJson<'r> {
    fn of(record: &'r RecordJson) -> Self {
        let dimensions = record.dimensions.iter().map(|dimension| DimensionJson {
            name: &dimension.name,
            value: &dimension.value,
            dimension_value_type: None,
        });
        let measures = record.measure_values.as_ref().map(|measures| {
            let json = measures.iter().map(|measure| MeasureJson {
                name: &measure.name,
                value: &measure.value,
                r#type: &measure.r#type,
            });
            json.collect()
        });
        Self {
            dimensions: dimensions.collect(),
            measure_name: &record.measure_name,
            measure_value: record.measure_value.as_deref(),
            measure_values: measures,
            measure_value_type: &record.measure_value_type,
            time: &record.time,
            time_unit: &record.time_unit,
            version: record.version,
        }
    }
}
