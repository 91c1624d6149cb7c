//! Rejections that a request works with, loaded within the memory that there is for requests.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::App;
use crate::api::call::Caller;
use crate::api::fault::Fault;
use crate::ingest::Admission;
use crate::reject::archive::{PAGE_BYTES_MAX, Page, Rejected};
use crate::reject::entry::Id;
use crate::reject::select::Query;

/// What a page may take of a small memory before it is known what it does take: one part of so many.
const MEMORY_PARTS: usize = 8;

/// A page, and the memory that it takes.
///
/// # Errors
///
/// [`Fault`] 503 while the sink is away, or where there is no memory for it.
pub(super) async fn page(
    app: &App,
    caller: &Caller,
    query: Query,
) -> Result<(Page, Admission), Fault> {
    let memory = app.ingest.options().memory_bytes_max.as_usize();
    let mut admission = app.ingest.admit(PAGE_BYTES_MAX.min(memory / MEMORY_PARTS)).await?;
    let page = app.rejects.page(query, caller).await?;
    let bytes: usize = page.rejections.iter().map(Rejected::bytes).sum();
    if let Some(more) = bytes.checked_sub(admission.reserved()) {
        admission.grow(more)?;
    } else {
        drop(admission);
        admission = app.ingest.admit(bytes).await?;
    }
    Ok((page, admission))
}

/// Rejections by their numbers, those that there are, and the memory that they take.
///
/// # Errors
///
/// As of [`page`].
pub(super) async fn find(
    app: &App,
    caller: &Caller,
    ids: BTreeSet<Id>,
) -> Result<(BTreeMap<Id, Rejected>, Vec<Admission>), Fault> {
    let limit = ids.len().max(1);
    let mut query = Query { ids: Some(ids), limit, ..Query::all() };
    let (mut found, mut memory) = (BTreeMap::new(), Vec::new());
    loop {
        let (page, admission) = self::page(app, caller, query.clone()).await?;
        found.extend(page.rejections.into_iter().map(|one| (one.entry.id, one)));
        memory.push(admission);
        // A number stands in one day alone.
        if found.len() >= limit || page.next.is_none() {
            return Ok((found, memory));
        }
        query.after = page.next;
    }
}
