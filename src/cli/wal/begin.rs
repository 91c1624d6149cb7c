//! `tidegate wal begin`: a new log for tables whose log is lost for good.
//!
//! A start refuses a log that ends before what the tables have, since new frames would get the numbers
//! of stored ones and be left out as stored. This command is the operator's word that the log is not
//! coming back.
//!
//! The same holds for a reject sink whose gateway is lost with its data folder ([`crate::reject::claim`]): a new
//! log must begin behind the frames that its reports name. The log is made first and the sink taken over behind it:
//! a crash between the two leaves a start refused, and this command goes on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;

use super::super::{Failure, SettingsArgs};
use crate::base::clock::SystemClock;
use crate::base::lsn::Lsn;
use crate::base::{fs, identity};
use crate::config::Config;
use crate::engine::catalog::Catalog;
use crate::engine::embedded::{Embedded, stored_in};
use crate::engine::postgres::Postgres;
use crate::engine::timestream::{self, Timestream};
use crate::engine::{Kind, LogEnds, TableEngine};
use crate::object::Store;
use crate::record::TableId;
use crate::record::codec::Bucket;
use crate::reject::claim::{self, Found, Taken};
use crate::reject::{self, Claim};
use crate::wal::begin::{AFTER_LIMIT, Beginning};

/// Flags of `wal begin`.
#[derive(Debug, Args)]
pub(super) struct BeginArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The new log's first frame is the one behind this LSN. Without it: behind the last frame that the
    /// tables and the rejection reports know. More than that where clients were told of later ones.
    #[arg(long, value_name = "LSN")]
    after: Option<u64>,
    /// Takes over the reject sink of another gateway, which is gone for good: its rejections become this
    /// one's, to be shown and sent again. One that still runs reports there for another ten seconds at most, under
    /// numbers that this log does not use, and then keeps what it refuses in its log.
    #[arg(long)]
    take_rejects: bool,
}

pub(super) fn run(args: &BeginArgs, of_wal: &SettingsArgs) -> Result<(), Failure> {
    if let Some(after) = args.after.filter(|after| Lsn(*after) >= AFTER_LIMIT) {
        return Err(Failure::usage(format!("--after: {after} is not in 0 to 2^62 - 1")));
    }
    let config = args.settings.or(of_wal).load(Vec::new())?.placed();
    if !config.data_dir.is_dir() {
        let data = config.data_dir.display();
        if !args.take_rejects {
            let told = format!("there are no tables in {data}; a start makes a log");
            return Err(Failure::failed(told));
        }
        fs::create_dir_all(&config.data_dir).map_err(Failure::failed)?;
    }
    // The lock first, as in a start: it keeps a server out of the tables too.
    let beginning = Beginning::take(&config.wal).map_err(Failure::failed)?;
    let sink = Sink::of(&config, args.take_rejects)?;
    let known = known(&config)?.max(beginning.given()).max(sink.known);
    let after = args.after.map_or_else(|| known.max(beginning.begun_after()), Lsn);
    if after < known {
        return Err(Failure::failed(format!(
            "frames up to LSN {known} are stored, or reserved for reports; a log that begins after {after} would \
             give their numbers again, and the tables would take new records for stored ones"
        )));
    }
    if after >= AFTER_LIMIT {
        return Err(Failure::failed(format!(
            "frames up to {known} are known, which leaves no numbers"
        )));
    }
    beginning.make(after).map_err(Failure::failed)?;
    let taken = sink.take(after)?;
    super::print(&format!(
        "a new, empty log begins after LSN {after}; the server can be started.\n{taken}What the lost log held \
         and no table or report has is gone: records that were acknowledged and not yet written to \
         Parquet files ([engine.embedded] flush_interval tells how old those can be). Whoever still \
         has them sends them again; what the tables have already is taken as repeated.\n"
    ))
}

/// The last frame that the tables know.
fn known(config: &Config) -> Result<Lsn, Failure> {
    let catalog = Arc::new(Catalog::open(&config.data_dir).map_err(Failure::failed)?);
    match config.engine.kind {
        Kind::Embedded => stored_here(config, catalog),
        Kind::Postgres => stored_elsewhere(config, catalog),
        Kind::Timestream => stored_upstream(config, catalog),
    }
}

/// The reject sink.
struct Sink {
    /// `None` where there is no folder: it has no reports, and is not made for the question.
    claim: Option<Claim>,
    /// Who has it, where it is another gateway's, or nobody knows whose.
    other: Option<Taken>,
    /// Up to which frame it may have reports.
    known: Lsn,
}

impl Sink {
    /// Looks at the sink, which is only to be another's where it `may_take` it over.
    fn of(config: &Config, may_take: bool) -> Result<Self, Failure> {
        let url = &config.rejects.url;
        let folder = url.strip_prefix("file://").unwrap_or(url);
        if !folder.contains("://") && !Path::new(folder).is_dir() {
            if may_take {
                let told =
                    format!("--take-rejects: there is no reject sink at {folder} (rejects.url)");
                return Err(Failure::failed(told));
            }
            return Ok(Self { claim: None, other: None, known: Lsn::ZERO });
        }
        let store = Arc::new(Store::open(url, &config.object).map_err(Failure::failed)?);
        let clock = SystemClock::shared();
        let gateway = identity::of_folder(&config.data_dir, clock.wall_ns()).map_err(|error| {
            let path = config.data_dir.join(identity::FILE_NAME);
            Failure::failed(format!("cannot read or make {}: {error}", path.display()))
        })?;
        let found = claim::look(&store).map_err(Failure::failed)?;
        let (reserved, other) = match found {
            Found::Nobody => (Lsn::ZERO, None),
            Found::Owner(owner) if owner.gateway == gateway => (owner.reserved, None),
            Found::Owner(owner) => (owner.reserved, Some(Taken::Another(owner))),
            Found::Unreadable(why) => (Lsn::ZERO, Some(Taken::Unreadable(why))),
        };
        if let Some(taken) = other.as_ref().filter(|_| !may_take) {
            return Err(Failure::failed(format!("cannot use {}: {taken}", store.place())));
        }
        let reported = reject::last_reported(&store).map_err(Failure::failed)?;
        let known = reported.max(reserved);
        let known = if other.is_some() { claim::behind(known) } else { known };
        let claim = Claim::new(store, gateway, known, clock);
        Ok(Self { claim: Some(claim), other, known })
    }

    /// Makes it this gateway's where it is another's; what is to be said of it.
    fn take(self, begun: Lsn) -> Result<String, Failure> {
        let Self { claim: Some(claim), other: Some(other), known: _ } = self else {
            return Ok(String::new());
        };
        claim.take(begun).map_err(|error| {
            let told =
                "the log is made, and the reject sink is still another's; run the same again";
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            Failure::failed(format!("{told}: {error}: {}", cause.unwrap_or_default()))
        })?;
        Ok(match other {
            Taken::Another(owner) => {
                format!("The reject sink was gateway {owner}'s, and is this one's now.\n")
            }
            _ => "The reject sink, whose owner could not be read, is this gateway's now.\n"
                .to_owned(),
        })
    }
}

fn stored_here(config: &Config, catalog: Arc<Catalog>) -> Result<Lsn, Failure> {
    let engine = config.engine.embedded.clone();
    // Every start writes the manifest before the first table can be made.
    let is_begun = stored_in(&engine.dir).map_err(Failure::failed)?.is_some();
    if !is_begun && catalog.has_numbered(TableId(1)) {
        let (data, tables) = (config.data_dir.display(), engine.dir.display());
        return Err(Failure::failed(format!(
            "the catalog in {data} has tables, but {tables} has no manifest.json: mount or restore the \
             folder, or point engine.embedded.dir at it; without it nobody knows which frames are stored"
        )));
    }
    let engine =
        Embedded::open(engine, 1, catalog, SystemClock::shared()).map_err(Failure::failed)?;
    let stored = Bucket::all().map(|bucket| engine.stored(bucket)).max().unwrap_or_default();
    engine.close();
    Ok(stored)
}

/// What the database has; it must be there.
fn stored_elsewhere(config: &Config, catalog: Arc<Catalog>) -> Result<Lsn, Failure> {
    let options = config.engine.postgres.clone();
    // Whatever log it had: it is lost.
    let log = LogEnds { checkpoint: Lsn::ZERO, durable: Lsn(u64::MAX) };
    let shards = config.shards.effective_count();
    let folder = (&*config.data_dir, log);
    let engine = Postgres::open(options, folder, shards, catalog, SystemClock::shared());
    let engine = engine.map_err(Failure::failed)?;
    if !engine.knows_stored() {
        let fault = engine.state().fault.unwrap_or_default();
        return Err(Failure::failed(format!("nobody knows which frames are stored: {fault}")));
    }
    let stored = Bucket::all().map(|bucket| engine.stored(bucket)).max().unwrap_or_default();
    engine.close();
    Ok(stored)
}

/// What the marks beside the log say of a server upstream, which is not asked.
fn stored_upstream(config: &Config, catalog: Arc<Catalog>) -> Result<Lsn, Failure> {
    let parts = timestream::Parts {
        catalog,
        clock: SystemClock::shared(),
        stopping: Arc::new(AtomicBool::new(true)),
        replay_until: Lsn::ZERO,
    };
    let shards = config.shards.effective_count();
    let engine = Timestream::open(&config.engine.timestream, shards, parts);
    let engine = engine.map_err(Failure::failed)?;
    let stored = Bucket::all().map(|bucket| engine.stored(bucket)).max().unwrap_or_default();
    engine.close();
    Ok(stored)
}
