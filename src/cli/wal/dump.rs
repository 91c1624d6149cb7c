//! `tidegate wal dump`: the records in the frames, as an export writes them.
//!
//! `json` has `lsn` and `database` before what an export's line has; `line` has a comment with both
//! before the lines of each frame. Lines that were refused when they came stand there too: a frame
//! keeps them for the reject sink.
//!
//! Frames that are asked for and not there are told on standard error, and the exit code is 1. Without
//! `--from` those are asked for that no table has stored yet, and all behind the first that is there.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::super::progress::Progress;
use super::super::{Failure, SettingsArgs, out};
use super::records::{Held, Names, is_filler};
use crate::api::export::format;
use crate::base::lsn::Lsn;
use crate::record::codec::RefusedLine;
use crate::server::Interrupts;
use crate::wal::inspect::{self, Checkpoint};
use crate::wal::{WalError, scan};

/// Flags of `wal dump`.
#[derive(Debug, Args)]
pub(super) struct DumpArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Leave out frames before this LSN. Without it: begin at the oldest segment that is needed.
    #[arg(long, value_name = "LSN")]
    from: Option<u64>,
    /// Leave out frames behind this LSN.
    #[arg(long, value_name = "LSN")]
    to: Option<u64>,
    /// json (one object a line) or line.
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Json,
    Line,
}

pub(super) fn run(args: &DumpArgs, of_wal: &SettingsArgs) -> Result<(), Failure> {
    let config = super::settings(&args.settings, of_wal)?;
    if let (Some(from), Some(to)) = (args.from, args.to)
        && from > to
    {
        return Err(Failure::usage(format!("--from {from} is behind --to {to}")));
    }
    let mut names = Names::read(&config.data_dir)?;
    let frames = match args.from {
        None => scan::read_only(&config.wal.dir),
        Some(from) => scan::read_from(&config.wal.dir, Lsn(from)),
    };
    let (from, to) = (Lsn(args.from.unwrap_or(0)), Lsn(args.to.unwrap_or(u64::MAX)));
    // Looked at after the frames were begun: files that were given free in between are no holes.
    let (stored, durable) = marks(&config.wal.dir)?;
    let needed = args.from.map_or_else(|| stored.next(), |from| Lsn(from.max(1)));
    let mut holes = Holes { needed, told: 0 };
    let interrupts = Interrupts::listen("ending the dump").map_err(Failure::failed)?;
    let mut stdout = BufWriter::new(io::stdout());
    let mut progress = Progress::new("dumping, LSN", 0);
    for frame in frames.map_err(Failure::failed)? {
        let (lsn, payload) = frame.map_err(|error| broken_off(&error))?;
        progress.at(lsn.0);
        if lsn > to {
            holes.before(to.next());
            break;
        }
        if lsn < from {
            continue;
        }
        holes.before(lsn);
        holes.behind(lsn, &payload);
        let text = text(&mut names, args.format, lsn, &payload)?;
        out::written(stdout.write_all(&text))?;
        if let Some(signal) = interrupts.heard() {
            out::written(stdout.flush())?;
            let told = format!("the dump ends with LSN {lsn}; go on with --from {}", lsn.next());
            return Err(Failure::Interrupted { signal, told });
        }
    }
    holes.before(to.min(durable).next());
    out::written(stdout.flush())?;
    holes.end()
}

/// The last frame that is stored outside the log, and the last that is known to be synced. Where the
/// checkpoint does not say, every frame may be stored, and none need be there.
fn marks(dir: &Path) -> Result<(Lsn, Lsn), Failure> {
    let overview = inspect::overview(dir).map_err(Failure::failed)?;
    Ok(match overview.checkpoint {
        Checkpoint::Sound { checkpoint, durable, .. } => (checkpoint, durable),
        Checkpoint::Missing | Checkpoint::Damaged => (Lsn(u64::MAX - 1), Lsn::ZERO),
    })
}

/// What a frame holds, as text.
fn text(names: &mut Names, format: Format, lsn: Lsn, payload: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let mut frame = Frame { lsn, format, database: None, out: &mut text };
    let mut unknown = None;
    names.each(lsn, payload, &mut |held| {
        if let Held::Unknown(id) = held {
            unknown.get_or_insert(id);
        }
        frame.put(&held);
        Ok(())
    })?;
    match unknown {
        Some(id) => Err(names.no_table(id)),
        None => Ok(text),
    }
}

/// Tells which frames are not there.
struct Holes {
    /// The next frame that must be there.
    needed: Lsn,
    /// How many were not.
    told: u64,
}

impl Holes {
    /// Hears that the frames up to the one before `next` do not come any more.
    fn before(&mut self, next: Lsn) {
        if self.needed < next {
            let why = "their file was used again or is missing";
            self.tell(self.needed, next.previous(), why);
            self.needed = next;
        }
    }

    /// Hears that frame `lsn` came.
    fn behind(&mut self, lsn: Lsn, payload: &[u8]) {
        if is_filler(payload) {
            self.tell(lsn, lsn, "lost before, and left out by `tidegate wal salvage`");
        }
        self.needed = lsn.next();
    }

    fn tell(&mut self, first: Lsn, last: Lsn, why: &str) {
        self.told += last.0 - first.0 + 1;
        // Standard error may be closed; the exit code tells.
        drop(writeln!(io::stderr(), "hole       LSN {first} to {last}: {why}"));
    }

    fn end(&self) -> Result<(), Failure> {
        if self.told == 0 {
            return Ok(());
        }
        Err(Failure::failed(format!("{} LSNs that were asked for are not in the log", self.told)))
    }
}

fn broken_off(error: &WalError) -> Failure {
    let more = match error {
        WalError::Corrupt { .. } => "; run `tidegate wal verify`: it tells all that is damaged",
        _ => "",
    };
    Failure::failed(format!("{error}{more}"))
}

/// The text of one frame.
struct Frame<'a> {
    lsn: Lsn,
    format: Format,
    /// The database of the comment that was written last.
    database: Option<Box<str>>,
    out: &'a mut Vec<u8>,
}

impl Frame<'_> {
    fn put(&mut self, held: &Held<'_>) {
        match (held, self.format) {
            (Held::Record(table, row), Format::Json) => {
                let begin = self.out.len();
                format::Writer::new(format::Format::Json, &table.name).row(row, self.out);
                let database = json!(table.database);
                let prefix = format!("{{\"lsn\":{},\"database\":{database},", self.lsn);
                // In place of the brace that opens the record.
                self.out.splice(begin..=begin, prefix.into_bytes());
            }
            (Held::Record(table, row), Format::Line) => {
                if self.database.as_ref() != Some(&table.database) {
                    self.comment(&format!("database {}", table.database));
                    self.database = Some(table.database.clone());
                }
                format::Writer::new(format::Format::Line, &table.name).row(row, self.out);
            }
            // Its caller ends the dump with it.
            (Held::Unknown(_), _) => {}
            (Held::Refused(line), Format::Json) => {
                let object = json!({ "lsn": self.lsn, "database": line.database, "refused": {
                    "number": line.number, "reason": line.reason.code(), "message": line.message,
                    "text": String::from_utf8_lossy(line.text),
                } });
                self.out.extend_from_slice(format!("{object}\n").as_bytes());
            }
            (Held::Refused(line), Format::Line) => self.comment(&refused(line)),
        }
    }

    fn comment(&mut self, what: &str) {
        self.out.extend_from_slice(format!("# lsn {}, {what}\n", self.lsn).as_bytes());
    }
}

fn refused(line: &RefusedLine<'_>) -> String {
    // As a literal, so that no line break in it ends the comment.
    let text = String::from_utf8_lossy(line.text);
    let (number, reason) = (line.number, line.reason.code());
    format!("database {}, refused line {number}: {reason}: {text:?}", line.database)
}
