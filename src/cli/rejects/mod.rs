//! `tidegate rejects ..`: what was refused and why; sent again once it is mended.
//!
//! `ls` and `show` read the sink itself, so that they work without a server and beside one; with `--url` they ask
//! a running server, which may be elsewhere. `resubmit` always asks a server, since only that writes.

mod show;
mod source;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use self::source::{Server, Source};
use super::client::{Access, Address};
use super::out::print;
use super::{Failure, SettingsArgs, health};
use crate::reject::entry::Id;
use crate::server::Interrupts;

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
nothing is sent either, and the exit code says so: write the record as any other, or give --again."#;

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
    /// The rejections' numbers.
    #[arg(value_name = "ID", required_unless_present = "all")]
    ids: Vec<String>,
}

/// Rejections that one request sends again: few enough for a server's limit of time.
const SENT_AT_ONCE: usize = 200;

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
        Command::Resubmit(args) => resubmit(args, &settings(&args.settings)),
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
    let mut after = None;
    while left > 0 {
        let page = source.page(&parts, left, after.take())?;
        for warning in page.unreadable {
            // Standard error may be closed; the list is what was asked for.
            drop(writeln!(io::stderr(), "passed over: {}", show::plain(&warning)));
        }
        left = left.saturating_sub(page.rejections.len());
        untold += page.untold;
        for one in page.rejections {
            if is_json {
                print_json(&one)?;
            } else {
                if count == 0 {
                    print(show::HEAD)?;
                }
                print(&show::row(&one))?;
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
    if count == 0 && !is_json {
        print(&format!("nothing refused is open in {}\n", source.place()))?;
    }
    Ok(())
}

fn show(args: &ShowArgs, settings: &SettingsArgs) -> Result<(), Failure> {
    let is_json = is_json(&args.format)?;
    let ids = ids(&args.ids)?;
    let mut source = Source::open(settings, &args.remote)?;
    let mut missing = Vec::new();
    for id in ids {
        match source.find(id)? {
            Some(one) if is_json => print_json(&one)?,
            Some(one) => print(&show::explained(&one))?,
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

fn resubmit(args: &ResubmitArgs, settings: &SettingsArgs) -> Result<(), Failure> {
    ids(&args.ids)?;
    let parts = args.filter.parts();
    if !args.all && !parts.is_empty() {
        return Err(Failure::usage("filters choose among --all; leave them out beside IDs"));
    }
    let config = settings.load(Vec::new())?;
    let trust = &args.remote.access.trust;
    let address = match &args.remote.url {
        Some(url) => Address::parse("--url", url, trust)?,
        None => health::ours(&config.server, trust)?,
    };
    let mut server = Server::new(address, &args.remote)?;
    let mut request = Map::new();
    request.insert("set".into(), set(&args.set)?);
    request.insert("dry_run".into(), args.dry_run.into());
    if args.again {
        request.insert("again".into(), true.into());
    }
    let format = args.json.as_ref().map(|_| "json".to_owned()).or(args.text_format.clone());
    let texts = [("line", args.text()?), ("precision", args.precision.clone()), ("format", format)];
    for (name, text) in texts.into_iter().filter_map(|(name, text)| Some((name, text?))) {
        request.insert(name.into(), text.into());
    }
    let mut tally = Tally::default();
    let is = if args.dry_run { Run::Dry } else { Run::Real };
    if !args.all {
        for some in args.ids.chunks(SENT_AT_ONCE) {
            request.insert("ids".into(), json!(some));
            tally.told(&server.resubmit(&request)?, is)?;
        }
        return tally.end(is);
    }
    let mut filter: Map<String, Value> =
        parts.into_iter().map(|(name, part)| (name.to_owned(), part.into())).collect();
    filter.insert("limit".into(), SENT_AT_ONCE.into());
    let interrupts = Interrupts::listen("ending with the request under way");
    let interrupts = interrupts.map_err(Failure::failed)?;
    loop {
        request.insert("filter".into(), filter.clone().into());
        let answer = server.resubmit(&request)?;
        tally.told(&answer, is)?;
        if let Some(signal) = interrupts.heard().filter(|_| !answer["next"].is_null()) {
            let told = tally.counts(is) + "; the others were not sent";
            return Err(Failure::Interrupted { signal, told });
        }
        // Those that stay open are behind the mark, and do not come again.
        match &answer["next"] {
            Value::Null => return tally.end(is),
            next => filter.insert("after".into(), next.clone()),
        };
    }
}

impl ResubmitArgs {
    /// The text that is given, whichever way.
    fn text(&self) -> Result<Option<String>, Failure> {
        let Some(path) = &self.line_file else {
            return Ok(self.line.clone().or_else(|| self.json.clone()));
        };
        let read = if path.as_os_str() == "-" {
            io::read_to_string(io::stdin())
        } else {
            std::fs::read_to_string(path)
        };
        let told = |error| Failure::usage(format!("--line-file {}: {error}", path.display()));
        // The end of the file is none of the text.
        read.map(|text| Some(text.trim_end_matches('\n').to_owned())).map_err(told)
    }
}

/// What is set, by name.
fn set(pairs: &[String]) -> Result<Value, Failure> {
    let mut set = Map::new();
    for pair in pairs {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            Failure::usage(format!("--set {pair}: write KEY=VALUE, as in version=next"))
        })?;
        if set.insert(key.to_owned(), value.into()).is_some() {
            return Err(Failure::usage(format!("--set {key}: it stands twice")));
        }
    }
    Ok(set.into())
}

/// What became of all that was sent.
#[derive(Debug, Default)]
struct Tally {
    stored: u64,
    /// Taken before, as it would be now.
    already: u64,
    /// Of a dry run: nobody can tell.
    unknown: u64,
    left: u64,
    /// Texts of no known table.
    untold: u64,
}

impl Tally {
    /// Prints an answer, and counts it.
    fn told(&mut self, answer: &Value, is: Run) -> Result<(), Failure> {
        for result in answer["results"].as_array().into_iter().flatten() {
            let outcome = result["outcome"].as_str().unwrap_or("unknown");
            *match outcome {
                "stored" | "would_be_stored" => &mut self.stored,
                "resubmitted" => &mut self.already,
                "unknown" if is == Run::Dry => &mut self.unknown,
                _ => &mut self.left,
            } += 1;
            print(&show::outcome(result, outcome))?;
        }
        self.untold += answer["untold"].as_u64().unwrap_or(0);
        Ok(())
    }

    /// What became of all, in a line.
    fn counts(&self, is: Run) -> String {
        let Self { stored, already, unknown, left, .. } = self;
        let would = if is == Run::Dry { "would be " } else { "" };
        let mut text = format!("{stored} {would}stored, {left} not");
        for (count, what) in [(already, "already taken"), (unknown, "unknown")] {
            if *count > 0 {
                write!(text, ", {count} {what}").expect("a string takes everything");
            }
        }
        text
    }

    fn end(&self, is: Run) -> Result<(), Failure> {
        print(&(self.counts(is) + "\n"))?;
        show::untold(self.untold);
        match (self.left, self.unknown, is) {
            (0, 0, _) => Ok(()),
            (0, unknown, _) => Err(Failure::failed(format!(
                "of {unknown} nobody can tell whether they would be stored"
            ))),
            (left, _, Run::Dry) => Err(Failure::failed(format!("{left} would be not stored"))),
            (left, _, Run::Real) => Err(Failure::failed(format!("{left} not stored"))),
        }
    }
}

/// Whether anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    Real,
    Dry,
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string(value).map_err(Failure::failed)?;
    print(&(json + "\n"))
}
