//! List and Get.

use std::ops::ControlFlow;
use std::sync::Arc;

use hyper::StatusCode;
use serde_json::{Map, Value as Json, json};

use super::exception::{CONTENT_TYPE, not_found};
use super::input::{Get, List};
use super::{SUMMARY_CHARS_MAX, blocking, point, store};
use crate::api::App;
use crate::api::reply::Reply;
use crate::api::timestream::exception::{Code, Exception};
use crate::engine::{Row, Selection, TimeRange};

/// A page of the points of a form.
#[derive(Debug, Default)]
struct Page {
    items: Vec<Json>,
    /// Time and id of the last.
    last: Option<(i64, String)>,
    has_more: bool,
}

/// Answers a List.
///
/// # Errors
///
/// [`Exception`] 404 where the entity is not known, 500 where the engine cannot read.
pub async fn list(app: &Arc<App>, list: List) -> Result<Reply, Exception> {
    store::check_known(app, &list.entity).await?;
    let _permit = permit(app).await?;
    let app = Arc::clone(app);
    blocking(move || {
        let page = page(&app, &list)?;
        let mut body = Map::new();
        body.insert("items".to_owned(), page.items.into());
        if let (true, Some((time_ns, id))) = (page.has_more, &page.last) {
            body.insert("nextToken".to_owned(), list.token(*time_ns, id).into());
        }
        Ok(ok(&Json::Object(body)))
    })
    .await
}

fn page(app: &App, list: &List) -> Result<Page, Exception> {
    let mut page = Page::default();
    let Some(tables) = store::tables(app) else { return Ok(page) };
    let dimensions = store::of_form(&list.entity, &list.form);
    let range = TimeRange {
        from_ns: list.started.map_or(i64::MIN, point::Time::ns),
        to_ns: list.ended.map_or(i64::MAX, |ended| ended.ns().saturating_add(1)),
    };
    let selection = Selection {
        dimensions: &dimensions,
        range,
        tie: "id",
        before: list.after.as_ref().map(|(time_ns, id)| (*time_ns, id.as_str())),
        // One more tells whether there is a next page.
        rows_max: list.results + 1,
    };
    let mut each = |row: &Row<'_>| {
        if page.items.len() == list.results {
            page.has_more = true;
            return ControlFlow::Break(());
        }
        let item = point::of_row(&list.form, row, "contentSummary", SUMMARY_CHARS_MAX);
        page.items.push(Json::Object(item));
        page.last = Some((row.time_ns, point::id_of(row).to_owned()));
        ControlFlow::Continue(())
    };
    let read = app.engine.newest(tables.points, selection, &mut each);
    read.map_err(|error| store::unreadable(&error))?;
    Ok(page)
}

/// Answers a Get.
///
/// # Errors
///
/// [`Exception`] 404 where the entity is not known or the form has no such point, 500 where the engine
/// cannot read.
pub async fn get(app: &Arc<App>, get: Get) -> Result<Reply, Exception> {
    store::check_known(app, &get.entity).await?;
    let _permit = permit(app).await?;
    let app = Arc::clone(app);
    blocking(move || {
        let found = find(&app, &get)?.ok_or_else(|| {
            not_found(format!("Form {:?} has no data point {}.", get.form, get.id))
        })?;
        Ok(ok(&json!({
            "domainId": get.entity.domain,
            "entityId": get.entity.id,
            "entityType": get.entity.entity_type,
            "formName": get.form,
            "form": found,
        })))
    })
    .await
}

fn find(app: &App, get: &Get) -> Result<Option<Json>, Exception> {
    let (Some(tables), Some(time)) = (store::tables(app), point::time_of(&get.id)) else {
        return Ok(None);
    };
    let dimensions = store::of_form(&get.entity, &get.form);
    // The greatest id of that time that comes before whatever is greater than this one.
    let next = format!("{}\0", get.id);
    let selection = Selection {
        dimensions: &dimensions,
        range: TimeRange { from_ns: time.ns(), to_ns: time.ns().saturating_add(1) },
        tie: "id",
        before: Some((time.ns(), &next)),
        rows_max: 1,
    };
    let mut found = None;
    let mut each = |row: &Row<'_>| {
        if point::id_of(row) == get.id {
            found = Some(Json::Object(point::of_row(&get.form, row, "content", usize::MAX)));
        }
        ControlFlow::Break(())
    };
    let read = app.engine.newest(tables.points, selection, &mut each);
    read.map_err(|error| store::unreadable(&error))?;
    Ok(found)
}

/// Leave to read, once there is one.
async fn permit(app: &App) -> Result<tokio::sync::SemaphorePermit<'_>, Exception> {
    let permit = app.datazone.reads.acquire().await;
    permit.map_err(|_closed| Exception::new(Code::Throttling, "the server stops"))
}

fn ok(body: &Json) -> Reply {
    Reply::full(StatusCode::OK, CONTENT_TYPE, body.to_string())
}
