//! `tidegate explain`: what would become of a line, writing nothing.

use std::fmt::Write as _;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::sync::Arc;

use clap::Args;

use super::{Failure, SettingsArgs, out};
use crate::base::clock::SystemClock;
use crate::config::Config;
use crate::engine::catalog::{Catalog, Table, TableSettings};
use crate::engine::upsert::{self, Candidate, Verdict};
use crate::engine::{Row, TimeRange};
use crate::ingest::Rules;
use crate::protocol::line;
use crate::record::codec::{Bucket, Payload, PayloadBuilder, RecordView};
use crate::record::{Dimension, Record, RecordSink, Refusal, TableId, Value, validate};
use crate::server::{Core, Purpose};

/// Flags of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The database it would be written to.
    #[arg(long, value_name = "D", default_value = "demo")]
    database: String,
    /// The unit of its timestamp: ns, us, ms, s.
    #[arg(long, default_value = "ns")]
    precision: String,
    /// Line protocol, or - to read it from standard input.
    #[arg(value_name = "LINE")]
    line: String,
}

/// Explains each line.
///
/// # Errors
///
/// [`Failure::Usage`] for an unknown precision, [`Failure::Failed`] when a line would be refused.
pub fn run(args: &ExplainArgs) -> Result<(), Failure> {
    let config = args.settings.load(Vec::new())?.placed();
    let text = if args.line == "-" {
        let mut text = Vec::new();
        io::stdin().read_to_end(&mut text).map_err(Failure::failed)?;
        text
    } else {
        args.line.clone().into_bytes()
    };
    let options = line_options(&config, args)?;
    let stock = Stock::of(&config);
    let mut explainer = Explainer {
        config: &config,
        stock: &stock,
        received_ns: options.received_ns,
        out: String::new(),
        refused: 0,
    };
    line::decode(&text, &options, &mut explainer);
    out::print(&explainer.out)?;
    match explainer.refused {
        0 if explainer.out.is_empty() => Err(Failure::usage("there is no line to explain")),
        0 => Ok(()),
        1 => Err(Failure::failed("a line would be refused")),
        refused => Err(Failure::failed(format!("{refused} lines would be refused"))),
    }
}

fn line_options<'a>(
    config: &'a Config,
    args: &'a ExplainArgs,
) -> Result<line::Options<'a>, Failure> {
    let precision = line::Precision::from_v2(&args.precision)
        .map_err(|error| Failure::usage(format!("--precision: {error}")))?;
    let received_ns = SystemClock::shared().wall_ns();
    let mut options = line::Options::new(&args.database, received_ns);
    options.precision = precision;
    let dimension = config.ingest.default_dimension();
    options.default_dimension = dimension.map(|(name, value)| Dimension { name, value });
    if let Some(field) = config.ingest.version_field() {
        options.version = line::VersionField::Field(field);
    }
    if !config.ingest.measure_name.is_empty() {
        options.measure_name = line::MeasureName::Fixed(&config.ingest.measure_name);
    }
    Ok(options)
}

/// What stands already.
enum Stock {
    /// There is no data folder, so nothing does.
    Empty,
    /// A folder that no server has open; opened as a server would, which replays its log.
    Open(Box<Core>),
    /// A folder that does not open, most likely because a server has it open.
    Unknown(String),
}

impl Stock {
    fn of(config: &Config) -> Self {
        // To open a folder that is none would make it one.
        match Catalog::is_begun(&config.data_dir) {
            Ok(true) => {}
            Ok(false) => return Self::Empty,
            Err(error) => return Self::Unknown(super::chain(&error)),
        }
        match Core::open(config, Purpose::Read) {
            Ok(core) if core.wait_replayed() => Self::Open(Box::new(core)),
            Ok(_core) => Self::Unknown("the log cannot be replayed".to_owned()),
            Err(error) => Self::Unknown(super::chain(&error)),
        }
    }

    fn table(&self, record: &Record<'_>) -> Option<Arc<Table>> {
        let Self::Open(core) = self else { return None };
        core.catalog.resolve(record.database, record.table)
    }
}

/// Writes down what would become of each record.
struct Explainer<'e> {
    config: &'e Config,
    stock: &'e Stock,
    /// The version of a record by the setting "arrival".
    received_ns: i64,
    out: String,
    refused: u64,
}

impl RecordSink for Explainer<'_> {
    fn record(&mut self, record: &Record<'_>) {
        let table = self.stock.table(record);
        let settings = table.as_ref().map_or_else(
            || {
                let profile = self.config.ingest.profile;
                Arc::new(TableSettings { profile, ..TableSettings::default() })
            },
            |table| table.settings(),
        );
        let time_ns = record.time_ns.unwrap_or(self.received_ns);
        let checked = Rules::plain(record, time_ns)
            .and_then(|()| Rules::new(settings, self.received_ns).all(record, time_ns))
            .and_then(|_store| table.as_deref().map_or(Ok(()), |table| fits(table, record)));
        if let Err((reason, message)) = checked {
            self.refuse(Refusal { origin: record.origin, column: 0, reason, message });
            return;
        }
        // Writing to a string cannot fail.
        self.explain(record, table.as_deref()).expect("a string takes everything");
    }

    fn refuse(&mut self, refusal: Refusal<'_>) {
        self.refused += 1;
        let Refusal { origin, column, reason, message } = refusal;
        writeln!(
            self.out,
            "line {}  refused at column {column}: {message} [{reason}]",
            origin.number
        )
        .expect("a string takes everything");
    }
}

impl Explainer<'_> {
    fn explain(&mut self, record: &Record<'_>, table: Option<&Table>) -> std::fmt::Result {
        let shards = self.config.shards.effective_count();
        let by_arrival = self.config.ingest.version == "arrival";
        let version = record.version.unwrap_or(if by_arrival { self.received_ns } else { 1 });
        let time_ns = record.time_ns.unwrap_or_default();
        let mut builder = PayloadBuilder::new(shards);
        builder.start(time_ns);
        let id = table.map_or(TableId(u32::MAX), |table| table.id);
        let ids = (builder.family(id, record).0, builder.layout(record).0);
        builder.push(ids, record, time_ns, version);
        let mut bytes = Vec::new();
        builder.finish(&mut bytes);
        let mut refused = 0;
        let out = &mut self.out;
        writeln!(out, "line {}", record.origin.number)?;
        let is_new = match (table, self.stock) {
            (None, Stock::Empty | Stock::Open(_)) => " (would be made)",
            _ => "",
        };
        writeln!(out, "  table      {}.{}{is_new}", record.database, record.table)?;
        writeln!(out, "  measure    {}", record.measure_name)?;
        for dimension in &record.dimensions {
            writeln!(out, "  dimension  {} = {:?}", dimension.name, dimension.value)?;
        }
        for attribute in &record.attributes {
            let value_type = attribute.value.value_type();
            writeln!(
                out,
                "  attribute  {} {value_type} {}",
                attribute.name,
                shown(&attribute.value)
            )?;
        }
        writeln!(out, "  time       {} ({time_ns} ns)", moment(time_ns))?;
        writeln!(out, "  version    {version}")?;
        with_view(&bytes, |view| {
            let bucket = Bucket::of(view.series_hash);
            let shard = bucket.shard(shards);
            writeln!(
                out,
                "  series     {:016x}, bucket {}, shard {shard} of {shards}",
                view.series_hash, bucket.0
            )?;
            let verdict = verdict(self.stock, table, view);
            refused += u64::from(verdict.starts_with("rejected"));
            writeln!(out, "  verdict    {verdict}")
        })?;
        self.refused += refused;
        let out = &mut self.out;
        writeln!(
            out,
            "  bytes      {} as text, {} as a payload of its own",
            record.origin.text.len(),
            bytes.len()
        )
    }
}

/// Whether the record's attributes have the types of the table's columns.
fn fits(table: &Table, record: &Record<'_>) -> Result<(), validate::Broken> {
    let attributes: Vec<_> =
        record.attributes.iter().map(|a| (a.name, a.value.value_type())).collect();
    table.fits(&attributes).map_err(|error| (error.reason(), error.to_string()))
}

/// Shows the one record of a payload to `each`.
fn with_view(
    bytes: &[u8],
    each: impl FnOnce(&RecordView<'_>) -> std::fmt::Result,
) -> std::fmt::Result {
    let (mut families, mut layouts) = (Vec::new(), Vec::new());
    let payload = Payload::open(bytes).expect("just built");
    payload.dictionary(&mut families, &mut layouts).expect("just built");
    let view = (0..payload.sections())
        .flat_map(|at| payload.section(at, &families, &layouts))
        .next()
        .expect("one record was pushed")
        .expect("just built");
    each(&view)
}

/// What the version rule would say of the record.
fn verdict(stock: &Stock, table: Option<&Table>, view: &RecordView<'_>) -> String {
    let core = match stock {
        Stock::Open(core) => core,
        Stock::Empty => return "stored: it is new".to_owned(),
        Stock::Unknown(why) => return format!("unknown: {why}"),
    };
    let Some(table) = table else { return "stored: it is new".to_owned() };
    let range = TimeRange { from_ns: view.time_ns, to_ns: view.time_ns.saturating_add(1) };
    let mut found = "stored: it is new".to_owned();
    let scanned = core.engine.scan(table.id, range, &mut |row| {
        if is_of(row, view) {
            found = judged(row, view);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    match scanned {
        Ok(()) => found,
        Err(error) => format!("unknown: {error}"),
    }
}

fn is_of(row: &Row<'_>, view: &RecordView<'_>) -> bool {
    row.measure_name == view.family.measure_name
        && view.dimensions().eq(row.dimensions.iter().copied())
}

fn judged(row: &Row<'_>, view: &RecordView<'_>) -> String {
    let names = view.layout.entries().map(|(_, name)| name);
    let mut incoming: Vec<(&str, Value<'_>)> =
        names.zip(view.values().filter_map(Result::ok)).collect();
    incoming.sort_by_key(|(name, _)| *name);
    let stands = Candidate { version: row.version, kind: row.kind, attributes: row.attributes };
    let arrives =
        Candidate { version: view.version, kind: view.layout.kind, attributes: &incoming };
    match upsert::decide(Some(&stands), &arrives) {
        Verdict::Stored => "stored: it is new".to_owned(),
        Verdict::Updated(_) => format!("updated: version {} stands", row.version),
        Verdict::Unchanged => "unchanged: it stands already, the same".to_owned(),
        Verdict::Rejected(rejection) => format!("rejected: {}", rejection.message),
    }
}

fn shown(value: &Value<'_>) -> String {
    match value {
        Value::Double(value) => zmij::Buffer::new().format(*value).to_owned(),
        Value::Bigint(value) | Value::Timestamp(value) => value.to_string(),
        Value::Boolean(value) => value.to_string(),
        Value::Varchar(value) => format!("{value:?}"),
    }
}

fn moment(ns: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(ns))
        .map_or_else(|_| String::new(), |t| t.to_string())
}
