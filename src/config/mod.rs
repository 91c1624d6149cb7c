//! Floor 8: all settings. Each section is the `Options` of the module that it configures, so a key is
//! documented, defaulted and checked where it is used; `config.toml` in the repository is the same
//! thing written out for people, and a test holds the two together.

mod fit;
mod keys;
pub mod load;
mod words;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::base::class::chain;
use crate::engine::catalog::Profile;
use crate::{api, batch, engine, http, ingest, load as loads, metrics, object, reject, shard, wal};

pub use load::{ConfigError, load};

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The folder for log, tables and rejects. Made where it is missing. On ext4 or XFS, and on a disk
    /// that honours flushes: the promise is no better than that.
    pub data_dir: PathBuf,
    /// The socket and its limits.
    pub server: http::Options,
    /// Who may read and write.
    pub auth: http::auth::Options,
    /// The way in.
    pub ingest: ingest::Options,
    /// The log.
    pub wal: wal::Options,
    /// The writer threads.
    pub shards: shard::Options,
    /// Batches on their way to the engine.
    pub batch: batch::Options,
    /// The table engine.
    pub engine: engine::Options,
    /// The reject sink.
    pub rejects: reject::Options,
    /// `DataZone`'s time series data points.
    pub datazone: api::datazone::Options,
    /// Batch loads.
    pub batch_load: loads::Options,
    /// Object stores of batch loads and rejects.
    pub object: object::Options,
    /// Who may read the metrics.
    pub metrics: metrics::Options,
    /// What is logged.
    pub log: LogOptions,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("tidegate-data"),
            server: http::Options::default(),
            auth: http::auth::Options::default(),
            ingest: ingest::Options::default(),
            wal: wal::Options::default(),
            shards: shard::Options::default(),
            batch: batch::Options::default(),
            engine: engine::Options::default(),
            rejects: reject::Options::default(),
            datazone: api::datazone::Options::default(),
            batch_load: loads::Options::default(),
            object: object::Options::default(),
            metrics: metrics::Options::default(),
            log: LogOptions::default(),
        }
    }
}

/// Settings of the section `log`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogOptions {
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or per module as in
    /// `"info,tidegate::wal=debug"`. Nothing is logged per record at any level.
    pub level: String,
    /// How: `text` for people, `json` for collectors.
    pub format: LogFormat,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

impl LogOptions {
    fn problem(&self) -> Option<String> {
        let level = &self.level;
        let wrong = level.split(',').map(str::trim).find(|part| !is_directive(part));
        let wrong = wrong.map(|part| {
            format!(
                "log.level: {part:?} is not one of {WORDS}, nor a module with one, as in {EXAMPLE}"
            )
        });
        // What is in brackets is the filter's own language, and its own matter.
        let unread = || level.parse::<tracing_subscriber::EnvFilter>().err();
        wrong.or_else(|| {
            let error = unread()?;
            let right = format!("write one of {WORDS}, or a module with one, as in {EXAMPLE}");
            Some(format!("log.level: {level:?} cannot be read ({error}): {right}"))
        })
    }
}

/// The words of the log's filter, for it and for people.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
const WORDS: &str = "off, error, warn, info, debug and trace";

/// A level of our own modules.
const EXAMPLE: &str = "\"info,tidegate::wal=debug\"";

/// Whether a part of a level is one, or a module and one. The filter takes a word that is no level for a
/// module's name, and logs nothing else.
fn is_directive(part: &str) -> bool {
    let (module, level) = part.rsplit_once('=').unwrap_or(("tidegate", part));
    let is_spans = module.contains('[');
    let is_level = LEVELS.iter().any(|known| level.trim().eq_ignore_ascii_case(known));
    is_spans || (is_level && !module.trim().is_empty())
}

impl Config {
    /// Every contradiction, all at once, as `key: what is wrong`.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.problems_of_sections();
        problems.extend(fit::of_the_socket(self));
        problems.extend(fit::folders(self));
        problems
    }

    /// The same of a command that opens the data folder and no socket: certificates, tokens and who may
    /// reach it are no matter of its, and their files may be readable to the server's user only.
    pub fn problems_of_data(&self) -> Vec<String> {
        let mut problems = self.problems_of_data_sections();
        problems.extend(fit::folders(self));
        problems
    }

    /// What is wrong within each section.
    fn problems_of_sections(&self) -> Vec<String> {
        let mut problems = Vec::new();
        problems.extend(self.server.validate().iter().map(ToString::to_string));
        problems
            .extend(http::tls::Material::load(&self.server.tls).err().map(|error| chain(&error)));
        problems.extend(self.auth.problems().iter().map(|error| chain(error)));
        problems.extend(self.problems_of_data_sections());
        problems
    }

    /// What is wrong within the sections that say how data is kept.
    fn problems_of_data_sections(&self) -> Vec<String> {
        let mut problems = Vec::new();
        problems.extend(self.ingest.problems());
        problems.extend(self.wal.problems());
        problems.extend(self.shards.problems());
        problems.extend(self.batch.problems());
        problems.extend(self.engine.problems());
        problems.extend(self.rejects.problems());
        problems.extend(self.datazone.problems());
        problems.extend(self.batch_load.problems());
        problems.extend(self.object.problems());
        if self.data_dir.as_os_str().is_empty() {
            problems.push("data_dir: empty; name a folder".to_owned());
        }
        problems.extend(self.log.problem());
        problems
    }

    /// The settings with every place that is left empty made one in the data folder, and what the
    /// engine asks of the others.
    #[must_use]
    pub fn placed(mut self) -> Self {
        let beside = |path: &PathBuf, name: &str| {
            if path.as_os_str().is_empty() { self.data_dir.join(name) } else { path.clone() }
        };
        self.wal.dir = beside(&self.wal.dir, "wal");
        self.engine.embedded.dir = beside(&self.engine.embedded.dir, "tables");
        self.engine.timestream.dir = beside(&self.engine.timestream.dir, "upstream");
        if self.engine.kind == engine::Kind::Timestream {
            // What the upstream would refuse is refused while its producer is there to hear it.
            self.ingest.profile = Profile::Strict;
        }
        for (url, name) in
            [(&mut self.rejects.url, "rejects"), (&mut self.batch_load.url, "buckets")]
        {
            if url.is_empty() {
                *url = self.data_dir.join(name).display().to_string();
            }
        }
        self
    }
}

#[cfg(test)]
mod tests;
