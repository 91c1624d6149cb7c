//! `tidegate rejects ..`: what was refused and why; sent again once it is mended.
//!
//! `ls` and `show` read the sink itself, so that they work without a server and beside one; with `--url` they ask
//! a running server, which may be elsewhere. `resubmit` always asks a server, since only that writes.

mod log;
mod resubmit;
mod show;
mod source;
mod tally;

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::{Args, Subcommand};

use self::source::Source;
use super::client::Access;
use super::out::print;
use super::{Failure, SettingsArgs};
use crate::reject::entry::Id;

/// What stands below `rejects --help`.
pub const EXAMPLES: &str = "Examples:
  tidegate rejects ls --reason version_conflict --from 2026-11-22T00:00:00Z
  tidegate rejects show 42-57
  tidegate rejects resubmit 42-57 --set version=next
  tidegate rejects resubmit 42-57 --line 'weather,site=a t=21.5 1700000000000000000'
  tidegate rejects resubmit --all --reason table_not_found --dry-run

ls and show read the sink that the settings name; with --url they ask a running server. resubmit asks the
server at --url, or the one that the settings describe, over TLS where they say so. Exit code 1 when something is not stored.";

/// Flags of `rejects`.
#[derive(Debug, Args)]
pub struct RejectsArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List what was refused and is still open, the newest first.
    #[command(after_help = LS_EXAMPLES)]
    Ls(LsArgs),
    /// Tell all about rejections: the record, the reason, the value that stood, what to do.
    #[command(after_help = "Example:\n  tidegate rejects show 42-57")]
    Show(ShowArgs),
    /// Send rejections again, as they are or mended, and mark those that are taken.
    #[command(after_help = RESUBMIT_EXAMPLES)]
    Resubmit(Box<ResubmitArgs>),
}

const LS_EXAMPLES: &str = "Examples:
  tidegate rejects ls --reason version_conflict --from 2026-11-22T00:00:00Z
  tidegate rejects ls --database iot --table weather --all --format json";

const RESUBMIT_EXAMPLES: &str = r#"Examples:
  tidegate rejects resubmit 42-57 --set version=next
  tidegate rejects resubmit 42-57 --set measure.t=21.5 --set dimension.site=b --dry-run
  tidegate rejects resubmit --all --database iot --table weather --set measure.n:BIGINT=3
  tidegate rejects resubmit 42-57 --json '{"measurement":"weather","fields":{"t":21.5}}'
  tidegate rejects resubmit 42-57 --line-file mended.txt

What can be set: version=N, version=next (one above the version that stands by then), time=TIME (RFC 3339, or an
integer with its unit: 1767225600s, ..ms, ..us, ..ns), measure.NAME=VALUE,
measure.NAME:TYPE=VALUE (DOUBLE, BIGINT, BOOLEAN, VARCHAR, TIMESTAMP), dimension.NAME=VALUE. A refused text is read as its request said, and so is one in its
place; --precision says another unit of timestamps. A text in the place of a record is read in ns.

A dry run decodes, mends and holds against what stands now, in the order in which they would be sent, 200 at a
time; it writes nothing. Sent again in the same way, what was taken is done, and nothing is sent; in another way
nothing is sent either, and the exit code says so: write the record as any other, or give --again.

While the engine is away, what is in the log by then is told as under_way, with its frame, and nothing behind it is
sent: what is under way is taken or refused when the engine is back; give the same command again then."#;

/// Which server, if any.
#[derive(Debug, Args)]
struct Remote {
    /// A running server, instead of the sink that the settings name.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Who asks, and whom the server must be.
    #[command(flatten)]
    access: Access,
}

/// Which rejections.
#[derive(Debug, Args)]
struct Filter {
    /// Of this reason, by its code; the README lists them.
    #[arg(long, value_name = "CODE")]
    reason: Option<String>,
    /// Of this database.
    #[arg(long, value_name = "D")]
    database: Option<String>,
    /// Of this table.
    #[arg(long, value_name = "T")]
    table: Option<String>,
    /// record: refused by the engine; line: refused before the log.
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Received at this time or later: RFC 3339, or nanoseconds since 1970.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Received before this time.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Of this frame, as X-Tidegate-LSN names it.
    #[arg(long, value_name = "LSN")]
    lsn: Option<String>,
}

/// Flags of `rejects ls`.
#[derive(Debug, Args)]
struct LsArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    filter: Filter,
    /// Most rejections that are listed.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Those that were sent again too.
    #[arg(long)]
    all: bool,
    /// The oldest first.
    #[arg(long)]
    oldest: bool,
    /// text, or json: one object a line.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: String,
}

/// Flags of `rejects show`.
#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    remote: Remote,
    /// text, or json: one object a line.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: String,
    /// The rejections' numbers.
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

/// Flags of `rejects resubmit`.
#[derive(Debug, Args)]
struct ResubmitArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    filter: Filter,
    /// Every open one that the filters leave.
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// What to set in each record.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The mended text, in the place of what was refused; several lines, where it was to be split.
    #[arg(long, value_name = "TEXT", conflicts_with = "all")]
    line: Option<String>,
    /// The same as JSON.
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["all", "line", "text_format"])]
    json: Option<String>,
    /// The same out of a file, or out of standard input: "-". It may be longer than a command line.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["all", "line", "json"])]
    line_file: Option<PathBuf>,
    /// How texts are read: line or json; else as the request of the refused one said.
    #[arg(long, value_name = "FORMAT")]
    text_format: Option<String>,
    /// The unit of the timestamps of texts: ns, us, ms, s, of lines m, h and auto too.
    #[arg(long, value_name = "UNIT")]
    precision: Option<String>,
    /// Say what would become of them now, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Send them though they were taken before, mended in another way.
    #[arg(long, conflicts_with = "all")]
    again: bool,
    /// The rejections' numbers, or --all.
    #[arg(value_name = "ID")]
    ids: Vec<String>,
}

/// Runs one of the commands.
///
/// # Errors
///
/// [`Failure::Usage`] for a wrong filter, number or format; [`Failure::Failed`] when sink or server cannot be
/// asked, there is no such rejection, or something was refused again.
pub fn run(args: &RejectsArgs) -> Result<(), Failure> {
    // Settings may stand before the command's name or behind it.
    let settings = |own: &SettingsArgs| own.or(&args.settings);
    match &args.command {
        Command::Ls(args) => ls(args, &settings(&args.settings)),
        Command::Show(args) => show(args, &settings(&args.settings)),
        Command::Resubmit(args) => resubmit::run(args, &settings(&args.settings)),
    }
}

impl Filter {
    /// The parts that are given, under the names that the server knows.
    fn parts(&self) -> Vec<(&'static str, String)> {
        let all = [
            ("reason", &self.reason),
            ("db", &self.database),
            ("table", &self.table),
            ("kind", &self.kind),
            ("from", &self.from),
            ("to", &self.to),
            ("lsn", &self.lsn),
        ];
        all.into_iter().filter_map(|(name, part)| Some((name, part.clone()?))).collect()
    }
}

/// Whether a format is JSON.
fn is_json(format: &str) -> Result<bool, Failure> {
    match format {
        "text" => Ok(false),
        "json" => Ok(true),
        other => Err(Failure::usage(format!("--format {other}: write text or json"))),
    }
}

fn ls(args: &LsArgs, settings: &SettingsArgs) -> Result<(), Failure> {
    let is_json = is_json(&args.format)?;
    let mut source = Source::open(settings, &args.remote)?;
    let mut parts = args.filter.parts();
    parts.push(("order", if args.oldest { "oldest" } else { "newest" }.to_owned()));
    if args.all {
        parts.push(("state", "all".to_owned()));
    }
    let (mut left, mut count, mut untold) = (args.limit as usize, 0, 0);
    let (mut after, mut frame) = (None, None);
    while left > 0 {
        let page = source.page(&parts, left, after.take())?;
        for warning in page.unreadable {
            // Standard error may be closed; the list is what was asked for.
            drop(writeln!(io::stderr(), "passed over: {}", show::plain(&warning)));
        }
        left = left.saturating_sub(page.rejections.len());
        untold += page.untold;
        frame = frame.or(page.frame);
        for one in page.rejections {
            if is_json {
                print_json(&one)?;
            } else {
                if count == 0 {
                    print(show::HEAD)?;
                }
                print(&show::row(&one, page.under_way.contains_key(&one.entry.id)))?;
            }
            count += 1;
        }
        let Some(next) = page.next else { break };
        if left == 0 {
            drop(writeln!(io::stderr(), "there are more: --limit, or narrower filters"));
        }
        after = Some(next);
    }
    show::untold(untold);
    let frame = frame.filter(|frame| count == 0 || !frame.is_executed());
    match frame {
        // Lines of JSON are rejections alone; standard error may be closed.
        Some(frame) if is_json || count > 0 => drop(writeln!(io::stderr(), "{}", frame.told())),
        Some(frame) => print(&format!("{}\n", frame.told()))?,
        None if count == 0 && !is_json => print(&nothing(args, source.place()))?,
        None => {}
    }
    Ok(())
}

/// What an empty list means.
fn nothing(args: &LsArgs, place: &str) -> String {
    let is_open = if args.all { "is" } else { "is open" };
    let what = if args.filter.parts().is_empty() { "" } else { " of what is asked for" };
    format!("nothing refused{what} {is_open} in {place}\n")
}

fn show(args: &ShowArgs, settings: &SettingsArgs) -> Result<(), Failure> {
    let is_json = is_json(&args.format)?;
    let ids = ids(&args.ids)?;
    let mut source = Source::open(settings, &args.remote)?;
    let mut missing = Vec::new();
    for id in ids {
        match source.find(id)? {
            Some(one) if is_json => print_json(&one)?,
            Some(one) => print(&show::explained(&one.rejected, one.under_way))?,
            None => missing.push(id.to_string()),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(format!("{} has no rejection {}", source.place(), missing.join(", "))))
}

fn ids(texts: &[String]) -> Result<Vec<Id>, Failure> {
    let parse = |text: &String| {
        text.parse().map_err(|wrong: crate::reject::entry::NoId| {
            Failure::usage(format!("{}: {wrong}", show::plain(text)))
        })
    };
    texts.iter().map(parse).collect()
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string(value).map_err(Failure::failed)?;
    print(&(json + "\n"))
}
