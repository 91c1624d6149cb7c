//! Memory for requests: a budget of bytes that every body takes from before it is read.
//!
//! Two answers must not be taken for each other. Where others hold the memory, it is free again soon: busy. What
//! would not fit if nobody held any never will: too large, and a client that was told to come back would do so
//! for ever.

use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{IngestError, Options, RETRY_AFTER};
use crate::metrics::Metrics;

/// What bounds the memory of all requests.
const SETTING: &str = "ingest.memory_bytes_max";

/// The budget is counted in units of this many bytes, since a semaphore counts in 32 bits.
const UNIT_BYTES: usize = 1024;

/// The memory that all requests share.
#[derive(Debug)]
pub(super) struct Memory {
    units: Arc<Semaphore>,
    units_max: usize,
    wait: Duration,
    in_flight: IntGauge,
}

/// Memory reserved for one request's body. Dropping it gives the memory back.
#[derive(Debug)]
pub struct Admission {
    permit: OwnedSemaphorePermit,
    units: Arc<Semaphore>,
    units_max: usize,
    /// Bytes asked for so far: units are counted for their sum, so that many small pieces do not take a
    /// unit each.
    asked: usize,
    reserved: usize,
    in_flight: IntGauge,
}

impl Memory {
    pub(super) fn new(options: &Options, metrics: &Metrics) -> Self {
        let units_max = options.memory_bytes_max.as_usize().div_ceil(UNIT_BYTES);
        assert!(units_max <= Semaphore::MAX_PERMITS, "checked with the settings");
        metrics.ingest_memory_limit_bytes.set(gauge(units_max * UNIT_BYTES));
        Self {
            units: Arc::new(Semaphore::new(units_max)),
            units_max,
            wait: options.admit_wait.0,
            in_flight: metrics.ingest_in_flight_bytes.clone(),
        }
    }

    /// Reserves memory for `bytes`.
    ///
    /// # Errors
    ///
    /// [`IngestError::Busy`] when there is none within the wait, [`IngestError::MemoryTooSmall`] at once when
    /// there never will be; nothing is reserved.
    pub(super) async fn admit(&self, bytes: usize) -> Result<Admission, IngestError> {
        let units = units_of(bytes, self.units_max)?;
        // Who finds memory free need not wait, and has no use for a timer.
        let permit = match Arc::clone(&self.units).try_acquire_many_owned(units) {
            Ok(permit) => permit,
            Err(_none) => {
                let ask = Arc::clone(&self.units).acquire_many_owned(units);
                let asked = Box::pin(tokio::time::timeout(self.wait, ask)).await;
                asked.map_err(|_elapsed| BUSY)?.expect("the semaphore is never closed")
            }
        };
        let reserved = permit.num_permits() * UNIT_BYTES;
        assert!(reserved >= bytes, "what is reserved has room for the body");
        self.in_flight.add(gauge(reserved));
        Ok(Admission {
            permit,
            units: Arc::clone(&self.units),
            units_max: self.units_max,
            asked: bytes,
            reserved,
            in_flight: self.in_flight.clone(),
        })
    }
}

/// Others hold the memory.
const BUSY: IngestError = IngestError::Busy { cause: "memory", retry_after: RETRY_AFTER };

/// The units that hold `bytes`, if all together do.
fn units_of(bytes: usize, units_max: usize) -> Result<u32, IngestError> {
    let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).ok();
    units.filter(|units| *units as usize <= units_max).ok_or(IngestError::MemoryTooSmall {
        found: bytes,
        max: units_max * UNIT_BYTES,
        setting: SETTING,
    })
}

impl Admission {
    /// Reserves `bytes` more, as the body arrives or inflates.
    ///
    /// # Errors
    ///
    /// [`IngestError::Busy`] when others use up the memory for requests, [`IngestError::MemoryTooSmall`]
    /// when this one would not fit if there were no others; what was reserved stays until this is dropped.
    pub fn grow(&mut self, bytes: usize) -> Result<(), IngestError> {
        let asked = self.asked.saturating_add(bytes);
        let units = units_of(asked, self.units_max)? as usize;
        let missing = units.saturating_sub(self.permit.num_permits());
        let missing = u32::try_from(missing).expect("no more than all, which fit");
        let more = Arc::clone(&self.units).try_acquire_many_owned(missing);
        let more = more.map_err(|_none| BUSY)?;
        let grown = more.num_permits() * UNIT_BYTES;
        self.permit.merge(more);
        self.asked = asked;
        self.reserved += grown;
        assert_eq!(
            self.reserved,
            self.permit.num_permits() * UNIT_BYTES,
            "what is held is given back"
        );
        self.in_flight.add(gauge(grown));
        Ok(())
    }

    /// Bytes reserved.
    pub const fn reserved(&self) -> usize {
        self.reserved
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.in_flight.sub(gauge(self.reserved));
    }
}

fn gauge(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::units::{Bytes, Span};

    fn memory(kib: u64) -> (Memory, Metrics) {
        let metrics = Metrics::new().unwrap();
        let options = Options {
            memory_bytes_max: Bytes(kib << 10),
            admit_wait: Span::ms(1),
            ..Options::default()
        };
        (Memory::new(&options, &metrics), metrics)
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn what_is_reserved_is_not_given_twice_and_comes_back() {
        let (memory, metrics) = memory(4);
        run(async {
            let mut first = memory.admit(2048).await.unwrap();
            assert!(is_busy(&memory.admit(4096).await));
            let second = memory.admit(1024).await.unwrap();
            assert!(is_busy(&first.grow(2048)));
            drop(second);
            first.grow(2048).unwrap();
            assert_eq!(metrics.ingest_in_flight_bytes.get(), 4096);
            drop(first);
            assert_eq!(metrics.ingest_in_flight_bytes.get(), 0);
            assert!(memory.admit(4096).await.is_ok());
        });
    }

    fn is_busy<T>(asked: &Result<T, IngestError>) -> bool {
        matches!(asked, Err(IngestError::Busy { .. }))
    }

    fn never_fits<T>(asked: &Result<T, IngestError>, bytes: usize) -> bool {
        let Err(IngestError::MemoryTooSmall { found, max, setting }) = asked else { return false };
        (*found, *max, *setting) == (bytes, 4096, "ingest.memory_bytes_max")
    }

    #[test]
    fn more_than_there_is_at_all_is_refused_for_good_however_it_is_asked_for() {
        let (memory, metrics) = memory(4);
        run(async {
            assert!(never_fits(&memory.admit(4097).await, 4097));
            assert!(never_fits(&memory.admit(usize::MAX).await, usize::MAX));
            let mut first = memory.admit(1024).await.unwrap();
            // Others hold the rest: what cannot be even without them is not busy.
            let _others = memory.admit(3072).await.unwrap();
            assert!(is_busy(&first.grow(3072)));
            assert!(never_fits(&first.grow(3073), 4097));
            assert!(never_fits(&first.grow(usize::MAX), usize::MAX));
            assert_eq!(metrics.ingest_in_flight_bytes.get(), 4096);
        });
    }

    #[test]
    fn many_small_pieces_take_no_more_than_their_sum() {
        let (memory, _metrics) = memory(4);
        run(async {
            let mut one = memory.admit(1).await.unwrap();
            for _ in 1..4096 {
                one.grow(1).unwrap();
            }
            assert_eq!(one.reserved(), 4096);
            assert!(never_fits(&one.grow(1), 4097));
        });
    }
}
