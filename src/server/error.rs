//! Why a server does not start: each part's own error, and what only shows when they are put together.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::base::lsn::Lsn;
use crate::engine::EngineError;
use crate::engine::catalog::CatalogError;
use crate::http::auth::AuthError;
use crate::http::tls::TlsError;
use crate::load::LoadError;
use crate::object::ObjectError;
use crate::record::TableId;
use crate::record::codec::CodecError;
use crate::wal::WalError;

/// Why a server does not start. Nothing was accepted; what is on disk stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings contradict themselves.
    #[error("the settings cannot work:\n  {}", problems.join("\n  "))]
    Config {
        /// Every contradiction.
        problems: Vec<String>,
    },
    /// The data folder cannot be made.
    #[error("cannot make the data folder {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The gateway's name cannot be read or made.
    #[error("cannot read or make the gateway's name in {}", path.display())]
    Identity {
        /// Its file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The system has no thread or runtime to give.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// The log.
    #[error("the log does not open")]
    Wal(#[from] WalError),
    /// The catalog.
    #[error("the catalog does not open")]
    Catalog(#[from] CatalogError),
    /// The engine.
    #[error("the engine does not open")]
    Engine(#[from] EngineError),
    /// The reject sink.
    #[error("the reject sink does not open")]
    Rejects(#[from] ObjectError),
    /// The batch loads.
    #[error("the batch loads do not open")]
    Loads(#[from] LoadError),
    /// A token or password.
    #[error("the credentials cannot be read")]
    Auth(#[from] AuthError),
    /// The certificate or its key.
    #[error("the certificate cannot be used")]
    Tls(#[from] TlsError),
    /// The metrics' table is wrong.
    #[error("the metrics contradict each other")]
    Metrics(#[from] prometheus::Error),
    /// The engine has stored frames that the log does not have: new frames would get their numbers
    /// again, and be taken for stored.
    #[error(
        "the tables hold frames up to {stored}, but the log in {} ends at {durable}: it is not the \
         log of these tables, or lost its end; put the right one back, or point wal.dir at it; where it \
         is lost for good, `tidegate wal begin --help` tells how to go on without it",
        dir.display()
    )]
    LogBehind {
        /// The log's folder.
        dir: PathBuf,
        /// The last frame that the engine has stored of any bucket.
        stored: Lsn,
        /// The last frame of the log.
        durable: Lsn,
    },
    /// There are tables and no log at all: a new one would give the numbers of its frames again, and
    /// what the lost one held would be missed by nobody.
    #[error(
        "the catalog in {} has tables, but there is no log in {}: put it back or mount its folder, or \
         point wal.dir at it; where it is lost for good, `tidegate wal begin --help` tells how to go on \
         without it",
        data.display(), dir.display()
    )]
    LogMissing {
        /// The log's folder.
        dir: PathBuf,
        /// The data folder.
        data: PathBuf,
    },
    /// The log says that records are in the tables, and there are none.
    #[error(
        "the log says that frames up to {stored} are stored in the tables, but {} has no manifest.json: \
         mount or restore the folder, or point engine.embedded.dir at it",
        dir.display()
    )]
    TablesMissing {
        /// The tables' folder.
        dir: PathBuf,
        /// The log's checkpoint.
        stored: Lsn,
    },
    /// A frame names a table that the catalog never had: the next table made would get its records.
    #[error(
        "frame {lsn} of the log has records of table number {table}, which {} never gave: the catalog \
         is missing, lost its end, or is an older copy; restore the catalog.log that this log was \
         written with",
        path.display()
    )]
    CatalogBehind {
        /// The catalog's file.
        path: PathBuf,
        /// The frame.
        lsn: Lsn,
        /// The number.
        table: TableId,
    },
    /// A frame to be replayed is of no format that this build reads.
    #[error("frame {lsn} of the log cannot be read")]
    Frame {
        /// The frame.
        lsn: Lsn,
        /// What is wrong with it.
        #[source]
        source: CodecError,
    },
}
