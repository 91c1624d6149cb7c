//! One connection to the server, behind blocking calls. The client is asynchronous; its runtime, one a
//! connection and on the caller's own thread, is hidden here.
//!
//! A call waits for its answer no longer than the server would work on it and a little more; then the
//! connection is taken for lost, and whatever it had open is undone by the server sooner or later.

use std::collections::HashMap;
use std::future::Future;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, TryStreamExt};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::config::SslMode as WireSslMode;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row, Statement};

use super::error::SqlError;
use super::options::{Options, SslMode};
use super::tls::Tls;
use crate::base::clock::SharedClock;

/// Prepared statements that a session keeps; then it begins anew. A table has one a set of columns.
const STATEMENTS_MAX: usize = 256;

/// After how long without a word a connection is asked whether it is there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);

/// A parameter of a statement.
pub(super) type Param<'p> = &'p (dyn ToSql + Sync);

/// What sessions have done since the start. Relaxed: each is a count and orders nothing.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) open: AtomicU64,
    pub(super) connected: AtomicU64,
    pub(super) statements: AtomicU64,
    pub(super) statement_ns: AtomicU64,
}

/// Makes sessions.
#[derive(Debug)]
pub(super) struct Connector {
    pub(super) options: Options,
    pub(super) clock: SharedClock,
    pub(super) counts: Arc<Counts>,
    /// What a session has found out about the server's locks. Relaxed: one that is late finds it out too.
    pub(super) locks_by_series: AtomicBool,
}

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Short statements under the settings' timeouts.
    Work,
    /// One statement that reads a table, however long it takes.
    Scan,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Session {
    client: Client,
    statements: HashMap<Box<str>, Statement>,
    answer_timeout: Option<Duration>,
    /// Whether the server locks rows of one series at a time only.
    pub(super) locks_by_series: bool,
    clock: SharedClock,
    counts: Arc<Counts>,
    /// Last: the connection's task ends with it.
    runtime: Runtime,
}

impl Connector {
    /// One that has made no session yet.
    pub(super) fn new(options: Options, clock: SharedClock) -> Self {
        let counts = Arc::new(Counts::default());
        Self { options, clock, counts, locks_by_series: AtomicBool::new(false) }
    }

    /// A new session.
    pub(super) fn connect(&self, purpose: Purpose) -> Result<Session, SqlError> {
        let options = &self.options;
        let runtime = Builder::new_current_thread().enable_all().build().map_err(SqlError::lost)?;
        let mut config = Config::new();
        config
            .host(&options.host)
            .port(options.port)
            .dbname(&options.database)
            .user(&options.user)
            .application_name("tidegate")
            .connect_timeout(options.connect_timeout.0)
            .tcp_user_timeout(options.answer_timeout())
            .keepalives_idle(KEEPALIVE_AFTER)
            .options(settings_of(options, purpose));
        if let Some(password) = password_of(options)? {
            config.password(password);
        }
        let limit = options.connect_timeout.0 * 2;
        let connecting = async {
            match options.sslmode {
                SslMode::Disable => {
                    config.ssl_mode(WireSslMode::Disable);
                    let (client, connection) = config.connect(NoTls).await?;
                    tokio::spawn(connection);
                    Ok::<Client, SqlError>(client)
                }
                SslMode::Require | SslMode::VerifyFull => {
                    config.ssl_mode(WireSslMode::Require);
                    let (client, connection) = config.connect(Tls::new(options)?).await?;
                    tokio::spawn(connection);
                    Ok(client)
                }
            }
        };
        let client = runtime.block_on(within(Some(limit), connecting))?;
        self.counts.open.fetch_add(1, Ordering::Relaxed);
        self.counts.connected.fetch_add(1, Ordering::Relaxed);
        Ok(Session {
            client,
            statements: HashMap::new(),
            answer_timeout: (purpose == Purpose::Work).then(|| options.answer_timeout()),
            locks_by_series: self.locks_by_series.load(Ordering::Relaxed),
            clock: Arc::clone(&self.clock),
            counts: Arc::clone(&self.counts),
            runtime,
        })
    }
}

impl Session {
    /// Executes statements without parameters, one behind the other.
    pub(super) fn batch(&mut self, sql: &str) -> Result<(), SqlError> {
        self.measured(|session| {
            let limit = session.answer_timeout;
            let call = async { Ok(session.client.batch_execute(sql).await?) };
            session.runtime.block_on(within(limit, call))
        })
    }

    /// Executes a statement and returns how many rows it touched.
    pub(super) fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, SqlError> {
        self.measured(|session| {
            let statement = session.prepared(sql)?;
            let call = async { Ok(session.client.execute(&statement, params).await?) };
            session.runtime.block_on(within(session.answer_timeout, call))
        })
    }

    /// Executes a statement and returns its rows.
    pub(super) fn query(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, SqlError> {
        self.measured(|session| {
            let statement = session.prepared(sql)?;
            let call = async { Ok(session.client.query(&statement, params).await?) };
            session.runtime.block_on(within(session.answer_timeout, call))
        })
    }

    /// Copies rows, in the binary form of COPY, and returns how many there were.
    pub(super) fn copy(&mut self, sql: &str, rows: Bytes) -> Result<u64, SqlError> {
        self.measured(|session| {
            let statement = session.prepared(sql)?;
            let call = async {
                let sink = session.client.copy_in(&statement).await?;
                let mut sink = std::pin::pin!(sink);
                sink.send(rows).await?;
                Ok(sink.finish().await?)
            };
            session.runtime.block_on(within(session.answer_timeout, call))
        })
    }

    /// Executes a query and shows its rows as they come: the server is read no faster than `each` takes
    /// them, so memory holds a few at a time. Ends early when `each` breaks; the session is then of no
    /// further use.
    pub(super) fn stream(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
        each: &mut dyn FnMut(Row) -> ControlFlow<()>,
    ) -> Result<(), SqlError> {
        let statement = self.prepared(sql)?;
        let params = params.iter().map(|param| *param as &dyn ToSql);
        let begin = self.client.query_raw(&statement, params.collect::<Vec<_>>());
        let rows = self.runtime.block_on(begin)?;
        let mut rows = std::pin::pin!(rows);
        // Outside the runtime: `each` may block, for as long as its reader takes.
        while let Some(row) = self.runtime.block_on(rows.try_next())? {
            if each(row).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn prepared(&mut self, sql: &str) -> Result<Statement, SqlError> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        if self.statements.len() >= STATEMENTS_MAX {
            self.statements.clear();
        }
        let call = async { Ok(self.client.prepare(sql).await?) };
        let statement = self.runtime.block_on(within(self.answer_timeout, call))?;
        self.statements.insert(sql.into(), statement.clone());
        Ok(statement)
    }

    fn measured<T>(
        &mut self,
        call: impl FnOnce(&mut Self) -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        let begin = self.clock.monotonic();
        let result = call(self);
        let took = self.clock.monotonic().saturating_sub(begin);
        self.counts.statements.fetch_add(1, Ordering::Relaxed);
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.counts.statement_ns.fetch_add(took_ns, Ordering::Relaxed);
        result
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.counts.open.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn within<T>(
    limit: Option<Duration>,
    call: impl Future<Output = Result<T, SqlError>>,
) -> Result<T, SqlError> {
    let Some(limit) = limit else { return call.await };
    match tokio::time::timeout(limit, call).await {
        Ok(result) => result,
        Err(_elapsed) => Err(SqlError::silent(limit)),
    }
}

/// What the session asks of the server, as command line options, so that it holds from the first
/// moment. `synchronous_commit` since an answer to COMMIT lets the log forget.
fn settings_of(options: &Options, purpose: Purpose) -> String {
    let ms = |span: crate::base::units::Span| span.0.as_millis();
    let statement = if purpose == Purpose::Scan { 0 } else { ms(options.statement_timeout) };
    format!(
        "-c synchronous_commit=on -c statement_timeout={statement} -c lock_timeout={} \
         -c idle_in_transaction_session_timeout={} -c client_min_messages=warning",
        ms(options.lock_timeout),
        ms(options.idle_timeout),
    )
}

/// The password, read anew for every connection, so that it can be changed beside a running gateway.
fn password_of(options: &Options) -> Result<Option<String>, SqlError> {
    if options.password_file.as_os_str().is_empty() {
        return Ok(std::env::var("PGPASSWORD").ok());
    }
    let path = &options.password_file;
    let text = std::fs::read_to_string(path).map_err(|error| SqlError::Unusable {
        what: format!("the password cannot be read from {}: {error}", path.display()),
    })?;
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}
