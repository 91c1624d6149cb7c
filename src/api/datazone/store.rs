//! The gateway's own database, and which entities are known.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use super::exception::not_found;
use super::input::{Digest, Parts};
use super::path::{self, Entity};
use super::{App, blocking};
use crate::api::timestream::exception::{Code, Exception};
use crate::engine::catalog::{Profile, Retention, TableSettings, TableUpdate};
use crate::engine::{EngineError, Selection, TimeRange};
use crate::ingest::SYSTEM_DATABASE;
use crate::record::TableId;

/// The tables, by name.
pub const POINTS: &str = "points";
/// See [`POINTS`].
pub const ENTITIES: &str = "entities";
/// See [`POINTS`].
pub const TOKENS: &str = "tokens";

/// How long a token's record lives: longer than the token, and as short as retention can be told.
const TOKENS_DAYS: u32 = 2;

/// Entities that are remembered to be known; when there are more, all are forgotten and looked up anew.
const KNOWN_MAX: usize = 100_000;

/// The tables, by number.
#[derive(Debug, Clone, Copy)]
pub struct Tables {
    /// Points.
    pub points: TableId,
    /// Entities.
    pub entities: TableId,
    /// Client tokens.
    pub tokens: TableId,
}

/// The tables, if anything was ever posted.
pub fn tables(app: &App) -> Option<Tables> {
    let id = |name| app.catalog.resolve(SYSTEM_DATABASE, name).map(|table| table.id);
    Some(Tables { points: id(POINTS)?, entities: id(ENTITIES)?, tokens: id(TOKENS)? })
}

/// The retention of a table whose records live for so many days.
pub fn retention(magnetic_days: u32) -> Retention {
    Retention { magnetic_days, ..Retention::default() }
}

/// The tables, made where they are missing, with the retention that is set. Waits for the disk then.
///
/// # Errors
///
/// [`Exception`] 500 where one of them is not ours.
pub fn make_tables(app: &App) -> Result<Tables, Exception> {
    let now_ns = app.clock.wall_ns();
    let make = |name, days| {
        let retention = retention(days);
        let profile = Profile::Relaxed;
        let settings = TableSettings {
            profile,
            retention,
            created_ns: now_ns,
            updated_ns: now_ns,
            ..TableSettings::default()
        };
        let table = app.catalog.create(SYSTEM_DATABASE, name, &settings)?;
        if table.profile() != profile {
            let message = format!(
                "table {name:?} of database {SYSTEM_DATABASE:?} was made by somebody else: delete it \
                 with a version of Tidegate before this API"
            );
            return Err(Exception::new(Code::InternalServer, message));
        }
        if table.retention() != retention {
            let update = TableUpdate {
                memory_hours: Some(retention.memory_hours),
                magnetic_days: Some(retention.magnetic_days),
                ..TableUpdate::default()
            };
            app.catalog.update_table(SYSTEM_DATABASE, name, &update, now_ns)?;
        }
        Ok(table.id)
    };
    let forever = Retention::default().magnetic_days;
    Ok(Tables {
        points: make(POINTS, app.datazone.options.retention_days)?,
        entities: make(ENTITIES, forever)?,
        tokens: make(TOKENS, TOKENS_DAYS)?,
    })
}

/// The dimensions of an entity's records, sorted by name.
pub fn dimensions(entity: &Entity) -> [(&'static str, &str); 3] {
    [("domain", &entity.domain), ("entity", &entity.id), ("entity_type", &entity.entity_type)]
}

/// The dimensions of the points of a form, without the id, sorted by name.
pub fn of_form<'e>(entity: &'e Entity, form: &'e str) -> [(&'static str, &'e str); 4] {
    let [domain, id, entity_type] = dimensions(entity);
    [domain, id, entity_type, ("form", form)]
}

/// Entities that are known to be known.
#[derive(Debug, Default)]
pub struct Known {
    keys: Mutex<HashSet<Digest>>,
}

impl Known {
    fn has(&self, key: Digest) -> bool {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).contains(&key)
    }

    fn add(&self, key: Digest) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= KNOWN_MAX {
            keys.clear();
        }
        keys.insert(key);
    }
}

/// What tells an entity from others.
pub fn key_of(entity: &Entity) -> Digest {
    Parts::of("entity", entity).end()
}

/// Remembers that an entity is known.
pub fn is_known_now(app: &App, entity: &Entity) {
    app.datazone.known.add(key_of(entity));
}

/// Whether the setting lists an entity; `None` where it lists none.
pub fn is_listed(app: &App, entity: &Entity) -> Option<bool> {
    let listed = &app.datazone.options.entities;
    let is_it = |text: &String| path::listed(text).as_ref() == Some(entity);
    (!listed.is_empty()).then(|| listed.iter().any(is_it))
}

/// Whether something was posted to an entity.
///
/// # Errors
///
/// [`Exception`] 500 where the engine cannot read.
pub async fn is_posted_to(app: &std::sync::Arc<App>, entity: &Entity) -> Result<bool, Exception> {
    let key = key_of(entity);
    if app.datazone.known.has(key) {
        return Ok(true);
    }
    let (of_task, entity) = (std::sync::Arc::clone(app), entity.clone());
    let found = blocking(move || {
        let Some(tables) = tables(&of_task) else { return Ok(false) };
        let dimensions = dimensions(&entity);
        let selection = Selection {
            dimensions: &dimensions,
            range: TimeRange::ALL,
            tie: "",
            before: None,
            rows_max: 1,
        };
        let mut found = false;
        let each = &mut |_: &crate::engine::Row<'_>| {
            found = true;
            ControlFlow::Break(())
        };
        of_task.engine.newest(tables.entities, selection, each).map_err(|e| unreadable(&e))?;
        Ok(found)
    });
    let found = found.await?;
    if found {
        app.datazone.known.add(key);
    }
    Ok(found)
}

/// Refuses a request about an entity that is not known.
///
/// # Errors
///
/// [`Exception`] 404.
pub async fn check_known(app: &std::sync::Arc<App>, entity: &Entity) -> Result<(), Exception> {
    let is_known = match is_listed(app, entity) {
        Some(is_listed) => is_listed,
        None => is_posted_to(app, entity).await?,
    };
    if is_known { Ok(()) } else { Err(unknown(entity)) }
}

/// 404: no such entity.
pub fn unknown(entity: &Entity) -> Exception {
    let Entity { domain, entity_type, id } = entity;
    not_found(format!("There is no {entity_type} {id} in domain {domain}."))
}

/// What a client is told when the engine fails.
pub fn unreadable(error: &EngineError) -> Exception {
    Exception::new(Code::InternalServer, error.to_string())
}
