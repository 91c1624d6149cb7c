//! `tidegate wal replay`: the records of a log, sent again to this or another Tidegate.
//!
//! | step | what |
//! |---|---|
//! | survey | reads every frame that was asked for, counts, and finds holes: LSNs that are not there ([`past`]) |
//! | plan | is printed; `--dry-run` ends here |
//! | send | reads the frames again, writes each record in the one shape that says all of it ([`shape`]), and posts them to `/api/v1/write` at the rate ([`sender`]) |
//! | position | after each request that was acknowledged, the LSN to go on from is written down or printed ([`position`]) |
//!
//! Nothing about a record is changed: database, table, dimensions, measure name, values with their
//! types, time in nanoseconds and version are sent as they are stored. So a server that has a record
//! already answers it as success and changes nothing, and a request may be sent twice: after an answer
//! that was lost, or by the next run from the last position. What a version higher than its own has
//! replaced since is refused there and stays replaced; the replay counts it, goes on, and ends with 1.
//!
//! Not sent are lines that were refused when they came, since they would be refused again, and records
//! of the gateway's own database, which no write API takes: what `DataZone`'s clients posted stands with
//! its ids, versions and deletes in the data folder, which is what a copy must be made of. Both are
//! counted and told. A catalog has every table that ever was, deleted ones too. So without a catalog
//! nothing is sent, and where it lacks the table of a record it lost its end: what is known is sent, the
//! position stays before the first such record, and the replay ends with 1.
//!
//! What must be there: from the first frame that the tables do not have yet up to the last that the
//! checkpoint knows to be synced, and whatever `--from` and `--to-lsn` name. What of it is not there is a
//! hole, also before the first file and behind the last.

mod past;
mod position;
mod sender;
mod shape;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;

use super::super::client::{Access, Address};
use super::super::progress::Progress;
use super::super::{Failure, SettingsArgs};
use super::records::{Held, Names};
use crate::base::lsn::Lsn;
use crate::base::units::Span;
use crate::ingest::{SYSTEM_DATABASE, is_system};
use crate::server::Interrupts;
use past::{Event, Hole, Lives, Past};
use position::Position;
use sender::{Refused, Sender};

/// What stands below `wal replay --help`.
pub(super) const EXAMPLES: &str = "Examples:
  tidegate wal replay --to http://127.0.0.1:8087 --dry-run
  tidegate wal replay --to http://10.0.0.2:8086 --rate 20000 --position replay.json --token-file token
  tidegate wal replay --to https://tide.example:8086 --ca-file ca.pem --from 1200 --to-lsn 1300

The same command again goes on where --position left off, also after Ctrl-C. Exit code 1 when LSNs that were asked for are
not in the log, or the server refuses a record. A record whose version is lower than what stands there,
or equal with other values, is refused too, but the replay goes on behind it.";

/// Records a request at most.
const RECORDS_MAX: u64 = 5000;

/// A request is sent once its body has this; one record more may follow.
const BODY_BYTES: usize = 1 << 20;

/// Flags of `wal replay`.
#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The server to send to.
    #[arg(long, value_name = "URL")]
    to: String,
    /// The first LSN to send. Without it: the oldest that is left.
    #[arg(long, value_name = "LSN")]
    from: Option<u64>,
    /// The last LSN to send. Without it: the last of the log.
    #[arg(long, value_name = "LSN")]
    to_lsn: Option<u64>,
    /// Records a second at most.
    #[arg(long, value_name = "RECORDS_PER_SECOND", default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    rate: u64,
    /// A file that says how far the replay got: written after each acknowledged request, read at the
    /// start. A --from that is later than what it says is refused.
    #[arg(long, value_name = "FILE")]
    position: Option<PathBuf>,
    /// Tell what would be sent, and send nothing.
    #[arg(long)]
    dry_run: bool,
    /// How long a server may be busy or away before the replay ends.
    #[arg(long, value_name = "TIME", default_value = "10min")]
    patience: Span,
    #[command(flatten)]
    access: Access,
}

/// What there is to send, or what was sent.
#[derive(Debug, Default)]
struct Tally {
    frames: u64,
    records: u64,
    /// Of the frames' payloads.
    bytes: u64,
    /// Lines that were refused when they came.
    refused: u64,
    /// Records of the gateway's own database.
    own: u64,
    /// Records of tables that the catalog does not have.
    unknown: u64,
    /// The LSN of the first of them.
    first_unknown: Option<Lsn>,
    holes: Vec<Hole>,
}

pub(super) fn run(args: &ReplayArgs, of_wal: &SettingsArgs) -> Result<(), Failure> {
    let config = super::settings(&args.settings, of_wal)?;
    let address = Address::parse("--to", &args.to, &args.access.trust)?;
    let position = Position::open(args.position.as_deref(), &config.wal.dir, &address)?;
    let asked = args.from.map(Lsn);
    let from = first_asked(asked, &position)?;
    let to = Lsn(args.to_lsn.unwrap_or(u64::MAX));
    if from.is_some_and(|from| from > to) {
        let from = from.unwrap_or_default();
        if asked != Some(from) {
            return super::print(&format!("nothing to send: LSN {to} was acknowledged before\n"));
        }
        return Err(Failure::usage(format!("--from {from} is behind --to-lsn {to}")));
    }
    let mut names = Names::read(&config.data_dir)?;
    names.need_catalog()?;
    let past = Past::open(&config.wal.dir, from, to, args.to_lsn.is_some())?;
    is_of_this_log(&position, &past)?;
    let planned = survey(&past, &mut names)?;
    super::print(&plan(args, &config.wal.dir, &past, &planned))?;
    if args.dry_run || past.is_empty() {
        return missing(&planned).and(unknown(&planned));
    }
    let interrupts = Interrupts::listen("ending once the request under way is acknowledged");
    let interrupts = interrupts.map_err(Failure::failed)?;
    let halts = || interrupts.heard();
    let sender =
        Sender::new(address, &args.access.header()?, args.rate, args.patience.0).until(&halts);
    let progress = Progress::new("replaying, records", planned.records);
    let mut replay = Replay {
        names,
        out: Out {
            sender,
            position,
            progress,
            body: Vec::new(),
            in_body: 0,
            begun: past.from(),
            next: past.from(),
            durable: past.durable(),
            lives: past.lives(),
            records_max: RECORDS_MAX.min(args.rate),
            sent: Tally::default(),
        },
    };
    past.each(&mut |event| replay.take(&event))?;
    replay.out.flush()?;
    replay.out.next = past.to().next();
    replay.out.keep_position()?;
    let Out { mut sent, sender, progress, .. } = replay.out;
    if let Some(hole) = past.beyond() {
        sent.add_hole(hole);
    }
    drop(progress);
    super::print(&told(&sent, &sender))?;
    missing(&sent)?;
    unknown(&sent)?;
    refused(sender.refused())
}

/// Where to begin: at the position, or before it, where that was asked for.
fn first_asked(asked: Option<Lsn>, position: &Position) -> Result<Option<Lsn>, Failure> {
    match (asked, position.next()) {
        (Some(asked), Some(next)) if asked > next => Err(Failure::usage(format!(
            "--from {asked} is behind LSN {next}, from which on --position has nothing acknowledged: \
             its file would say that all before {asked} is; leave out --from, or name a new file"
        ))),
        (asked, next) => Ok(asked.max(next)),
    }
}

/// Ends the command when the position cannot be of this log.
fn is_of_this_log(position: &Position, past: &Past) -> Result<(), Failure> {
    if position.life().is_some_and(|life| past.contradicts(life)) {
        let what = "--position is of another log that was in the same folder; name a new file";
        return Err(Failure::failed(what));
    }
    let Some(next) = position.next().filter(|next| *next > past.last().next()) else {
        return Ok(());
    };
    Err(Failure::failed(format!(
        "--position goes on from LSN {next}, but the log ends at {}: it is of another log, or the log \
         lost its end",
        past.last()
    )))
}

/// Reads all that is asked for, and counts.
fn survey(past: &Past, names: &mut Names) -> Result<Tally, Failure> {
    let mut tally = Tally::default();
    let mut progress = Progress::new("looking, LSN", past.to().0);
    past.each(&mut |event| {
        match event {
            Event::Hole(hole) => tally.add_hole(hole),
            Event::Frame(lsn, payload) => {
                progress.at(lsn.0);
                tally.frames += 1;
                tally.bytes += payload.len() as u64;
                names.each(lsn, payload, &mut |held| {
                    tally.count(lsn, &held);
                    Ok(())
                })?;
            }
        }
        Ok(())
    })?;
    if let Some(hole) = past.beyond() {
        tally.add_hole(hole);
    }
    Ok(tally)
}

impl Tally {
    fn count(&mut self, lsn: Lsn, held: &Held<'_>) {
        match held {
            Held::Record(table, _) if is_system(&table.database) => self.own += 1,
            Held::Record(..) => self.records += 1,
            Held::Unknown(_) => {
                self.unknown += 1;
                self.first_unknown.get_or_insert(lsn);
            }
            Held::Refused(_) => self.refused += 1,
        }
    }

    /// Adds LSNs that are not there, to those before where they are neighbours.
    fn add_hole(&mut self, hole: Hole) {
        match self.holes.last_mut() {
            Some(before) if before.is_followed_by(&hole) => before.last = hole.last,
            _ => self.holes.push(hole),
        }
    }

    /// What is not sent, a line each.
    fn left_out(&self) -> String {
        let mut text = String::new();
        if self.refused > 0 {
            let line = "lines that were refused when they came, and are not sent";
            writeln!(text, "left out   {} {line}", self.refused).expect("a string takes all");
        }
        if self.own > 0 {
            let line = "records of the gateway's own database, which no write API takes";
            writeln!(text, "left out   {} {line}: {SYSTEM_DATABASE}", self.own)
                .expect("a string takes all");
        }
        if self.unknown > 0 {
            let line = "records of tables that the catalog does not have, the first of LSN";
            let first = self.first_unknown.unwrap_or_default();
            writeln!(text, "left out   {} {line} {first}", self.unknown)
                .expect("a string takes all");
        }
        for hole in &self.holes {
            writeln!(text, "hole       {hole}").expect("a string takes all");
        }
        text
    }
}

fn plan(args: &ReplayArgs, dir: &Path, past: &Past, tally: &Tally) -> String {
    let Tally { frames, records, bytes, .. } = tally;
    let range = if past.is_empty() {
        format!("none from {} on: the log ends at {}", past.from(), past.last())
    } else {
        format!("{} to {} of a log that ends at {}", past.from(), past.to(), past.last())
    };
    format!(
        "log        {}\nto         {}, {} records a second at most\nLSN        {range}\n\
         frames     {frames}, {records} records, {bytes} bytes\n{}",
        dir.display(),
        args.to,
        args.rate,
        tally.left_out()
    )
}

fn told(sent: &Tally, sender: &Sender<'_>) -> String {
    let Tally { frames, records, .. } = sent;
    let (requests, retries) = (sender.requests(), sender.retries());
    let mut text = format!(
        "sent       {records} records of {frames} frames in {requests} requests, {retries} of them \
         tried again\n{}",
        sent.left_out()
    );
    let Refused { records, unnamed } = sender.refused();
    if records > 0 {
        let why = "a higher or equal version stands there; they are in its reject sink";
        writeln!(text, "refused    {records} records were refused by the target: {why}")
            .expect("a string takes all");
    }
    if unnamed > 0 {
        let why = "its receipts do not name, a receipt has a hundred: the reject sink says why";
        writeln!(text, "           {unnamed} of them {why}").expect("a string takes all");
    }
    text
}

/// Ends the command with 1 when the target has not all of what was sent.
fn refused(refused: Refused) -> Result<(), Failure> {
    if refused.records == 0 {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "{} records were refused by the target; see above",
        refused.records
    )))
}

/// Ends the command with 1 when something that was asked for is not there.
fn missing(tally: &Tally) -> Result<(), Failure> {
    let lost: u64 = tally.holes.iter().map(Hole::count).sum();
    if lost == 0 {
        return Ok(());
    }
    Err(Failure::failed(format!("{lost} LSNs that were asked for are not in the log; see above")))
}

/// Ends the command with 1 when records have no names.
fn unknown(tally: &Tally) -> Result<(), Failure> {
    let Some(first) = tally.first_unknown else { return Ok(()) };
    Err(Failure::failed(format!(
        "{} records from LSN {first} on are of tables that the catalog does not have, and it keeps \
         deleted ones too: catalog.log lost its end; put it back, then go on with --from {first}",
        tally.unknown
    )))
}

/// A replay under way.
struct Replay<'a> {
    names: Names,
    out: Out<'a>,
}

/// The request that is being filled, and where it goes.
struct Out<'a> {
    sender: Sender<'a>,
    position: Position,
    progress: Progress,
    body: Vec<u8>,
    /// Records in it.
    in_body: u64,
    /// The first LSN with a record in it.
    begun: Lsn,
    /// The first LSN that is not in it as a whole, nor before it.
    next: Lsn,
    /// The last frame whose LSN is never given again.
    durable: Lsn,
    /// What the log's segments are known by.
    lives: Lives,
    /// Records a request at most.
    records_max: u64,
    sent: Tally,
}

impl Replay<'_> {
    fn take(&mut self, event: &Event<'_>) -> Result<(), Failure> {
        let Self { names, out } = self;
        match event {
            Event::Hole(hole) => {
                out.next = hole.last.next();
                out.sent.add_hole(*hole);
            }
            Event::Frame(lsn, payload) => {
                assert!(out.next <= *lsn, "frames come in their order");
                out.next = *lsn;
                names.each(*lsn, payload, &mut |held| out.take(*lsn, &held))?;
                out.next = lsn.next();
                out.sent.frames += 1;
                out.sent.bytes += payload.len() as u64;
            }
        }
        Ok(())
    }
}

impl Out<'_> {
    fn take(&mut self, lsn: Lsn, held: &Held<'_>) -> Result<(), Failure> {
        self.sent.count(lsn, held);
        let Held::Record(table, row) = held else { return Ok(()) };
        if is_system(&table.database) {
            return Ok(());
        }
        if self.in_body >= self.records_max || self.body.len() >= BODY_BYTES {
            self.flush()?;
        }
        if self.in_body == 0 {
            self.begun = lsn;
        }
        shape::put(table, row, &mut self.body).map_err(|inexpressible| {
            Failure::failed(format!(
                "LSN {lsn}: {inexpressible}; go on behind it with --from {}",
                lsn.next()
            ))
        })?;
        self.in_body += 1;
        Ok(())
    }

    /// Sends what is in the body, and writes down how far that is.
    fn flush(&mut self) -> Result<(), Failure> {
        if self.in_body > 0 {
            let range = (self.begun, self.next);
            self.sender.send(&self.body, self.in_body, range)?;
            self.body.clear();
            self.in_body = 0;
            self.keep_position()?;
        }
        self.progress.at(self.sender.records());
        Ok(())
    }

    /// Writes down how far it is. Never beyond what is known to be synced: after a power cut other
    /// records may have those LSNs, and the next run must send them. Nor beyond a record that was left out.
    fn keep_position(&mut self) -> Result<(), Failure> {
        assert!(self.in_body == 0, "all before it is acknowledged");
        let left_out = self.sent.first_unknown.unwrap_or(self.next);
        let next = self.next.min(self.durable.next()).min(left_out);
        self.position.set(next, self.lives.of(next.previous()))
    }
}
