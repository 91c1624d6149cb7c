//! What becomes of rows that are older than their table's retention.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tidegate::base::clock::{Clock, SystemClock};
use tidegate::engine::catalog::{Retention, TableSettings};
use tidegate::record::TableId;
use tidegate::record::request::Outcome;

use crate::common::wait_for;
use crate::engine_support::{DAY, NOW, Owned, Rec};
use crate::same::Pg;
use crate::server::Server;

/// A clock whose days pass when the test says so; its seconds are real ones.
#[derive(Debug)]
pub(crate) struct Days {
    wall_ns: AtomicI64,
    seconds: SystemClock,
}

impl Days {
    pub(crate) fn at(wall_ns: i64) -> Self {
        Self { wall_ns: AtomicI64::new(wall_ns), seconds: SystemClock::new() }
    }

    pub(crate) fn set(&self, wall_ns: i64) {
        self.wall_ns.store(wall_ns, Ordering::SeqCst);
    }
}

impl Clock for Days {
    fn wall_ns(&self) -> i64 {
        self.wall_ns.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        self.seconds.monotonic()
    }

    fn sleep(&self, pause: Duration) {
        self.seconds.sleep(pause);
    }
}

/// More than one statement looks at.
const HOSTS: usize = 1_300;
/// More than two statements delete.
const ROWS_OF_ONE: i64 = 11_000;

fn rec(table: TableId, host: &str, time_ns: i64) -> Rec {
    Rec::new(table, host, time_ns, 1).with("v", Owned::Bigint(time_ns))
}

/// To the nanosecond, in every series, by statements that find it by the key.
#[test]
fn what_has_expired_is_deleted_and_nothing_else() {
    let server = Server::new();
    let clock = Arc::new(Days::at(NOW));
    let shared: Arc<Days> = Arc::clone(&clock);
    let mut pg = Pg::with_clock(&server, 1, shared, |_| {});
    let retention = Retention { memory_hours: 24, magnetic_days: 9, magnetic_writes: true };
    let settings = TableSettings { retention, ..TableSettings::default() };
    let table = pg.catalog.create("d", "short", &settings).unwrap().id;
    let kept = pg.table("kept");
    // Five days from now ten days before that have expired: all that is older than five days by now.
    let edge_ns = NOW - 5 * DAY;
    let mut records = Vec::new();
    for host in 0..HOSTS {
        for time_ns in [edge_ns - DAY, edge_ns - 1, edge_ns, edge_ns + 1, NOW] {
            // Some series have nothing old, and some nothing else.
            let is_left_out = match host % 7 {
                0 => time_ns < edge_ns,
                1 => time_ns >= edge_ns,
                _ => false,
            };
            if !is_left_out {
                records.push(rec(table, &format!("h{host}"), time_ns));
            }
        }
    }
    records.extend((1..=ROWS_OF_ONE).map(|at| rec(table, "long", edge_ns - at * 1_000)));
    records.extend([rec(table, "long", NOW), rec(kept, "h", edge_ns - DAY)]);
    assert!(pg.write(&records).iter().all(|outcome| *outcome == Outcome::Stored));
    server.sql("ANALYZE d.short");
    pg.engine.tidy().unwrap();
    assert_eq!(server.sql("SELECT count(*) FROM d.short"), (records.len() - 1).to_string());

    clock.set(NOW + 5 * DAY);
    pg.engine.tidy().unwrap();
    let alive: Vec<&Rec> =
        records.iter().filter(|rec| rec.table == table && rec.time_ns >= edge_ns).collect();
    let expired = (records.len() - 1 - alive.len()) as u64;
    // A session that has ended tells what it did.
    let before = counted(&server, |found| found.deleted == expired);

    // Where nothing has expired no table is read: the key leads from series to series.
    pg.engine.tidy().unwrap();
    let after = counted(&server, |found| found.by_key > before.by_key + HOSTS as u64 / 2);
    assert_eq!(after.without_key, before.without_key, "rows read without the key");
    assert_eq!(after.deleted, expired);

    assert_eq!(server.sql("SELECT count(*) FROM d.short"), alive.len().to_string());
    assert_eq!(pg.rows(table).len(), alive.len());
    assert_eq!(server.sql(&format!("SELECT count(*) FROM d.short WHERE v < {edge_ns}")), "0");
    assert_eq!(server.sql("SELECT count(*) FROM d.kept"), "1");

    // What is deleted stays so, and its keys can be used again.
    let again = rec(table, "long", edge_ns + 17);
    assert_eq!(pg.write(&[again]), [Outcome::Stored]);
    pg.engine.tidy().unwrap();
    assert_eq!(server.sql("SELECT count(*) FROM d.short"), (alive.len() + 1).to_string());
}

/// What the server has counted of the table.
struct Counted {
    deleted: u64,
    /// Searches by the key.
    by_key: u64,
    /// Rows that were read without it.
    without_key: u64,
}

/// What the server has counted, once that `is_there`: it does so a little later.
fn counted(server: &Server, is_there: impl Fn(&Counted) -> bool) -> Counted {
    wait_for("the server to count", Duration::from_mins(1), || {
        let row = server.sql(
            "SELECT n_tup_del, idx_scan, seq_tup_read FROM pg_stat_user_tables \
             WHERE relname = 'short'",
        );
        let row: Vec<u64> = row.split('|').map(|text| text.parse().unwrap()).collect();
        let found = Counted { deleted: row[0], by_key: row[1], without_key: row[2] };
        is_there(&found).then_some(found)
    })
}
