//! `tidegate wal ls`: the segments of the log, and how far it got.

use std::fmt::Write as _;
use std::path::Path;

use clap::Args;

use super::super::{Failure, SettingsArgs};
use crate::base::lsn::Lsn;
use crate::config::Config;
use crate::wal::Options;
use crate::wal::inspect::{self, Checkpoint, Overview, SegmentInfo, SegmentState};

/// Flags of `wal ls`.
#[derive(Debug, Args)]
pub(super) struct LsArgs {
    #[command(flatten)]
    settings: SettingsArgs,
}

/// One line of the table.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    segment: &'a SegmentInfo,
    frames: u64,
    last: Lsn,
}

pub(super) fn run(args: &LsArgs, of_wal: &SettingsArgs) -> Result<(), Failure> {
    super::print(&text(&super::settings(&args.settings, of_wal)?)?)
}

/// The whole output.
pub(super) fn text(config: &Config) -> Result<String, Failure> {
    let dir = &config.wal.dir;
    let overview = inspect::overview(dir).map_err(Failure::failed)?;
    let lines: Result<Vec<_>, _> =
        overview.segments.iter().map(|segment| line(dir, &overview, segment)).collect();
    let lines = lines?;
    let mut text = table(&lines);
    text.push_str(&marks(&overview, &lines));
    text.push_str(&retained(&config.wal, &lines));
    Ok(text)
}

fn line<'a>(
    dir: &Path,
    overview: &Overview,
    segment: &'a SegmentInfo,
) -> Result<Line<'a>, Failure> {
    let first = segment.first();
    if first == Lsn::ZERO {
        return Ok(Line { segment, frames: 0, last: Lsn::ZERO });
    }
    // Where the next segment says where this one ends, nothing needs to be read.
    let last = if let Some(until) = segment.until() {
        until
    } else {
        let walked = inspect::walk(dir, overview, segment, &mut |_, _| Ok(()));
        walked.map_err(Failure::failed)?.last
    };
    Ok(Line { segment, frames: last.next().0.saturating_sub(first.0), last })
}

fn table(lines: &[Line<'_>]) -> String {
    let mut text = format!(
        "{:<24} {:>6} {:<16} {:<7} {:>8} {:>21} {:>12}\n",
        "FILE", "NUMBER", "GENERATION", "STATE", "FRAMES", "LSN", "BYTES"
    );
    for Line { segment, frames, last } in lines {
        let generation = segment.generation().map_or("-".to_owned(), |one| format!("{one:016x}"));
        let range =
            if *frames == 0 { "-".to_owned() } else { format!("{}-{last}", segment.first()) };
        writeln!(
            text,
            "{:<24} {:>6} {generation:<16} {:<7} {frames:>8} {range:>21} {:>12}",
            segment.file,
            segment.number,
            segment.state.label(),
            segment.bytes
        )
        .expect("a string takes all");
    }
    text
}

fn marks(overview: &Overview, lines: &[Line<'_>]) -> String {
    let is_needed = |line: &&Line<'_>| line.segment.state != SegmentState::Stored;
    let last = lines.iter().filter(is_needed).map(|line| line.last).max().unwrap_or_default();
    let bytes: u64 = lines.iter().map(|line| line.segment.bytes).sum();
    let checkpoint = match overview.checkpoint {
        Checkpoint::Missing => "there is none; a start replays every segment".to_owned(),
        Checkpoint::Damaged => "damaged; run `tidegate wal verify`".to_owned(),
        Checkpoint::Sound { checkpoint, segment, durable } => format!(
            "{checkpoint} (stored in the tables; segments from {segment} on are needed; \
             {durable} was durable when it was written)"
        ),
    };
    format!("\ncheckpoint {checkpoint}\nlast       {last}\nbytes      {bytes}\n")
}

/// What lies below the checkpoint and can be sent again, as long as its files are not used again.
fn retained(options: &Options, lines: &[Line<'_>]) -> String {
    let is_readable =
        |line: &&Line<'_>| line.segment.state == SegmentState::Stored && line.frames > 0;
    let readable: Vec<_> = lines.iter().filter(is_readable).collect();
    let bytes: u64 = readable.iter().map(|line| line.segment.bytes).sum();
    let range = match (readable.first(), readable.last()) {
        (Some(first), Some(last)) => format!(", LSN {}-{}", first.segment.first(), last.last),
        _ => String::new(),
    };
    let Options { retain_bytes, retain_for, .. } = options;
    format!(
        "retained   {} segments, {bytes} bytes{range} (wal.retain_bytes is {retain_bytes}, \
         wal.retain_for {retain_for})\n",
        readable.len()
    )
}
