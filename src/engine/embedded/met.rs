//! What records would meet, for whoever asks before they are written: the layers are looked through as a
//! late record's writer does, and nothing is changed.

use crate::engine::EngineError;
use crate::engine::standing::{Met, Standing};
use crate::engine::upsert::Candidate;
use crate::record::codec::{Bucket, RecordView};
use crate::record::request::Attributes;

use super::flusher::{Inner, lock};
use super::series::Wanted;
use super::store::{RowRef, SeriesId};
use super::write::ShardState;

impl Inner {
    /// What the record would meet. Costs a look-up, and where memory has nothing, one in the files of its day.
    pub(super) fn met(&self, record: &RecordView<'_>) -> Result<Met, EngineError> {
        let id = record.family.table;
        let Some(table) = self.catalog.get(id) else { return Ok(Met::Nothing) };
        // The engine takes a record that is too old and forgets it, whatever stands.
        if record.time_ns < table.retention().alive_from_ns(self.clock.wall_ns()) {
            return Ok(Met::Nothing);
        }
        let shard = Bucket::of(record.series_hash).shard(self.shards.len());
        assert!(shard < self.shards.len(), "each bucket has its shard");
        if let Some(standing) = in_memory(&lock(&self.shards[shard]), record) {
            return Ok(Met::Row(standing));
        }
        // What was flushed since then is in a file by now: a row is let go of once its file counts.
        let Some(found) = self.magnetic.find(id, &Wanted::of(record), record.time_ns)? else {
            return Ok(Met::Nothing);
        };
        let (block, row) = self.magnetic.read(&found)?;
        let mut attributes = Attributes::new();
        let kind = block.row(row, &mut attributes);
        let standing = Candidate { version: found.version, kind, attributes: &attributes };
        Ok(Met::Row(Standing::of(&standing)))
    }
}

fn in_memory(state: &ShardState, record: &RecordView<'_>) -> Option<Standing> {
    let (id, wanted) = (record.family.table, Wanted::of(record));
    // The newest layer first: a row of an older one does not stand any more.
    let frozen = state.frozen.iter().rev().filter_map(|frozen| frozen.tables.get(&id));
    // A series has one place in all stores of a directory, and the newest of them has the map.
    let mut known: Option<(u64, Option<SeriesId>)> = None;
    for store in state.active.get(&id).into_iter().chain(frozen) {
        let number = store.directory().number();
        let series = match known {
            Some((of, series)) if of == number => series,
            _ => store.find_series(&wanted),
        };
        known = Some((number, series));
        if let Some(row) = series.and_then(|series| store.find_row(series, record.time_ns)) {
            return Some(standing(store.row(row)));
        }
    }
    None
}

fn standing(row: RowRef<'_>) -> Standing {
    let mut attributes = Attributes::with_capacity(row.shape.attributes.len());
    row.attributes(&mut attributes);
    let (version, kind) = (row.version(), row.shape.kind);
    Standing::of(&Candidate { version, kind, attributes: &attributes })
}
