//! Whether the database could hold our tables, asked by somebody who holds none: `tidegate doctor`.

use std::sync::Arc;

use super::options::Options;
use super::session::{Connector, Counts, Purpose};
use crate::base::clock::SharedClock;
use crate::engine::EngineError;

/// Connects, asks for the server's version and for the right to make schemas, and changes nothing.
/// Returns what the server says it is. Waits as long as the settings say.
///
/// # Errors
///
/// [`EngineError::Busy`]: the server is away, or refuses us. [`EngineError::Foreign`]: it is there, and
/// the user may not make schemas in the database.
pub fn probe(options: &Options, clock: SharedClock) -> Result<String, EngineError> {
    let connector =
        Connector { options: options.clone(), clock, counts: Arc::new(Counts::default()) };
    let busy = |error: super::error::SqlError| EngineError::Busy { what: error.to_string() };
    let mut session = connector.connect(Purpose::Work).map_err(busy)?;
    let sql = "SELECT version(), has_database_privilege(current_database(), 'CREATE')";
    let rows = session.query(sql, &[]).map_err(busy)?;
    let row = rows.first().ok_or_else(|| EngineError::Busy { what: "no answer".to_owned() })?;
    let (version, may_create): (String, bool) = (row.get(0), row.get(1));
    if may_create {
        return Ok(version);
    }
    let (user, database) = (&options.user, &options.database);
    let what = format!(
        "{user:?} may not make schemas in the database {database:?}: GRANT CREATE ON DATABASE \
         {database:?} TO {user:?}"
    );
    Err(EngineError::Foreign { what })
}
