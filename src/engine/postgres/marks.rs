//! How far this gateway got, in the database itself: whose log it is, and who may write for it.
//!
//! `tidegate.gateways` has a row a gateway and `tidegate.marks` one a shard; the last statement of a
//! shard's transaction sets its mark, so rows and mark are committed together or not at all.
//!
//! # Who may write
//!
//! A start raises the **epoch** of the gateway and of all its marks. That waits for a transaction of the
//! process before it that has set its mark and not ended yet, so its commit is seen or undone; one that
//! has not set its mark finds none of its epoch when it comes to that, and is rolled back. No lock
//! outlives a transaction, and none is special to PostgreSQL.
//!
//! # Another number of shards
//!
//! A mark is a shard's, and which buckets a shard has depends on how many there are. When that changes,
//! a start folds the marks into `base`, one number a bucket, and begins new ones at 0. A bucket is stored
//! up to the greater of its base and its shard's mark.

use std::sync::atomic::{AtomicU64, Ordering};

use super::error::SqlError;
use super::schema::in_transaction;
use super::session::Session;
use crate::base::lsn::Lsn;
use crate::record::codec::{BUCKETS, Bucket};

/// What was found at the start.
#[derive(Debug)]
pub(super) struct Marks {
    pub(super) epoch: i64,
    base: [u64; BUCKETS],
    shards: Vec<AtomicU64>,
    /// Whether the database knew this gateway.
    pub(super) is_known: bool,
}

impl Marks {
    /// Takes over from whoever wrote for this gateway before, and reads how far it got.
    pub(super) fn take(
        session: &mut Session,
        gateway: &str,
        shards: usize,
    ) -> Result<Self, SqlError> {
        in_transaction(session, |session| Self::take_within(session, gateway, shards))
    }

    fn take_within(session: &mut Session, gateway: &str, shards: usize) -> Result<Self, SqlError> {
        let count = i32::try_from(shards).expect("at most BUCKETS shards");
        let nothing = vec![0_i64; BUCKETS];
        let rows = session.query(
            "INSERT INTO tidegate.gateways AS g VALUES ($1, 1, $2, $3) ON CONFLICT (gateway) \
             DO UPDATE SET epoch = g.epoch + 1 RETURNING epoch, shards, base",
            &[&gateway, &count, &nothing],
        )?;
        let row = rows.first().ok_or_else(|| SqlError::Lost { what: "no row".to_owned() })?;
        let (epoch, before, stored): (i64, i32, Vec<i64>) = (row.get(0), row.get(1), row.get(2));
        session.execute(
            "UPDATE tidegate.marks SET epoch = $2 WHERE gateway = $1",
            &[&gateway, &epoch],
        )?;
        let rows = session
            .query("SELECT shard, lsn FROM tidegate.marks WHERE gateway = $1", &[&gateway])?;
        let mut base = [0; BUCKETS];
        for (place, lsn) in base.iter_mut().zip(stored) {
            *place = lsn.cast_unsigned();
        }
        let mut marks = vec![0; shards];
        let before = usize::try_from(before).unwrap_or(1).clamp(1, BUCKETS);
        for row in &rows {
            let (shard, lsn): (i32, i64) = (row.get(0), row.get(1));
            let shard = usize::try_from(shard).unwrap_or(usize::MAX);
            if before == shards && shard < shards {
                marks[shard] = lsn.cast_unsigned();
            } else {
                for bucket in Bucket::all().filter(|bucket| bucket.shard(before) == shard) {
                    let place = &mut base[usize::from(bucket.0)];
                    *place = lsn.cast_unsigned().max(*place);
                }
            }
        }
        if before != shards || rows.len() != shards {
            let folded: Vec<i64> = base.iter().map(|lsn| lsn.cast_signed()).collect();
            session.execute(
                "UPDATE tidegate.gateways SET shards = $2, base = $3 WHERE gateway = $1",
                &[&gateway, &count, &folded],
            )?;
            session.execute("DELETE FROM tidegate.marks WHERE gateway = $1", &[&gateway])?;
            for (shard, lsn) in marks.iter().enumerate() {
                let shard = i32::try_from(shard).expect("at most BUCKETS shards");
                session.execute(
                    "INSERT INTO tidegate.marks VALUES ($1, $2, $3, $4)",
                    &[&gateway, &shard, &lsn.cast_signed(), &epoch],
                )?;
            }
        }
        assert_eq!(marks.len(), shards, "one mark a shard");
        let shards = marks.into_iter().map(AtomicU64::new).collect();
        Ok(Self { epoch, base, shards, is_known: epoch > 1 })
    }

    /// The last frame up to which a bucket is stored.
    pub(super) fn stored(&self, bucket: Bucket) -> Lsn {
        // Acquire: pairs with the Release of `set`.
        let shard = self.shards[bucket.shard(self.shards.len())].load(Ordering::Acquire);
        Lsn(self.base[usize::from(bucket.0)].max(shard))
    }

    /// The shard's transaction up to `lsn` is committed.
    pub(super) fn set(&self, shard: usize, lsn: Lsn) {
        // Release: pairs with the Acquire of `stored`.
        let before = self.shards[shard].swap(lsn.0, Ordering::Release);
        assert!(before <= lsn.0, "marks only rise");
    }
}
