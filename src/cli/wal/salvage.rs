//! `tidegate wal salvage`: a log that refuses to start, made startable with everything sound in it.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::super::{Failure, SettingsArgs};
use crate::base::fs;
use crate::base::lsn::Lsn;
use crate::config::Config;
use crate::record::codec::PayloadBuilder;
use crate::wal::inspect;
use crate::wal::salvage::Salvage;

/// Flags of `wal salvage`.
#[derive(Debug, Args)]
pub(super) struct SalvageArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The folder for the broken files, untouched, and the listings salvage.json and salvage.txt;
    /// empty, or made.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

pub(super) fn run(args: &SalvageArgs, of_wal: &SettingsArgs) -> Result<(), Failure> {
    let config = super::settings(&args.settings, of_wal)?;
    let mut filler = Vec::new();
    let mut builder = PayloadBuilder::new(1);
    builder.start(0);
    builder.finish(&mut filler);
    let Some(salvage) = Salvage::plan(&config.wal, &filler).map_err(Failure::failed)? else {
        return match behind(&config)? {
            Some(why) => Err(Failure::failed(format!("nothing was changed; {why}"))),
            None => super::print("a start does not refuse this log; nothing was changed\n"),
        };
    };
    let copied = salvage.copy_broken(&args.to).map_err(Failure::failed)?;
    let listing = listing(&salvage, &copied);
    // The listing first: once the log is mended, nothing else tells what was lost.
    fs::replace(&args.to.join("salvage.json"), json(&salvage, &copied).as_bytes())
        .and_then(|()| fs::replace(&args.to.join("salvage.txt"), listing.as_bytes()))
        .map_err(Failure::failed)?;
    salvage.mend(&filler).map_err(Failure::failed)?;
    let to = args.to.display();
    if let Some(why) = behind(&config)? {
        super::print(&format!("{listing}\nthe log is mended; this listing is in {to}\n"))?;
        return Err(Failure::failed(why));
    }
    super::print(&format!("{listing}\nthe log can be started; this listing is in {to}\n"))
}

/// Why a start refuses this log although it is sound.
fn behind(config: &Config) -> Result<Option<String>, Failure> {
    let stored = super::stored(config)?;
    let verdict = inspect::verify(&config.wal.dir, &mut |_| {}).map_err(Failure::failed)?;
    Ok(super::behind(config, stored, verdict.end()))
}

fn json(salvage: &Salvage, copied: &[String]) -> String {
    let range = |(first, last): &(Lsn, Lsn)| json!({ "first": first, "last": last });
    let damage = salvage.damage().iter().map(|damage| {
        json!({
            "file": damage.file,
            "what": damage.case.label(),
            "segment": damage.segment,
            "offset": damage.offset,
            "lsns": damage.frames.as_ref().map(range),
        })
    });
    let listing = json!({
        "lost_lsns": salvage.lost().iter().map(range).collect::<Vec<_>>(),
        "damage": damage.collect::<Vec<_>>(),
        "sound_frames": salvage.frames(),
        "copied": copied,
    });
    format!("{listing:#}\n")
}

fn listing(salvage: &Salvage, copied: &[String]) -> String {
    let mut text = String::new();
    for damage in salvage.damage() {
        writeln!(text, "damaged: {damage}").expect("a string takes all");
    }
    for (first, last) in salvage.lost() {
        writeln!(text, "lost: LSN {first} to {last}").expect("a string takes all");
    }
    if salvage.lost().is_empty() {
        text.push_str("lost: no frame that is known to have been there\n");
    }
    writeln!(text, "kept: {} sound frames", salvage.frames()).expect("a string takes all");
    writeln!(text, "copied as they were: {}", copied.join(", ")).expect("a string takes all");
    text
}
