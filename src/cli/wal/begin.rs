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
use crate::reject::claim::Owner;
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
    /// one's, to be shown and sent again. A gateway that still runs would stop reporting to it.
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
    let sink = sink(&config)?;
    let claim = sink.as_ref().map(|store| claim(&config, store)).transpose()?;
    if let Some(claim) = claim.as_ref().filter(|_| !args.take_rejects) {
        claim.check().map_err(|error| Failure::failed(error.plain()))?;
    }
    // The lock first, as in a start: it keeps a server out of the tables too.
    let beginning = Beginning::take(&config.wal).map_err(Failure::failed)?;
    let known = known(&config, sink.as_deref())?.max(beginning.given());
    let after = args.after.map_or_else(|| known.max(beginning.begun_after()), Lsn);
    if after < known {
        return Err(Failure::failed(format!(
            "frames up to LSN {known} were stored or reported; a log that begins after {after} would \
             give their numbers again, and the tables would take new records for stored ones"
        )));
    }
    if after >= AFTER_LIMIT {
        return Err(Failure::failed(format!(
            "frames up to {known} are known, which leaves no numbers"
        )));
    }
    beginning.make(after).map_err(Failure::failed)?;
    if let Some(claim) = claim.filter(|_| args.take_rejects) {
        tell_taken(claim.take().map_err(Failure::failed)?)?;
    }
    super::print(&format!(
        "a new, empty log begins after LSN {after}; the server can be started.\nWhat the lost log held \
         and no table or report has is gone: records that were acknowledged and not yet written to \
         Parquet files ([engine.embedded] flush_interval tells how old those can be). Whoever still \
         has them sends them again; what the tables have already is taken as repeated.\n"
    ))
}

/// The last frame that the tables or the rejection reports know.
fn known(config: &Config, sink: Option<&Store>) -> Result<Lsn, Failure> {
    let catalog = Arc::new(Catalog::open(&config.data_dir).map_err(Failure::failed)?);
    let stored = match config.engine.kind {
        Kind::Embedded => stored_here(config, catalog)?,
        Kind::Postgres => stored_elsewhere(config, catalog)?,
        Kind::Timestream => stored_upstream(config, catalog)?,
    };
    let reported = sink.map_or(Ok(Lsn::ZERO), reject::last_reported).map_err(Failure::failed)?;
    Ok(stored.max(reported))
}

/// The reject sink. A folder that is not there has no reports, and is not made for the question.
fn sink(config: &Config) -> Result<Option<Arc<Store>>, Failure> {
    let url = &config.rejects.url;
    let folder = url.strip_prefix("file://").unwrap_or(url);
    if !folder.contains("://") && !Path::new(folder).is_dir() {
        return Ok(None);
    }
    let store = Store::open(url, &config.object).map_err(Failure::failed)?;
    Ok(Some(Arc::new(store)))
}

fn claim(config: &Config, store: &Arc<Store>) -> Result<Claim, Failure> {
    let clock = SystemClock::shared();
    let gateway = identity::of_folder(&config.data_dir, clock.wall_ns()).map_err(|error| {
        let path = config.data_dir.join(identity::FILE_NAME);
        Failure::failed(format!("cannot read or make {}: {error}", path.display()))
    })?;
    Ok(Claim::new(Arc::clone(store), gateway, clock))
}

fn tell_taken(before: Option<Owner>) -> Result<(), Failure> {
    let Some(Owner { gateway, host, since }) = before else { return Ok(()) };
    super::print(&format!(
        "the reject sink was that of gateway {gateway} on {host} since {since}; it is this one's now\n"
    ))
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
