//! What all writes share: a [`Plan`], made from the request's head before its body is read, and
//! [`run`], which takes the body.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::call::{Body, Call, Caller};
use super::fault::{Family, Fault, Kind};
use super::keyed;
use super::reply::Reply;
use super::{App, Mapping, partial};
use crate::ingest::{
    Ask, Durability, DurabilityError, Partial, Protocol, Receipt, is_system, quoted,
};
use crate::protocol::{json, line};
use crate::record::{Dimension, Reading, Reason, Record, RecordSink, Refusal, reading};

/// A request header that asks for more or less durability than the server's setting.
const X_TIDEGATE_DURABILITY: &str = "x-tidegate-durability";

/// What a request's head says about a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Whose clients read the reply.
    pub family: Family,
    /// The database of records that name none; empty where every record must name its own.
    pub database: String,
    /// The table of records that name none; line protocol always names one.
    pub table: Option<String>,
    /// What the body is.
    pub form: Form,
    /// How durable it must be; `None` is the server's setting.
    pub durability: Option<Durability>,
    /// What becomes of it when something was refused.
    pub partial: Partial,
    /// What the client calls this request and its repetitions.
    pub key: Option<keyed::Key>,
}

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Line protocol with timestamps in this unit.
    Line(line::Precision),
    /// One JSON value, or one a line.
    Json(json::Form, json::Precision),
}

impl Form {
    /// Whether errors count lines from 1, as opposed to records from 0.
    pub const fn counts_lines(self) -> bool {
        matches!(self, Self::Line(_) | Self::Json(json::Form::Lines, _))
    }

    /// What the head says of how the body is to be read.
    pub(super) fn reading(self, table: Option<&str>) -> Reading<'_> {
        let (format, precision) = match self {
            Self::Line(precision) => (reading::LINE, precision.name()),
            Self::Json(_, precision) => (reading::JSON, precision.name()),
        };
        Reading { table: table.map(Cow::Borrowed), ..Reading::new(format, precision) }
    }

    const fn protocol(self) -> Protocol {
        match self {
            Self::Line(_) => Protocol::Line,
            Self::Json(..) => Protocol::Json,
        }
    }
}

/// Takes the body of a write that was planned, and answers it.
///
/// # Errors
///
/// [`Fault`] when the request as a whole was not taken; where lines are to blame, the reply says so
/// instead.
pub async fn run(
    app: &Arc<App>,
    caller: &Arc<Caller>,
    plan: &Plan,
    body: Body,
) -> Result<Reply, Fault> {
    if let Some(key) = &plan.key {
        return Box::pin(keyed::run(app, caller, plan, (key, body))).await;
    }
    accept(app, caller, plan, body).await.map(|receipt| partial::reply(plan, &receipt))
}

/// Takes the body of a write.
///
/// # Errors
///
/// [`Fault`] when the request as a whole was not taken.
pub(super) async fn accept(
    app: &App,
    caller: &Caller,
    plan: &Plan,
    body: Body,
) -> Result<Receipt, Fault> {
    let reading = plan.form.reading(plan.table.as_deref());
    let ask = Ask {
        protocol: plan.form.protocol(),
        database: &plan.database,
        reading: Some(&reading),
        received_ns: app.ingest.received_ns(),
        body_bytes: body.bytes.len(),
        durability: plan.durability,
        partial: plan.partial,
    };
    let decode = |sink: &mut dyn RecordSink| {
        decode(plan, &app.mapping, ask.received_ns, &body.bytes, &mut Gate { sink, caller });
    };
    let accepted = app.ingest.accept(&ask, decode).await;
    let mut receipt = accepted.map_err(|error| in_words_of(plan, error.into()))?;
    Quoter::quote(&mut receipt, decode);
    Ok(receipt)
}

/// Finds the texts of what the engine refused, which the engine does not have.
struct Quoter<'q> {
    texts: BTreeMap<u64, &'q mut String>,
}

impl Quoter<'_> {
    fn quote(receipt: &mut Receipt, decode: impl Fn(&mut dyn RecordSink)) {
        let unquoted = receipt.named.iter_mut().filter(|refusal| refusal.text.is_empty());
        let texts = unquoted.map(|refusal| (refusal.number, &mut refusal.text));
        let mut quoter = Quoter { texts: texts.collect() };
        // Rarely: who waits for the engine hears of few refusals.
        if !quoter.texts.is_empty() {
            decode(&mut quoter);
        }
    }
}

impl RecordSink for Quoter<'_> {
    fn record(&mut self, record: &Record<'_>) {
        if let Some(text) = self.texts.get_mut(&record.origin.number).filter(|text| text.is_empty())
        {
            **text = quoted(record.origin.text);
        }
    }

    fn refuse(&mut self, _refusal: Refusal<'_>) {
        // It was named with its text.
    }
}

/// Decodes a text as a request of `plan` by `caller` would be.
pub(super) fn decode_for(
    (plan, mapping, received_ns): (&Plan, &Mapping, i64),
    body: &[u8],
    caller: &Caller,
    sink: &mut dyn RecordSink,
) {
    decode(plan, mapping, received_ns, body, &mut Gate { sink, caller });
}

fn decode(plan: &Plan, mapping: &Mapping, received_ns: i64, body: &[u8], gate: &mut Gate<'_>) {
    let default = mapping.default_dimension.as_ref();
    match plan.form {
        Form::Line(precision) => {
            let options = line::Options {
                precision,
                measure_name: mapping
                    .measure_name
                    .as_deref()
                    .map_or(line::MeasureName::Measurement, line::MeasureName::Fixed),
                default_dimension: default.map(|(name, value)| Dimension { name, value }),
                version: mapping
                    .version_field
                    .as_deref()
                    .map_or(line::VersionField::None, line::VersionField::Field),
                ..line::Options::new(&plan.database, received_ns)
            };
            // Past the gate: a line's only database is the plan's, which was checked.
            line::decode(body, &options, gate.sink);
        }
        Form::Json(form, precision) => {
            let options = json::Options {
                precision,
                received_ns,
                database: Some(plan.database.as_str()).filter(|name| !name.is_empty()),
                table: plan.table.as_deref(),
                form,
                default_dimension: default.map(|(name, value)| (name.as_str(), value.as_str())),
                measure_name: mapping.measure_name.as_deref(),
            };
            json::decode(body, &options, gate);
        }
    }
}

/// Keeps records out of databases that their sender may not write to: JSON names a database with
/// each record, after the request's own was checked.
struct Gate<'s> {
    sink: &'s mut dyn RecordSink,
    caller: &'s Caller,
}

impl RecordSink for Gate<'_> {
    fn record(&mut self, record: &Record<'_>) {
        if self.caller.write.covers(record.database) {
            return self.sink.record(record);
        }
        self.sink.refuse(Refusal {
            origin: record.origin,
            column: 0,
            reason: Reason::Forbidden,
            message: format!(
                "{:?} is not authorized to write to database {:?}",
                self.caller.name, record.database
            ),
        });
    }

    fn refuse(&mut self, refusal: Refusal<'_>) {
        self.sink.refuse(refusal);
    }
}

/// Clients of version 2 look for a bucket.
fn in_words_of(plan: &Plan, fault: Fault) -> Fault {
    match (plan.family, fault.kind) {
        (Family::V2, Kind::NotFound) => {
            Fault::new(Kind::NotFound, format!("bucket {:?} not found", plan.database))
        }
        _ => fault,
    }
}

/// The durability that a request's header asks for.
///
/// # Errors
///
/// [`Fault`] 400 when it is none of the four.
pub fn durability_asked(call: &Call<'_>) -> Result<Option<Durability>, Fault> {
    let Some(found) = call.headers.get(X_TIDEGATE_DURABILITY) else { return Ok(None) };
    let text = String::from_utf8_lossy(found.as_bytes());
    text.parse().map(Some).map_err(|_unknown: DurabilityError| {
        Fault::invalid(format!(
            "invalid X-Tidegate-Durability {text:?} (use memory, interval, sync or applied)"
        ))
    })
}

/// What becomes of the good records beside bad ones, by the parameter `accept_partial`.
///
/// # Errors
///
/// [`Fault`] 400 when it is neither true nor false.
pub fn partial_asked(call: &Call<'_>) -> Result<Partial, Fault> {
    Ok(if call.params.flag("accept_partial", true)? { Partial::Accept } else { Partial::Refuse })
}

/// Whether the caller may write to `database`.
///
/// # Errors
///
/// [`Fault`] 403 in the words of `family`.
pub fn check_may_write(caller: &Caller, database: &str, family: Family) -> Result<(), Fault> {
    if is_system(database) {
        let message = format!(
            "database {database:?} is the gateway's own: DataZone's API alone writes to it"
        );
        return Err(Fault::new(Kind::Forbidden, message));
    }
    if caller.write.covers(database) {
        return Ok(());
    }
    let message = match family {
        Family::V2 => "insufficient permissions for write".to_owned(),
        Family::V1 | Family::V3 | Family::Native | Family::Timestream | Family::DataZone => {
            format!("{:?} user is not authorized to write to database {database:?}", caller.name)
        }
    };
    Err(Fault::new(Kind::Forbidden, message))
}
