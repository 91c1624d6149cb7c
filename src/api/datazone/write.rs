//! Post and Delete.

use std::sync::{Arc, MutexGuard, PoisonError};

use hyper::StatusCode;
use serde_json::{Value as Json, json};

use super::exception::{CONTENT_TYPE, invalid};
use super::input::{Delete, Digest, FORM_BYTES, Form, Post};
use super::quota::Room;
use super::tokens::{self, Tokens, Used};
use super::{TYPE_REVISION_DEFAULT, blocking, point, store, stripe};
use crate::api::App;
use crate::api::call::Body;
use crate::api::reply::Reply;
use crate::api::timestream::exception::{Code, Exception};
use crate::base::units::DAY_NS;
use crate::engine::catalog::Erasure;
use crate::ingest::{Ask, Durability, Partial, Protocol, Receipt, SYSTEM_DATABASE};
use crate::protocol::timestream::coral::Violations;
use crate::record::{Attribute, Dimension, MeasureKind, Origin, Record, RecordSink, Value};

/// The measure name of points.
const POINT: &str = "data_point";

/// A Post that shall be executed.
struct Writing<'p> {
    post: &'p Post,
    ids: Vec<String>,
    /// The number of the next erasure.
    version: i64,
    received_ns: i64,
    /// The token's record, if there is a token: its key, the digest and the seed.
    token: Option<(String, String, i64)>,
}

/// Executes a Post, or gives its first answer again.
///
/// # Errors
///
/// [`Exception`]: nothing was taken, except after 500, where it is unknown.
pub async fn post(app: Arc<App>, post: Post, mut body: Body) -> Result<Reply, Exception> {
    reserve(&mut body, post.forms.len())?;
    let datazone = &app.datazone;
    let entity = &post.entity;
    if store::is_listed(&app, entity) == Some(false) {
        return Err(store::unknown(entity));
    }
    let digest = post.digest();
    let key = post.token.as_deref().map(|token| tokens::key_of(entity, token));
    let _in_use = match key {
        Some(key) => Some(datazone.in_use[stripe(key)].lock().await),
        None => None,
    };
    if let Some(used) = find(&app, (key, digest), Code::Conflict).await? {
        return Ok(posted(&post, &ids_of(&post, used.seed)));
    }
    let now_ns = app.ingest.received_ns();
    check_alive(&app, &post, now_ns)?;
    let of_task = Arc::clone(&app);
    let tables = blocking(move || store::make_tables(&of_task)).await?;
    let _room = room(&app, tables.points, post.forms.len()).await?;
    let seed = datazone.ids.seed(now_ns);
    let ids = ids_of(&post, seed);
    {
        let _shared = datazone.entities[stripe(store::key_of(entity))].read().await;
        let writing = Writing {
            post: &post,
            ids: ids.clone(),
            version: version(&app)?,
            received_ns: now_ns,
            token: key.map(|key| (tokens::shown(key), tokens::shown(digest), seed.cast_signed())),
        };
        let receipt = writing.run(&app, body.bytes.len()).await?;
        check_all_taken(&receipt)?;
    }
    // Not what is kept beside the points: the entity, and the token.
    app.ingest.count_sent(Protocol::DataZone, post.forms.len() as u64);
    store::is_known_now(&app, entity);
    if let Some(key) = key {
        lock(&app).await?.put(key, Used { digest, seed, at_ns: now_ns });
    }
    Ok(posted(&post, &ids))
}

/// Executes a Delete, unless it was executed before.
///
/// # Errors
///
/// [`Exception`]: nothing was removed, except after 500, where it is unknown.
pub async fn delete(app: Arc<App>, delete: Delete) -> Result<Reply, Exception> {
    let datazone = &app.datazone;
    store::check_known(&app, &delete.entity).await?;
    let digest = delete.digest();
    let key = delete.token.as_deref().map(|token| tokens::key_of(&delete.entity, token));
    let _in_use = match key {
        Some(key) => Some(datazone.in_use[stripe(key)].lock().await),
        None => None,
    };
    // The model has no conflict for this operation.
    if find(&app, (key, digest), Code::Validation).await?.is_some() {
        return Ok(Reply::empty(StatusCode::NO_CONTENT));
    }
    let at_ns = app.ingest.received_ns();
    // Alone: every Post of the entity is executed or has not read its version yet.
    let _alone = datazone.entities[stripe(store::key_of(&delete.entity))].write().await;
    if let Some(tables) = store::tables(&app) {
        let dimensions = store::of_form(&delete.entity, &delete.form);
        let dimensions = dimensions.map(|(name, value)| (Box::from(name), Box::from(value)));
        let erasure = Erasure {
            // The catalog gives it.
            number: 0,
            table: tables.points,
            dimensions: dimensions.into(),
            lsn: app.ingest.appended(),
            at_ns,
            note: key.map(|key| tokens::note(key, digest)).unwrap_or_default().into(),
        };
        let of_task = Arc::clone(&app);
        blocking(move || Ok(of_task.catalog.erase(erasure)?)).await?;
    }
    if let Some(key) = key {
        lock(&app).await?.put(key, Used { digest, seed: 0, at_ns });
    }
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

/// What a token was used for before.
///
/// # Errors
///
/// [`Exception`] `other` where it was for something else, 429 where no more tokens can be remembered.
async fn find(
    app: &Arc<App>,
    (key, digest): (Option<Digest>, Digest),
    other: Code,
) -> Result<Option<Used>, Exception> {
    let Some(key) = key else { return Ok(None) };
    let mut tokens = lock(app).await?;
    match tokens.find(key, app.clock.wall_ns()) {
        Some(used) if used.digest == digest => Ok(Some(used)),
        Some(_) => {
            let message = "The clientToken was used with other parameters in the last 24 hours.";
            Err(Exception::new(other, message))
        }
        None if tokens.has_room() => Ok(None),
        None => {
            let message = "No more client tokens can be remembered (datazone.tokens_max).";
            Err(Exception::new(Code::Throttling, message))
        }
    }
}

/// The tokens, read where they have not been yet.
async fn lock(app: &Arc<App>) -> Result<MutexGuard<'_, Tokens>, Exception> {
    let load = || async {
        let app = Arc::clone(app);
        blocking(move || {
            let table = store::tables(&app).map(|tables| tables.tokens);
            let (max, now_ns) = (app.datazone.options.tokens_max, app.clock.wall_ns());
            let loaded = Tokens::load(max, &*app.engine, table, &app.catalog, now_ns);
            loaded.map(std::sync::Mutex::new).map_err(|error| store::unreadable(&error))
        })
        .await
    };
    let tokens = app.datazone.tokens.get_or_try_init(load).await?;
    Ok(tokens.lock().unwrap_or_else(PoisonError::into_inner))
}

fn version(app: &App) -> Result<i64, Exception> {
    app.catalog.next_erasure().ok_or_else(|| {
        let message = "whether the last delete was stored is known after a restart only";
        Exception::new(Code::InternalServer, message)
    })
}

/// Reserves what the forms of a Post take beyond the bytes of its body.
fn reserve(body: &mut Body, forms: usize) -> Result<(), Exception> {
    let more = forms.saturating_mul(FORM_BYTES).saturating_sub(body.admission.reserved());
    if more > 0 {
        body.admission.grow(more)?;
    }
    Ok(())
}

/// Refuses points that are older than points are kept.
fn check_alive(app: &App, post: &Post, now_ns: i64) -> Result<(), Exception> {
    let days = app.datazone.options.retention_days;
    let alive_from_ns = match store::retention(days).alive_from_ns(now_ns) {
        // For ever.
        i64::MIN => return Ok(()),
        // The store keeps them some hours longer, on which nobody should count.
        _ => now_ns.saturating_sub(i64::from(days).saturating_mul(DAY_NS)),
    };
    let mut violations = Violations::default();
    for (at, form) in post.forms.iter().enumerate() {
        if form.time.ns() < alive_from_ns {
            let from = point::Time::of_ns(alive_from_ns);
            let constraint = format_args!(
                "Member must be {from} or later, since a point is kept for {days} days \
                 (datazone.retention_days)"
            );
            let path = format_args!("forms.{}.member.timestamp", at + 1);
            violations.add(path, Some(&form.time.to_string()), constraint);
        }
    }
    violations.finish().map_err(invalid)
}

/// Room for so many points more.
async fn room(
    app: &App,
    table: crate::record::TableId,
    forms: usize,
) -> Result<Room<'_>, Exception> {
    let (max, quota) = (app.datazone.options.points_max, &app.datazone.quota);
    let room = quota.room(forms as u64, max, || app.engine.rows(table)).await;
    room.ok_or_else(|| {
        let message = format!("At most {max} data points are stored (datazone.points_max).");
        Exception::new(Code::ServiceQuotaExceeded, message)
    })
}

/// Everything was checked before, so a refusal is our fault.
fn check_all_taken(receipt: &Receipt) -> Result<(), Exception> {
    match receipt.named.first() {
        None if receipt.refused == 0 => Ok(()),
        None => Err(invalid("the points were refused")),
        Some(refusal) => {
            let message = format!("point {}: {}", refusal.number, refusal.message);
            Err(Exception::new(Code::InternalServer, message))
        }
    }
}

fn ids_of(post: &Post, seed: u64) -> Vec<String> {
    let times = post.forms.iter().map(|form| form.time);
    times.enumerate().map(|(at, time)| point::id(time, seed, at)).collect()
}

fn revision(form: &Form) -> &str {
    form.revision.as_deref().unwrap_or(TYPE_REVISION_DEFAULT)
}

fn posted(post: &Post, ids: &[String]) -> Reply {
    let shown = |(form, id): (&Form, &String)| {
        let mut members = point::shown(&form.name, &form.kind, revision(form), form.time, id);
        if let Some(content) = &form.content {
            members.insert("content".to_owned(), content.as_str().into());
        }
        Json::Object(members)
    };
    let forms: Vec<Json> = post.forms.iter().zip(ids).map(shown).collect();
    let body = json!({
        "domainId": post.entity.domain,
        "entityId": post.entity.id,
        "entityType": post.entity.entity_type,
        "forms": forms,
    });
    Reply::full(StatusCode::CREATED, CONTENT_TYPE, body.to_string())
}

impl Writing<'_> {
    /// Appends all records in one frame, and waits until they are executed.
    async fn run(&self, app: &App, body_bytes: usize) -> Result<Receipt, Exception> {
        let ask = Ask {
            protocol: Protocol::DataZone,
            database: SYSTEM_DATABASE,
            reading: None,
            received_ns: self.received_ns,
            body_bytes,
            durability: Some(Durability::Applied),
            partial: Partial::Refuse,
        };
        Ok(app.ingest.accept(&ask, |sink: &mut dyn RecordSink| self.show(sink)).await?)
    }

    fn show(&self, sink: &mut dyn RecordSink) {
        for (number, (form, id)) in (0..).zip(self.post.forms.iter().zip(&self.ids)) {
            let of_form = store::of_form(&self.post.entity, &form.name);
            let dimensions = of_form.into_iter().chain([("id", id.as_str())]);
            let content = form.content.as_deref().map(|content| ("content", content));
            let texts = [("type", form.kind.as_str()), ("revision", revision(form))];
            let attributes = content.into_iter().chain(texts);
            let attributes =
                attributes.map(|(name, text)| Attribute { name, value: Value::Varchar(text) });
            let mut record = record(store::POINTS, POINT, dimensions, attributes);
            record.origin = Origin { number, text: b"", ..Origin::default() };
            (record.time_ns, record.version) = (Some(form.time.ns()), Some(self.version));
            sink.record(&record);
        }
        // The same each time, so that it is stored once.
        let known = Attribute { name: "known", value: Value::Boolean(true) };
        let of_entity = store::dimensions(&self.post.entity).into_iter();
        let mut entity = record(store::ENTITIES, "entity", of_entity, std::iter::once(known));
        entity.time_ns = Some(0);
        sink.record(&entity);
        if let Some((key, digest, seed)) = &self.token {
            let attributes = [
                Attribute { name: "digest", value: Value::Varchar(digest) },
                Attribute { name: "seed", value: Value::Bigint(*seed) },
            ];
            let dimensions = std::iter::once(("token", key.as_str()));
            let mut token =
                record(store::TOKENS, "client_token", dimensions, attributes.into_iter());
            token.time_ns = Some(self.received_ns);
            sink.record(&token);
        }
    }
}

fn record<'r>(
    table: &'r str,
    measure_name: &'r str,
    dimensions: impl Iterator<Item = (&'r str, &'r str)>,
    attributes: impl Iterator<Item = Attribute<'r>>,
) -> Record<'r> {
    Record {
        database: SYSTEM_DATABASE,
        table,
        measure_name,
        dimensions: dimensions.map(|(name, value)| Dimension { name, value }).collect(),
        kind: MeasureKind::Multi,
        attributes: attributes.collect(),
        version: Some(1),
        ..Record::default()
    }
}
