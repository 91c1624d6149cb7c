//! `tidegate wal verify`: is every frame of the log what was written?

use std::fmt::Write as _;

use clap::Args;

use super::super::progress::Progress;
use super::super::{Failure, SettingsArgs};
use crate::base::lsn::Lsn;
use crate::wal::inspect::{self, Verdict};

/// Flags of `wal verify`.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    settings: SettingsArgs,
}

pub(super) fn run(args: &VerifyArgs, of_wal: &SettingsArgs) -> Result<(), Failure> {
    let config = super::settings(&args.settings, of_wal)?;
    let dir = &config.wal.dir;
    let stored = super::stored(&config)?;
    let overview = inspect::overview(dir).map_err(Failure::failed)?;
    let with_frames = overview.segments.iter().filter(|segment| segment.first() > Lsn::ZERO);
    let mut progress =
        Progress::new("verifying, bytes", with_frames.map(|segment| segment.bytes).sum());
    let mut done = 0;
    let verdict = inspect::verify(dir, &mut |segment| {
        progress.at(done);
        done += segment.bytes;
    });
    drop(progress);
    let verdict = verdict.map_err(Failure::failed)?;
    super::print(&told(&verdict))?;
    if verdict.is_sound() {
        let behind = super::behind(&config, stored, verdict.end());
        return behind.map_or(Ok(()), |why| Err(Failure::failed(why)));
    }
    Err(Failure::failed(format!("{} is damaged; see above", dir.display())))
}

fn told(verdict: &Verdict) -> String {
    let mut text = String::new();
    for damage in &verdict.damage {
        writeln!(text, "damaged: {damage}\n  what to do: {}", damage.advice())
            .expect("a string takes all");
    }
    for (number, walked) in &verdict.walked {
        if walked.torn_bytes > 0 {
            let torn = walked.torn_bytes;
            writeln!(
                text,
                "segment {number}: {torn} bytes behind LSN {} were being written when the server \
                 ended, or are now; a start drops what is not whole, and none of it was synced",
                walked.last
            )
            .expect("a string takes all");
        }
    }
    let (frames, segments) = (verdict.frames(), verdict.walked.len());
    writeln!(
        text,
        "{frames} sound frames in {segments} segments, {} damages",
        verdict.damage.len()
    )
    .expect("a string takes all");
    text
}
