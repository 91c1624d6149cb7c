//! `WriteRecords`: records, answered once they are durable and the engine has judged each.
//!
//! | what is wrong | answer |
//! |---|---|
//! | the request's form, or a rule that a record breaks by itself | 400, nothing is taken |
//! | the table does not exist | 404: the setting `ingest.create_tables` does not apply here |
//! | what depends on the table: its window, limits, partition key | 419 with the record's index; the others are stored |
//! | the version rule, found by the engine | the same, with `ExistingVersion` |
//! | the version rule in the magnetic store of a table that names a place for reports | 200; reported there |
//!
//! Records of one request are executed in the order of their indexes wherever they are of one series,
//! so a later one may supersede an earlier one. [`crate::record::Reason::refuses_request`] is the one
//! list of which rule costs a request and which a record. The setting `ingest.version` does not apply: a
//! record without a version has version 1.
//!
//! `RecordsIngested.Total` counts every record that was not rejected, also one that repeats what is
//! stored; `MagneticStore` counts those that are older than the memory store's window.
//!
//! Source: Timestream API, `WriteRecords`; its developer guide, "Writing data".

use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::exception::{Code, Exception, ok_with};
use super::{Request, arn, check_access, check_not_system, tables};
use crate::api::App;
use crate::api::answers::Answer;
use crate::api::reply::Reply;
use crate::base::lsn::Lsn;
use crate::engine::catalog::Table;
use crate::ingest::{Ask, Durability, Partial, Protocol, Receipt, Rules};
use crate::protocol::timestream::shape::{self, Problem};
use crate::record::window::Store;
use crate::record::{Attribute, Reading, Record, RecordSink, reading};

/// Timestream's words for a request of which something was refused.
const REJECTED_MESSAGE: &str =
    "One or more records have been rejected. See RejectedRecords for details.";

const X_TIDEGATE_LSN: HeaderName = HeaderName::from_static("x-tidegate-lsn");

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Records in the memory store.
    memory: u64,
    /// Records in the magnetic store.
    magnetic: u64,
    /// The others.
    rejected: Vec<Rejected>,
    /// The frame that holds them.
    lsn: Option<Lsn>,
}

/// One record that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rejected {
    index: u64,
    reason: String,
    existing_version: Option<i64>,
}

/// How the records of this API are kept that were refused: as documents of their own, whose times are
/// in nanoseconds.
const READING: Reading<'static> = Reading::new(reading::JSON, "ns");

/// Executes a request.
///
/// # Errors
///
/// [`Exception`]: nothing was taken, except after 429 and 500, where it is unknown.
pub(super) async fn execute(app: &App, request: &Request) -> Result<Written, Exception> {
    let body = &request.body.bytes;
    let asked = shape::read(body).map_err(|problem| match problem {
        Problem::Malformed(error) => Exception::new(Code::Serialization, error.to_string()),
        Problem::Invalid(error) => Exception::invalid(error.to_string()),
    })?;
    let (database, name) = (asked.database.as_str(), asked.table.as_str());
    let caller = &request.caller;
    check_not_system(database)?;
    check_access(caller.write.covers(database), caller, request.operation, || {
        arn::of_table(&request.region, database, name)
    })?;
    let records = asked.records().map_err(|error| Exception::invalid(error.to_string()))?;
    let table = app
        .catalog
        .resolve(database, name)
        .ok_or_else(|| tables::not_found(&app.catalog, database, name))?;
    let received_ns = app.ingest.received_ns();
    check(&records, &table, received_ns)?;
    let ask = Ask {
        protocol: Protocol::Timestream,
        database,
        reading: Some(&READING),
        received_ns,
        body_bytes: body.len(),
        durability: Some(Durability::Applied),
        partial: Partial::Accept,
    };
    let show = |sink: &mut dyn RecordSink| records.iter().for_each(|record| sink.record(record));
    let receipt = app.ingest.accept(&ask, show).await?;
    Ok(Written::of(&receipt, &records, &table, received_ns))
}

/// Refuses the request where a record breaks a rule that costs all of it.
fn check(records: &[Record<'_>], table: &Table, received_ns: i64) -> Result<(), Exception> {
    let rules = Rules::new(table.settings(), received_ns);
    // The last one whose names were found good.
    let mut named: Option<&Record<'_>> = None;
    for (index, record) in records.iter().enumerate() {
        let time_ns = record.time_ns.unwrap_or(received_ns);
        let checked = Rules::plain(record, time_ns).and_then(|()| {
            if !named.is_some_and(|named| is_named_alike(named, record)) {
                rules.family(record)?;
                rules.layout(record)?;
                named = Some(record);
            }
            rules.record(record, time_ns)
        });
        if let Err((reason, message)) = checked
            && reason.refuses_request()
        {
            let message = format!("Invalid record. RecordIndex {index}: {message}.");
            return Err(Exception::invalid(message));
        }
    }
    Ok(())
}

/// Whether what the rules say about the names of one holds for the other: the records of a request are
/// of one kind, mostly, and to compare names is cheaper than to judge them.
fn is_named_alike(one: &Record<'_>, other: &Record<'_>) -> bool {
    let typed = |attribute: &Attribute<'_>| attribute.value.value_type();
    one.kind == other.kind
        && one.measure_name == other.measure_name
        && one.dimensions.len() == other.dimensions.len()
        && one.attributes.len() == other.attributes.len()
        && one.dimensions.iter().zip(&other.dimensions).all(|(a, b)| a.name == b.name)
        && one
            .attributes
            .iter()
            .zip(&other.attributes)
            .all(|(a, b)| a.name == b.name && typed(a) == typed(b))
}

impl Written {
    fn of(receipt: &Receipt, records: &[Record<'_>], table: &Table, received_ns: i64) -> Self {
        assert_eq!(
            receipt.refused,
            receipt.named.len() as u64,
            "a request has no more than are named"
        );
        let window = table.retention().window(received_ns);
        // Those that the engine refused were appended, and counted by the store that they are for.
        let is_magnetic = |index: u64| {
            let record = usize::try_from(index).ok().and_then(|index| records.get(index));
            let time_ns = record.and_then(|record| record.time_ns).unwrap_or(received_ns);
            window.store_of(time_ns) == Ok(Store::Magnetic)
        };
        let by_engine = receipt.named.iter().filter(|refusal| refusal.existing_version.is_some());
        let refused = by_engine.filter(|refusal| is_magnetic(refusal.number)).count() as u64;
        let magnetic = receipt.magnetic.saturating_sub(refused).min(receipt.accepted);
        let rejected = receipt.named.iter().map(|refusal| Rejected {
            index: refusal.number,
            reason: refusal.message.clone(),
            existing_version: refusal.existing_version,
        });
        let memory = receipt.accepted - magnetic;
        Self { memory, magnetic, rejected: rejected.collect(), lsn: receipt.lsn }
    }

    fn ingested(&self) -> Value {
        json!({
            "Total": self.memory + self.magnetic,
            "MemoryStore": self.memory,
            "MagneticStore": self.magnetic,
        })
    }

    /// # Errors
    ///
    /// [`Exception`] 419 where records were refused; the others are stored all the same.
    pub(super) fn reply(&self) -> Result<Reply, Exception> {
        let Some(first) = self.rejected.first() else {
            let reply = ok_with(StatusCode::OK, &json!({ "RecordsIngested": self.ingested() }));
            return Ok(match self.lsn {
                Some(lsn) => reply.with(X_TIDEGATE_LSN, HeaderValue::from(lsn.0)),
                None => reply,
            });
        };
        let message = format!("{REJECTED_MESSAGE} RecordIndex {}: {}", first.index, first.reason);
        let mut exception = Exception::new(Code::RejectedRecords, message);
        exception.kept_in = self.lsn;
        let rejected: Vec<Value> = self.rejected.iter().map(Rejected::shown).collect();
        exception.members.insert("RejectedRecords".into(), rejected.into());
        exception.members.insert("RecordsIngested".into(), self.ingested());
        Err(exception)
    }
}

impl Answer for Written {
    fn bytes(&self) -> usize {
        let each = |rejected: &Rejected| size_of::<Rejected>() + rejected.reason.len();
        self.rejected.iter().map(each).sum()
    }
}

impl Rejected {
    fn shown(&self) -> Value {
        let mut shown = json!({ "RecordIndex": self.index, "Reason": self.reason });
        if let Some(version) = self.existing_version {
            shown["ExistingVersion"] = version.into();
        }
        shown
    }
}
