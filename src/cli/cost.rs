//! `tidegate cost`: what Timestream would meter of the records in the log, whatever engine they go to.
//!
//! Reads the log as `wal dump` does, without a lock, beside a running server or not, and puts the records
//! into requests in three ways: one record each, as they came, and as the engine `timestream` does.
//! Frames that came within one `--window` are put together, as a shard's turn would; a busy shard's turns
//! hold more, so what is really sent is rather less.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use clap::Args;

use super::{Failure, SettingsArgs, out};
use crate::base::clock::{Clock, SystemClock};
use crate::base::lsn::Lsn;
use crate::base::units::Span;
use crate::batch::{Batch, Batches, Order};
use crate::record::codec::{CodecError, Family, Layout, Payload};
use crate::record::metered::Metered;
use crate::wal::scan;

/// Frames and bytes of one window at most, as of a shard's turn.
const WINDOW_FRAMES_MAX: usize = 256;
const WINDOW_BYTES_MAX: usize = 8 << 20;

/// Flags of `cost`.
#[derive(Debug, Args)]
pub struct CostArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Leave out what was received longer ago than this, as in 24h. Without it: all that the log has.
    #[arg(long, value_name = "TIME")]
    since: Option<Span>,
    /// Put together what was received within this time. Without it: batch.linger.
    #[arg(long, value_name = "TIME")]
    window: Option<Span>,
    /// The price of a million writes of 1 KiB, in any currency, from Amazon's price list.
    #[arg(long, value_name = "PRICE", value_parser = price)]
    price: Option<f64>,
}

/// What is metered in each of the three ways, and when the records came.
#[derive(Debug, Default)]
struct Costs {
    arrival: Metered,
    alike: Metered,
    /// When the first and the last were received, ns.
    received_ns: Option<(i64, i64)>,
}

/// Frames that are put together.
#[derive(Debug, Default)]
struct Window {
    frames: Vec<(Lsn, Vec<u8>)>,
    bytes: usize,
    since_ns: i64,
}

fn price(text: &str) -> Result<f64, &'static str> {
    let price = text.parse().ok().filter(|price: &f64| price.is_finite() && *price >= 0.0);
    price.ok_or("write a number, 0 or more, as in 0.50")
}

/// Tells the costs.
///
/// # Errors
///
/// [`Failure::Failed`] when there is no log, or it cannot be read.
pub fn run(args: &CostArgs) -> Result<(), Failure> {
    let config = args.settings.load(Vec::new())?.placed();
    let dir = &config.wal.dir;
    if !dir.is_dir() {
        return Err(Failure::failed(format!("there is no log in {}", dir.display())));
    }
    let from_ns = match args.since {
        None => i64::MIN,
        Some(since) => SystemClock::new().wall_ns().saturating_sub(nanoseconds(since.0)),
    };
    let window_ns = nanoseconds(args.window.unwrap_or(config.batch.linger).0);
    let costs = count(dir, config.batch.records_max, (from_ns, window_ns))?;
    out::print(&told(&costs, args.price))
}

fn nanoseconds(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}

fn count(
    dir: &Path,
    records_max: usize,
    (from_ns, window_ns): (i64, i64),
) -> Result<Costs, Failure> {
    let (mut costs, mut window) = (Costs::default(), Window::default());
    // From the oldest segment that is left: what the tables have already was metered, too.
    for frame in scan::read_from(dir, Lsn::ZERO).map_err(Failure::failed)? {
        let (lsn, bytes) = frame.map_err(Failure::failed)?;
        let unreadable = |error: CodecError| unreadable(lsn, &error);
        let received_ns = Payload::open(&bytes).map_err(unreadable)?.received_ns();
        if received_ns < from_ns {
            continue;
        }
        let (first, last) = costs.received_ns.unwrap_or((received_ns, received_ns));
        costs.received_ns = Some((first.min(received_ns), last.max(received_ns)));
        let is_full = window.bytes >= WINDOW_BYTES_MAX || window.frames.len() >= WINDOW_FRAMES_MAX;
        if is_full || received_ns.saturating_sub(window.since_ns) > window_ns {
            costs.add(&window, records_max)?;
            window = Window { since_ns: received_ns, ..Window::default() };
        }
        window.bytes += bytes.len();
        window.frames.push((lsn, bytes));
    }
    costs.add(&window, records_max)?;
    Ok(costs)
}

fn unreadable(lsn: Lsn, error: &CodecError) -> Failure {
    Failure::failed(format!("the frame of LSN {lsn}: {error}"))
}

/// Dictionaries of one frame.
type Dictionary<'a> = (Vec<Family<'a>>, Vec<Layout<'a>>);

impl Costs {
    fn add(&mut self, window: &Window, records_max: usize) -> Result<(), Failure> {
        let mut payloads = Vec::with_capacity(window.frames.len());
        let mut dictionaries: Vec<Dictionary<'_>> = Vec::with_capacity(window.frames.len());
        for (lsn, bytes) in &window.frames {
            let payload = Payload::open(bytes).map_err(|error| unreadable(*lsn, &error))?;
            let (mut families, mut layouts) = Dictionary::default();
            payload
                .dictionary(&mut families, &mut layouts)
                .map_err(|error| unreadable(*lsn, &error))?;
            payloads.push((*lsn, payload));
            dictionaries.push((families, layouts));
        }
        // Each shard sends its own part.
        let shards = payloads.iter().map(|(_, payload)| payload.sections()).max().unwrap_or(0);
        for (order, metered) in
            [(Order::Arrival, &mut self.arrival), (Order::Alike, &mut self.alike)]
        {
            let mut meter = |batch: &mut Batch<'_>| {
                let request = batch.request();
                metered.add(request.common, request.records);
                Ok::<(), Failure>(())
            };
            for shard in 0..shards {
                let mut batches = Batches::new(records_max, order);
                let frames = payloads.iter().zip(&dictionaries);
                let frames = frames.filter(|((_, payload), _)| shard < payload.sections());
                for ((lsn, payload), (families, layouts)) in frames {
                    for record in payload.section(shard, families, layouts) {
                        let record = record.map_err(|error| unreadable(*lsn, &error))?;
                        batches.push(record, *lsn, &mut meter)?;
                    }
                }
                batches.drain(&mut meter)?;
            }
        }
        assert_eq!(self.arrival.records, self.alike.records, "both have every record");
        Ok(())
    }
}

fn told(costs: &Costs, price: Option<f64>) -> String {
    let Some((first, last)) = costs.received_ns.filter(|_| costs.alike.records > 0) else {
        return "no records\n".to_owned();
    };
    let time = |time_ns: i64| {
        let time = jiff::Timestamp::from_nanosecond(time_ns.into());
        time.map_or_else(|_| time_ns.to_string(), |time| format!("{time:.0}"))
    };
    let mut text = format!(
        "{} records, received from {} to {}\n\n{:<28} {:>12} {:>14} {:>14}{}\n",
        costs.alike.records,
        time(first),
        time(last),
        "",
        "requests",
        "KiB metered",
        "KiB a record",
        price.map_or("", |_| "          price")
    );
    let single = (costs.alike.records, costs.alike.kib_single);
    for (name, (requests, kib)) in [
        ("one record a request", single),
        ("as they came", (costs.arrival.requests, costs.arrival.kib)),
        ("put together by likeness", (costs.alike.requests, costs.alike.kib)),
    ] {
        // Figures for people: a fraction of a KiB is lost at 2^53 of them.
        let each = ratio(kib, costs.alike.records);
        let price = price
            .map_or_else(String::new, |price| format!(" {:>14.2}", ratio(kib, 1_000_000) * price));
        writeln!(text, "{name:<28} {requests:>12} {kib:>14} {each:>14.4}{price}")
            .expect("a string takes all");
    }
    text
}

#[expect(clippy::cast_precision_loss, reason = "figures for people, of a few digits")]
fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b as f64
}
